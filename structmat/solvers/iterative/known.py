"""Facts about a matrix that is solved with by iteration: products, entries, definiteness."""

import math
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import to_numpy
from structmat.compress.entries.sampled import source_norm
from structmat.compress.front import compress
from structmat.errors import SolveError
from structmat.kernels.layouts.rectangles import DENSE
from structmat.matrices import Diagonal, Hierarchical, Scaled, Sum
from structmat.matrix import StructuredMatrix
from structmat.solvers.iterative.preconditioners.blocks import points_of
from structmat.solvers.iterative.preconditioners.choice import System
from structmat.solvers.shifted import shifted
from structmat.solvers.verify import norm_bound
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.source import Source
from structmat.sources.views import on_host

#: Kernels whose matrices are positive semidefinite for all points.
POSITIVE = ("exponential", "matern32", "matern52", "gaussian")
#: Least tolerance of a compression, and least one that is asked for by the shift.
LEAST_TOL = 1e-12
#: Hermitian sources of at most as many entries are formed.
FORMED_ENTRIES = 2**19


class Known:
    """S = A + shift I for solves by iteration.

    Attributes
    ----------
    A, near : StructuredMatrix
        The matrix whose entries count, and the one that is multiplied with: the same but for
        sources, which have been compressed.
    S : StructuredMatrix
        The latter with its shift.
    hermitian : bool
        Whether S equals its adjoint.
    promised : bool
        Whether the construction guarantees that A is positive semidefinite.
    may_be_definite : bool
        Whether S may be positive definite: nothing speaks against it so far.
    """

    def __init__(self, A: StructuredMatrix, near: StructuredMatrix, shift: complex) -> None:
        self.A, self.near, self.shift = A, near, shift
        self.S = shifted(near, shift)
        self.hermitian = bool(self.S.hermitian)
        #: Least number that the shift and diagonal terms add to the diagonal.
        self.added = added(A, shift)
        self.promised = self.hermitian and is_positive(A) and shift.real >= 0
        self.may_be_definite = self.hermitian

    def lost(self, reason: str) -> None:
        """Note that S is not positive definite; refused where that was promised."""
        self.may_be_definite = False
        if self.promised:
            raise SolveError(
                f"S = A + {self.shift:.3g} I is not positive definite, although A is positive "
                f"semidefinite: {reason}; the error of its compression is larger than the shift "
                "(give factorize a larger shift or a smaller tol)"
            )

    def system(self, tol: float) -> System:
        """The facts by which a preconditioner is chosen."""
        condition = math.inf
        if self.may_be_definite and self.added > 0:
            condition = 1 + norm_bound(self.S) / self.added
        # Single entries of a source without points are dear; those near them are not.
        entries = self.near if points_of(self.A) is None else self.A
        return System(entries, self.near, self.S, self.shift, tol, self.may_be_definite, condition)


def known_of(A: StructuredMatrix, shift: complex, tol: float) -> Known:
    """Facts about A + shift I, with sources compressed for its products."""
    least = abs(shift) if shift.imag else abs(added(A, shift))
    return Known(A, _without_sources(A, least, tol), shift)


def _without_sources(A: StructuredMatrix, shift: float, tol: float) -> StructuredMatrix:
    """A with hierarchical matrices in the place of sources.

    Their error is at most `tol` of the Frobenius norm. It is at most the number `shift` as well, so
    that S stays positive definite. Small ones are exact.
    """
    if not isinstance(A, Source):
        if isinstance(A, Scaled) and (alpha := abs(complex(A.alpha))) > 0:
            shift = shift / alpha
        children = tuple(_without_sources(child, shift, tol) for child in A.children)
        if all(new is old for new, old in zip(children, A.children, strict=True)):
            return A
        arrays = {name: getattr(A, name) for name in A.data_names}
        return type(A)._build(arrays, children, A._static())
    if A.hermitian and math.prod(A.shape) <= FORMED_ENTRIES:
        return _triangle(A)
    if shift != 0:
        size = source_norm(on_host(A), np.random.default_rng(0))
        tol = min(tol, shift / size) if size > 0 else tol
    return compress(A, "hierarchical", tol=max(tol, LEAST_TOL), rng=0).matrix


def _triangle(A: Source) -> Hierarchical:
    """A small hermitian source by its lower triangle; an array would not keep its symmetry."""
    n, xp = A.shape[0], A.xp
    rows, cols = np.tril_indices(n)
    entries = xp.reshape(A.to_dense(), (-1,))
    lower = xp.take(entries, _array.integers(rows * n + cols, xp, A.device), axis=0)
    block = [[0, n, 0, n, DENSE]] if n else []
    return Hierarchical(block, lower[:0], lower[:0], lower, shape=A.shape, symmetric=True)


def is_positive(A: Any) -> bool:
    """True where the construction guarantees that A is positive semidefinite.

    Examples
    --------
    >>> import numpy as np
    >>> is_positive(KernelMatrix(np.eye(3), "gaussian"))
    True
    """
    if isinstance(A, Sum):
        return all(map(is_positive, A.children))
    if isinstance(A, Diagonal):
        return bool(A.hermitian and (to_numpy(A.d) >= 0).all())
    if isinstance(A, Scaled):
        alpha = complex(A.alpha)
        return alpha.imag == 0 and alpha.real >= 0 and is_positive(A.children[0])
    return isinstance(A, KernelMatrix) and A.one_set and A.kernel in POSITIVE


def added(A: Any, shift: complex) -> float:
    """Least number that a shift and the diagonal terms of A add to the diagonal.

    Examples
    --------
    >>> added(Diagonal([0.5, 0.25]) + KernelMatrix(np.eye(2), "gaussian"), 1.0)
    1.25
    """
    terms = A.children if isinstance(A, Sum) else (A,)
    least = [to_numpy(term.d).real.min(initial=np.inf) for term in terms if type(term) is Diagonal]
    return float(shift.real + sum(value for value in least if np.isfinite(value)))
