"""Runs of a Gaudi layer before training: widths and locations as fractions of their axis.

The rules by name are those of the Gaudi-GBLR experiments (Lee & Kim, arXiv 2310.18882).
Two more rules begin at a given cost: a grid of tiles that covers the matrix, and strips,
one of the inputs for each output.
"""

import math
import re

import torch
from torch import Tensor

from structmat.errors import InputError
from structmat.nn.gaudi.structure import Runs

_RULE = re.compile(r"(splr|lr)(\d+\.?\d*|\.\d+|)")
WIDTH_RULES = (
    '"strips", "grid", "splr", "splr0.3", "lr", "lr0.25", "uniform", "beta", "zero", or a fraction'
)
LOCATION_RULES = '"uniform", "linspace", or a fraction'

#: Rules that begin at a given cost.
COST_RULES = ("strips", "grid")

#: Strips side by side that begin with one window, at most.
_NEIGHBOUR_STRIPS = 8
#: Least length of strips in grains; shorter ones are laid along the outputs instead.
_STRIP_GRAINS = 4
#: Coefficients (blocks times rank) of a grid, at most, per sample of the smaller side.
_GRID_COEFFICIENTS = 4


def grid_rank(shape: tuple[int, int], cost: float, *, granularity: int = 1) -> int:
    """Least rank of a grid's tiles under which its coefficients stay few.

    Tiles of rank r at a cost C number C² / (4 r² m n). The finer the tiles, the more
    coefficients they have between the two factors, each of which a product has to
    write and read for every vector: at most four per sample of the smaller side.

    Examples
    --------
    >>> grid_rank((256, 256), 0.2 * 256**2), grid_rank((3072, 768), 0.2 * 3072 * 768)
    (1, 8)
    """
    coefficients = cost**2 / (4 * shape[0] * shape[1])
    wanted = math.ceil(coefficients / (_GRID_COEFFICIENTS * min(shape)))
    # With tiles of one grain, a lower rank could not reach the cost.
    m, n = shape
    finest = max(m // granularity, 1) * n + max(n // granularity, 1) * m
    affordable = math.floor(cost / sum(shape))  # by a single tile
    return max(1, min(max(wanted, math.ceil(cost / finest)), affordable))


def grid_runs(shape: tuple[int, int], cost: float, *, rank: int = 1, granularity: int = 1) -> Runs:
    """A grid of near-square tiles that covers the matrix at about this cost.

    A g by h grid of tiles of rank r costs r (h m + g n) multiplications, half of it on
    either side here. One tile is the least.

    Examples
    --------
    >>> runs = grid_runs((8, 16), cost=96)
    >>> len(runs.row_width), runs.row_width[0].item(), runs.col_width[0].item()
    (18, 0.25, 0.125)
    """
    m, n = shape
    down = _parts(cost / (2 * rank * n), m, granularity)
    # The rest of the cost after rounding goes to the other side, and a last rest back.
    across = _parts((cost / rank - down * n) / m, n, granularity)
    down = _parts((cost / rank - across * m) / n, m, granularity)
    row_location, row_width = _cuts(m, down, granularity)
    col_location, col_width = _cuts(n, across, granularity)
    return Runs(
        row_width.repeat_interleave(across),
        row_location.repeat_interleave(across),
        col_width.repeat(down),
        col_location.repeat(down),
    )


def _parts(wanted: float, n: int, granularity: int) -> int:
    """A whole number of parts of at least one grain each."""
    return max(1, min(math.floor(wanted), n // granularity))


def strip_runs(
    shape: tuple[int, int], cost: float, *, granularity: int = 1, held: bool = False
) -> Runs:
    """Strips at about this cost: each output sees a run of the inputs.

    A strip of length L costs L + 1 multiplications for L entries of the matrix, or L if the
    single entry of its narrow side is `held` at 1. So nearly every multiplication has an entry
    of its own. Up to eight neighbours begin with one
    window, fewer if windows would then leave inputs out. If the strips of all outputs would
    be shorter than four grains, each input reaches a run of the outputs instead. If the
    cost is too low for strips on all samples, evenly spread ones remain; one is the least.

    Examples
    --------
    >>> runs = strip_runs((4, 8), cost=16)
    >>> (runs.row_width * 4).tolist(), (runs.col_width * 8).tolist()
    ([1.0, 1.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0])
    >>> (runs.row_location * 4).tolist(), (runs.col_location * 8).tolist()
    ([0.0, 1.0, 2.0, 3.0], [0.0, 4.0, 2.0, 6.0])
    """
    m, n = shape
    inwards = m <= n or cost >= m * (1 + _STRIP_GRAINS)
    ones, long = shape if inwards else (n, m)
    g = min(granularity, ones)
    slots = math.ceil(ones / g)  # the last one goes around the end of an axis that is no multiple
    narrow_cost = 0 if held else g
    count = max(1, min(slots, math.floor(cost / (narrow_cost + granularity))))
    place = torch.arange(count)
    # Whole grains for all strips together, dealt out so that lengths differ by one at most.
    grains = max(count, math.floor((cost - count * narrow_cost) / granularity))
    length = grains // count + (_turns(count).argsort().argsort() < grains % count).long()
    size = (length * granularity).clamp(max=long)
    units = math.ceil(long / granularity)
    group = max(1, min(_NEIGHBOUR_STRIPS, int(size.min()) * count // long))
    windows = math.ceil(count / group)
    # Evenly apart, but each far from the next: in the order of multiples of the golden ratio.
    order = _turns(windows).argsort().argsort()
    start = order[place // group] * units // windows * granularity
    narrow = torch.full((count,), g / ones), (place * slots // count * g).double() / ones
    wide = size.double() / long, start.double() / long
    rows, cols = (narrow, wide) if inwards else (wide, narrow)
    return Runs(*(part.float() for part in (*rows, *cols)))


def _turns(count: int) -> Tensor:
    """Multiples of the golden ratio on a circle of length one."""
    return torch.arange(count, dtype=torch.float64) * 0.6180339887498949 % 1.0


def _cuts(n: int, parts: int, granularity: int) -> tuple[Tensor, Tensor]:
    """Starts and widths of an even division of n samples, at multiples of the granularity."""
    units = math.ceil(n / granularity)
    # The last tile goes around the end of an axis that is no multiple.
    cuts = [i * units // parts * granularity for i in range(parts + 1)]
    bounds = torch.tensor(cuts, dtype=torch.float64) / n
    return bounds[:-1].float(), (bounds[1:] - bounds[:-1]).clamp(max=1).float()


def rule_runs(
    shape: tuple[int, int],
    count: int,
    width: str | float,
    location: str | float,
    generator: torch.Generator | None,
    *,
    granularity: int = 1,
) -> Runs:
    """Runs of `count` blocks by the rules of the published experiments.

    "splr" makes the first r / 2 of the blocks full and the others 0.5 r / (1 - 0.5 r) wide;
    "lr" makes the first r full and gives the others one grain on one side, in turns;
    both take r from the name ("splr0.3"), 0.5 by default.
    """
    grains = [min(granularity, n) / n for n in shape]
    widths = [_widths(width, g, count, side, generator) for side, g in enumerate(grains)]
    places = [_locations(location, count, generator) for _ in shape]
    return Runs(widths[0], places[0], widths[1], places[1])


def _widths(
    rule: str | float, grain: float, count: int, side: int, generator: torch.Generator | None
) -> Tensor:
    if not isinstance(rule, str):
        return torch.full((count,), _fraction(rule, "width_init", WIDTH_RULES))
    # One grain on alternating sides, as a block without any width could never learn.
    seeds = (torch.arange(count) % 2 == side).float() * grain
    if rule == "uniform":
        return torch.rand(count, generator=generator)
    if rule == "beta":
        # Beta(1, 3): most blocks narrow, a few wide; its quantile function is this.
        return 1 - (1 - torch.rand(count, generator=generator)) ** (1 / 3)
    if rule == "zero":
        return seeds
    match = _RULE.fullmatch(rule)
    if match is None:
        raise InputError(f"width_init = {rule!r}; expected {WIDTH_RULES}")
    share = _fraction(float(match[2] or 0.5), "width_init", WIDTH_RULES)
    is_lr = match[1] == "lr"
    full = round(share * count) if is_lr else round(share / 2 * count)
    rest = seeds if is_lr else torch.full((count,), 0.5 * share / (1 - 0.5 * share))
    return torch.where(torch.arange(count) < full, torch.ones(count), rest)


def _locations(rule: str | float, count: int, generator: torch.Generator | None) -> Tensor:
    if rule == "uniform":
        return torch.rand(count, generator=generator)
    if rule == "linspace":
        return torch.arange(count) / count
    if isinstance(rule, str):
        raise InputError(f"location_init = {rule!r}; expected {LOCATION_RULES}")
    return torch.full((count,), _fraction(rule, "location_init", LOCATION_RULES))


def _fraction(value: float, name: str, known: str) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} = {value!r}; expected {known}, a fraction in [0, 1]")
    return float(value)
