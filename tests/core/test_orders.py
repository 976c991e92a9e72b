"""Orders: permutations around a matrix of any kind, through every door, at no multiplication."""

import math
import pickle

import numpy as np
import pytest
from cases import CASES, build, contents, diagonal, random_gblr
from test_contract import close, on

import structmat
from structmat import GBLR, Diagonal, LowRank, Permutation, interpolate
from structmat._array import to_numpy
from structmat._coverage import coverage
from structmat.matrices import Product, split_orders

KINDS = {
    "low_rank": CASES["low_rank"],
    "block_sparse": CASES["block_sparse-ragged"],
    "block_low_rank": CASES["block_low_rank-dense-tiles"],
    "monarch": CASES["monarch-padded"],
    "gblr": CASES["gblr"],
    "dense": CASES["dense"],
    "diagonal": diagonal(7),
    "sum": CASES["sum"],
    "adjoint": CASES["adjoint"],
    "no rows": CASES["gblr-no-rows"],
    "one entry": CASES["gblr-single"],
}
#: Kinds that take an order into their contents.
FOLDED = ("low_rank", "dense")
# Both sides at once have what one has.
every_cell = pytest.mark.parametrize(
    "side", ["both", *(pytest.param(side, marks=pytest.mark.slow) for side in ("left", "right"))]
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def shuffled(size, seed):
    """A permutation that is no identity, if there is another."""
    p = np.random.default_rng(seed).permutation(size)
    return np.roll(np.arange(size), 1) if np.array_equal(p, np.arange(size)) else p


def ordered(kind, side, backend="numpy", dtype="float64", seed=0):
    """A matrix in an order of its rows, its columns or both; the matrix inside; and the twin."""
    inner, D = KINDS[kind](contents(dtype, seed))
    inner = A = inner.to(backend)
    if side != "right":
        p = shuffled(D.shape[0], 1)
        A, D = Permutation(on(backend, p)) @ A, D[p]
    if side != "left":
        q = shuffled(D.shape[1], 2)
        A, D = A @ Permutation(on(backend, q)), D[:, np.argsort(q)]
    return A, inner, D


@every_cell
@every_kind
def test_orders_cost_nothing_and_stay_outside(kind, side, backend):
    A, inner, D = ordered(kind, side, backend, "complex128")
    close(A.to_dense(), D, "complex128")
    for B, E in (
        (A, D),
        (A.H, D.conj().T),
        (A.T, D.T),
        (A.conj(), D.conj()),
        ((2 - 1j) * A, (2 - 1j) * D),
        (A / 4, D / 4),
        (-A, -D),
        (A.copy(), D),
        (pickle.loads(pickle.dumps(A)), D),
    ):
        if kind != "adjoint" or B.kind != "scaled":  # adjoints take no number into themselves
            assert B.cost == inner.cost
        assert kind not in FOLDED or B.kind == kind
        close(B.to_dense(), E, "complex128")
    assert A.dtype == inner.dtype
    assert (A + A).cost <= 2 * inner.cost
    close((A + A).to_dense(), 2 * D, "complex128")
    close((A - 2 * A).to_dense(), -D, "complex128")


@every_cell
@every_kind
def test_entries_and_norms_are_those_of_the_matrix_inside(kind, side, backend, monkeypatch):
    A, inner, D = ordered(kind, side, backend)
    m, n = D.shape
    for ord in ("fro", 1, 2, math.inf) if m * n else ():
        assert A.norm(ord) == pytest.approx(inner.norm(ord), rel=1e-12)
    # From here on no product with unit vectors.
    monkeypatch.setattr(structmat.StructuredMatrix, "matmat", None)
    close(A.diagonal(), np.diagonal(D))
    close(A.trace(), np.trace(D))
    if m * n:
        i, j = np.array([0, m - 1, -1, m // 2]), np.array([n - 1, 0, -n, n // 2])
        close(A[i, j], D[i, j])
        close(A[m - 1, 0], D[m - 1, 0])


PARTS = [
    np.s_[1:4, :], np.s_[:, ::2], np.s_[::-1, 1:], np.s_[:0, :], np.s_[[3, 0, 4], :],
    np.s_[:, [2, 1]], np.s_[1::3, ::-1], np.s_[[], :],
]  # fmt: skip


@every_cell
@pytest.mark.parametrize("kind", ["gblr", "dense", "low_rank"])
def test_parts_cost_no_more(kind, side, backend):
    A, inner, D = ordered(kind, side, backend)
    for key in PARTS:
        part = A[key]
        assert part.cost <= inner.cost
        assert split_orders(part)[1].kind == kind
        close(part.to_dense(), D[key])


def test_parts_of_runs_are_one_run_each():
    """A run that wraps around is one run on the circle of the part, too."""
    A, D = random_gblr(53, 37, 12, 1)(contents("float64"))
    for rows, cols in ((slice(5, 50), slice(9, 30)), (slice(None, None, 3), slice(1, None, 2))):
        part = A[rows, cols]
        assert part.kind == "gblr"
        assert part.num_blocks <= A.num_blocks
        close(part.to_dense(), D[rows, cols])
    assert A[::-1, ::-1].cost == A.cost


@every_cell
@every_kind
def test_files(kind, side, backend, tmp_path):
    A, _, D = ordered(kind, side, backend, "float32")
    structmat.save(tmp_path / "a.npz", A)
    B = structmat.load(tmp_path / "a.npz")
    assert (B.kind, B.cost, B.dtype) == (A.kind, A.cost, np.float32)
    close(B.to_dense(), D, "float32")
    wide = A.astype("float64")
    assert wide.dtype == A.xp.float64
    close(wide.to("numpy").to_dense(), D, "float32")
    assert len(A._repr_html_()) > 100


@every_cell
@every_kind
def test_chains_of_orders_merge(kind, side):
    A, inner, D = ordered(kind, side)
    m, n = D.shape
    P, Q = (Permutation(shuffled(size, 5)) for size in (m, n))
    B = P @ (P @ A) @ Q @ (Q @ Q.H)
    close(B.to_dense(), D[P.p][P.p][:, Q.H.p])
    assert B.cost == inner.cost
    assert len(getattr(B, "children", ())) <= 3 or kind == "sum"
    left, middle, right = split_orders(A)
    back = A if left is None else left.H @ A
    back = back if right is None else back @ right.H
    if kind not in FOLDED:
        assert back is middle
        assert Permutation(np.arange(m)) @ middle is middle
        assert middle @ Permutation(np.arange(n)) is middle


def test_orders_that_meet_inside_a_product_vanish():
    P = Permutation([2, 0, 1])
    D = Diagonal([1.0, 2.0, 3.0])
    B = (D @ P) @ (P.H @ D)
    assert B.kind == "diagonal"
    close(B.to_dense(), np.diag([1.0, 4.0, 9.0]))
    G, E = CASES["gblr"](contents("float64"))
    P, Q = Permutation(shuffled(7, 1)), Permutation([2, 0, 1, 4, 3])
    d, e = np.arange(7.0), np.arange(5.0) - 1.5
    for A, twin in ((G @ Q, E[:, Q.H.p]), (P @ G, E[P.p]), (P @ G @ Q, E[P.p][:, Q.H.p])):
        scaled = Diagonal(d) @ A @ Diagonal(e)
        assert (scaled.cost, split_orders(scaled)[1].kind) == (G.cost, "gblr")
        close(scaled.to_dense(), d[:, None] * twin * e)
    M = build("monarch-padded", "complex128")[0]
    D = Diagonal(np.arange(7) + 1j)
    close((D @ (P @ M)).to_dense(), D.d[:, None] * M.to_dense()[P.p], "complex128")
    close(((P @ M).H @ D).to_dense(), M.to_dense()[P.p].conj().T * D.d, "complex128")


@every_cell
@pytest.mark.parametrize("kind", ["low_rank", "block_sparse", "block_low_rank", "monarch", "gblr",
                                  "diagonal"])  # fmt: skip
def test_conversions_go_on_inside(kind, side, backend):
    A, inner, D = ordered(kind, side, backend)
    for target in ("gblr", "block_low_rank"):
        try:
            expected = split_orders(inner.to_kind(target))[1]
        except structmat.ConversionError:
            with pytest.raises(structmat.ConversionError, match=r"structmat\.compress"):
                A.to_kind(target)
            continue
        B = A.to_kind(target)
        assert split_orders(B)[1].kind == target
        assert B.cost == expected.cost or kind in FOLDED
        close(B.to_dense(), D)


def test_products_of_several_matrices_do_not_convert():
    A = build("product-of-three")[0]
    with pytest.raises(structmat.ConversionError, match=r"product of several matrices.*compress"):
        A.to_kind("gblr")


@every_cell
@pytest.mark.parametrize("match", [None, "assignment"])
def test_matrices_of_one_order_interpolate_inside_it(side, match, backend):
    (A, first, D), (B, second, E) = (ordered("gblr", side, backend, seed=s) for s in (0, 1))
    C = interpolate(A, B, 0.25, match=match)
    inside = interpolate(first, second, 0.25, match=match)
    assert isinstance(C, Product)
    assert C.cost == inside.cost <= 0.25 * A.cost + 0.75 * B.cost
    close(C.to_dense(), to_numpy(ordered_like(A, inside).to_dense()))
    close(interpolate(A, B, 1).to_dense(), D)
    close(interpolate(A, B, 0).to_dense(), E)


def ordered_like(A, inner):
    left, _, right = split_orders(A)
    inner = inner if left is None else left @ inner
    return inner if right is None else inner @ right


def test_matrices_of_different_orders_do_not_interpolate():
    (A, first, _), (B, _, _) = ordered("gblr", "left"), ordered("gblr", "right")
    for other in (B, first, Permutation(shuffled(7, 3)) @ A):
        with pytest.raises(
            structmat.ConversionError, match=r"in different orders.*expected one or"
        ):
            interpolate(A, other, 0.5)
    two = build("product-of-three")[0]
    with pytest.raises(structmat.ConversionError, match="several matrices"):
        interpolate(two, two, 0.5)


@every_cell
def test_pictures_show_the_blocks_where_they_are(side):
    A, inner, D = ordered("gblr", side)
    left, _, right = split_orders(A)
    expected = inner.coverage()
    expected = expected if left is None else expected[left.p]
    expected = expected if right is None else expected[:, np.argsort(right.p)]
    np.testing.assert_array_equal(coverage(A, 100), expected)
    touched = np.maximum.reduceat(np.maximum.reduceat(D != 0, [0, 3, 6], 0), [0, 2, 4], 1)
    assert ((coverage(A, 3) > 0) == touched).all()


def test_pictures_of_large_matrices_in_orders_stay_cheap():
    n = 200_000
    A = Permutation(shuffled(n, 0)) @ structmat.BlockSparse(
        np.ones((1, 1000, 1000), np.float32), [3], [5], shape=(n, n)
    )
    assert coverage(A, 20).sum() == 20
    big = Permutation(np.arange(n)[::-1].copy()) @ Diagonal(np.ones(n))
    assert (np.flatnonzero(coverage(big, 20)) == 19 * np.arange(1, 21)).all()


def test_gradients_pass_through_orders():
    torch = pytest.importorskip("torch")
    A, inner, _ = ordered("gblr", "both", "torch")
    u, v = (c.clone().requires_grad_() for c in (inner.u, inner.v))
    runs = (inner.row_start, inner.row_width, u, inner.col_start, inner.col_width, v)
    B = ordered_like(A, GBLR(*runs, shape=inner.shape))
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def loss(u, v, alpha):
        runs = (inner.row_start, inner.row_width, u, inner.col_start, inner.col_width, v)
        C = alpha * ordered_like(A, GBLR(*runs, shape=inner.shape))
        return (C @ torch.ones(5, dtype=torch.float64)).square().sum() + C.trace()

    assert torch.autograd.gradcheck(loss, (u, v, alpha), fast_mode=True)
    assert (B + B).children[1].kind == "gblr"


def test_orders_keep_the_layout_of_the_operand():
    torch = pytest.importorskip("torch")
    assert (Permutation(torch.tensor([1, 0, 2])) @ torch.ones(4, 3).T).stride(0) == 1
    P = Permutation([1, 0, 2])
    assert (P @ np.ones((4, 3)).T).flags.f_contiguous


def test_low_rank_and_dense_matrices_take_orders_in():
    U, V = np.ones((3, 1)), np.arange(3.0)[:, None]
    A = Permutation([2, 0, 1]) @ LowRank(U, V) @ Permutation([1, 2, 0])
    assert A.kind == "low_rank"
    close(A.V, V[np.argsort([1, 2, 0])])
