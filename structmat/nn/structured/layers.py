"""`StructuredLinear` and `StructuredConv2d`: layers by matrices of any kind."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat import binding
from structmat._derivatives import is_captured
from structmat.errors import InputError, ShapeError
from structmat.kernels.cost_model.layers import Times, chunk_at
from structmat.matrix import StructuredMatrix
from structmat.nn.structured.convolution import TapConv2d
from structmat.nn.structured.parameters import bias_parameter
from structmat.nn.structured.products import autocast_dtype, check_values, takes_dense
from structmat.nn.structured.shown import Shown
from structmat.nn.structured.weight import StructuredWeight

Weight = StructuredMatrix | StructuredWeight


class StructuredLinear(Shown, nn.Module):
    """A linear layer y = x A^T + b whose weight A is a structured matrix.

    Parameters
    ----------
    matrix : StructuredMatrix or StructuredWeight
        Shape (out_features, in_features). A matrix is copied; a weight is used itself, so
        that layers can share it.
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
        self.bias = bias_parameter(bias, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        # As `self.matrix(x, self.bias)`: attributes of modules take a microsecond each.
        bias = self._parameters.get("bias")
        return self._modules["matrix"](x, self.bias if bias is None else bias)

    @property
    def weight(self) -> Tensor:
        """The dense weight, (out_features, in_features); only to be read."""
        return self.matrix.dense()

    def to_matrix(self) -> StructuredMatrix:
        """The structured matrix of the weight, with a copy of the contents."""
        return self.matrix.to_matrix()

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class StructuredConv2d(TapConv2d):
    """A two-dimensional convolution whose kernel is made of structured matrices.

    Either the matrices multiply patches of the images, or the kernel that they assemble is
    convolved, whichever is estimated to take less time; results and gradients are the same.

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
        By default that of the taps.
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
        If there are groups, or a setting that `torch.nn.Conv2d` lacks.
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

    def _convolve(self, x: Tensor) -> Tensor:
        dtype, taps = autocast_dtype(x), self._weights()
        if dtype is None:
            return self._product(x, [tap.bound(x.dtype) for tap in taps])
        with torch.autocast(x.device.type, enabled=False):
            return self._product(x.to(dtype), [tap.bound(dtype, cast=True) for tap in taps])

    def _product(self, x: Tensor, matrices: list[StructuredMatrix]) -> Tensor:
        check_values(matrices[0], x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        batch, size = x.shape[0], self._result_size(x)
        pixels = size[0] * size[1]
        if self._dense_is_quicker(batch * pixels, matrices):
            kernel, padding = self._dense_kernel(matrices).to(x.dtype), self.padding
            if isinstance(padding, str) or self.padding_mode != "zeros":
                x, padding = self._padded(x), (0, 0)
            return F.conv2d(x, kernel, bias, self.stride, padding, self.dilation)
        x = self._padded(x)
        if torch.is_grad_enabled() or not all(map(binding.remembers, matrices)):
            y = self._by_structure(x, size, matrices).contiguous()
            return y if bias is None else y + bias[:, None, None]
        out = x.new_empty(batch, self.out_channels, *size)
        count = max(1, chunk_at(x.device.type) * torch.get_num_threads() // pixels)
        for part, target in zip(x.split(count), out.split(count), strict=True):
            y = self._by_structure(part, size, matrices)
            target.copy_(y) if bias is None else torch.add(y, bias[:, None, None], out=target)
        return out

    def _by_structure(
        self, x: Tensor, size: tuple[int, int], matrices: list[StructuredMatrix]
    ) -> Tensor:
        """Padded images through the structures: (b, in, …) to a view (b, out, *size)."""
        batch, count = x.shape[0], x.shape[0] * size[0] * size[1]
        # Channels first: columns of patches then are runs of pixels.
        views = self._views(x.transpose(0, 1), size)
        if self.by_taps:
            columns = (view.reshape(self.in_channels, count) for view in views)
            y = reduce(torch.add, map(binding.multiply, matrices, columns))
        else:
            patches = torch.stack(views, dim=1).reshape(matrices[0].shape[1], count)
            y = binding.multiply(matrices[0], patches)
        return y.reshape(self.out_channels, batch, *size).transpose(0, 1)

    @property
    def times(self) -> Times:
        """Estimated times of the convolution, for a vector at each place of the result."""
        weights = self._weights()
        width = self.out_channels + sum(weight.shape[1] for weight in weights)
        return Times.of_convolution([weight.times for weight in weights], width)

    def _dense_is_quicker(self, count: int, matrices: list[StructuredMatrix]) -> bool:
        pairs = zip(self._weights(), matrices, strict=True)
        assembly = max(weight.assembly(matrix) for weight, matrix in pairs)
        return takes_dense(matrices, self.times, count, assembly)

    def _dense_kernel(self, matrices: list[StructuredMatrix]) -> Tensor:
        """The dense kernel of the matrices that the taps' `bound` returned."""
        dense = [w.dense_of(m) for w, m in zip(self._weights(), matrices, strict=True)]
        if is_captured() or not (self.by_taps and all(map(binding.remembers, matrices))):
            return self._kernel_of(dense)
        # Remembered matrices give one and the same tensor each time.
        known = self._kernel
        if known is None or not all(a is b for a, b in zip(known[0], dense, strict=True)):
            self._kernel = known = dense, self._kernel_of(dense)
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernel": None}


def _weight(matrix: Weight) -> StructuredWeight:
    return matrix if isinstance(matrix, StructuredWeight) else StructuredWeight(matrix)
