"""SciPy for real: every solver, on every kind it applies to, against dense linear algebra."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import (
    LinearOperator,
    aslinearoperator,
    bicgstab,
    cg,
    eigs,
    eigsh,
    expm_multiply,
    funm_multiply_krylov,
    gmres,
    lobpcg,
    lsmr,
    lsqr,
    minres,
    onenormest,
    qmr,
    svds,
)

import structmat
from structmat.matrices import Adjoint, Product, Scaled, Sum

N = 24
TALL = (30, 20)
DTYPES = ("float32", "float64", "complex128")
RTOL = {"float32": 1e-5, "float64": 1e-10, "complex128": 1e-10}
NEAR = {"float32": 5e-4, "float64": 1e-7, "complex128": 1e-7}

# Builders: (matrix, dense array built without structmat), well conditioned, from a shape.


def noise(rng, *shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def diagonal(m, n, dtype):
    """1 to 3 down the diagonal, so that the singular values lie apart."""
    return np.eye(m, n, dtype=dtype) * np.linspace(1, 3, n, dtype=dtype)


def low_rank(rng, m, n, dtype):
    r = min(m, n)
    U = diagonal(m, r, dtype) + 0.05 * noise(rng, m, r, dtype=dtype)
    V = np.eye(n, r, dtype=dtype) + 0.05 * noise(rng, n, r, dtype=dtype)
    return structmat.LowRank(U, V), U @ V.conj().T


def grid(size, step):
    return np.diff([*range(0, size, step), size])


def block_sparse(rng, m, n, dtype):
    p, q = 5, 4
    D = np.zeros((m, n), dtype)
    blocks, rows, cols = [], [], []
    for i in range(-(-m // p)):
        for j in range(-(-n // q)):
            rough = noise(rng, p, q, dtype=dtype)
            edge = diagonal(m + p, n + q, dtype)[i * p : (i + 1) * p, j * q : (j + 1) * q]
            if not edge.any() and (i + 2 * j) % 3:
                continue
            block = edge + 0.05 * rough
            height, width = min(p, m - i * p), min(q, n - j * q)
            D[i * p : i * p + height, j * q : j * q + width] = block[:height, :width]
            blocks.append(block)
            rows.append(i)
            cols.append(j)
    return structmat.BlockSparse(np.array(blocks), rows, cols, shape=(m, n)), D


def block_low_rank(rng, m, n, dtype):
    heights, widths = grid(m, 7), grid(n, 5)
    tops, lefts = np.cumsum([0, *heights]), np.cumsum([0, *widths])
    tiles, D = {}, np.zeros((m, n), dtype)
    for i, p in enumerate(heights):
        for j, q in enumerate(widths):
            here = np.s_[tops[i] : tops[i] + p, lefts[j] : lefts[j] + q]
            edge = diagonal(m, n, dtype)[here]
            if edge.any():
                tiles[i, j] = edge + 0.05 * noise(rng, p, q, dtype=dtype)
                D[here] = tiles[i, j]
            elif (i + j) % 2:
                U, V = noise(rng, p, 2, dtype=dtype), 0.03 * noise(rng, q, 2, dtype=dtype)
                tiles[i, j] = (U, V)
                D[here] = U @ V.conj().T
    return structmat.BlockLowRank(tiles, row_sizes=heights, col_sizes=widths), D


def monarch(rng, m, n, dtype):
    l = k = 4
    s, p = -(-m // l), -(-n // k)
    q = r = max(s, p)
    spread = [diagonal(l * s, l * s, dtype)[j::l, j::l] @ np.eye(s, r) for j in range(l)]
    L = np.stack([d + 0.05 * noise(rng, s, r, dtype=dtype) for d in spread])
    R = np.stack([np.eye(q, p) + 0.05 * noise(rng, q, p, dtype=dtype) for _ in range(k)])
    L, R = L.astype(dtype), R.astype(dtype)
    D = np.zeros((l * s, k * p), dtype)
    for t in range(k * q):
        j, c = t % l, t // q
        D[j::l, c * p : (c + 1) * p] += np.outer(L[j, :, t // l], R[c, t % q])
    return structmat.Monarch(L, R, shape=(m, n)), D[:m, :n]


def gblr(rng, m, n, dtype):
    """A diagonal of one-by-one blocks, and five that overlap and wrap around."""
    one = np.ones(min(m, n), int)
    row_start = np.concatenate([np.arange(min(m, n)), rng.integers(0, m, 5)])
    col_start = np.concatenate([np.arange(min(m, n)), rng.integers(0, n, 5)])
    row_width, col_width = np.append(one, [m, 9, 0, 4, 7]), np.append(one, [3, n, 5, 11, 6])
    u, v, D = [], [], np.zeros((m, n), dtype)
    for k, runs in enumerate(zip(row_start, row_width, col_start, col_width, strict=True)):
        if k < one.size:
            a, b = diagonal(m, n, dtype)[k, k : k + 1], np.ones(1, dtype)
        else:
            a, b = (0.2 * noise(rng, width, dtype=dtype) for width in runs[1::2])
        for i in range(runs[1]):
            for j in range(runs[3]):
                D[(runs[0] + i) % m, (runs[2] + j) % n] += a[i] * np.conj(b[j])
        u.append(a)
        v.append(b)
    u, v = np.concatenate(u).astype(dtype), np.concatenate(v).astype(dtype)
    A = structmat.GBLR(row_start, row_width, u, col_start, col_width, v, shape=(m, n))
    return A, D


def dense(rng, m, n, dtype):
    D = diagonal(m, n, dtype) + 0.05 * noise(rng, m, n, dtype=dtype)
    return structmat.Dense(D), D


def permutation(rng, m, n, dtype):
    """Short cycles, so that few eigenvalues are different and Krylov spaces end soon."""
    p = np.arange(n)
    p[:6] = [1, 0, 3, 4, 2, 5]
    return structmat.Permutation(p), np.eye(n, dtype=dtype)[p]


def product(rng, m, n, dtype):
    (P, E), (M, D) = permutation(rng, m, m, dtype), monarch(rng, m, n, dtype)
    return P @ M, E @ D


def scaled(rng, m, n, dtype):
    (P, E), (A, D) = permutation(rng, m, m, dtype), adjoint(rng, m, n, dtype)
    A, D = P @ A, E @ D
    factor = 1.5 - 0.5j if np.dtype(dtype).kind == "c" else 1.5
    return factor * A, (factor * D).astype(dtype)


def adjoint(rng, m, n, dtype):
    A, D = monarch(rng, n, m, dtype)
    return A.H, D.conj().T


def lazy_sum(rng, m, n, dtype):
    (A, D), (B, E) = gblr(rng, m, n, dtype), block_sparse(rng, m, n, dtype)
    return A + B, D + E


KINDS = {
    "low_rank": low_rank,
    "block_sparse": block_sparse,
    "block_low_rank": block_low_rank,
    "monarch": monarch,
    "gblr": gblr,
    "dense": dense,
    "permutation": permutation,
    "sum": lazy_sum,
    "product": product,
    "scaled": scaled,
    "adjoint": adjoint,
}


def built(kind, dtype, shape=(N, N)):
    A, D = KINDS[kind](np.random.default_rng(7), *shape, dtype)
    assert A.kind == kind
    assert A.shape == shape
    return A, D


def identity(dtype, factor=1.0):
    """A multiple of the identity that costs a multiplication a row and keeps the dtype."""
    return (factor * structmat.Permutation(np.arange(N))).astype(dtype)


def positive(kind, dtype):
    """A Hermitian positive definite matrix of distinct eigenvalues made from a kind."""
    A, D = built(kind, dtype)
    if kind == "permutation":  # A^H A is the identity
        T, F = block_sparse(np.random.default_rng(8), N, N, dtype)
        S, E = A @ (T + T.H) @ A.H, D @ (F + F.conj().T) @ D.T
    else:
        S, E = A.H @ A + identity(dtype, 0.5), D.conj().T @ D + 0.5 * np.eye(N, dtype=dtype)
    assert S.dtype == np.dtype(dtype)
    return S, E


def vector(dtype, size=N):
    return noise(np.random.default_rng(3), size, dtype=dtype)


def close(got, expected, dtype, what=""):
    scale = max(np.abs(expected).max(), 1e-30)
    error = np.abs(np.asarray(got) - expected).max() / scale
    assert error < NEAR[dtype], f"{what} is off by {error:.3g}"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.mark.parametrize("shape", [(N, N), TALL], ids=str)
def test_builders_agree_with_dense_arrays_built_without_structmat(kind, dtype, shape):
    if kind == "permutation" and shape == TALL:
        pytest.skip("permutations are square")
    A, D = built(kind, dtype, shape)
    close(A.to_dense(), D, dtype)
    assert np.linalg.cond(D) < 30
    assert isinstance(A, LinearOperator)
    assert aslinearoperator(A) is A


# Linear systems.


@pytest.mark.parametrize("solver", [gmres, bicgstab, qmr], ids=lambda f: f.__name__)
def test_general_solvers(solver, kind, dtype):
    A, D = built(kind, dtype)
    b = vector(dtype)
    x, info = solver(A, b, rtol=RTOL[dtype], maxiter=500)
    assert info == 0
    # A permutation has no precision of its own, and says double to solvers that ask.
    assert x.dtype == (np.result_type(dtype, "float64") if kind == "permutation" else dtype)
    close(x, np.linalg.solve(D, b), dtype)


@pytest.mark.parametrize("solver", [cg, minres], ids=lambda f: f.__name__)
def test_symmetric_solvers(solver, kind, dtype):
    if solver is minres and np.dtype(dtype).kind == "c":
        pytest.skip("SciPy's minres leaves out the conjugates that complex systems need")
    S, D = positive(kind, dtype)
    b = vector(dtype)
    x, info = solver(S, b, rtol=RTOL[dtype], maxiter=500)
    assert info == 0
    assert solver is minres or x.dtype == np.dtype(dtype)
    close(x, np.linalg.solve(D, b), dtype)


def counting(solver, A, b, **options):
    """Solution and number of iterations."""
    steps = []
    name = {"callback_type": "pr_norm"} if solver is gmres else {}
    x, info = solver(A, b, callback=steps.append, **name, **options)
    assert info == 0
    return x, len(steps)


def test_preconditioner_is_the_exact_inverse_of_a_positive_system(kind, dtype):
    S, D = positive(kind, dtype)
    hard = np.linalg.inv(D.astype("complex128" if D.dtype.kind == "c" else "float64"))
    hard = hard.astype(dtype)
    b = vector(dtype)
    for solver in (cg,) if np.dtype(dtype).kind == "c" else (cg, minres):
        plain = counting(solver, hard, b, rtol=RTOL[dtype])[1]
        x, steps = counting(solver, hard, b, M=S, rtol=RTOL[dtype])
        close(x, D @ b, dtype, solver.__name__)
        assert steps <= 3 <= plain


@pytest.mark.parametrize("solver", [gmres, bicgstab], ids=lambda f: f.__name__)
def test_preconditioner_is_the_exact_inverse_of_a_general_system(solver, kind, dtype):
    B, D = built(kind, dtype)
    hard = np.linalg.inv(D)
    b = vector(dtype)
    x, steps = counting(solver, hard, b, M=B, rtol=RTOL[dtype])
    close(x, D @ b, dtype)
    assert steps <= 3


def test_qmr_takes_a_two_sided_preconditioner(kind, dtype):
    B, D = built(kind, dtype)
    b = vector(dtype)
    x, steps = counting(qmr, np.linalg.inv(D), b, M1=B, M2=identity(dtype), rtol=RTOL[dtype])
    close(x, D @ b, dtype)
    assert steps <= 4


def test_matrix_and_preconditioner_at_once(kind, dtype):
    B, D = built(kind, dtype)
    M = structmat.Dense(np.linalg.inv(D))
    b = vector(dtype)
    x, steps = counting(gmres, B, b, M=M, rtol=RTOL[dtype])
    close(x, np.linalg.solve(D, b), dtype)
    assert steps <= 3


@pytest.mark.parametrize("solver", [lsqr, lsmr], ids=lambda f: f.__name__)
def test_least_squares(solver, kind, dtype):
    if solver is lsmr and dtype == "float32":
        pytest.skip("SciPy's lsmr overflows in float32 on plain arrays as well")
    shape = (N, N) if kind == "permutation" else TALL
    A, D = built(kind, dtype, shape)
    b = vector(dtype, shape[0])
    tight = 1e-7 if dtype == "float32" else 1e-13
    x = solver(A, b, atol=tight, btol=tight)[0]
    close(x, np.linalg.lstsq(D, b)[0], dtype)
    damped = solver(A, b, damp=0.3, atol=tight, btol=tight)[0]
    normal = D.conj().T @ D + 0.09 * np.eye(shape[1])
    close(damped, np.linalg.solve(normal, D.conj().T @ b), dtype)


# Eigenvalues and singular values.


def inexact(A, dtype):
    """SciPy's eigensolvers ask for a floating dtype, which a bare permutation has not."""
    return A if A.kind != "permutation" else (1.0 * A).astype(dtype)


@pytest.mark.parametrize("solver", ["arpack", "lobpcg", "propack"])
def test_svds(solver, kind, dtype):
    shape = (N, N) if kind == "permutation" else TALL
    A, D = built(kind, dtype, shape)
    if kind == "permutation":  # all singular values of a permutation are one
        T, E = low_rank(np.random.default_rng(8), N, N, dtype)
        A, D = A + T, D + E
        assert A.kind == "sum"
    loose = 1e-4 if dtype == "float32" else 1e-9
    if solver == "lobpcg":  # which takes the square of it, as the bound for A^H A
        loose = 1e-2 if dtype == "float32" else 1e-4
    U, s, Vh = svds(A, k=3, solver=solver, tol=loose, maxiter=500, rng=0)
    order = np.argsort(-s)
    close(s[order], np.linalg.svd(D, compute_uv=False)[:3], dtype)
    close(D @ Vh.conj().T, U * s, dtype if dtype == "float32" else "float64", "A V = U S")


def test_eigs(kind, dtype):
    A, D = built(kind, dtype)
    loose = 1e-5 if dtype == "float32" else 1e-11
    if kind == "permutation":  # one cycle: the roots of unity, of which 1 lies farthest right
        cycle = np.roll(np.arange(N), 1)
        A, D = structmat.Permutation(cycle), np.eye(N)[cycle]
        values, vectors = eigs(inexact(A, dtype), k=1, which="LR", v0=vector(dtype), tol=loose)
        close(values, np.ones(1), dtype)
    else:
        values, vectors = eigs(A, k=2, v0=vector(dtype), tol=loose)
        expected = np.linalg.eigvals(D)
        close(np.sort(np.abs(values)), np.sort(np.abs(expected))[-2:], dtype)
    close(D @ vectors, vectors * values, dtype, "A v")


@pytest.mark.parametrize("which", ["LM", "SM"])
def test_eigsh(which, kind, dtype):
    S, D = positive(kind, dtype)
    values = eigsh(
        S,
        k=3,
        which=which,
        v0=vector(dtype),
        tol=1e-5 if dtype == "float32" else 1e-11,
        maxiter=2000,
        return_eigenvectors=False,
    )
    expected = np.linalg.eigvalsh(D)
    close(np.sort(values), expected[-3:] if which == "LM" else expected[:3], dtype)


def counted(monkeypatch, A):
    """Calls of every public product of the class of A, and of those SciPy's wrappers use."""
    calls = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), 0)

    def watch(name, original):
        def product(self, x):
            if self is A:
                calls[name.removeprefix("_")] += 1
            return original(self, x)

        monkeypatch.setattr(type(A), name, product)

    for name in calls:
        watch(name, getattr(type(A), name))
        watch("_" + name, getattr(type(A), "_" + name))
    return calls


@pytest.mark.parametrize("largest", [True, False])
def test_lobpcg(largest, kind, dtype, monkeypatch):
    S, D = positive(kind, dtype)
    X = noise(np.random.default_rng(5), N, 4, dtype=dtype)
    calls = counted(monkeypatch, S)
    values, vectors = lobpcg(
        S, X, largest=largest, maxiter=300, tol=1e-3 if dtype == "float32" else 1e-6
    )
    expected = np.linalg.eigvalsh(D)
    close(np.sort(values), expected[-4:] if largest else expected[:4], dtype)
    assert np.abs(D @ vectors - vectors * values).max() < 1e-2
    assert calls["matmat"] > 0
    assert calls["matvec"] == calls["rmatvec"] == 0


def test_lobpcg_with_a_preconditioner_uses_its_matmat(kind, monkeypatch):
    S, D = positive(kind, "float64")
    hard = np.linalg.inv(D)
    calls = counted(monkeypatch, S)
    X = noise(np.random.default_rng(5), N, 4, dtype="float64")
    values, _ = lobpcg((hard + hard.T) / 2, X, M=S, largest=False, maxiter=100, tol=1e-8)
    close(np.sort(values), 1 / np.linalg.eigvalsh(D)[::-1][:4], "float64")
    assert calls["matmat"] > 0
    assert calls["matvec"] == 0


def test_svds_by_lobpcg_uses_matmat(kind, dtype, monkeypatch):
    shape = (N, N) if kind == "permutation" else TALL
    A = inexact(built(kind, dtype, shape)[0], dtype)
    if kind == "permutation":
        A = A + low_rank(np.random.default_rng(8), N, N, dtype)[0]
    calls = counted(monkeypatch, A)
    # Few steps to a bound out of reach: no column converges, so that SciPy, which takes
    # matvec for the last one that is left, keeps all three together.
    with pytest.warns(UserWarning, match="not reaching the requested tolerance"):
        svds(A, k=3, solver="lobpcg", tol=1e-8, maxiter=3, rng=0)
    assert calls["matmat"] >= 3
    assert calls["rmatmat"] > 0
    assert calls["matvec"] == calls["rmatvec"] == 0


def test_lobpcg_calls_do_not_grow_with_the_number_of_columns(kind, monkeypatch):
    """A hidden loop over columns would call the structure's own product once a column."""
    S, _ = positive(kind, "float64")
    widths = []
    original = type(S)._multiply

    def multiply(self, x):
        if self is S:
            widths.append(x.shape[1])
        return original(self, x)

    monkeypatch.setattr(type(S), "_multiply", multiply)
    lobpcg(S, noise(np.random.default_rng(5), N, 4, dtype="float64"), maxiter=300, tol=1e-6)
    assert widths[0] == 4
    assert sum(widths) >= 2 * len(widths)


# Norms and functions of matrices.


def test_onenormest(kind, dtype):
    A, D = built(kind, dtype)
    exact = np.abs(D).sum(axis=0).max()
    # The estimate is a lower bound, in practice almost always the norm itself.
    estimate = onenormest(A, t=6)
    assert exact / 2 <= estimate <= exact * (1 + NEAR[dtype])
    value, v, w = onenormest(A, t=6, compute_v=True, compute_w=True)
    close(np.abs(D @ v).sum(), value, dtype)
    close(D @ v, w, dtype)


def test_expm_multiply(kind, dtype):
    # SciPy picks the length of its series by onenormest, which draws from the global
    # generator and for a permutation may come out low, with any operator.
    np.random.seed(0)  # noqa: NPY002
    A, D = built(kind, dtype)
    bound = "float32" if kind == "permutation" else dtype
    b = vector(dtype)
    X = noise(np.random.default_rng(5), N, 3, dtype=dtype)
    E, trace = scipy.linalg.expm(D), np.trace(D)
    close(expm_multiply(A, b, traceA=trace), E @ b, bound)
    close(expm_multiply(A, X, traceA=trace), E @ X, bound)
    at = expm_multiply(A, b, start=0.0, stop=1.0, num=3, endpoint=True, traceA=trace)
    close(at[0], b, dtype, "exp(0) b")
    close(at[1], scipy.linalg.expm(D / 2) @ b, bound, "exp(A / 2) b")
    close(at[2], E @ b, bound, "exp(A) b")


def test_funm_multiply_krylov(kind, dtype):
    A, D = built(kind, dtype)
    b = vector(dtype)
    loose = 1e-5 if dtype == "float32" else 1e-10
    y = funm_multiply_krylov(scipy.linalg.expm, A, b, t=0.5, rtol=loose)
    close(y, scipy.linalg.expm(D / 2) @ b, dtype)
    S, E = positive(kind, dtype)
    y = funm_multiply_krylov(scipy.linalg.sqrtm, S, b, assume_a="hermitian", rtol=loose)
    close(y, scipy.linalg.sqrtm(E) @ b, dtype)


# Mixtures with SciPy's operators, its sparse matrices, and arrays.


def test_sums_and_products_with_scipy_operators(kind, dtype):
    A, D = built(kind, dtype)
    E = noise(np.random.default_rng(9), N, N, dtype=dtype)
    P = aslinearoperator(E)
    x, X = vector(dtype), noise(np.random.default_rng(5), N, 3, dtype=dtype)
    for name, mixed, expected in (
        ("P + A", P + A, E + D),
        ("A + P", A + P, D + E),
        ("P - A", P - A, E - D),
        ("A - P", A - P, D - E),
        ("P @ A", P @ A, E @ D),
        ("A @ P", A @ P, D @ E),
        ("P * A", P * A, E @ D),
        ("2 (A + P)", 2 * (A + P), 2 * (D + E)),
        ("A @ A + P", A @ A + P, D @ D + E),
    ):
        assert isinstance(mixed, LinearOperator)
        assert mixed.shape == (N, N)
        close(mixed @ x, expected @ x, dtype, name)
        close(mixed @ X, expected @ X, dtype, name)
        close(mixed.matmat(X), expected @ X, dtype, name)
        close(mixed.rmatvec(x), expected.conj().T @ x, dtype, name)
        close(mixed.H @ x, expected.conj().T @ x, dtype, name)
        close(mixed.T @ X, expected.T @ X, dtype, name)


def test_scipys_own_methods_take_a_matrix(kind, dtype):
    A, D = built(kind, dtype)
    E = noise(np.random.default_rng(9), N, N, dtype=dtype)
    x = vector(dtype)
    close(A.rdot(aslinearoperator(E)) @ x, E @ D @ x, dtype)
    close(A.rdot(x), x @ D, dtype)
    close(LinearOperator.transpose(A) @ x, D.T @ x, dtype)
    close(LinearOperator.adjoint(A) @ x, D.conj().T @ x, dtype)


def test_solver_on_a_mixture_with_scipy(kind, dtype):
    A, D = built(kind, dtype)
    E = np.diag(np.arange(1, N + 1)).astype(dtype)
    S = A.H @ A + aslinearoperator(scipy.sparse.csr_array(E))
    b = vector(dtype)
    x, info = cg(S, b, rtol=RTOL[dtype])
    assert info == 0
    close(x, np.linalg.solve(D.conj().T @ D + E, b), dtype)


def test_identity_operator_of_scipy_mixes_in(kind):
    A, D = built(kind, "float64")
    eye = aslinearoperator(scipy.sparse.eye_array(N))
    x = vector("float64")
    close((A - 0.5 * eye) @ x, D @ x - 0.5 * x, "float64")
    close((0.5 * eye - A) @ x, 0.5 * x - D @ x, "float64")


@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_array", "csr_matrix"])
def test_products_with_scipy_sparse(form, kind, dtype):
    A, D = built(kind, dtype)
    E = np.diag(np.arange(1, N + 1)).astype(dtype)[:7]
    sparse = getattr(scipy.sparse, form)(E)
    for got, expected in ((sparse @ A, E @ D), (A @ sparse.T, D @ E.T)):
        assert isinstance(got, structmat.StructuredMatrix)
        close(got.toarray(), expected, dtype)


def test_products_with_arrays_on_both_sides(kind, dtype):
    A, D = built(kind, dtype)
    x, X = vector(dtype), noise(np.random.default_rng(5), 2, 3, N, dtype=dtype)
    close(x @ A, x @ D, dtype)
    close(X @ A, X @ D, dtype)
    close(A @ x, D @ x, dtype)
    close(A @ X.swapaxes(1, 2), D @ X.swapaxes(1, 2), dtype)
    assert (X @ A).dtype == np.dtype(dtype)


def test_lazy_kinds_are_what_they_say():
    for kind, cls in (("sum", Sum), ("product", Product), ("scaled", Scaled), ("adjoint", Adjoint)):
        assert type(built(kind, "float64")[0]) is cls


def test_precision_of_the_operand_decides_where_it_is_higher(kind):
    A, D = built(kind, "float32")
    x = vector("float64")
    assert (A @ x).dtype == np.float64
    np.testing.assert_allclose(A @ x, D.astype("float64") @ x, rtol=1e-5, atol=1e-5)
    assert cg(positive(kind, "float32")[0], x, rtol=1e-6)[0].dtype == np.float64
