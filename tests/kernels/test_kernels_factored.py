"""Factors in large tiles, as the products of a matrix use them."""

import numpy as np
import pytest
from cases import build

from structmat.kernels.bound import Chain

torch = pytest.importorskip("torch")

NAMES = ["gblr", "gblr-prime", "block_sparse", "block_low_rank"]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", NAMES)
def test_products_by_tiles(name, dtype):
    from structmat.kernels.triton.factor import TiledFactor, tile_matrix

    A, twin = build(name, dtype)
    factored = A.to("torch")._factored
    pairs = zip(factored.structure.patterns, factored.contents, strict=True)
    made = [
        TiledFactor(tile_matrix(p, c.shape[0], "cpu"), c, left=i == 0)
        for i, (p, c) in enumerate(pairs)
    ]
    chain = Chain(factored.structure, *made)
    rng = np.random.default_rng(0)
    for matrix, product in ((twin, chain.multiply), (twin.conj().T, chain.multiply_adjoint)):
        x = rng.standard_normal((matrix.shape[1], 5)).astype(dtype)
        y = product(torch.from_numpy(x), by_columns=False).resolve_conj().numpy()
        assert np.linalg.norm(y - matrix @ x) < 1e-12 * np.linalg.norm(matrix) * np.linalg.norm(x)
