"""Solving: factorizations by structure, solves that measure their error, log-determinants.

front            `factorize`, `solve` and `logdet`
least_squares    `lstsq`
arguments        arguments of both, checked
choice           the direct method for a kind, and what follows where it has none
factorization    the abstract `Factorization`: solves, determinants; its adjoint and conjugate
inverse_operator the operator that it is: products by solves, pickles
results          `Solution` and `LogDeterminant`
verify           solves measured, refined, and refused where the error stays large
condition        condition numbers by products and solves, and the refusal of large ones
lapack           factors of small dense arrays, with their condition
dense            LU and Cholesky of a matrix that is small enough to form
simple           diagonals, permutations, multiples and adjoints
products         factors of products, orders and Monarch's, each by its own
kronecker        Kronecker products by their factors, or by eigenvectors
block_diagonal   blocks that share no rows and no columns
components       such blocks, found in a support
stacks           many small arrays of one size, together
triangular       block-triangular grids, by substitution
woodbury         a base and a product of thin factors
terms            a matrix taken apart for it
thin             products of thin factors: found, joined, made orthogonal
tiles            block-low-rank matrices and square blocks, over tiles
banded           banded matrices, and others of few entries
elimination      LU and Cholesky factors for these two
shifted          the matrix with its shift
hierarchical     hierarchical matrices, by recursion over halves
iterative        everything that has no direct method: CG, MINRES or GMRES, preconditioned
known            what is known of such a matrix: sources compressed, definiteness
stochastic       log-determinants by random vectors
krylov           the Krylov methods, for many right-hand sides at once
preconditioners  sparse inverses, tiles, and the choice among them
gradients        derivatives on torch
"""

from structmat.solvers.factorization import Factorization
from structmat.solvers.front import factorize, logdet, solve
from structmat.solvers.least_squares import lstsq
from structmat.solvers.results import LogDeterminant, Solution

__all__ = ["Factorization", "LogDeterminant", "Solution", "factorize", "logdet", "lstsq", "solve"]
