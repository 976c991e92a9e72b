"""Rule that learns structure by moving the ends of runs, under one exact budget."""

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.initial_weight import whole_number
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.training.end_choice import Layer, empty_weakest_, exchange_
from structmat.nn.training.optimizers import Followed
from structmat.nn.training.step_hook import Pin, StepHook
from structmat.nn.training.weight_grad import forget_grads_, record_grads_, take_grad
from structmat.nn.training.widths import Cap, Widths

#: Steps between moves by default: enough for new contents to grow.
_STEPS_BETWEEN_MOVES = 40
#: Moves of a training that is too short for these steps.
_MOVES_AT_LEAST = 8


class EdgeSearch:
    """Learn widths and locations by moving the ends of runs, under one exact budget.

    A move, every few steps, takes samples away from the ends that matter least, and adds
    as many beyond the ends where the gradient of the weight is largest, in any layer. New
    samples have contents of zero, so that only the loss of samples changes the network's
    function; the second moments of their gradients begin as the mean over their run. Masks
    stay boxcars. Widths and locations get gradients of zero, and no optimizer step changes
    them.

    Parameters
    ----------
    model : torch.nn.Module
        Fixed widths keep their runs as they are; fixed locations alone keep where runs
        start. An earlier rule for the same weights is removed.
    optimizer : torch.optim.Optimizer, or a list of them
        All that train contents of Gaudi layers. They may have widths and locations, or not.
    budget : float
        Cap on the cost as a fraction of the dense cost of the Gaudi layers, in (0, 1].
    total_steps : int
        Optimizer steps of the whole training.
    every : int, optional
        Steps between moves; 40 by default, or an eighth of a training shorter than 320
        steps. The first step past the ramp also meets the budget.
    share : float
        Share of all ends that give up a grain at the first move; a cosine takes it to zero.
    until : float
        Share of the training after which ends move for the ramp only.
    ramp : float
        Share of the training over which the cap falls from the cost at the start, if that
        is above the budget.
    across : bool
        Whether cost that one layer gives up may go to another.
    measure : str
        "multiplications" of one example, or "parameters".

    Attributes
    ----------
    cap : callable
        Greatest cost allowed after a number of steps, ``cap(step)``.
    dense_cost, target_cost : int
        Cost of dense layers, and the cap once the ramp is over.

    Raises
    ------
    BudgetError
        If the budget is no fraction, or below the cost of fixed and least widths.
    InputError
        If the model has no Gaudi layers, or an option is out of its range, or no optimizer has
        one of the contents that are trained.

    Notes
    -----
    After each move the cost is at most the present cap. Runs keep one grain; where
    shorter runs do not meet the cap, the blocks of least energy go.

    Samples go by magnitude and come by gradient, as single weights do in "Rigging the
    Lottery" (Evci et al., ICML 2020, arXiv 1911.11134), with runs kept whole.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear, parameter_groups
    >>> layer = GaudiLinear(32, 32, budget=0.2, width_init="strips")
    >>> optimizer = torch.optim.AdamW(parameter_groups(layer, lr=1e-3, structure_lr=0.0))
    >>> rule = EdgeSearch(layer, optimizer, budget=0.2, total_steps=8, every=1)
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
        every: int | None = None,
        share: float = 0.1,
        until: float = 0.75,
        ramp: float = 0.6,
        across: bool = True,
        measure: str = "multiplications",
    ) -> None:
        if every is None:
            every = max(1, min(_STEPS_BETWEEN_MOVES, total_steps // _MOVES_AT_LEAST))
        every = whole_number(every, "every", 1)
        for name, value in (("share", share), ("until", until)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} = {value!r}; expected a share in [0, 1]")
        self.widths = Widths(model, measure)
        self.weights, self.names = self.widths.weights, self.widths.names
        self.cap = Cap(self.widths, budget, ramp, total_steps)
        self.dense_cost, self.target_cost = self.cap.dense_cost, self.cap.target_cost
        self.ramp_steps, self.until_steps = self.cap.ramp_steps, until * total_steps
        self.every, self.share, self.across, self.measure = every, share, across, measure
        layers, units = self.widths.layers, self.widths.unit_costs
        self._layers = [
            Layer(*facts) for facts in zip(layers, units, self.widths.dense_costs, strict=True)
        ]
        least = sum(layer.least_cost() for layer in self._layers)
        self.cap.check_reachable(least, "fixed and least widths")
        followed = Followed(model, optimizer, runs=False)
        for rule in [r for r in _RUNNING if not set(r.weights).isdisjoint(self.weights)]:
            rule.remove()
        _RUNNING.add(self)
        self._pin = Pin((layer[0].structure for layer in layers), followed.optimizers)
        self._hook = StepHook(followed, self.update)
        for weight in self.weights:
            weight.sigma = math.inf
        self._record()

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

    def unit(self, weight: GaudiWeight) -> int:
        """Cost of one sample of a weight's runs."""
        return self.widths.unit_cost(weight)

    def update(self) -> None:
        """Move ends if it is time, then wait for the next gradient."""
        if self._is_time(self.step):
            self._move(self.cap(self.step))
        elif self.step == max(1, math.ceil(self.ramp_steps)):
            self._shrink(self.target_cost)
        self._record()

    def remove(self) -> None:
        """Leave widths and locations to the optimizer again."""
        self._hook.remove()
        self._pin.remove()
        if self in _RUNNING:  # else another rule has the weights already
            _RUNNING.remove(self)
            forget_grads_(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step, "initial_cost": self.initial_cost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._hook.step, self.cap.initial_cost = state["step"], state["initial_cost"]
        self._record()

    def _is_time(self, step: int) -> bool:
        return 0 < step <= max(self.ramp_steps, self.until_steps) and step % self.every == 0

    def _share_at(self, step: int) -> float:
        """Share of all ends that give up a grain at a move."""
        if step >= self.until_steps:
            return 0.0
        return self.share * 0.5 * (1 + math.cos(math.pi * step / self.until_steps))

    def _record(self) -> None:
        """Have the weights record the gradient that a move after the next step needs."""
        step = self.step + 1
        record_grads_(self.weights, self._is_time(step) and self._share_at(step) > 0)

    def _move(self, cap: int) -> None:
        gradients = [[take_grad(w) for w in layer.weights] for layer in self._layers]
        complete = all(g is not None for own in gradients for g in own)
        share = self._share_at(self.step) if complete else 0.0
        found = [
            (layer, layer.ends(own)) for layer, own in zip(self._layers, gradients, strict=True)
        ]
        now = self.widths.present_cost()
        for together in [found] if self.across else [[one] for one in found]:
            part = sum(layer.dense_cost for layer, _ in together) / max(self.dense_cost, 1)
            excess = math.ceil(max(0, now - cap) * part)
            room = math.floor(max(0, cap - now) * part)
            exchange_(together, share, excess, room, self._hook.followed.moments())
        self._shrink(cap)

    def _shrink(self, cap: int) -> None:
        """Come down to the cap without gradients: by ends, and then by whole blocks."""
        while (excess := self.widths.present_cost() - cap) > 0:
            found = [(layer, layer.ends([None] * len(layer.weights))) for layer in self._layers]
            if any(bool(ends.loss.isfinite().any()) for _, ends in found):
                exchange_(found, 0.0, excess, 0, self._hook.followed.moments())
            else:
                empty_weakest_(self._layers, excess)


#: Rules that move ends now, so that a new one for the same weights can take over.
_RUNNING: WeakSet[EdgeSearch] = WeakSet()
