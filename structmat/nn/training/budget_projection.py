"""Rule that meets one exact budget for a whole network after every optimizer step."""

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn, optim

from structmat.errors import BudgetError, InputError
from structmat.nn.training.optimizers import Followed
from structmat.nn.training.projection import METRICS, Limits, projected
from structmat.nn.training.projection_apart import projected_apart
from structmat.nn.training.revive import revive_
from structmat.nn.training.step_hook import StepHook
from structmat.nn.training.weight_grad import forget_grads_, record_grads_
from structmat.nn.training.widths import Cap, Widths, least_cost, most_cost, wrap_locations_

#: Cap of a layer without one, as a fraction of its dense cost.
_NO_CAP = 1e9


class BudgetProjection:
    """One exact budget for all Gaudi layers of a network, without any λ to search.

    After each optimizer step, one threshold lowers the widths of all layers until the
    network's cost meets the present cap. The cap falls from the cost at the start to the
    budget along a cubic ramp, and then stays. Layers share the budget by themselves: a layer
    that needs its widths grows them back.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer, or a list of them
        All that train parameters of Gaudi layers.
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
        Steps between revivals, while the cap falls and once when it stops: blocks that have
        lost a side restart where the gradient of the weight is largest. None leaves them
        dead.

    Attributes
    ----------
    cap : callable
        Greatest cost allowed after a number of steps, ``cap(step)``.
    dense_cost, target_cost : int
        Cost of dense layers, and the cap once the ramp is over.

    Raises
    ------
    BudgetError
        If the budget is no fraction, or below what floors and least widths cost.
    InputError
        If the model has no Gaudi layers, a name in `floors` or `caps` is unknown, or no
        optimizer has one of the parameters that the Gaudi layers train.

    Notes
    -----
    The cost is that of evaluation: whole widths and blocks with both sides. After a step it
    is at most the cap, and where the projection has lowered widths, less than one block
    below the cap. A floor stops the projection, not the optimizer: a layer may lose widths
    by its own gradients.

    On a device, the projection reads no value back, and launches some 450 operations for all
    layers together; with floors or caps, and in a revival, it runs on the host.

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
        optimizer: optim.Optimizer | Iterable[optim.Optimizer],
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
        self.widths = Widths(model, measure)
        self.weights, self.names = self.widths.weights, self.widths.names
        self.cap = Cap(self.widths, budget, ramp, total_steps)
        self.dense_cost, self.target_cost = self.cap.dense_cost, self.cap.target_cost
        self.ramp_steps = self.cap.ramp_steps
        self.metric, self.revive_every = metric, revive_every
        self.limits = self._limits(floors, caps)
        self._check_limits()
        self._hook = StepHook(Followed(model, optimizer), self.update)
        self._record()

    def _limits(self, floors: Any, caps: Any) -> list[Limits] | None:
        if floors is None and caps is None:
            return None
        low, high = self._shares(floors, 0.0, "floors"), self._shares(caps, _NO_CAP, "caps")
        limits = []
        for name, f, c, dense in zip(self.names, low, high, self.widths.dense_costs, strict=True):
            if not 0 <= f <= c:
                raise InputError(
                    f"{name} has floor {f!r} and cap {c!r}; expected fractions of its dense cost, "
                    "the floor at least 0 and at most the cap"
                )
            limits.append(Limits(least_cost(f, dense), most_cost(c, dense)))
        return limits

    def _shares(self, given: Any, default: float, what: str) -> list[float]:
        if not isinstance(given, Mapping):
            return [default if given is None else _share(given, what)] * len(self.names)
        unknown = given.keys() - set(self.names)
        if unknown:
            raise InputError(f"{what} name {sorted(unknown)}; expected names among {self.names}")
        return [_share(given.get(name, default), what) for name in self.names]

    def _check_limits(self) -> None:
        least = self.widths.least_costs()
        for name, cost, limit in zip(self.names, least, self.limits or [], strict=False):
            if cost > limit.cap:
                raise BudgetError(
                    f"{name} has a cap of {limit.cap}, but least and fixed widths cost {cost}; "
                    "raise the cap, or lower them"
                )
        if self.limits is not None:
            least = [max(a, limit.floor) for a, limit in zip(least, self.limits, strict=True)]
        self.cap.check_reachable(sum(least), "floors, least and fixed widths")

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._hook.step

    @property
    def budget(self) -> float:
        """Fraction that was asked for. For another one, `remove` this rule and make a new one."""
        return self.cap.budget

    @property
    def initial_cost(self) -> int:
        """Cap at the beginning of the ramp."""
        return self.cap.initial_cost

    @property
    def relative_cost(self) -> float:
        """Present cost of the Gaudi layers, as a fraction of their dense cost.

        Sharded widths are gathered: ask for it on every process.
        """
        return self.widths.relative_cost()

    def update(self) -> None:
        """Revive if it is time, then project."""
        if self._is_time(self.step):
            for layer in self.widths.layers:
                revive_(*layer)
        self._record()
        wrap_locations_(self.weights)
        cap, device = self.cap(self.step), self.widths.device()
        if device is not None and self.limits is None:
            there, present = self.widths.on(device), self.widths.present()
            self.widths.write_present_(projected_apart(there, present, cap, self.metric))
            return
        values = self.widths.values()
        self.widths.write_(projected(self.widths, values, cap, self.metric, self.limits))

    def remove(self) -> None:
        """Leave the optimizer and the weights alone from now on."""
        self._hook.remove()
        forget_grads_(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step, "initial_cost": self.initial_cost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._hook.step, self.cap.initial_cost = state["step"], state["initial_cost"]
        self._record()

    def _is_time(self, step: int) -> bool:
        if self.revive_every is None or step < 1 or step > self.ramp_steps + self.revive_every:
            return False
        return step % self.revive_every == 0

    def _record(self) -> None:
        """Have the weights record the gradient that a revival after the next step needs."""
        record_grads_(self.weights, self._is_time(self.step + 1))


def _share(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{what} holds {value!r}; expected fractions of a layer's dense cost")
    return float(value)
