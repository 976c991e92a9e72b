"""Products. `reference` runs on every array library; compiled kernels join it here."""
