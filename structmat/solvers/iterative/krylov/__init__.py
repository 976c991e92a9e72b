"""Krylov methods for many right-hand sides at once, on arrays of any library.

columns              the arithmetic of columns, and those that have ended
conjugate_gradients  for hermitian positive definite matrices
minres               for hermitian ones
gmres                for square ones
least_squares        for any shape
lanczos              quadratures of logarithms
"""
