"""`AnnealLinear`: a linear layer that learns its structure from a dense start."""

from torch import Tensor, nn

from structmat.matrix import StructuredMatrix
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.structured.parameters import bias_parameter
from structmat.nn.structured.shown import Shown


class AnnealLinear(Shown, nn.Module):
    """A linear layer y = x A^T + b whose weight comes down to a structure in training.

    Parameters
    ----------
    matrix : AnnealWeight
        Shape (out_features, in_features); used itself, so that layers can share it.
    bias : Tensor or None
        Shape (out_features,); copied.

    Attributes
    ----------
    matrix : AnnealWeight
    bias : torch.nn.Parameter or None
    in_features, out_features : int

    Examples
    --------
    >>> import torch
    >>> layer = AnnealLinear(AnnealWeight(torch.ones(8, 16), cap=32), torch.zeros(8))
    >>> layer(torch.ones(2, 3, 16)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, matrix: AnnealWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.matrix = matrix
        self.out_features, self.in_features = matrix.shape
        self.bias = bias_parameter(bias, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        y: Tensor = self.matrix(x, self.bias)
        return y

    @property
    def weight(self) -> Tensor:
        """The dense weight, (out_features, in_features); only to be read."""
        return self.matrix.dense()

    def to_matrix(self) -> StructuredMatrix:
        """The matrix of the weight in its present structure."""
        return self.matrix.to_matrix()

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
