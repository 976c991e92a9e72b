"""Block-triangular grids: substitution, both ways, and determinants of the diagonal blocks."""

import numpy as np
import pytest

import structmat
from structmat import Dense, Diagonal, Identity, LowRank, Permutation, SolveError, factorize


def draw(*shape):
    return np.random.default_rng(8).standard_normal(shape)


D = Diagonal(np.linspace(1, 2, 60))
L = LowRank(draw(60, 2), draw(40, 2))
Z = Dense(draw(40, 40) + 1j * draw(40, 40) + 9 * np.eye(40))
GRIDS = {
    "upper": [[D, L], [None, Identity(40)]],
    "lower": [[Identity(40), None], [L, D]],
    "of one size": [[D, Identity(60)], [None, D]],
    "complex": [[D, L], [None, Z]],
    "three": [[D, L, D], [None, Z, L.H], [None, None, Permutation(np.roll(np.arange(60), 1))]],
}


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("name", GRIDS)
def test_triangular_grids_by_substitution(name, shift):
    A = structmat.block(GRIDS[name])
    S = A.to_dense() + shift * np.eye(A.shape[0])
    F = factorize(A, shift=shift)
    assert F.method == "block triangular"
    b = draw(A.shape[0], 2)
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(S, b), rtol=1e-9, atol=1e-9)
    expected = np.linalg.solve(S.conj().T, b)
    np.testing.assert_allclose(F.solve_adjoint(b), expected, rtol=1e-9, atol=1e-9)
    found, expected = F.logdet(), np.linalg.slogdet(S)
    np.testing.assert_allclose([found.sign, found.logabsdet], expected, rtol=1e-10)


def test_large_triangular_grids_keep_their_structure():
    n = 200_000
    d = np.linspace(1, 2, n)
    A = structmat.block([[Diagonal(d), Identity(n)], [None, Diagonal(d)]])
    found = structmat.logdet(A)
    assert found.error == 0.0
    np.testing.assert_allclose(found.logabsdet, 2 * np.log(d).sum())


def test_grids_without_a_diagonal_block_are_refused():
    A = structmat.block([[D, Identity(60), D], [None, None, D], [None, None, D]])
    with pytest.raises(SolveError, match="block 1 of its diagonal"):
        factorize(A)
