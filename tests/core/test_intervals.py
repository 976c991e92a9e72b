"""Cyclic runs against brute force."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from structmat.intervals import (
    best_runs,
    coarse_runs,
    cover_count,
    entry_index,
    offsets,
    pack,
    positions,
    run_mask,
    union_size,
)
from structmat.kernels.layouts.panels import RunPattern, run_tiles

scores = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 9)),
    elements=st.integers(-5, 5).map(float),
)


@given(scores)
def test_best_runs_against_all_cyclic_runs(score):
    n = score.shape[1]
    total, start, width = best_runs(score)
    for row, t, s, w in zip(score, total, start, width, strict=True):
        sums = [sum(row[(l + i) % n] for i in range(x)) for l in range(n) for x in range(n + 1)]
        assert t == max(sums)
        assert t == sum(row[(s + i) % n] for i in range(w))
        assert 0 <= s < n
        assert 0 <= w <= n


def test_best_runs_of_all_small_rows():
    """Every row of four small scores: the greatest total, on a circle and on a line."""
    score = np.array(list(itertools.product((-2.0, 0.0, 1.0, 2.0), repeat=4)))
    begin, length = (np.ravel(x) for x in np.meshgrid(np.arange(4), np.arange(5)))
    sums = score @ run_mask(begin, length, 4).T
    straight = sums[:, begin + length <= 4].max(axis=1)
    for cyclic, greatest in ((True, sums.max(axis=1)), (False, straight)):
        total, start, width = best_runs(score, cyclic=cyclic)
        np.testing.assert_array_equal(total, greatest)
        np.testing.assert_array_equal((score * run_mask(start, width, 4)).sum(axis=1), greatest)
        np.testing.assert_array_equal(start + width > 4, (start + width > 4) & (total > straight))
        assert not start[total == 0].any()
        assert not width[total == 0].any()


@given(hnp.arrays(np.float64, (2, 30), elements=st.floats(-1e6, 1e6)))
def test_best_runs_with_rounding(score):
    total, start, width = best_runs(score)
    mask = run_mask(start, width, 30)
    scale = np.abs(score).sum() + 1
    np.testing.assert_allclose((score * mask).sum(axis=1), total, atol=1e-13 * scale)


@st.composite
def run_sets(draw):
    n, k = draw(st.integers(1, 40)), draw(st.integers(0, 8))
    start = draw(st.lists(st.integers(0, n - 1), min_size=k, max_size=k))
    width = draw(st.lists(st.integers(0, n), min_size=k, max_size=k))
    return np.asarray(start, np.int64), np.asarray(width, np.int64), n


@given(run_sets())
def test_masks_counts_positions_and_packing_agree(runs):
    start, width, n = runs
    mask = run_mask(start, width, n)
    brute = np.zeros((len(start), n), bool)
    for k, (s, w) in enumerate(zip(start, width, strict=True)):
        for i in range(w):
            brute[k, (s + i) % n] = True
    assert (mask == brute).all()
    full = np.arange(len(start) * n).reshape(len(start), n)
    packed = pack(full, start, width)
    assert (packed % n == positions(start, width, n)).all()
    runs = start, width, offsets(width), n
    index = entry_index(*runs, np.arange(len(start))[:, None], np.arange(n))
    assert (np.append(packed, -1)[index] == np.where(brute, full, -1)).all()


@given(run_sets())
def test_panels_hold_every_entry_once(runs):
    start, width, n = runs
    layout = RunPattern(start, width, n).layout()
    total = int(width.sum())
    seen = np.concatenate([e[e < total] for e in layout.entries])
    assert sorted(seen) == list(range(total))
    assert layout.bounds[0] == 0
    assert layout.bounds[-1] == n


@given(run_sets(), st.sampled_from([1, 4]))
def test_each_part_of_an_axis_has_the_runs_that_touch_it(runs, rank):
    start, width, n = runs
    covered = run_mask(start, width, n)
    parts = list(run_tiles(start, width, n, rank=rank))
    assert [a for a, _, _ in parts] == [0, *(b for _, b, _ in parts[:-1])]
    assert parts[-1][1] == n
    for a, b, touched in parts:
        assert touched.tolist() == np.flatnonzero(covered[:, a:b].any(axis=1)).tolist()
    count, area = RunPattern(start, width, n).outline()
    entries = RunPattern(start, width, n).layout().entries
    assert (count, area) == (len(entries), sum(e.size for e in entries))


@given(run_sets(), run_sets(), st.integers(1, 9))
def test_covered_entries_and_windows_are_those_of_the_masks(rows, cols, step):
    count = min(len(rows[0]), len(cols[0]))
    (top, high, m), (left, wide, n) = ((s[:count], w[:count], n) for s, w, n in (rows, cols))
    by_rows, by_cols = run_mask(top, high, m), run_mask(left, wide, n)
    weight = np.arange(1, count + 1) * 2**40
    found = cover_count((top, high), (left, wide), (m, n), weight)
    assert (found == (by_rows.T * weight) @ by_cols.astype(np.int64)).all()
    first, touched = coarse_runs(top, high, m, step)
    windows = -(-m // step)
    begins = np.arange(0, m, step)
    truth = np.logical_or.reduceat(by_rows, begins, axis=1)
    assert (run_mask(first, touched, windows) == truth).all()
    alive = high > 0
    assert union_size(top[alive], high[alive], m) == by_rows.any(axis=0).sum()


class Counted(np.ndarray):
    """Integers that count how many of them elementwise functions take."""

    taken = 0

    def __array_ufunc__(self, function, method, *inputs, out=(), **options):
        plain = [np.asarray(x) for x in inputs]
        if out:
            options["out"] = tuple(np.asarray(x) for x in out)
        Counted.taken += max(x.size for x in plain)
        found = getattr(function, method)(*plain, **options)
        return found.view(Counted) if isinstance(found, np.ndarray) else found


def test_layouts_of_many_runs_take_work_in_proportion(monkeypatch):
    """Four times as many runs, on four times the axis: not sixteen times the work."""

    def work(count, n):
        rng = np.random.default_rng(0)
        start, width = rng.integers(0, n, count), rng.integers(1, 40, count)
        pattern = RunPattern(start.view(Counted), width.view(Counted), n)
        monkeypatch.setattr(Counted, "taken", 0)
        pattern.outline()
        pattern.layout()
        return Counted.taken

    assert 3 * work(1000, 10_000) < work(4000, 40_000) < 5 * work(1000, 10_000)
