"""Widths of all blocks of a network, their cost, and its cap.

Widths w are fractions of their axis. With c the multiplications (or scalars) of a full
width, the network costs Σ c w, in whole samples and over blocks that have both sides.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from structmat.errors import BudgetError, InputError
from structmat.nn.gaudi.structure import widths_to_samples
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import is_sharded, whole, write_
from structmat.nn.structured import devices

MEASURES = ("multiplications", "parameters")
#: Relative rounding error of a share times a cost.
_ROUNDING_ERROR = 1e-12


class Widths:
    """Widths of a model's Gaudi weights as one vector, rows and columns of each in turn.

    The cost of a width is that of one example (times `GaudiWeight.positions`), or with the
    measure "parameters" the scalars. Weights that share one structure, as the taps of a
    convolution may, count as one layer whose widths cost as much as all of theirs.

    Attributes
    ----------
    weights : list of GaudiWeight
        All of the model.
    layers : list of list of GaudiWeight
        The same, those that share one structure together.
    names : list of str
        Name of the first weight of each layer.
    unit_costs, dense_costs : list of int
        Cost of one sample of a run, and of a dense weight, for each layer.
    partner : Tensor of int64
        Place of the other side of every width's block.

    Examples
    --------
    >>> widths = Widths(GaudiWeight((8, 16), budget=0.75), "multiplications")
    >>> widths.cost(widths.values())
    96
    """

    def __init__(self, model: nn.Module, measure: str) -> None:
        named = {n: w for n, w in model.named_modules() if isinstance(w, GaudiWeight)}
        if not named:
            raise InputError(
                f"{type(model).__name__} has no Gaudi layers; expected at least one (convert it "
                'first: structmat.nn.convert_(model, Config(learn="gaudi", budget=…)))'
            )
        if measure not in MEASURES:
            raise InputError(f"measure = {measure!r}; expected one of {MEASURES}")
        self._measure = measure
        sharing: defaultdict[int, dict[str, GaudiWeight]] = defaultdict(dict)
        for name, weight in named.items():
            sharing[id(weight.structure)][name] = weight
        self.weights = list(named.values())
        self.layers = [list(layer.values()) for layer in sharing.values()]
        self.names = [next(iter(layer)) for layer in sharing.values()]
        self.unit_costs = [sum(map(self.unit_cost, layer)) for layer in self.layers]
        self.dense_costs = [
            sum(w.shape[0] * w.shape[1] * self._uses(w) for w in layer) for layer in self.layers
        ]
        rows = []
        for i, (weight, *_) in enumerate(self.layers):
            for n, limit, p in zip(weight.shape, weight.max_width, _pair(weight), strict=True):
                least = min(weight.min_width, limit)
                grain, unit, free = weight.granularity, self.unit_costs[i], int(p.requires_grad)
                facts = torch.tensor([n, grain, least, limit, unit, i, free], device="cpu")
                rows.append(facts.expand(weight.num_blocks, -1))
        table = torch.cat(rows).T
        self.size, self._grain, self._least, self._most, self.unit, self.layer, free = table
        self.free = free.bool()
        self._elsewhere: dict[torch.device, Widths] = {}
        self._learned = [p.requires_grad for p in self.parameters()]
        self.partner = _partners([layer[0].num_blocks for layer in self.layers])

    def unit_cost(self, weight: GaudiWeight) -> int:
        """Cost of one sample of a weight's runs."""
        return weight.rank * self._uses(weight)

    def _uses(self, weight: GaudiWeight) -> int:
        return weight.positions if self._measure == "multiplications" else 1

    def parameters(self) -> list[Tensor]:
        """Parameters behind the vector, in its order."""
        return [p for weight, *_ in self.layers for p in _pair(weight)]

    def values(self) -> Tensor:
        """Present widths, on the host.

        Raises
        ------
        InputError
            If widths were fixed, or left to learn, since.
        """
        self._check_learned()
        return torch.cat([whole(p).cpu() for p in self.parameters()])

    def _check_learned(self) -> None:
        if [p.requires_grad for p in self.parameters()] != self._learned:
            raise InputError(
                "the requires_grad of a width changed after the rule was made; expected fixed "
                "widths to stay fixed and learned ones learned (call the rule's remove(), and "
                "make a new rule)"
            )

    def device(self) -> torch.device | None:
        """The device apart from the host that has all widths, whole; None if there is none."""
        parameters = self.parameters()
        places = {p.device for p in parameters}
        if len(places) > 1 or any(map(is_sharded, parameters)):
            return None
        place = places.pop()
        return place if devices.is_apart(place) else None

    def on(self, device: torch.device) -> "Widths":
        """The same with all facts on a device; they are moved once."""
        if device not in self._elsewhere:
            moved = copy.copy(self)
            for name in ("size", "_grain", "_least", "_most", "unit", "layer", "free", "partner"):
                setattr(moved, name, getattr(self, name).to(device))
            self._elsewhere[device] = moved
        return self._elsewhere[device]

    def present(self) -> Tensor:
        """Present widths, on the device that has them all."""
        self._check_learned()
        return torch.cat([p.detach() for p in self.parameters()])

    @torch.no_grad()
    def write_present_(self, values: Tensor) -> None:
        """Replace the widths by values on their device."""
        parameters = self.parameters()
        parts = values.split([len(p) for p in parameters])
        torch._foreach_copy_(parameters, parts)

    def write_(self, values: Tensor) -> None:
        """Replace the widths, on every process alike."""
        parameters = self.parameters()
        for p, part in zip(parameters, values.split([len(p) for p in parameters]), strict=True):
            write_(p, part.to(p.device, p.dtype))

    def samples(self, values: Tensor) -> Tensor:
        """Whole widths, as the layers round them."""
        return widths_to_samples(values, self.size, self._grain, self._least, self._most)

    def costs(self, values: Tensor) -> Tensor:
        """Cost of each width; zero where its block lacks a side."""
        width = self.samples(values)
        return self.unit * width * (width[..., self.partner] > 0)

    def cost(self, values: Tensor) -> int:
        """Cost of all widths together."""
        return int(self.costs(values).sum())

    def present_cost(self) -> int:
        """Cost of the network now."""
        return self.cost(self.values())

    def relative_cost(self) -> float:
        """Cost of the network now, as a fraction of its dense cost."""
        return self.present_cost() / max(sum(self.dense_costs), 1)

    def layer_costs(self, values: Tensor) -> list[int]:
        """Cost of each layer."""
        total = torch.zeros(len(self.layers), dtype=torch.long, device="cpu")
        return total.index_add_(0, self.layer, self.costs(values)).tolist()

    def least_costs(self) -> list[int]:
        """Cost of each layer once all widths that may shrink are zero."""
        return self.layer_costs(torch.where(self.free, 0, self.values()))

    def clipped(self, values: Tensor) -> Tensor:
        """Widths between zero and the most that their layers allow; fixed ones as they are."""
        most = self._most.to(values.dtype) / self.size.to(values.dtype)
        return torch.where(self.free, values.clamp(min=0).minimum(most), values)


@torch.no_grad()
def wrap_locations_(weights: Iterable[GaudiWeight]) -> None:
    """Bring locations back onto the circle where contents live on whole circles."""
    wrapped = []
    for weight in weights:
        locations = weight.structure.row_location, weight.structure.col_location
        for location, window, n in zip(locations, weight.max_width, weight.shape, strict=True):
            # On a window, storage follows the unwrapped location.
            if window == n and location.requires_grad:
                wrapped.append(location)
    apart = [p for p in wrapped if devices.is_apart(p.device) and not is_sharded(p)]
    if len(apart) == len(wrapped) > 0 and len({p.device for p in apart}) == 1:
        turned = torch.cat(apart) % 1.0
        torch._foreach_copy_(apart, turned.split([len(p) for p in apart]))
        return
    for location in wrapped:
        location.copy_(location % 1.0)


def _pair(weight: GaudiWeight) -> tuple[Tensor, Tensor]:
    return weight.structure.row_width, weight.structure.col_width


def _partners(counts: Sequence[int]) -> Tensor:
    """Index of the other side of every width's block."""
    parts, begin = [], 0
    for k in counts:
        own = torch.arange(begin, begin + k, device="cpu")
        parts += [own + k, own]
        begin += 2 * k
    return torch.cat(parts)


class Cap:
    """Greatest cost of a network after each step: falls to the budget, and stays there.

    `budget` is a fraction of the dense cost, and `ramp` the share of `total_steps` over which
    the cap falls.

    Examples
    --------
    >>> from structmat.nn import GaudiLinear
    >>> widths = Widths(GaudiLinear(10, 10, width_init=0.9), "multiplications")
    >>> cap = Cap(widths, 0.5, ramp=0.5, total_steps=20)
    >>> [cap(step) for step in (0, 5, 10, 11)]
    [180, 66, 50, 50]
    """

    def __init__(self, widths: Widths, budget: float, ramp: float, total_steps: int) -> None:
        if not 0 < budget <= 1:
            raise BudgetError(
                f"budget = {budget!r}; expected a fraction of the dense cost, above 0 and at most 1"
            )
        if not 0 <= ramp <= 1 or total_steps < 1:
            raise InputError(
                f"ramp = {ramp!r} of {total_steps!r} steps; expected a share in [0, 1] of at "
                "least 1 step"
            )
        self.budget = budget
        self.dense_cost = sum(widths.dense_costs)
        self.target_cost = most_cost(budget, self.dense_cost)
        self.initial_cost = max(widths.present_cost(), self.target_cost)
        self.ramp_steps = ramp * total_steps

    def __call__(self, step: int) -> int:
        """Greatest cost allowed after a number of steps."""
        return falling_cap(step, self.initial_cost, self.target_cost, self.ramp_steps)

    def check_reachable(self, least: int, what: str) -> None:
        """Refuse a budget below the least cost that a network can come to."""
        if least > self.target_cost:
            raise BudgetError(
                f"budget = {self.budget!r}, {self.target_cost} of {self.dense_cost}, but {what} "
                f"cost {least}; allow at least {least / self.dense_cost:.4g}, or lower them or "
                "have them learned"
            )


def most_cost(share: float, dense: int) -> int:
    """Greatest whole cost within a share, up to rounding: 0.07 of 100 is 7.

    Examples
    --------
    >>> most_cost(0.07, 100), int(0.07 * 100 * 0.999)
    (7, 6)
    """
    return math.floor(share * dense * (1 + _ROUNDING_ERROR))


def least_cost(share: float, dense: int) -> int:
    """Least whole cost of at least a share, up to rounding: 0.07 of 100 is 7.

    Examples
    --------
    >>> least_cost(0.07, 100), math.ceil(0.07 * 100)
    (7, 8)
    """
    return math.ceil(share * dense * (1 - _ROUNDING_ERROR))


def falling_cap(step: int, initial: int, target: int, steps: float) -> int:
    """Cap after a number of steps of a cubic ramp, which falls fastest at the beginning."""
    if step >= steps:
        return target
    return target + math.floor((initial - target) * (1 - step / steps) ** 3)
