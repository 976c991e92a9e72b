"""`GaudiLinear`: a linear layer by a Gaudi-GBLR weight."""

from typing import Any

import torch
from torch import Tensor, nn

from structmat.matrices import GBLR
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.parameters import bias_parameter
from structmat.nn.structured.shown import Shown


class GaudiLinear(Shown, nn.Module):
    """A linear layer y = x A^T + b whose weight is a Gaudi-GBLR matrix.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    **options
        Options of `GaudiWeight`: ``num_blocks``, ``rank``, ``granularity``, ``sigma``,
        ``budget``, ``width_init``, ``location_init``, ``content_init``, ``min_width``,
        ``max_width``, ``learn_widths``, ``learn_locations``, ``straight_through``,
        ``product``, ``generator``, ``device``, ``dtype``.

    Attributes
    ----------
    matrix : GaudiWeight
        The trainable weight, shape (out_features, in_features).
    bias : torch.nn.Parameter or None

    Examples
    --------
    >>> import torch
    >>> layer = GaudiLinear(16, 8, budget=0.75)
    >>> layer(torch.ones(2, 3, 16)).shape
    torch.Size([2, 3, 8])
    >>> layer.matrix.cost, layer.to_matrix().cost
    (96, 88)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.matrix = GaudiWeight((out_features, in_features), **options)
        self.bias = None
        if bias:
            values = random_bias(in_features, self.matrix, options.get("generator"))
            self.bias = nn.Parameter(values)

    @classmethod
    def from_weight(cls, matrix: GaudiWeight, bias: Tensor | None) -> "GaudiLinear":
        """A layer around an existing weight, and a copy of a bias."""
        m, n = matrix.shape
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.in_features, layer.out_features, layer.matrix = n, m, matrix
        layer.bias = bias_parameter(bias, m)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        y: Tensor = self.matrix(x, self.bias)
        return y

    @property
    def weight(self) -> Tensor:
        """The dense weight of the present mode, (out_features, in_features)."""
        return self.matrix.dense()

    def to_matrix(self) -> GBLR:
        """The packed GBLR matrix of the weight: hard boxcars, dead blocks removed."""
        return self.matrix.to_matrix()


def random_bias(fan_in: int, weight: GaudiWeight, generator: torch.Generator | None) -> Tensor:
    """Bias as `torch.nn.Linear` draws it for this number of inputs, like a weight's contents."""
    bound = fan_in**-0.5
    values = torch.empty(weight.shape[0]).uniform_(-bound, bound, generator=generator)
    return values.to(weight.u)
