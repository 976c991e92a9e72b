"""Gaudi masks of given runs: boxcars whose widths and locations have gradients.

`mask_tables` has the formula (Lee & Kim, arXiv 2310.18882, section 4).
"""

import math
from typing import Any

import torch
from torch import Tensor

from structmat.errors import InputError, ShapeError
from structmat.nn.gaudi.mask_tables import gauss
from structmat.nn.gaudi.side import Side


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
        mask = _RoundedMasks.apply(width, location, n, sigma)
    else:
        mask = spectral_mask(width.clamp(0, 1) * n, location * n, n, sigma)
    return mask.to(dtype)


def check_sigma(sigma: float) -> None:
    """Refuse a sharpness that is not positive, or NaN."""
    if not sigma > 0:
        raise InputError(f"sigma = {sigma!r}; expected a number above 0 (math.inf for boxcars)")


def spectral_mask(width: Tensor, location: Tensor, n: int, sigma: float) -> Tensor:
    """Masks of real widths and locations in samples, by the Fourier formula: (K, n)."""
    k = torch.arange(n // 2 + 1, dtype=width.dtype, device=width.device)
    w, l = width[:, None], location[:, None]
    if not len(width):
        return w.expand(0, n)  # some transforms refuse to do nothing
    size = w * torch.sinc(k * w / n) / torch.sinc(k / n) * gauss(k, sigma)
    spectrum = torch.complex(size, torch.zeros_like(size))
    turn = (k * ((1 - w) - 2 * l)) * (math.pi / n)
    return torch.fft.irfft(spectrum * torch.complex(turn.cos(), turn.sin()), n)


class _RoundedMasks(torch.autograd.Function):
    """Masks of rounded widths and locations, differentiated as if they were not rounded."""

    @staticmethod
    def forward(ctx: Any, width: Tensor, location: Tensor, n: int, sigma: float) -> Tensor:
        samples = torch.round(width * n).long().clamp(0, n)
        ctx.side = Side(n, torch.round(location * n).long(), samples, n, sigma=sigma)
        return ctx.side.mask(width.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.side.mask_gradients(grad), None, None
