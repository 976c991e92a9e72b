"""Solving: factorizations by structure, solves that measure their error, log-determinants.

front             `factorize`, `solve` and `logdet`
least_squares     `lstsq`
arguments         arguments of both, checked
choice            the direct method for a kind, and what follows where it has none
factorization     the abstract `Factorization`
inverse_operator  the operator that it is: products, adjoint, conjugate
results           `Solution` and `LogDeterminant`
verify            solves measured, refined, and refused where the error stays large
condition         condition numbers by products and solves, and the refusal of large ones
shifted           the matrix with its shift
direct            methods by structure: dense, blocks, products, thin parts, tiles, bands
elimination       LU and Cholesky factors for tiles and bands
hierarchical      hierarchical matrices and points, by recursion over halves
iterative         all others, by Krylov methods with preconditioners
gradients         derivatives on torch
"""

from structmat.solvers.factorization import Factorization
from structmat.solvers.front import factorize, logdet, solve
from structmat.solvers.least_squares import lstsq
from structmat.solvers.results import LogDeterminant, Solution

__all__ = ["Factorization", "LogDeterminant", "Solution", "factorize", "logdet", "lstsq", "solve"]
