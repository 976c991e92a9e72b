"""Approximation: a matrix to the structure that fits it, under a budget or a tolerance."""

from structmat.compress._front import Comparison, CompressionResult, compare, compress

__all__ = ["Comparison", "CompressionResult", "compare", "compress"]
