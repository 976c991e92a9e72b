"""Factorization of hierarchical matrices by recursion through the halves of a tree.

direct     the factorization of a matrix, and of one with a diagonal
points     that of a source, by its compression
loose      factors of low accuracy, as a preconditioner
tree       halves of an axis, and blocks sorted into their tiles
tiles      tiles as sums of pieces, with products
range      low rank of a tile by its products with random vectors
weak       the weak form: one tile of low rank beside each half
recursion  its factors, from the leaves up, and solves by them
traces     traces with the inverse, by the same factors
"""
