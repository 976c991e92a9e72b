"""Learning rates of contents by rule."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import structmat
from structmat.errors import InputError
from structmat.learn.data import load_data
from structmat.learn.tasks import make_task
from structmat.learn.train import Settings, train
from structmat.matrices import Product, Sum
from structmat.nn import (
    Config,
    GaudiLinear,
    GaudiWeight,
    StructuredWeight,
    convert_,
    freeze_,
    parameter_groups,
)
from structmat.nn.starts.kinds import random_init
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.training.contents_rates import rate_multiples

KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly", "gblr")


def by_rule(model, lr=1.0):
    """Rate of each parameter by name."""
    groups = parameter_groups(model, lr=lr, structure_lr=0.25, contents_lr="rule")
    names = {p: name for name, p in model.named_parameters()}
    rates = [(names[p], group["lr"]) for group in groups for p in group["params"]]
    assert len(rates) == len(dict(rates))
    return dict(rates)


def converted(kind, budget):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    convert_(model, Config(kind=kind, budget=budget, learn=False), lambda name, _: name == "0")
    return model


def nearest(multiple):
    """The closest power of the square root of two."""
    return min((2 ** (k / 2) for k in range(7)), key=lambda power: abs(math.log(power / multiple)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("low_rank", "pixelfly")])
@pytest.mark.parametrize("budget", [0.05, 0.2, 0.5])
def test_contents_have_the_dense_rate_over_the_relative_cost(kind, budget):
    model = converted(kind, budget)
    rates = by_rule(model, lr=0.5)
    cost = sum(w.cost for w in model.modules() if isinstance(w, GaudiWeight | StructuredWeight))
    multiple = nearest(min(8.0, 64 * 96 / cost))
    contents = {n: r for n, r in rates.items() if n.startswith("0.") and "structure" not in n}
    assert contents.pop("0.bias") == rates["2.weight"] == rates["2.bias"] == 0.5
    assert contents
    assert contents == pytest.approx(dict.fromkeys(contents, 0.5 * multiple))
    assert multiple == {0.05: 8.0, 0.2: pytest.approx(32**0.5), 0.5: 2.0}[budget]


@pytest.mark.parametrize("rank", [1, 4, 30])
def test_low_rank_contents_move_the_matrix_as_dense_ones_do(rank):
    """In the spectral norm, by a step of one in the signs that move it the furthest."""
    size = 90
    weight = StructuredWeight(random_init("low_rank", (size, size), 2 * size * rank).draw(
        1 / (3 * size), torch.Generator().manual_seed(0)
    ))  # fmt: skip
    (multiple,) = set(rate_multiples([weight]).values())
    with torch.no_grad():
        step = torch.ones(size, rank) @ weight.contents.V.T
        moved = torch.linalg.matrix_norm(step, 2)
    # Normal contents vary around their size: by chance, the fewer they are.
    assert size / moved == pytest.approx(multiple, rel=0.35)
    assert multiple == nearest((3 * size / rank) ** 0.25)


def test_terms_and_factors_have_multiples_of_their_own():
    rng = np.random.default_rng(0)
    blocks = structmat.BlockSparse(
        rng.random((4, 4, 4)), [0, 1, 2, 3], [0, 1, 2, 3], shape=(16, 16)
    )
    low = structmat.LowRank(rng.random((16, 3)), rng.random((16, 3)))
    term = StructuredWeight(Sum(blocks, Product(structmat.Dense(rng.random((16, 16))), low)))
    names = {p: name for name, p in term.named_parameters()}
    rates = {names[p]: multiple for p, multiple in rate_multiples([term]).items()}
    assert rates == {
        "contents.0.blocks": 4.0,
        "contents.1.0.A": 1.0,
        "contents.1.1.U": 2.0,
        "contents.1.1.V": 2.0,
    }


def test_order_of_rows_and_columns_changes_no_rate():
    rng = np.random.default_rng(0)
    inner = structmat.GBLR([2], [1], [1.0], [3], [4], rng.random(4), shape=(8, 8))
    order = structmat.Permutation(rng.permutation(8))
    (alone, around) = (
        set(rate_multiples([StructuredWeight(matrix)]).values())
        for matrix in (inner, order @ inner @ order)
    )
    assert alone == around


@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_parameter_is_in_one_group(kind):
    model = converted(kind, 0.3)
    model[2].weight.requires_grad_(False)
    frozen = next(p for n, p in model.named_parameters() if n.startswith("0.") and n[-1] in "vVRs")
    frozen.requires_grad_(False)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert by_rule(model).keys() == names
    assert "2.weight" not in names


def test_groups_are_one_a_rate_by_rising_rate():
    torch.manual_seed(0)
    model = nn.Sequential(*(GaudiLinear(64, 64, budget=b) for b in (0.05, 0.3, 0.06, 0.7)))
    groups = parameter_groups(model, lr=1.0, structure_lr=0.5, contents_lr="rule", weight_decay=0.1)
    sizes = [(len(group["params"]), round(group["lr"], 3)) for group in groups]
    assert sizes == [(4, 1.0), (2, 1.414), (2, 2.828), (4, 8.0), (16, 0.5)]
    assert [group["weight_decay"] for group in groups] == [0.1] * 4 + [0.0]


def test_learned_and_frozen_blocks_have_the_same_rates():
    torch.manual_seed(0)
    # A budget away from the steps of rates: a frozen strip costs one less than a learned one.
    model = nn.Sequential(GaudiLinear(64, 96, budget=0.25))
    learned = by_rule(model)
    assert learned["0.matrix.u"] == learned["0.matrix.v"] == nearest(1 / 0.25)
    freeze_(model)
    assert by_rule(model)["0.matrix.contents.v"] == learned["0.matrix.v"]


def test_packed_parts_have_rates_of_their_own():
    torch.manual_seed(0)
    parts = [GaudiWeight((32, 64), budget=budget) for budget in (0.1, 0.6)]
    rates = by_rule(PackedLinear([*parts, parts[0]], torch.zeros(96)))
    assert rates["bias"] == 1.0
    assert (rates["parts.0.v"], rates["parts.1.v"]) == (8.0, nearest(1 / 0.6))


@pytest.mark.parametrize("conv", ["matrix", "taps"])
def test_convolutions_count_all_inputs_of_their_matrix(conv):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32))
    convert_(model, Config(kind="block_sparse", budget=0.25, conv=conv))
    rates = by_rule(model)
    blocks = {rate for name, rate in rates.items() if "blocks" in name}
    assert blocks == {4.0}
    assert rates["1.weight"] == rates["0.bias"] == 1.0


def test_a_shared_parameter_has_the_smaller_rate():
    rng = np.random.default_rng(0)
    narrow = structmat.LowRank(rng.random((80, 1)), rng.random((80, 1)))
    small, large = (StructuredWeight(A) for A in (narrow, structmat.Diagonal(np.ones(80))))
    both = nn.ModuleList([small, large])
    assert by_rule(both)["1.contents.d"] == 8.0
    small.contents.U = nn.Parameter(torch.ones(80, 1))
    large.contents.d = small.contents.U
    assert by_rule(both)["0.contents.U"] == by_rule(both)["0.contents.V"] == 4.0


def test_blocks_without_a_side_have_the_largest_multiple():
    weight = GaudiWeight((8, 8), num_blocks=3, width_init="zero")
    assert weight.fan_in == 0
    assert set(rate_multiples([weight]).values()) == {8.0}


def test_the_rule_reads_no_contents():
    model = converted("monarch", 0.2)
    before = by_rule(model)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(math.nan)
    assert by_rule(model) == before
    assert by_rule(converted("monarch", 0.2).to("meta")) == before


@pytest.mark.parametrize("wrong", ["rules", ""])
def test_another_word_is_refused(wrong):
    with pytest.raises(InputError, match=f"contents_lr = '{wrong}'; expected a learning rate, "):
        parameter_groups(nn.Linear(2, 2), lr=1.0, structure_lr=1.0, contents_lr=wrong)


def test_a_number_and_none_mean_what_they_did():
    model = converted("pixelfly", 0.5)
    (alone,) = parameter_groups(model, lr=1.0, structure_lr=1.0)
    assert len(alone["params"]) == 6
    rest, inside = parameter_groups(model, lr=1.0, structure_lr=1.0, contents_lr=0.0)
    assert (len(rest["params"]), len(inside["params"]), inside["lr"]) == (3, 3, 0.0)


def test_a_training_by_the_rule_resumes(tmp_path):
    task = make_task(load_data("digits"), "mlp", {"width": 16}, 256)

    def trained(epochs, **options):
        torch.manual_seed(0)
        model = task.model()
        convert_(model, Config(kind="block_sparse", budget=0.2), lambda name, _: "layers" in name)
        settings = Settings(epochs=epochs, batch=256, contents_lr="rule")
        train(task, model, settings, state=tmp_path / "state", **options)
        return model.state_dict()

    def stop(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    whole = trained(2)
    with pytest.raises(KeyboardInterrupt):
        trained(2, progress=stop)
    resumed = trained(2, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole if "extra" not in name)
