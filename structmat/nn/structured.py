"""Layers whose weights are structured matrices of any kind."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat.errors import InputError, ShapeError
from structmat.matrix import StructuredMatrix
from structmat.nn._speed import CHUNK, Times, dense_is_quicker
from structmat.nn.structured_weight import StructuredWeight, autocast_dtype

__all__ = ["StructuredConv2d", "StructuredLinear", "StructuredWeight"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
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
        self.bias = _bias(bias, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, in_features) to (…, out_features)."""
        return self.matrix.affine(x, self.bias)

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


class StructuredConv2d(nn.Module):
    """A two-dimensional convolution whose kernel is made of structured matrices.

    Products run on unfolded patches, or as a dense convolution with the assembled
    kernel, whichever promises less time; results and gradients are the same.

    Parameters
    ----------
    taps : sequence of StructuredMatrix or StructuredWeight
        Either one matrix (out_channels, in_channels kh kw), columns in the order of
        ``weight.reshape(out_channels, -1)``, or kh kw matrices (out_channels,
        in_channels), one for each place of the kernel, row after row.
    bias : Tensor or None
        Shape (out_channels,); copied.
    in_channels, out_channels : int
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
    >>> layer = StructuredConv2d([A], in_channels=4, out_channels=6, kernel_size=3, padding=1)
    >>> layer.float()(torch.ones(2, 4, 5, 5)).shape, layer.weight.shape
    (torch.Size([2, 6, 5, 5]), torch.Size([6, 4, 3, 3]))
    """

    def __init__(
        self,
        taps: Sequence[Weight],
        bias: Tensor | None = None,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        if groups != 1:
            raise InputError(
                f"groups = {groups}; expected 1 (a matrix cannot have a grouped kernel; keep such "
                "a layer dense)"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _pair(kernel_size, "kernel_size", 1)
        self.stride, self.dilation = _pair(stride, "stride", 1), _pair(dilation, "dilation", 1)
        self.padding = padding if isinstance(padding, str) else _pair(padding, "padding", 0)
        self.padding_mode = padding_mode
        self._margins = _margins(self.padding, self.kernel_size, self.stride, self.dilation)
        if padding_mode not in PADDING_MODES:
            raise InputError(
                f"padding_mode = {padding_mode!r}; expected one of {', '.join(PADDING_MODES)}"
            )
        self.taps = nn.ModuleList(_weight(tap) for tap in taps)
        self._check_taps()
        self.bias = _bias(bias, out_channels)
        self._kernel: tuple[list[Tensor], Tensor] | None = None

    def _check_taps(self) -> None:
        (height, width), inputs = self.kernel_size, self.in_channels
        whole = (self.out_channels, inputs * height * width)
        shapes = [tap.shape for tap in self.taps]
        if shapes not in ([whole], [(self.out_channels, inputs)] * (height * width)):
            raise ShapeError(
                f"taps of shapes {shapes}; expected one of {whole}, or {height * width} of "
                f"{(self.out_channels, inputs)}, for a kernel of {height}x{width}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Images (…, in_channels, h, w), one or a batch, to (…, out_channels, h', w')."""
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, height, "
                f"width), or the same without a batch"
            )
        if x.ndim == 3:
            return self.forward(x[None])[0]
        dtype = autocast_dtype(x)
        if dtype is None:
            return self._convolved(x, [tap.bound(x.dtype) for tap in self.taps])
        with torch.autocast(x.device.type, enabled=False):
            return self._convolved(x.to(dtype), [t.bound(dtype, cast=True) for t in self.taps])

    def _convolved(self, x: Tensor, matrices: list[StructuredMatrix]) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        size = self._output_size(x)
        if self._dense_is_quicker(len(x) * size[0] * size[1], matrices):
            kernel, padding = self._kernel_of(matrices).to(x.dtype), self.padding
            if self.padding_mode != "zeros" or isinstance(padding, str):
                x, padding = self._padded(x), (0, 0)
            return F.conv2d(x, kernel, bias, self.stride, padding, self.dilation)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            y = self._products(self._padded(x), size, matrices).contiguous()
            return y if bias is None else y + bias[:, None, None]
        out = x.new_empty(len(x), self.out_channels, *size)
        count = max(1, CHUNK * torch.get_num_threads() // max(1, size[0] * size[1]))
        for part, target in zip(x.split(count), out.split(count), strict=True):
            y = self._products(self._padded(part), size, matrices)
            target.copy_(y) if bias is None else torch.add(y, bias[:, None, None], out=target)
        return out

    def _products(
        self, x: Tensor, size: tuple[int, int], matrices: list[StructuredMatrix]
    ) -> Tensor:
        """Padded images through the structures: (b, in, …) to a view (b, out, *size)."""
        (down, across), (height, width) = self.dilation, self.kernel_size
        rows, cols = ((self.stride[i] * (size[i] - 1) + 1, self.stride[i]) for i in (0, 1))
        images = x.transpose(0, 1)
        views = [
            images[:, :, i : i + rows[0] : rows[1], j : j + cols[0] : cols[1]]
            for i in range(0, height * down, down)
            for j in range(0, width * across, across)
        ]
        count = len(x) * size[0] * size[1]
        if len(matrices) == 1:
            patches = torch.stack(views, dim=1).reshape(matrices[0].shape[1], count)
            y = matrices[0]._multiply(patches)
        else:
            terms = (
                matrix._multiply(view.reshape(self.in_channels, count))
                for matrix, view in zip(matrices, views, strict=True)
            )
            y = sum(terms)
        return y.reshape(self.out_channels, len(x), *size).transpose(0, 1)

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self._margins):
            return x
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, self._margins, mode=mode)

    def _output_size(self, x: Tensor) -> tuple[int, int]:
        left, right, top, bottom = self._margins
        sizes = (x.shape[2] + top + bottom, x.shape[3] + left + right)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if sizes[0] < reach[0] or sizes[1] < reach[1]:
            raise ShapeError(
                f"images of {x.shape[2]}x{x.shape[3]} are padded to {sizes[0]}x{sizes[1]}; "
                f"expected at least {reach[0]}x{reach[1]}, which the kernel covers"
            )
        return tuple((s - r) // t + 1 for s, r, t in zip(sizes, reach, self.stride, strict=True))

    def _dense_is_quicker(self, count: int, matrices: list[StructuredMatrix]) -> bool:
        width = self.out_channels + sum(tap.shape[1] for tap in self.taps)
        device = matrices[0].device.type
        times = Times.of_convolution([tap.times for tap in self.taps], width, device)
        assembly = max(t.assembly(m) for t, m in zip(self.taps, matrices, strict=True))
        return dense_is_quicker(times, count, assembly=assembly, device=device)

    def _kernel_of(self, matrices: list[StructuredMatrix]) -> Tensor:
        """The dense kernel of what the taps' `bound` returned."""
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        dense = [tap.dense_of(m) for tap, m in zip(self.taps, matrices, strict=True)]
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

    @property
    def weight(self) -> Tensor:
        """The dense kernel, (out_channels, in_channels, kh, kw); only to be read."""
        return self._kernel_of([tap.bound() for tap in self.taps])

    def extra_repr(self) -> str:
        """Sizes and settings."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"bias={self.bias is not None}, padding_mode={self.padding_mode!r}"
        )


def _weight(matrix: Weight) -> StructuredWeight:
    return matrix if isinstance(matrix, StructuredWeight) else StructuredWeight(matrix)


def _bias(bias: Tensor | None, size: int) -> nn.Parameter | None:
    if bias is None:
        return None
    if tuple(bias.shape) != (size,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}; expected ({size},), the outputs")
    return nn.Parameter(bias.detach().clone())


def _pair(value: Any, name: str, least: int) -> tuple[int, int]:
    """A setting for both directions."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise InputError(
            f"{name} = {value!r}; expected an integer of at least {least}, or two of them"
        )
    return pair


def _margins(
    padding: tuple[int, int] | str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> list[int]:
    """Rows and columns added to an image: left, right, top, bottom, as `F.pad` takes them."""
    if not isinstance(padding, str):
        return [padding[1], padding[1], padding[0], padding[0]]
    if padding not in ("same", "valid") or (padding == "same" and stride != (1, 1)):
        raise InputError(
            f"padding = {padding!r} with stride {stride}; expected 'valid', 'same' with stride 1, "
            "or integers"
        )
    added = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    return [m for total in reversed(added) for m in (total // 2, total - total // 2)]
