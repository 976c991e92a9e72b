"""Entries of a structured matrix: its diagonal, trace and norms, and parts of it.

A class may say how structure gives them: `_pick(rows, cols)` returns single entries, `_part(rows,
cols)` the submatrix of two index arrays, `_norm(ord)` a norm; each may be NotImplemented instead.
Products with unit vectors, some at a time, give what a class does not say.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse.linalg import svds

from structmat import _array
from structmat._array import Array
from structmat.contract.operators import Operators
from structmat.errors import InputError, ShapeError
from structmat.intervals import IntArray
from structmat.kinds import kind_class

#: Most entries of the columns that are computed at once.
_COLUMNS_ENTRIES = 2**22
#: A matrix with a shorter side has its spectral norm from all singular values.
_SHORT_SIDE = 400


class EntryAccess(Operators):
    """Abstract operator whose entries, parts and norms follow from structure or products."""

    @_array.on_own_device
    def diagonal(self) -> Array:
        """Main diagonal, shape (min(m, n),).

        From structure for all kinds but products of several matrices, which take min(m, n)
        products with unit vectors. Permutations and diagonal matrices around a matrix make no
        such product. Factors that are sums are multiplied term by term, where each pair of terms
        has its entries by structure: one of low rank, or all but one diagonal.

        Examples
        --------
        >>> import structmat
        >>> structmat.Diagonal([1.0, 2.0]).diagonal()
        array([1., 2.])
        """
        at = np.arange(min(self.shape))
        return self._entries_at(at, at)

    @_array.on_own_device
    def trace(self) -> Array:
        """Sum of the main diagonal, at the cost of `diagonal`; an array without axes.

        Examples
        --------
        >>> import structmat
        >>> float(structmat.Identity(3).trace())
        3.0
        """
        return self.xp.sum(self.diagonal())

    @_array.on_own_device
    def norm(self, ord: Any = "fro") -> float:
        """Norm of the matrix, never an estimate.

        Parameters
        ----------
        ord : {"fro", 1, numpy.inf, 2}
            Frobenius norm (also None), largest sum of a column or of a row of absolute values,
            or largest singular value.

        Returns
        -------
        float

        Raises
        ------
        InputError
            If `ord` is none of these.

        Notes
        -----
        Structure gives the Frobenius norm of low-rank, block-low-rank, block-sparse, diagonal
        matrices and permutations in O(storage · rank). Above 2**20 entries, so it does for Monarch
        and GBLR matrices, and for sums of terms of low rank, diagonals and permutations with at
        most one other term, where terms do not cancel. Other norms take n products with unit
        vectors (m for infinity), and no dense matrix. The spectral norm takes the singular values
        of the dense form where min(m, n) is at most 400, or else Lanczos iterations to the
        precision of the contents.

        Examples
        --------
        >>> import structmat
        >>> A = structmat.Diagonal([3.0, -4.0])
        >>> A.norm(), A.norm(1), A.norm(2)
        (5.0, 4.0, 4.0)
        """
        ord = "fro" if ord is None else ord
        if isinstance(ord, bool) or not isinstance(ord, (str, numbers.Real)) or ord not in _NORMS:
            raise InputError(
                f"ord = {ord!r}; expected 'fro', 1, 2 or inf (for others numpy.linalg.norm of "
                "A.to_dense())"
            )
        if 0 in self.shape:
            return 0.0
        special = getattr(self, "_norm", None)
        found = NotImplemented if special is None else special(ord)
        return float(_NORMS[ord](self) if found is NotImplemented else found)

    @_array.on_own_device
    def __getitem__(self, key: Any) -> Any:
        """Entry, row, column, entries at pairs of indices, or submatrix, as NumPy's arrays.

        ``A[i, j]`` is an entry, ``A[i]`` and ``A[i, :]`` a row, ``A[:, j]`` a column, and
        ``A[rows, cols]`` with two index arrays the entries of those pairs, and ``A[mask]`` with
        a mask (m, n) those where it is True: arrays. Slices, alone or with one index array or mask
        of an axis, give a matrix: of the same kind where that is exact, lazy otherwise.
        """
        row_key, col_key = _pair(key, self.shape)
        rows, cols = (
            _positions(k, size, axis)
            for axis, (k, size) in enumerate(zip((row_key, col_key), self.shape, strict=True))
        )
        scalars = [np.ndim(at) == 0 for at in (rows, cols)]
        slices = [isinstance(k, slice) for k in (row_key, col_key)]
        if not any(slices):
            i, j = _paired(rows, cols)
            return self.xp.reshape(self._entries_at(i.ravel(), j.ravel()), i.shape)
        if scalars[0]:
            return self._vector(int(rows), cols, adjoint=True)
        if scalars[1]:
            return self._vector(int(cols), rows, adjoint=False)
        if rows.ndim != 1 or cols.ndim != 1:
            raise ShapeError(
                f"indices of shapes {rows.shape} and {cols.shape}; expected one axis beside a slice"
            )
        return self._submatrix(rows, cols)

    def _vector(self, at: int, kept: IntArray, *, adjoint: bool) -> Array:
        """A column, or a row, at some of its positions."""
        xp = self.xp
        (unit,) = self._units(np.asarray([at]), self.shape[0] if adjoint else self.shape[1])
        y = self.rmatmat(unit) if adjoint else self.matmat(unit)
        y = xp.take(y[:, 0], _array.integers(kept, xp, self.device), axis=0)
        return _array.conj(y, xp) if adjoint else y

    def _submatrix(self, rows: IntArray, cols: IntArray) -> Any:
        whole = [
            np.array_equal(at, np.arange(size))
            for at, size in zip((rows, cols), self.shape, strict=True)
        ]
        if all(whole):
            return self
        special = getattr(self, "_part", None)
        found = NotImplemented if special is None else special(rows, cols)
        if found is not NotImplemented:
            return found
        ranks = [_ranks(at) for at in (rows, cols)]
        if any(rank is not None for rank in ranks):
            return self._reordered(rows, cols, ranks)
        part = self if whole[0] else self._selection(rows, self.shape[0]) @ self
        return part if whole[1] else part @ self._selection(cols, self.shape[1]).H

    def _reordered(self, rows: IntArray, cols: IntArray, ranks: list[IntArray | None]) -> Any:
        """The part with its rows and columns in their own order, and permutations around it."""
        sides = zip((rows, cols), ranks, strict=True)
        part = self._submatrix(*(at if rank is None else np.sort(at) for at, rank in sides))
        left, right = (
            None
            if rank is None
            else kind_class("permutation")(_array.integers(rank, self.xp, self.device))
            for rank in ranks
        )
        part = part if left is None else left @ part
        return part if right is None else part @ right.H

    def _selection(self, at: IntArray, size: int) -> Any:
        """Matrix that picks entries of a vector: one a row, so its cost is their number."""
        none = self.xp.zeros(0, dtype=self.dtype, device=self.device)
        # Real, whatever the matrix is: half as much memory, and no imaginary part.
        dtype = self.xp.real(none).dtype if _array.is_complex(self, self.xp) else self.dtype
        ones = self.xp.ones((at.size, 1, 1), dtype=dtype, device=self.device)
        make = kind_class("block_sparse")
        return make(ones, np.arange(at.size), at, shape=(at.size, size))

    def _entries_at(self, rows: IntArray, cols: IntArray) -> Array:
        """Entries (rows[k], cols[k]), shape (k,)."""
        special = getattr(self, "_pick", None)
        picked = NotImplemented if special is None else special(rows, cols)
        if picked is not NotImplemented:
            return picked
        xp, found = self.xp, [self.xp.zeros(0, dtype=self.dtype, device=self.device)]
        step = max(1, _COLUMNS_ENTRIES // max(self.shape[0], 1))
        for first in range(0, rows.size, step):
            i, j = rows[first : first + step], cols[first : first + step]
            (units,) = self._units(j, self.shape[1])
            block = xp.reshape(self.matmat(units), (-1,))
            at = _array.integers(i * j.size + np.arange(j.size), xp, self.device)
            found.append(xp.take(block, at, axis=0))
        return xp.concat(found)

    def _units(self, at: IntArray, size: int, step: int | None = None) -> Iterator[Array]:
        """Unit vectors as columns, `step` of them at a time; all at once by default."""
        xp = self.xp
        index = xp.arange(size, device=self.device)
        for first in range(0, at.size, step or max(at.size, 1)):
            some = _array.integers(at[first : first + (step or at.size)], xp, self.device)
            yield xp.astype(index[:, None] == some[None, :], self.dtype)

    def _columns(self, reduce: Callable[[np.ndarray], np.ndarray], *, adjoint: bool) -> np.ndarray:
        """A number for each column of the matrix, or of its adjoint, some columns at a time."""
        m, n = self.shape[::-1] if adjoint else self.shape
        product = self.rmatmat if adjoint else self.matmat
        units = self._units(np.arange(n), n, max(1, _COLUMNS_ENTRIES // max(m, n)))
        return np.concatenate([reduce(np.abs(_array.to_numpy(product(E)))) for E in units])


def _pair(key: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Indices of rows and of columns; one index alone is that of rows, or a mask of entries."""
    for part in key if isinstance(key, tuple) else (key,):
        if part is Ellipsis or part is None:
            what, remedy = (
                ("Ellipsis", "write : for all rows or columns")
                if part is Ellipsis
                else ("None, a new axis", "take A.to_dense()[…]")
            )
            raise InputError(
                f"index {what}; expected one index of rows and one of columns, "
                f"A[rows, columns] ({remedy})"
            )
    if not isinstance(key, tuple):
        mask = key if hasattr(key, "dtype") and np.shape(key) == shape else None
        if mask is not None and np.asarray(mask).dtype == bool:
            rows, cols = np.nonzero(np.asarray(mask))
            return rows, cols
        return key, slice(None)
    if len(key) != 2:
        raise ShapeError(f"{len(key)} indices; expected two, A[rows, columns]")
    return key


def _positions(key: Any, size: int, axis: int) -> Any:
    """Positions on an axis that an index names: an integer, or an array of them."""
    if isinstance(key, slice):
        return np.arange(size)[key]
    at = np.asarray(key)
    if at.dtype == bool and at.shape == (size,):
        return np.flatnonzero(at)
    if at.size == 0 and at.dtype.kind == "f":
        at = at.astype(np.int64)
    if at.dtype.kind not in "iu":
        raise InputError(
            f"index {key!r} on axis {axis}; expected an integer, a slice, integers, or a mask of "
            f"shape ({size},)"
        )
    at = at.astype(np.int64)
    if at.size and not (-size <= at.min() and at.max() < size):
        raise InputError(f"index {key!r} on axis {axis}; expected {-size} to {size - 1}")
    return np.where(at < 0, at + size, at)


def _ranks(at: IntArray) -> IntArray | None:
    """Rank of each index among different ones; None if they increase, or some are equal."""
    order = np.argsort(at, kind="stable")
    steps = np.diff(at[order])
    return None if (np.diff(at) > 0).all() or (steps == 0).any() else np.argsort(order)


def _paired(rows: IntArray, cols: IntArray) -> Any:
    """Positions of rows and of columns, each repeated along the other's axes."""
    try:
        return np.broadcast_arrays(rows, cols)
    except ValueError:
        raise ShapeError(
            f"indices of shapes {np.shape(rows)} and {np.shape(cols)}; expected one column for "
            "each row (for all pairs of them numpy.ix_(rows, columns))"
        ) from None


def _scaled_root(part: np.ndarray) -> np.ndarray:
    """Euclidean norm of each column of absolute values, without overflow."""
    largest = part.max(axis=0, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    total = np.square(part / scale, dtype=np.float64).sum(axis=0)
    return np.asarray(scale * np.sqrt(total))


def _frobenius(A: EntryAccess) -> float:
    columns = A._columns(_scaled_root, adjoint=A.shape[0] < A.shape[1])
    return float(_scaled_root(columns[:, None])[0])


def _largest_sum(A: EntryAccess, *, adjoint: bool) -> float:
    return float(A._columns(lambda part: part.sum(axis=0), adjoint=adjoint).max())


def _spectral(A: EntryAccess) -> float:
    if min(A.shape) <= _SHORT_SIDE:
        return float(np.linalg.norm(A.toarray(), 2))
    largest = svds(A.to("numpy"), k=1, return_singular_vectors=False, rng=0)
    return float(largest[0])


_NORMS: dict[Any, Callable[[EntryAccess], float]] = {
    "fro": _frobenius,
    1: lambda A: _largest_sum(A, adjoint=False),
    math.inf: lambda A: _largest_sum(A, adjoint=True),
    2: _spectral,
}


def factored_norm(U: Array, V: Array, ord: Any) -> float:
    """Frobenius or spectral norm of U V^H, for factors (m, r) and (n, r)."""
    triangles = [np.asarray(np.linalg.qr(_array.to_numpy(F), mode="r")) for F in (U, V)]
    middle = triangles[0] @ triangles[1].conj().T
    return float(np.linalg.norm(middle, ord)) if middle.size else 0.0
