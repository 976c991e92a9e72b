"""Generalised minimal residuals for any square matrix, many right-hand sides at once.

Saad and Schultz 1986, preconditioned from the right, so that the norms are those of the residuals
themselves. Each column has a basis of its own; one product a step serves all columns.
"""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat._progress import Progress
from structmat.solvers.krylov.columns import Apply, Columns, Reached, norms, quotient, times
from structmat.solvers.krylov.conjugate_gradients import share

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
    ended, residual = Columns(b.shape[1], xp), norms(b, xp)
    first = residual.max(initial=0.0)
    x, r, steps = xp.zeros_like(b), b, 0
    most = max(RESTART, BASIS_SCALARS // max(b.shape[0] * b.shape[1], 1))
    length = RESTART
    while True:
        done = residual[ended.active] <= bound[ended.active]
        x, (r,) = ended.retire(done, x, [r])
        if not ended.active.size or steps >= limit:
            break
        before = residual[ended.active]
        aim = bound[ended.active]
        cycle = _Cycle(r, before, xp)
        for _ in range(min(length, limit - steps, b.shape[0])):
            cycle.step(multiply, precondition)
            steps += 1
            if (cycle.residual <= aim).all() or cycle.ended.all():
                break
        change = precondition(cycle.combination())
        left = r - multiply(change)
        # Rounding of a singular matrix may undo what was gained.
        better = norms(left, xp) < before
        x, r = x + times(change, 1.0 * better, xp), r + times(left - r, 1.0 * better, xp)
        residual[ended.active] = after = norms(r, xp)
        report(share(residual, bound, first))
        if (after > GAIN * before).any():
            if length >= min(most, b.shape[0]):
                break
            length = min(2 * length, most)
    return Reached(ended.gathered(x), residual, steps)


class _Cycle:
    """Arnoldi bases of several columns, and the least squares problems of their coefficients."""

    def __init__(self, r: Array, size: NDArray[np.float64], xp: ModuleType) -> None:
        self._xp, self._basis = xp, [times(r, quotient(np.ones_like(size), size), xp)]
        k, kind = size.size, np.complex128 if _array.is_complex(r, xp) else np.float64
        #: Triangular matrices, as columns of different lengths; right sides; rotations.
        self._triangle: list[NDArray] = []
        self._right: list[NDArray] = [size.astype(kind)]
        self._rotations: list[tuple[NDArray, NDArray]] = []
        self._least = 10 * float(xp.finfo(r.dtype).eps)
        self.residual, self.ended = size.copy(), np.zeros(k, bool)

    def step(self, multiply: Apply, precondition: Apply) -> None:
        """One more vector of each basis; a basis that is invariant gets zeros."""
        xp, V = self._xp, self._basis
        w = multiply(precondition(V[-1]))
        size = norms(w, xp)
        column = np.zeros((len(V), size.size), self._right[0].dtype)
        for _ in range(2):  # twice is enough
            parts = self._against(V, w)
            column += parts
            for v, part in zip(V, parts, strict=True):
                w = w - times(v, part, xp)
        last = norms(w, xp)
        last = np.where((last <= self._least * size) | self.ended, 0.0, last)
        self._basis.append(times(w, quotient(np.ones_like(last), last), xp))
        self._reduce(column, last)

    def _against(self, V: list[Array], w: Array) -> NDArray:
        """Inner products with all vectors of the bases, (j, k), by one transfer to the host."""
        xp = self._xp
        w = _array.conj(w, xp)
        found = xp.stack([xp.sum(v * w, axis=0) for v in V])
        parts: NDArray = np.conj(_array.to_numpy(found)).astype(self._right[0].dtype)
        return parts

    def _reduce(self, column: NDArray, last: NDArray[np.float64]) -> None:
        """Rotate the new column of the Hessenberg matrix into the triangle."""
        for i, (c, s) in enumerate(self._rotations):
            upper = column[i].copy()
            low = column[i + 1] if i + 1 < len(column) else last.astype(column.dtype)
            column[i] = np.conj(c) * upper + np.conj(s) * low
            if i + 1 < len(column):
                column[i + 1] = c * low - s * upper
        diagonal = np.hypot(np.abs(column[-1]), last)
        c, s = quotient(column[-1], diagonal), quotient(last.astype(column.dtype), diagonal)
        # A column that has ended adds nothing more.
        over = self.ended | (diagonal == 0)
        c, s = np.where(over, 0.0, c), np.where(over, 1.0, s)
        column[-1] = np.where(over, 1.0, diagonal)
        upper = self._right[-1]
        self._right[-1] = np.where(over, 0.0, np.conj(c) * upper)
        self._right.append(np.where(over, upper, -s * upper))
        self._rotations.append((c, s))
        self._triangle.append(np.where(self.ended, 0.0, column))
        self._triangle[-1][-1] = column[-1]
        self.residual = np.abs(self._right[-1])
        self.ended = self.ended | (last == 0)

    def combination(self) -> Array:
        """The combination of the basis whose residual is least, (n, k)."""
        xp, R = self._xp, self._triangle
        solution = [right.copy() for right in self._right[:-1]]
        for j in reversed(range(len(R))):
            solution[j] = quotient(solution[j], R[j][j])
            for i in range(j):
                solution[i] = solution[i] - R[j][i] * solution[j]
        total = times(self._basis[0], solution[0], xp)
        for v, number in zip(self._basis[1:], solution[1:], strict=False):
            total = total + times(v, number, xp)
        return total
