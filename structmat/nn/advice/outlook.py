"""Rows of advice: quick fits of the present weights, with their errors, losses and times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from structmat._progress import Progress
from structmat.kernels.cost_model.layers import Times
from structmat.matrix import StructuredMatrix
from structmat.nn.advice.advice import LayerAdvice
from structmat.nn.advice.observe import Loss, Seen, mean_loss, replaced
from structmat.nn.advice.trials import Fit, chance_error, quick_fits, reaches_all
from structmat.nn.models.targets import Target
from structmat.nn.structured.weight import StructuredWeight

#: Budgets from which learning did not gain over a fixed structure, in all cases that were measured.
FIXED_FROM = 0.1
#: A weight holds something if its best fit, at any of the budgets, has less than this share of the
#: error of a random weight.
CHANCE = 0.9


@dataclass(frozen=True)
class Outlook:
    """Weights of a model, with what the batches showed of them."""

    model: nn.Module
    targets: Sequence[Target]
    seen: Sequence[Seen]
    #: Part of the model's multiplications that each weight has.
    shares: Sequence[float]
    batches: Sequence[Any]
    loss: Loss | None
    #: Mean loss of the model as it is; None without a loss.
    present: float | None
    budgets: Sequence[float]

    def rows(self, progress: Progress) -> tuple[list[LayerAdvice], dict[tuple[str, float], float]]:
        """One row for each weight and budget, and losses by kind and budget of all weights."""
        rows, every = [], []
        for i, target in enumerate(self.targets):
            W, gram = target.matrix, self.seen[i].gram
            W = W if W.dtype == torch.float64 else W.float()
            caps = [math.floor(budget * W.numel()) for budget in self.budgets]
            own, ratios = [], []
            for j, cap in enumerate(caps):
                own.append(quick_fits(W, cap, gram))
                ratios.append(_over_chance(W, cap, gram, own[-1]))
                progress((i + (j + 1) / len(caps)) / len(self.targets))
            start = "weights" if min(ratios) < CHANCE else "scratch"
            rows += [
                self._row(i, budget, fits, over_chance=ratio, start=start)
                for budget, fits, ratio in zip(self.budgets, own, ratios, strict=True)
            ]
            every += own
        return rows, self._losses(every)

    def _row(self, i: int, budget: float, fits: dict[str, Fit], **found: Any) -> LayerAdvice:
        target, seen = self.targets[i], self.seen[i]
        errors = {kind: fit.error for kind, fit in fits.items()}
        rises = {}
        if self.present is not None:
            rises = {k: self._loss({i: fit.matrix}) - self.present for k, fit in fits.items()}
        # Errors do not compare kinds: equal ones differ much in what is left of the loss.
        chosen = rises and found["start"] == "weights"
        kind = min(rises, key=rises.__getitem__) if chosen else "gblr"
        cap = math.floor(budget * target.matrix.numel())
        fixed = budget >= FIXED_FROM and reaches_all(kind, target.matrix, cap)
        vectors = seen.vectors / len(self.batches) / len(target.modules)
        return LayerAdvice(
            name=target.names[0],
            shape=(target.matrix.shape[0], target.matrix.shape[1]),
            share=self.shares[i],
            budget=budget,
            kind=kind,
            # From weights, only learning keeps to runs and blocks, which the fit here is made of.
            learn=kind == "gblr" and not (fixed and found["start"] == "scratch"),
            cost=fits[kind].matrix.cost,
            time=relative_time(fits[kind].matrix, target, vectors),
            error=errors[kind],
            rise=rises.get(kind),
            errors=errors,
            rises=rises,
            idle_inputs=seen.idle,
            input_rank=seen.rank,
            shared_with=tuple(target.names[1:]),
            **found,
        )

    def _losses(self, every: Sequence[dict[str, Fit]]) -> dict[tuple[str, float], float]:
        """Loss by kind and budget, where every weight has a fit of that kind."""
        found: dict[tuple[str, float], float] = {}
        if self.loss is None:
            return found
        for j, budget in enumerate(self.budgets):
            own = every[j :: len(self.budgets)]
            for kind in own[0]:
                if all(kind in fits for fits in own):
                    matrices = {i: fits[kind].matrix for i, fits in enumerate(own)}
                    found[kind, budget] = self._loss(matrices)
        return found

    def _loss(self, matrices: dict[int, StructuredMatrix]) -> float:
        assert self.loss is not None
        dense = {i: matrix.to_dense() for i, matrix in matrices.items()}
        with replaced(dense, self.targets):
            return mean_loss(self.model, self.batches, self.loss)


def _over_chance(W: Tensor, cap: int, gram: Tensor, fits: dict[str, Fit]) -> float:
    """Least error of the fits, over that of a random weight fitted to the same kind."""
    kind = min(fits, key=lambda kind: fits[kind].error)
    chance = chance_error(W, cap, gram, kind)
    return fits[kind].error / chance if chance else 1.0


def relative_time(matrix: StructuredMatrix, target: Target, vectors: float) -> float:
    """Estimated time of products with some vectors, over that of the dense weight's."""
    times = StructuredWeight(matrix).times
    if isinstance(target.modules[0], nn.Conv2d):
        times = Times.of_convolution([times], sum(matrix.shape))
    if not times.known:
        return 1.0  # the dense weight multiplies
    return times.structured(vectors) / times.dense(vectors)
