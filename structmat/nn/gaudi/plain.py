"""Gaudi blocks by plain operations, which torch differentiates any number of times.

The fast products of `products` and `factors` hand over to these under transforms of
`torch.func`, with forward-mode tangents, for gradients of gradients, and while a product is
traced. Blocks lie on whole circles here: an array (K, r, n) for either side.

Widths and locations are straight-through: values are those of whole samples, and derivatives
of every order are those of the smooth mask at these samples.
"""

import math

import torch
from torch import Tensor

from structmat._derivatives import is_traced, is_transformed
from structmat.nn.gaudi.side import Side, mask_dtype
from structmat.nn.gaudi.structure import Runs


def is_plain(*tensors: Tensor) -> bool:
    """Tell whether products of these tensors have to follow plain operations."""
    return is_traced() or is_transformed(*tensors)


def smooth_mask(width: Tensor, location: Tensor, n: int, sigma: float) -> Tensor:
    """Masks of real widths and locations in samples, by the Fourier formula: (K, n)."""
    if not len(width):
        return width[:, None].expand(0, n)  # some transforms refuse to do nothing
    k = torch.arange(1, n // 2 + 1, dtype=width.dtype, device=width.device) * (math.pi / n)
    w, l = width[:, None], location[:, None]
    # w sinc(k w / n) / sinc(k / n): a quotient of two sines has every derivative at w = 0 too.
    size = torch.sin(k * w) / torch.sin(k) * torch.exp(-0.5 * (k * (n / math.pi) / sigma) ** 2)
    size, turn = torch.cat([w, size], 1), k * ((1 - w) - 2 * l)
    turn = torch.cat([torch.zeros_like(w), turn], 1)
    return torch.fft.irfft(torch.complex(size * turn.cos(), size * turn.sin()), n)


def rounded_mask(width: Tensor, location: Tensor, side: Side) -> Tensor:
    """Masks (K, n) of a side's whole samples, with the derivatives of the smooth ones.

    Widths and locations are the fractions that were rounded.
    """
    mask = _values(side, width.dtype)
    if side.is_pinned or not (_has_derivatives(width) or _has_derivatives(location)):
        return mask
    n = side.size
    w, l = width * n, location * n
    w, l = w + (side.width - w).detach(), l + (side.start - l).detach()
    smooth = smooth_mask(w, l, n, side.sigma)
    return mask + (smooth - smooth.detach())


def _values(side: Side, dtype: torch.dtype) -> Tensor:
    if math.isfinite(side.sigma):
        return side._replace(window=side.size).mask(dtype)
    samples = torch.arange(side.size, device=side.start.device)
    return ((samples - side.start[:, None]) % side.size < side.width[:, None]).to(dtype)


def _has_derivatives(x: Tensor) -> bool:
    return x.requires_grad or is_transformed(x)


def masked(side: Side, contents: Tensor, width: Tensor, location: Tensor) -> Tensor:
    """Contents (K, r, S) under their masks, on whole circles: (K, r, n)."""
    dtype = mask_dtype(contents.dtype)
    mask = rounded_mask(width.to(dtype), location.to(dtype), side)
    return _on_circle(side, contents) * mask[:, None, :]


def _on_circle(side: Side, contents: Tensor) -> Tensor:
    """Contents (K, r, S) of windows at their samples, zero elsewhere: (K, r, n)."""
    if side.window == side.size:
        return contents
    begin = (side.start - side.before)[:, None]
    offset = (torch.arange(side.size, device=begin.device) - begin) % side.size
    slot = ((begin + offset) % side.window)[:, None, :]
    found = contents.gather(-1, slot.expand(*contents.shape[:2], side.size))
    return found * (offset < side.window)[:, None, :]


def weight(u: Tensor, v: Tensor, runs: Runs, rows: Side, cols: Side) -> Tensor:
    """The weight Σ_k u_k v_k^T under masks, (m, n), in the dtype of the contents."""
    left, right = masked(rows, u, *runs[:2]), masked(cols, v, *runs[2:])
    return (left.flatten(0, 1).T @ right.flatten(0, 1)).to(u.dtype)


def product(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    runs: Runs,
    rows: tuple[Side, Tensor | None],
    cols: tuple[Side, Tensor | None],
) -> Tensor:
    """Vectors (T, n) to (T, m), by masks that count on their support alone.

    Each side comes with the samples of its masks that count, (K, n), or None for all.
    """
    sides = []
    pairs = ((rows, u, runs[:2]), (cols, v, runs[2:]))
    for (side, support), contents, run in pairs:
        blocks = masked(side, contents, *run)
        if support is not None:
            blocks = blocks * support[:, None, :]
        sides.append(blocks.to(x.dtype).flatten(0, 1))
    return (x @ sides[1].T) @ sides[0]
