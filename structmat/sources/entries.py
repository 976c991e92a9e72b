"""Matrices given by a function of their rows and columns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat._checks import host_array, matrix_shape
from structmat.errors import InputError, ShapeError, first_line
from structmat.intervals import IntArray
from structmat.sources.source import CompiledKernel, EntryFunction, Source


class Entries(Source, kind="entries"):
    """Matrix whose entries a function returns, block by block.

    Parameters
    ----------
    function : callable
        ``function(rows, cols)`` of index arrays (p,) and (q,) of NumPy returns the entries at
        all pairs, an array (p, q) of any library.
    shape : tuple of int
        ``(m, n)``.
    dtype : dtype, optional
        Dtype of the entries; that of the function's own by default.
    points, points2 : array_like, shapes (m, d) and (n, d), optional
        Points to which rows and columns belong, by which `compress` orders them.
    symmetric, hermitian : bool
        Whether entry (i, j) equals entry (j, i), or its conjugate.

    Raises
    ------
    InputError
        If the function fails for the first entry.

    Notes
    -----
    The first entry is evaluated at once; its library and device are those of the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> H = Entries(lambda i, j: 1.0 / (1 + i[:, None] + j), (4, 4))
    >>> H.block([0, 1], [0, 3])
    array([[1.  , 0.25],
           [0.5 , 0.2 ]])
    """

    data_names = ("like",)
    static_names = (
        "function", "size", "points", "points2", "symmetric", "hermitian", "conjugated"
    )  # fmt: skip
    like: Array
    function: EntryFunction
    size: tuple[int, int]
    points: NDArray[np.float64] | None = None
    points2: NDArray[np.float64] | None = None
    compiled: CompiledKernel | None = None

    def __init__(
        self,
        function: EntryFunction,
        shape: tuple[int, int],
        dtype: Any = None,
        *,
        points: Any = None,
        points2: Any = None,
        symmetric: bool = False,
        hermitian: bool = False,
    ) -> None:
        if not callable(function):
            raise InputError(
                f"function is a {type(function).__qualname__}; expected a function of rows and "
                "columns (for an array compress takes it as it is)"
            )
        size = matrix_shape(shape)
        if (symmetric or hermitian) and size[0] != size[1]:
            raise ShapeError(f"shape = {shape} of a symmetric matrix; expected (n, n)")
        first = _first(function, size)
        xp = _array.namespace(first)
        wanted = first.dtype if dtype is None else _array.floating_dtype(dtype, xp)
        if not _array.is_inexact(wanted, xp):
            wanted = _array.floating_dtype("float64", xp)
        like = xp.zeros(0, dtype=wanted, device=_array.device(first))
        rows = None if points is None else _of_axis(points, size[0], "points")
        cols = rows if points2 is None else _of_axis(points2, size[1], "points2")
        if cols is not None and len(cols) != size[1]:
            raise ShapeError(
                f"{len(cols)} points of the rows for {size[1]} columns; expected points2 as well"
            )
        self._set(like, function, size, rows, cols, symmetric, hermitian)
        if 0 not in size:
            self.count(1)
            self._checked(first, np.zeros(1, np.int64), np.zeros(1, np.int64))

    @classmethod
    def _from_parts(cls, like: Array, **static: Any) -> "Entries":
        """Matrix of checked parts."""
        self = cls.__new__(cls)
        self._set(like, **static)
        return self

    def _set(
        self,
        like: Array,
        function: EntryFunction,
        size: tuple[int, int],
        points: NDArray[np.float64] | None,
        points2: NDArray[np.float64] | None,
        symmetric: bool,
        hermitian: bool,
        conjugated: bool = False,
    ) -> None:
        self.function, self.size = function, (int(size[0]), int(size[1]))
        self.points, self.points2 = points, points2
        super().__init__(
            self.size,
            {"like": like},
            symmetric=symmetric,
            hermitian=hermitian,
            conjugated=conjugated,
        )

    def _evaluate(self, rows: IntArray, cols: IntArray) -> Any:
        block = self.function(rows, cols)
        if _array.belongs(block, self.xp):
            return block
        # A matrix that was moved: the function stays where it is.
        return _array.from_numpy(_array.to_numpy(block), self.xp, self.device)


def _first(function: EntryFunction, size: tuple[int, int]) -> Array:
    """The first entry, (1, 1), or an empty array of NumPy."""
    if 0 in size:
        return np.zeros((0, 0))
    zero = np.zeros(1, np.int64)
    try:
        found = function(zero, zero)
    except Exception as error:  # a function of the user's
        reason = first_line(error)
        raise InputError(
            f"the function raised {type(error).__name__} for row 0 and column 0: {reason}; "
            "expected an array of shape (1, 1)"
        ) from error
    if isinstance(found, (list, tuple, float, int, complex)):
        found = host_array(found, "the entry (0, 0)")
    if tuple(getattr(found, "shape", ())) != (1, 1):
        raise ShapeError(
            f"the function returned shape {tuple(getattr(found, 'shape', ()))} for one row and one "
            "column; expected (p, q) = (1, 1): entries at all pairs, not single ones"
        )
    return found


def _of_axis(points: Any, size: int, name: str) -> NDArray[np.float64]:
    array = host_array(points, name)
    if array.ndim != 2 or len(array) != size or array.dtype.kind not in "iuf":
        raise ShapeError(
            f"{name} of shape {array.shape} and dtype {array.dtype}; expected real coordinates "
            f"({size}, d)"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} hold NaN or infinity; expected finite coordinates")
    return np.ascontiguousarray(array, np.float64)
