"""Kinds that a network can have: the part of a kind's record that needs torch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from structmat.kinds import all_kinds
from structmat.matrix import StructuredMatrix
from structmat.nn.starts.pixelfly import fit_pixelfly, random_pixelfly
from structmat.nn.starts.random_hierarchical import random_hierarchical
from structmat.nn.starts.random_init import (
    RandomInit,
    random_block_low_rank,
    random_block_sparse,
    random_compressed,
    random_gblr,
    random_low_rank,
    random_monarch,
)


@dataclass(frozen=True)
class NetworkKind:
    """Random start of a kind, and its fit of tensors where `compress` has none."""

    #: ``random_init(shape, cap)`` returns a `RandomInit` that costs at most `cap`.
    random_init: Callable[[tuple[int, int], int], RandomInit]
    #: ``fit(W, cap)`` returns a matrix near the tensor W that costs at most `cap`.
    fit: Callable[[Tensor, int], StructuredMatrix] | None = None


NETWORK_KINDS = {
    "low_rank": NetworkKind(random_low_rank),
    "block_sparse": NetworkKind(random_block_sparse),
    "block_low_rank": NetworkKind(random_block_low_rank),
    "monarch": NetworkKind(random_monarch),
    "pixelfly": NetworkKind(random_pixelfly, fit_pixelfly),
    "gblr": NetworkKind(random_gblr),
    "hierarchical": NetworkKind(random_hierarchical),
}


def network_kinds() -> tuple[str, ...]:
    """Names of the kinds in `NETWORK_KINDS` and of those that `compress` fits."""
    return tuple(k.name for k in all_kinds() if k.name in NETWORK_KINDS or k.fit is not None)


def random_init(kind: str, shape: tuple[int, int], cap: int) -> RandomInit:
    """Random matrix of a kind that reaches every row and column and costs at most `cap`.

    A kind outside `NETWORK_KINDS` is a random dense matrix, compressed. A cap below the
    cheapest matrix is a `BudgetError`.
    """
    if kind in NETWORK_KINDS:
        return NETWORK_KINDS[kind].random_init(shape, cap)
    return random_compressed(kind, shape, cap)
