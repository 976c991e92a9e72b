"""Structure learned by moving the ends of runs, under one exact budget."""

import math
from typing import Any
from weakref import WeakSet

from torch import nn, optim

from structmat.errors import InputError, StructmatError
from structmat.nn.gaudi.initial_weight import whole_number
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.training.capped import CappedStep
from structmat.nn.training.exchange import Group, empty_weakest_, exchange_
from structmat.nn.training.pin import Hold
from structmat.nn.training.revive import taken


class EdgeSearch(CappedStep):
    """Learn widths and locations by moving the ends of runs, under one exact budget.

    From time to time, ends whose samples matter least give them up, and as many samples are
    taken in beyond the ends where the gradient of the weight asks for them most, in
    whatever layer that is. Samples begin with contents of zero, so that the network's
    function changes by nothing but what was given up; what the optimizer knows of the size
    of their gradients begins with that of their run. Masks stay boxcars. Widths and
    locations get gradients of zero, and no optimizer step changes them.

    Parameters
    ----------
    model : torch.nn.Module
        Where widths are fixed, runs stay as they are; where only locations are, their
        beginnings do. A rule that was made for it before is removed.
    optimizer : torch.optim.Optimizer
        Whose steps count. It may have widths and locations, or not.
    budget : float
        Cap on the cost as a fraction of the dense cost of the Gaudi layers, in (0, 1].
    total_steps : int
        Optimizer steps of the whole training.
    every : int, optional
        Steps between moves; 40 by default, or an eighth of a training shorter than 320
        steps. The first step past the ramp takes off what is left of it.
    share : float
        Share of all ends that give up a grain at the first move; a cosine takes it to zero.
    until : float
        Share of the training after which nothing moves any more, but for the ramp.
    ramp : float
        Share of the training over which the cap falls from the cost at the start, if that
        is above the budget.
    across : bool
        Whether what one layer gives up may go to another.
    measure : str
        "multiplications" of one example, or "parameters".

    Raises
    ------
    BudgetError
        If the budget is no fraction, or below what fixed and least widths cost.
    InputError
        If the model has no Gaudi layers, or an option is out of its range.

    Notes
    -----
    After each move the cost is at most the cap of the moment. Where shrinking by ends
    does not reach it, as runs keep one grain, the blocks of least energy are given up.

    Samples are dropped by magnitude and taken in by gradient, as single weights are in
    "Rigging the Lottery" (Evci et al., ICML 2020, arXiv 1911.11134), with runs kept whole.

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
        optimizer: optim.Optimizer,
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
        every = _interval(total_steps) if every is None else whole_number(every, "every", 1)
        for name, value in (("share", share), ("until", until)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} = {value!r}; expected a share in [0, 1]")
        super().__init__(model, optimizer, budget, total_steps, ramp, measure)
        self.every, self.share, self.across, self.measure = every, share, across, measure
        self.until_steps = until * total_steps
        self._ramp_end = max(1, math.ceil(self.ramp_steps))
        self._groups = [
            self._group(weight, dense)
            for weight, dense in zip(self.widths.weights, self.widths.dense, strict=True)
        ]
        try:
            least = sum(group.least() for group in self._groups)
            self._check_reachable(least, "fixed and least widths")
        except StructmatError:
            super().remove()  # what is refused leaves nothing behind
            raise
        self._take_over()
        self._watch()

    def update(self) -> None:
        """Move ends if it is time, then wait for the next gradient."""
        if self._is_time(self.step):
            self._move(self.cap(self.step))
        elif self.step == self._ramp_end:
            self._shrink(self.target_cost)
        self._watch()

    def remove(self) -> None:
        """Leave widths and locations to the optimizer again."""
        super().remove()
        self._hold.remove()
        if self in _RUNNING:  # else another rule has them already
            _RUNNING.remove(self)
            self._unwatch()

    def unit(self, weight: GaudiWeight) -> int:
        """What a sample of a weight's runs costs."""
        return weight.rank * (weight.positions if self.measure == "multiplications" else 1)

    def _check_followed(self, optimizer: optim.Optimizer) -> None:
        """Any optimizer will do: widths are moved here."""

    def _take_over(self) -> None:
        """Keep widths and locations from the optimizer, and from a rule made before."""
        for rule in [r for r in _RUNNING if not set(r.weights).isdisjoint(self.weights)]:
            rule.remove()
        _RUNNING.add(self)
        self._hold = Hold((w.structure for w in self.widths.weights), self._optimizer)
        for weight in self.weights:
            weight.sigma = math.inf

    def _after_step(self, *_: Any) -> None:
        self._hold.put_back()
        super()._after_step()

    def _group(self, weight: GaudiWeight, dense: int) -> Group:
        weights = [w for w in self.weights if w.structure is weight.structure]
        return Group(weights, sum(self.unit(w) for w in weights), dense)

    def _is_time(self, step: int) -> bool:
        return 0 < step <= max(self.ramp_steps, self.until_steps) and step % self.every == 0

    def _share_at(self, step: int) -> float:
        """Share of all ends that give up a grain at a move."""
        if step >= self.until_steps:
            return 0.0
        return self.share * 0.5 * (1 + math.cos(math.pi * step / self.until_steps))

    def _watch(self) -> None:
        """Have the weights keep the gradient that a move after the next step needs."""
        watch = self._is_time(self.step + 1) and self._share_at(self.step + 1) > 0
        for weight in self.weights:
            weight.record_weight_grad = watch

    def _move(self, cap: int) -> None:
        gradients = [[taken(w) for w in group.weights] for group in self._groups]
        complete = all(g is not None for own in gradients for g in own)
        share = self._share_at(self.step) if complete else 0.0
        found = [
            (group, group.ends(own)) for group, own in zip(self._groups, gradients, strict=True)
        ]
        now = self._cost()
        for together in [found] if self.across else [[one] for one in found]:
            part = sum(group.dense for group, _ in together) / max(self.dense_cost, 1)
            excess = math.ceil(max(0, now - cap) * part)
            room = math.floor(max(0, cap - now) * part)
            exchange_(together, share, excess, room=room, state=self._optimizer.state)
        self._shrink(cap)

    def _shrink(self, cap: int) -> None:
        """Down to the cap without gradients: by ends, and where they do not do, by blocks."""
        while (excess := self._cost() - cap) > 0:
            found = [(group, group.ends([None] * len(group.weights))) for group in self._groups]
            if any(bool(ends.loss.isfinite().any()) for _, ends in found):
                exchange_(found, 0.0, excess, room=0, state=self._optimizer.state)
            else:
                empty_weakest_(self._groups, excess)


def _interval(steps: int) -> int:
    """Steps between moves: contents need some to grow, and a short training has few moves."""
    return max(1, min(40, steps // 8))


#: Rules that move ends now, so that a new one for the same weights can take over.
_RUNNING: WeakSet[EdgeSearch] = WeakSet()
