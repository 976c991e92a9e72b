"""Kronecker products, applied factor by factor."""

from collections.abc import Callable
from typing import Any

import numpy as np

from structmat._array import Array, integers
from structmat.contract.operand import multiplied
from structmat.intervals import IntArray
from structmat.kinds import later, rule
from structmat.matrices.lazy import Scaled
from structmat.matrix import StructuredMatrix


class Kronecker(StructuredMatrix, kind="kronecker"):
    """The Kronecker product of A (m, n) and B (p, q): blocks A[i, j] B, shape (m p, n q).

    A product applies B to n columns and A to p, or A to q columns and B to m: the cheaper order.
    Storage is that of both factors.
    """

    def __init__(self, A: StructuredMatrix, B: StructuredMatrix) -> None:
        (m, n), (p, q) = A.shape, B.shape
        super().__init__((m * p, n * q), {}, (A, B))

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: n cost(B) + p cost(A), or q cost(A) + m cost(B)."""
        return min(self._costs(adjoint=False))

    def _costs(self, *, adjoint: bool) -> tuple[int, int]:
        """Cost where the inner factor goes first, and where the outer one does."""
        A, B = self.children
        (m, n), (p, q) = (A.shape[::-1], B.shape[::-1]) if adjoint else (A.shape, B.shape)
        return n * B.cost + p * A.cost, q * A.cost + m * B.cost

    def _multiply(self, x: Array) -> Array:
        return self._applied(x, adjoint=False)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._applied(y, adjoint=True)

    def _applied(self, x: Array, *, adjoint: bool) -> Array:
        """Both factors, one after the other, each to columns side by side."""
        (A, B), xp, k = self.children, self.xp, x.shape[1]
        (m, n), (p, q) = (A.shape[::-1], B.shape[::-1]) if adjoint else (A.shape, B.shape)
        x = xp.reshape(x, (n, q, k))
        inner, outer = self._costs(adjoint=adjoint)
        if inner <= outer:
            x = xp.reshape(xp.permute_dims(x, (1, 0, 2)), (q, n * k))
            x = xp.reshape(multiplied(B, x, adjoint=adjoint), (p, n, k))
            x = xp.reshape(xp.permute_dims(x, (1, 0, 2)), (n, p * k))
            return xp.reshape(multiplied(A, x, adjoint=adjoint), (m * p, k))
        x = multiplied(A, xp.reshape(x, (n, q * k)), adjoint=adjoint)
        x = xp.permute_dims(xp.reshape(x, (m, q, k)), (1, 0, 2))
        x = multiplied(B, xp.reshape(x, (q, m * k)), adjoint=adjoint)
        return xp.reshape(xp.permute_dims(xp.reshape(x, (p, m, k)), (1, 0, 2)), (m * p, k))

    def _dense(self) -> Array:
        (A, B), xp = self.children, self.xp
        left, right = (xp.astype(F.to_dense(), self.dtype) for F in (A, B))
        return xp.reshape(left[:, None, :, None] * right[None, :, None, :], self.shape)

    def _hermitian(self) -> bool:
        return all(factor.hermitian for factor in self.children)

    def _adjoint(self) -> "Kronecker":
        A, B = self.children
        return Kronecker(A.H, B.H)

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        A, B = self.children
        for at, factor in enumerate((A, B)):
            scaled = factor._scale(scalar, apply)
            if isinstance(factor, Scaled) or not isinstance(scaled, Scaled):
                return Kronecker(A, scaled) if at else Kronecker(scaled, B)
        return NotImplemented

    # Entries.

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        """Products of entries of the factors, of which each is computed once."""
        (A, B), xp = self.children, self.xp
        (p, q), found = B.shape, []
        for factor, i, j in ((A, rows // max(p, 1), cols // max(q, 1)), (B, rows % p, cols % q)):
            pairs, at = np.unique(i * max(factor.shape[1], 1) + j, return_inverse=True)
            width = max(factor.shape[1], 1)
            entries = factor._entries_at(pairs // width, pairs % width)
            taken = xp.take(entries, integers(at.reshape(-1), xp, self.device), axis=0)
            found.append(xp.astype(taken, self.dtype))
        return found[0] * found[1]

    def _part(self, rows: IntArray, cols: IntArray) -> Any:
        """Rows and columns that are all pairs of some of each factor."""
        (A, B), (p, q) = self.children, self.children[1].shape
        at = _factored(rows, p), _factored(cols, q)
        if at[0] is None or at[1] is None:
            return NotImplemented
        parts = [factor._submatrix(i, j) for factor, i, j in zip((A, B), at[0], at[1], strict=True)]
        part = Kronecker(*parts)
        return part.astype(self.dtype) if part.dtype != self.dtype else part

    def _norm(self, ord: Any) -> float:
        A, B = self.children
        return A.norm(ord) * B.norm(ord)


def _factored(at: IntArray, size: int) -> tuple[IntArray, IntArray] | None:
    """Indices as all pairs of outer and inner ones, inner ones first; None if they are not.

    Examples
    --------
    >>> _factored(np.array([1, 2, 7, 8]), 3)
    (array([0, 2]), array([1, 2]))
    """
    if not at.size or not size:
        return None
    outer, inner = at // size, at % size
    count = int(np.argmax(outer != outer[0])) or at.size
    if at.size % count:
        return None
    first, second = outer[::count], inner[:count]
    whole = (first[:, None] * size + second).ravel()
    return (first, second) if np.array_equal(whole, at) else None


@rule("matmul", "kronecker", "kronecker")
def _mixed_product(a: Kronecker, b: Kronecker) -> Any:
    """(A ⊗ B)(C ⊗ D) = AC ⊗ BD where sizes meet and that costs no more."""
    (A, B), (C, D) = a.children, b.children
    if A.shape[1] != C.shape[0]:
        return NotImplemented
    joined = later("structmat.algebra:kron")(A @ C, B @ D)
    return joined if joined.cost <= a.cost + b.cost else NotImplemented


@rule("add", "kronecker", "kronecker")
def _shared_factor(a: Kronecker, b: Kronecker) -> Any:
    """Two products that share a factor are one."""
    (A, B), (C, D) = a.children, b.children
    if A is C and B.shape == D.shape:
        return later("structmat.algebra:kron")(A, B + D)
    if B is D and A.shape == C.shape:
        return later("structmat.algebra:kron")(A + C, B)
    return NotImplemented
