"""A matrix that says that it is Hermitian is; adjoints, sums and multiples keep it so, for free."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat import (
    Dense,
    Diagonal,
    Entries,
    Hierarchical,
    Identity,
    KernelMatrix,
    LowRank,
    Permutation,
)
from structmat.matrices import Adjoint, Product, Scaled, Sum
from tests.cases import CASES, DTYPES, build

POINTS = np.random.default_rng(5).standard_normal((6, 2))
#: Hermitian matrices of every way in which construction guarantees it.
BASES = {
    "identity": lambda c: Identity(6),
    "diagonal": lambda c: Diagonal(np.real(c(6))),
    "hierarchical": lambda c: Hierarchical(
        [[0, 3, 0, 3, -1], [3, 3, 0, 3, 1], [3, 3, 3, 3, -1]], c(3), c(3), c(12), shape=(6, 6),
        symmetric=True,
    ),
    "kernel": lambda c: KernelMatrix(POINTS.astype(np.real(c()).dtype), "gaussian"),
    "entries": lambda c: of_entries(c(6, 6)),
    "product": lambda c: times_adjoint(Dense(c(6, 4))),
    "product-of-three": lambda c: between(Dense(c(6, 5)), Diagonal(np.real(c(5)))),
    "ordered": lambda c: between(Permutation([3, 1, 0, 2, 5, 4]), Diagonal(np.real(c(6)))),
    "scaled": lambda c: 3 * of_entries(c(6, 6)),
    "sum": lambda c: Sum(Diagonal(np.real(c(6))), of_entries(c(6, 6))),
    "sum-of-adjoints": lambda c: both(Permutation([3, 1, 0, 2, 5, 4]) @ Dense(c(6, 6))),
    "adjoint": lambda c: Adjoint(of_entries(c(6, 6))),
}  # fmt: skip


def of_entries(X):
    H = X + X.conj().T
    return Entries(lambda i, j: H[np.ix_(i, j)], (6, 6), hermitian=True)


def between(P, A):
    return Product(P, A, P.H)


def times_adjoint(A):
    return Product(A, A.H)


def both(A):
    return Sum(A, A.H)


def contents(seed, dtype):
    rng = np.random.default_rng(seed)

    def c(*shape):
        x = rng.standard_normal(shape)
        return (x + 1j * rng.standard_normal(shape) if dtype.startswith("c") else x).astype(dtype)

    return c


def check(A):
    """The promise holds to rounding, and A.H costs nothing."""
    dense = A.toarray()
    if not A.hermitian:
        return
    eps = np.finfo(dense.dtype).eps
    atol = 40 * eps * (1 + np.abs(dense).max(initial=0.0))
    np.testing.assert_allclose(dense, dense.conj().T, atol=atol)
    assert A.H is A


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_promise_holds_for_every_case(name, dtype):
    A, dense = build(name, dtype)
    check(A)
    check(A + A.H if A.shape[0] == A.shape[1] else A @ A.H)
    assert A.hermitian <= np.allclose(dense, dense.conj().T if A.shape[0] == A.shape[1] else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BASES)
def test_ways_in_which_construction_guarantees_it(name, dtype):
    A = BASES[name](contents(1, dtype))
    assert A.hermitian
    check(A)
    half = (A + A.H) / 2
    assert half.hermitian
    assert (half.cost, half.storage) == (A.cost, A.storage)
    np.testing.assert_allclose(half.toarray(), A.toarray(), rtol=1e-6)
    # Dense factors that meet become one, which knows nothing of its origin.
    powers = () if name.startswith("product") else (A**2, A**3)
    for B in (A * 2, -A, A / 4, A + Identity(6), A.conj(), *powers):
        assert B.hermitian
        check(B)


@pytest.mark.parametrize("name", ["hierarchical", "product-of-three", "ordered", "product"])
def test_moved_copied_and_pickled_matrices_keep_it(name):
    A = BASES[name](contents(1, "float64"))
    for B in (A.astype("float32"), A.copy(), pickle.loads(pickle.dumps(A)), A.to("torch")):
        assert B.hermitian


def test_what_is_not_hermitian():
    A = BASES["entries"](contents(1, "complex128"))
    D = Dense(contents(2, "float64")(6, 6))
    for B in (2j * A, Diagonal([1j]), Product(A, D), A + D, Product(D, A, D), Sum(D, D)):
        assert not B.hermitian
    assert not LowRank([[1.0]], [[1.0]]).hermitian


def test_the_same_matrix_twice_is_its_multiple():
    L = LowRank([[1.0], [2.0]], [[3.0], [4.0]])
    assert (L + L).cost == L.cost
    K = KernelMatrix(POINTS, "gaussian")
    assert ((K + K) / 2) is K
    assert isinstance(K + K, Scaled)
    np.testing.assert_allclose((K + K).toarray(), 2 * K.toarray())


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_number_stays_in_the_middle_of_a_hermitian_product(dtype):
    A = BASES["product-of-three"](contents(1, dtype))
    assert (2 * A).hermitian
    assert (2 * A).cost == A.cost
    assert isinstance(2j * A, (Product, Scaled))
    assert not (2j * A).hermitian


def test_gradients_flow_through_the_number_of_a_multiple():
    torch = pytest.importorskip("torch")
    alpha = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    A = Permutation(torch.tensor([1, 0])) * alpha
    ((A * 2.0) / 2.0).to_dense().sum().backward()
    assert alpha.grad is not None
    assert float(alpha.grad) == 2.0


LEAVES = st.sampled_from(sorted(BASES) + ["dense", "permutation", "low_rank", "diagonal-complex"])
OPERATIONS = st.sampled_from(
    ["+", "-", "@", "H", "T", "conj", "*", "/", "twice", "both", "square", "between"]
)


def leaf(name, c):
    others = {
        "dense": lambda: Dense(c(6, 6)),
        "permutation": lambda: Permutation([1, 2, 0, 5, 3, 4]),
        "low_rank": lambda: LowRank(c(6, 2), c(6, 2)),
        "diagonal-complex": lambda: Diagonal(c(6)),
    }
    return others[name]() if name in others else BASES[name](c)


def apply(operation, A, B):
    return {
        "+": lambda: A + B,
        "-": lambda: A - B,
        "@": lambda: A @ B,
        "H": lambda: A.H,
        "T": lambda: A.T,
        "conj": lambda: A.conj(),
        "*": lambda: A * (2.0 if B.hermitian else 1j),
        "/": lambda: A / 2,
        "twice": lambda: A + A,
        "both": lambda: A + A.H,
        "square": lambda: A @ A.H,
        "between": lambda: B.H @ A @ B,
    }[operation]()


@given(
    st.lists(st.tuples(LEAVES, OPERATIONS), min_size=1, max_size=5),
    st.sampled_from(["float64", "complex128"]),
    st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_the_promise_holds_for_random_expressions(steps, dtype, seed):
    c = contents(seed, dtype)
    A = leaf(steps[0][0], c)
    for name, operation in steps:
        A = apply(operation, A, leaf(name, c))
        check(A)
