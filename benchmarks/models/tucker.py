"""Convolutions as three thinner ones: Tucker's decomposition of the kernel in its channels.

Kim, Park, Yoo, Choi, Yang & Shin, "Compression of deep convolutional neural networks for fast and
low power mobile applications", ICLR 2016 (arXiv 1511.06530), section 3. The decomposition itself
is TensorLy's `partial_tucker`.
"""

from collections.abc import Mapping

import torch
from torch import nn

from benchmarks.results import BenchmarkError

#: Ranks of the input and of the output channels of a convolution.
Ranks = tuple[int, int]


def tucker(conv: nn.Conv2d, ranks: Ranks) -> nn.Sequential:
    """The convolution between 1 x 1 ones, with the ranks of its input and output channels.

    Raises
    ------
    BenchmarkError
        If TensorLy is not installed, or the convolution has groups.
    """
    if conv.groups != 1:
        raise BenchmarkError(f"a convolution of {conv.groups} groups; expected one of 1 group")
    try:
        from tensorly.decomposition import partial_tucker
    except ImportError:
        raise BenchmarkError(
            "tensorly is not installed; install it with pip install tensorly"
        ) from None
    first, last = ranks
    weight = conv.weight.detach().double().numpy()
    (core, (outer, inner)), _ = partial_tucker(weight, rank=[last, first], modes=[0, 1])
    shape = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    found = nn.Sequential(
        nn.Conv2d(conv.in_channels, first, 1, bias=False),
        nn.Conv2d(first, last, conv.kernel_size, bias=False, **shape),
        nn.Conv2d(last, conv.out_channels, 1, bias=conv.bias is not None),
    )
    with torch.no_grad():
        for layer, contents in zip(found, (inner.T, core, outer), strict=True):
            layer.weight.copy_(torch.tensor(contents.copy()).reshape(layer.weight.shape))
        if conv.bias is not None:
            found[2].bias.copy_(conv.bias)
    return found


def multiplications(conv: nn.Conv2d, ranks: Ranks, pixels: tuple[int, int]) -> int:
    """Multiplications of `tucker` for one example, by the pixels of its input and output."""
    first, last = ranks
    area = conv.kernel_size[0] * conv.kernel_size[1]
    return (
        pixels[0] * conv.in_channels * first
        + pixels[1] * (first * last * area + last * conv.out_channels)
    )  # fmt: skip


def ranks_under(
    convs: Mapping[str, nn.Conv2d], pixels: Mapping[str, tuple[int, int]], cap: float
) -> dict[str, Ranks]:
    """Ranks in proportion to the channels, the largest whose multiplications keep to the cap.

    What is left goes to single ranks, one after another.

    Raises
    ------
    BenchmarkError
        If ranks of one cost more than the cap.
    """

    def at(share: float) -> dict[str, Ranks]:
        return {
            name: (max(1, int(share * c.in_channels)), max(1, int(share * c.out_channels)))
            for name, c in convs.items()
        }

    def total(ranks: Mapping[str, Ranks]) -> int:
        return sum(multiplications(convs[n], r, pixels[n]) for n, r in ranks.items())

    low, high = 0.0, 1.0
    if total(at(low)) > cap:
        raise BenchmarkError(f"ranks of one cost {total(at(low))} multiplications, above {cap:g}")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if total(at(middle)) <= cap else (low, middle)
    ranks = at(low)
    while larger := [r for r in _larger(ranks, convs) if total(r) <= cap]:
        ranks = min(larger, key=total)
    return ranks


def _larger(ranks: Mapping[str, Ranks], convs: Mapping[str, nn.Conv2d]) -> list[dict[str, Ranks]]:
    """All ranks with one more somewhere."""
    found = []
    for name, (first, last) in ranks.items():
        if first < convs[name].in_channels:
            found.append({**ranks, name: (first + 1, last)})
        if last < convs[name].out_channels:
            found.append({**ranks, name: (first, last + 1)})
    return found
