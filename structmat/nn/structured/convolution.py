"""Convolutions whose kernel is made of matrices: one for all taps, or one a tap."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from structmat.errors import InputError, ShapeError

_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
_PADDING_MODES["circular"] = "circular"


class TapConv2d(nn.Module):
    """Base of the structured convolutions: an image layer like `torch.nn.Conv2d`.

    Parameters
    ----------
    taps : sequence of Module
        Trainable weights: one of shape (out, in kh kw), whose columns are ordered as in
        ``weight.reshape(out, -1)`` of a dense layer, or kh kw of shape (out, in), row by
        row of the kernel.
    bias : Tensor or None
        Shape (out,).
    in_channels : int
    kernel_size, stride, padding, dilation, padding_mode
        As `torch.nn.Conv2d` takes them; `padding` may be "same" or "valid".

    Notes
    -----
    Either the weight is assembled and convolved, or the matrices multiply patches of the
    image: the weights decide by their own estimate of the work.
    """

    def __init__(
        self,
        taps: Sequence[nn.Module],
        bias: Tensor | None,
        *,
        in_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self.taps = nn.ModuleList(taps)
        first: Any = taps[0]
        self.in_channels, self.out_channels = in_channels, int(first.shape[0])
        self.kernel_size, self.stride = pair(kernel_size), pair(stride)
        self.padding = padding if isinstance(padding, str) else pair(padding)
        self.dilation, self.padding_mode = pair(dilation), padding_mode
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self._check()

    def _check(self) -> None:
        size = self.kernel_size[0] * self.kernel_size[1]
        shapes = [tuple(tap.shape) for tap in self._weights()]
        one = [(self.out_channels, self.in_channels * size)]
        many = [(self.out_channels, self.in_channels)] * size
        if shapes not in (one, many):
            raise ShapeError(
                f"weights of shapes {shapes}; expected one of {one[0]}, or {size} of {many[0]}"
            )
        if self.padding_mode not in _PADDING_MODES:
            raise InputError(
                f"padding_mode = {self.padding_mode!r}; expected one of {tuple(_PADDING_MODES)}"
            )
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise InputError(f'padding = {self.padding!r}; expected "same", "valid" or numbers')
        if self.padding == "same" and self.stride != (1, 1):
            raise InputError(f'padding = "same" with stride {self.stride}; expected stride 1')

    def _weights(self) -> list[Any]:
        return list(self.taps)

    @property
    def by_taps(self) -> bool:
        """Whether each tap of the kernel has a matrix of its own (a 1 x 1 kernel has one)."""
        return len(self.taps) > 1

    @property
    def weight(self) -> Tensor:
        """The dense kernel (out, in, kh, kw); only to be read."""
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        if not self.by_taps:
            return self._weights()[0].dense().view(shape)
        return torch.stack([tap.dense() for tap in self._weights()], -1).view(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in, H, W), or one without B, to (B, out, H', W')."""
        if x.ndim == 3:
            return self.forward(x[None])[0]
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(
                f"input of shape {tuple(x.shape)}; expected (B, {self.in_channels}, H, W)"
            )
        x = self._padded(x)
        height, width = self._output_size(x)
        if not self._weights()[0].multiplies(x.shape[0] * height * width):
            weight = self.weight
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return F.conv2d(x, weight, bias, self.stride, 0, self.dilation)
        y = self._by_taps(x, height, width) if self.by_taps else self._by_patches(x)
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        return y.movedim(-1, 1).reshape(x.shape[0], self.out_channels, height, width)

    def _by_patches(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.kernel_size, self.dilation, 0, self.stride)
        return self._weights()[0](patches.transpose(1, 2))

    def _by_taps(self, x: Tensor, height: int, width: int) -> Tensor:
        (down, across), (step, stride) = self.dilation, self.stride
        places = [(i, j) for i in range(self.kernel_size[0]) for j in range(self.kernel_size[1])]
        parts = []
        for (i, j), tap in zip(places, self._weights(), strict=True):
            top, left = i * down, j * across
            rows = slice(top, top + (height - 1) * step + 1, step)
            cols = slice(left, left + (width - 1) * stride + 1, stride)
            parts.append(tap(x[:, :, rows, cols].movedim(1, -1)))
        return torch.stack(parts).sum(0)

    def _padded(self, x: Tensor) -> Tensor:
        top, left = ((d * (k - 1)) for d, k in zip(self.dilation, self.kernel_size, strict=True))
        if self.padding == "valid":
            return x
        if self.padding == "same":  # an odd sample goes to the end, as torch has it
            sides = (left // 2, left - left // 2, top // 2, top - top // 2)
        else:
            down, across = pair(self.padding)  # type: ignore[arg-type]
            sides = (across, across, down, down)
        return F.pad(x, sides, mode=_PADDING_MODES[self.padding_mode]) if any(sides) else x

    def _output_size(self, x: Tensor) -> tuple[int, int]:
        sizes = zip(x.shape[2:], self.kernel_size, self.dilation, self.stride, strict=True)
        height, width = ((n - d * (k - 1) - 1) // s + 1 for n, k, d, s in sizes)
        if min(height, width) < 1:
            raise ShapeError(
                f"images of {x.shape[2]}x{x.shape[3]}, padding included, are smaller than a kernel "
                f"of {self.kernel_size} with dilation {self.dilation}; expected larger ones"
            )
        return height, width

    def settings(self) -> dict[str, Any]:
        """What the constructor takes beside weights and bias."""
        names = ("in_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """Sizes, as `torch.nn.Conv2d` prints its own."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}"
        )


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both axes, or two.

    Examples
    --------
    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
