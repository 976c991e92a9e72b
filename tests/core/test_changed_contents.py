"""Contents of torch that change in place: products follow them, in every kind."""

import pytest
from cases import build

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")

KINDS = ["low_rank", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch-padded",
         "gblr-prime", "dense", "sum-of-three", "product-of-three", "adjoint"]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_products_follow_contents_that_change_in_place(name):
    A = build(name)[0].to("torch")
    m, n = A.shape
    x, y = torch.ones(n, 2, dtype=A.dtype), torch.ones(m, dtype=A.dtype)
    wide = x.to(torch.complex128)

    def products(A):
        return A @ x, A.H @ y, A @ wide, A.to_dense()

    products(A)
    floating = [array for array in A._leaves() if array.is_floating_point()]
    for array in floating:
        array.mul_(2)
    for found, fresh in zip(products(A), products(A.copy()), strict=True):
        torch.testing.assert_close(found, fresh)
    with torch.inference_mode():
        floating[0].zero_()
    for found, fresh in zip(products(A), products(A.copy()), strict=True):
        torch.testing.assert_close(found, fresh)
