"""Compression to GBLR.

portfolio         `fit`: several searches, and the best of their results
starts            truncated SVDs of the matrix or of parts of it
exact_grid        tiles that hold a matrix exactly
exact_sum         blocks of a matrix that is exactly a sum of few
residual          rank-one blocks, and what a set of them leaves of a matrix
power_iteration   blocks that take away more energy than they cost
anneal            one search: blocks are added while the price falls
implicit          matrices that are known by their products only
"""
