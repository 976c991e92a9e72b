"""Derivatives of solves and log-determinants on torch, by implicit differentiation.

A factorization is computed from values alone. What torch follows is the structured product by the
matrix: a derivative takes one solve with the adjoint, and torch's own derivative of that product.

recorded       factorizations whose contents torch follows
systems        a matrix to follow, its solver, and gradients through products
solves         solves as functions of torch
least_squares  least squares as functions of torch
determinants   log-determinants as functions of torch
traces         gradients of a log-determinant by few solves
"""
