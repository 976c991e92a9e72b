"""A look at some rectangles of a source: what all of them will cost, before they are fitted."""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress.hierarchical.clusters import Pairs
from structmat.compress.hierarchical.evaluate import Evaluator
from structmat.intervals import IntArray

#: Rectangles of a look at all of them, and at those of one size.
SAMPLE, SAMPLE_OF_SIZE = 48, 4
#: Rank above which large rectangles take too long: their time grows with its square.
MOST_RANK = 64
#: Logarithm, to base 2, of the sides of the largest ones that are fitted.
LARGEST = 11


class Sample(NamedTuple):
    """Singular values of some far rectangles, for all of them.

    Each value stands for `weight` of its kind, and costs `sides` in one rectangle.
    """

    values: NDArray[np.float64]
    sides: IntArray
    weight: NDArray[np.float64]
    #: Seconds that one thread takes for all far rectangles.
    seconds: float

    @property
    def cost(self) -> float:
        """Multiplications of all far rectangles with one vector."""
        return float(self.weight @ self.sides)


def sampled(
    evaluator: Evaluator, pairs: Pairs, each: float, seed: int, whole: Evaluator | None = None
) -> Sample:
    """Fit some far rectangles, chosen by their sides, to a squared error of `each` a line.

    Where low rank fails, `whole` gives all singular values.
    """
    rng, sides = np.random.default_rng(seed), pairs.sides
    if len(sides) <= SAMPLE:
        chosen, share = np.arange(len(sides)), np.ones(len(sides))
    else:
        share = np.minimum(1.0, SAMPLE * sides / sides.sum())
        chosen = np.flatnonzero(rng.random(len(sides)) < share)
    return _fitted(evaluator, pairs, chosen, 1.0 / share[chosen], each, seed, whole)


def costs_less(evaluator: Evaluator, pairs: Pairs, each: float, seed: int, most: float) -> bool:
    """Tell whether rectangles promise to cost less than `most`, by some of each size.

    The largest ones are not fitted: their ranks grow on as those of smaller ones have grown.
    """
    total, sides, ranks = float(pairs.near_cost), pairs.sides, [0.0]
    sizes = np.round(np.log2(np.maximum(sides, 1))).astype(np.int64)
    for size in np.unique(sizes):
        some = np.flatnonzero(sizes == size)
        whole = float(pairs.weight * sides[some].sum())
        if size <= LARGEST:
            chosen = some[:: max(1, len(some) // SAMPLE_OF_SIZE)][:SAMPLE_OF_SIZE]
            weight = np.full(chosen.size, sides[some].sum() / sides[chosen].sum())
            cost = _fitted(evaluator, pairs, chosen, weight, each, seed, None).cost
            ranks.append(cost / whole)
        else:
            ranks.append(_grown(ranks))
            if ranks[-1] > MOST_RANK:
                return False
        total += ranks[-1] * whole
        left = float(pairs.weight * sides[sizes > size].sum())
        if total + ranks[-1] * left >= most:
            return False
    return True


def _grown(ranks: list[float]) -> float:
    """Rank of rectangles twice as large as the last ones, which grows as it has grown.

    Halves of a square are no squares: sizes that are alike are two halvings apart.
    """
    if len(ranks) < 4 or not ranks[-4]:
        return ranks[-1] * max(1.0, ranks[-1] / max(ranks[-2], 1.0))
    return max(ranks[-1], ranks[-2] * max(1.0, ranks[-2] / ranks[-4]))


def _fitted(
    evaluator: Evaluator, pairs: Pairs, chosen: IntArray, weight: NDArray[np.float64],
    each: float, seed: int, whole: Evaluator | None,
) -> Sample:  # fmt: skip
    far, sides = pairs.far[chosen], pairs.sides[chosen]
    started, bounds = time.thread_time(), each * sides.astype(np.float64)
    found = evaluator.factor(far, bounds, seed)
    failed = found.ranks < 0
    rank = np.maximum(found.ranks, 0)
    values, which = [found.values], [np.repeat(np.arange(len(far)), rank)]
    if whole is not None and failed.any():
        more = whole.factor(far[failed], bounds[failed], seed)
        values.append(more.values)
        which.append(np.repeat(np.flatnonzero(failed), np.maximum(more.ranks, 0)))
    elif failed.any():
        # Entries are stored: as many ranks as cost the same.
        p, q = far[:, 1] - far[:, 0], far[:, 3] - far[:, 2]
        dense = np.where(failed, p * q // np.maximum(sides, 1), 0)
        values.append(np.full(int(dense.sum()), np.inf))
        which.append(np.repeat(np.arange(len(far)), dense))
    at = np.concatenate(which)
    seconds = (time.thread_time() - started) * float(weight.sum()) / max(len(far), 1)
    return Sample(np.concatenate(values), sides[at], pairs.weight * weight[at], seconds)


def price_within(sample: Sample, most: float) -> float:
    """Energy for each multiplication below which values are dropped to cost at most `most`."""
    price = sample.values**2 / np.maximum(sample.sides, 1)
    order = np.argsort(-price, kind="stable")
    kept = np.searchsorted(np.cumsum((sample.weight * sample.sides)[order]), most, side="right")
    return float(price[order][kept]) if kept < order.size else 0.0
