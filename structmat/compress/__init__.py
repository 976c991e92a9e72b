"""Approximation: a matrix to the structure that fits it, under a budget or a tolerance."""

from structmat.compress._front import Comparison, CompressionResult, compare, compress
from structmat.compress._kinds import KINDS
from structmat.compress._source import DENSE_ENTRIES

__all__ = ["DENSE_ENTRIES", "KINDS", "Comparison", "CompressionResult", "compare", "compress"]
