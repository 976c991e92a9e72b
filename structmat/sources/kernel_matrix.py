"""Kernel matrices of points: named kernels, or any vectorised function."""

import numbers
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array, DType
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.project.compiled import HAS_NUMBA
from structmat.sources.kernel_checks import (
    KernelFunction,
    check_values,
    checked_parameter,
    checked_points,
    tried,
)
from structmat.sources.named_kernels import NAMES, SLOPES, distances, values
from structmat.sources.source import CompiledKernel, Source


class KernelMatrix(Source, kind="kernel"):
    """Matrix of a kernel at all pairs of points, whose entries are evaluated when needed.

    Parameters
    ----------
    points : array, shape (m, d)
        Points of the rows, one each.
    kernel : str or callable
        Name of a kernel of ``s = r / length`` for the Euclidean distance r: ``"exponential"``,
        exp(-s); ``"matern32"``; ``"matern52"``; ``"gaussian"``, exp(-s²/2); ``"inverse"``, 1/s;
        ``"helmholtz"``, exp(i k s)/s, complex, for wavenumber k. With ``" slope"`` behind one of
        the first four, its derivative by the logarithm of the length. Or a function
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
    torch, gradients evaluate the blocks again, one after another. Where Numba is installed, named
    real kernels of NumPy points are evaluated in compiled loops; the numbers agree to rounding.

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
        X = checked_points(points, "points")
        Y = None if points2 is None or points2 is points else checked_points(points2, "points2")
        if Y is not None and Y.shape[1] != X.shape[1]:
            raise ShapeError(
                f"points of {X.shape[1]} coordinates and points2 of {Y.shape[1]}; expected as many"
            )
        named = isinstance(kernel, str)
        if not (callable(kernel) or kernel in NAMES or kernel in SLOPES.values()):
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
            parameters[name] = checked_parameter(value, name, X, xp)
        if (named and symmetric is False) or (Y is not None and symmetric):
            raise InputError(
                f"symmetric = {symmetric} for {'two sets of points' if Y is not None else kernel}; "
                "expected it left out"
            )
        self._set(X, Y, kernel, parameters, symmetric, None)
        if isinstance(kernel, str):
            rows, cols = self._over_length
            others = None if self.one_set else cols
            check_values(kernel, rows, others, self.length, self.wavenumber)

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
            found, is_symmetric = tried(kernel, X, Y, xp)
            dtype = X.dtype if found is None else found
            symmetric = self.one_set and (is_symmetric if symmetric is None else symmetric)
        if wanted is not None:
            dtype = xp.result_type(dtype, wanted)
        shape = (X.shape[0], X.shape[0] if Y is None else Y.shape[0])
        Y = X[:0, :] if Y is None else Y
        arrays = {"X": X, "Y": Y, **parameters}
        super().__init__(shape, arrays, dtype=dtype, symmetric=symmetric, conjugated=conjugated)

    def at(self, rows: IntArray, cols: IntArray, *, one_set: bool | None = None) -> "KernelMatrix":
        """The matrix of some of the points, or of all of them in another order.

        Rows and columns of one set of points are given alike, unless they shall be two sets.
        """
        xp, one_set = self.xp, self.one_set if one_set is None else one_set
        X, Y = self.X, self.X if self.one_set else self.Y
        X = xp.take(X, _array.integers(rows, xp, self.device), axis=0)
        Y = self.Y[:0, :] if one_set else (
            xp.take(Y, _array.integers(cols, xp, self.device), axis=0)
        )  # fmt: skip
        static = {**self._static(), "one_set": one_set}
        static["symmetric"] = self.symmetric and one_set
        found = self._from_parts(X, Y, self.length, self.wavenumber, **static)
        return found if found.dtype == self.dtype else found.astype(self.dtype)

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
