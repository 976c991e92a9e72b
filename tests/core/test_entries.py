"""Diagonal, trace, norms, entries and parts of every kind, against the dense twin."""

import numpy as np
import pytest
from cases import CASES, block_low_rank, block_sparse, build, contents, gblr, identity, random_gblr
from cases import low_rank as build_low_rank

import structmat
from structmat import Identity
from structmat._array import to_numpy
from structmat.contract.entries import EntryAccess
from structmat.errors import InputError, ShapeError
from structmat.matrices import HermitianLowRank, Mirrored, Product, hermitian, lazy
from structmat.matrices import gblr as gblr_module
from structmat.matrices import monarch as monarch_module

ORDERS = ("fro", 1, 2, np.inf)


def near(got, expected, scale=1.0):
    got = got.toarray() if isinstance(got, structmat.StructuredMatrix) else to_numpy(got)
    assert got.shape == np.shape(expected)
    size = max(scale, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("name", CASES)
def test_diagonal_trace_and_norms(name, backend):
    matrix, D = build(name, "complex128")
    A = matrix.to(backend)
    near(A.diagonal(), np.diagonal(D))
    near(A.trace(), np.trace(D))
    near(A.toarray(), D)
    assert isinstance(A.toarray(), np.ndarray)
    if backend == "numpy":
        for ord in ORDERS:
            expected = np.linalg.norm(D, ord) if D.size else 0.0
            assert A.norm(ord) == pytest.approx(expected, rel=1e-10)
        assert A.norm() == A.norm(None)


SLICES = [
    (slice(None), slice(None)),
    (slice(1, -1), slice(None)),
    (slice(2, None), slice(1, 4)),
    (slice(None, None, 2), slice(None, None, -1)),
    (slice(0, 0), slice(1, None)),
    (slice(-3, None), slice(-2, None)),
]


@pytest.mark.parametrize("name", CASES)
def test_slices(name, backend):
    matrix, D = build(name)
    A = matrix.to(backend)
    for rows, cols in SLICES:
        part = A[rows, cols]
        assert part.xp is A.xp
        near(part, D[rows, cols])


@pytest.mark.parametrize("name", CASES)
def test_entries_rows_and_columns(name, backend):
    matrix, D = build(name, "complex128")
    A, (m, n) = matrix.to(backend), D.shape
    if not m * n:
        return
    i, j = np.array([0, m - 1, -1, m // 2]), np.array([n - 1, 0, -n, n // 2])
    near(A[i, j], D[i, j])
    near(A[np.ix_(i, j)], D[np.ix_(i, j)])
    near(A[m - 1, -1], D[m - 1, -1])
    near(A[0], D[0])
    near(A[-1, :], D[-1, :])
    near(A[0, 1:], D[0, 1:])
    near(A[:, n - 1], D[:, n - 1])
    near(A[i], D[i])
    near(A[:, list(j)], D[:, list(j)])
    near(A[np.arange(m) % 2 == 0, :], D[::2, :])
    near(A[[], :], D[[], :])


NEUTRAL_TERMS = {
    "sum": lambda A, P, one: A + P - 2 * one,
    "product": lambda A, P, one: P @ A @ P,
    "scaled": lambda A, P, one: 3 * (P @ A @ (2 * P)),
}


@pytest.mark.parametrize("name", NEUTRAL_TERMS)
def test_parts_keep_the_precision(name, backend):
    A = block_sparse(6, 6, 2, 3, [0, 2], [1, 0])(contents("float32"))[0].to(backend)
    P = structmat.Permutation([2, 0, 1, 5, 3, 4]).to(backend)
    matrix = NEUTRAL_TERMS[name](A, P, structmat.Identity(6).to(backend))
    for key in (np.s_[::2], np.s_[1:4, ::-1], np.s_[:, [0, 3]], np.s_[0], np.s_[1, 2]):
        assert matrix[key].dtype == matrix.dtype == A.dtype


KEPT = {
    "low_rank": (CASES["low_rank"], np.s_[1:3, ::2]),
    "gblr": (gblr(7, 5, [6, 0, 3], [3, 7, 2], [4, 1, 0], [3, 0, 5]), np.s_[1:7, 3:]),
    "gblr-wrapped": (random_gblr(53, 37, 12, 1), np.s_[5:50, 9:30]),
    "block_sparse": (block_sparse(7, 11, 3, 4, [0, 0, 2, 2], [0, 2, 1, 2]), np.s_[3:, :6]),
    "block_low_rank": (
        block_low_rank([3, 1, 3], [5, 6], {(0, 1): None, (2, 0): 1, (2, 1): None}),
        np.s_[2:6, 4:8],
    ),
    "dense": (CASES["dense"], np.s_[1:, ::-1]),
    "diagonal": (CASES["diagonal"], np.s_[2:5, 2:5]),
    "adjoint": (CASES["adjoint"], np.s_[:, :]),
    "mirrored": (CASES["mirrored"], np.s_[1:5, 1:5]),
    "hermitian_low_rank": (CASES["hermitian_low_rank"], np.s_[1:5, 1:5]),
}


@pytest.mark.parametrize("name", KEPT)
def test_slices_keep_the_kind_where_that_is_exact(name):
    make, key = KEPT[name]
    A, D = make(contents("complex128"))
    part = A[key]
    assert part.kind == name.split("-")[0]
    assert part.cost <= A.cost
    near(part, D[key])


def test_indices_that_are_refused():
    A = build("gblr")[0]
    for key, error in (
        ((1, 2, 3), ShapeError),
        ((7, 0), InputError),
        ((0, -6), InputError),
        (1.5, InputError),
        (None, InputError),
        ("u", InputError),
        (Ellipsis, InputError),
        (np.ones(3, bool), InputError),
        ((np.zeros((2, 2), int), slice(None)), ShapeError),
        (([0, 1], [0, 1, 2]), ShapeError),
        ((np.zeros((2, 1), int), [[0, 1], [1, 0], [2, 2]]), ShapeError),
    ):
        with pytest.raises(error, match="expected"):
            A[key]
    for ord in ("nuc", 3, True, -1, [1], {}, np.ones(2)):
        with pytest.raises(InputError, match=r"ord = .* expected 'fro', 1, 2 or inf"):
            A.norm(ord)


def test_entries_carry_gradients():
    torch = pytest.importorskip("torch")
    A = build("gblr-prime")[0].to("torch")
    u = A.u.clone().requires_grad_()
    runs = (A.row_start, A.row_width, u, A.col_start, A.col_width, A.v)
    structmat.GBLR(*runs, shape=A.shape).trace().backward()
    dense = structmat.GBLR(*runs, shape=A.shape).to_dense()
    expected = torch.autograd.grad(torch.trace(dense), u)[0]
    torch.testing.assert_close(u.grad, expected)


def test_structure_answers_without_the_dense_form():
    n = 10**6
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((n, 2)), rng.standard_normal((n, 2))
    A = structmat.LowRank(U, V)
    assert A.norm() == pytest.approx(np.sqrt(np.trace((U.T @ U) @ (V.T @ V))))
    assert A.norm(2) <= A.norm()
    assert A.trace() == pytest.approx((U * V).sum())
    assert A[5:10, -3:].shape == (5, 3)
    D = structmat.Diagonal(U[:, 0])
    assert (D.norm(1), D.norm(2)) == (np.abs(D.d).max(),) * 2
    assert (D @ A).kind == "low_rank"
    assert structmat.Identity(n).trace() == n


def test_single_entries_need_no_panels(monkeypatch):
    import scipy.sparse

    from structmat.kernels.layouts.panels import BlockPattern

    S = scipy.sparse.random_array((3000, 2000), density=1e-3, rng=1, format="csr")
    A = structmat.LowRank(np.zeros((3000, 0)), np.zeros((2000, 0))) + S
    monkeypatch.delattr(BlockPattern, "layout")
    with structmat.kernels.using("rows"):
        near(A @ np.ones(2000), S @ np.ones(2000))
        near(A.H @ np.ones(3000), S.T @ np.ones(3000))


def test_norms_do_not_overflow():
    A = structmat.GBLR([0], [2], [1e200, 1e200], [0], [2], np.ones(2), shape=(2, 2))
    assert A.norm() == pytest.approx(2e200)


def test_the_spectral_norm_of_a_larger_matrix():
    A = random_gblr(450, 420, 9, 4)(contents("float64"))[0]
    assert A.norm(2) == pytest.approx(np.linalg.norm(A.toarray(), 2), rel=1e-8)


# Algebra of diagonal matrices.


@pytest.mark.parametrize("name", ["low_rank", "gblr", "block_sparse-ragged", "dense"])
def test_diagonal_factors_are_taken_in(name, backend):
    matrix, D = build(name, "complex128")
    A, (m, n) = matrix.to(backend), D.shape
    c = contents("complex128", 9)
    d, e = c(m), c(n)
    left, right = (structmat.Diagonal(x).to(backend) for x in (d, e))
    for product, expected in ((left @ A, d[:, None] * D), (A @ right, D * e)):
        assert product.kind == A.kind
        assert product.cost == A.cost
        near(product, expected)


def test_sums_of_diagonal_matrices(backend):
    d = contents("float64")(6)
    D, one = structmat.Diagonal(d).to(backend), structmat.Identity(6).to(backend)
    for total, expected, kind in (
        (D + D, np.diag(2 * d), "diagonal"),
        (D @ D, np.diag(d * d), "diagonal"),
        (D + 2 * one, np.diag(d + 2), "diagonal"),
        (one - D, np.diag(1 - d), "diagonal"),
        (3 * one + 2 * one, 5 * np.eye(6), "scaled"),
        (one + one, 2 * np.eye(6), "scaled"),
        (D - 2 * (3 * one) / 4, np.diag(d - 1.5), "diagonal"),
        (2 * (3 * one) - 5 * one, np.eye(6), "scaled"),
        (one @ D, np.diag(d), "diagonal"),
    ):
        assert total.kind == kind
        near(total, expected)
    assert (D.astype("float32") + 2 * one).dtype == D.xp.float32
    assert (one @ D) is D
    assert (2 * (3 * one)).cost == (2 * one).cost


@pytest.mark.parametrize("kind", ["block_sparse", "block_low_rank", "gblr", "dense"])
def test_diagonal_matrices_convert_exactly(kind, backend):
    d = contents("complex128")(5)
    for A, expected in (
        (structmat.Diagonal(d), np.diag(d)),
        (structmat.Identity(5), np.eye(5)),
        (structmat.Diagonal(d[:0]), np.zeros((0, 0))),
    ):
        B = A.to(backend).to_kind(kind)
        assert B.kind == kind
        near(B, expected)
    P = identity(5)(contents("float64"))[0].to(backend).to_kind("permutation")
    assert P.kind == "permutation"


def test_identities_of_bad_sizes_are_refused():
    for n in (-1, 2.5, True, "3"):
        with pytest.raises(InputError, match="expected an integer of at least 0"):
            structmat.Identity(n)
    with pytest.raises(InputError, match="d has shape"):
        structmat.Diagonal(np.eye(2))


def test_entries_that_are_read_in_parts(monkeypatch):
    """As where entries times blocks would fill the memory."""
    A, D = build("gblr-prime")
    monkeypatch.setattr("structmat.matrices.gblr._PAIRS", 1)
    near(A.diagonal(), np.diagonal(D))


def test_large_norms_come_from_structure(monkeypatch):
    """As those by products, without any; where terms cancel, by products."""
    c = contents("complex128")
    n = 48
    low, G = build_low_rank(n, n, 3)(c)[0], random_gblr(n, n, 12, 1)(c)[0]
    P = structmat.Permutation(np.roll(np.arange(n), 5))
    D, one = structmat.Diagonal(c(n)), structmat.Identity(n)
    monarch = structmat.Monarch(c(4, 12, 3), c(3, 4, 16))
    large = {
        "gblr": G,
        "monarch": monarch,
        "adjoint": monarch.H,
        "ordered": P @ G,
        "mirrored": Mirrored(G),
        "sum": G + low,
        "shifted": monarch + 0.5 * one,
        "complex": (1 + 2j) * (P + low) - D,
        "hermitian": HermitianLowRank(c(n, 2), c(2)) + P + G,
    }
    wanted = {name: np.linalg.norm(A.toarray()) for name, A in large.items()}
    cancelled = G - G.copy() + 1e-9 * G
    small = np.linalg.norm(cancelled.toarray())
    for module in (gblr_module, monarch_module, lazy, hermitian):
        monkeypatch.setattr(module, "LARGE", 0)
    assert cancelled.norm() == pytest.approx(small, rel=1e-5)
    monkeypatch.setattr(EntryAccess, "_columns", None)
    for name, A in large.items():
        assert A.norm() == pytest.approx(wanted[name], rel=1e-12), name


def test_diagonals_of_scaled_rows_and_columns_take_no_products(monkeypatch):
    c = contents("complex128")
    A = structmat.Monarch(c(2, 4, 3), c(3, 2, 2), shape=(7, 5))
    left, right = structmat.Diagonal(c(7)), structmat.Diagonal(c(5))
    scaled = Product(left, A, right)
    dense = scaled.toarray()
    monkeypatch.setattr(EntryAccess, "_units", None)
    np.testing.assert_allclose(scaled.diagonal(), np.diagonal(dense))
    np.testing.assert_allclose(scaled[[0, 6, 2], [4, 1, 2]], dense[[0, 6, 2], [4, 1, 2]])


SUMS = {
    "two sums": lambda L, D, P, B: (L + D) @ (L + P),
    "identities": lambda L, D, P, B: (L + Identity(24)) @ (D + 2 * P),
    "multiples": lambda L, D, P, B: (L + B) @ (L - 2j * P),
    "three factors": lambda L, D, P, B: (L + P) @ B @ (L + D),
    "low rank between": lambda L, D, P, B: (B + P) @ (L + P) @ (D + L),
    "in orders": lambda L, D, P, B: P @ (L + D) @ (L + B) @ D,
    "Hermitian": lambda L, D, P, B: (HermitianLowRank(L.U, D.d[:2]) + D) @ (L + P),
}


def summed(n, make):
    rng = np.random.default_rng(7)
    at = np.arange(n // 3)
    return make(
        structmat.LowRank(rng.standard_normal((n, 2)), rng.standard_normal((n, 2))),
        structmat.Diagonal(rng.standard_normal(n)),
        structmat.Permutation(rng.permutation(n)),
        structmat.BlockSparse(rng.standard_normal((at.size, 3, 3)), at, at, shape=(n, n)),
    )


@pytest.mark.parametrize("name", SUMS)
def test_diagonals_of_products_of_sums_come_term_by_term(name, backend, monkeypatch):
    A = summed(24, SUMS[name])
    expected, dtype = A.toarray(), A.dtype
    A = A.to(backend)
    assert A.kind == "product"
    monkeypatch.setattr(EntryAccess, "_units", None)  # products with unit vectors
    diagonal = A.diagonal()
    near(diagonal, np.diagonal(expected), 10.0)
    assert to_numpy(diagonal).dtype == dtype
    near(A.trace(), np.trace(expected), 10.0)


def test_products_of_sums_keep_their_products_for_few_entries_and_unknown_pairs(monkeypatch):
    A = summed(24, SUMS["two sums"])
    B = summed(24, lambda L, D, P, B: (B + P) @ (L + B))
    near(B.diagonal(), np.diagonal(B.toarray()), 10.0)
    asked = []
    monkeypatch.setattr(
        structmat.LowRank, "_pick", lambda *some: asked.append(some) or NotImplemented
    )
    near(A[3, 4], A.toarray()[3, 4], 10.0)
    assert not asked
