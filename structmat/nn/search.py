"""Structure learned by moving the ends of runs, under one exact budget."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from structmat.errors import BudgetError, InputError
from structmat.nn._tensors import whole, write_
from structmat.nn.allocation import MEASURES
from structmat.nn.beginning import whole_number
from structmat.nn.edges import Ends, block_energies, ends_of, move_, sides_of
from structmat.nn.gaudi import GaudiWeight
from structmat.nn.proximal import ProximalStep
from structmat.nn.ramp import cap_of, check_ramp, falling_cap
from structmat.nn.revival import taken

__all__ = ["EdgeSearch"]


class EdgeSearch(ProximalStep):
    """Learn widths and locations by moving the ends of runs, under one exact budget.

    Every few steps, ends whose samples matter least give them up, and as many samples are
    taken in beyond the ends where the gradient of the weight asks for them most, in
    whatever layer that is. Samples begin with contents of zero, so that the network's
    function changes by nothing but what was given up. Masks stay boxcars; widths and
    locations are no longer the optimizer's.

    Parameters
    ----------
    model : torch.nn.Module
        Where widths are fixed, runs stay as they are; where only locations are, their
        beginnings do. `DistributedDataParallel` is to wrap it afterwards.
    optimizer : torch.optim.Optimizer
    budget : float
        Cap on the cost as a fraction of the dense cost of the Gaudi layers, in (0, 1].
    total_steps : int
        Optimizer steps of the whole training.
    every : int
        Steps between moves. The first step past the ramp takes off what is left of it.
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
        every: int = 10,
        share: float = 0.1,
        until: float = 0.75,
        ramp: float = 0.6,
        across: bool = True,
        measure: str = "multiplications",
    ) -> None:
        check_ramp(budget, ramp, total_steps)
        whole_number(every, "every", 1)
        for name, value in (("share", share), ("until", until)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} = {value!r}; expected a share in [0, 1]")
        if measure not in MEASURES:
            raise InputError(f"measure = {measure!r}; expected one of {MEASURES}")
        self._learned = _take_over(model)
        super().__init__(model, optimizer, measure)
        self.every, self.share, self.across, self.measure = every, share, across, measure
        self.dense_cost = sum(self.widths.dense)
        self.target_cost = cap_of(budget, self.dense_cost)
        self.initial_cost = max(self._cost(), self.target_cost)
        self.ramp_steps, self.until_steps = ramp * total_steps, until * total_steps
        self._ramp_end = max(1, math.ceil(self.ramp_steps))
        self._groups = [
            _Group(self, weight, dense)
            for weight, dense in zip(self.widths.weights, self.widths.dense, strict=True)
        ]
        least = sum(group.least() for group in self._groups)
        if least > self.target_cost:
            self.remove()  # what is refused leaves nothing behind
            raise BudgetError(
                f"budget = {budget!r}, {self.target_cost} of {self.dense_cost}, but fixed and "
                f"least widths cost {least}; allow at least {least / self.dense_cost:.4g}, or "
                "have them learned, or lower them"
            )
        self._watch()

    def cap(self, step: int) -> int:
        """Greatest cost allowed after so many steps."""
        return falling_cap(step, self.initial_cost, self.target_cost, self.ramp_steps)

    @property
    def relative_cost(self) -> float:
        """Present cost of the Gaudi layers, as a fraction of their dense cost."""
        return self._cost() / max(self.dense_cost, 1)

    def update(self) -> None:
        """Move ends if it is time, then wait for the next gradient."""
        if self._is_time(self.step):
            self._move(self.cap(self.step))
        elif self.step == self._ramp_end:
            self._shrink(self.target_cost)
        self._watch()

    def remove(self) -> None:
        """Leave the weights alone from now on; what was learnable is so again."""
        super().remove()
        for weight in self.weights:
            weight.watch, weight.residual = False, None
        for parameter in self._learned:
            parameter.requires_grad_(True)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {**super().state_dict(), "initial_cost": self.initial_cost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state)
        self.initial_cost = state["initial_cost"]
        self._watch()

    def unit(self, weight: GaudiWeight) -> int:
        """What a sample of a weight's runs costs."""
        return weight.rank * (weight.positions if self.measure == "multiplications" else 1)

    def _cost(self) -> int:
        return self.widths.cost(self.widths.values())

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
            weight.watch = watch

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
            _exchange(together, share, excess, room=math.floor(max(0, cap - now) * part))
        self._shrink(cap)

    def _shrink(self, cap: int) -> None:
        """Down to the cap without gradients: by ends, and where they do not do, by blocks."""
        while (excess := self._cost() - cap) > 0:
            found = [(group, group.ends([None] * len(group.weights))) for group in self._groups]
            if any(bool(ends.loss.isfinite().any()) for _, ends in found):
                _exchange(found, 0.0, excess, room=0)
            else:
                _empty_weakest(self._groups, excess)


class _Group:
    """Weights that share one structure, and what a grain of it costs."""

    def __init__(self, rule: EdgeSearch, weight: GaudiWeight, dense: int) -> None:
        self.weights = [w for w in rule.weights if w.structure is weight.structure]
        self.dense = dense
        self.unit = sum(rule.unit(w) for w in self.weights)
        self.grain = self.unit * weight.granularity
        learned = {id(p) for p in rule._learned}
        s = weight.structure
        #: Whether widths of rows and of columns are learned.
        self.wide = [id(width) in learned for width in (s.row_width, s.col_width)]
        #: Whether blocks can be emptied.
        self.mortal = any(self.wide) and weight.min_width == 0
        self._free: list[bool] = []
        for wide, location in zip(self.wide, (s.row_location, s.col_location), strict=True):
            self._free += [wide and id(location) in learned, wide]  # the near end moves it

    def ends(self, gradients: Sequence[Tensor | None]) -> Ends:
        """Ends of all blocks; those that are fixed neither shrink nor grow."""
        return ends_of(self.weights, gradients, self._free)

    def least(self) -> int:
        """Cost that no shrinking goes below."""
        if self.mortal:
            return 0
        rows, cols = (
            side.narrowest() if wide else side.width
            for side, wide in zip(sides_of(self.weights[0]), self.wide, strict=True)
        )
        return self.unit * int(((rows + cols) * (rows > 0) * (cols > 0)).sum())


def _take_over(model: nn.Module) -> list[Tensor]:
    """Widths and locations that are learnable, from now on by this rule alone."""
    weights = [w for w in model.modules() if isinstance(w, GaudiWeight)]
    learned = [p for w in weights for p in w.structure.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
        parameter.grad = None  # or the optimizer would go on, and decay it
    for weight in weights:
        weight.sigma = math.inf
    return learned


def _exchange(
    found: Sequence[tuple[_Group, Ends]], share: float, excess: int, *, room: int
) -> None:
    """Drop a share of the ends and what is in excess; grow by what was freed and the room."""
    sizes = [ends.loss.numel() for _, ends in found]
    loss = torch.cat([ends.loss.flatten().cpu() / group.grain for group, ends in found])
    gain = torch.cat([ends.gain.flatten().cpu() / group.grain for group, ends in found])
    grains = torch.tensor([group.grain for group, _ in found], device="cpu")
    cost = grains.repeat_interleave(torch.tensor(sizes, device="cpu"))
    free = loss.isfinite()
    wanted = excess + int(share * float(cost[free].sum()))
    lost = _first(loss, cost, wanted, beyond=True) & free
    room += max(0, int(cost[lost].sum()) - excess)
    gained = torch.zeros_like(lost)
    if share > 0:
        order = torch.where(lost | (gain < 0), torch.inf, -gain)
        gained = _first(order, cost, room, beyond=False) & order.isfinite()
    for (group, ends), l, g in zip(found, lost.split(sizes), gained.split(sizes), strict=True):
        if bool((l | g).any()):
            shape, device = ends.loss.shape, ends.loss.device
            move_(group.weights, l.view(shape).to(device), g.view(shape).to(device))


def _first(score: Tensor, cost: Tensor, amount: int, *, beyond: bool) -> Tensor:
    """The lowest scores whose costs add up to an amount; one more where they fall short."""
    order = torch.argsort(score, stable=True)
    total = cost[order].cumsum(0)
    within = total - cost[order] < amount if beyond else total <= amount
    chosen = torch.zeros_like(score, dtype=torch.bool)
    chosen[order] = within
    return chosen


@torch.no_grad()
def _empty_weakest(groups: Sequence[_Group], excess: int) -> None:
    """Take away whole blocks of least energy for their cost until the excess is gone."""
    groups = [group for group in groups if group.mortal]
    scores, costs = [], []
    for group in groups:
        rows, cols = sides_of(group.weights[0])
        cost = group.unit * (rows.width + cols.width) * (rows.width > 0) * (cols.width > 0)
        score = block_energies(group.weights) / cost
        scores.append(score.where(cost > 0, torch.inf).cpu())
        costs.append(cost.cpu())
    gone = _first(torch.cat(scores), torch.cat(costs), excess, beyond=True)
    for group, own in zip(groups, gone.split([len(s) for s in scores]), strict=True):
        structure = group.weights[0].structure
        for wide, parameter in zip(
            group.wide, (structure.row_width, structure.col_width), strict=True
        ):
            if wide:
                old = whole(parameter)
                write_(parameter, old.masked_fill(own.to(old.device), 0.0))
