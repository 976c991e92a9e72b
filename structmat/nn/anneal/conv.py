"""`AnnealConv2d`: a convolution that learns its structure from a dense start."""

from torch import Tensor
from torch.nn import functional as F

from structmat.nn.structured.convolution import TapConv2d


class AnnealConv2d(TapConv2d):
    """A convolution whose kernel comes down to structured matrices in training.

    Parameters and attributes are those of `StructuredConv2d`, with `AnnealWeight` for taps.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn.anneal.weight import AnnealWeight
    >>> tap = AnnealWeight(torch.ones(6, 4 * 9), cap=50)
    >>> layer = AnnealConv2d([tap], None, in_channels=4, kernel_size=3, padding=1)
    >>> layer(torch.ones(2, 4, 5, 5)).shape
    torch.Size([2, 6, 5, 5])
    """

    def _convolve(self, x: Tensor) -> Tensor:
        x, weight = self._padded(x), self.weight
        return F.conv2d(x, weight, self.bias, self.stride, 0, self.dilation)
