"""Layers that a conversion takes, and layers that it leaves with the reason why."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.nn.models.config import Config
from structmat.nn.models.layer_types import STRUCTURED, LayerType, layer_type
from structmat.nn.models.modules import check_replaceable, module_names
from structmat.nn.models.report import SkippedLayer

Filter = Callable[[str, nn.Module], bool]
_FLOATING_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass
class Target:
    """One weight that a conversion replaces, in all layers that share it."""

    #: All names of these layers, the first of the first layer in front.
    names: list[str]
    modules: list[nn.Module]
    type: LayerType
    #: The present weight, (m, n).
    matrix: Tensor
    #: Row blocks and column blocks that become matrices of their own.
    parts: int = 1
    taps: int = 1
    #: Vectors that the weight multiplies for one example, in all layers together.
    vectors_per_example: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of each of the matrices that replace the weight."""
        m, n = self.matrix.shape
        return m // self.parts, n // self.taps

    @property
    def count(self) -> int:
        """Number of matrices that replace the weight."""
        return self.parts * self.taps

    @property
    def axis(self) -> int:
        """Axis along which these matrices stand side by side."""
        return 0 if self.taps == 1 else 1

    def pieces(self) -> list[Tensor]:
        """Cut the weight into the blocks that these matrices replace."""
        return list(self.matrix.chunk(self.count, self.axis))


@dataclass(frozen=True)
class Selection:
    """Layers that a conversion takes, and layers that it leaves."""

    targets: list[Target]
    skipped: list[SkippedLayer]


def find_targets(model: nn.Module, config: Config, filter_fn: Filter | None) -> Selection:
    """Find the layers to convert, and refuse a request that cannot be met.

    Refused is a model that cannot be changed in place, contains converted layers, or has
    nothing to convert, and a `filter_fn` that selects a module that cannot be converted.
    """
    check_replaceable(model)
    names = module_names(model)
    inside = {m for a in names if isinstance(a, nn.MultiheadAttention) for m in a.modules()}
    picked: dict[nn.Module, Target] = {}
    reasons: dict[nn.Module, str] = {}
    wrong: dict[nn.Module, str] = {}
    # A layer that was asked for is an error, not a layer that is left.
    refused = wrong if filter_fn else reasons
    kinds = {module: layer_type(module) for module in names}
    for module, kind in kinds.items():
        where = names[module]
        if not _holds_matrix(module, kind):
            continue
        if not _is_selected(module, where, filter_fn):
            reasons[module] = "left out by filter_fn"
        elif module in inside:
            reasons[module] = "part of nn.MultiheadAttention, which multiplies without calling it"
        elif kind is None:
            refused[module] = _unknown_type(module, where[0])
        elif complaint := _complaint(module, kind):
            refused[module] = complaint
        else:
            target = _target(module, kind, where, config)
            m, n = target.shape
            if min(m, n) < config.min_features:
                small = f"a matrix of {m}x{n}, smaller than min_features = {config.min_features}"
                reasons[module] = small
            else:
                picked[module] = target
    for module, reason in _ties(names, picked).items():
        del picked[module]
        refused[module] = reason
    if wrong:
        listed = "; ".join(f"{names[m][0]!r}: {reason}" for m, reason in wrong.items())
        raise InputError(
            f"filter_fn selects modules that cannot be converted: {listed}; expected none of these "
            "(leave them out of filter_fn)"
        )
    skipped = [SkippedLayer(names[m][0], r) for m, r in reasons.items()]
    if not picked:
        why = "; ".join(f"{skip.name!r}: {skip.reason}" for skip in skipped) or "no such layers"
        raise InputError(
            f"nothing to convert in {type(model).__name__}: {why}; expected at least one nn.Linear "
            "or nn.Conv2d (see filter_fn and min_features)"
        )
    return Selection(_grouped(picked), skipped)


def _holds_matrix(module: nn.Module, kind: LayerType | None) -> bool:
    if kind is not None or isinstance(module, (*STRUCTURED, nn.MultiheadAttention)):
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


def _unknown_type(module: nn.Module, name: str) -> str:
    """Reason why a module without a `LayerType` stays; structured layers are refused."""
    if isinstance(module, STRUCTURED):
        raise InputError(
            f"{name!r} is a {type(module).__name__} already; expected dense layers (leave it out "
            "with filter_fn, or undo it with to_dense_)"
        )
    return f"{type(module).__name__}, which is not converted"


def _complaint(module: nn.Module, kind: LayerType) -> str:
    """Reason why a layer cannot be converted; empty if it can."""
    if complaint := kind.complaint(module):
        return complaint
    weight = module._parameters.get("weight")
    if weight is None:
        return (
            "its weight is computed from other tensors (remove weight_norm, pruning and the like)"
        )
    if weight.dtype not in _FLOATING_DTYPES:
        return f"weight of {weight.dtype}; expected real floating numbers"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "hooks are registered on it (remove them first)"
    return ""


def _target(module: nn.Module, kind: LayerType, where: list[str], config: Config) -> Target:
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
    """Find the picked modules that share their weight with a module that is not converted."""
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
    """Merge the targets of layers that share a weight."""
    groups: dict[nn.Parameter, Target] = {}
    for module, target in picked.items():
        first = groups.setdefault(module._parameters["weight"], target)
        if first is not target:
            first.names += target.names
            first.modules += target.modules
    return list(groups.values())
