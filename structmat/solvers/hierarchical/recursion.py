"""Factorization of a weak form by recursion, from its leaves up.

A node of halves 1 and 2 is S = diag(S1, S2) + diag(U1, U2) C diag(V1, V2)^H, where C exchanges the
halves. By Sherman, Morrison & Woodbury, with Y = S^-1 U and Z = S^-H V of each half,

    S^-1 b = (S1^-1 b1 - Y1 z1, S2^-1 b2 - Y2 z2),    K z = (Z2^H b2, Z1^H b1),
    K = ((I, V2^H Y2), (V1^H Y1, I)),                  det S = det S1 det S2 det K.

The arrays Y and Z take the place of U and V, which are not needed any more: all products Z^H b of
a solve come from the right-hand side itself. A symmetric factor S = W W^H, or one of the ULV
kind, would need as much memory, and twice the work for each solve. Leaves and the systems K are
inverted: products are several times faster than triangular solves of this size.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from structmat._progress import Progress, no_progress
from structmat.errors import SolveError
from structmat.kernels.cpu.blas_threads import one_blas_thread, shared_out_to_blas
from structmat.kernels.cpu.threads import num_threads
from structmat.solvers.direct.lapack import Factors, factored
from structmat.solvers.hierarchical.weak import WeakForm
from structmat.solvers.results import LogDeterminant

#: Right-hand sides at a time.
SIDES = 128


class Recursion:
    """The inverse of a weak form plus a diagonal.

    Parameters
    ----------
    weak : WeakForm
        The matrix; its arrays become those of the factorization.
    shift : number or array, shape (n,)
        What is added to the diagonal.
    definite : bool
        Whether the matrix, if it is Hermitian, has to be positive definite.

    Raises
    ------
    SolveError
        If a node is singular to working precision, or if a matrix is not definite that has to be.
    """

    @one_blas_thread()
    def __init__(
        self,
        weak: WeakForm,
        shift: Any = 0.0,
        *,
        definite: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        self.tree, self.hermitian, self.dtype = weak.tree, weak.hermitian, weak.dtype
        self.size, self.ranks = weak.size, weak.ranks
        self._left, self._right = weak.left, weak.right
        self._inverses: dict[int, NDArray[Any]] = {}
        self._logdets: dict[int, LogDeterminant] = {}
        self._negative: dict[int, int] = {}
        shifts = np.broadcast_to(np.asarray(shift), (self.size,))
        leaves = self.tree.leaves.tolist()

        def work(first: int, last: int) -> None:
            for node in leaves[first:last]:
                self._eliminate_leaf(node, weak.leaves.pop(node), shifts[self.tree.rows(node)])
                self._check(node, definite)

        shared_out_to_blas(work, len(leaves), num_threads())
        inner, levels = self.tree.inner, self.tree.level[self.tree.inner]
        for level in sorted(set(levels.tolist()), reverse=True):
            self._eliminate(inner[levels == level].tolist(), definite)
            progress(1.0 - level / (1 + int(levels.max())))

    @property
    def storage(self) -> int:
        """Stored numbers, without those of the small systems at nodes."""
        sides = [self._left] if self.hermitian else [self._left, self._right]
        factors = sum(f.size for side in sides for f in side)
        leaves = (self.tree.end - self.tree.begin)[self.tree.leaves]
        return factors + int((leaves**2).sum())

    @property
    def negative(self) -> int | None:
        """Number of negative eigenvalues of a Hermitian matrix."""
        return sum(self._negative.values()) if self.hermitian else None

    @property
    def factors(self) -> list[NDArray[Any]]:
        """The factor Y^T (r, rows) of each node but the root."""
        return [Y.T for Y in self._left]

    def inverse(self, node: int) -> NDArray[Any]:
        """The inverse of a leaf's block, or of the system K of another node."""
        return self._inverses[node]

    def logdet(self) -> LogDeterminant:
        """Log-determinant; of a Hermitian matrix with the sign by its inertia."""
        total = LogDeterminant(1.0, 0.0)
        for node in range(len(self.tree.begin)):
            total = total.times(self._logdets[node])
        if self.hermitian:
            return total._replace(sign=(-1.0) ** sum(self._negative.values()))
        return total

    @one_blas_thread()
    def solve(self, b: NDArray[Any], *, adjoint: bool = False) -> NDArray[Any]:
        """Solutions of S x = b, or S^H x = b, for the columns of b (n, k), in its place."""
        self._solve_all([(0, some) for some in _columns(b)], adjoint=adjoint)
        return b

    def _eliminate_leaf(self, node: int, block: NDArray[Any], shift: NDArray[Any]) -> None:
        block[np.diag_indices(len(block))] += shift
        found = self._invert(node, block, hermitian=self.hermitian)
        # Cholesky has a lower factor.
        negative = self.hermitian and len(block) and not hasattr(found, "lower")
        self._negative[node] = inertia(block)[1] if negative else 0

    def _invert(self, node: int, A: NDArray[Any], *, hermitian: bool) -> Factors:
        """Take the inverse and the log-determinant of the system of a node."""
        found = factored(A, np, hermitian=hermitian, name=self._name(node))
        inverse = found.solve(np.eye(len(A), dtype=A.dtype))
        self._inverses[node] = inverse.astype(A.dtype, order="C", copy=False)
        self._logdets[node] = found.logdet()
        return found

    def _eliminate(self, nodes: list[int], definite: bool) -> None:
        """Factors of nodes whose halves have theirs."""
        halves = [half for node in nodes for half in self.tree.sides(node)]
        former = {half: self._right[half] for half in halves}
        for array in (self._left,) if self.hermitian else (self._left, self._right):
            for half in halves:
                array[half] = np.array(array[half].T, order="C")
            parts = [(half, some) for half in halves for some in _columns(array[half])]
            self._solve_all(parts, adjoint=array is self._right and not self.hermitian)
        products: list[NDArray[Any]] = [np.zeros(0)] * len(halves)

        def multiply(first: int, last: int) -> None:
            for i in range(first, last):
                products[i] = _conj(former[halves[i]]) @ self._left[halves[i]]

        def work(first: int, last: int) -> None:
            for i in range(first, last):
                self._join(nodes[i], products[2 * i], products[2 * i + 1])
                self._check(nodes[i], definite)

        shared_out_to_blas(multiply, len(halves), num_threads())
        shared_out_to_blas(work, len(nodes), num_threads())

    def _join(self, node: int, G1: NDArray[Any], G2: NDArray[Any]) -> None:
        """The system of a node, by the products V^H Y of its halves."""
        one, two = (np.eye(len(G), dtype=self.dtype) for G in (G2, G1))
        self._invert(node, np.block([[one, G2], [G1, two]]), hermitian=False)
        self._negative[node] = 0
        if self.hermitian:
            # Of S as many more eigenvalues are negative as of ((G1, I), (I, G2)) are positive
            # beyond the rank (Haynsworth 1968).
            self._negative[node] = inertia(np.block([[G1, one], [two, G2]]))[0] - len(G1)

    def _solve_all(self, parts: list[tuple[int, NDArray[Any]]], *, adjoint: bool) -> None:
        """Solve the systems of some nodes, each for the columns of an array, in its place."""

        def work(first: int, last: int) -> None:
            for node, columns in parts[first:last]:
                b = np.ascontiguousarray(columns)
                self._solve_columns(node, b, adjoint)
                if b is not columns:
                    columns[:] = b

        shared_out_to_blas(work, len(parts), num_threads())

    def _solve_columns(self, top: int, b: NDArray[Any], adjoint: bool) -> None:
        tree, start = self.tree, int(self.tree.begin[top])
        into, out = (self._left, self._right) if adjoint else (self._right, self._left)
        other, found = _conj(b), []
        for node in range(top, int(tree.last[top])):
            if tree.second[node] < 0:
                continue
            # The adjoint system has its two rows and its two columns exchanged.
            halves = tree.sides(node)[:: -1 if adjoint else 1]
            rows = [slice(int(tree.begin[c]) - start, int(tree.end[c]) - start) for c in halves]
            products = [into[c].T @ other[at] for c, at in zip(halves, rows, strict=True)]
            z = self._inverse(node, adjoint) @ _conj(np.concatenate(products[::-1]))
            rank = out[halves[0]].shape[1]
            found += [(rows[0], out[halves[0]], z[:rank]), (rows[1], out[halves[1]], z[rank:])]
        for node in range(top, int(tree.last[top])):
            if tree.second[node] < 0:
                at = slice(int(tree.begin[node]) - start, int(tree.end[node]) - start)
                b[at] = self._inverse(node, adjoint) @ b[at]
        for at, factor, z in found:
            _subtract(b[at], factor, z)

    def _inverse(self, node: int, adjoint: bool) -> NDArray[Any]:
        return _conj(self._inverses[node]).T if adjoint else self._inverses[node]

    def _name(self, node: int) -> str:
        begin, end = int(self.tree.begin[node]), int(self.tree.end[node])
        return f"the block of rows {begin} to {end} of {self.size} (in the matrix's own order)"

    def _check(self, node: int, definite: bool) -> None:
        if definite and self._negative[node]:
            raise self.indefinite()

    def indefinite(self) -> SolveError:
        """The refusal of a matrix with negative eigenvalues, by the first node that has them."""
        level, negative = self.tree.level, self._negative
        node = min((node for node in negative if negative[node]), key=lambda k: (-level[k], k))
        return SolveError(
            f"{self._name(node)} has {self._negative[node]} negative eigenvalues, where the matrix "
            "should be positive definite; expected a compression to a smaller tolerance (tol times "
            "the Frobenius norm at most the shift), or a larger shift"
        )


def _columns(b: NDArray[Any]) -> list[NDArray[Any]]:
    """Groups of at most `SIDES` columns, of about equal number."""
    count = -(-b.shape[1] // SIDES)
    bounds = [b.shape[1] * i // max(count, 1) for i in range(count + 1)]
    return [b[:, first:last] for first, last in pairwise(bounds)]


def _conj(x: NDArray[Any]) -> NDArray[Any]:
    """Complex conjugate; the array itself where it is real."""
    return x.conj() if x.dtype.kind == "c" else x


def _subtract(b: NDArray[Any], Y: NDArray[Any], z: NDArray[Any]) -> None:
    """Subtract Y z from b in its place; all are stored by rows, without gaps."""
    if z.shape[1] == 1 or not z.size:
        b -= Y @ z
        return
    # To BLAS these are the transposes, by columns: no copy is made.
    (gemm,) = get_blas_funcs(("gemm",), (b,))
    gemm(-1.0, z.T, Y.T, 1.0, b.T, overwrite_c=True)


def inertia(A: NDArray[Any]) -> tuple[int, int]:
    """Numbers of positive and of negative eigenvalues of a Hermitian matrix, by its LDL^H.

    Examples
    --------
    >>> inertia(np.array([[0.0, 1.0], [1.0, 0.0]]))
    (1, 1)
    """
    if not len(A):
        return 0, 0
    (factor,) = get_lapack_funcs(("hetrf" if A.dtype.kind == "c" else "sytrf",), (A,))
    D, pivots, _ = factor(A, lower=True)
    # A block of two rows has an eigenvalue of either sign.
    pairs, single = int((pivots < 0).sum()) // 2, D.diagonal().real[pivots >= 0]
    return pairs + int((single > 0).sum()), pairs + int((single < 0).sum())
