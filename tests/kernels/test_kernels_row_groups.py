"""Strips: every stored scalar in its place, once, and counts that hold without making them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from patterns import PATTERNS, any_pattern, blocks, dense, runs, total

pytest.importorskip("numba")  # which cuts runs into strips

from structmat.errors import InputError
from structmat.kernels.cpu.row_groups import Strips, aligned

HEIGHTS = st.sampled_from([1, 2, 4, 6, 8, 16])


def on_every_pattern(test):
    """Run a Hypothesis test on every named pattern as well, with two heights."""
    for pattern in PATTERNS.values():
        for height in (6, 16):
            test = example(pattern, height)(test)
    return test


def numbered(pattern):
    """The dense twin whose entries are positions in the contents, counted from 1."""
    return dense(pattern, np.arange(1, total(pattern) + 1))


@on_every_pattern
@given(any_pattern, HEIGHTS)
def test_strips_hold_every_scalar_in_its_place(pattern, height):
    end = total(pattern)
    strips = Strips.of(pattern, height, end)
    assert strips.shape == pattern.shape
    found = np.zeros(pattern.shape, np.int64)
    covered = []
    for s, (begin, rows) in enumerate(zip(strips.begin, strips.rows, strict=True)):
        assert 0 < rows <= height
        covered.extend(range(begin, begin + rows))
        inside = slice(strips.ptr[s], strips.ptr[s + 1])
        column, cells = strips.column[inside], strips.entries[inside]
        assert column.size == np.unique(column).size, "two cells of one column"
        assert (cells < end).any(axis=1).all(), "an empty cell"
        assert (cells[:, rows:] == end).all(), "contents below the strip"
        found[begin : begin + rows, column] = np.where(cells < end, cells + 1, 0)[:, :rows].T
    assert covered == list(range(pattern.shape[0]))
    assert strips.ptr[-1] == len(strips.column) == len(strips.entries)
    assert strips.column.dtype == np.int32
    assert strips.ptr[0] == 0
    np.testing.assert_array_equal(found, numbered(pattern))


@on_every_pattern
@given(any_pattern, st.integers(1, 20))
def test_cells_are_counted_without_making_them(pattern, height):
    assert pattern.cells(height) == len(Strips.of(pattern, height, total(pattern)).column)


@on_every_pattern
@given(any_pattern, HEIGHTS)
def test_outline_counts_panels_and_their_entries(pattern, height):
    assert Strips.of(pattern, height, total(pattern)).rows.sum() == pattern.shape[0]
    layout = pattern.layout()
    heights = np.diff(layout.bounds)
    areas = [h * c.size for h, c in zip(heights, layout.columns, strict=True)]
    count, area = pattern.outline()
    assert area == sum(areas)
    if pattern.shape[0]:  # an axis without rows has one empty panel or none
        assert count == len(areas)


@on_every_pattern
@given(any_pattern, HEIGHTS)
def test_strips_by_columns_are_the_same_cells(pattern, height):
    strips = Strips.of(pattern, height, total(pattern))
    ptr, strip, order = strips.by_columns()
    assert ptr.size == pattern.shape[1] + 1
    assert sorted(order) == list(range(len(strips.column)))
    column = np.repeat(np.arange(pattern.shape[1]), np.diff(ptr))
    np.testing.assert_array_equal(strips.column[order], column)
    np.testing.assert_array_equal(np.searchsorted(strips.ptr, order, "right") - 1, strip)
    same = np.diff(column) == 0
    assert (np.diff(strip)[same] > 0).all(), "sums in another order than the strips'"


@given(any_pattern, HEIGHTS, st.sampled_from(["float32", "float64"]))
def test_filled_cells_are_aligned_and_padded_with_zeros(pattern, height, dtype):
    strips = Strips.of(pattern, height, total(pattern))
    cells = strips.filled(np.arange(1, total(pattern) + 1, dtype=dtype))
    assert cells.dtype == dtype
    assert not cells.size or cells.ctypes.data % 64 == 0
    expected = np.where(strips.entries < total(pattern), strips.entries + 1, 0)
    np.testing.assert_array_equal(cells, expected)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1,), (5, 3), (7, 16)])
def test_aligned_arrays(shape):
    kept = [aligned(shape, "float64") for _ in range(8)]
    for x in kept:
        assert (x.shape, x.dtype) == (shape, np.float64)
        assert not x.size or x.ctypes.data % 64 == 0
        assert x.flags.c_contiguous
        x[...] = 1


TOO_LONG = [
    runs([5], [3], 2**31),
    blocks([0], [0], (4, 4), (8, 2**31)),
    blocks([2**29], [0], (4, 4), (2**31 + 1, 8)),
]


@pytest.mark.parametrize("pattern", TOO_LONG)
def test_what_32_bits_cannot_count_is_refused_before_memory_is_asked_for(pattern):
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"expected at most 2147483647 .*'panels'") as refused:
            Strips.of(pattern, 6, total(pattern))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert f"{pattern.shape[0]}x{pattern.shape[1]}" in str(refused.value)
