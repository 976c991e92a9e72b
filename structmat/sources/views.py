"""Views of a source: on NumPy, and with rows and columns in other orders.

Entries that a view evaluates count as those of the source.
"""

from typing import Any

import numpy as np

from structmat import _array
from structmat.intervals import IntArray
from structmat.sources.entries import Entries
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.source import EntryFunction, Source


def on_host(source: Source) -> Source:
    """A source of any library as one whose blocks are NumPy arrays.

    Named kernels are evaluated on NumPy; functions stay where they are.
    """
    if _array.is_numpy(source.xp):
        return source
    if isinstance(source, KernelMatrix) and isinstance(source.kernel, str):
        return source.to("numpy").counted_by(source)
    return _view(source, lambda rows, cols: _array.to_numpy(source.block(rows, cols)))


def reordered(source: Source, rows: IntArray, cols: IntArray) -> Source:
    """A source on NumPy with its rows and columns in other orders.

    Examples
    --------
    >>> K = Entries(lambda i, j: 10.0 * i[:, None] + j, (2, 2))
    >>> reordered(K, np.array([1, 0]), np.array([0, 1])).toarray()
    array([[10., 11.],
           [ 0.,  1.]])
    """
    if isinstance(source, KernelMatrix) and (not source.one_set or np.array_equal(rows, cols)):
        return source.at(rows, cols).counted_by(source)
    return _view(
        source, lambda some, others: source.block(rows[some], cols[others]), rows=rows, cols=cols
    )


def part(source: Source, rows: IntArray, cols: IntArray) -> Source:
    """A source of some rows and columns of another one, in its library and on its device."""
    alike = np.array_equal(rows, cols)
    if isinstance(source, KernelMatrix):
        return source.at(rows, cols, one_set=source.one_set and alike).counted_by(source)
    points, points2 = source.points, source.points2
    one_set = points2 is points and alike
    points = None if points is None else points[rows]
    return Entries._from_parts(
        source._leaves()[0],
        function=_Chosen(source.function, rows, cols),
        size=(rows.size, cols.size),
        points=points,
        points2=points if one_set or points2 is None else points2[cols],
        symmetric=source.symmetric and alike,
        hermitian=source.hermitian and alike,
        conjugated=source.conjugated,
    ).counted_by(source)


class _Chosen:
    """A function of entries at some rows and columns of its own, which pickles as it does."""

    def __init__(self, function: EntryFunction, rows: IntArray, cols: IntArray) -> None:
        self._function, self._rows, self._cols = function, rows, cols

    def __call__(self, rows: IntArray, cols: IntArray) -> Any:
        return self._function(self._rows[rows], self._cols[cols])


def _view(
    source: Source,
    function: EntryFunction,
    *,
    rows: IntArray | None = None,
    cols: IntArray | None = None,
) -> Source:
    points, points2 = source.points, source.points2
    alike = rows is cols or (rows is not None and cols is not None and np.array_equal(rows, cols))
    if points is not None and rows is not None:
        same = points2 is points and alike
        points, points2 = points[rows], None if same or points2 is None else points2[cols]
        points2 = points if same else points2
    dtype = _array.host_dtype(source.dtype, source.xp)
    return Entries._from_parts(
        np.zeros(0, dtype),
        function=function,
        size=source.shape,
        points=points,
        points2=points2,
        symmetric=source.symmetric and alike,
        hermitian=source.hermitian and alike,
        conjugated=False,
    )
