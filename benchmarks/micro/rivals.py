"""Layers to compare Gaudi layers with, all of a given cost."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import structmat
from structmat.nn import StructuredLinear, gaudi_mask


class LowRankLinear(nn.Sequential):
    """Two dense layers, one after the other."""

    def __init__(self, n: int, m: int, cost: float) -> None:
        rank = max(1, round(cost * m * n / (m + n)))
        super().__init__(nn.Linear(n, rank, bias=False), nn.Linear(rank, m))

    @property
    def weight(self) -> Tensor:
        """Dense, (m, n)."""
        return self[1].weight @ self[0].weight

    @property
    def bias(self) -> Tensor:
        """Bias of the second layer."""
        return self[1].bias


def monarch(n: int, m: int, cost: float) -> StructuredLinear:
    """Monarch layer with the largest power of two of blocks that are no wider than tall."""
    blocks = 2 ** int(math.log2(1 / cost))
    rank = max(1, round(cost * m * n / (m + n)))
    p, s = -(-n // blocks), -(-m // blocks)
    L, R = torch.randn(blocks, s, rank) / rank**0.5, torch.randn(blocks, rank, p) / p**0.5
    return StructuredLinear(structmat.Monarch(L, R, shape=(m, n)), torch.zeros(m))


class FourierLinear(nn.Module):
    """GBLR layer by the published formula: masks by a Fourier transform in every step.

    Masks and masked contents are of full length, and the products are dense (Lee & Kim,
    arXiv 2310.18882, sections 4 and 5).
    """

    def __init__(self, n: int, m: int, cost: float, sigma: float = 100.0) -> None:
        super().__init__()
        count, width = min(m, n), min(1.0, cost * max(m, n) / (m + n))
        self.sigma = sigma
        self.u = nn.Parameter(torch.randn(count, m) / m**0.5)
        self.v = nn.Parameter(torch.randn(count, n) / n**0.5)
        self.bias = nn.Parameter(torch.zeros(m))
        self.widths = nn.Parameter(torch.full((2, count), width))
        self.locations = nn.Parameter(torch.rand(2, count))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (T, n) to (T, m)."""
        left, right = (
            contents * fourier_mask(w, l, contents.shape[1], self.sigma).to(contents.dtype)
            for contents, w, l in zip((self.u, self.v), self.widths, self.locations, strict=True)
        )
        return F.linear(F.linear(x, right), left.T, self.bias)

    @property
    def weight(self) -> Tensor:
        """Dense, (m, n), with masks from tables instead."""
        left, right = (
            contents * gaudi_mask(w.float(), l.float(), contents.shape[1], sigma=self.sigma)
            for contents, w, l in zip((self.u, self.v), self.widths, self.locations, strict=True)
        )
        return left.T @ right


def fourier_mask(width: Tensor, location: Tensor, n: int, sigma: float) -> Tensor:
    """Masks of n samples from their spectra, rounded widths and locations straight through.

    For frequencies k = 0 … n/2: w sinc(k w / n) / sinc(k / n) exp(i π k (1 - w - 2 l) / n)
    times exp(-k² / (2 σ²)), w and l in samples.
    """
    w, l = ((n * value.float())[:, None] for value in (width, location))
    w, l = (value + (value.round() - value).detach() for value in (w, l))
    k = torch.arange(n // 2 + 1, device=w.device)
    size = w * torch.sinc(k * w / n) / torch.sinc(k / n) * torch.exp(-0.5 * (k / sigma) ** 2)
    return torch.fft.irfft(torch.polar(size, math.pi / n * k * (1 - w - 2 * l)), n)
