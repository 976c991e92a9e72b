"""`PackedLinear`: several weights behind one layer, as for packed queries, keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from structmat.errors import InputError, ShapeError
from structmat.nn.structured.parameters import bias_parameter
from structmat.nn.structured.shown import Shown


class PackedLinear(Shown, nn.Module):
    """A linear layer whose weight is a stack of weights, each with a structure of its own.

    Parameters
    ----------
    parts : sequence of GaudiWeight or StructuredWeight
        Row blocks of the weight, all with the same number of inputs.
    bias : Tensor or None
        Shape (out_features,); copied.

    Attributes
    ----------
    parts : torch.nn.ModuleList
    bias : torch.nn.Parameter or None

    Raises
    ------
    InputError
        If there are no parts.
    ShapeError
        If the parts differ in their inputs, or the bias does not fit.

    Examples
    --------
    >>> from structmat.nn.gaudi.weight import GaudiWeight
    >>> layer = PackedLinear([GaudiWeight((8, 16)) for _ in range(3)], torch.zeros(24))
    >>> layer(torch.ones(5, 16)).shape, layer.weight.shape
    (torch.Size([5, 24]), torch.Size([24, 16]))
    """

    def __init__(self, parts: Sequence[nn.Module], bias: Tensor | None = None) -> None:
        super().__init__()
        if not parts:
            raise InputError("parts is empty; expected at least one weight")
        inputs = {part.shape[1] for part in parts}
        if len(inputs) > 1:
            raise ShapeError(f"parts take {sorted(inputs)} inputs; expected one number")
        self.in_features = inputs.pop()
        self.out_features = sum(part.shape[0] for part in parts)
        self.parts = nn.ModuleList(parts)
        self.bias = bias_parameter(bias, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        y = torch.cat([part(x) for part in self.parts], dim=-1)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    @property
    def weight(self) -> Tensor:
        """The dense weight, (out_features, in_features); only to be read."""
        return torch.cat([part.dense() for part in self.parts])

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
