"""Gaudi masks of given runs: boxcars whose widths and locations have gradients.

`mask_tables` has the formula (Lee & Kim, arXiv 2310.18882, section 4).
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from structmat._derivatives import is_recorded, recorded_gradients
from structmat.errors import InputError, ShapeError
from structmat.nn.gaudi.plain import is_plain, rounded_mask, smooth_mask
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

    Derivatives of any order are those of the real-valued mask at the rounded width and
    location. Beyond the first they take a Fourier transform a row.

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
        samples = torch.round(width.detach() * n).long().clamp(0, n)
        side = Side(n, torch.round(location.detach() * n).long(), samples, n, sigma=sigma)
        if is_plain(width, location):
            return rounded_mask(width, location, side).to(dtype)
        mask = _RoundedMasks.apply(width, location, side)
    else:
        mask = smooth_mask(width.clamp(0, 1) * n, location * n, n, sigma)
    return mask.to(dtype)


def check_sigma(sigma: float) -> None:
    """Refuse a sharpness that is not positive, or NaN."""
    if not sigma > 0:
        raise InputError(f"sigma = {sigma!r}; expected a number above 0 (math.inf for boxcars)")


class _RoundedMasks(torch.autograd.Function):
    """Masks of rounded widths and locations, differentiated as if they were not rounded."""

    @staticmethod
    def forward(ctx: Any, width: Tensor, location: Tensor, side: Side) -> Tensor:
        ctx.save_for_backward(width, location)
        ctx.side = side
        return side.mask(width.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not is_recorded(grad):
            return *ctx.side.mask_gradients(grad), None
        mask = partial(rounded_mask, side=ctx.side)
        needed = ctx.needs_input_grad[:2]
        return *recorded_gradients(mask, ctx.saved_tensors, needed, grad), None
