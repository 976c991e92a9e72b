"""New weights for the layers that are converted, under one budget."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from structmat._progress import Progress, no_progress, part
from structmat.errors import BudgetError
from structmat.matrix import StructuredMatrix
from structmat.nn.anneal.weight import AnnealWeight, initial_weight
from structmat.nn.gaudi.conversion import allows
from structmat.nn.gaudi.initial_runs import COST_RULES
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.config import Config
from structmat.nn.models.layer_types import Weight
from structmat.nn.models.split_budget import CostCurve, split_budget
from structmat.nn.models.targets import Target
from structmat.nn.starts.fits import (
    TRIAL_MULTIPLES,
    converted,
    fit_grid,
    fits_of,
    nearest,
    trial_curve,
)
from structmat.nn.starts.kinds import random_init
from structmat.nn.starts.on_inputs import (
    rank_curve,
    refine,
    refined,
    relative_error,
    squared_error,
)
from structmat.nn.starts.random_init import strip_or_grid_widths, strip_sides, tile_grid
from structmat.nn.structured.weight import StructuredWeight

#: Size of the weights that learning begins with, relative to those of dense layers.
START_SIZE = 0.3


@dataclass(frozen=True)
class ConvertedWeight:
    """Weights that replace one target's weight."""

    weights: list[Weight]
    #: Their relative error if they approximate the old weight; None from scratch.
    error: float | None


@dataclass(frozen=True)
class Builder:
    """Makes the weights of a conversion."""

    config: Config
    targets: Sequence[Target]
    #: Gram matrix of each target's inputs, where there is a calibration.
    grams: Sequence[Tensor | None]
    #: One for each target, so that a trial and the final fit draw the same numbers.
    seeds: Sequence[int]
    #: Source of random contents.
    generator: torch.Generator | None

    @property
    def trials(self) -> int:
        """Number of fits of each matrix by which the budget is split."""
        by_fits = self.config.shares != "uniform" and self.config.kind != "low_rank"
        return len(TRIAL_MULTIPLES) if by_fits else 0

    def part_of(self, progress: Progress, i: int) -> Progress:
        """Progress of one target of all, by its size: searches take time in proportion."""
        ends = [0, *accumulate(target.matrix.numel() for target in self.targets)]
        return part(progress, ends[i] / max(ends[-1], 1), ends[i + 1] / max(ends[-1], 1))

    def caps(self, progress: Progress = no_progress) -> list[list[int]]:
        """Cap the cost of each matrix of each target, at least what its kind needs."""
        budget = self.config.start_budget
        if self.config.shares == "uniform":
            caps = [[math.floor(budget * math.prod(t.shape))] * t.count for t in self.targets]
        else:
            curves: list[CostCurve] = []
            for i in range(len(self.targets)):
                curves += self._curves(i, self.part_of(progress, i))
            dense = sum(t.vectors_per_example * t.matrix.numel() for t in self.targets)
            given = iter(split_budget(curves, math.floor(budget * dense)))
            caps = [[next(given) for _ in range(t.count)] for t in self.targets]
        for i, target_caps in enumerate(caps):
            self.planned(i, target_caps)
        return caps

    def _curves(self, i: int, progress: Progress) -> list[CostCurve]:
        target, budget = self.targets[i], self.config.start_budget
        pieces, grams = target.pieces(), self._grams(i)
        whole = squared_error(target.matrix, self.grams[i])
        found = []
        for k, (W, gram) in enumerate(zip(pieces, grams, strict=True)):
            # Taps add up to one output, so their errors are relative to the whole weight.
            size = (whole if target.taps > 1 else squared_error(W, gram)) or 1.0
            with _naming(target):
                if self.config.kind == "low_rank":
                    costs, errors = rank_curve(W, gram)
                else:
                    trial = partial(self._trial, i, gram)
                    piece = part(progress, k / len(pieces), (k + 1) / len(pieces))
                    costs, errors = trial_curve(W, gram, budget, trial, piece)
            name, vectors = target.names[0], target.vectors_per_example
            steps = self.config.kind == "low_rank"
            found.append(CostCurve(name, costs, errors / size, vectors, steps))
        return found

    def planned(self, i: int, caps: Sequence[int]) -> int:
        """Cost of a target for one vector before it is built: an upper bound for fitted kinds."""
        target = self.targets[i]
        if self.config.method == "anneal":
            if (sides := self.config.sides) is not None:
                with _naming(target):
                    sides.check(target.shape, min(caps))
            return target.matrix.numel()
        with _naming(target):
            costs = [self._begun(target.shape, cap) for cap in caps]
        exact = self.config.start == "scratch" or self.config.kind == "low_rank"
        return sum(costs if exact else caps)

    def _begun(self, shape: tuple[int, int], cap: int) -> int:
        """Cost of a matrix from scratch; a `BudgetError` if the cap is too low for one."""
        if self.config.method == "gaudi":
            return strip_or_grid_widths(shape, cap)
        if (sides := self.config.sides) is None:
            return random_init(self.config.kind, shape, cap).cost
        if self.config.start == "weights":
            sides.check(shape, cap)
            return cap
        return sides.random(shape, cap).cost

    def build(
        self, i: int, caps: Sequence[int], progress: Progress = no_progress
    ) -> ConvertedWeight:
        """Make the weights of a target."""
        target, config = self.targets[i], self.config
        error = None
        if config.method == "anneal":
            weights = self._annealed(target, caps)
        elif config.start == "weights":
            matrices, error = self._approximated(i, caps, progress)
            weights = [self._wrapped(matrix) for matrix in matrices]
        elif config.method == "gaudi":
            weights = self._random_gaudi(target, caps)
        else:
            variance = target.type.variance(target.modules[0])
            start = config.sides.random if config.sides else partial(random_init, config.kind)
            plans = [start(target.shape, cap) for cap in caps]
            weights = [self._wrapped(plan.draw(variance, self.generator)) for plan in plans]
        old = target.modules[0].weight
        for weight in weights:
            weight.to(device=old.device, dtype=old.dtype)
            if target.counted:
                weight.positions = target.vectors_per_example
            if not old.requires_grad:
                weight.requires_grad_(False)
        progress(1.0)
        return ConvertedWeight(weights, error)

    def _annealed(self, target: Target, caps: Sequence[int]) -> list[Weight]:
        """Dense weights that come down to their caps: the present ones, or small random ones."""
        kind, variance = self.config.kind, target.type.variance(target.modules[0])
        if self.config.start == "weights":
            dense = target.pieces()
        else:
            small = START_SIZE**2 * variance
            dense = [initial_weight(target.shape, small, self.generator) for _ in caps]
        made = partial(AnnealWeight, kind=kind, tile=self.config.tile, group=self.config.group)
        return [made(W, cap) for W, cap in zip(dense, caps, strict=True)]

    def _wrapped(self, matrix: StructuredMatrix) -> Weight:
        if self.config.method == "gaudi":
            return GaudiWeight.from_matrix(matrix, **self.config.options)
        return StructuredWeight(matrix)

    def _random_gaudi(self, target: Target, caps: Sequence[int]) -> list[Weight]:
        m, n = target.shape
        # Initial contents are those of nn.Linear with n inputs; a tap needs smaller ones.
        scale = (3 * n * target.type.variance(target.modules[0])) ** 0.25
        weights: list[Weight] = []
        for cap in caps:
            # By default the structure that `random_init` plans.
            planned = "strips" if strip_sides((m, n), cap) else "grid"
            options = {"width_init": planned, **self.config.options}
            rule = options["width_init"]
            if rule == "grid" and "rank" not in self.config.options:
                options["rank"] = tile_grid((m, n), cap)[2]
            budget = (cap + 0.5) / (m * n)  # rounded down to the cap
            weight = GaudiWeight((m, n), budget=budget, generator=self.generator, **options)
            if rule in COST_RULES and weight.cost > cap:
                raise BudgetError(
                    f"layer {target.names[0]!r}: {rule} of rank {weight.rank} and granularity "
                    f"{weight.granularity} cost {weight.cost}; expected at most {cap} (lower them "
                    "in options, or raise budget or oversize)"
                )
            with torch.no_grad():
                weight.u *= scale
                weight.v *= scale
            if self.config.shared_masks and weights:
                weight.structure = weights[0].structure
            weights.append(weight)
        return weights

    def _approximated(
        self, i: int, caps: Sequence[int], progress: Progress
    ) -> tuple[list[StructuredMatrix], float]:
        target, gram = self.targets[i], self.grams[i]
        pieces, grams = [_precise(W) for W in target.pieces()], self._grams(i)
        with _naming(target):
            fits = [
                self._fits(i, *given, part(progress, k / len(pieces), (k + 1) / len(pieces)))
                for k, given in enumerate(zip(grams, pieces, caps, strict=True))
            ]
        made = [
            nearest(self._usable(found, cap), W, part)
            for found, W, part, cap in zip(fits, pieces, grams, caps, strict=True)
        ]
        W = _precise(target.matrix)
        if gram is not None and target.taps > 1:
            made = self._together(made, fits, caps, W, gram)
        return made, relative_error(made, W, gram, target.axis)

    def _together(
        self,
        made: list[StructuredMatrix],
        fits: Sequence[Mapping[str, StructuredMatrix]],
        caps: Sequence[int],
        W: Tensor,
        gram: Tensor,
    ) -> list[StructuredMatrix]:
        """Refine all taps together, as their outputs add up; also those of each single kind."""
        best = refine(made, W, gram, dim=1)
        for name in set.intersection(*(set(found) for found in fits)) - {self.config.kind}:
            single = refine([found[name] for found in fits], W, gram, dim=1)
            usable = [self._usable({name: A}, cap) for A, cap in zip(single, caps, strict=True)]
            taps = [found[0] for found in usable if found]
            if len(taps) == len(made):
                best = min(best, taps, key=lambda found: relative_error(found, W, gram, 1))
        return best

    def _fits(
        self, i: int, gram: Tensor | None, W: Tensor, cap: int, progress: Progress
    ) -> dict[str, StructuredMatrix]:
        """Fits of one matrix by kind; learned layers may also begin as a grid of tiles."""
        kind = self.config.kind
        self._begun(self.targets[i].shape, cap)  # a zero matrix would never learn
        if (sides := self.config.sides) is not None:
            return {kind: sides.fit(W, cap, gram, progress)}
        # Gaudi layers have no orders of their own, and their budget counts all widths.
        gaudi = self.config.method == "gaudi"
        found = fits_of(
            kind, W, cap, gram, self.seeds[i], orders=not gaudi, stored=gaudi, progress=progress
        )
        if gaudi:
            found.setdefault("grid", fit_grid(W, cap))
        return found

    def _usable(self, fits: Mapping[str, StructuredMatrix], cap: int) -> list[StructuredMatrix]:
        """Fits as matrices of the wanted kind, with runs that the options allow."""
        found = converted(fits, self.config.kind, cap)
        if self.config.method != "gaudi":
            return found
        allowed = [A for A in found if allows(A, self.config.options)]
        return allowed or found[-1:]

    def _trial(
        self, i: int, gram: Tensor | None, W: Tensor, cap: int, progress: Progress
    ) -> StructuredMatrix:
        """A single fit, which tells how the error falls with the cost."""
        W, kind = _precise(W), self.config.kind
        self._begun(self.targets[i].shape, cap)
        if self.config.method == "gaudi":
            found = refined(fit_grid(W, cap), W, gram, progress)
        elif (sides := self.config.sides) is not None:
            found = sides.fit(W, cap, gram, progress)
        else:
            seed = self.seeds[i]
            found = fits_of(kind, W, cap, gram, seed, alone=True, progress=progress)[kind]
        progress(1.0)
        return found

    def _grams(self, i: int) -> list[Tensor | None]:
        """Gram matrices of the inputs of each of a target's matrices."""
        target, gram = self.targets[i], self.grams[i]
        if gram is None or target.taps == 1:
            return [gram] * target.count
        n = target.shape[1]
        return [gram[k : k + n, k : k + n] for k in range(0, len(gram), n)]


def _precise(W: Tensor) -> Tensor:
    return W if W.dtype == torch.float64 else W.float()


@contextmanager
def _naming(target: Target) -> Iterator[None]:
    """Name the layer in the error about a budget that is too small."""
    try:
        yield
    except BudgetError as reason:
        raise BudgetError(f"layer {target.names[0]!r}: {reason}") from None
