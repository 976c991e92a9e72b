"""Cyclic runs against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from structmat.intervals import best_runs, cover_count, entry_index, pack, positions, run_mask
from structmat.kernels.layouts.panels import RunPattern

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
    assert (cover_count(start, width, n) == brute.sum(axis=0)).all()
    full = np.arange(len(start) * n).reshape(len(start), n)
    packed = pack(full, start, width)
    assert (packed % n == positions(start, width, n)).all()
    index = entry_index(start, width, n, np.arange(len(start))[:, None], np.arange(n))
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
