"""Experiments: what learned structure is worth, on real data, at equal cost."""
