"""Dense weights of sums of blocks, put together from contents in their places."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from device_steps import apart, inputs

import structmat
from structmat.nn import StructuredLinear
from structmat.nn.structured.placed import placement
from structmat.nn.structured.placed_pair import PairPlacement


@st.composite
def sums(draw):
    """Blocks of any runs, in other orders or not; few rows and columns, so that many meet."""
    shape = draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    count = draw(st.integers(1, 3)) + draw(st.integers(0, 9)) * draw(st.booleans())
    widths = [
        np.where(rng.random(count) < draw(st.floats(0, 1)), 1, rng.integers(0, n + 1, count))
        for n in shape
    ]
    starts = [rng.integers(0, n, count) for n in shape]
    u, v = (rng.standard_normal(w.sum()) for w in widths)
    A = structmat.GBLR(starts[0], widths[0], u, starts[1], widths[1], v, shape=shape)
    if draw(st.booleans()):
        P, Q = (structmat.Permutation(rng.permutation(n)) for n in shape)
        A = P @ A @ Q
    return A


@settings(max_examples=40)
@given(sums())
def test_placed_weights_are_those_of_the_blocks(A):
    A = A.to("torch")
    places = placement(A)
    if places is not None:
        torch.testing.assert_close(places.dense(A), A.to_dense(), rtol=1e-9, atol=1e-9)
        assert places.terms <= min(A.shape)
    else:
        assert A.num_blocks > min(A.shape) if A.kind == "gblr" else True


def places_of(starts, widths):
    """Places of blocks in a matrix of 4x8, from runs of rows and of columns."""
    (rows, cols), (down, across) = starts, widths
    u, v = np.ones(sum(down)), np.ones(sum(across))
    A = structmat.GBLR(rows, down, u, cols, across, v, shape=(4, 8))
    places = placement(A.to("torch"))
    assert isinstance(places, PairPlacement)
    return places.terms, 0 if places.single is None else len(places.single[0])


def test_entries_of_one_product_need_no_factor():
    # A strip of a row, one of a column, and a wide block.
    assert places_of(([0, 1, 0], [0, 7, 2]), ([1, 3, 2], [4, 1, 3])) == (1, 7)
    # The second strip meets the first.
    assert places_of(([0, 0], [0, 7]), ([1, 1], [4, 2])) == (1, 4)
    assert places_of(([0], [0]), ([2], [3])) == (1, 0)
    assert places_of(([0, 3], [0, 3]), ([2, 0], [3, 4])) == (1, 0)


@pytest.mark.parametrize("meeting", [False, True])
def test_sums_of_gradients_keep_their_precision(meeting, monkeypatch):
    """A content in 2000 entries has the sum of as many gradients."""
    apart(monkeypatch)
    rng, rows = np.random.default_rng(0), [*range(8), *[0] * meeting]
    v = rng.standard_normal(2000 * len(rows))
    ones = np.ones(len(rows), int)
    A = structmat.GBLR(rows, ones, 1.0 * ones, 0 * ones, 2000 * ones, v, shape=(8, 2000))
    layer, found = StructuredLinear(A).float(), []
    assert isinstance(placement(layer.matrix.bound()), PairPlacement) == meeting
    for half in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            layer(inputs(layer, 16).abs()).float().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    for exact, rough in zip(*found, strict=True):
        assert (exact - rough).norm() <= 0.02 * exact.norm()
