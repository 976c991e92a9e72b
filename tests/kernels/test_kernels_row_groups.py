"""Row groups: every stored scalar in its place, once, and counts that hold without making them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from patterns import PATTERNS, any_pattern, blocks, dense, runs, total

pytest.importorskip("numba")  # which cuts runs into row groups

from structmat.errors import InputError
from structmat.kernels.cpu.row_groups import RowGroups, aligned

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
def test_row_groups_hold_every_scalar_in_its_place(pattern, height):
    end = total(pattern)
    groups = RowGroups.of(pattern, height, end)
    assert groups.shape == pattern.shape
    found = np.zeros(pattern.shape, np.int64)
    covered = []
    for s, (begin, rows) in enumerate(zip(groups.begin, groups.rows, strict=True)):
        assert 0 < rows <= height
        covered.extend(range(begin, begin + rows))
        inside = slice(groups.ptr[s], groups.ptr[s + 1])
        column, cells = groups.column[inside], groups.entries[inside]
        assert column.size == np.unique(column).size, "two cells of one column"
        assert (cells < end).any(axis=1).all(), "an empty cell"
        assert (cells[:, rows:] == end).all(), "contents below the group"
        found[begin : begin + rows, column] = np.where(cells < end, cells + 1, 0)[:, :rows].T
    assert covered == list(range(pattern.shape[0]))
    assert groups.ptr[-1] == len(groups.column) == len(groups.entries)
    assert groups.column.dtype == np.int32
    assert groups.ptr[0] == 0
    np.testing.assert_array_equal(found, numbered(pattern))


@on_every_pattern
@given(any_pattern, st.integers(1, 20))
def test_cells_are_counted_without_making_them(pattern, height):
    assert pattern.cells(height) == len(RowGroups.of(pattern, height, total(pattern)).column)


@on_every_pattern
@given(any_pattern, HEIGHTS)
def test_outline_counts_panels_and_their_entries(pattern, height):
    assert RowGroups.of(pattern, height, total(pattern)).rows.sum() == pattern.shape[0]
    layout = pattern.layout()
    heights = np.diff(layout.bounds)
    areas = [h * c.size for h, c in zip(heights, layout.columns, strict=True)]
    count, area = pattern.outline()
    assert area == sum(areas)
    if pattern.shape[0]:  # an axis without rows has one empty panel or none
        assert count == len(areas)


@on_every_pattern
@given(any_pattern, HEIGHTS)
def test_row_groups_by_columns_are_the_same_cells(pattern, height):
    groups = RowGroups.of(pattern, height, total(pattern))
    ptr, group, order = groups.by_columns()
    assert ptr.size == pattern.shape[1] + 1
    assert sorted(order) == list(range(len(groups.column)))
    column = np.repeat(np.arange(pattern.shape[1]), np.diff(ptr))
    np.testing.assert_array_equal(groups.column[order], column)
    np.testing.assert_array_equal(np.searchsorted(groups.ptr, order, "right") - 1, group)
    same = np.diff(column) == 0
    assert (np.diff(group)[same] > 0).all(), "sums in another order than the groups'"


@given(any_pattern, HEIGHTS, st.sampled_from(["float32", "float64"]))
def test_filled_cells_are_aligned_and_padded_with_zeros(pattern, height, dtype):
    groups = RowGroups.of(pattern, height, total(pattern))
    cells = groups.filled(np.arange(1, total(pattern) + 1, dtype=dtype))
    assert cells.dtype == dtype
    assert not cells.size or cells.ctypes.data % 64 == 0
    expected = np.where(groups.entries < total(pattern), groups.entries + 1, 0)
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
            RowGroups.of(pattern, 6, total(pattern))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert f"{pattern.shape[0]}x{pattern.shape[1]}" in str(refused.value)
