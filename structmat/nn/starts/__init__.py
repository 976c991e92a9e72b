"""Matrices with which layers begin: random ones, and fits of given weights.

random_init          random matrices of most kinds
random_hierarchical  random matrices of halves of halves, of low rank beside the diagonal
pixelfly             a flat block butterfly plus low rank
of_sides             random matrices and fits with a given side of tiles, or with groups of rows
kinds                kinds that a network can have
projections          approximations by the projections with which layers learn
on_inputs            errors on the inputs of a layer, and contents fitted to them
fits                 approximations of given weights of every kind
"""
