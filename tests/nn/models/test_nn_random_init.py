"""Random structured matrices to train from scratch: cost, coverage and size."""

import math

import numpy as np
import pytest
import torch

import structmat
from structmat.errors import BudgetError
from structmat.matrices import LowRank
from structmat.nn.starts.kinds import network_kinds, random_init

SHAPES = [(64, 64), (256, 64), (48, 160), (33, 70)]


@pytest.mark.parametrize("budget", [0.1, 0.5])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("kind", network_kinds())
def test_cost_coverage_and_size(kind, shape, budget):
    cap = math.floor(budget * math.prod(shape))
    try:
        plan = random_init(kind, shape, cap)
    except BudgetError:
        # Only the kind of two parts needs as much as this.
        assert kind == "pixelfly"
        assert cap < 4 * sum(shape)
        return
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(4):
        matrix = plan.draw(0.01, generator)
        assert matrix.shape == shape
        assert matrix.cost == plan.cost <= cap
        dense = matrix.to_dense()
        assert (dense != 0).any(0).all()
        assert (dense != 0).any(1).all()
        squares.append(dense.square().mean().item())
    assert sum(squares) / len(squares) == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("kind", network_kinds())
def test_the_cap_is_used(kind):
    # What a kind may leave is one more rank, one block more in every row, …
    shape = (256, 256)
    for budget in (0.1, 0.2, 0.3):
        cap = math.floor(budget * 256**2)
        assert random_init(kind, shape, cap).cost >= 0.92 * cap


def test_one_multiplication_less_is_one_rank_less():
    assert random_init("low_rank", (32, 64), 3 * 96).cost == 3 * 96
    assert random_init("low_rank", (32, 64), 3 * 96 - 1).cost == 2 * 96


@pytest.mark.parametrize("kind", network_kinds())
def test_no_matrix_is_that_cheap(kind):
    with pytest.raises(BudgetError, match=r"^20 multiplications for a 64x32 .* at least \d+"):
        random_init(kind, (64, 32), 20)


def test_the_least_cost_that_is_named_is_one(rng):
    for kind in network_kinds():
        for _ in range(5):
            shape = tuple(int(n) for n in rng.integers(5, 90, 2))
            with pytest.raises(BudgetError) as refusal:
                random_init(kind, shape, 1)
            least = int(str(refusal.value).split("at least ")[1].split(",")[0])
            assert random_init(kind, shape, least).cost <= least
            with pytest.raises(BudgetError):
                random_init(kind, shape, least - 1)


def test_block_rows_have_equally_many_blocks():
    matrix = random_init("block_sparse", (128, 64), 2048).draw(1.0, None)
    side, _ = matrix.block_shape
    rows = torch.bincount(torch.from_numpy(matrix.rows))
    cols = torch.bincount(torch.from_numpy(matrix.cols))
    assert rows.unique().tolist() == [2048 // (128 * side)]
    assert cols.max() - cols.min() <= 1


def test_blocks_of_a_thin_matrix_reach_every_column():
    for cap in (17 * 311, 4000, 2000):
        dense = random_init("block_sparse", (17, 311), cap).draw(1.0, None).to_dense()
        assert (dense != 0).any(0).all()


def test_the_butterfly_is_flat():
    """Blocks where coordinates agree or differ in one bit, the lowest bits first."""
    blocks = random_init("pixelfly", (64, 64), 1024).draw(1.0, None).children[0]
    places = set(zip(blocks.rows.tolist(), blocks.cols.tolist(), strict=True))
    assert blocks.block_shape == (4, 4)
    assert places == {(i, j) for i in range(16) for j in range(16) if i ^ j in (0, 1, 2)}


@pytest.mark.usefixtures("own_kinds")
def test_a_kind_without_a_rule_is_compressed():
    def fit(A, goal, *, rng, progress):
        rank = goal.max_cost // sum(A.shape)
        return LowRank(A[:, :rank], A[:rank].T.copy())

    structmat.register(structmat.Kind("novel", fit=fit))
    plan = random_init("novel", (32, 32), 256)
    matrix = plan.draw(0.25, torch.Generator().manual_seed(1))
    assert "novel" in network_kinds()
    assert matrix.cost <= 256
    assert matrix.to_dense().square().mean().item() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.usefixtures("own_kinds")
@pytest.mark.parametrize(
    ("name", "make", "size"),
    [
        ("nothing", lambda A: LowRank(0 * A[:, :1], A[:1].T.copy()), 0.0),
        ("turned", lambda A: structmat.Permutation(np.arange(len(A))[::-1]), 1 / 32),
    ],
)
def test_fits_without_a_size_of_their_own_stay_as_they_are(name, make, size):
    """Neither a matrix of zeros nor a kind without contents takes a factor in."""
    structmat.register(structmat.Kind(name, fit=lambda A, goal, *, rng, progress: make(A)))
    matrix = random_init(name, (32, 32), 256).draw(0.25, torch.Generator().manual_seed(1))
    assert matrix.cost <= 256
    assert matrix.to_dense().square().mean().item() == pytest.approx(size)


def test_draws_repeat_with_the_generator():
    for kind in network_kinds():
        plan = random_init(kind, (64, 64), 1024)
        one, two = (plan.draw(1.0, torch.Generator().manual_seed(3)).to_dense() for _ in range(2))
        assert torch.equal(one, two)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 3), (8, 8), (17, 40), (31, 33)])
def test_halves_of_any_shape_keep_the_cap(shape):
    """Every entry lies in one block, which is never dearer than its entries."""
    m, n = shape
    for cap in {min(m + n, m * n), m + n + 1, m * n // 3, m * n // 2, m * n - 1, m * n, 2 * m * n}:
        if cap < min(m + n, m * n):
            continue
        plan = random_init("hierarchical", shape, cap)
        matrix = plan.draw(1.0, torch.Generator().manual_seed(0))
        assert matrix.cost == plan.cost <= min(cap, m * n)
        covered = np.zeros(shape, int)
        for top, height, left, width, _ in matrix.blocks:
            covered[top : top + height, left : left + width] += 1
        assert (covered == 1).all()
        assert (matrix.to_dense() != 0).all()
