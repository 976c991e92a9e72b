"""Learning experiments: networks whose layers are structured, and what came of them."""
