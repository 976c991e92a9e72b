"""Layers whose weights are structured matrices of any kind."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat.errors import InputError, ShapeError
from structmat.kernels.cost_model.layers import Times
from structmat.matrix import StructuredMatrix
from structmat.nn.structured.convolution import TapConv2d
from structmat.nn.structured.speed import CHUNK, dense_is_quicker
from structmat.nn.structured.weight import StructuredWeight, autocast_dtype

Weight = StructuredMatrix | StructuredWeight


class StructuredLinear(nn.Module):
    """A linear layer y = x A^T + b whose weight A is a structured matrix.

    Parameters
    ----------
    matrix : StructuredMatrix or StructuredWeight
        Shape (out_features, in_features). A matrix is copied; a weight is taken as it
        is, so that layers can share it.
    bias : Tensor or None
        Shape (out_features,); copied.

    Attributes
    ----------
    matrix : StructuredWeight
    bias : torch.nn.Parameter or None
    in_features, out_features : int

    Raises
    ------
    InputError
        If the matrix cannot be trained; see `StructuredWeight`.
    ShapeError
        If the bias does not fit.

    Examples
    --------
    >>> import structmat, torch
    >>> A = structmat.compress(torch.eye(8).numpy(), "block_sparse", budget=0.25).matrix
    >>> layer = StructuredLinear(A, torch.zeros(8))
    >>> layer(torch.ones(2, 8)).shape, layer.matrix.cost
    (torch.Size([2, 8]), 16)
    """

    def __init__(self, matrix: Weight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.matrix = _weight(matrix)
        self.out_features, self.in_features = self.matrix.shape
        _check_bias(bias, self.out_features)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        return self.matrix(x, self.bias)

    @property
    def weight(self) -> Tensor:
        """The dense weight, (out_features, in_features); only to be read."""
        return self.matrix.dense()

    def to_matrix(self) -> StructuredMatrix:
        """The structured matrix of its weight, with a copy of the contents."""
        return self.matrix.to_matrix()

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class StructuredConv2d(TapConv2d):
    """A two-dimensional convolution whose kernel is made of structured matrices.

    The matrices multiply patches, or the kernel that they assemble is convolved,
    whichever promises less time; results and gradients are the same.

    Parameters
    ----------
    taps : sequence of StructuredMatrix or StructuredWeight
        Either one matrix (out_channels, in_channels kh kw), columns in the order of
        ``weight.reshape(out_channels, -1)``, or kh kw matrices (out_channels,
        in_channels), one for each place of the kernel, row after row.
    bias : Tensor or None
        Shape (out_channels,); copied.
    in_channels : int
    out_channels : int, optional
        By default what the taps have.
    kernel_size, stride, padding, dilation, padding_mode
        As `torch.nn.Conv2d` takes them; `padding` may be "same" or "valid".
    groups : int
        Only 1.

    Attributes
    ----------
    taps : torch.nn.ModuleList of StructuredWeight
    bias : torch.nn.Parameter or None

    Raises
    ------
    InputError
        If there are groups, or a setting that `torch.nn.Conv2d` has not.
    ShapeError
        If the taps or the bias do not fit.

    Examples
    --------
    >>> import numpy as np, structmat, torch
    >>> A = structmat.LowRank(np.ones((6, 1)), np.ones((4 * 9, 1)))
    >>> layer = StructuredConv2d([A], in_channels=4, kernel_size=3, padding=1)
    >>> layer.float()(torch.ones(2, 4, 5, 5)).shape, layer.weight.shape
    (torch.Size([2, 6, 5, 5]), torch.Size([6, 4, 3, 3]))
    """

    def __init__(
        self,
        taps: Sequence[Weight],
        bias: Tensor | None = None,
        *,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        if groups != 1:
            raise InputError(
                f"groups = {groups}; expected 1 (keep a grouped convolution dense, or make its "
                "kernel block sparse)"
            )
        weights = [_weight(tap) for tap in taps]
        outputs = sorted({weight.shape[0] for weight in weights})
        if len(outputs) != 1 or out_channels not in (None, outputs[0]):
            raise ShapeError(
                f"taps have {outputs} outputs and out_channels = {out_channels}; expected one "
                "number (and at least one tap)"
            )
        _check_bias(bias, outputs[0])
        super().__init__(
            weights,
            bias,
            in_channels=in_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
        )
        self._kernel: tuple[list[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Images (…, in_channels, h, w), one or a batch, to (…, out_channels, h', w').

        Raises
        ------
        ShapeError
            If `x` has other channels, or is smaller than the kernel.
        """
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, height, "
                "width), or the same without a batch"
            )
        if x.ndim == 3:
            return self.forward(x[None])[0]
        dtype = autocast_dtype(x)
        if dtype is None:
            return self._convolved(x, [tap.bound(x.dtype) for tap in self._weights()])
        with torch.autocast(x.device.type, enabled=False):
            matrices = [tap.bound(dtype, cast=True) for tap in self._weights()]
            return self._convolved(x.to(dtype), matrices)

    def _convolved(self, x: Tensor, matrices: list[StructuredMatrix]) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        batch, (height, width) = x.shape[0], self._result_size(x)
        if self._dense_is_quicker(batch * height * width, matrices):
            kernel, padding = self._kernel_of(matrices).to(x.dtype), self.padding
            if isinstance(padding, str) or self.padding_mode != "zeros":
                x, padding = self._padded(x), (0, 0)
            return F.conv2d(x, kernel, bias, self.stride, padding, self.dilation)
        x = self._padded(x)
        if torch.is_grad_enabled() or any(matrix._memory is None for matrix in matrices):
            y = self._products(x, (height, width), matrices).contiguous()
            return y if bias is None else y + bias[:, None, None]
        out = x.new_empty(batch, self.out_channels, height, width)
        count = max(1, CHUNK * torch.get_num_threads() // (height * width))
        for part, target in zip(x.split(count), out.split(count), strict=True):
            y = self._products(part, (height, width), matrices)
            target.copy_(y) if bias is None else torch.add(y, bias[:, None, None], out=target)
        return out

    def _result_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the result, before anything is padded."""
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

    def _products(
        self, x: Tensor, size: tuple[int, int], matrices: list[StructuredMatrix]
    ) -> Tensor:
        """Padded images through the structures: (b, in, …) to a view (b, out, *size)."""
        batch, (height, width), (step, stride) = x.shape[0], size, self.stride
        places = [
            (i * self.dilation[0], j * self.dilation[1])
            for i in range(self.kernel_size[0])
            for j in range(self.kernel_size[1])
        ]
        # Channels first: columns of patches then are runs of pixels.
        images, count = x.transpose(0, 1), batch * height * width
        views = [
            images[:, :, i : i + (height - 1) * step + 1 : step, j::stride][..., :width]
            for i, j in places
        ]
        if len(matrices) == 1:
            patches = torch.stack(views, dim=1).reshape(matrices[0].shape[1], count)
            y = matrices[0]._multiply(patches)
        else:
            y = reduce(
                torch.add,
                (
                    matrix._multiply(view.reshape(self.in_channels, count))
                    for matrix, view in zip(matrices, views, strict=True)
                ),
            )
        return y.reshape(self.out_channels, batch, height, width).transpose(0, 1)

    def _dense_is_quicker(self, count: int, matrices: list[StructuredMatrix]) -> bool:
        weights, device = self._weights(), matrices[0].device.type
        width = self.out_channels + sum(weight.shape[1] for weight in weights)
        times = Times.of_convolution([weight.times for weight in weights], width, device)
        assembly = max(w.assembly(m) for w, m in zip(weights, matrices, strict=True))
        return dense_is_quicker(times, count, assembly=assembly, device=device)

    def _kernel_of(self, matrices: list[StructuredMatrix]) -> Tensor:
        """The dense kernel of what the taps' `bound` returned."""
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        dense = [w.dense_of(m) for w, m in zip(self._weights(), matrices, strict=True)]
        if len(dense) == 1:
            return dense[0].reshape(shape)
        if any(matrix._memory is None for matrix in matrices):
            return torch.stack(dense, dim=-1).reshape(shape)
        # Remembered matrices give one and the same tensor each time.
        known = self._kernel
        if known is None or not all(a is b for a, b in zip(known[0], dense, strict=True)):
            self._kernel = known = dense, torch.stack(dense, dim=-1).reshape(shape)
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernel": None}


def _weight(matrix: Weight) -> StructuredWeight:
    return matrix if isinstance(matrix, StructuredWeight) else StructuredWeight(matrix)


def _check_bias(bias: Tensor | None, size: int) -> None:
    if bias is not None and tuple(bias.shape) != (size,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}; expected ({size},), the outputs")
