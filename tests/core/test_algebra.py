"""Algebra that stays inside: kron, blocks, operators, powers, parts, sums that grow, batches."""

import math
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.sparse
from cases import (
    block_low_rank,
    block_sparse,
    build,
    contents,
    dense,
    diagonal,
    gblr,
    hierarchical,
    identity,
    low_rank,
    monarch,
    permutation,
)
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from test_contract import close, on

import structmat
from structmat import Dense, Diagonal, Identity, LowRank, StructuredMatrix
from structmat._array import to_numpy
from structmat.errors import BackendError, InputError, OperationError, ShapeError
from structmat.matrices import Grid, Kronecker
from structmat.testing import check_matrix

SYMMETRIC = hierarchical(
    (4, 4), [[0, 2, 0, 2, -1], [2, 2, 0, 2, 1], [2, 2, 2, 2, -1]],
    row_order=[2, 0, 3, 1], col_order=[2, 0, 3, 1], symmetric=True,
)  # fmt: skip
PLAIN = hierarchical((3, 4), [[0, 2, 0, 4, 2], [2, 1, 0, 1, -1]], row_order=[1, 2, 0])


def built(backend, *builders, dtype="complex128"):
    """Matrices on a library, and their dense twins."""
    pairs = [builder(contents(dtype, i)) for i, builder in enumerate(builders)]
    return [A.to(backend) for A, _ in pairs], [D for _, D in pairs]


# Kronecker products.

KRON = {
    "identities": (identity(3), identity(2), "identity"),
    "permutations": (permutation([2, 0, 1]), permutation([1, 0]), "permutation"),
    "permutation and identity": (permutation([2, 0, 1]), identity(2), "permutation"),
    "diagonals": (diagonal(3), diagonal(2), "diagonal"),
    "identity and diagonal": (identity(3), diagonal(2), "diagonal"),
    "low ranks": (low_rank(3, 2, 1), low_rank(2, 3, 1), "low_rank"),
    "low ranks, dear": (low_rank(3, 3, 3), low_rank(3, 3, 3), "kronecker"),
    "sparse": (block_sparse(3, 3, 1, 1, [0, 1], [1, 2]), block_sparse(4, 4, 2, 2, [0], [1]),
               "block_sparse"),
    "diagonal and sparse": (diagonal(3), block_sparse(4, 6, 2, 3, [0, 1], [1, 1]), "block_sparse"),
    "off the grid": (diagonal(3), block_sparse(3, 3, 2, 2, [0], [1]), "kronecker"),
    "blocks and sparse": (block_sparse(3, 3, 2, 2, [1], [0]), block_sparse(2, 2, 1, 1, [0], [1]),
                          "block_sparse"),
    "identity and dense": (identity(3), dense(2, 3), "kronecker"),
    "any": (monarch((2, 2, 2), (2, 2, 2)), gblr(3, 2, [2], [2], [1], [1]), "kronecker"),
    "no rows": (low_rank(0, 2, 1), dense(2, 3), "low_rank"),
}  # fmt: skip


@pytest.mark.parametrize("name", KRON)
def test_kron_is_structured_where_that_costs_no_more(name, backend):
    *builders, kind = KRON[name]
    (A, B), (D, E) = built(backend, *builders)
    K = structmat.kron(A, B)
    assert K.kind == ("kronecker" if name == "no rows" else kind)
    assert K.cost <= Kronecker(A, B).cost
    expected = np.kron(D, E)
    check_matrix(K, on(backend, expected if K.neutral is False else expected.real))


def test_the_cost_of_a_kronecker_product_is_that_of_the_cheaper_order():
    A, B = Dense(np.ones((5, 2))), Dense(np.ones((3, 4)))
    K = structmat.kron(A, B)
    assert (K.cost, K.storage) == (min(2 * 12 + 3 * 10, 4 * 10 + 5 * 12), 22)
    calls = []

    class Counted(LinearOperator):
        def __init__(self, X):
            super().__init__(np.float64, X.shape)
            self.X = X

        def _matmat(self, x):
            calls.append((self.shape, x.shape[1]))
            return self.X @ x

    ours = structmat.kron(Counted(np.ones((5, 2))), Counted(np.ones((3, 4))))
    np.testing.assert_allclose(ours @ np.ones(8), 8.0)
    assert calls == [((3, 4), 2), ((5, 2), 3)]


def test_products_of_kronecker_products_are_of_the_factors(backend):
    (A, B, C, E), (a, b, c, e) = built(
        backend, gblr(3, 4, [2], [2], [1], [2]), dense(2, 3), low_rank(4, 2, 1), dense(3, 5)
    )
    K = structmat.kron(A, B) @ structmat.kron(C, E)
    assert (K.kind, K.children[0].kind, K.children[1].kind) == ("kronecker", "low_rank", "dense")
    close(K.to_dense(), np.kron(a, b) @ np.kron(c, e), "complex128")
    apart = structmat.kron(A, B) @ structmat.kron(Dense(on(backend, np.ones((3, 2)))), A.H)
    assert apart.kind == "product"
    powers = structmat.kron(A @ A.H, Dense(on(backend, np.ones((2, 2))))) ** 3
    assert powers.kind == "kronecker"


WIDE = block_sparse(3, 40, 3, 3, [0], [5])
SHORT_SIDES = {
    "dense": (dense(40, 3), dense(3, 40), "low_rank"),
    "half": (dense(40, 20), dense(20, 40), "dense"),
    "none": (dense(40, 0), dense(0, 40), "low_rank"),
    "sparse on the right": (dense(40, 3), WIDE, "product"),
    "sparse on the left": (block_sparse(40, 3, 3, 3, [5], [0]), dense(3, 40), "product"),
    "low rank": (dense(40, 3), low_rank(3, 40, 2), "low_rank"),
    "low rank, dear": (low_rank(40, 3, 6), dense(3, 40), "low_rank"),
    "rank and sparse": (low_rank(3, 3, 3), WIDE, "product"),
    "square": (dense(5, 5), block_sparse(5, 5, 1, 1, [0], [1]), "dense"),
}


@pytest.mark.parametrize("name", SHORT_SIDES)
def test_products_take_no_more_than_their_factors(backend, name):
    *builders, kind = SHORT_SIDES[name]
    (A, B), (a, b) = built(backend, *builders)
    for left, right, expected in ((A, B, a @ b), (B.H, A.H, (a @ b).conj().T)):
        joined = left @ right
        assert joined.kind == kind
        assert joined.cost <= left.cost + right.cost
        close(joined.to_dense(), expected, "complex128")


def test_kronecker_products_with_a_common_factor_add_up():
    A, B, C = (build(name)[0] for name in ("monarch", "gblr", "block_sparse"))
    K = structmat.kron(A, B)
    for total, factor in (
        (K + structmat.kron(A, 2 * B), K.children[1]),
        (K - structmat.kron(2 * A, B), K.children[1]),
    ):
        assert total.kind == "kronecker"
        assert total.children[1].shape == factor.shape
    assert (K + structmat.kron(A, B.H.H)).kind == "kronecker"
    assert (structmat.kron(B, C) + structmat.kron(B.copy(), C.copy())).kind == "sum"


def test_norms_of_kronecker_products_are_products_of_norms(monkeypatch):
    (A, B), (D, E) = built("numpy", dense(4, 3), gblr(3, 5, [2], [2], [1], [3]))
    K = structmat.kron(A, B)
    expected = {ord: np.linalg.norm(np.kron(D, E), ord) for ord in ("fro", 1, 2, math.inf)}
    monkeypatch.setattr(Kronecker, "_applied", None)  # no product with unit vectors
    for ord, size in expected.items():
        assert K.norm(ord) == pytest.approx(size, rel=1e-12)
    wide = structmat.kron(Dense(np.ones((9, 4))), structmat.kron(A, B))
    np.testing.assert_allclose(
        wide.diagonal(), np.diagonal(np.kron(np.ones((9, 4)), np.kron(D, E)))
    )


def test_parts_of_kronecker_products_are_of_the_factors():
    (A, B), (D, E) = built("numpy", dense(4, 3), gblr(3, 5, [2], [2], [1], [3]))
    K, F = structmat.kron(A, B), np.kron(D, E)
    for key, kind in (
        (np.s_[3:9, 5:], "kronecker"), (np.s_[[1, 2, 10, 11], :5], "kronecker"),
        (np.s_[4:7, :], "product"), (np.s_[:, [0, 4, 7]], "product"),
    ):  # fmt: skip
        assert K[key].kind == kind
        close(K[key].to_dense(), F[key], "complex128")
    assert (K[6:9, :] - A[2:3, :].to_dense()[0, 0] * 0 * K[6:9, :]).shape == (3, 15)


# Blocks.

DIAGONAL = {
    "identities": ([identity(2), identity(3)], "identity"),
    "permutations": ([permutation([1, 0]), identity(1), permutation([2, 0, 1])], "permutation"),
    "diagonals": ([diagonal(2), diagonal(3)], "diagonal"),
    "identity and diagonal": ([identity(2), diagonal(3)], "grid"),
    "low ranks": ([low_rank(3, 2, 1), low_rank(2, 4, 2)], "block_low_rank"),
    "tiles": ([low_rank(3, 2, 1), block_low_rank([1, 2], [2, 1], {(0, 0): 1, (1, 1): None}),
               dense(2, 1)], "block_low_rank"),
    "dense of one shape": ([dense(2, 3), dense(2, 3)], "block_sparse"),
    "dense of two shapes": ([dense(2, 3), dense(1, 3)], "block_low_rank"),
    "sparse on one grid": ([block_sparse(4, 6, 2, 3, [0, 1], [1, 0]),
                            block_sparse(3, 4, 2, 3, [0, 1], [1, 0])], "block_sparse"),
    "sparse off the grid": ([block_sparse(3, 6, 2, 3, [0], [1]),
                             block_sparse(3, 4, 2, 3, [0], [1])], "grid"),
    "entries and diagonal": ([block_sparse(3, 3, 1, 1, [0], [1]), diagonal(2)], "block_sparse"),
    "runs": ([gblr(4, 3, [1], [3], [0], [2]), gblr(2, 2, [0], [1], [1], [1])], "gblr"),
    "runs that wrap": ([gblr(4, 3, [3], [3], [0], [2]), gblr(2, 2, [0], [1], [1], [1])], "grid"),
    "runs and low rank": ([gblr(4, 3, [1], [3], [0], [2]), low_rank(3, 3, 1)], "gblr"),
    "symmetric": ([SYMMETRIC, SYMMETRIC], "hierarchical"),
    "hierarchical": ([SYMMETRIC, PLAIN], "hierarchical"),
    "one": ([monarch((2, 2, 2), (2, 2, 2))], "monarch"),
    "any": ([monarch((2, 2, 2), (2, 2, 2)), identity(3)], "grid"),
    "no rows": ([low_rank(0, 2, 1), low_rank(3, 0, 1)], "grid"),
    "nothing": ([low_rank(0, 0, 0), dense(0, 0)], "grid"),
}  # fmt: skip


def diagonal_of(*arrays):
    top = np.cumsum([[0, 0], *(D.shape for D in arrays)], axis=0)
    result = np.zeros(top[-1], np.result_type(*arrays))
    for D, (i, j) in zip(arrays, top, strict=False):
        result[i : i + D.shape[0], j : j + D.shape[1]] = D
    return result


@pytest.mark.parametrize("name", DIAGONAL)
def test_block_diag_is_structured_where_that_costs_no_more(name, backend):
    builders, kind = DIAGONAL[name]
    matrices, arrays = built(backend, *builders)
    B = structmat.block_diag(*matrices)
    assert B.kind == kind
    assert B.cost <= sum(A.cost for A in matrices)
    expected = diagonal_of(*arrays)
    check_matrix(B, on(backend, expected.real if B.neutral else expected))
    if name == "symmetric":
        assert B.symmetric


BESIDE = {
    "low ranks": ([low_rank(3, 2, 1), low_rank(3, 4, 2)], "block_low_rank"),
    "dense": ([dense(3, 2), dense(3, 4)], "dense"),
    "runs": ([gblr(4, 3, [1], [3], [0], [2]), gblr(4, 2, [0], [1], [1], [1])], "gblr"),
    "runs that wrap across": ([gblr(4, 3, [3], [3], [0], [2]), gblr(4, 2, [3], [4], [0], [2])],
                              "gblr"),
    "sparse": ([block_sparse(5, 6, 2, 3, [0, 2], [1, 0]),
                block_sparse(5, 4, 2, 3, [0, 1], [1, 0])], "block_sparse"),
    "hierarchical": ([PLAIN, PLAIN], "hierarchical"),
    "any": ([gblr(4, 3, [1], [3], [0], [2]), monarch((2, 2, 2), (2, 2, 2))], "grid"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_concatenate_is_structured_where_that_costs_no_more(name, backend):
    builders, kind = BESIDE[name]
    matrices, arrays = built(backend, *builders)
    for axis in (1, -1):
        B = structmat.concatenate(matrices, axis)
        assert B.kind == ("grid" if name == "runs that wrap across" else kind)
        assert B.cost <= sum(A.cost for A in matrices)
        check_matrix(B, on(backend, np.concatenate(arrays, 1)))
    C = structmat.concatenate([A.H for A in matrices])
    check_matrix(C, on(backend, np.concatenate([D.conj().T for D in arrays])))


def test_runs_that_wrap_around_convert_to_two(backend):
    (A, B), (D, E) = built(
        backend, gblr(4, 3, [3, 1], [3, 0], [2, 1], [3, 1]), gblr(2, 2, [1], [2], [0], [1])
    )
    C = structmat.block_diag(A, B)
    assert C.kind == "grid"
    runs = C.to_kind("gblr")
    assert (runs.kind, runs.num_blocks, B.num_blocks) == ("gblr", 4 + 2, 1)
    check_matrix(runs, on(backend, diagonal_of(D, E)))


def test_blocks_of_all_sorts_and_none():
    c = contents("float64")
    (A, D), P = gblr(3, 4, [2], [2], [1], [2])(c), np.arange(6.0).reshape(3, 2)
    S = scipy.sparse.csr_matrix(np.eye(2, 4))
    B = structmat.block([[A, P], [S, None], [None, aslinearoperator(P)]])
    expected = np.block([[D, P], [S.toarray(), np.zeros((2, 2))], [np.zeros((3, 4)), P]])
    check_matrix(B, expected)
    assert B.cost == A.cost + 6 + 2 + 6
    assert structmat.block([A, P]).shape == (3, 6)
    assert structmat.block([[A]]) is A
    K = structmat.KernelMatrix(np.arange(3.0)[:, None], "exponential")
    assert "kernel" in {child.kind for child in structmat.block([[K, P]]).children}


def test_wide_precisions_are_kept():
    narrow, wide = LowRank(*np.ones((2, 2, 1), "f4")), np.ones((2, 0))
    assert structmat.block([[narrow, wide]]).dtype == np.float64
    assert structmat.block_diag(Identity(2), narrow).dtype == np.float32
    assert structmat.kron(narrow, np.ones((1, 1), complex)).dtype == np.complex128
    B = structmat.block_diag(1j * Dense(np.ones((2, 2), "f4")), Diagonal([1.0, 2.0]))
    assert (B.real.dtype, B.imag.dtype) == (np.float64, np.float64)
    assert (B.real[:2, :2].dtype, B[:2, :2].dtype) == (np.float64, np.complex128)


def test_grids_on_one_grid_add_and_multiply_block_by_block():
    (A, B), (D, E) = built("numpy", monarch((2, 2, 2), (2, 2, 2)), gblr(3, 3, [1], [2], [0], [2]))
    C, F = structmat.block_diag(A, B), diagonal_of(D, E)
    total, product = C + C.copy(), C @ C.H
    assert (total.kind, product.kind) == ("grid", "grid")
    assert product.cost <= 2 * C.cost
    close(total.to_dense(), 2 * F, "complex128")
    close(product.to_dense(), F @ F.conj().T, "complex128")
    full = structmat.block([[A, A], [A, A]])
    assert (full @ full).kind == "product"
    with pytest.raises(InputError, match="nothing but None"):
        structmat.block([[A, None], [A, None]])


def test_block_diagonal_norms_are_those_of_the_blocks(monkeypatch):
    (A, B), (D, E) = built("numpy", monarch((2, 2, 2), (2, 2, 2)), identity(3))
    C, F = structmat.block_diag(A, B), diagonal_of(D, E)
    monkeypatch.setattr(Grid, "_applied", None)
    for ord in ("fro", 1, 2, math.inf):
        assert C.norm(ord) == pytest.approx(np.linalg.norm(F, ord), rel=1e-12)


def test_hermitian_blocks_make_hermitian_matrices():
    M, D = Dense(np.arange(6.0).reshape(3, 2)), Diagonal([1.0, 2.0, 3.0])
    A = structmat.block([[D, M @ Identity(2)], [M.H, Identity(2)]])
    assert (A.kind, A.hermitian, A.H is A) == ("grid", True, True)
    assert not structmat.block([[D, M], [-M.H, Identity(2)]]).hermitian
    assert structmat.kron(D, structmat.KernelMatrix(np.eye(2), "gaussian")).hermitian
    assert structmat.block_diag(D, A).hermitian


REFUSED = {
    "no matrix": (InputError, lambda: structmat.block_diag(), "expected one at least"),
    "empty list": (InputError, lambda: structmat.concatenate([]), "expected one at least"),
    "text": (InputError, lambda: structmat.kron("A", np.eye(2)), "expected a structured matrix"),
    "a vector": (ShapeError, lambda: structmat.kron(np.ones(2), np.eye(2)), r"x\[None, :\]"),
    "axis 2": (InputError, lambda: structmat.concatenate([np.eye(2)], 2), "axis = 2"),
    "heights": (ShapeError, lambda: structmat.block([[np.eye(2), np.eye(3)]]), "height 2"),
    "widths": (ShapeError, lambda: structmat.concatenate([np.eye(2), np.eye(3)]), "width 2"),
    "rows": (ShapeError, lambda: structmat.block([[np.eye(2)], []]), "expected one number"),
    "no list": (InputError, lambda: structmat.block(np.eye(2)), "expected rows of blocks"),
    "all None": (InputError, lambda: structmat.block([[None]]), "expected one at least"),
    "a row of None": (InputError, lambda: structmat.block([[np.eye(2)], [None]]), "row 1"),
    "objects": (InputError, lambda: structmat.kron([[None]], np.eye(2)), "objects"),
    "a result": (
        InputError,
        lambda: structmat.kron(structmat.compress(np.eye(2), "low_rank", tol=0.1), np.eye(2)),
        r"its \.matrix",
    ),
    "libraries": (
        BackendError, lambda: structmat.kron(Identity(2), Identity(2).to("array_api_strict")),
        "expected arrays of one library",
    ),
    "stack of none": (InputError, lambda: structmat.stack([]), "expected one at least"),
    "stack of shapes": (ShapeError, lambda: structmat.stack([np.eye(2), np.eye(3)]), "one shape"),
    "overlap": (
        InputError,
        lambda: Grid(Identity(1), Identity(1), places=[[0, 0], [0, 0]], row_sizes=[1],
                     col_sizes=[1]),
        "each place once",
    ),
    "misfit": (
        ShapeError, lambda: Grid(Identity(1), places=[[0, 0]], row_sizes=[2], col_sizes=[1]),
        r"expected \(2, 1\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_matrix_of_matrices_is_refused(name):
    error, action, words = REFUSED[name]
    with pytest.raises(error, match=words):
        action()


NUMPY = {
    "kron": (lambda A: np.kron(A, A), "kronecker"),
    "kron with an array": (lambda A: np.kron(np.eye(2), A), "kronecker"),
    "block": (lambda A: np.block([[A, A], [A, A]]), "gblr"),
    "one row": (lambda A: np.block([A, A]), "gblr"),
    "concatenate": (lambda A: np.concatenate((A, A), axis=1), "gblr"),
    "vstack": (lambda A: np.vstack([A, np.ones((1, 5))]), "grid"),
    "hstack": (lambda A: np.hstack((A, A)), "gblr"),
    "matrix_power": (lambda A: np.linalg.matrix_power(A @ A.T, 2), "product"),
    "real": (lambda A: np.real(A @ (2j * A).T), "product"),
}


@pytest.mark.parametrize("name", NUMPY)
def test_functions_of_numpy_reach_the_algebra(name):
    A, D = gblr(7, 5, [4, 0, 3], [3, 7, 2], [1, 1, 0], [3, 0, 5])(contents("float64"))
    call, kind = NUMPY[name]
    got = call(A)
    assert isinstance(got, StructuredMatrix)
    if name not in ("matrix_power", "real"):
        assert got.kind == kind
    np.testing.assert_allclose(got.toarray(), call(D), atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda A: np.kron(A, np.ones(2)), lambda A: np.concatenate([A, A], axis=None),
        lambda A: np.hstack([A, np.ones((7, 2))], dtype="f4"), lambda A: np.block([[[A]], [[A]]]),
        lambda A: np.stack([A, A]),
    ],
)  # fmt: skip
def test_other_calls_of_numpy_get_the_dense_form(call):
    A, D = build("gblr", "float64")
    assert isinstance(call(A), np.ndarray)
    np.testing.assert_allclose(call(A), call(D), rtol=1e-6)


# Operators of other libraries.


class Duck:
    """An operator of a library of its own, known by its vectors."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape

    def matvec(self, x):
        return self.X @ x

    def rmatvec(self, y):
        return self.X.conj().T @ y


class Forward:
    """An operator without an adjoint."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def matvec(self, x):
        return self.X @ x


OPERATORS = {
    "SciPy": aslinearoperator,
    "functions": lambda X: LinearOperator(
        X.shape, matvec=partial(np.matmul, X), rmatvec=partial(np.matmul, X.conj().T), dtype=X.dtype
    ),
    "duck": Duck,
}


@pytest.mark.parametrize("library", OPERATORS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_operators_stay_inside_at_every_place(library, dtype):
    (A, D), X = build("gblr-prime", dtype), contents(dtype, 5)(53, 37)
    P, Q = (OPERATORS[library](M) for M in (X, X.T))
    results = [(A + P, D + X), (A - P, D - X), (A @ Q, D @ X.T)]
    if library == "duck":  # SciPy's own operators answer where they are on the left
        results += [(P + A, X + D), (P - A, X - D), (Q @ A, X.T @ D)]
    else:
        results += [(A + (P + A), 2 * D + X), (-A + (P - A), X - 2 * D), (A.H @ (P @ A.H), None)]
        results += [(A @ (2 * (Q @ A)), 2 * D @ X.T @ D), ((A - (A + P).H.H).H, -X.conj().T)]
    for got, expected in results:
        assert isinstance(got, StructuredMatrix)
        assert "operator" in str(got.kind) or got.children
        if expected is None:
            expected = D.conj().T @ (X @ D.conj().T)
        check_matrix(got, expected)
    B = A + P
    assert (B.cost, B.storage) == (A.cost + X.size, A.storage)
    assert B[3:9, ::2].shape == (6, 19)
    assert pickle.loads(pickle.dumps(A + aslinearoperator(X))).cost == B.cost


def test_combinations_of_scipy_come_back_with_their_structure():
    A, D = build("gblr")
    S = scipy.sparse.random_array((7, 5), density=0.3, rng=1)
    mixed = aslinearoperator(S) - 2 * A
    assert not isinstance(mixed, StructuredMatrix)
    back = A + mixed
    assert {child.kind for child in back.children} == {"gblr", "block_sparse"}
    assert back.cost == 2 * A.cost + S.nnz
    close(back.to_dense(), S.toarray() - D)
    square = A @ A.H
    eye = aslinearoperator(scipy.sparse.eye_array(7))
    again = square @ (eye @ square)
    assert "operator" not in {child.kind for child in again.children}


def test_combinations_of_pylops_come_back_as_well():
    """PyLops puts a foreign operator into one of its own, beside which it stands in `args`."""
    A, D = build("gblr")

    def made(name, **parts):
        own = {"__module__": "pylops.linearoperator", "matvec": None, "shape": D.shape}
        return type(name, (), {**own, **parts})()

    P = Duck(np.ones((7, 5)))
    for outer, expected in (
        (made("_SumLinearOperator", args=(P, made("LinearOperator", Op=A))), D + 1),
        (made("_ScaledLinearOperator", args=(made("LinearOperator", Op=A), 2)), 2 * D),
    ):
        back = A + outer
        assert back.kind in ("sum", "gblr")
        close(back.to_dense(), D + expected)


def test_operators_move_to_other_libraries(backend):
    X = contents("complex64")(5, 3)
    A = structmat.block_diag(aslinearoperator(X), Identity(2)).to(backend)
    check_matrix(A, on(backend, diagonal_of(X, np.eye(2)).astype("complex64")))
    turned, z = A.conj(), contents("complex64", 1)(5)
    close(turned @ on(backend, z), diagonal_of(X, np.eye(2)).conj() @ z, "complex64")
    assert turned.conj().dtype == A.xp.complex64


def test_what_operators_cannot_do_is_refused(tmp_path):
    A = Dense(np.ones((3, 2)))
    np.testing.assert_allclose((Forward(np.ones((4, 3))) @ A).to_dense(), 3.0)
    one = structmat.block([[Forward(np.ones((3, 2)))]])
    np.testing.assert_allclose(one.to_dense(), 1.0)
    with pytest.raises(OperationError, match="expected one with rmatvec or rmatmat"):
        one.H @ np.ones(3)
    with pytest.raises(InputError, match=r"has an operator, which no file holds.*compress it"):
        structmat.save(tmp_path / "a.npz", one + Identity(3)[:, :2])

    class Wrong(Forward):
        def matvec(self, x):
            return np.ones(7)

    with pytest.raises(ShapeError, match=r"expected \(3, 1\)"):
        structmat.block([[Wrong(np.ones((3, 2)))]]) @ np.ones(2)

    class Complex(Forward):
        def matvec(self, x):
            return 1j * self.X @ x

    with pytest.raises(InputError, match="gave complex numbers"):
        structmat.block([[Complex(np.ones((3, 2)))]]) @ np.ones(2)
    with pytest.raises(ShapeError, match="expected inner sizes"):
        A @ Duck(np.ones((3, 2)))


def test_operators_on_numpy_pass_no_gradients_on_in_silence():
    torch = pytest.importorskip("torch")
    A = structmat.block([[aslinearoperator(np.ones((3, 2)))]]).to("torch")
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(BackendError, match=r"expected x.detach\(\)"):
        A @ x
    assert (A @ x.detach()).tolist() == [2.0] * 3


# Powers, parts of complex numbers, entries.


def test_powers_cost_what_their_structure_does():
    (A, M), (D, E) = built("numpy", low_rank(6, 6, 2), monarch((2, 3, 3), (3, 2, 2)))
    assert ((A**9).kind, (A**9).cost) == ("low_rank", A.cost)
    close((A**5).to_dense(), np.linalg.matrix_power(D, 5), "complex128")
    assert ((M**3).kind, (M**3).cost) == ("product", 3 * M.cost)
    close((M**3).to_dense(), np.linalg.matrix_power(E, 3), "complex128")
    one = A**0
    assert (one.kind, one.shape, one.neutral) == ("identity", (6, 6), True)
    assert (Diagonal([2.0, 3.0]) ** 10).d.tolist() == [1024.0, 59049.0]
    with pytest.raises(InputError, match=r"structmat\.factorize"):
        A**-1


REAL = {
    "low_rank": ("low_rank", 2), "block_sparse": ("block_sparse", 1), "gblr": ("gblr", 2),
    "block_low_rank-dense-tiles": ("block_low_rank", 2), "monarch": ("sum", 2),
    "hierarchical": ("hierarchical", 2), "hierarchical-symmetric": ("hierarchical", 2),
    "dense": ("dense", 1), "diagonal": ("diagonal", 1), "sum": ("sum", 2),
    "product-ordered": ("product", 2), "grid": ("grid", 2), "product-of-three": ("sum", 5),
    "kronecker": ("sum", 4), "hermitian_low_rank": ("hermitian_low_rank", 2),
    "mirrored": ("mirrored", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_and_imaginary_parts_stay_structured(name, backend):
    matrix, D = build(name, "complex128")
    A, (kind, times) = matrix.to(backend), REAL[name]
    assert A.real.kind == kind
    for part, expected in ((A.real, D.real), (A.imag, D.imag)):
        assert part.dtype == A.xp.float64
        assert part.cost <= times * A.cost
        check_matrix(part, on(backend, expected))
    assert part.real is part
    plain = build(name)[0]
    assert plain.real is plain
    assert plain.imag.cost == 0


def test_the_real_part_of_an_operator_is_a_mean():
    A, D = build("operator", "complex128")
    assert A.real.dtype == np.complex128
    close(A.real.to_dense(), D.real + 0j, "complex128")


@pytest.mark.parametrize("name", ["gblr", "kronecker", "grid", "operator", "sum"])
def test_masks_of_entries_are_indices(name):
    A, D = build(name)
    mask = D > 0.3
    close(A[mask], D[mask])
    close(A[np.zeros(D.shape, bool)], D[np.zeros(D.shape, bool)])


def test_ellipses_and_new_axes_are_refused_with_the_remedy():
    A = build("gblr")[0]
    for key in (Ellipsis, (Ellipsis, 0), (0, Ellipsis, 1)):
        with pytest.raises(InputError, match="write : for all"):
            A[key]
    for key in (None, (None, 0), (slice(None), None)):
        with pytest.raises(InputError, match=r"new axis.*to_dense"):
            A[key]


# Sums that grow.


def test_terms_join_those_that_they_fit():
    (A, B, M), (D, E, F) = built(
        "numpy", block_sparse(7, 5, 2, 2, [1], [1]), gblr(7, 5, [6], [3], [1], [4]),
        monarch((2, 4, 3), (3, 2, 2), (7, 5)),
    )  # fmt: skip
    total = A + M + A + B + 2 * A + (M - B) + B
    assert [term.kind for term in total.children] == ["block_sparse", "monarch", "gblr", "monarch"]
    assert total.children[0].cost == A.cost
    close(total.to_dense(), 4 * D + 2 * F + E, "complex128")
    D = Diagonal(np.arange(7.0))
    again = (M @ M.H + D) + Identity(7) + D
    assert [term.kind for term in again.children] == ["product", "diagonal"]


def test_diagonals_are_taken_in_by_blocks(backend):
    c = contents("float64")
    d = np.append(np.arange(4.0), np.inf)
    for builder, joins in (
        (block_sparse(5, 5, 2, 2, [0, 0, 1, 2], [0, 2, 1, 2]), True),
        (block_sparse(5, 5, 1, 1, [0, 3], [2, 3]), True),
        (block_sparse(5, 5, 2, 2, [0, 2], [0, 2]), False),
        (block_sparse(5, 5, 2, 3, [0, 2], [0, 1]), False),
    ):
        A, D = builder(c)
        B = A.to(backend)
        E = Diagonal(d).to(backend)
        for total in (B + E, E + B):
            assert total.kind == ("block_sparse" if joins else "sum")
            assert total.cost <= B.cost + E.cost
            np.testing.assert_allclose(to_numpy(total.diagonal()), np.diagonal(D) + d)
        finite = Diagonal(on(backend, d[::-1][1:].copy()))
        assert np.isfinite(to_numpy((B[:4, :4] + finite).to_dense())).all()


def test_blocks_on_the_grid_of_tiles_are_tiles():
    c = contents("float64")
    A, D = block_low_rank([2, 2, 1], [3, 1], {(0, 0): 1, (1, 0): None, (2, 1): 1})(c)
    B, E = block_sparse(5, 4, 2, 3, [0, 1], [0, 0])(c)
    C, F = block_sparse(5, 4, 3, 3, [0], [0])(c)
    for total, expected in ((A + B, D + E), (B + A, D + E)):
        assert total.kind == "block_low_rank"
        assert total.cost <= A.cost + B.cost
        close(total.to_dense(), expected)
    assert (A + C).kind == "sum"
    close((A + C).to_dense(), D + F)


@pytest.mark.parametrize("builder", [SYMMETRIC, PLAIN])
def test_hierarchical_matrices_of_the_same_blocks_add_block_by_block(builder, backend):
    (A, B), (D, E) = built(backend, builder, builder)
    total = A + B
    assert (total.kind, total.symmetric) == ("hierarchical", A.symmetric)
    check_matrix(total, on(backend, D + E))
    assert total.cost < 2 * A.cost
    (C,), _ = built(backend, hierarchical(A.shape, [[0, 1, 0, 1, -1]]))
    assert (A + C).kind == "sum"


# Parts of sources.


def test_parts_of_sources_are_sources():
    points = np.random.default_rng(0).random((9, 2))
    K = structmat.KernelMatrix(points, "exponential", length=0.5)
    D = K.toarray()
    E = structmat.Entries(lambda i, j: D[np.ix_(i, j)] * (1 + 2j), (9, 9))
    for A, F in ((K, D), (E, D * (1 + 2j)), (E.conj(), D * (1 - 2j))):
        for key in (np.s_[2:5, 2:5], np.s_[2:7, ::3], np.s_[[4, 0, 4], :], np.s_[::-1, 1:3]):
            before = A.entries
            part = A[key]
            assert (part.kind, A.entries) == (A.kind, before)
            np.testing.assert_allclose(part.toarray(), F[key])
            assert A.entries == before + part.shape[0] * part.shape[1]
    wide = K.astype("complex128")
    assert wide.conj().dtype == wide.dtype == np.complex128
    assert K[2:5, 2:5].hermitian
    assert not K[2:5, 1:4].hermitian
    assert pickle.loads(pickle.dumps(K[2:5, 1:4])).shape == (3, 3)


# Batches.

STACKS = {
    "one kind": ([gblr(4, 3, [1], [3], [0], [2])] * 3, "gblr"),
    "low ranks": ([low_rank(4, 3, 1), low_rank(4, 3, 2)], "block_low_rank"),
    "any": ([monarch((2, 2, 2), (2, 2, 2)), identity(4)], "grid"),
    "no columns": ([low_rank(4, 0, 1), dense(4, 0)], "grid"),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks_multiply_as_arrays_broadcast(name, backend):
    builders, kind = STACKS[name]
    matrices, arrays = built(backend, *builders)
    S, D, c = structmat.stack(matrices), np.stack(arrays), contents("complex128", 9)
    (b, m, n), E = D.shape, np.stack(arrays).conj().swapaxes(1, 2)
    assert (S.shape, S.ndim, len(S)) == (D.shape, 3, b)
    close(S.to_dense(), D, "complex128")
    close(S.H.to_dense(), E, "complex128")
    close(S.T.conj().to_dense(), E, "complex128")
    for batch in ((), (b,), (1,), (2, b), (3, 1), (0, b)):
        X, Y = c(*batch, n, 2), c(*batch, m, 2)
        close(S @ on(backend, X), D @ X, "complex128")
        close(S.rmatmat(on(backend, Y)), E @ Y, "complex128")
        x, y = X[..., 0], Y[..., 0]
        close(S.matvec(on(backend, x)), (D @ x[..., None])[..., 0], "complex128")
        close(S.rmatvec(on(backend, y)), (E @ y[..., None])[..., 0], "complex128")
        if backend == "numpy":
            close(Y.swapaxes(-1, -2) @ S, Y.swapaxes(-1, -2) @ D, "complex128")
    assert S._matrix("apart").kind == kind
    assert S.cost == sum(A.cost for A in matrices)
    again = pickle.loads(pickle.dumps(S))
    close(again.to_dense(), D, "complex128")


def test_a_batch_is_one_product(monkeypatch):
    (A, B), _ = built("numpy", low_rank(4, 3, 1), low_rank(4, 3, 1))
    S, calls = structmat.stack([A, B] * 10), []
    for kind in (structmat.BlockLowRank, LowRank):
        original = kind._multiply

        def counted(self, x, original=original):
            calls.append((self.kind, x.shape))
            return original(self, x)

        monkeypatch.setattr(kind, "_multiply", counted)
    S @ np.ones((5, 20, 3, 2), complex)
    S @ np.ones((3, 2), complex)
    assert calls == [("block_low_rank", (60, 10)), ("block_low_rank", (3, 2))]


def test_stacks_have_an_algebra_and_parts():
    (A, B), (D, E) = built("numpy", gblr(4, 3, [1], [3], [0], [2]), low_rank(4, 3, 1))
    S, F = structmat.stack([A, B]), np.stack([D, E])
    for got, expected in (
        (2 * S, 2 * F), (S / 2, F / 2), (-S, -F), (S + S, 2 * F), (S - S[::-1], F - F[::-1]),
        (S @ S.H, F @ F.conj().swapaxes(1, 2)), (A.H @ S, D.conj().T @ F),
        (S @ A.H, F @ D.conj().T), (A + S, D + F), (A - S, D - F), (S - A, F - D),
        (S[[1, 0, 1]], F[[1, 0, 1]]), (S[:, 1:, ::2], F[:, 1:, ::2]),
        (S[np.array([True, False])], F[:1]),
        (S.to("array_api_strict").to("numpy"), F),
    ):  # fmt: skip
        assert isinstance(got, structmat.MatrixStack)
        close(got.toarray(), expected, "complex128")
    assert S[1] is B
    close(S[0, 2, 1], D[2, 1], "complex128")
    close(S[:, 2], F[:, 2], "complex128")
    assert [M.kind for M in S] == ["gblr", "low_rank"]
    for action, words in (
        (lambda: S @ np.ones(4), r"\(…, 3\)"), (lambda: S @ np.ones((5, 3, 2)), "expected 2 or 1"),
        (lambda: S @ 2, "use \\* instead"), (lambda: S[2], "expected 0 to 1"),
        (lambda: S + S[:1], "expected one number"), (lambda: S["a"], "expected 0 to 1"),
        (lambda: S[:0], "expected one at least"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            action()


def test_gradients_reach_the_contents_of_all(backend):
    if backend != "torch":
        pytest.skip("gradients are torch's")
    import torch

    def variables():
        return [torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    for make in (
        lambda d, e: structmat.kron(Diagonal(d), LowRank(e[:, None], e[:, None])),
        lambda d, e: structmat.block([[Diagonal(d), LowRank(e[:, None], e[:, None])]]),
        lambda d, e: structmat.block_diag(Diagonal(d), Identity(2, like=d), Diagonal(e)),
        lambda d, e: structmat.stack([Diagonal(d), LowRank(e[:, None], e[:, None])]),
    ):
        d, e = variables()
        A = make(d, e)
        for _ in range(2):  # nothing of the first graph is kept for the second
            (A @ torch.ones(A.shape[-1], dtype=torch.float64)).sum().backward()
        f, g = variables()
        (2 * make(f, g).to_dense().sum()).backward()
        torch.testing.assert_close(d.grad, f.grad)
        torch.testing.assert_close(e.grad, g.grad)


def test_stacks_follow_contents_that_change_in_place():
    torch = pytest.importorskip("torch")
    d = torch.ones(3, dtype=torch.float64)
    S, x = structmat.stack([Diagonal(d), Diagonal(2 * d)]), torch.ones(3, dtype=torch.float64)
    X = torch.stack([x, x])
    assert (S @ x).sum() == S.matvec(X).sum() == 9
    d *= 3
    assert (S @ x).sum() == S.matvec(X).sum() == 15


def test_files_hold_the_lazy_kinds(tmp_path):
    for name in ("kronecker", "grid", "grid-diagonal"):
        A, _ = build(name, "complex64")
        structmat.save(tmp_path / name, A)
        B = structmat.load(tmp_path / name)
        assert (B.kind, B.dtype, B.cost) == (A.kind, A.dtype, A.cost)
        np.testing.assert_array_equal(B.toarray(), A.toarray())
