"""One exact budget for a whole network, met after every optimizer step."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from structmat.errors import BudgetError, InputError, StructmatError
from structmat.nn.training.capped import CappedStep, cap_of
from structmat.nn.training.revive import revive_
from structmat.nn.training.widths import METRICS, Limits


class BudgetProjection(CappedStep):
    """One exact budget for all Gaudi layers of a network, without any λ to search.

    After each optimizer step the widths of all layers are lowered by the one threshold
    under which the network's cost meets the cap of the moment. The cap falls from the
    cost at the start to the budget along a cubic ramp, and then stays. Layers share
    the budget by themselves: who needs its widths grows them back.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
    budget : float
        Cap on the cost as a fraction of the dense cost of the Gaudi layers, in (0, 1].
    total_steps : int
        Optimizer steps of the whole training.
    ramp : float
        Share of the training after which the cap has reached the budget.
    measure : str
        "multiplications" of one example, which weigh a layer by how many vectors it
        multiplies (`GaudiWeight.positions`), or "parameters".
    metric : str
        "width" takes the same τ off all widths, the proximal step of the published
        method with its λ chosen to fit; "euclidean" takes more where a width costs
        more, the nearest point of the weighted ℓ1 ball.
    floors, caps : float or mapping of str to float, optional
        Least and greatest cost of each layer, as a fraction of its own dense cost; by
        name of its `GaudiWeight` module where they differ.
    revive_every : int, optional
        Every so many steps while the cap still falls, and once when it stops, blocks
        that have lost a side start anew where the gradient of the weight is
        largest. None leaves them dead.

    Raises
    ------
    BudgetError
        If the budget is no fraction, or below what floors and least widths cost.
    InputError
        If the model has no Gaudi layers, or a name in `floors` or `caps` is unknown.

    Notes
    -----
    The cost is that of evaluation: whole widths and blocks with both sides. It never
    exceeds the cap after a step. Where the projection takes something off, it falls short of
    the cap by less than one block. A floor stops the projection, not the optimizer: a
    layer may lose widths by its own gradients.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear, parameter_groups
    >>> layer = GaudiLinear(32, 32, budget=0.5)
    >>> optimizer = torch.optim.AdamW(parameter_groups(layer, lr=1e-3, structure_lr=5e-3))
    >>> rule = BudgetProjection(layer, optimizer, budget=0.2, total_steps=3, ramp=0.0)
    >>> layer(torch.ones(1, 32)).sum().backward()
    >>> optimizer.step()
    >>> layer.matrix.cost <= 0.2 * 32 * 32
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        budget: float,
        total_steps: int,
        *,
        ramp: float = 0.6,
        measure: str = "multiplications",
        metric: str = "width",
        floors: float | Mapping[str, float] | None = None,
        caps: float | Mapping[str, float] | None = None,
        revive_every: int | None = None,
    ) -> None:
        if metric not in METRICS:
            raise InputError(f"metric = {metric!r}; expected one of {METRICS}")
        if revive_every is not None and revive_every < 1:
            raise InputError(f"revive_every = {revive_every!r}; expected at least 1, or None")
        super().__init__(model, optimizer, budget, total_steps, ramp, measure)
        self.metric, self.revive_every = metric, revive_every
        try:
            self.limits = self._limits(floors, caps)
            self._check_limits()
        except StructmatError:
            self.remove()  # what is refused leaves nothing behind
            raise
        self._watch()

    def _limits(self, floors: Any, caps: Any) -> list[Limits] | None:
        if floors is None and caps is None:
            return None
        low, high = self._shares(floors, 0.0, "floors"), self._shares(caps, 1e9, "caps")
        limits = []
        for name, f, c, dense in zip(self.names, low, high, self.widths.dense, strict=True):
            if not 0 <= f <= c:
                raise InputError(
                    f"{name} has floor {f!r} and cap {c!r}; expected fractions of its dense cost, "
                    "the floor at least 0 and at most the cap"
                )
            limits.append(Limits(_floor(f, dense), cap_of(c, dense)))
        return limits

    def _shares(self, given: Any, default: float, what: str) -> list[float]:
        if not isinstance(given, Mapping):
            return [default if given is None else _share(given, what)] * len(self.names)
        unknown = given.keys() - set(self.names)
        if unknown:
            raise InputError(f"{what} name {sorted(unknown)}; expected names among {self.names}")
        return [_share(given.get(name, default), what) for name in self.names]

    def _check_limits(self) -> None:
        least = self.widths.least(self.widths.values())
        for name, cost, limit in zip(self.names, least, self.limits or [], strict=False):
            if cost > limit.cap:
                raise BudgetError(
                    f"{name} has a cap of {limit.cap}, but least and fixed widths cost {cost}; "
                    "raise the cap, or lower them"
                )
        if self.limits is not None:
            least = [max(a, limit.floor) for a, limit in zip(least, self.limits, strict=True)]
        self._check_reachable(sum(least), "floors, least and fixed widths")

    def update(self) -> None:
        """Revive if it is time, then project."""
        if self._is_time(self.step):
            for weight in self.widths.weights:
                revive_(*(w for w in self.weights if w.structure is weight.structure))
        self._watch()
        self._tidy()
        values = self.widths.values()
        self.widths.write_(
            self.widths.projected(values, self.cap(self.step), self.metric, self.limits)
        )

    def remove(self) -> None:
        """Leave the optimizer and the weights alone from now on."""
        super().remove()
        self._unwatch()

    def _is_time(self, step: int) -> bool:
        if self.revive_every is None or step < 1 or step > self.ramp_steps + self.revive_every:
            return False
        return step % self.revive_every == 0

    def _watch(self) -> None:
        """Have the weights keep the gradient that a revival after the next step needs."""
        for weight in self.weights:
            weight.record_weight_grad = self._is_time(self.step + 1)


def _share(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{what} holds {value!r}; expected fractions of a layer's dense cost")
    return float(value)


# Up to rounding, as `cap_of`.
def _floor(share: float, dense: int) -> int:
    return math.ceil(share * dense * (1 - 1e-12))
