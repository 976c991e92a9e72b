"""Hierarchical matrices: symmetric ones, parts, numbers, refusals; the contract is elsewhere."""

import numpy as np
import pytest
from cases import build, contents

import structmat
from structmat import Hierarchical
from structmat._array import to_numpy
from structmat.errors import ConversionError, InputError, ShapeError
from structmat.matrices import hierarchical_entries

NAMES = ["hierarchical", "hierarchical-symmetric", "hierarchical-upper", "hierarchical-overlap"]


def close(got, expected):
    np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", NAMES)
def test_entries_and_norm_are_those_of_the_dense_matrix(name, dtype, backend):
    A, D = build(name, dtype)
    A = A.to(backend)
    i, j = (at.ravel() for at in np.indices(D.shape))
    close(A[i, j], D[i, j])
    close(A.diagonal(), np.diagonal(D))
    assert abs(A.norm() - np.linalg.norm(D)) < 1e-12


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_many_entries_are_picked_by_compiled_loops(name, dtype, monkeypatch):
    picks = pytest.importorskip(
        "structmat.kernels.cpu.rectangle_picks", reason="compiled loops need Numba"
    )
    called = []
    pick = picks.picked_entries
    monkeypatch.setattr(picks, "picked_entries", lambda *a: called.append(1) or pick(*a))
    monkeypatch.setattr(hierarchical_entries, "_LEAST_COMPILED", 1)
    A, D = build(name, dtype)
    i, j = (at.ravel() for at in np.indices(D.shape))
    found = A[i, j]
    np.testing.assert_allclose(found, D[i, j], atol=1e-5 if dtype == "float32" else 1e-12)
    assert found.dtype == A.dtype
    # Rectangles that overlap are for the other way.
    assert len(called) == (name != "hierarchical-overlap")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", NAMES)
def test_any_different_rows_and_columns_leave_a_hierarchical_matrix(name, dtype, backend):
    A, D = build(name, dtype)
    A, (m, n) = A.to(backend), D.shape
    for rows, cols in (
        (np.arange(1, m), np.arange(n - 1)),
        (np.arange(m)[::-1], np.arange(0, n, 2)),
        (np.array([3, 0, 2]), np.array([3, 0, 2])),
    ):
        part = A[:, cols][rows, :]
        assert part.kind == "hierarchical"
        close(part.to_dense(), D[np.ix_(rows, cols)])


def test_a_part_of_the_same_rows_and_columns_stays_symmetric():
    A, D = build("hierarchical-symmetric", "complex128")
    part = A._part(at := np.array([5, 0, 3, 1]), at)
    assert part.symmetric
    close(part.to_dense(), D[np.ix_(at, at)])
    assert not A[1:, :].symmetric


def test_a_symmetric_matrix_is_its_own_adjoint_and_half_the_memory(backend):
    A, D = build("hierarchical-symmetric", "complex128")
    A = A.to(backend)
    assert A.H is A
    whole = A._unfolded()
    assert (whole.symmetric, whole.cost, whole.storage) == (False, A.cost, A.cost)
    close(whole.to_dense(), D)


def test_a_complex_factor_leaves_the_symmetric_contents_alone():
    A, D = build("hierarchical-symmetric", "complex128")
    assert ((2 * A).kind, (2j * A).kind) == ("hierarchical", "scaled")
    close((2j * A).to_dense(), 2j * D)
    B, E = build("hierarchical", "float64")
    assert (2j * B).kind == "hierarchical"
    close((2j * B).to_dense(), 2j * E)


def test_gradients_reach_operand_and_contents():
    torch = pytest.importorskip("torch")
    A, _ = build("hierarchical-symmetric")
    x = contents("float64", 1)(7, 3)
    leaves = [
        torch.tensor(np.array(getattr(A, k)), requires_grad=True) for k in ("u", "v", "dense")
    ]
    operand = torch.tensor(x, requires_grad=True)

    def loss(*arrays, X):
        static = {**A._static(), "symmetric": True}
        return (Hierarchical(u=arrays[0], v=arrays[1], dense=arrays[2], **static) @ X).pow(2).sum()

    loss(*leaves, X=operand).backward()
    step = 1e-6
    for leaf in (*leaves, operand):
        shift = torch.zeros_like(leaf).reshape(-1)
        shift[1] = step
        shift = shift.reshape(leaf.shape)

        def moved(sign, leaf=leaf, shift=shift):
            arrays = [l + sign * shift if l is leaf else l for l in (*leaves, operand)]
            return loss(*arrays[:3], X=arrays[3]).item()

        slope = (moved(1) - moved(-1)) / (2 * step)
        assert abs(slope - leaf.grad.reshape(-1)[1].item()) < 1e-5 * max(1, abs(slope))


def hierarchical(blocks=((0, 2, 0, 2, -1), (2, 1, 0, 2, 1)), **changes):
    given = {"u": np.ones(1), "v": np.ones(2), "dense": np.ones(4), "shape": (3, 3), **changes}
    return Hierarchical(np.asarray(blocks), **given)


HALF = [[0, 2, 0, 2, -1], [2, 1, 0, 2, 1]]
WRONG = {
    "three columns": (ShapeError, lambda: hierarchical(np.zeros((2, 3), int)), "(2, 3)", "(b, 5)"),
    "floats": (InputError, lambda: hierarchical(np.ones((2, 5))), "float64", "integers"),
    "no height": (InputError, lambda: hierarchical([[0, 0, 0, 2, 1]]), "[0, 0, 0, 2, 1]"),
    "below": (InputError, lambda: hierarchical([[2, 2, 0, 2, 1]]), "block 0", "inside (3, 3)"),
    "before": (InputError, lambda: hierarchical([[0, 1, -1, 2, 1]]), "block 0", "inside (3, 3)"),
    "far away": (InputError, lambda: hierarchical([[2**62, 2**62, 0, 1, 0]]), "block 0"),
    "rank -2": (InputError, lambda: hierarchical([[0, 1, 0, 2, -2]]), "block 0", "or -1"),
    "rank too large": (ShapeError, lambda: hierarchical([[0, 2, 0, 2, 2**61]]), "u holds 1"),
    "u": (ShapeError, lambda: hierarchical(u=np.ones(2)), "u holds 2", "expected 1"),
    "dense": (ShapeError, lambda: hierarchical(dense=np.ones(5)), "dense holds 5", "expected 4"),
    "triangle": (ShapeError, lambda: hierarchical(symmetric=True), "dense holds 4", "expected 3"),
    "order": (InputError, lambda: hierarchical(row_order=[0, 0, 1]), "row_order", "exactly once"),
    "short order": (InputError, lambda: hierarchical(col_order=[0, 1]), "col_order with 2"),
    "order off": (InputError, lambda: hierarchical(col_order=[0, 1, 2**62]), "col_order"),
    "symmetric shape": (
        ShapeError, lambda: hierarchical(shape=(3, 4), symmetric=True), "(3, 4)", "symmetric=False"
    ),
    "symmetric orders": (
        ShapeError, lambda: hierarchical(row_order=[1, 0, 2], symmetric=True), "one order"
    ),
    "low rank on the diagonal": (
        InputError, lambda: hierarchical([[0, 2, 0, 2, 1]], symmetric=True), "meets the diagonal"
    ),
    "across the diagonal": (
        InputError, lambda: hierarchical([[0, 2, 1, 2, 1]], symmetric=True), "meets the diagonal"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_matrix_is_refused(case):
    error, call, *words = WRONG[case]
    with pytest.raises(error) as found:
        call()
    for word in words:
        assert word in str(found.value)


def test_structure_cannot_be_changed():
    A = hierarchical()
    for name in ("blocks", "row_order", "col_order"):
        assert not getattr(A, name).flags.writeable


def test_the_picture_counts_blocks_in_their_own_order():
    from structmat._coverage import coverage

    A, _ = build("hierarchical-symmetric")
    count = coverage(A, 7)
    assert count.shape == (7, 7)
    assert (count[0, 0], count[3, 0], count[0, 3]) == (1, 2, 2)


def test_many_entries_of_a_large_matrix_are_quick():
    # One cell a row and level: 2**14 entries touch no more memory than the cells.
    n = 2**12
    blocks = [[i, 1, i, 1, -1] for i in range(n)]
    size = 1
    while size < n:
        blocks += [[i + size, size, i, size, 0] for i in range(0, n, 2 * size)]
        size *= 2
    none = np.zeros(0)
    A = Hierarchical(blocks, none, none, np.arange(n) + 1.0, shape=(n, n), symmetric=True)
    assert A.rectangles.cells is not None
    np.testing.assert_array_equal(A.diagonal(), np.arange(n) + 1.0)
    assert A.norm() == pytest.approx(np.linalg.norm(np.arange(n) + 1.0))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    "name", [*NAMES, "hierarchical-rank-zero", "hierarchical-no-blocks", "hierarchical-nothing"]
)
def test_it_is_a_gblr_matrix_between_its_orders(name, dtype, backend):
    A, D = build(name, dtype)
    B = A.to(backend).to_kind("gblr")
    close(B.to_dense(), D)
    assert B.cost <= A.cost
    plain = (A.row_order == np.arange(A.shape[0])).all() and (A.col_order.size < 7)
    assert B.kind == "gblr" or not plain


def test_blocks_on_a_grid_are_tiles_and_back():
    A, D = build("block_low_rank-dense-tiles", "complex128")
    B = A.to_kind("hierarchical")
    assert (B.kind, B.cost, B.storage) == ("hierarchical", A.cost, A.storage)
    close(B.to_dense(), D)
    C = B.to_kind("block_low_rank")
    assert (C.kind, C.cost) == ("block_low_rank", A.cost)
    close(C.to_dense(), D)
    for name in ("low_rank", "low_rank-rank-zero", "low_rank-no-rows", "dense", "dense-empty"):
        E, F = build(name)
        close(E.to_kind("hierarchical").to_dense(), F)


def test_blocks_on_no_grid_are_refused_as_tiles():
    A, _ = build("hierarchical-symmetric")
    with pytest.raises(ConversionError, match="one grid"):
        A.to_kind("block_low_rank")


def test_blocks_on_a_grid_keep_their_orders():
    A, D = build("hierarchical")
    B = A.to_kind("block_low_rank")
    assert B.kind == "product"
    close(B.to_dense(), D)


def test_permutations_go_into_the_orders():
    A, D = build("hierarchical")
    P, Q = structmat.Permutation([3, 1, 0, 2, 6, 5, 4]), structmat.Permutation([5, 4, 2, 0, 1, 3])
    B = P @ A @ Q
    assert (B.kind, B.cost) == ("hierarchical", A.cost)
    close(B.to_dense(), P.to_dense() @ D @ Q.to_dense())
    C, E = build("hierarchical-symmetric")
    close((P @ C @ P.H).to_dense(), P.to_dense() @ E @ P.to_dense().T)
    assert (structmat.Permutation(np.arange(7)) @ C).kind == "hierarchical"
