"""Layers and allocations of the experiments: their mathematics against dense matrices."""

import itertools
import math

import pytest
import torch
from torch import nn

from benchmarks.models.alds import alds_ranks, convert_to_ranks_
from benchmarks.models.blast import BlastLinear, blast_blocks, blast_rank, convert_to_blast_
from benchmarks.models.blast_fit import factorise
from benchmarks.results import BenchmarkError
from structmat.nn import StructuredLinear, cost


def random(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blast(n=12, m=8, blocks=2, rank=3, **options):
    return BlastLinear(n, m, blocks=blocks, rank=rank, generator=seeded(), **options).double()


def block(layer, i, j):
    """W_ij as the paper defines it."""
    return layer.U[i] @ torch.diag(layer.s[i, j]) @ layer.V[j].T


def relative(W, approximation):
    return ((W - approximation).norm() / W.norm()).item()


def chain():
    """Two layers to convert, of different shapes, and one to leave."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16), nn.Linear(16, 4))


def is_inner(name, _module):
    return name in ("0", "2")


# BLAST


@pytest.mark.parametrize(("n", "m", "blocks"), [(12, 8, 2), (8, 12, 4), (6, 6, 1), (9, 6, 3)])
def test_blast_weight_is_made_of_the_defined_blocks(n, m, blocks):
    layer = blast(n, m, blocks)
    rows = [torch.cat([block(layer, i, j) for j in range(blocks)], 1) for i in range(blocks)]
    torch.testing.assert_close(layer.dense(), torch.cat(rows))


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 12), (0, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_blast_multiplies_as_its_dense_weight(shape, bias):
    layer, x = blast(bias=bias), random(*shape)
    expected = nn.functional.linear(x, layer.dense(), layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_blast_gradients():
    layer, x = blast(6, 4, 2, 2), random(3, 6)
    names = list(dict(layer.named_parameters()))

    def product(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    values = [p.detach().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(product, (x.requires_grad_(), *values))


@pytest.mark.parametrize(("n", "m", "blocks", "rank"), [(12, 8, 2, 3), (16, 16, 4, 5)])
def test_blast_cost_counts_multiplications_and_parameters(n, m, blocks, rank):
    layer = blast(n, m, blocks, rank)
    products = blocks * (n // blocks) * rank + blocks**2 * rank + blocks * rank * (m // blocks)
    stored = sum(p.numel() for p in (layer.U, layer.V, layer.s))
    assert layer.cost == rank * (m + n + blocks**2) == products == stored


def test_blast_with_ones_is_low_rank_and_with_a_diagonal_block_diagonal():
    layer = blast()
    with torch.no_grad():
        layer.s.fill_(1.0)
        low_rank = layer.U.flatten(0, 1) @ layer.V.flatten(0, 1).T
        torch.testing.assert_close(layer.dense(), low_rank)
        layer.s.mul_(torch.eye(2).unsqueeze(2))
        diagonal = torch.block_diag(*(layer.U @ layer.V.mT))
        torch.testing.assert_close(layer.dense(), diagonal)


def test_blast_starts_as_large_as_a_linear_layer():
    n = 96
    layers = [BlastLinear(n, 64, blocks=4, rank=24, generator=seeded(i)) for i in range(20)]
    squares = [layer.dense().square().mean().item() for layer in layers]
    assert sum(squares) / len(squares) == pytest.approx(1 / (3 * n), rel=0.03)
    bias = torch.cat([layer.bias.detach() for layer in layers])
    assert bias.abs().max() <= n**-0.5
    assert bias.square().mean().item() == pytest.approx(1 / (3 * n), rel=0.1)
    again = BlastLinear(n, 64, blocks=4, rank=24, generator=seeded(0))
    assert torch.equal(again.dense(), layers[0].dense())


@pytest.mark.parametrize(
    ("W", "rank"),
    [
        (blast(32, 24, 4, 3).dense().detach(), 3),
        (random(24, 3) @ random(3, 32, seed=1), 3),
        # Rank 6 would do, but descent ends at a local minimum there.
        (torch.block_diag(*random(4, 6, 8)), 12),
    ],
    ids=["blast", "low rank", "block diagonal"],
)
def test_compression_finds_what_is_exactly_blast(W, rank):
    # Other random starts may end at a local minimum.
    layer = BlastLinear.from_weight(W, blocks=4, rank=rank, generator=seeded(1))
    assert relative(W, layer.dense()) < 1e-3
    assert layer.bias is None
    assert layer.U.dtype == torch.float64


def test_compression_keeps_scale_and_bias():
    W, bias = random(24, 32), random(24)
    plain = BlastLinear.from_weight(W, bias, blocks=4, rank=6, generator=seeded())
    scaled = BlastLinear.from_weight(100 * W, bias, blocks=4, rank=6, generator=seeded())
    torch.testing.assert_close(scaled.dense(), 100 * plain.dense())
    assert torch.equal(plain.bias, bias)


def test_compression_is_better_than_truncation_at_equal_rank():
    W = random(32, 32)
    layer = BlastLinear.from_weight(W, blocks=4, rank=6, generator=seeded())
    left = torch.linalg.svdvals(W)[6:].norm() / W.norm()
    # It has 96 numbers more, and the best matrix of rank 6 is among its candidates.
    assert relative(W, layer.dense()) < left - 0.03


def test_compression_goes_on_with_its_steps():
    W = random(16, 16)
    errors = []
    for steps in (0, 10, 300):
        layer = BlastLinear.from_weight(W, blocks=2, rank=4, steps=steps, generator=seeded())
        errors.append(relative(W, layer.dense()))
    assert errors[0] == pytest.approx(1, abs=1e-4)
    assert errors == sorted(errors, reverse=True)


def test_compression_in_one_block_ends_at_the_truncated_decomposition():
    W = random(20, 16)
    layer = BlastLinear.from_weight(W, blocks=1, rank=5, generator=seeded())
    least = float(torch.linalg.svdvals(W)[5:].norm() / W.norm())
    assert relative(W, layer.dense()) == pytest.approx(least, rel=1e-3)


def test_factors_share_the_scale():
    U, V, s = factorise(1e4 * random(24, 24), 2, 4, 50, 0.1, seeded())
    assert 0.2 < U.norm() / V.norm() < 5
    assert 0.1 < s.square().mean() < 10


@pytest.mark.parametrize(("cap", "blocks"), [(75, 2), (72, 2), (71, 2), (200, 4)])
def test_blast_rank_uses_the_cap(cap, blocks):
    rank = blast_rank((8, 12), cap, blocks)
    one = 8 + 12 + blocks**2
    assert rank * one <= cap < (rank + 1) * one


def test_blast_blocks_divide_both_sides():
    assert blast_blocks((64, 48), 6) == 4
    assert blast_blocks((64, 48), 32) == blast_blocks((48, 64), 32) == 16
    assert blast_blocks((7, 5), 4) == 1


@pytest.mark.parametrize("start", ["scratch", "weights"])
def test_conversion_to_blast(start):
    model, before = chain().double().eval(), chain()
    new = convert_to_blast_(model, 0.5, is_inner, blocks=6, start=start, generator=seeded())
    assert [new[name].blocks for name in ("0", "2")] == [4, 4]
    for name, layer in new.items():
        old = before.get_submodule(name)
        assert model.get_submodule(name) is layer
        one = sum(old.weight.shape) + layer.blocks**2
        assert layer.cost <= 0.5 * old.weight.numel() < layer.cost + one
        assert torch.equal(layer.bias, old.bias.double())
        assert layer.U.dtype == torch.float64
        assert not layer.training
        close = relative(old.weight, layer.dense()) < 0.7
        assert close == (start == "weights")
    assert isinstance(model[3], nn.Linear)
    assert model(random(2, 24)).shape == (2, 4)


def test_blast_trains():
    model, x = chain(), torch.randn(64, 24, generator=seeded())
    convert_to_blast_(model, 0.5, is_inner, blocks=4, generator=seeded())
    labels = x[:, :4].argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_blast_refusals():
    with pytest.raises(BenchmarkError, match="5 blocks a side for a matrix of 8x12"):
        BlastLinear(12, 8, blocks=5, rank=1)
    with pytest.raises(BenchmarkError, match="0 blocks"):
        BlastLinear(12, 8, blocks=0, rank=1)
    with pytest.raises(BenchmarkError, match="rank = 0"):
        BlastLinear(12, 8, blocks=2, rank=0)
    with pytest.raises(BenchmarkError, match=r"cap = 23 .* at least 24"):
        blast_rank((8, 12), 23, 2)
    with pytest.raises(BenchmarkError, match="NaN"):
        BlastLinear.from_weight(torch.full((4, 4), math.nan), blocks=2, rank=1)
    with pytest.raises(BenchmarkError, match="standard deviation 0"):
        BlastLinear.from_weight(torch.zeros(4, 4), blocks=2, rank=1)


def test_conversion_refusals_leave_the_model_alone():
    model = chain()
    layers = list(model)
    with pytest.raises(BenchmarkError, match="layer '0': cap = 7 "):
        convert_to_blast_(model, 0.01, is_inner, blocks=4)
    with pytest.raises(BenchmarkError, match="layer '3': cap"):
        convert_to_blast_(model, 0.2, lambda *_: True, blocks=1)
    with pytest.raises(BenchmarkError, match="no layer"):
        convert_to_blast_(model, 0.5, lambda *_: False, blocks=4)
    with pytest.raises(BenchmarkError, match="start = 'zero'"):
        convert_to_blast_(model, 0.5, is_inner, blocks=4, start="zero")
    assert all(new is old for new, old in zip(model, layers, strict=True))
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3))
    with pytest.raises(BenchmarkError, match="'0' is a Conv2d"):
        convert_to_blast_(convolution, 0.5, lambda *_: True, blocks=2)


# ALDS


def steep(m, n, decay, seed):
    """A weight with singular values decay^k."""
    U, _, Vh = torch.linalg.svd(random(m, n, seed=seed), full_matrices=False)
    return (U * decay ** torch.arange(float(min(m, n)))) @ Vh


WEIGHTS = {
    "flat": steep(10, 8, 0.95, 1),
    "steep": steep(8, 14, 0.5, 2),
    "between": steep(6, 6, 0.8, 3) * 1e3,
}
POSITIONS = {"flat": 1, "steep": 3, "between": 2}


def total(ranks):
    return sum(POSITIONS[k] * ranks[k] * sum(WEIGHTS[k].shape) for k in ranks)


def cap_of(budget):
    return math.floor(budget * sum(POSITIONS[k] * W.numel() for k, W in WEIGHTS.items()))


def errors_of(ranks):
    found = {}
    for name, W in WEIGHTS.items():
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        rest = W - (U[:, : ranks[name]] * S[: ranks[name]]) @ Vh[: ranks[name]]
        norms = [float(torch.linalg.matrix_norm(A, 2)) for A in (rest, W)]
        found[name] = norms[0] / norms[1]
    return found


def limits():
    return [max(1, W.numel() // sum(W.shape)) for W in WEIGHTS.values()]


@pytest.mark.parametrize("budget", [0.27, 0.35, 0.45, 0.6, 0.8, 1.0])
def test_alds_finds_the_least_greatest_error(budget):
    every = itertools.product(*(range(1, limit + 1) for limit in limits()))
    choices = [dict(zip(WEIGHTS, ranks, strict=True)) for ranks in every]
    least = min(max(errors_of(r).values()) for r in choices if total(r) <= cap_of(budget))
    found = alds_ranks(WEIGHTS, POSITIONS, budget)
    assert max(errors_of(found).values()) == pytest.approx(least)
    assert list(found) == list(WEIGHTS)


@pytest.mark.parametrize("budget", [0.27, 0.35, 0.45, 0.6, 0.8, 1.0])
def test_alds_uses_the_cap_up_and_never_exceeds_it(budget):
    found = alds_ranks(WEIGHTS, POSITIONS, budget)
    left = cap_of(budget) - total(found)
    assert left >= 0
    for (name, rank), limit in zip(found.items(), limits(), strict=True):
        assert 1 <= rank <= limit
        assert rank == limit or POSITIONS[name] * sum(WEIGHTS[name].shape) > left


def test_alds_gives_what_is_left_to_the_largest_error():
    weights = {"a": torch.diag(torch.tensor([1.0, 0.5, 0.5, 0.5])), "b": torch.eye(4)}
    weights["b"][1:] *= 0.4
    # Rank 2 of either is all that fits beyond rank 1 of both, and takes no error off.
    assert alds_ranks(weights, {"a": 1, "b": 1}, 24 / 32) == {"a": 2, "b": 1}
    weights["b"][1:] *= 2
    assert alds_ranks(weights, {"a": 1, "b": 1}, 24 / 32) == {"a": 1, "b": 2}


def test_alds_gives_least_to_a_weight_of_zeros():
    weights = {"zero": torch.zeros(8, 8), "full": torch.eye(8)}
    ranks = alds_ranks(weights, {"zero": 1, "full": 1}, 0.5)
    assert ranks == {"zero": 1, "full": 3}


def test_alds_refusals():
    with pytest.raises(BenchmarkError, match=r"budget = 0\.01, 4 .* at least 108"):
        alds_ranks(WEIGHTS, POSITIONS, 0.01)
    with pytest.raises(BenchmarkError, match="positions"):
        alds_ranks(WEIGHTS, {"flat": 1}, 0.5)
    with pytest.raises(BenchmarkError, match="expected at least one"):
        alds_ranks({}, {}, 0.5)
    with pytest.raises(BenchmarkError, match="'a' has NaN"):
        alds_ranks({"a": torch.full((4, 4), math.nan)}, {"a": 1}, 1.0)


def test_ranks_from_weights_are_the_truncated_decomposition():
    model, before = chain(), chain()
    convert_to_ranks_(model, {"0": 5, "2": 16})
    for name, rank in (("0", 5), ("2", 16)):
        layer, old = model.get_submodule(name), before.get_submodule(name)
        assert isinstance(layer, StructuredLinear)
        assert layer.matrix.cost == rank * sum(old.weight.shape)
        assert torch.equal(layer.bias, old.bias)
        U, S, Vh = torch.linalg.svd(old.weight, full_matrices=False)
        torch.testing.assert_close(layer.weight, (U[:, :rank] * S[:rank]) @ Vh[:rank])
    left, right = (p.detach() for p in model[0].matrix.contents.parameters())
    assert left.norm().item() == pytest.approx(right.norm().item(), rel=1e-5)
    structured = [row.name for row in cost(model).rows if row.kind == "low_rank"]
    assert structured == ["0", "2"]
    assert isinstance(model[3], nn.Linear)


def test_ranks_from_scratch_are_random_and_as_large_as_a_linear_layer():
    squares = []
    for seed in range(30):
        model = nn.Sequential(nn.Linear(48, 64)).double()
        convert_to_ranks_(model, {"0": 8}, start="scratch", generator=seeded(seed))
        assert model[0].matrix.cost == 8 * 112
        assert model[0].weight.dtype == torch.float64
        squares.append(model[0].weight.square().mean().item())
    assert sum(squares) / len(squares) == pytest.approx(1 / (3 * 48), rel=0.05)


def test_rank_conversion_refusals():
    model = chain()
    layers = list(model)
    with pytest.raises(BenchmarkError, match="rank of '2' = 17; expected 1 to 16"):
        convert_to_ranks_(model, {"0": 2, "2": 17})
    with pytest.raises(BenchmarkError, match="layer 'none'"):
        convert_to_ranks_(model, {"none": 2})
    with pytest.raises(BenchmarkError, match="'1' is a ReLU"):
        convert_to_ranks_(model, {"1": 2})
    with pytest.raises(BenchmarkError, match="start = 'zero'"):
        convert_to_ranks_(model, {"0": 2}, start="zero")
    assert all(new is old for new, old in zip(model, layers, strict=True))
