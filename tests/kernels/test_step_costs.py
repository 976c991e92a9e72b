"""Choices of training steps on a device, from the figures that were measured there."""

import math

import pytest

from structmat.kernels.cost_model import steps
from structmat.kernels.cost_model.layers import Times
from structmat.kernels.cost_model.steps import assembles_masked, assembles_structure

H200 = "NVIDIA H200, bfloat16"
n, T = 4096, 8192


@pytest.mark.parametrize(
    ("terms", "by_assembly", "by_factors"),
    [(n, 1.61, 2.2), (n // 2, 1.37, 1.1), (n // 4, 1.26, 0.65)],
)
def test_steps_of_masked_blocks_take_what_was_measured(terms, by_assembly, by_factors):
    ns = steps.SHIPPED[H200]
    found = steps.masked_steps(ns, T, (n, n), terms)
    dense = ns.multiply * 3.0 * n * n * T
    assert [t / dense for t in found] == pytest.approx([by_assembly, by_factors], rel=0.06)


def test_masked_blocks_go_through_their_factors_where_that_is_measured_to_be_sooner():
    chosen = [assembles_masked(H200, T, (n, n), terms) for terms in (n, n // 2, n // 4)]
    assert chosen == [True, False, False]
    assert assembles_masked("another device, bfloat16", T, (n, n), 1)
    assert assembles_masked("NVIDIA H200, float32", T, (n, n), 1)


def times_of(share):
    """Times of tiles that hold a share of the weight, as they were measured."""
    return Times(dense_once=2e4, dense_each=44.0, once=2.5e5, each=2.0 + 59.0 * share, chunk=2**40)


def test_fixed_structures_train_by_kernels_where_these_promise_less():
    for terms in (0, n // 4, None):
        assert not assembles_structure(H200, T, (n, n), times_of(1 / 8), terms=terms)
        assert assembles_structure(H200, T, (n, n), times_of(1.0), terms=terms)
    # Starts of kernels outweigh few vectors.
    assert assembles_structure(H200, 16, (n, n), times_of(1 / 8), terms=0)
    # A product of as many columns as vectors' half outweighs the placing of contents.
    chosen = [assembles_structure(H200, T, (n, n), times_of(3 / 8), terms=K) for K in (0, n)]
    assert chosen == [True, False]
    unknown = Times(0.0, 0.0, math.inf, math.inf)
    for place in ("another device, bfloat16", H200):
        assert assembles_structure(place, T, (n, n), unknown, terms=None)
