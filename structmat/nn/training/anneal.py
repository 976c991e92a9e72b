"""Rule that learns structure by projections, from dense weights down to one exact budget."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn, optim

from structmat.errors import BudgetError, InputError, TrainingError
from structmat.kernels.cpu.blas_threads import one_blas_thread
from structmat.kernels.cpu.threads import num_threads, side_by_side
from structmat.nn.anneal.projected import Projected
from structmat.nn.anneal.projectors import Options, project, searched
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.sharded import is_divided, whole
from structmat.nn.training.contents_rates import MOST
from structmat.nn.training.one_price import caps_at_one_price
from structmat.nn.training.optimizers import Followed
from structmat.nn.training.step_hook import StepHook


class Anneal:
    """Learn structure by projections: begin dense, come down to one exact budget.

    While the training runs, every weight is projected again and again onto the nearest
    structure under a cap that falls from its first cost to its share of the budget. Between
    two projections the entries of the structure are trained. The last projection leaves the
    structure that stays; the contents of its blocks are trained from then on.

    A GBLR weight is a set of row runs while its cap is above three times its budget, and a sum
    of rank-one blocks below; with a `Config.group`, it is windows that groups of rows share, all
    the way. Rows and columns may be reordered where that leaves more of the weight; an order costs
    no multiplications. A block-sparse weight keeps whole tiles, and a block-low-rank one ranks of
    tiles, where their energy is. A low-rank weight, which has no places to learn, has its last rank
    and its factors from the first projection on.

    Parameters
    ----------
    model : torch.nn.Module
        With layers that `structmat.nn.convert_` made to learn.
    optimizer : torch.optim.Optimizer, or a list of them
        All that train the layers' weights and contents.
    budget : float
        Cap on the cost as a fraction of the dense cost of the learned layers, in (0, 1].
    total_steps : int
        Optimizer steps of the whole training.
    begin, end : float
        Shares of the training between which the cap falls.
    every : float
        Share of the training between two projections.
    across : bool
        Whether one price of a multiplication holds for all layers, so that cost that one layer
        gives up goes to another. The energies of a layer are then weighed by the mean square of
        its gradients. A layer has at most the cost that it was converted with: convert with
        twice the budget, say, to leave room. By default every layer keeps its share, and
        low-rank layers always do.
    charge : float
        Multiplications that a block counts beside its own. A charge gives fewer and larger
        blocks, for devices on which small ones take more time than they count.
    orders : bool
        Whether rows and columns may be reordered.

    Attributes
    ----------
    cap : callable
        Greatest cost allowed after a number of steps, ``cap(step)``.
    dense_cost, target_cost : int
        Cost of dense layers, and the cap once it has fallen.

    Raises
    ------
    BudgetError
        If the budget is no fraction.
    InputError
        If the model has no such layers, an option is out of its range, no optimizer has one of
        the parameters that are trained, or an optimizer divides its state among processes.
    TrainingError
        In a step after which weights to be projected have NaN or infinite entries.

    Notes
    -----
    *Checkpoints.* The structure is in the state dict of the model, and the count of steps in
    that of the rule. A copy of the model that averages its weights (an exponential moving
    average) has the structure of the time when it was made: make it after the last projection.
    Processes that train together project alike, each by itself.

    *Caps.* With s = (t / T - begin) / (end - begin) the cap is B + (C - B) (1 - s)^3 for the first
    cost C and the budget B: gradual pruning (Zhu & Gupta, arXiv 1710.01878) with exact
    projections onto structures.

    *Rates.* The learning rate is that of dense layers. As entries of the weight go, those that
    are left may take larger steps: each projection multiplies the parameter by a gain, the
    inverse share of live entries and at most 8, and divides its values by it. Optimizers whose
    steps do not grow with gradients (Adam and its kin) then move the weight so much farther.

    Time: a projection onto runs takes a few passes over the weight, one onto blocks as long as
    some tens of passes; there are ten of them by default. Weights are projected side by side, each
    in a thread of its own, and alike with any number of threads.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import Config, convert_
    >>> model = torch.nn.Sequential(torch.nn.Linear(32, 32))
    >>> report = convert_(model, Config(budget=0.2))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    >>> rule = Anneal(model, optimizer, budget=0.2, total_steps=20)
    >>> for _ in range(20):
    ...     model(torch.ones(4, 32)).square().sum().backward()
    ...     optimizer.step()
    >>> rule.relative_cost <= 0.2
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer | Iterable[optim.Optimizer],
        budget: float,
        total_steps: int,
        *,
        begin: float = 0.1,
        end: float = 0.6,
        every: float = 0.05,
        across: bool = False,
        charge: float = Options.charge,
        orders: bool = True,
    ) -> None:
        if not 0 < budget <= 1:
            raise BudgetError(f"budget = {budget!r}; expected a fraction in (0, 1]")
        if not 0 <= begin < end <= 1:
            raise InputError(f"begin = {begin!r}, end = {end!r}; expected 0 <= begin < end <= 1")
        if not 0 < every <= 1:
            raise InputError(f"every = {every!r}; expected a share in (0, 1]")
        if total_steps < 1:
            raise InputError(f"total_steps = {total_steps!r}; expected at least 1")
        self.budget, self.total_steps, self.across = budget, total_steps, across
        self.options = Options(charge=charge, orders=orders)
        followed = Followed(model, optimizer, (AnnealWeight,))
        if any(map(is_divided, followed.optimizers)):
            raise InputError(
                "optimizer is a ZeroRedundancyOptimizer, which keeps the moments of a parameter in "
                "one process alone; expected one with all of them, as projections change them "
                "(take torch's own optimizer, and fully_shard to divide its state)"
            )
        found = [m for m in model.modules() if isinstance(m, AnnealWeight)]
        self.weights = list(dict.fromkeys(found))
        names = {module: name for name, module in model.named_modules()}
        self._names = [names[weight] for weight in self.weights]
        self._counts = [weight.positions for weight in self.weights]
        self.dense_cost = self._total([math.prod(weight.shape) for weight in self.weights])
        self.target_cost = math.floor(budget * self.dense_cost)
        self._check_ends()
        self._begun = [weight.cost for weight in self.weights]
        times = max(1, round((end - begin) / every))
        shares = [begin + (end - begin) * (k + 1) / times for k in range(times)]
        self._due = [max(1, math.ceil(round(share * total_steps, 6))) for share in shares]
        for rule in [r for r in _RUNNING if not set(r.weights).isdisjoint(self.weights)]:
            rule.remove()
        _RUNNING.add(self)
        self._hook = StepHook(followed, self.update)

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._hook.step

    @property
    def relative_cost(self) -> float:
        """Present cost of the layers, as a fraction of their dense cost."""
        present = self._total([weight.cost for weight in self.weights])
        return present / max(self.dense_cost, 1)

    def cap(self, step: int) -> int:
        """Greatest cost of all layers after a number of steps."""
        return self._total(self._caps(step))

    def _total(self, costs: list[int]) -> int:
        return sum(c * cost for c, cost in zip(self._counts, costs, strict=True))

    def _caps(self, step: int) -> list[int]:
        """Cap of every layer after a number of steps."""
        left = (1 - self._progress(step)) ** 3
        return [
            end + math.floor((first - end) * left) if first > end else end
            for first, end in zip(self._begun, self._ends(), strict=True)
        ]

    def _ends(self) -> list[int]:
        """Cap of every layer at the end: the one of its conversion, scaled to the budget."""
        caps = [weight.cap for weight in self.weights]
        given = max(self._total(caps), self.target_cost, 1)
        return [cap * self.target_cost // given for cap in caps]

    def _check_ends(self) -> None:
        """Refuse budgets below the first tile or window, of which only zeros would be left."""
        for name, weight, end in zip(self._names, self.weights, self._ends(), strict=True):
            if end < min(weight.least, math.prod(weight.shape)):
                sides = f"tile = {weight.tile}" if weight.tile else f"group = {weight.group}"
                raise BudgetError(
                    f"layer {name!r} has {end} multiplications at the end; expected at least "
                    f"{weight.least}, the smallest structure of {sides} (raise budget, or convert "
                    "with a smaller one)"
                )

    def _progress(self, step: int) -> float:
        """Share of the way from the first cost to the budget, from the last projection on."""
        return sum(step >= due for due in self._due) / len(self._due)

    def update(self) -> None:
        """Project the weights if it is time."""
        if self.step in self._due:
            caps, ends = self._caps(self.step), self._ends()
            if self.across:
                caps, ends = self._caps_at_one_price(caps, ends)
            self._project(caps, ends, final=self.step == self._due[-1])

    @torch.no_grad()
    def _caps_at_one_price(self, caps: list[int], ends: list[int]) -> tuple[list[int], list[int]]:
        """Caps now and at the end, of the same totals, by the energies of all layers.

        Low-rank layers keep their shares: entries do not show what a rank is worth.
        """
        left = (1 - self._progress(self.step)) ** 3
        free = [i for i, weight in enumerate(self.weights) if weight.kind != "low_rank"]
        energies = [_energies(self.weights[i]) for i in free]
        counts, most = [self._counts[i] for i in free], [self.weights[i].cap for i in free]
        first = [max(self._begun[i], cap) for i, cap in zip(free, most, strict=True)]
        room = [c + math.floor(left * (f - c)) for c, f in zip(most, first, strict=True)]

        def shared(given: list[int], limits: list[int]) -> list[int]:
            total = sum(self._counts[i] * given[i] for i in free)
            found = caps_at_one_price(energies, counts, limits, total)
            return list((dict(enumerate(given)) | dict(zip(free, found, strict=True))).values())

        return shared(caps, room), shared(ends, most)

    @torch.no_grad()
    def _project(self, caps: list[int], ends: list[int], *, final: bool) -> None:
        """Project the weights that cost too much: as many at once as there are threads."""
        due = [
            i
            for i, (weight, cap) in enumerate(zip(self.weights, caps, strict=True))
            if cap < math.prod(weight.shape) and not (weight.is_factored and weight.cost <= cap)
        ]
        for first in range(0, len(due), num_threads()):
            some = due[first : first + num_threads()]
            asked = [self._asked(i, caps[i], ends[i]) for i in some]
            with one_blas_thread():
                projected = side_by_side(asked)
            for i, found in zip(some, projected, strict=True):
                self._take(self.weights[i], found, final=final)

    def _asked(self, i: int, cap: int, end: int) -> Callable[[], Projected]:
        """The projection of a weight as it is now, which any thread may carry out."""
        weight = self.weights[i]
        W = weight.values().float()
        if not W.isfinite().all():
            raise TrainingError(
                f"layer {self._names[i]!r} has NaN or infinite weights after {self.step} "
                "steps; expected finite ones, to be projected (lower the learning rate or clip "
                "gradients, and go on from an earlier checkpoint)"
            )
        options = replace(self.options, tile=weight.tile, group=weight.group)
        return partial(project, weight.kind, searched(W), cap, end, weight.present(), options)

    def _take(self, weight: AnnealWeight, found: Projected, *, final: bool) -> None:
        was_factored = weight.is_factored
        factored = (final or found.is_final) and found.matrix is not None
        before, gain = weight.gain, self._gain(weight, found, factored)
        weight.take_(found, factored=factored, gain=gain)
        if was_factored or weight.is_factored:
            # The parameter has other meanings now.
            self._hook.followed.forget(weight.weight)
        else:
            self._hook.followed.rescale(weight.weight, gain / before)

    def _gain(self, weight: AnnealWeight, found: Projected, factored: bool) -> float:
        """Gain by which sparse rows move as far as dense ones, as `rate_multiples` derives it.

        A power of two, by which numbers are multiplied exactly. It is 1 where the optimizer's
        steps grow with gradients: a gain would count twice.
        """
        if not self._hook.followed.is_adaptive(weight.weight):
            return 1.0
        live = found.cost if factored else int(found.support.sum())
        ratio = found.support.size / max(live, 1)
        return 2.0 ** math.floor(math.log2(min(max(ratio, 1.0), MOST)))

    def remove(self) -> None:
        """Leave the structure as it is from now on."""
        self._hook.remove()
        _RUNNING.discard(self)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; the structure is in the state of the model."""
        return {"step": self.step, "begun": list(self._begun)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._hook.step, self._begun = state["step"], list(state["begun"])


def _energies(weight: AnnealWeight) -> Tensor:
    """Squares of the entries on the support, by the mean square of their gradients.

    That is about how much the loss rises without them, and comparable between layers.
    """
    grad = weight.weight.grad
    live = torch.from_numpy(weight.projected.support).to(weight.weight.device)
    energies = weight.values().double()[live].square()
    if grad is None or not energies.numel():
        return energies
    slopes = whole(grad).double()
    return energies * (slopes if weight.is_factored else slopes[live]).square().mean()


#: Rules that are at work, so that a new one for the same weights can take over.
_RUNNING: WeakSet[Anneal] = WeakSet()
