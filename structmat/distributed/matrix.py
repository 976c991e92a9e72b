"""A matrix whose parts lie on the workers of a Dask cluster, as an operator of SciPy's."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from structmat._array import Array, DType, namespace
from structmat._operand import as_operand, is_scalar, matrix_product, vector_product
from structmat.distributed.part import Part, Parts, joined
from structmat.distributed.product import Way, applied
from structmat.distributed.solve import factorize
from structmat.intervals import IntArray
from structmat.matrices import Hierarchical
from structmat.matrices.hierarchical_checks import checked_order
from structmat.solvers.factorization import Factorization


class DistributedMatrix(LinearOperator):
    """A matrix of shape (m, n) whose parts lie on the workers of a Dask cluster."""

    neutral = False

    def __init__(
        self,
        client: Any,
        parts: Sequence[Any],
        *,
        shape: tuple[int, int],
        row_order: Any = None,
        col_order: Any = None,
        source: Any = None,
    ) -> None:
        self.client, self.parts, self.source = client, Parts(client, parts), source
        dtype = np.result_type(*(outline.dtype for outline in self.parts.outlines))
        LinearOperator.__init__(self, dtype, shape)
        self.row_order = checked_order(row_order, shape[0], "row_order")
        self.col_order = checked_order(col_order, shape[1], "col_order")

    # Facts.

    @property
    def cost(self) -> int:
        """Multiplications of one matvec, on all workers together."""
        return sum(outline.cost for outline in self.parts.outlines)

    @property
    def storage(self) -> int:
        """Stored scalars, on all workers together."""
        return sum(outline.storage for outline in self.parts.outlines)

    @property
    def relative_cost(self) -> float:
        """`cost` as a fraction of m n, the cost of the dense matrix; 0 where m n = 0."""
        return self.cost / max(math.prod(self.shape), 1)

    @property
    def relative_storage(self) -> float:
        """`storage` as a fraction of m n; 0 where m n = 0."""
        return self.storage / max(math.prod(self.shape), 1)

    @property
    def hermitian(self) -> bool:
        """True where the construction guarantees that A equals A^H, to rounding."""
        return all(outline.hermitian for outline in self.parts.outlines) and np.array_equal(
            self.row_order, self.col_order
        )

    @property
    def xp(self) -> ModuleType:
        """NumPy: the library of operands and results."""
        return namespace(np.zeros(0))

    @property
    def device(self) -> Any:
        """Device of operands and results."""
        return "cpu"

    # Products.

    def matvec(self, x: Any) -> Array:
        """A x for one vector or a batch of them: (…, n) to (…, m)."""
        return vector_product(self, x, adjoint=False)

    def rmatvec(self, x: Any) -> Array:
        """A^H x for one vector or a batch of them: (…, m) to (…, n)."""
        return vector_product(self, x, adjoint=True)

    def matmat(self, X: Any) -> Array:
        """A X for one matrix or a batch of them: (…, n, k) to (…, m, k)."""
        return matrix_product(self, X, adjoint=False)

    def rmatmat(self, X: Any) -> Array:
        """A^H X for one matrix or a batch of them: (…, m, k) to (…, n, k)."""
        return matrix_product(self, X, adjoint=True)

    # SciPy's wrappers call these without any check.
    _matvec, _rmatvec, _matmat, _rmatmat = matvec, rmatvec, matmat, rmatmat

    def dot(self, x: Any) -> Any:
        """A x: a vector (n,) or a matrix (…, n, k); operators and numbers as SciPy does."""
        if is_scalar(x) or isinstance(x, LinearOperator):
            return LinearOperator.dot(self, x)
        x = as_operand(x, self.xp)
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def _adjoint(self) -> Any:
        return self if self.hermitian else LinearOperator._adjoint(self)

    def _multiply(self, x: Array) -> Array:
        return self._between(self.col_order, x, self.row_order, Way.PLAIN)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._between(self.row_order, y, self.col_order, Way.ADJOINT)

    def _between(self, source: IntArray, x: Array, target: IntArray, way: Way) -> NDArray[Any]:
        """A product of columns between two orders."""
        found = applied(self.parts, x[source], target.size, way)
        y = np.empty_like(found)
        y[target] = found
        return y

    def _wider(self, dtype: DType) -> "DistributedMatrix":
        return self  # each part gives the dtype of the product

    # Solves.

    def factorize(self, *, shift: float = 0.0, tol: float | None = None) -> Factorization:
        """An operator that solves systems with S = A + shift I, by conjugate gradients."""
        return factorize(self, shift, tol)

    def solve(self, b: Any, *, shift: float = 0.0, tol: float | None = None) -> Any:
        """A solution x of (A + shift I) x = b, by conjugate gradients."""
        return self.factorize(shift=shift, tol=tol).solve(b)

    # The whole.

    def gather(self) -> Hierarchical:
        """The whole matrix on this machine, from the parts of all workers."""
        parts: list[Part] = self.client.gather(list(self.parts.futures))
        return joined(parts, self.shape, self.row_order, self.col_order)
