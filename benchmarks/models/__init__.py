"""Layers and allocations that only the experiments compare with: nothing of structmat's own."""
