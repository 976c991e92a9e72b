"""`GaudiConv2d`: a convolution by Gaudi-GBLR weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from structmat.errors import InputError
from structmat.nn.gaudi.linear import random_bias
from structmat.nn.gaudi.structure import Runs
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import whole
from structmat.nn.structured.convolution import TapConv2d, pair


class GaudiConv2d(TapConv2d):
    """A convolution whose kernel is made of Gaudi-GBLR matrices.

    Either the matrices multiply patches of the images, or the kernel that they assemble is
    convolved, whichever is estimated to take less work.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, bias, padding_mode
        As `torch.nn.Conv2d` takes them.
    groups : int
        Only 1.
    form : str
        "matrix": the kernel as one matrix (out, in kh kw). "taps": one matrix (out, in)
        for each tap of the kernel.
    shared_masks : bool
        Whether all taps have the same runs, with contents of their own.
    **options
        Options of `GaudiWeight`.

    Attributes
    ----------
    taps : torch.nn.ModuleList of GaudiWeight
    bias : torch.nn.Parameter or None

    Examples
    --------
    >>> import torch
    >>> layer = GaudiConv2d(8, 16, 3, padding=1, form="taps", budget=0.5)
    >>> layer(torch.ones(2, 8, 6, 6)).shape, len(layer.taps)
    (torch.Size([2, 16, 6, 6]), 9)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        form: str = "matrix",
        shared_masks: bool = False,
        **options: Any,
    ) -> None:
        if groups != 1:
            raise InputError(
                f"groups = {groups}; expected 1 (a grouped convolution is block sparse already)"
            )
        if shared_masks and form != "taps":
            raise InputError(
                f'shared_masks = True with form {form!r}; expected form="taps", whose matrices can '
                "share them"
            )
        kernel_size = pair(kernel_size)
        size = kernel_size[0] * kernel_size[1]
        if form == "matrix":
            taps = [GaudiWeight((out_channels, in_channels * size), **options)]
        elif form == "taps":
            taps = [GaudiWeight((out_channels, in_channels), **options) for _ in range(size)]
        else:
            raise InputError(f'form = {form!r}; expected "matrix" or "taps"')
        with torch.no_grad():
            for tap in taps if form == "taps" else []:
                tap.u /= size**0.5  # each sum runs over all taps
                tap.structure = taps[0].structure if shared_masks else tap.structure
        super().__init__(
            taps,
            random_bias(in_channels * size, taps[0], options.get("generator")) if bias else None,
            in_channels=in_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
        )

    @classmethod
    def from_taps(
        cls, taps: Sequence[GaudiWeight], bias: Tensor | None, **settings: Any
    ) -> "GaudiConv2d":
        """A layer around existing weights; settings are those of `TapConv2d`."""
        layer = cls.__new__(cls)
        TapConv2d.__init__(layer, taps, bias, **settings)
        return layer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        first, *others = self._weights()
        if others and all(tap.structure is first.structure for tap in others):
            _check_shared(state_dict, prefix, len(self.taps))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _convolve(self, x: Tensor) -> Tensor:
        taps, size, x = self._weights(), self._result_size(x), self._padded(x)
        if not taps[0].multiplies(x.shape[0] * size[0] * size[1]):
            weight = self.weight
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return F.conv2d(x, weight, bias, self.stride, 0, self.dilation)
        if self.by_taps:
            pairs = zip(taps, self._views(x, size), strict=True)
            y = torch.stack([tap(view.movedim(1, -1)) for tap, view in pairs]).sum(0)
        else:
            patches = F.unfold(x, self.kernel_size, self.dilation, 0, self.stride)
            y = taps[0](patches.transpose(1, 2))
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        return y.movedim(-1, 1).reshape(x.shape[0], self.out_channels, *size)


def _check_shared(state: Mapping[str, Any], prefix: str, taps: int) -> None:
    """Refuse a state dict whose taps have runs of their own, of which one would win."""
    for name in Runs._fields:
        keys = [f"{prefix}taps.{tap}.structure.{name}" for tap in range(taps)]
        values = [whole(state[key]) for key in keys if key in state]
        values = [value for value in values if not value.is_meta]
        if any(not torch.equal(value, values[0]) for value in values):
            raise InputError(
                f"{prefix[:-1] or 'the convolution'} has shared_masks = True, and the state dict "
                f"has a {name} of its own for each tap; expected one for all (convert both models "
                "with the same Config)"
            )
