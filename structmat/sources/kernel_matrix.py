"""Kernel matrices of points: named kernels, or any vectorised function."""

import math
import numbers
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array, DType, as_content
from structmat._checks import host_array
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.project.compiled import HAS_NUMBA
from structmat.sources.named_kernels import NAMES, SINGULAR, distances, values
from structmat.sources.source import CompiledKernel, Source

#: Points on which a function is tried, for its dtype and its symmetry.
TRIED = 32
#: Roundings by which values of a function may differ and still be called equal.
EQUAL_ROUNDINGS = 64
#: Largest phase of the Helmholtz kernel: of larger ones, few digits are left.
MOST_PHASE = 1e12

#: Function of points (p, d) and (q, d) that returns the entries of all pairs, (p, q).
KernelFunction = Callable[[Array, Array], Array]


class KernelMatrix(Source, kind="kernel"):
    """Matrix of a kernel at all pairs of points, whose entries are evaluated when needed.

    Parameters
    ----------
    points : array, shape (m, d)
        Points of the rows, one each.
    kernel : str or callable
        Name of a kernel of ``s = r / length`` for the Euclidean distance r: ``"exponential"``,
        exp(-s); ``"matern32"``; ``"matern52"``; ``"gaussian"``, exp(-s²/2); ``"inverse"``, 1/s;
        ``"helmholtz"``, exp(i k s)/s, complex, for wavenumber k. Or a function
        ``kernel(X, Y)`` of points (p, d) and (q, d) that returns an array (p, q), as the
        kernels of scikit-learn are.
    points2 : array, shape (n, d), optional
        Points of the columns; those of the rows by default.
    length, wavenumber : number, or array without axes
        Parameters of a named kernel. Gradients reach tensors through products and blocks.
    symmetric : bool, optional
        For a function without `points2`, whether it is symmetric; by default it is tried on up
        to 32 of the points.

    Raises
    ------
    InputError
        If points or parameters are not finite real numbers, if the name is unknown, if a
        function fails on the points tried, or if a kernel without a value at r = 0 meets
        points that coincide.
    ShapeError
        If points have another shape than (m, d), or two dimensions d.

    Notes
    -----
    The kernels 1/r and "helmholtz" have no value at r = 0. Of one set of points the diagonal
    is zero, because a point does not act on itself; two different points that coincide are
    refused.

    Products cost m n evaluations, in blocks of bounded memory; `compress` needs far fewer. On
    torch, gradients keep all blocks of a product alive. Where Numba is installed, named real
    kernels of NumPy points are evaluated in compiled loops; the numbers agree to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> K = KernelMatrix(np.array([[0.0], [1.0], [3.0]]), "exponential")
    >>> np.round(K @ np.array([1.0, 0.0, 0.0]), 3)
    array([1.   , 0.368, 0.05 ])
    >>> K.symmetric, K.entries
    (True, 9)
    """

    data_names = ("X", "Y", "length", "wavenumber")
    static_names = ("kernel", "one_set", "symmetric", "conjugated")
    X: Array
    #: Points of the columns; none of them where they are those of the rows.
    Y: Array
    length: Array
    wavenumber: Array
    kernel: str | KernelFunction
    one_set: bool

    def __init__(
        self,
        points: Array,
        kernel: str | KernelFunction,
        points2: Array | None = None,
        *,
        length: Any = 1.0,
        wavenumber: Any = 1.0,
        symmetric: bool | None = None,
    ) -> None:
        X = _points(points, "points")
        Y = None if points2 is None or points2 is points else _points(points2, "points2")
        if Y is not None and Y.shape[1] != X.shape[1]:
            raise ShapeError(
                f"points of {X.shape[1]} coordinates and points2 of {Y.shape[1]}; expected as many"
            )
        named = isinstance(kernel, str)
        if not (callable(kernel) or kernel in NAMES):
            raise InputError(
                f"kernel = {kernel!r}; expected one of {', '.join(NAMES)}, or a function of points "
                "(p, d) and (q, d)"
            )
        xp = _array.namespace(X)
        parameters = {"length": length, "wavenumber": wavenumber}
        for name, value in parameters.items():
            if not named and not (isinstance(value, numbers.Real) and value == 1):
                raise InputError(
                    f"{name} = {value!r} for a function; expected none: a function has parameters "
                    "of its own"
                )
            parameters[name] = _parameter(value, name, X, xp)
        if (named and symmetric is False) or (Y is not None and symmetric):
            raise InputError(
                f"symmetric = {symmetric} for {'two sets of points' if Y is not None else kernel}; "
                "expected it left out"
            )
        self._set(X, Y, kernel, parameters, symmetric, None)
        self._check()

    @classmethod
    def _from_parts(
        cls,
        X: Array,
        Y: Array,
        length: Array,
        wavenumber: Array,
        *,
        kernel: str | KernelFunction,
        one_set: bool,
        symmetric: bool,
        conjugated: bool,
    ) -> "KernelMatrix":
        """Matrix of checked parts; complex points ask for complex entries."""
        xp = _array.namespace(X)
        wanted = X.dtype
        if _array.is_complex(X, xp):
            X, Y, length, wavenumber = map(xp.real, (X, Y, length, wavenumber))
        self = cls.__new__(cls)
        parameters = {"length": length, "wavenumber": wavenumber}
        columns = None if one_set else Y
        self._set(X, columns, kernel, parameters, symmetric, wanted, conjugated)
        return self

    def _set(
        self,
        X: Array,
        Y: Array | None,
        kernel: str | KernelFunction,
        parameters: dict[str, Array],
        symmetric: bool | None,
        wanted: DType | None,
        conjugated: bool = False,
    ) -> None:
        xp = _array.namespace(X) if Y is None else _array.namespace(X, Y)
        self.kernel, self.one_set = kernel, Y is None
        if isinstance(kernel, str):
            dtype = xp.result_type(X.dtype, xp.complex64) if kernel == "helmholtz" else X.dtype
            symmetric = self.one_set
        else:
            tried, is_symmetric = _tried(kernel, X, Y, xp)
            dtype = X.dtype if tried is None else tried
            symmetric = self.one_set and (is_symmetric if symmetric is None else symmetric)
        if wanted is not None:
            dtype = xp.result_type(dtype, wanted)
        shape = (X.shape[0], X.shape[0] if Y is None else Y.shape[0])
        Y = X[:0, :] if Y is None else Y
        arrays = {"X": X, "Y": Y, **parameters}
        super().__init__(shape, arrays, dtype=dtype, symmetric=symmetric, conjugated=conjugated)

    def _check(self) -> None:
        """Refuse scaled points that overflow, and points without a value between them."""
        if not isinstance(self.kernel, str):
            return
        rows, cols = self._over_length
        for scaled in (rows, cols):
            if not np.isfinite(scaled).all():
                raise InputError(
                    f"length = {_array.to_numpy(self.length)}; expected one by which points can be "
                    "divided without overflow"
                )
        phase = float(_array.to_numpy(self.wavenumber)) * _span(rows, cols)
        if self.kernel == "helmholtz" and not phase <= MOST_PHASE:
            raise InputError(
                f"wavenumber times the largest distance over the length is about {phase:.3g}; "
                f"expected at most {MOST_PHASE:.0e}, beyond which rounding decides the phase"
            )
        if self.kernel in SINGULAR and (pair := _coincident(rows, None if self.one_set else cols)):
            i, j = pair
            raise InputError(
                f"{'points' if self.one_set else 'point'} {i} and "
                f"{j if self.one_set else f'{j} of points2'} coincide, where the kernel "
                f"{self.kernel!r} has no value; expected different points (drop one of them"
                + (")" if self.one_set else ", or leave points2 out where the sets are one)")
            )

    def at(self, rows: IntArray, cols: IntArray) -> "KernelMatrix":
        """The matrix of some of the points, or of all of them in another order.

        Rows and columns of one set of points are given alike.
        """
        xp = self.xp
        X, Y = self.X, self.Y
        X = xp.take(X, _array.integers(rows, xp, self.device), axis=0)
        if not self.one_set:
            Y = xp.take(Y, _array.integers(cols, xp, self.device), axis=0)
        return self._from_parts(X, Y, self.length, self.wavenumber, **self._static())

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Points of the rows on the host, (m, d)."""
        return np.ascontiguousarray(_array.to_numpy(self.X), np.float64)

    @cached_property
    def points2(self) -> NDArray[np.float64]:
        """Points of the columns on the host, (n, d)."""
        if self.one_set:
            return self.points
        return np.ascontiguousarray(_array.to_numpy(self.Y), np.float64)

    @cached_property
    def _over_length(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points divided by the length, on the host."""
        length = float(_array.to_numpy(self.length))
        with np.errstate(over="ignore"):
            rows = self.points / length
            return rows, rows if self.one_set else self.points2 / length

    @cached_property
    def compiled(self) -> CompiledKernel | None:
        """The kernel for compiled loops; None for functions, tensors and complex kernels."""
        if not (isinstance(self.kernel, str) and _array.is_numpy(self.xp)):
            return None
        from structmat.sources.compiled_kernels import CODES

        code = CODES.get(self.kernel)
        return None if code is None else CompiledKernel(code, *self._over_length, 1.0)

    def _evaluate(self, rows: IntArray, cols: IntArray) -> Any:
        if HAS_NUMBA and self.compiled is not None:
            from structmat.sources.compiled_kernels import kernel_block

            code, X, Y, scale = self.compiled
            out = np.empty((rows.size, cols.size))
            kernel_block(code, X, Y, rows, cols, scale, out)
            return out.astype(self.dtype, copy=False)
        xp = self.xp
        one = xp.take(self.X, _array.integers(rows, xp, self.device), axis=0)
        other = self.X if self.one_set else self.Y
        two = xp.take(other, _array.integers(cols, xp, self.device), axis=0)
        if not isinstance(self.kernel, str):
            return self.kernel(one, two)
        with np.errstate(over="ignore", under="ignore"):
            r = distances(one / self.length, two / self.length, xp)
            return values(self.kernel, r, self.wavenumber, xp)


def _span(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> float:
    """Bound on the distances between points of two sets."""
    if 0 in (*rows.shape, *cols.shape):
        return 0.0
    low, high = np.minimum(rows.min(0), cols.min(0)), np.maximum(rows.max(0), cols.max(0))
    return float((high - low).max() * math.sqrt(rows.shape[1]))


def _points(points: Any, name: str) -> Array:
    """Points as finite real numbers, a row a point."""
    points = host_array(points, name) if isinstance(points, (list, tuple)) else points
    if np.ndim(points) != 2:
        shape = tuple(np.shape(points))
        remedy = " (for numbers on a line points[:, None])" if len(shape) == 1 else ""
        raise ShapeError(f"{name} of shape {shape}; expected (n, d), a row a point{remedy}")
    given = as_content(points, name, 2)
    xp = _array.namespace(given)
    if _array.is_complex(given, xp):
        raise InputError(f"{name} have dtype {given.dtype}; expected real coordinates")
    if isinstance(given, np.ndarray) and given.dtype == np.float16:
        given = xp.astype(given, xp.float32)
    host = _array.to_numpy(given)
    if not np.isfinite(host).all():
        i = int(np.argwhere(~np.isfinite(host))[0, 0])
        raise InputError(
            f"{name}: point {i} is {host[i].tolist()}; expected finite coordinates (drop such "
            "points first)"
        )
    return given


def _parameter(value: Any, name: str, X: Array, xp: Any) -> Array:
    """A parameter of a named kernel, positive and finite, as an array without axes."""
    array = value if _array.belongs(value, xp) else None
    if array is None:
        if not isinstance(value, numbers.Real):
            raise InputError(f"{name} = {value!r}; expected a positive number")
        array = xp.asarray(float(value), dtype=X.dtype, device=_array.device(X))
    number = _array.to_numpy(array)
    if number.shape != () or number.dtype.kind == "c" or not 0 < float(number) < math.inf:
        raise InputError(f"{name} = {value!r}; expected a positive, finite number")
    return array


def _tried(kernel: KernelFunction, X: Array, Y: Array | None, xp: Any) -> tuple[DType | None, bool]:
    """Dtype of a function's values, None without points, and whether it looks symmetric."""
    rows, cols = (min(P.shape[0], TRIED) for P in (X, X if Y is None else Y))
    if not (rows and cols):
        return None, True
    one = X[:: -(-X.shape[0] // rows), :]
    two = one if Y is None else Y[:: -(-Y.shape[0] // cols), :]
    try:
        block = kernel(one, two)
        shape, dtype = tuple(block.shape), block.dtype
    except Exception as error:  # a function of the user's
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"the kernel function raised {type(error).__name__} for points of shapes "
            f"{tuple(one.shape)} and {tuple(two.shape)}: {reason}; expected an array of shape "
            f"{(one.shape[0], two.shape[0])}"
        ) from error
    if shape != (one.shape[0], two.shape[0]) or not _array.belongs(block, xp):
        raise ShapeError(
            f"the kernel function returned a {type(block).__qualname__} of shape {shape} for "
            f"points of shapes {tuple(one.shape)} and {tuple(two.shape)}; expected an array of "
            f"{_array.backend_name(xp)} of shape {(one.shape[0], two.shape[0])}: all pairs"
        )
    if not _array.is_inexact(dtype, xp):
        dtype = X.dtype
    host = _array.to_numpy(block)
    if Y is not None or host.dtype.kind not in "fc":
        return dtype, Y is None
    gap = np.abs(host - host.T).max() if np.isfinite(host).all() else 0.0
    return dtype, bool(gap <= EQUAL_ROUNDINGS * np.finfo(host.dtype).eps * np.abs(host).max())


def _coincident(
    rows: NDArray[np.float64], cols: NDArray[np.float64] | None
) -> tuple[int, int] | None:
    """Two different points of one set that are equal, or a point of each of two sets."""
    both = rows if cols is None else np.concatenate([rows, cols])
    if len(both) < 2:
        return None
    side = np.arange(len(both)) >= len(rows)
    order = np.lexsort((side, *both.T)) if both.shape[1] else np.arange(len(both))
    equal = (both[order[1:]] == both[order[:-1]]).all(axis=1)
    if cols is not None:
        equal &= side[order[1:]] != side[order[:-1]]
    found = np.flatnonzero(equal)
    if not found.size:
        return None
    i, j = int(order[found[0]]), int(order[found[0] + 1])
    return (i, j) if cols is None else (i, j - len(rows))
