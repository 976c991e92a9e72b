"""A matrix whose parts lie on the workers of a Dask cluster, as an operator of SciPy's."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from structmat._array import Array, DType, namespace
from structmat._markup import amount, card
from structmat.contract.operand import as_operand, is_scalar, matrix_product, vector_product
from structmat.distributed.graph import Graph
from structmat.distributed.part import Part, Parts
from structmat.distributed.product import Way, applied
from structmat.distributed.solve import factorize
from structmat.distributed.tile_parts import whole
from structmat.distributed.traffic import rows_moved
from structmat.intervals import IntArray
from structmat.matrices import ForeignOperator
from structmat.matrices.hierarchical_checks import checked_order
from structmat.matrix import StructuredMatrix
from structmat.solvers.factorization import Factorization


class DistributedMatrix(LinearOperator):
    """Matrix of shape (m, n) whose parts lie on the workers of a Dask cluster.

    ``compress(source, kind, tol=…, client=client)`` makes it. It is a
    `scipy.sparse.linalg.LinearOperator` of arrays on this machine: a product sends each worker the
    rows of x that its parts read, multiplies there, and adds up what comes back. The bits of a
    product are a matter of the parts and of x alone: tasks of a worker that is lost run again
    elsewhere, and give the same. Structured matrices take it into sums and products as an
    operator.

    Parameters
    ----------
    client : distributed.Client
        A client of the cluster that does not run asynchronously.
    parts : sequence of distributed.Future
        Futures of `structmat.distributed.Part`, of the matrix between its orders. Their tasks
        must not depend on data that was scattered, which Dask cannot make again.
    shape : tuple of int
        ``(m, n)``.
    row_order, col_order : array_like of int, shape (m,) and (n,), optional
        Orders of rows and columns, as those of `structmat.Hierarchical`.
    source : KernelMatrix or Entries, optional
        The matrix that this one stands for. Its points give solves their preconditioner.

    Attributes
    ----------
    client : distributed.Client
    parts : Parts
        The futures, and an outline of each part.
    source : KernelMatrix or Entries or None

    Raises
    ------
    InputError
        If there are no parts, or an order is no permutation.

    Notes
    -----
    A product takes `cost` multiplications, shared out among workers, and moves
    `bytes_per_product` bytes. Besides, it waits a few milliseconds for each of its stages: sending,
    multiplying, adding up by fours.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> from distributed import Client
    >>> points = np.random.default_rng(0).random((300, 2))
    >>> K = structmat.KernelMatrix(points, "exponential", length=0.5)
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
    ...     A = structmat.compress(K, "hierarchical", tol=1e-4, client=client).matrix
    ...     y = A @ np.ones(300)
    ...     x = A.solve(y, shift=0.1)
    ...     B = A.gather()
    >>> type(A).__name__, B.kind, bool(np.allclose(B @ np.ones(300), y))
    ('DistributedMatrix', 'hierarchical', True)
    """

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
    def kind(self) -> str:
        """Kind of the parts, such as ``"hierarchical"``."""
        return self.parts.outlines[0].kind

    @property
    def bytes_per_product(self) -> int:
        """Bytes that a product with one vector moves, with the parts where they lie now.

        With w workers that each hold neighbouring parts, about 2 w vectors: x to every worker,
        and a sum from each. Between the client and the first worker, and between workers.
        """
        places = Graph(self.client).places(self.parts.futures)
        moved = rows_moved(self.parts.outlines, places, self.shape[1])
        return moved * self.dtype.itemsize

    def __repr__(self) -> str:
        m, n = self.shape
        return (
            f"<{m}x{n} {type(self).__name__}, {self.kind}, {self.dtype}, {len(self.parts)} parts: "
            f"cost {self.relative_cost:.4g}, storage {self.relative_storage:.4g} of dense>"
        )

    def _repr_html_(self) -> str:
        m, n = self.shape
        workers = set(Graph(self.client).places(self.parts.futures))
        facts = {
            "shape": f"{m} x {n}",
            "kind": self.kind,
            "dtype": str(self.dtype),
            "parts": f"{len(self.parts)} on {len(workers)} workers",
            "cost": amount(self.cost, m * n),
            "storage": amount(self.storage, m * n),
            "bytes per product": f"{self.bytes_per_product:,}",
        }
        return card(type(self).__name__, facts)

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
        """An operator that solves systems with S = A + shift I, by conjugate gradients.

        `structmat.factorize`, `structmat.solve` and `structmat.logdet` come here for a distributed
        matrix. The vectors of the recurrence are chunks of rows on the workers, which take the
        inner products as well. Where `source` has points, a sparse approximate inverse of the
        source with the shift is the preconditioner: workers make and hold its rows.

        Parameters
        ----------
        shift : float
            Multiple of the identity that is added.
        tol : float, optional
            Bound of the backward error of every solve, as `structmat.factorize` takes it.

        Returns
        -------
        Factorization
            Its solves are measured by one product, refined, and refused above ten `tol`. Its
            `logdet` is an estimate by random vectors.

        Raises
        ------
        OperationError
            If S is not known to be Hermitian.
        SolveError
            If S is seen not to be positive definite, now or by a solve.

        Notes
        -----
        A step takes a product with A, one with the preconditioner, and a few tasks for each chunk
        of rows. The scheduler gets four steps at a time. A preconditioner takes about 10^4
        multiplications and 30 numbers a row.
        """
        return factorize(self, shift, tol)

    def solve(self, b: Any, *, shift: float = 0.0, tol: float | None = None) -> Any:
        """A solution x of (A + shift I) x = b; `factorize` keeps what serves several solves.

        Parameters
        ----------
        b : array, shape (n,), (n, k) or (…, n, k)
        shift, tol
            As in `factorize`.

        Returns
        -------
        array of the shape of b

        Raises
        ------
        OperationError
            If A + shift I is not known to be Hermitian.
        SolveError
            If it is seen not to be positive definite, or the backward error stays above ten `tol`.
        """
        return self.factorize(shift=shift, tol=tol).solve(b)

    # The whole.

    def between(self, row_order: Any, col_order: Any, source: Any) -> "DistributedMatrix":
        """The matrix of the same parts between other orders, near a source in these."""
        return DistributedMatrix(
            self.client, self.parts.futures, shape=self.shape, row_order=row_order,
            col_order=col_order, source=source,
        )  # fmt: skip

    def gather(self) -> StructuredMatrix:
        """The whole matrix on this machine, which has to have memory for it.

        Returns
        -------
        StructuredMatrix
            Of the kind of the parts, with the contents and orders of all of them.
        """
        parts: list[Part] = self.client.gather(list(self.parts.futures))
        return whole(parts, self.shape, self.row_order, self.col_order)


def factorize_operator(A: ForeignOperator, shift: complex, tol: float) -> Any:
    """The factorization of a Hermitian distributed matrix; NotImplemented for other operators.

    Examples
    --------
    >>> from structmat.matrices import from_operator
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> factorize_operator(from_operator(aslinearoperator(np.eye(2))), 0.0, 1e-8)
    NotImplemented
    """
    D = A.operator
    if not isinstance(D, DistributedMatrix) or not D.hermitian or A.conjugated or shift.imag:
        return NotImplemented
    return factorize(D, shift, tol)
