"""Compression of sources, by blocks of their entries.

run              one compression: ordered, fitted, estimated, retried
forecast         memory and time, foretold by a few points
sampled          the error on rows that no fit has seen
cross            cross approximation, watched on rows and columns of its own
pivoted_cholesky  factors of positive semidefinite sources, by random pivots
low_rank         fit to low rank
block_low_rank   fit to block low rank
gblr             fit to GBLR
"""
