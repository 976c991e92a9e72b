"""Which layers of a model a conversion takes, which it leaves, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from structmat.errors import InputError
from structmat.nn.models.config import Config
from structmat.nn.models.layer_types import STRUCTURED, LayerType, layer_type
from structmat.nn.models.report import SkippedLayer

Filter = Callable[[str, nn.Module], bool]
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass
class Target:
    """One weight that is to be replaced, in all the layers that share it.

    Attributes
    ----------
    names : list of str
        All names of these layers, the first of the first layer in front.
    modules : list of Module
        The layers, each once.
    type : LayerType
    matrix : Tensor, shape (m, n)
        The present weight.
    parts, taps : int
        Row blocks and column blocks that become matrices of their own.
    positions : int
        Vectors that it multiplies for one example, in all the layers together.
    """

    names: list[str]
    modules: list[nn.Module]
    type: LayerType
    matrix: Tensor
    parts: int = 1
    taps: int = 1
    positions: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Of each of its matrices."""
        m, n = self.matrix.shape
        return m // self.parts, n // self.taps

    @property
    def count(self) -> int:
        """How many matrices it becomes."""
        return self.parts * self.taps

    @property
    def axis(self) -> int:
        """The axis along which its matrices stand side by side."""
        return 0 if self.taps == 1 else 1

    def pieces(self) -> list[Tensor]:
        """Its matrices."""
        return list(self.matrix.chunk(self.count, self.axis))


@dataclass(frozen=True)
class Survey:
    """Layers to convert and layers to leave."""

    targets: list[Target]
    skipped: list[SkippedLayer]


def module_names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of every module, in the order in which they are met.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> module_names(nn.Sequential(layer, layer))[layer]
    ['0', '1']
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def survey(model: nn.Module, config: Config, filter_fn: Filter | None) -> Survey:
    """Find the layers to convert; refuse what was asked for and cannot be done.

    Raises
    ------
    InputError
        If the model is none that can be changed in place, contains converted layers, or
        has nothing to convert, or if `filter_fn` selects what cannot be converted.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> found = survey(model, Config(budget=0.2), None)
    >>> [target.names for target in found.targets], found.skipped[0].reason
    ([['0']], 'a matrix of 10x32, smaller than min_features = 16')
    """
    check_replaceable(model)
    names = module_names(model)
    inside = {m for a in names if isinstance(a, nn.MultiheadAttention) for m in a.modules()}
    picked: dict[nn.Module, Target] = {}
    reasons: dict[nn.Module, str] = {}
    wrong: dict[nn.Module, str] = {}
    for module, where in names.items():
        if not _holds_matrix(module):
            continue
        if not _is_selected(module, where, filter_fn):
            reasons[module] = "left out by filter_fn"
        elif module in inside:
            reasons[module] = "part of nn.MultiheadAttention, which multiplies by itself"
        elif complaint := _complaint(module, where[0]):
            (wrong if filter_fn else reasons)[module] = complaint
        else:
            target = _target(module, where, config)
            m, n = target.shape
            if min(m, n) < config.min_features:
                small = f"a matrix of {m}x{n}, smaller than min_features = {config.min_features}"
                reasons[module] = small
            else:
                picked[module] = target
    for module, reason in _ties(names, picked).items():
        del picked[module]
        (wrong if filter_fn else reasons)[module] = reason
    if wrong:
        listed = "; ".join(f"{names[m][0]!r}: {reason}" for m, reason in wrong.items())
        raise InputError(
            f"filter_fn selects what is not converted: {listed}; expected layers that can be "
            "(leave these out of filter_fn)"
        )
    skipped = [SkippedLayer(names[m][0], r) for m, r in reasons.items()]
    if not picked:
        why = "; ".join(f"{skip.name!r}: {skip.reason}" for skip in skipped) or "no such layers"
        raise InputError(
            f"nothing to convert in {type(model).__name__}: {why}; expected at least one nn.Linear "
            "or nn.Conv2d (see filter_fn and min_features)"
        )
    return Survey(_grouped(picked), skipped)


def check_module(model: nn.Module) -> None:
    """Refuse what is no module, or has no sizes yet."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__qualname__}; expected a torch.nn.Module")
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise InputError(
            f"parameters {lazy} are not initialised; expected sizes (run the model once first)"
        )


def check_replaceable(model: nn.Module) -> None:
    """Refuse a model whose layers cannot be replaced in place."""
    check_module(model)
    if layer_type(model) is not None or isinstance(model, STRUCTURED):
        raise InputError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "expected a module that contains it (wrap it in nn.Sequential)"
        )


def _holds_matrix(module: nn.Module) -> bool:
    if isinstance(module, (*STRUCTURED, nn.MultiheadAttention)) or layer_type(module):
        return True
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def _is_selected(module: nn.Module, where: list[str], filter_fn: Filter | None) -> bool:
    if filter_fn is None:
        return True
    answers = [bool(filter_fn(name, module)) for name in where]
    if any(answers) and not all(answers):
        raise InputError(
            f"filter_fn selects {where[answers.index(True)]!r} and not "
            f"{where[answers.index(False)]!r}, which is the same module; expected both or neither"
        )
    return answers[0]


def _complaint(module: nn.Module, name: str) -> str:
    """Why a module cannot be converted; empty if it can."""
    if isinstance(module, STRUCTURED):
        raise InputError(
            f"{name!r} is a {type(module).__name__} already; expected dense layers (leave it out "
            "with filter_fn, or undo it with to_dense_)"
        )
    kind = layer_type(module)
    if kind is None:
        return f"{type(module).__name__}, which is not converted"
    if complaint := kind.complaint(module):
        return complaint
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from others (remove weight_norm, pruning and the like)"
    if weight.dtype not in _DTYPES:
        return f"weight of {weight.dtype}; expected real floating numbers"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "hooks are registered on it (remove them first)"
    return ""


def _target(module: nn.Module, where: list[str], config: Config) -> Target:
    kind: Any = layer_type(module)
    by_taps = config.conv == "taps"
    matrix, taps = kind.matrix(module, by_taps), kind.taps(module) if by_taps else 1
    parts = _parts(module, where[0], len(matrix), config)
    return Target(where, [module], kind, matrix, parts, taps)


def _parts(module: nn.Module, name: str, rows: int, config: Config) -> int:
    parts = 1 if config.parts is None else config.parts(name, module)
    if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1 or rows % parts:  # type: ignore[redundant-expr]
        raise InputError(
            f"parts of {name!r} = {parts!r}; expected a divisor of its {rows} outputs (1 where the "
            "weight is not packed)"
        )
    if parts > 1 and isinstance(module, nn.Conv2d):
        raise InputError(f"parts of {name!r} = {parts}; expected 1 for a convolution")
    return parts


def _ties(
    names: dict[nn.Module, list[str]], picked: dict[nn.Module, Target]
) -> dict[nn.Module, str]:
    """Picked modules whose weight is held where it is not converted, and where that is."""
    holders: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in names:
        for key, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(parameter, []).append((module, key))
    found = {}
    for module, target in picked.items():
        for other, key in holders[module._parameters["weight"]]:
            same = other in picked and key == "weight" and picked[other].type is target.type
            if not same or picked[other].parts != target.parts:
                label = ".".join(part for part in (names[other][0], key) if part)
                found[module] = (
                    f"its weight is tied to {label!r} of a {type(other).__name__}, which is not "
                    "converted with it"
                )
    return found


def _grouped(picked: dict[nn.Module, Target]) -> list[Target]:
    """One target for each weight, however many layers share it."""
    groups: dict[nn.Parameter, Target] = {}
    for module, target in picked.items():
        first = groups.setdefault(module._parameters["weight"], target)
        if first is not target:
            first.names += target.names
            first.modules += target.modules
    return list(groups.values())
