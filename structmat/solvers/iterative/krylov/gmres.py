"""Generalised minimal residuals for any square matrix, many right-hand sides at once.

Saad and Schultz 1986, preconditioned from the right, so that the norms are those of the residuals
themselves. Each column has a basis of its own; one product a step serves all columns.
"""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat._progress import Progress
from structmat.solvers.iterative.krylov.columns import (
    Apply,
    Numbers,
    Reached,
    Residuals,
    norms,
    quotient,
    times,
)

#: Steps before the first restart, and scalars that all bases together may take: 1 GiB.
RESTART, BASIS_SCALARS = 40, 2**27
#: Share of the residual that a cycle has to take away; else the next one is twice as long.
GAIN = 0.5


def gmres(
    multiply: Apply,
    b: Array,
    bound: NDArray[np.float64],
    *,
    precondition: Apply,
    limit: int,
    report: Progress,
    xp: ModuleType,
) -> Reached:
    """Solve A x = b for a square A, until each residual is within its bound.

    Parameters and result are those of `conjugate_gradients`. A cycle of j steps holds j + 1 arrays
    of the size of b; cycles that gain too little make way for longer ones, as far as memory
    allows.
    """
    residuals = Residuals(b, bound, limit, report, xp)
    x, r = xp.zeros_like(b), b
    most = max(RESTART, BASIS_SCALARS // max(b.shape[0] * b.shape[1], 1))
    length = RESTART
    while True:
        x, (r,) = residuals.ended.retire(residuals.active <= residuals.bound, x, [r])
        if residuals.is_over:
            break
        before = residuals.active
        cycle = _Cycle(r, before, min(length, limit - residuals.steps, b.shape[0]), xp)
        steps = cycle.run(multiply, precondition, residuals.bound)
        change = precondition(cycle.combination())
        del cycle  # makes way for the next one
        left = r - multiply(change)
        # Rounding of a singular matrix may undo what was gained.
        better = norms(left, xp) < before
        x, r = x + times(change, 1.0 * better, xp), r + times(left - r, 1.0 * better, xp)
        residuals.note(r, steps)
        if (residuals.active > GAIN * before).any():
            if length >= min(most, b.shape[0]):
                break
            length = min(2 * length, most)
    return residuals.reached(x)


class _Cycle:
    """Arnoldi bases of several columns, and the least squares problems of their coefficients.

    The bases of k columns are one array (k, length + 1, n): a step takes two products with it for
    each of two passes of classical Gram-Schmidt. The norm of a least residual is that of the first
    one over the norm of a vector that is orthogonal to the Hessenberg matrix (k, length + 1,
    length), which each step makes longer by one number. Products are those of the library: their
    last digits may depend on the number of its threads, as those of dense factors do.
    """

    def __init__(self, r: Array, size: Numbers, length: int, xp: ModuleType) -> None:
        n, k = r.shape
        kind = np.complex128 if _array.is_complex(r, xp) else np.float64
        self._xp, self._size, self._steps = xp, size, 0
        self._basis = xp.empty((k, length + 1, n), dtype=r.dtype, device=_array.device(r))
        self._append(r, size)
        self._hessenberg = np.zeros((k, length + 1, length), kind)
        self._orthogonal = np.ones((k, 1), kind)
        self._least = 10 * float(xp.finfo(r.dtype).eps)
        self.residual, self.ended = size.copy(), np.zeros(k, bool)

    def _append(self, w: Array, size: Numbers) -> None:
        """Put columns of norm one, or of zeros, into the bases."""
        w = times(w, quotient(np.ones_like(size), size), self._xp)
        self._basis[:, self._steps, :] = self._xp.matrix_transpose(w)

    def run(self, multiply: Apply, precondition: Apply, bound: Numbers) -> int:
        """Steps until the residuals are within their bounds, or the bases are full; their count."""
        while self._steps < self._hessenberg.shape[2]:
            self.step(multiply, precondition)
            if (self.residual <= bound).all():
                break
        return self._steps

    def step(self, multiply: Apply, precondition: Apply) -> None:
        """One more vector of each basis; a basis that is invariant gets zeros."""
        xp, j = self._xp, self._steps
        V = self._basis[:, : j + 1, :]
        w = multiply(precondition(xp.matrix_transpose(V[:, j, :])))
        size = norms(w, xp)
        for _ in range(2):  # twice is enough
            parts = self._against(V, w)
            self._hessenberg[:, : j + 1, j] += parts
            w = w - self._combined(V, parts)
        last = norms(w, xp)
        last = np.where((last <= self._least * size) | self.ended, 0.0, last)
        self._hessenberg[:, j + 1, j] = last
        self._steps += 1
        self._append(w, last)
        self._measure(last)

    def _against(self, V: Array, w: Array) -> Numbers:
        """Inner products with all vectors of the bases, (k, j), by one transfer to the host."""
        xp = self._xp
        w = _array.conj(xp.matrix_transpose(w), xp)[:, :, None]
        found = _array.to_numpy((V @ w)[:, :, 0])
        return np.conj(found).astype(self._hessenberg.dtype)

    def _combined(self, V: Array, numbers: Numbers) -> Array:
        """Combinations (n, k) of the vectors of the bases by numbers (k, j)."""
        xp = self._xp
        row = _array.from_numpy(np.ascontiguousarray(numbers), xp, _array.device(V))
        return xp.matrix_transpose((xp.astype(row, V.dtype)[:, None, :] @ V)[:, 0, :])

    def _measure(self, last: NDArray[np.float64]) -> None:
        """Norms of the least residuals; zero for bases that have ended."""
        column = self._hessenberg[:, : self._steps, self._steps - 1]
        part = (np.conj(self._orthogonal) * column).sum(axis=1)
        number = -quotient(np.conj(part), last.astype(part.dtype))
        self._orthogonal = np.concatenate([self._orthogonal, number[:, None]], axis=1)
        self.ended = self.ended | (last == 0)
        least = self._size / np.linalg.norm(self._orthogonal, axis=1)
        self.residual = np.where(self.ended, 0.0, least)

    def combination(self) -> Array:
        """The combination of the basis whose residual is least, (n, k)."""
        j = self._steps
        H = self._hessenberg[:, : j + 1, :j]
        right = np.zeros((H.shape[0], j + 1, 1), H.dtype)
        right[:, 0, 0] = self._size
        triangles: Any = np.linalg.qr(np.concatenate([H, right], axis=2), mode="r")
        R, numbers = triangles[:, :j, :j], triangles[:, :j, j:]
        # A column that has ended adds nothing more.
        sizes = np.abs(np.diagonal(R, axis1=1, axis2=2))
        over = sizes <= np.finfo(np.float64).eps * sizes.max(axis=1, initial=0.0)[:, None]
        R = np.where(over[:, :, None], np.eye(j), R)
        numbers = np.linalg.solve(R, np.where(over[:, :, None], 0.0, numbers))
        return self._combined(self._basis[:, :j, :], numbers[:, :, 0])
