"""Exact conversions: the same matrix, the promised cost, and reasons where it fails."""

import itertools

import numpy as np
import pytest
from cases import CASES, build, contents, naive_block_low_rank
from hypothesis import given
from hypothesis import strategies as st
from test_contract import close, on

import structmat
from structmat import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    ConversionError,
    Dense,
    LowRank,
    Monarch,
    convert,
)
from structmat.testing import check_matrix

STRUCTURES = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr")


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_conversions_are_exact_or_refused(name, dtype, backend):
    matrix, twin = build(name, dtype)
    A = matrix.to(backend)
    for kind in ("gblr", "block_low_rank", "block_sparse", "dense"):
        check_conversion(A, name, kind, on(backend, twin))


def check_conversion(A, name, kind, twin):
    origin = A.kind
    inside = STANDS_AROUND.get(name)
    if kind != "dense" and not defined(name, inside or origin, kind):
        with pytest.raises(ConversionError, match=f"compress\\(A, '{kind}'"):
            convert(A, kind)
        return
    B = convert(A, kind)
    ordered = inside or origin in ("monarch", "adjoint") or name in ORDERED
    if ordered and kind != "dense":
        assert {factor.kind for factor in B.children} == {"permutation", kind}
    else:
        assert B.kind == kind
    assert B.xp is A.xp
    check_matrix(B, twin)


#: Products that are one matrix in orders, with the kind of that matrix.
STANDS_AROUND = {
    "product": "monarch",
    "product-ordered": "gblr",
    "product-ordered-blocks": "block_sparse",
}
#: Hierarchical matrices with orders of their own.
ORDERED = ("hierarchical", "hierarchical-symmetric", "hierarchical-no-blocks")


def defined(name, origin, kind):
    """Whether the case has an exact form of that kind."""
    uneven = {"block_low_rank", "block_low_rank-zero-sizes", "block_low_rank-no-tiles"}
    if (origin, kind) == ("block_low_rank", "block_sparse"):
        return name not in uneven | {"block_low_rank-dense-tiles"}
    if name == "grid" or origin in ("kronecker", "operator"):
        return False  # a block keeps its order, or nothing is known of the structure
    if (origin, kind) == ("hierarchical", "block_low_rank"):
        return name not in {
            f"hierarchical-{case}" for case in ("symmetric", "overlap", "rank-zero")
        }
    return origin == kind or kind in DEFINED.get(origin, set())


DEFINED = {
    "adjoint": {"gblr", "block_low_rank"},
    "mirrored": {"gblr"},
    "hermitian_low_rank": {"low_rank", "gblr", "block_low_rank", "monarch"},
    "identity": {"gblr", "block_low_rank", "block_sparse"},
    "diagonal": {"gblr", "block_low_rank", "block_sparse"},
    "dense": {"gblr", "block_low_rank"},
    "low_rank": {"gblr", "block_low_rank", "monarch"},
    "block_sparse": {"gblr", "block_low_rank"},
    "block_low_rank": {"gblr", "block_sparse"},
    "monarch": {"gblr", "block_low_rank"},
    "hierarchical": {"gblr", "block_low_rank"},
    "gblr": set(),
}


@pytest.mark.parametrize("name", sorted(set(DEFINED) - {"dense", "adjoint"}))
def test_which_conversions_are_defined(name):
    grid = structmat.BlockLowRank({(0, 0): np.eye(2)}, row_sizes=[2, 1], col_sizes=[2, 1])
    A = grid if name == "block_low_rank" else build(name)[0]
    for kind in STRUCTURES:
        if kind == name:
            assert convert(A, kind) is A
        elif kind in DEFINED[name]:
            assert A.to_kind(kind).shape == A.shape
        else:
            with pytest.raises(ConversionError, match=kind):
                convert(A, kind)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 6))
def test_theorem_1_low_rank(m, n, r):
    c = contents("float64")
    A = LowRank(c(m, r), c(n, r))
    B = convert(A, "gblr")
    assert (B.num_blocks, B.storage) == (r, A.cost)
    assert B.cost <= A.cost
    close(B.to_dense(), A.to_dense())


@given(st.data())
def test_theorem_1_block_sparse(data):
    """K / s dense s x s blocks are at most K rank-one blocks of mean width at most s."""
    s, grid = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    places = sorted(
        data.draw(st.sets(st.tuples(st.integers(0, grid - 1), st.integers(0, grid - 1))))
    )
    c = contents("float64")
    rows, cols = np.asarray(places, np.int64).reshape(-1, 2).T
    A = BlockSparse(c(len(places), s, s), rows, cols, shape=(s * grid, s * grid))
    B = convert(A, "gblr")
    K = s * len(places)
    assert B.num_blocks <= K
    assert B.storage <= 2 * K * s
    assert B.cost <= A.cost
    close(B.to_dense(), A.to_dense())


@given(st.integers(1, 5), st.integers(1, 4))
def test_theorem_1_block_low_rank(s, grid):
    """K = (n / s)^2 tiles of rank one are K blocks of width s: equal cost."""
    c = contents("complex128")
    tiles = {(i, j): (c(s, 1), c(s, 1)) for i in range(grid) for j in range(grid)}
    A = BlockLowRank(tiles, row_sizes=[s] * grid, col_sizes=[s] * grid)
    B = convert(A, "gblr")
    assert B.num_blocks == grid**2
    assert B.cost <= B.storage <= A.cost == 2 * grid**2 * s
    close(B.to_dense(), naive_block_low_rank(tiles, [s] * grid, [s] * grid, "complex128"))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 8))
def test_tighter_form_of_a_tile(a, b, r):
    """A dense a x b tile of rank r costs min(r (a + b), a b)."""
    r = min(r, a, b)
    c = contents("float64")
    tile = c(a, r) @ c(r, b)
    A = BlockLowRank({(1, 0): tile}, row_sizes=[2, a], col_sizes=[b, 3])
    B = convert(A, "gblr")
    assert B.cost == min(r * (a + b), a * b)
    close(B.to_dense()[2:, :b], tile)


def test_the_cheapest_form_of_a_factored_tile():
    c = contents("float64")
    for a, b, r in itertools.product(range(5), range(5), range(6)):
        A = BlockLowRank({(1, 0): (c(a, r), c(b, r))}, row_sizes=[2, a], col_sizes=[b, 3])
        B = convert(A, "gblr")
        assert B.cost == min(r * (a + b), a * b)
        close(B.to_dense(), A.to_dense())


def test_redundant_rank_is_not_paid_for():
    c = contents("float64")
    A = BlockLowRank({(0, 0): (c(3, 9), c(4, 9))}, row_sizes=[3], col_sizes=[4])
    B = convert(A, "gblr")
    assert (B.cost, B.storage) == (3 * 4, 3 * (4 + 1))
    close(B.to_dense(), A.to_dense())


def test_monarch_becomes_a_permuted_matrix_of_equal_cost():
    A, twin = build("monarch-rectangular")
    for kind in ("gblr", "block_low_rank"):
        B = convert(A, kind)
        assert [factor.kind for factor in B.children] == ["permutation", kind]
        assert B.cost == A.cost
        close(B.to_dense(), twin)


@given(st.data())
def test_monarch_of_any_sizes(data):
    l, r, s, p = (data.draw(st.integers(1, 5)) for _ in range(4))
    k = data.draw(st.sampled_from([d for d in range(1, l * r + 1) if l * r % d == 0]))
    c = contents("complex128")
    m, n = data.draw(st.integers(0, l * s)), data.draw(st.integers(0, k * p))
    A = Monarch(c(l, s, r), c(k, l * r // k, p), shape=(m, n))
    B = convert(A, "gblr")
    assert B.cost <= A.cost
    close(B.to_dense(), A.to_dense())


def test_block_low_rank_round_trip():
    A, twin = build("block_sparse-ragged")
    there = convert(A, "block_low_rank")
    back = convert(there, "block_sparse")
    assert back.block_shape == A.block_shape
    close(back.to_dense(), twin)
    assert there.cost == A.cost == back.cost


def test_refusals_say_why():
    A = build("block_low_rank")[0]
    with pytest.raises(ConversionError, match=r"sizes \[2, 3\], not one size"):
        convert(BlockLowRank({}, row_sizes=[3, 3], col_sizes=[2, 3]), "block_sparse")
    with pytest.raises(ConversionError, match=r"sizes \[3, 4\], not one size"):
        convert(A, "block_sparse")
    with pytest.raises(structmat.KindError, match="expected one of"):
        convert(A, "toeplitz")


def test_tiles_of_low_rank_are_filled_in():
    U, V = np.ones((3, 1)), np.arange(2.0)[:, None]
    A = BlockLowRank({(0, 0): (U, V), (1, 1): U @ V.T}, row_sizes=[3, 3], col_sizes=[2, 2])
    close(convert(A, "block_sparse").to_dense(), A.to_dense())


def test_dense_tiles_with_nan_are_kept():
    A = Dense(np.array([[np.nan, 1.0], [2.0, 3.0]]))
    B = convert(A, "gblr")
    assert isinstance(B, GBLR)
    assert np.isnan(B.to_dense()[0, 0])
