"""Modules of a model: their names, checks before a change, and replacement in place."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import MethodType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from structmat.errors import InputError
from structmat.nn.models.carry import (
    KEPT,
    bind_,
    carry_lost_,
    inner_modules,
    leaving,
    obstacle,
    share_,
)
from structmat.nn.models.layer_types import STRUCTURED, layer_type

#: Wrappers that keep lists of the parameters they found, by the names of their classes.
_WRAPPERS = {
    "DistributedDataParallel",
    "FullyShardedDataParallel",
    "FSDPModule",
    "DeepSpeedEngine",
}


def module_names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """List all names of every module, in the order of `named_modules`."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def check_module(model: nn.Module) -> None:
    """Refuse an object that is not a module, or a module with lazy parameters."""
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
    check_wrappers(model)


def check_wrappers(model: nn.Module) -> None:
    """Refuse a model inside a wrapper that would go on with the parameters it has found."""
    for name, module in model.named_modules():
        found = _WRAPPERS & {base.__name__ for base in type(module).__mro__}
        if found:
            raise InputError(
                f"{name or 'model'!r} is wrapped as {min(found)}, which keeps the parameters that "
                "it has found; expected a model before it is wrapped (change the layers first, "
                "then wrap the model and make the optimizer; of a trained one, take the .module of "
                "DistributedDataParallel, or load the gathered state of a sharded one into a "
                "network that was converted alike)"
            )


def put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module under a name of the model."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def obstacles(
    model: nn.Module, layers: Mapping[nn.Module, Collection[str]]
) -> dict[nn.Module, str]:
    """Find the layers that cannot be replaced, each with the reason.

    `layers` has the names of the parameters that the new layer takes from the old one.
    """
    found = {layer: why for layer, kept in layers.items() if (why := obstacle(layer, kept))}
    owners = {id(inner): layer for layer in layers for inner in inner_modules(layer)}
    staying = {m: names[0] for m, names in module_names(model).items() if id(m) not in owners}
    for layer, kept in layers.items():
        owners |= {id(parameter): layer for _, parameter in leaving(layer, kept)}
    for module, name in staying.items():
        for layer, reason in _references(module, name or "the model", owners):
            found.setdefault(layer, reason)
    return found


def _references(
    module: nn.Module, name: str, owners: Mapping[int, nn.Module]
) -> Iterator[tuple[nn.Module, str]]:
    """Yield the layers that a module would go on using after they were replaced."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    reasons = {
        "torch": f"{name!r} is compiled around it (compile after the change)",
        "peft": f"{name!r} is a {kind}, which changes its weight (merge the adapters first)",
    }
    around = kind.startswith(("torch._dynamo.", "peft."))
    tables = (module._parameters, module._modules, module._buffers)
    for key, value in vars(module).items():
        if value is module._modules and around:
            reason = reasons[kind.partition(".")[0]]
        elif any(value is table for table in tables):
            continue
        else:
            reason = f"{name!r} keeps it, or a weight of it, in its attribute {key!r} (delete that)"
        for one in _held(value):
            if id(one) in owners:
                yield owners[id(one)], reason


def _held(value: Any, seen: frozenset[int] = frozenset()) -> Iterator[Any]:
    """Yield a value and what lies in it: entries of containers, owners of bound methods."""
    yield value
    if isinstance(value, MethodType):
        inner: Iterable[Any] = [value.__self__]
    elif isinstance(value, partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name, None) for field in fields(value)]
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        inner = value
    else:
        inner = value.values() if isinstance(value, dict) else ()
    if id(value) not in seen:
        for one in inner:
            yield from _held(one, seen | {id(value)})


def check_obstacles(model: nn.Module, layers: Mapping[nn.Module, Collection[str]]) -> None:
    """Refuse layers that cannot be replaced, in the words of `obstacles`."""
    found = obstacles(model, layers)
    if found:
        names = module_names(model)
        listed = "; ".join(f"{names[layer][0]!r}: {reason}" for layer, reason in found.items())
        raise InputError(f"layers that cannot be replaced: {listed}; expected none of these")


def check_untied(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Refuse layers whose weights are also parameters of modules that stay."""
    layers = list(layers)
    inside = {id(inner) for layer in layers for inner in inner_modules(layer)}
    lost = {id(p): layer for layer in layers for _, p in leaving(layer, KEPT)}
    names = module_names(model)
    for module, where in names.items():
        for key, parameter in module._parameters.items() if id(module) not in inside else ():
            if id(parameter) in lost:
                raise InputError(
                    f"{names[lost[id(parameter)]][0]!r} shares a parameter with "
                    f"{f'{where[0]}.{key}'.lstrip('.')!r}; expected parameters of its own (give "
                    "one of them a copy)"
                )


def replace_(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> dict[nn.Module, list[str]]:
    """Replace modules everywhere in the model, and list the names of the new ones.

    A new module takes the mode, training or evaluation, and the attachments of the old one.
    """
    placed = {}
    for module, names in module_names(model).items():
        if module in new:
            successor = new[module].train(module.training)
            share_(module, successor)
            carry_lost_(module, successor, KEPT)
            bind_(module, successor)
            placed[successor] = names
            for name in names:
                put_module(model, name, successor)
    return placed
