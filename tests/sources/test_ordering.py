"""Orders of points and of matrices: permutations that make compression gain."""

import numpy as np
import pytest
import scipy.sparse
import torch

import structmat
from structmat import Entries, InputError, KernelMatrix, Permutation, ShapeError, ordering
from structmat.sources.tree import kd_tree

RNG = np.random.default_rng(0)
PLANE = RNG.random((180, 2))


@pytest.mark.parametrize("shape", [(0, 2), (1, 3), (2, 1), (57, 2), (129, 8), (8, 0)])
@pytest.mark.parametrize("leaf", [1, 2, 7])
def test_a_tree_has_every_point_once_and_tight_boxes(shape, leaf):
    points = RNG.random(shape).round(1)
    tree = kd_tree(points, leaf)
    np.testing.assert_array_equal(np.sort(tree.order), np.arange(shape[0]))
    assert (tree.begin[0], tree.end[0]) == (0, shape[0])
    for node, (left, right) in enumerate(tree.children):
        own = points[tree.order[tree.begin[node] : tree.end[node]]]
        if len(own):
            np.testing.assert_array_equal(tree.low[node], own.min(axis=0))
            np.testing.assert_array_equal(tree.high[node], own.max(axis=0))
        if left < 0:
            assert len(own) <= leaf or shape[1] == 0
            continue
        assert node < left == right - 1
        assert tree.begin[node] == tree.begin[left]
        assert tree.end[left] == tree.begin[right] == (tree.begin[node] + tree.end[node]) // 2
        assert tree.end[right] == tree.end[node]
        widest = np.argmax(tree.high[node] - tree.low[node])
        assert tree.high[left, widest] <= tree.low[right, widest]


def test_ties_keep_their_order():
    np.testing.assert_array_equal(kd_tree(np.ones((9, 2)), 1).order, np.arange(9))


GROUPS = np.repeat(np.arange(8), 20)
STEPS = np.subtract.outer(np.arange(150), np.arange(150))
MATRICES = {
    "kernel in the plane": KernelMatrix(PLANE, "exponential", length=0.1).toarray(),
    "inverse": KernelMatrix(PLANE, "inverse").toarray(),
    "groups": np.equal.outer(GROUPS, GROUPS) * RNG.standard_normal((160, 160)),
    "line, not symmetric": np.exp(-np.abs(STEPS - 0.3) / 9),
    "complex": np.exp(1j * np.arange(150) - np.abs(STEPS) / 9),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_shuffled_matrix_gains_by_its_order(name):
    shuffle = np.random.default_rng(1).permutation(len(MATRICES[name]))
    A = MATRICES[name][np.ix_(shuffle, shuffle)]
    P = ordering(A)
    assert isinstance(P, Permutation)
    ordered = (P @ structmat.Dense(A) @ P.T).to_dense()
    costs = [structmat.compress(M, "block_low_rank", tol=1e-2, rng=0).cost for M in (A, ordered)]
    assert costs[1] < 0.75 * costs[0]


def test_sources_and_structured_matrices_are_ordered_as_arrays_are():
    A = MATRICES["line, not symmetric"]
    p = ordering(A).p
    for given in (structmat.Dense(A), Entries(lambda i, j: A[np.ix_(i, j)], A.shape)):
        np.testing.assert_array_equal(ordering(given).p, p)


def test_points_of_all_libraries_and_sources():
    p = ordering(PLANE).p
    for given in (
        torch.tensor(PLANE), PLANE.tolist(), KernelMatrix(PLANE, "gaussian"),
        Entries(lambda i, j: np.ones((len(i), len(j))), (180, 180), points=PLANE),
    ):  # fmt: skip
        np.testing.assert_array_equal(ordering(given).p, p)


def test_a_sparse_matrix_gets_a_narrow_band():
    A = scipy.sparse.diags_array([np.ones(399), np.ones(400), np.ones(399)], offsets=[-1, 0, 1])
    shuffle = RNG.permutation(400)
    A = A.tocsr()[shuffle][:, shuffle]
    P = ordering(A)
    rows, cols = A[P.p][:, P.p].nonzero()
    assert np.abs(rows - cols).max() <= 2


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_small_and_empty_matrices(n):
    for A in (np.zeros((n, n)), structmat.Identity(n)):
        np.testing.assert_array_equal(np.sort(ordering(A).p), np.arange(n))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (np.zeros(3), ShapeError, r"\(3,\).*a row a point"),
        ([[np.nan, 0.0]], InputError, "drop those rows"),
        ([[1j, 0.0]], InputError, "expected real coordinates"),
        (structmat.LowRank(np.ones((3, 1)), np.ones((2, 1))), ShapeError, "expected a square one"),
    ],
)
def test_bad_input_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        ordering(given)
