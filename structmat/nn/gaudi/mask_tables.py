"""Tables of Gaudi masks: every rounded mask, and every derivative, is a window of one.

On a circle of n samples, the boxcar of width w at location l has the spectrum

    w sinc(k w / n) / sinc(k / n) exp(i π k (1 - w) / n) exp(-2 π i k l / n),

for signed integer frequencies k and sinc(x) = sin(π x) / (π x). A Gaudi (Gaussian-
Dirichlet) mask multiplies it by G_k = exp(-k² / (2 σ²)) (Lee & Kim, arXiv 2310.18882,
section 4). That blurs the boxcar by a kernel g of standard deviation n / (2 π σ) samples.

For whole w and l (straight-through) no Fourier transform is needed: with P the cyclic
prefix sum of g, the mask is m[j] = P(j - l + 1) - P(j - l - w + 1), and both derivatives
are shifts of one vector h, the derivative at an edge.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from structmat._derivatives import lasting


class MaskTable(NamedTuple):
    """Prefix sums of the blur and edge derivatives, for offsets -2 n to n of an edge."""

    #: P(t), with P(t + n) = P(t) + 1, (3 n + 1,).
    integral: Tensor
    #: Derivative of a mask with respect to w / n whose trailing edge lies t back, (3 n + 1,).
    edge: Tensor


@lru_cache(maxsize=64)
def mask_table(n: int, sigma: float, dtype: torch.dtype, device: torch.device) -> MaskTable:
    """Table for a circle of n samples and a sharpness σ, computed once in double precision."""
    # Made in its place, as a schedule needs another one after each step; MPS has no doubles.
    with lasting(), torch.no_grad(), torch.device("cpu" if device.type == "mps" else device):
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        decay = gauss(k, sigma)
        blur = torch.zeros(n, dtype=torch.float64)
        blur[0] = 1.0  # exactly, where there is no blur
        if math.isfinite(sigma):
            blur = torch.fft.irfft(decay.to(torch.complex128), n)
        edge = torch.polar(decay / torch.sinc(k / n), math.pi * k / n)
        edge = torch.fft.irfft(edge, n, norm="forward")
        prefix = torch.cumsum(blur, 0) - blur
        turns = torch.arange(-2.0, 1.0, dtype=torch.float64)[:, None]
        integral = torch.cat([(prefix + turns).flatten(), torch.ones(1, dtype=torch.float64)])
        edges = torch.cat([edge, edge, edge, edge[:1]])
        return MaskTable(integral.to(device, dtype), edges.to(device, dtype))


def gauss(k: Tensor, sigma: float) -> Tensor:
    """Spectrum of the blur at frequencies k: exp(-k² / (2 σ²))."""
    return torch.exp(-0.5 * (k / sigma) ** 2)
