"""Layers whose weights are structured matrices of any kind."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import InputError, ShapeError
from structmat.matrix import StructuredMatrix
from structmat.nn.convolution import TapConv2d
from structmat.nn.structured_weight import StructuredWeight

__all__ = ["StructuredConv2d", "StructuredLinear", "StructuredWeight", "as_weight"]


class StructuredLinear(nn.Module):
    """A linear layer y = x A^T + b whose weight A is a structured matrix.

    Parameters
    ----------
    matrix : StructuredMatrix or StructuredWeight
        Shape (out_features, in_features). A matrix is copied; a weight is taken as it
        is, so that layers may share it.
    bias : Tensor or None
        Shape (out_features,); copied.

    Attributes
    ----------
    matrix : StructuredWeight
    bias : torch.nn.Parameter or None

    Raises
    ------
    ShapeError
        If the bias does not fit.

    Examples
    --------
    >>> import structmat, torch
    >>> A = structmat.compress(torch.eye(8).numpy(), "block_sparse", budget=0.25).matrix
    >>> layer = StructuredLinear(A, torch.zeros(8))
    >>> layer(torch.ones(2, 8)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self, matrix: StructuredMatrix | StructuredWeight, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.matrix = as_weight(matrix)
        self.out_features, self.in_features = self.matrix.shape
        self.bias = _bias(bias, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        return self.matrix.affine(x, self.bias)

    @property
    def weight(self) -> Tensor:
        """The dense weight, (out_features, in_features); only to be read."""
        return self.matrix.dense()

    def to_matrix(self) -> StructuredMatrix:
        """The matrix of its weight with a copy of the present contents."""
        return self.matrix.to_matrix()

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class StructuredConv2d(TapConv2d):
    """A convolution whose kernel is made of structured matrices.

    Parameters
    ----------
    taps : sequence of StructuredMatrix or StructuredWeight
        One of shape (out, in kh kw), whose columns are ordered as in
        ``weight.reshape(out, -1)`` of a dense layer, or kh kw of shape (out, in), row by
        row of the kernel.
    bias : Tensor or None
        Shape (out,).
    groups : int
        Only 1.
    **settings
        ``in_channels``, ``kernel_size``, ``stride``, ``padding``, ``dilation`` and
        ``padding_mode``, as `torch.nn.Conv2d` takes them.

    Examples
    --------
    >>> import structmat, torch
    >>> A = structmat.LowRank(torch.ones(16, 2), torch.ones(72, 2))
    >>> layer = StructuredConv2d([A], None, in_channels=8, kernel_size=3, padding=1)
    >>> layer(torch.ones(2, 8, 6, 6)).shape
    torch.Size([2, 16, 6, 6])
    """

    def __init__(
        self,
        taps: Sequence[StructuredMatrix | StructuredWeight],
        bias: Tensor | None = None,
        *,
        groups: int = 1,
        **settings: Any,
    ) -> None:
        if groups != 1:
            raise InputError(
                f"groups = {groups}; expected 1 (a grouped convolution is block sparse already)"
            )
        super().__init__([as_weight(tap) for tap in taps], bias, **settings)


def as_weight(matrix: StructuredMatrix | StructuredWeight) -> StructuredWeight:
    """A matrix as a trainable weight; a weight as it is."""
    return matrix if isinstance(matrix, StructuredWeight) else StructuredWeight(matrix)


def _bias(bias: Tensor | None, size: int) -> nn.Parameter | None:
    if bias is None:
        return None
    bias = torch.as_tensor(bias)
    if tuple(bias.shape) != (size,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}; expected ({size},)")
    return nn.Parameter(bias.detach().clone())
