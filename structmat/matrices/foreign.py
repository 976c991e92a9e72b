"""Operators of other libraries as terms and factors of structured matrices."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from structmat._array import Array, computing_on, from_numpy, is_complex, to_numpy
from structmat._checks import matrix_shape
from structmat.errors import BackendError, InputError, OperationError, ShapeError, first_line
from structmat.kinds import kind_class
from structmat.matrices.diagonal import Identity
from structmat.matrices.from_sparse import from_sparse
from structmat.matrix import StructuredMatrix


class ForeignOperator(StructuredMatrix, kind="operator"):
    """An operator of another library, known by its products; cost m n, storage 0.

    Its products are those of the operator, on NumPy, whichever library the matrix belongs to.
    They are not counted, so the cost is that of a dense matrix. No file holds the operator.

    Parameters
    ----------
    operator : object
        With ``shape``, and `matmat`, ``@`` or `matvec`; its adjoint is `rmatmat`, ``H`` or
        `rmatvec`.
    like : array, optional
        Any array of the library, the device and the dtype of the matrix.
    conjugated : bool
        Whether the matrix is the complex conjugate of the operator.

    Raises
    ------
    ShapeError
        If the operator has another number of dimensions than two, or a product another shape.
    """

    data_names = ("like",)
    static_names = ("operator", "conjugated")
    like: Array

    def __init__(
        self, operator: Any, *, like: Array | None = None, conjugated: bool = False
    ) -> None:
        shape = matrix_shape(operator.shape)
        self.operator, self.conjugated = operator, bool(conjugated)
        if like is None:
            like = np.zeros(0, _working_dtype(operator, shape))
        super().__init__(shape, {"like": like[:0]})

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: m n, since those of the operator are not known."""
        return self.shape[0] * self.shape[1]

    def _multiply(self, x: Array) -> Array:
        return self._applied(x, adjoint=False)

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._applied(y, adjoint=True)

    def _applied(self, x: Array, *, adjoint: bool) -> Array:
        """A product on NumPy, in the library, the device and the dtype of the operand."""
        xp, records = self.xp, self._backend.records_gradients
        if records is not None and records(x):
            raise BackendError(
                f"an operand with a gradient meets {self!r}, an operator on NumPy that passes none "
                "on; expected x.detach(), or a matrix of arrays (structmat.compress)"
            )
        columns = to_numpy(x)
        columns = columns.conj() if self.conjugated else columns
        y = _columns(self.operator, columns, adjoint=adjoint)
        wanted = (self.shape[1] if adjoint else self.shape[0], columns.shape[1])
        if y.shape != wanted:
            raise ShapeError(
                f"the operator gave an array of shape {y.shape} for one of shape {columns.shape}; "
                f"expected {wanted}"
            )
        if y.dtype.kind == "c" and not is_complex(x, xp):
            raise InputError(
                f"the operator of dtype {self.dtype} gave complex numbers; expected real ones "
                "(give it a complex dtype)"
            )
        y = y.conj() if self.conjugated else y
        with computing_on(xp, self.device):
            return xp.astype(from_numpy(np.ascontiguousarray(y), xp, self.device), x.dtype)

    def _dense(self) -> Array:
        xp = self.xp
        return self._multiply(xp.eye(self.shape[1], dtype=self.dtype, device=self.device))

    def _adjoint(self) -> StructuredMatrix:
        adjoint: StructuredMatrix = kind_class("adjoint")(self)
        return adjoint

    def _hermitian(self) -> bool:
        return getattr(self.operator, "hermitian", False) is True

    def _conjugate(self) -> "ForeignOperator":
        return ForeignOperator(self.operator, like=self.like, conjugated=not self.conjugated)


def is_operator(x: Any) -> bool:
    """Tell whether an object is an operator by its products, of SciPy or of another library."""
    if isinstance(x, LinearOperator):
        return True
    return hasattr(x, "matvec") and len(getattr(x, "shape", ())) == 2


def from_operator(operator: Any) -> StructuredMatrix:
    """An operator of SciPy or another library as a structured matrix.

    Sums, products, multiples, powers and adjoints of SciPy's and PyLops' that hold structured
    or sparse matrices are taken apart, so these keep their structure.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> from_operator(aslinearoperator(np.eye(2)) + Identity(2)).kind
    'sum'
    """
    if isinstance(operator, StructuredMatrix):
        return operator
    found = _opened(operator)
    return ForeignOperator(operator) if found is None else found


def _opened(operator: Any) -> Any:
    """The structured form of a combination by SciPy or PyLops; None of one that has none."""
    if not type(operator).__module__.startswith(("scipy.sparse.linalg", "pylops")):
        return None
    name, parts = type(operator).__name__.strip("_"), getattr(operator, "args", ())
    inside = getattr(operator, "Op", None)  # what PyLops has put into an operator of its own
    if isinstance(inside, StructuredMatrix) and inside.shape == tuple(operator.shape):
        return inside
    if name == "IdentityOperator" and len(set(operator.shape)) == 1:
        return Identity(int(operator.shape[0]))
    if name == "MatrixLinearOperator":
        return from_sparse(operator.A) if issparse(operator.A) else None
    combine = _COMBINATIONS.get(name)
    if combine is None or not any(_is_open(part) for part in parts):
        return None
    return combine(*(from_operator(part) if is_operator(part) else part for part in parts))


def _is_open(part: Any) -> bool:
    return isinstance(part, StructuredMatrix) or _opened(part) is not None


#: Classes of combinations in SciPy and in PyLops, by name, which have their parts in `args`.
_COMBINATIONS: dict[str, Any] = {
    "SumLinearOperator": lambda A, B: A + B,
    "ProductLinearOperator": lambda A, B: A @ B,
    "ScaledLinearOperator": lambda A, alpha: A * alpha,
    "PowerLinearOperator": lambda A, p: A**p,
    "AdjointLinearOperator": lambda A: A.H,
    "TransposedLinearOperator": lambda A: A.T,
}


def _working_dtype(operator: Any, shape: tuple[int, int]) -> Any:
    """Floating dtype of an operator: its own, or that of a product."""
    try:
        found = np.dtype(getattr(operator, "dtype", None) or _probed(operator, shape))
    except TypeError:  # a dtype of another library
        found = _probed(operator, shape)
    return found if found.kind in "fc" else np.dtype(np.float64)


def _probed(operator: Any, shape: tuple[int, int]) -> np.dtype:
    return _columns(operator, np.zeros((shape[1], 1)), adjoint=False).dtype


def _columns(operator: Any, X: np.ndarray, *, adjoint: bool) -> np.ndarray:
    """Product of the operator, or of its adjoint, with columns, as a NumPy array."""
    size = operator.shape[1 if adjoint else 0]
    if not X.shape[1]:
        return np.zeros((size, 0), X.dtype)
    many, one = ("rmatmat", "rmatvec") if adjoint else ("matmat", "matvec")
    try:
        if hasattr(operator, many):
            return np.asarray(getattr(operator, many)(X))
        if adjoint and hasattr(operator, "H"):
            return _columns(operator.H, X, adjoint=False)
        if hasattr(operator, one):
            multiply = getattr(operator, one)
            parts = [np.asarray(multiply(x)).reshape(-1) for x in X.T]
            return np.stack(parts, axis=1)
    except NotImplementedError as error:
        missing = first_line(error)
    else:
        missing = f"a {type(operator).__qualname__} has neither {many} nor {one}"
    raise OperationError(
        f"the operator has no product {'with its adjoint' if adjoint else 'with columns'} "
        f"({missing}); expected one with {one} or {many}"
    )
