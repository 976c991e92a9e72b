"""Layers that a conversion takes, and layers that it leaves with the reason why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.nn.models.carry import KEPT, parametrized
from structmat.nn.models.config import Config
from structmat.nn.models.layer_types import LAYERS, STRUCTURED, LayerType, layer_type
from structmat.nn.models.modules import module_names, obstacles
from structmat.nn.models.report import SkippedLayer
from structmat.nn.structured.attention import SplitAttention

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
    #: Whether an example has counted them.
    counted: bool = False

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


def find_targets(
    model: nn.Module,
    config: Config,
    filter_fn: Filter | None,
    unsplit: Mapping[nn.Module, str] = MappingProxyType({}),
) -> Selection:
    """Find the layers to convert, and refuse a request that cannot be met.

    Refused is a model that contains converted layers or has nothing to convert, and a
    `filter_fn` that selects a module that cannot be converted. `unsplit` has the attentions
    whose projections are no layers, with the reason.
    """
    names = module_names(model)
    chosen = _chosen(names, filter_fn)
    inside = {m: a for a in names if isinstance(a, nn.MultiheadAttention) for m in a.modules()}
    picked: dict[nn.Module, Target] = {}
    reasons: dict[nn.Module, str] = {}
    wrong: dict[nn.Module, str] = {}
    # A layer that was asked for is an error, not a layer that is left.
    refused = wrong if filter_fn else reasons
    for module, where in names.items():
        kind = layer_type(module)
        if module not in chosen:
            if reason := _other_weights(module, config):
                reasons[module] = reason
        elif not chosen[module]:
            reasons[module] = "left out by filter_fn"
        elif module in unsplit:
            refused[module] = unsplit[module]
        elif module in inside:
            reasons[module] = _inside_attention(module, inside[module])
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
    for find in (_obstacles, _ties):
        for module, reason in find(model, names, picked).items():
            del picked[module]
            refused[module] = reason
    if wrong:
        listed = "; ".join(f"{names[m][0]!r}: {reason}" for m, reason in wrong.items())
        raise InputError(
            f"filter_fn selects modules that cannot be converted: {listed}; expected none of these "
            "(leave them out of filter_fn)"
        )
    skipped = [SkippedLayer(names[m][0], reasons[m]) for m in names if m in reasons]
    if not picked:
        why = "; ".join(f"{skip.name!r}: {skip.reason}" for skip in skipped) or "no such layers"
        raise InputError(
            f"nothing to convert in {type(model).__name__}: {why}; expected at least one "
            "nn.Linear, nn.Conv2d or nn.MultiheadAttention (see filter_fn and min_features)"
        )
    return Selection(_grouped(picked), skipped)


def check_weights(targets: list[Target], *, needed: bool) -> None:
    """Refuse weights without contents and, if the contents are needed, NaN and infinite ones."""
    for target in targets:
        name = target.names[0]
        if target.matrix.device.type == "meta":
            raise InputError(
                f"{name!r} is on the meta device, without contents; expected a device that holds "
                "some (build the model there, or move it with to_empty)"
            )
        if needed and not torch.isfinite(target.matrix).all():
            raise InputError(
                f"{name!r} has NaN or infinite weights; expected finite ones (correct them, "
                "or take start='scratch')"
            )


def _chosen(names: dict[nn.Module, list[str]], filter_fn: Filter | None) -> dict[nn.Module, bool]:
    """Tell for every module with a weight matrix whether it is selected.

    A filter that selects an attention and none of its projections selects all of them.
    """
    chosen = {m: _is_selected(m, names[m], filter_fn) for m in names if _holds_matrix(m)}
    for attention in names:
        if isinstance(attention, SplitAttention) and filter_fn is not None:
            layers = [layer for layer in attention.children() if layer in chosen]
            if not any(chosen[layer] for layer in layers):
                whole = _is_selected(attention, names[attention], filter_fn)
                chosen |= dict.fromkeys(layers, whole)
    return chosen


def _holds_matrix(module: nn.Module) -> bool:
    if layer_type(module) is not None or isinstance(module, (*STRUCTURED, nn.MultiheadAttention)):
        return True
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def _other_weights(module: nn.Module, config: Config) -> str:
    """Reason why a module with matrices under other names than weight stays; empty without."""
    found = [
        f"{name} of {'x'.join(map(str, parameter.shape))}"
        for name, parameter in module._parameters.items()
        if parameter is not None
        and parameter.ndim > 1
        and min(parameter.shape[-2:]) >= config.min_features
    ]
    ours = type(module).__module__.startswith("structmat.")
    if not found or ours:
        return ""
    return f"{full_name(module)}, which is not converted ({', '.join(found)})"


def _inside_attention(module: nn.Module, attention: nn.Module) -> str:
    kind = full_name(attention)
    if kind != "MultiheadAttention":
        kind += ", a subclass of MultiheadAttention"
    if module is attention:
        return f"{kind}, which is not converted (only the class itself is)"
    return f"part of nn.{kind}, which multiplies without calling it"


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
    name = full_name(module)
    if found := parametrized(module):
        return f"{name}, {found}"
    base = next((base for base in type(module).__mro__[1:] if base in LAYERS), None)
    if base is None:
        return f"{name}, which is not converted"
    return (
        f"{name}, a subclass of nn.{base.__name__}, which is not converted, since its forward may "
        f"compute something else (put an nn.{base.__name__} of the same weight there if not)"
    )


def full_name(module: object) -> str:
    """Name of an object's type, with its module unless that is torch's own."""
    kind = type(module)
    own = kind.__module__.startswith("torch.nn.")
    return kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"


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
    if type(weight) is not nn.Parameter:
        return (
            f"its weight is a {full_name(weight)}; expected an ordinary nn.Parameter (convert "
            "before the model is quantized or sharded)"
        )
    axes = 4 if isinstance(module, nn.Conv2d) else 2
    if weight.ndim != axes:
        return (
            f"its weight has shape {tuple(weight.shape)}; expected {axes} axes (gather the weights "
            "of a sharded model)"
        )
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


def _obstacles(
    model: nn.Module, names: dict[nn.Module, list[str]], picked: dict[nn.Module, Target]
) -> dict[nn.Module, str]:
    """Find the picked modules with attachments that cannot move to another layer."""
    return obstacles(model, dict.fromkeys(picked, KEPT))


def _ties(
    model: nn.Module, names: dict[nn.Module, list[str]], picked: dict[nn.Module, Target]
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
