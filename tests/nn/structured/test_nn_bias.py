"""The bias of a frozen layer, which is added in the memory of the product."""

import pytest

torch = pytest.importorskip("torch")

from structmat.nn.structured.products import _plus  # noqa: E402


def test_a_bias_is_added_in_place_to_all_but_the_input():
    x, bias = torch.ones(3, 4), torch.arange(4.0)
    own = x.clone()
    assert _plus(own, bias, x).data_ptr() == own.data_ptr()
    torch.testing.assert_close(own, 1 + bias.expand(3, 4))
    torch.testing.assert_close(_plus(x.view(3, 4), bias, x), own)
    torch.testing.assert_close(x, torch.ones(3, 4))
