"""Compression to GBLR: starts, annealing from them, and the best result.

portfolio    `fit`: the starts in turn, then annealing from the best of them
candidates   the starts, the best candidate so far, and the ones kept for annealing
exact_grid   tiles that hold a matrix exactly
exact_sum    blocks of a matrix that is exactly a sum of few
transfers    exchanges between these blocks, until their sum is cheap
partition    hierarchical partitions into truncated tiles
lines        blocks of one row or column, on runs of entries
anneal       one search: blocks are added while the price falls
proposals    max-subarray power iteration from many starts at once
residual     blocks, the residual that they leave, and the fit of one block
implicit     matrices that are known by their products only
"""
