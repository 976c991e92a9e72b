"""Theorem 2: the width bound in exact integers, the ends, and the contents between."""

from fractions import Fraction

import numpy as np
import pytest
from cases import build, contents
from hypothesis import given
from hypothesis import strategies as st
from test_contract import close

import structmat
from structmat import GBLR, ConversionError, interpolate


@st.composite
def runs(draw, n, k):
    starts = draw(st.lists(st.integers(0, n - 1), min_size=k, max_size=k))
    widths = draw(st.lists(st.integers(0, n), min_size=k, max_size=k))
    return starts, widths


@st.composite
def gblrs(draw, m, n):
    k = draw(st.integers(0, 6))
    (a, w), (b, x) = draw(runs(m, k)), draw(runs(n, k))
    c = contents("float64", draw(st.integers(0, 99)))
    return GBLR(a, w, c(sum(w)), b, x, c(sum(x)), shape=(m, n))


@st.composite
def pairs(draw):
    m, n = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    return draw(gblrs(m, n)), draw(gblrs(m, n))


weights = st.fractions(0, 1, max_denominator=97)
paths = st.sampled_from(["linear", "geodesic"])
matches = st.sampled_from([None, "assignment"])


@given(pairs(), weights, paths, matches)
def test_theorem_2_bound_in_integers(pair, alpha, path, match):
    A, B = pair
    C = interpolate(A, B, alpha, path=path, match=match)
    for name in ("row_width", "col_width"):
        mean = alpha * int(getattr(A, name).sum()) + (1 - alpha) * int(getattr(B, name).sum())
        assert int(getattr(C, name).sum()) <= mean
    assert C.cost <= C.storage <= alpha * A.storage + (1 - alpha) * B.storage
    assert C.num_blocks <= max(A.num_blocks, B.num_blocks)


@given(pairs(), paths, matches)
def test_the_ends_are_the_matrices(pair, path, match):
    A, B = pair
    for end, alpha in ((A, 1), (A, 1.0), (B, 0), (B, Fraction(0))):
        assert (interpolate(A, B, alpha, path=path, match=match).to_dense() == end.to_dense()).all()


@given(pairs(), weights, paths)
def test_paths_block_by_block(pair, alpha, path):
    """Every run and every entry against the formula, in plain Python."""
    A, B = pair
    C = interpolate(A, B, alpha, path=path)
    if alpha in (0, 1):
        return
    for axis, n in enumerate(A.shape):
        side = ("row", "col")[axis]
        for k in range(C.num_blocks):
            (l, w, a), (s, x, b) = (_block(M, side, k) for M in (A, B))
            width = int(np.floor(alpha * w + (1 - alpha) * x))
            l, s = (l if w else s), (s if x else l)
            start = int(np.floor(alpha * l + (1 - alpha) * s))
            if path == "geodesic":
                arc = min(l - s - n, l - s, l - s + n, key=abs)
                start = (s + int(np.floor(alpha * arc))) % n
            got_start, got_width, got = _block(C, side, k)
            assert got_width == width
            if not width:
                continue
            assert got_start == start
            full = float(alpha) * _spread(l, a, n) + float(1 - alpha) * _spread(s, b, n)
            expected = [full[(start + i) % n] for i in range(width)]
            np.testing.assert_allclose(got, expected, atol=1e-14)


def _block(M, side, k):
    if k >= M.num_blocks:
        return 0, 0, np.zeros(0)
    start, width = getattr(M, f"{side}_start"), getattr(M, f"{side}_width")
    begin = int(width[:k].sum())
    packed = (M.u if side == "row" else M.v)[begin : begin + int(width[k])]
    return int(start[k]), int(width[k]), packed


def _spread(start, packed, n):
    full = np.zeros(n)
    full[(start + np.arange(len(packed))) % n] = packed
    return full


def block(start, width, n=10):
    return GBLR([start], [width], np.ones(width), [start], [width], np.ones(width), shape=(n, n))


def test_geodesic_goes_the_shorter_way():
    A, B = block(9, 2), block(1, 2)
    assert interpolate(A, B, 0.5).row_start.tolist() == [5]
    assert interpolate(A, B, 0.5, path="geodesic").row_start.tolist() == [0]


def test_matching_pairs_what_lies_close():
    A, B = block(0, 2) + block(5, 3), block(5, 3) + block(0, 2)
    apart, together = interpolate(A, B, 0.5), interpolate(A, B, 0.5, match="assignment")
    assert (together.to_dense() == A.to_dense()).all()
    assert not (apart.to_dense() == A.to_dense()).all()


def test_a_missing_partner_shrinks_in_place():
    A, B = block(4, 4), GBLR([], [], [], [], [], [], shape=(10, 10))
    C = interpolate(A, B, Fraction(1, 2))
    assert (C.row_start.tolist(), C.row_width.tolist()) == ([4], [2])
    close(C.to_dense()[4:6, 4:6], np.full((2, 2), 0.25))


def test_a_run_of_one_position_keeps_its_place():
    C = interpolate(block(7, 1), block(2, 4), 0.5)
    assert (C.row_start.tolist(), C.row_width.tolist()) == ([4], [2])


@pytest.mark.parametrize("path", ["linear", "geodesic"])
def test_an_axis_may_be_empty(path):
    A = GBLR([0], [0], [], [1], [2], [1.0, 2.0], shape=(0, 4))
    B = GBLR([0], [0], [], [3], [2], [3.0, 4.0], shape=(0, 4))
    C = interpolate(A, B, 0.5, path=path)
    assert (C.shape, C.col_start.tolist(), C.col_width.tolist()) == ((0, 4), [2], [2])


def test_floats_are_taken_exactly():
    # In floating point 0.002 * 3 + 0.998 * 3 is below 3 and would floor to 2.
    assert 0.002 * 3 + (1 - 0.002) * 3 < 3
    A = block(3, 3)
    C = interpolate(A, A, 0.002)
    assert C.row_width.tolist() == [3]
    close(C.to_dense(), A.to_dense())


def test_other_kinds_are_converted_and_dtypes_promoted(backend):
    A, D = build("low_rank", "float32")
    B, E = build("gblr", "complex128")
    C = interpolate(A.to(backend), B.to(backend), 0.25)
    assert C.kind == "gblr"
    assert C.dtype == C.xp.complex128
    assert (D.shape, E.shape) == (C.shape, C.shape)
    for end, alpha in ((D, 1), (E, 0)):
        whole = interpolate(A.to(backend), B.to(backend), alpha)
        assert whole.dtype == C.dtype
        close(whole.to_dense(), end, "float32")
    on_numpy = interpolate(A, B, 0.25)
    close(C.to_dense(), on_numpy.to_dense(), "float32")


def test_kinds_without_an_exact_form_are_refused():
    A, B = build("monarch-rectangular")[0], build("gblr")[0]
    A = structmat.Monarch(A.L, A.R, shape=(7, 5))
    with pytest.raises(ConversionError, match=r"different orders.*expected one order for both"):
        interpolate(A, B, 0.5)
