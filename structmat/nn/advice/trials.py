"""Quick fits of a weight to every kind, to compare kinds and budgets before a conversion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from structmat.compress.contained import Fits
from structmat.compress.goal import Goal
from structmat.compress.source import source_of
from structmat.errors import BudgetError
from structmat.matrix import StructuredMatrix
from structmat.nn.starts.kinds import random_init
from structmat.nn.starts.on_inputs import fit_low_rank, refine, relative_error
from structmat.nn.starts.projections import projected_fit, weighed_fit

#: Kinds that are compared.
KINDS = ("gblr", "block_sparse", "block_low_rank", "low_rank", "monarch")
#: Entries of a weight up to which rank-one blocks are tried beside runs.
BLOCK_ENTRIES = 2**16
#: Quasi-Newton steps that fit contents to the inputs, and the multiplications of one product of
#: an error with a Gram matrix up to which they are taken.
STEPS, MOST_WORK = 12, 2**30
#: Random weights with which a weight is compared.
DRAWS = 3


@dataclass(frozen=True)
class Fit:
    """Matrix near a weight, and its relative error on the inputs."""

    matrix: StructuredMatrix
    error: float


def quick_fits(W: Tensor, cap: int, gram: Tensor, kinds: Sequence[str] = KINDS) -> dict[str, Fit]:
    """Fit W (m, n) to each kind at a cost of at most `cap`, on the inputs behind `gram`.

    A kind without so cheap a matrix that reaches every row and column is left out; "gblr" is
    there always, as layers that learn begin dense. The searches are shorter than those of
    `structmat.nn.convert_`, which also tries blocks and orders in large weights and kinds
    within others, and takes more steps.

    Examples
    --------
    >>> W = torch.zeros(16, 16)
    >>> W[2:6, 3:9] = 1.0
    >>> found = quick_fits(W, 64, torch.eye(16))
    >>> list(found), round(found["gblr"].error, 6)
    (['gblr', 'block_sparse', 'block_low_rank', 'low_rank', 'monarch'], 0.0)
    """
    found = {}
    for kind in kinds:
        if kind != "gblr" and not reaches_all(kind, W, cap):
            continue
        try:
            matrices = _fits(kind, W, cap, gram)
        except BudgetError:
            continue
        if W.shape[0] * W.shape[1] ** 2 <= MOST_WORK:
            matrices = [refine([matrix], W, gram, steps=STEPS)[0] for matrix in matrices]
        made = [Fit(m, relative_error([m], W, gram)) for m in matrices if m.cost <= cap]
        if made:
            found[kind] = min(made, key=lambda fit: fit.error)
    return found


def reaches_all(kind: str, W: Tensor, cap: int) -> bool:
    """Tell whether a kind has a matrix of the size of W that reaches every row and column.

    Examples
    --------
    >>> [reaches_all("low_rank", torch.zeros(16, 16), cap) for cap in (31, 32)]
    [False, True]
    """
    try:
        random_init(kind, (W.shape[0], W.shape[1]), cap)
    except BudgetError:
        return False
    return True


def chance_error(W: Tensor, cap: int, gram: Tensor, kind: str) -> float:
    """Least error of a few random weights of the size of W, fitted to a kind in the same way.

    Their entries are uniform, as those of fresh layers.

    Examples
    --------
    >>> round(chance_error(torch.zeros(16, 16), 256, torch.eye(16), "block_sparse"), 6)
    0.0
    """
    generator, errors = torch.Generator().manual_seed(0), []
    for _ in range(DRAWS):
        random = torch.rand(W.shape, generator=generator, dtype=W.dtype).mul_(2).sub_(1)
        errors.append(quick_fits(random.to(W.device), cap, gram, [kind])[kind].error)
    return min(errors)


def _fits(kind: str, W: Tensor, cap: int, gram: Tensor) -> list[StructuredMatrix]:
    if kind == "low_rank":
        return [fit_low_rank(W, gram, cap // sum(W.shape))]
    source = source_of(W)
    if kind == "gblr":
        names = ("runs", "blocks") if W.numel() <= BLOCK_ENTRIES else ("runs",)
        made = [
            projected_fit(name, source.data, cap, gram, orders=name == "runs") for name in names
        ]
    else:
        goal, rng = Goal(max_cost=cap), np.random.default_rng(0)
        made = [
            weighed_fit(lambda A: Fits(source_of(A), 1.0).own(kind, goal, rng), source.data, gram)
        ]
    return [source.restore(matrix) for matrix in made]
