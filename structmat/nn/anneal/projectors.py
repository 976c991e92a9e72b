"""Projections of a dense array onto the structures that layers learn, by kind."""

import math
from collections.abc import Callable

import numpy as np
import torch

from structmat._array import Array, to_numpy
from structmat.matrices import LowRank
from structmat.nn.anneal.gblr import project_gblr
from structmat.nn.anneal.projected import Options as Options
from structmat.nn.anneal.projected import Projected, balanced
from structmat.nn.structured import devices
from structmat.project.ranks import project_rank, project_tile_ranks
from structmat.project.small_tiles import are_small, small_tile_ranks
from structmat.project.svd import leading_factors
from structmat.project.tiles import lengths, project_tiles

#: Rows and columns of a tile of low rank, about.
TILE = 16


def searched(W: torch.Tensor) -> Array:
    """A weight as `project` takes it: on its device, or for the CPU in NumPy.

    Apple's devices have no double precision, in which energies are added up.
    """
    stays = devices.is_apart(W.device) and W.device.type != "mps"
    return W if stays else W.cpu().numpy()


def project(
    kind: str, W: Array, cap: int, budget: int, last: Projected, options: Options
) -> Projected:
    """Nearest structure of a kind that costs at most `cap`, on the way to `budget`.

    Parameters
    ----------
    kind : str
    W : array (m, n)
        Of any library. Runs, tiles and ranks, small tiles' too, are found where it is; blocks on
        the host.
    cap, budget : int
        Multiplications now, and at the end.
    last : Projected
        The present structure, from which searches start.
    options : Options
    """
    W = np.ascontiguousarray(W) if isinstance(W, np.ndarray) else W
    return _PROJECTORS[kind](W, cap, budget, last, options)


def _block_sparse(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
    side = options.tile or last.side or tile_side(W.shape, budget)
    kept = np.array(to_numpy(project_tiles(W * W, cap, side)))
    return Projected(cost=int(kept.sum()), support=kept, side=side)


def tile_side(shape: tuple[int, int], budget: int) -> int:
    """Side of learned tiles: the largest power of two that leaves two tiles a row and a column.

    Examples
    --------
    >>> tile_side((256, 256), 3276), tile_side((1024, 1024), 52428)
    (4, 16)
    """
    side = 16
    while side > 1 and budget < 2 * side * max(shape):
        side //= 2
    return side


def _block_low_rank(
    W: Array, cap: int, budget: int, last: Projected, options: Options
) -> Projected:
    heights, widths = (
        _even(n, TILE) if options.tile is None else lengths(n, options.tile).tolist()
        for n in W.shape
    )
    sizes = np.array(heights), np.array(widths)
    if isinstance(W, np.ndarray) or not (math.prod(W.shape) and are_small(*sizes)):
        matrix = project_tile_ranks(to_numpy(W), cap, heights, widths)
    else:
        matrix = small_tile_ranks(W, cap, *sizes)
    live = np.zeros((len(heights), len(widths)), bool)
    live[matrix.places[:, 0], matrix.places[:, 1]] = matrix.ranks != 0
    support = np.repeat(np.repeat(live, heights, axis=0), widths, axis=1)
    return Projected(cost=matrix.cost, support=support, matrix=balanced(matrix))


def _even(n: int, size: int) -> list[int]:
    """Sizes of about `size` that add up to n."""
    parts = max(1, round(n / size))
    return np.diff([i * n // parts for i in range(parts + 1)]).tolist()


def _low_rank(W: Array, cap: int, budget: int, last: Projected, options: Options) -> Projected:
    """The final rank at once: a weight has no places to learn, and factors train best early."""
    if isinstance(W, np.ndarray):
        matrix = project_rank(W, budget)
    else:
        matrix = LowRank(*leading_factors(W, budget // max(sum(W.shape), 1)))
    return Projected(
        cost=matrix.cost, support=np.ones(W.shape, bool), matrix=balanced(matrix), is_final=True
    )


_PROJECTORS: dict[str, Callable[[Array, int, int, Projected, Options], Projected]] = {
    "gblr": project_gblr,
    "block_sparse": _block_sparse,
    "block_low_rank": _block_low_rank,
    "low_rank": _low_rank,
}
