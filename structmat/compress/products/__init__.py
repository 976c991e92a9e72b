"""Fits of block structures from products alone.

levels           blocks between the halves of each part, level after level
peel             the blocks of an operator, by products with random vectors
hierarchical     hierarchical matrices of peeled blocks
block_low_rank   tiles of low rank out of peeled blocks
monarch          tiles of one rank, by products with pieces of the axes
"""
