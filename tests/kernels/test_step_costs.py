"""Choices of training steps on a device, from the figures that were measured there."""

import pytest

from structmat.kernels.cost_model import steps
from structmat.kernels.cost_model.layers import LayerWork, Times
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


def times_of(place, scalars):
    return Times.of(LayerWork(0, 0.0, 0.0, compiled=scalars), (n, n), place)


def test_fixed_structures_train_by_kernels_where_these_promise_less():
    tiles, most = times_of(H200, n * n / 8), times_of(H200, n * n)
    for placed in (False, True):
        assert not assembles_structure(H200, T, (n, n), tiles, placed=placed)
        assert assembles_structure(H200, T, (n, n), most, placed=placed)
    # Starts of kernels outweigh few vectors.
    assert assembles_structure(H200, 16, (n, n), tiles, placed=True)
    unknown = times_of("another device, bfloat16", 16)
    assert assembles_structure("another device, bfloat16", T, (n, n), unknown, placed=False)
