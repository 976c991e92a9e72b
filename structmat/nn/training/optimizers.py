"""Optimizers that a rule follows: found behind wrappers, and checked for what they train."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn, optim

from structmat.errors import InputError
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.sharded import is_flattened

#: Libraries whose wrappers of optimizers change no parameters themselves.
_PASSING_ON = {"accelerate", "lightning", "lightning_fabric", "pytorch_lightning"}
#: Attributes under which wrappers keep the optimizer that they wrap.
_WRAPPED = ("optimizer", "optim", "base_optimizer", "_optimizer", "_base_optimizer", "inner")
#: Code of the function that torch puts around a step to call its hooks.
_STEP_CODE = optim.Optimizer.profile_hook_step(len).__code__
#: Configurations that make layers of these weights.
_CONFIGS: dict[type[nn.Module], str] = {
    GaudiWeight: 'Config(kind="gblr", learn="gaudi", budget=…)',
    AnnealWeight: "Config(budget=…)",
}
#: First values of the states that the optimizers of torch keep, by name: numbers, or the
#: settings of theirs that the values are.
_STARTS: dict[str, float | str] = {
    **dict.fromkeys(("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf"), 0.0),
    **dict.fromkeys(("momentum_buffer", "square_avg", "grad_avg", "acc_delta", "prev"), 0.0),
    "mu_product": 1.0,
    "mu": 1.0,
    "ax": 0.0,
    "eta": "lr",
    "step_size": "lr",
    "sum": "initial_accumulator_value",
}
#: Names under which torch's optimizers keep means of gradients, and of their squares.
_FIRST_MOMENTS = {"exp_avg", "grad_avg", "momentum_buffer"}
_SECOND_MOMENTS = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"}
#: Names that a message lists in full.
_NAMES_LISTED = 4


def find_optimizers(given: Any) -> list[optim.Optimizer]:
    """Find the optimizers that take the steps behind one optimizer, or several.

    Wrappers of accelerate and Lightning stand for the optimizer inside.

    Raises
    ------
    InputError
        If there is none, or its steps call no hooks.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    >>> find_optimizers([optimizer, optimizer]) == [optimizer]
    True
    """
    several = isinstance(given, Iterable) and not isinstance(given, str | Mapping | Tensor)
    found = [_find(each) for each in (given if several else [given])]
    if not found:
        raise InputError(
            "optimizer is an empty list; expected at least one (the trainer may not have made "
            "its optimizers yet)"
        )
    return list(dict.fromkeys(found))


def _find(given: Any) -> optim.Optimizer:
    present = given
    while not _calls_hooks(present):
        inside = next((vars(present)[n] for n in _WRAPPED if n in _attributes(present)), None)
        if inside is None or not _passes_on(present):
            raise InputError(_refusal(present, inside))
        present = inside
    return present


def is_inner_step(optimizer: optim.Optimizer) -> bool:
    """Tell whether a hook is called by a step within another step of the same optimizer.

    A class that calls the step of its base, which torch gives hooks as well, calls each hook
    twice.
    """
    steps = [vars(c)["step"] for c in type(optimizer).__mro__ if "step" in vars(c)]
    if sum(getattr(step, "hooked", False) for step in steps) < 2:
        return False
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        if frame.f_code is _STEP_CODE and frame.f_locals["args"][0] is optimizer:
            depth += 1
        frame = frame.f_back
    return depth > 1


def _attributes(thing: Any) -> Mapping[str, Any]:
    return {} if isinstance(thing, type) else getattr(thing, "__dict__", {})


def _calls_hooks(thing: Any) -> bool:
    """Tell whether it is an optimizer whose constructor has set up the hooks of its steps."""
    own_step = getattr(type(thing), "step", None)
    return (
        isinstance(thing, optim.Optimizer)
        and "_optimizer_step_post_hooks" in vars(thing)
        and getattr(own_step, "hooked", False)
    )


def _passes_on(thing: Any) -> bool:
    return any(c.__module__.partition(".")[0] in _PASSING_ON for c in type(thing).__mro__)


def _refusal(thing: Any, inside: Any) -> str:
    """Words for what was given instead of an optimizer, and for what to pass."""
    name = type(thing).__qualname__
    if isinstance(thing, optim.lr_scheduler.LRScheduler) or hasattr(thing, "get_last_lr"):
        return (
            f"optimizer is a {name}, a schedule of learning rates; expected the optimizer whose "
            "rates it changes (often its attribute .optimizer)"
        )
    if hasattr(thing, "unscale_"):
        return (
            f"optimizer is a {name}, which scales gradients; expected the optimizer that its "
            "step(optimizer) gets"
        )
    if hasattr(thing, "optimizers"):
        return (
            f"optimizer is a {name}; expected its optimizers (pass .optimizers, once training "
            "has begun)"
        )
    if inside is not None:
        place = next(n for n in _WRAPPED if n in _attributes(thing))
        return (
            f"optimizer is a {name} around a {type(inside).__qualname__}, and its steps call no "
            "hooks of torch.optim.Optimizer; expected an optimizer whose steps do (pass its "
            f"attribute .{place} if the {name} changes no parameters after that one's step; else "
            "have its constructor call torch.optim.Optimizer.__init__)"
        )
    if isinstance(thing, optim.Optimizer):
        return (
            f"optimizer is a {name} whose steps call no hooks; expected an optimizer whose "
            "constructor calls torch.optim.Optimizer.__init__"
        )
    what = f"the class {thing.__qualname__}" if isinstance(thing, type) else f"a {name}"
    return (
        f"optimizer is {what}; expected a torch.optim.Optimizer, or a list of them (for a "
        "wrapper, the optimizer that it wraps)"
    )


class Followed:
    """Parameters of a model's learned weights, which optimizers train throughout.

    The model may change in all other parts.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer, or several
        Each parameter that requires a gradient belongs to one of them. A wrapper of
        accelerate or Lightning stands for the optimizer inside.
    types : tuple of type
        Modules whose parameters are followed. The first is the type of the weights.

    Raises
    ------
    InputError
        If the model has no such weights or is sharded by FSDP1, an optimizer calls no hooks, or
        a parameter is in none of them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        types: tuple[type[nn.Module], ...] = (GaudiWeight, GaudiStructure),
    ) -> None:
        self._model, self.optimizers, self._types = model, find_optimizers(optimizer), types
        self._first = [p for _, p in self._parameters()]
        if any(map(is_flattened, model.parameters())):
            raise InputError(
                f"{type(model).__name__} is sharded by FullyShardedDataParallel into pieces of "
                "flat tensors; expected parameters of their own shapes (take fully_shard, FSDP2)"
            )
        # A weight without blocks has no parameters, and nothing to learn.
        if not any(isinstance(module, types[0]) for module in model.modules()):
            raise InputError(
                f"{type(model).__name__} has no layers with a {types[0].__name__}; expected at "
                f"least one (convert it first: structmat.nn.convert_(model, {_CONFIGS[types[0]]}))"
            )
        self._refuse_others()

    def _parameters(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        for path, module in self._model.named_modules():
            if isinstance(module, self._types):
                for name, parameter in module.named_parameters(recurse=False):
                    yield (path, name), parameter

    def check(self) -> None:
        """Refuse a step if parameters were replaced, or are in no optimizer any more."""
        present = [p for _, p in self._parameters()]
        same = len(present) == len(self._first) and all(map(_is, present, self._first))
        if not same:
            known = {id(p) for p in self._first}
            new = [name for name, p in self._parameters() if id(p) not in known]
            what = f"{_listed(new)} came" if new else "some layers went"
            raise InputError(
                f"{what} after the rule was made; expected the parameters of learned layers to "
                "stay (after convert_, freeze_, load_state_dict(…, assign=True) or another "
                "replacement, call the rule's remove(), then make a new optimizer and a new rule)"
            )
        self._refuse_others()

    def _refuse_others(self) -> None:
        """Refuse parameters that require gradients and that no optimizer has."""
        has = {i for o in self.optimizers for i in _ids(o)}
        lacking = [n for n, p in self._parameters() if p.requires_grad and id(p) not in has]
        if lacking:
            kinds = ", ".join(sorted({type(o).__qualname__ for o in self.optimizers}))
            raise InputError(
                f"the optimizer ({kinds}) lacks {_listed(lacking)}, of {len(self._first)} "
                "parameters of learned layers; expected all that require a gradient, in an "
                "optimizer that was made after the conversion, from parameter_groups(model, …) "
                "or model.parameters() (pass several optimizers as a list; fix what is not to "
                "be trained with requires_grad_(False))"
            )

    def acting(self) -> list[optim.Optimizer]:
        """Optimizers that have some of the parameters; all of them if none has."""
        own = {id(p) for _, p in self._parameters()}
        found = [o for o in self.optimizers if not own.isdisjoint(_ids(o))]
        return found or self.optimizers

    def is_adaptive(self, parameter: Tensor) -> bool:
        """Tell whether steps do not grow with gradients: an optimizer keeps second moments."""
        return not _SECOND_MOMENTS.isdisjoint(self._kept(parameter))

    @torch.no_grad()
    def rescale(self, parameter: Tensor, ratio: float) -> None:
        """Have the moments of a parameter be those of gradients that are `ratio` as large."""
        if ratio == 1:
            return
        for name, value in self._kept(parameter).items():
            if name in _SECOND_MOMENTS:
                value.mul_(ratio**2)
            elif name in _FIRST_MOMENTS:
                value.mul_(ratio)

    def _kept(self, parameter: Tensor) -> Mapping[str, Any]:
        """State of the optimizers for a parameter, by name."""
        found = (o.state[parameter] for o in self.optimizers if parameter in o.state)
        return next(found, {})

    def forget(self, parameter: Tensor) -> None:
        """Let the optimizers begin with a parameter as if it were new."""
        for optimizer in self.optimizers:
            if parameter in optimizer.state:
                _begin_with(optimizer, parameter)


def _begin_with(optimizer: optim.Optimizer, parameter: Tensor) -> None:
    """Give a parameter the state that it has before its first step.

    A known state stays where it is, as distributed checkpoints hold one of each parameter, and
    some optimizers make it once and for all. Others make a new one in the next step.
    """
    kept = optimizer.state[parameter]
    if not kept.keys() <= _STARTS.keys():
        del optimizer.state[parameter]
        return
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    for name, value in kept.items():
        start = _STARTS[name]
        if isinstance(value, Tensor):
            value.fill_(group[start] if isinstance(start, str) else start)


def _ids(optimizer: optim.Optimizer) -> list[int]:
    return [id(p) for group in optimizer.param_groups for p in group["params"]]


def _is(a: object, b: object) -> bool:
    return a is b


def _listed(names: list[tuple[str, str]]) -> str:
    """Names of parameters; those of a long list counted."""
    full = [f"{path}.{name}" if path else name for path, name in names]
    rest = len(full) - _NAMES_LISTED
    return ", ".join(full[:_NAMES_LISTED]) + (f" and {rest} more" if rest > 0 else "")
