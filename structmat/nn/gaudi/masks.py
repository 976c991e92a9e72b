"""Gaudi masks: boxcars whose widths and locations have gradients.

On a circle of n samples, the boxcar of width w at location l has the spectrum

    w sinc(k w / n) / sinc(k / n) exp(i π k (1 - w) / n) exp(-2 π i k l / n),

for signed integer frequencies k and sinc(x) = sin(π x) / (π x). A Gaudi (Gaussian-
Dirichlet) mask multiplies it by G_k = exp(-k² / (2 σ²)) (Lee & Kim, arXiv 2310.18882,
section 4), which is to blur the boxcar by a kernel g of standard deviation n / (2 π σ)
samples.

Where w and l are rounded on the way in (straight-through), no Fourier transform is
needed: with P the cyclic prefix sum of g, the mask is m[j] = P(j - l + 1) - P(j - l - w + 1),
and both derivatives are shifts of one vector h, the derivative at an edge. Every mask
and every derivative is then a window of one of two tables.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from structmat.errors import InputError, ShapeError


class MaskTable(NamedTuple):
    """Prefix sums of the blur and edge derivatives, for offsets -2 n to n of an edge.

    Attributes
    ----------
    integral : Tensor, shape (3 n + 1,)
        P(t), with P(t + n) = P(t) + 1.
    edge : Tensor, shape (3 n + 1,)
        Derivative of a mask with respect to w / n where its trailing edge lies t back.
    n : int
        Length of the circle.
    sigma : float
        Sharpness.
    """

    integral: Tensor
    edge: Tensor
    n: int
    sigma: float

    @property
    def blur(self) -> float:
        """Standard deviation of the blur, in samples."""
        return self.n / (2 * math.pi * self.sigma)

    def mask(self, first: Tensor, width: Tensor, length: int) -> Tensor:
        """Masks on windows: `first` is where the window begins, seen from the location."""
        begin = first + (2 * self.n + 1)
        # In place: a new array of this size costs more than the subtraction.
        return _rows(self.integral, begin, length).sub_(_rows(self.integral, begin - width, length))

    def gradients(self, first: Tensor, width: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Of width and location, as fractions of n, from that of the masks on windows."""
        begin, length = first + 2 * self.n, grad.shape[1]
        by_width = _dots(grad, _rows(self.edge, begin - width, length))
        return by_width, by_width - _dots(grad, _rows(self.edge, begin, length))


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows, (K,)."""
    return torch.linalg.vecdot(a.to(b.dtype), b)


def _rows(table: Tensor, begin: Tensor, length: int) -> Tensor:
    """Windows of a vector, one a row: (K, length)."""
    # An embedding copies rows; plain indexing takes them apart, at four times the time.
    return torch.nn.functional.embedding(begin, table.unfold(0, length, 1))


@lru_cache(maxsize=64)
def mask_table(n: int, sigma: float, dtype: torch.dtype, device: torch.device) -> MaskTable:
    """Table for a circle of n samples and a sharpness σ; made once, in double precision.

    Examples
    --------
    >>> import math, torch
    >>> mask_table(4, math.inf, torch.float64, torch.device("cpu")).integral[8:].tolist()
    [0.0, 1.0, 1.0, 1.0, 1.0]
    """
    # Tensors made in inference mode could not serve a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        gauss = _gauss(k, sigma)
        blur = torch.zeros(n, dtype=torch.float64)
        blur[0] = 1.0  # exactly, where there is no blur
        if math.isfinite(sigma):
            blur = torch.fft.irfft(gauss.to(torch.complex128), n)
        edge = torch.polar(gauss / torch.sinc(k / n), math.pi * k / n)
        edge = torch.fft.irfft(edge, n, norm="forward")
        prefix = torch.cumsum(blur, 0) - blur
        turns = torch.arange(-2.0, 1.0, dtype=torch.float64)[:, None]
        integral = torch.cat([(prefix + turns).flatten(), torch.ones(1, dtype=torch.float64)])
        edges = torch.cat([edge, edge, edge, edge[:1]])
        return MaskTable(integral.to(device, dtype), edges.to(device, dtype), n, sigma)


def gaudi_mask(
    width: Tensor,
    location: Tensor,
    n: int,
    *,
    sigma: float = math.inf,
    straight_through: bool = True,
) -> Tensor:
    """Gaussian-Dirichlet masks of cyclic runs on n samples.

    Parameters
    ----------
    width, location : Tensor, shape (K,)
        Fractions of n: the run begins at ``location * n`` and is ``width * n`` long.
        Widths are clipped to [0, 1]; locations wrap around.
    n : int
        Samples on the circle.
    sigma : float
        Sharpness in (0, ∞], in units of the frequency index. At ∞ the mask is the
        boxcar itself; below, it is the boxcar blurred with a standard deviation of
        ``n / (2 π σ)`` samples.
    straight_through : bool
        Round width and location to whole samples in the forward pass and
        differentiate as if they had not been rounded. Otherwise they stay real, and
        the mask is the band-limited boxcar between the samples.

    Returns
    -------
    Tensor, shape (K, n)
        Each row sums to its width in samples.

    Raises
    ------
    InputError
        If σ is not positive, or n is not a whole number of at least 1.
    ShapeError
        If `width` and `location` are not vectors of one length.

    Notes
    -----
    Straight-through masks take O(K n) time forward and backward, and keep K whole
    numbers for the backward pass; real-valued ones take a Fourier transform a row.

    Examples
    --------
    >>> import torch
    >>> gaudi_mask(torch.tensor([0.5]), torch.tensor([0.75]), 4)
    tensor([[1., 0., 0., 1.]])
    """
    check_sigma(sigma)
    if not isinstance(n, int) or n < 1:  # type: ignore[redundant-expr]
        raise InputError(f"n = {n!r}; expected the number of samples, a whole number of at least 1")
    if width.ndim != 1 or width.shape != location.shape:
        raise ShapeError(
            f"width has shape {tuple(width.shape)} and location {tuple(location.shape)}; expected "
            "vectors with one entry a mask"
        )
    dtype = width.dtype
    if not (dtype.is_floating_point and location.dtype.is_floating_point):
        raise InputError(
            f"width is {dtype} and location {location.dtype}; expected fractions, in real floating "
            "numbers"
        )
    if dtype not in (torch.float32, torch.float64):
        width, location = width.float(), location.float()
    if straight_through:
        mask = _Windows.apply(width, location, mask_table(n, sigma, width.dtype, width.device))
    else:
        mask = spectral_mask(width.clamp(0, 1) * n, location * n, n, sigma)
    return mask.to(dtype)


def check_sigma(sigma: float) -> None:
    """Refuse what is no sharpness."""
    if not sigma > 0:
        raise InputError(f"sigma = {sigma!r}; expected a number above 0 (math.inf for boxcars)")


def spectral_mask(width: Tensor, location: Tensor, n: int, sigma: float) -> Tensor:
    """Masks of real widths and locations in samples, by the Fourier formula: (K, n).

    Examples
    --------
    >>> import math, torch
    >>> half = torch.tensor([2.5], dtype=torch.float64)
    >>> spectral_mask(half, 0 * half, 5, math.inf).sum().item()
    2.5
    """
    k = torch.arange(n // 2 + 1, dtype=width.dtype, device=width.device)
    w, l = width[:, None], location[:, None]
    if not len(width):
        return w.expand(0, n)  # some transforms refuse to do nothing
    size = w * torch.sinc(k * w / n) / torch.sinc(k / n) * _gauss(k, sigma)
    spectrum = torch.complex(size, torch.zeros_like(size))
    turn = (k * ((1 - w) - 2 * l)) * (math.pi / n)
    return torch.fft.irfft(spectrum * torch.complex(turn.cos(), turn.sin()), n)


def _gauss(k: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (k / sigma) ** 2)


class _Windows(torch.autograd.Function):
    """Masks of rounded widths and locations as windows of a table."""

    @staticmethod
    def forward(ctx: Any, width: Tensor, location: Tensor, table: MaskTable) -> Tensor:
        n = table.n
        ctx.table = table
        ctx.width = torch.round(width * n).long().clamp(0, n)
        ctx.first = -(torch.round(location * n).long() % n)
        return table.mask(ctx.first, ctx.width, n)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return *ctx.table.gradients(ctx.first, ctx.width, grad), None
