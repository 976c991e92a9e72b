"""One contract, every case, every array library."""

import pickle
from importlib import import_module

import array_api_compat
import numpy as np
import pytest
from cases import CASES, DTYPES, SOURCES, build, contents
from hypothesis import given
from hypothesis import strategies as st

import structmat
from structmat import GBLR, LowRank, Permutation, StructuredMatrix
from structmat._array import from_numpy, to_numpy
from structmat.kinds import all_kinds
from structmat.testing import check_matrix


def on(backend, array):
    """A NumPy array in another library."""
    return from_numpy(array, structmat.matrix._array.namespace_named(backend))


def close(got, expected, dtype="float64"):
    eps = np.finfo(np.dtype(dtype)).eps
    got = to_numpy(got)
    assert got.shape == np.shape(expected)
    scale = max(1.0, np.abs(expected).max(initial=0.0)) * max(1, sum(np.shape(expected)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=20 * eps * scale)


def test_every_kind_has_a_case():
    kinds = {name.split("-")[0] for name in CASES}
    assert kinds == {kind.name for kind in all_kinds() if kind.matrix is not None} - SOURCES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_contract(name, dtype, backend):
    matrix, twin = build(name, dtype)
    check_matrix(matrix.to(backend), on(backend, twin))


@pytest.mark.parametrize("name", CASES)
def test_attributes(name, backend):
    matrix, twin = build(name, "float32")
    A = matrix.to(backend)
    assert isinstance(A, StructuredMatrix)
    assert (A.shape, A.ndim) == (twin.shape, 2)
    assert array_api_compat.device(A.to_dense()) == A.device
    assert A.kind == name.split("-")[0]
    if A.storage and A.kind not in ("permutation", "scaled", "identity"):
        assert A.dtype == A.xp.float32
    assert str(A.shape[0]) in repr(A)
    size = max(twin.size, 1)
    assert A.relative_cost == A.cost / size
    assert A.relative_storage == A.storage / size


COSTS = {
    "low_rank": (24, 24),
    "low_rank-rank-zero": (0, 0),
    "block_sparse": (18, 18),
    "block_sparse-ragged": (12 + 9 + 4 + 3, 48),
    "block_low_rank": (5 + 12 + 14, 31),
    "block_low_rank-dense-tiles": (18 + 8 + 18, 44),
    "monarch": (16, 16),
    "monarch-padded": (24 + 24, 48),
    "gblr": (12 + 8, 20),
    "hierarchical": (6 + 14 + 6 + 16, 42),
    "hierarchical-symmetric": (9 + 20 + 4 + 20 + 4, 6 + 10 + 3 + 10 + 3),
    "dense": (15, 15),
    "permutation": (0, 7),
    "scaled": (7, 8),
    "product": (24 + 12, 24 + 12 + 7),
    "adjoint": (36, 36),
    "mirrored": (40, 12 + 8),
    "hermitian_low_rank": (14 + 2 + 14, 14 + 2),
}


@pytest.mark.parametrize("name", COSTS)
def test_cost_and_storage_counted_by_hand(name):
    matrix, _ = build(name)
    assert (matrix.cost, matrix.storage) == COSTS[name]


@pytest.mark.parametrize("name", ["low_rank", "gblr-prime", "block_low_rank-dense-tiles", "sum"])
def test_precision_follows_the_wider_operand(name, backend):
    matrix, twin = build(name, "float32")
    A, n = matrix.to(backend), twin.shape[1]
    x = np.random.default_rng(1).standard_normal(n)
    wide = A @ on(backend, x)
    assert wide.dtype == A.xp.float64
    close(wide, build(name, "float32")[0].astype("float64") @ x)
    close(wide, twin @ x, "float32")
    z = (x + 1j * x[::-1]).astype(np.complex64)
    turned = A @ on(backend, z)
    assert turned.dtype == A.xp.complex64
    close(turned, twin @ z, "float32")
    whole = A @ on(backend, np.arange(n))
    assert whole.dtype == A.xp.float32


def test_python_scalars_keep_the_precision(backend):
    A = build("gblr", "float32")[0].to(backend)
    for B in (A * 2, 2.0 * A, A / 3, -A):
        assert B.kind == "gblr"
        assert B.dtype == A.xp.float32
    assert (A * 1j).dtype == A.xp.complex64


@pytest.mark.parametrize("scalar", [np.float64(2), np.array(2.0), np.int8(2)])
def test_scalars_of_numpy_keep_the_precision(scalar, backend):
    A = build("gblr", "float32")[0].to(backend)
    assert (A * scalar).dtype == (A / scalar).dtype == A.xp.float32


@pytest.mark.parametrize("name", ["low_rank", "block_sparse-ragged", "gblr-prime", "monarch"])
def test_operands_are_read_only_and_strided(name):
    matrix, twin = build(name)
    X = np.random.default_rng(2).standard_normal((2 * twin.shape[1], 6))[::2, ::3]
    X.flags.writeable = False
    close(matrix @ X, twin @ X)
    close(X.T @ matrix.T, X.T @ twin.T)


def test_lists_sparse_and_column_operands_on_numpy():
    import scipy.sparse

    matrix, twin = build("gblr")
    close(matrix @ [1, 2, 3, 4, 5], twin @ [1, 2, 3, 4, 5])
    S = scipy.sparse.eye_array(5, 2, format="csr")
    close(matrix.matmat(S), twin @ S.toarray())
    assert matrix.matvec(np.ones((5, 1))).shape == (7, 1)
    assert matrix.rmatvec(np.ones((7, 1))).shape == (5, 1)


def test_arrays_from_the_left(backend):
    matrix, twin = build("low_rank")
    A = matrix.to(backend)
    X = np.random.default_rng(3).standard_normal((4, 7))
    if backend == "array_api_strict":
        # Its own @ refuses foreign operands before ours is asked; rdot is the way in.
        close(A.rdot(on(backend, X)), X @ twin)
        return
    close(on(backend, X) @ A, X @ twin)
    close(on(backend, X[0]) @ A, X[0] @ twin)


EXACT = {
    ("low_rank", "low_rank"): "low_rank",
    ("gblr", "gblr"): "gblr",
    ("block_sparse", "block_sparse"): "block_sparse",
    ("block_low_rank", "block_low_rank"): "block_low_rank",
    ("dense", "low_rank"): "dense",
    ("gblr", "dense"): "dense",
    ("low_rank", "gblr"): "sum",
}


@pytest.mark.parametrize(("left", "right"), EXACT)
def test_sums_stay_structured(left, right, backend):
    shape = {"low_rank": "low_rank", "gblr": "gblr"}
    if "dense" in (left, right):
        a, b = (CASES.get(k) if k != "dense" else None for k in (left, right))
        from cases import dense

        build_a, build_b = a or dense(7, 5), b or dense(7, 5)
    else:
        build_a, build_b = CASES[shape.get(left, left)], CASES[shape.get(right, right)]
    c = contents("float64")
    (A, D), (B, E) = build_a(c), build_b(c)
    A, B = A.to(backend), B.to(backend)
    C = A + B
    assert C.kind == EXACT[left, right]
    close(C.to_dense(), D + E)
    close((A - B).to_dense(), D - E)


def test_sum_of_block_sparse_is_the_union_of_blocks():
    from cases import block_sparse

    c = contents("float64")
    A, D = block_sparse(8, 6, 2, 3, [0, 1], [1, 0])(c)
    B, E = block_sparse(8, 6, 2, 3, [0, 3], [1, 1])(c)
    C = A + B
    assert len(C.rows) == 3
    close(C.to_dense(), D + E)


def test_sum_of_block_low_rank_mixes_dense_and_low_rank_tiles():
    from cases import block_low_rank

    c = contents("float64")
    A, D = block_low_rank([3, 4], [2, 3], {(0, 0): 1, (1, 1): None, (1, 0): 1})(c)
    B, E = block_low_rank([3, 4], [2, 3], {(0, 0): 1, (1, 1): 1, (0, 1): 2})(c)
    C = A + B
    assert C.ranks.tolist() == [2, 2, 1, -1]
    close(C.to_dense(), D + E)
    F, G = block_low_rank([4, 3], [2, 3], {(0, 0): 1})(c)
    assert (A + F).kind == "sum"
    close((A + F).to_dense(), D + G)


def test_products_with_low_rank_stay_low_rank(backend):
    c = contents("complex128")
    (A, D), (B, E) = CASES["low_rank"](c), CASES["monarch-padded"](c)
    L, M = A.to(backend), B.to(backend)
    P = L.H @ M
    assert P.kind == "low_rank"
    close(P.to_dense(), D.conj().T @ E, "complex128")
    Q = M.H @ L
    assert Q.kind == "low_rank"
    close(Q.to_dense(), E.conj().T @ D, "complex128")


def test_permutations_compose():
    P, Q = Permutation([2, 0, 1]), Permutation([1, 0, 2])
    assert (P @ Q).kind == "permutation"
    close((P @ Q).to_dense(), P.to_dense() @ Q.to_dense())
    assert (P.H @ P).p.tolist() == [0, 1, 2]


def test_powers():
    A, D = build("permutation")
    close((A**3).to_dense(), D @ D @ D)
    assert (A**1) is A


def test_moving_between_libraries_and_dtypes(backend):
    A = build("sum", "float32")[0]
    B = A.to(backend)
    assert B.to(backend).to("numpy").dtype == np.float32
    assert B.to(B.xp).xp is B.xp
    assert A.to(import_module(backend)).xp is B.xp
    assert B.to(B.device).device == B.device
    wide = B.astype("complex128")
    assert wide.dtype == B.xp.complex128
    close(wide.to_dense(), to_numpy(B.to_dense()), "float32")
    leaves = zip(wide._leaves(), B._leaves(), strict=True)
    assert all((to_numpy(a) == to_numpy(b)).all() for a, b in leaves)


def test_copies_do_not_share_contents(backend):
    A = build("gblr")[0].to(backend)
    B = A.copy()
    assert not np.shares_memory(to_numpy(A.u), to_numpy(B.u))
    assert np.shares_memory(to_numpy(A.u), to_numpy(A.u))


def test_contents_are_not_modified(rng):
    U, V = rng.standard_normal((6, 2)), rng.standard_normal((5, 2))
    U.flags.writeable = V.flags.writeable = False
    check_matrix(LowRank(U, V), U @ V.T)


@pytest.mark.parametrize("name", ["gblr-prime", "sum-of-three"])
def test_pickles_are_independent_of_what_was_computed(name):
    A = build(name)[0]
    before = pickle.dumps(A)
    A @ np.ones(A.shape[1])
    assert pickle.dumps(A) == before


def test_gradients_reach_the_contents():
    torch = pytest.importorskip("torch")

    A = build("gblr-prime")[0].to("torch")
    u, v = A.u.clone().requires_grad_(), A.v.clone().requires_grad_()

    def loss(u, v):
        runs = (A.row_start, A.row_width, u, A.col_start, A.col_width, v)
        return (GBLR(*runs, shape=A.shape) @ torch.ones(A.shape[1], dtype=u.dtype)).square().sum()

    assert torch.autograd.gradcheck(loss, (u, v), fast_mode=True)
    B = GBLR(A.row_start, A.row_width, u, A.col_start, A.col_width, v, shape=A.shape)
    for _ in range(2):  # nothing of the first graph is kept for the second
        (B @ torch.ones(A.shape[1], dtype=u.dtype)).sum().backward()


def test_nan_and_infinity_pass_through():
    A = build("gblr-prime")[0]
    touched = A.coverage()[:, 3] > 0
    for bad in (np.nan, np.inf, -np.inf):
        x = np.zeros(37)
        x[3] = bad
        with np.errstate(invalid="ignore"):  # NumPy warns of NaN in dense products as well
            one, two = A @ x, A @ np.stack([x, x], axis=1)
        assert not np.isfinite(one)[touched].any()
        assert not np.isfinite(two)[touched].any()


@given(st.data())
def test_gblr_equals_its_definition(data):
    from cases import naive_gblr

    m, n = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    k = data.draw(st.integers(0, 6))

    def draw(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=k, max_size=k))

    parts = [draw(0, m - 1), draw(0, m), None, draw(0, n - 1), draw(0, n), None]
    c = contents("complex128", data.draw(st.integers(0, 99)))
    parts[2], parts[5] = c(sum(parts[1])), c(sum(parts[4]))
    check_matrix(GBLR(*parts, shape=(m, n)), naive_gblr(*parts, (m, n)))
    full_u, full_v = c(k, m), c(k, n)
    masked = GBLR.from_masked(full_u, full_v, parts[0], parts[1], parts[3], parts[4])
    inside = [
        [(j - s) % size < w for j in range(size)]
        for s, w, size in [(*run, m) for run in zip(parts[0], parts[1], strict=True)]
    ]
    U = full_u * np.asarray(inside).reshape(k, m)
    inside = [[(j - s) % n < w for j in range(n)] for s, w in zip(parts[3], parts[4], strict=True)]
    V = full_v * np.asarray(inside).reshape(k, n)
    close(masked.to_dense(), U.T @ V.conj())


@given(st.sampled_from(sorted(CASES)), st.sampled_from(DTYPES), st.integers(0, 2**31))
def test_adjoint_identity(name, dtype, seed):
    A, D = build(name, dtype, seed % 1000)
    c = contents(dtype, seed)
    x, y = c(D.shape[1]), c(D.shape[0])
    left, right = np.vdot(y, A @ x), np.vdot(A.H @ y, x)
    bound = np.linalg.norm(x) * np.linalg.norm(y) * max(np.linalg.norm(D), 1)
    assert abs(left - right) <= 100 * np.finfo(dtype).eps * bound


def test_a_class_must_be_whole_and_final():
    with pytest.raises(structmat.InputError, match="lacks cost, _multiply"):

        class Half(StructuredMatrix, kind="half"):
            pass

    with pytest.raises(structmat.InputError, match="concrete matrices are final"):

        class Further(LowRank, kind="further"):
            pass

    assert not {"half", "further"} & {kind.name for kind in all_kinds()}


@pytest.mark.parametrize("name", ["permutation", "identity"])
def test_matrices_without_a_precision_keep_that_of_the_operand(name, backend):
    A = build(name)[0].to(backend)
    for dtype in ("float32", "complex64"):
        x = on(backend, np.ones(A.shape[1], dtype))
        assert (A @ x).dtype == x.dtype


def test_double_matrix_times_single_complex_is_double():
    A, twin = build("gblr")
    z = np.full(5, 1 + 2j, dtype=np.complex64)
    assert (A @ z).dtype == np.complex128
    close(A @ z, twin @ z.astype(np.complex128))


def test_gradients_are_not_lost_to_what_was_kept():
    torch = pytest.importorskip("torch")
    A = build("gblr-prime")[0].to("torch")
    x = torch.ones(37, dtype=torch.float64)
    A @ x
    A.u.requires_grad_()
    assert (A @ x).requires_grad
    B = build("gblr-prime")[0].to("torch")
    with torch.inference_mode():
        B @ x
    x.requires_grad_()
    (B @ x).sum().backward()
    assert x.grad is not None
    alpha = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (by_alpha,) = torch.autograd.grad(((alpha * B) @ x).sum(), alpha)
    assert by_alpha == pytest.approx(float((B @ x).sum().detach()))


def test_scalars_of_numpy_lose_no_precision():
    D = structmat.Dense(np.ones((2, 2)))
    assert (D / np.float32(3)).A[0, 0] == 1 / 3
    assert (structmat.Dense(np.full((1, 1), 1e-300)) / 1e-310).A[0, 0] == 1e-300 / 1e-310


@pytest.mark.parametrize("name", ["low_rank", "gblr", "monarch-padded", "block_sparse-ragged"])
def test_products_with_dense_are_dense(name, backend):
    c = contents("complex128")
    matrix, twin = CASES[name](c)
    m, n = twin.shape
    left, right = c(3, m), c(n, 2)
    A, L, R = (M.to(backend) for M in (matrix, structmat.Dense(left), structmat.Dense(right)))
    for product, expected in ((L @ A, left @ twin), (A @ R, twin @ right)):
        assert product.kind == ("low_rank" if name == "low_rank" else "dense")
        close(product.to_dense(), expected, "complex128")


def test_sums_with_sparse_and_with_arrays():
    import scipy.sparse

    A, twin = build("gblr")
    S = scipy.sparse.eye_array(7, 5, format="csr")
    x = np.arange(5.0)
    close((A + S) @ x, (twin + S.toarray()) @ x)
    close((A - S) @ x, (twin - S.toarray()) @ x)
    for add in (lambda: A + twin, lambda: twin + A):
        with pytest.raises(structmat.InputError, match=r"A \+ structmat.Dense\(X\)"):
            add()


def test_adjoints_are_kept():
    A = build("gblr-prime")[0]
    assert A.H is A.H


def test_wide_matrices_become_dense_by_their_short_side():
    A = GBLR([0], [2], np.ones(2), [5], [9], np.ones(9), shape=(2, 3000))
    import tracemalloc

    tracemalloc.start()
    D = A.to_dense()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert D.sum() == 18
    assert peak < 40 * D.nbytes


def test_third_party_matrices_unpickle_in_a_new_process(tmp_path):
    import subprocess
    import sys

    (tmp_path / "diagonal.py").write_text(
        "import structmat\n"
        "class Diagonal(structmat.StructuredMatrix, kind='main_diagonal'):\n"
        "    data_names = ('d',)\n"
        "    def __init__(self, d):\n"
        "        super().__init__((len(d), len(d)), {'d': d})\n"
        "    cost = property(lambda self: len(self.d))\n"
        "    def _multiply(self, x): return self.d[:, None] * x\n"
        "    def _multiply_adjoint(self, y): return self.d.conj()[:, None] * y\n"
        "    def _dense(self): return self._dense_by_products()\n"
        "    def _adjoint(self): return Diagonal(self.d.conj())\n"
    )
    write = (
        "import numpy, pickle, sys, diagonal, structmat.testing\n"
        "A = diagonal.Diagonal(numpy.arange(3.0))\n"
        "structmat.testing.check_matrix(A, numpy.diag([0.0, 1.0, 2.0]))\n"
        "pickle.dump(A, open('a.pickle', 'wb'))\n"
    )
    read = "import pickle; print(pickle.load(open('a.pickle', 'rb')).d.tolist())"
    for program in (write, read):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 1.0, 2.0]"


@pytest.mark.parametrize(("left", "right"), [(3, 1), (1, 3)])
def test_products_of_low_rank_keep_the_smaller_rank(left, right):
    c = contents("float64")
    A, B = LowRank(c(5, left), c(6, left)), LowRank(c(6, right), c(4, right))
    C = A @ B
    assert (C.kind, C.rank) == ("low_rank", 1)
    close(C.to_dense(), A.to_dense() @ B.to_dense())


def test_sums_of_matrices_without_tiles_have_none():
    A = structmat.BlockLowRank({}, row_sizes=[2, 3], col_sizes=[4])
    B = A + A
    assert (B.kind, B.shape, B.cost) == ("block_low_rank", (5, 4), 0)
