"""Convolutions by matrices, one for the kernel or one for each of its taps: the common part."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat.errors import InputError, ShapeError
from structmat.nn.structured.parameters import bias_parameter
from structmat.nn.structured.products import check_dense
from structmat.nn.structured.shown import Shown

_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
_PADDING_MODES["circular"] = "circular"


class TapConv2d(Shown, nn.Module):
    """Abstract convolution: settings, checks and geometry, as of `torch.nn.Conv2d`.

    A final class adds the product, `_convolve`.

    Parameters
    ----------
    taps : sequence of Module
        Trainable weights: one of shape (out, in kh kw), with columns in the order of
        ``weight.reshape(out, -1)`` of a dense layer, or kh kw of shape (out, in), row by
        row of the kernel.
    bias : Tensor or None
        Shape (out,).
    in_channels : int
    kernel_size, stride, padding, dilation, padding_mode
        As `torch.nn.Conv2d` takes them; `padding` may be "same" or "valid".
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
        self.bias = bias_parameter(bias, self.out_channels)
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
        """True if each tap of the kernel has a matrix of its own (a 1 x 1 kernel has one)."""
        return len(self.taps) > 1

    @property
    def weight(self) -> Tensor:
        """The dense kernel (out, in, kh, kw); only to be read."""
        return self._kernel_of([tap.dense() for tap in self._weights()])

    def _kernel_of(self, dense: list[Tensor]) -> Tensor:
        """The kernel (out, in, kh, kw) of the dense weights of all taps."""
        kernel = torch.stack(dense, -1) if self.by_taps else dense[0]
        return kernel.reshape(self.out_channels, self.in_channels, *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Images (…, in_channels, h, w), one or a batch, to (…, out_channels, h', w').

        Raises
        ------
        ShapeError
            If `x` has other channels, or is smaller than the kernel.
        """
        check_dense(x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, height, "
                "width), or the same without a batch"
            )
        return self._convolve(x) if x.ndim == 4 else self._convolve(x[None])[0]

    @abstractmethod
    def _convolve(self, x: Tensor) -> Tensor:
        """Images (b, in_channels, h, w) to (b, out_channels, h', w')."""

    def _result_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the result, from images before padding."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        added = {"valid": (0, 0), "same": reach}.get(str(self.padding))
        added = added or [2 * int(p) for p in self.padding]
        sizes = [n + a - r for n, a, r in zip(x.shape[2:], added, reach, strict=True)]
        if min(sizes) < 1:
            raise ShapeError(
                f"images of {x.shape[2]}x{x.shape[3]} with padding {self.padding!r} are smaller "
                f"than a kernel of {self.kernel_size} with dilation {self.dilation}; expected "
                "larger ones"
            )
        height, width = ((n - 1) // s + 1 for n, s in zip(sizes, self.stride, strict=True))
        return height, width

    def _views(self, x: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Samples of padded images (…, h, w) that each tap sees, views of (…, *size)."""
        (down, across), (step, stride), (height, width) = self.dilation, self.stride, size
        return [
            x[:, :, top : top + (height - 1) * step + 1 : step, left::stride][..., :width]
            for top in range(0, self.kernel_size[0] * down, down)
            for left in range(0, self.kernel_size[1] * across, across)
        ]

    def _padded(self, x: Tensor) -> Tensor:
        top, left = ((d * (k - 1)) for d, k in zip(self.dilation, self.kernel_size, strict=True))
        if self.padding == "valid":
            return x
        if self.padding == "same":  # an odd sample goes to the end, as in torch
            sides = (left // 2, left - left // 2, top // 2, top - top // 2)
        else:
            down, across = pair(self.padding)  # type: ignore[arg-type]
            sides = (across, across, down, down)
        return F.pad(x, sides, mode=_PADDING_MODES[self.padding_mode]) if any(sides) else x

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
