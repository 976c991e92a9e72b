"""Attachments of a layer, carried to the layer that takes its place.

An attachment is all that a layer has and a new one of its type lacks: hooks, attributes of
the instance, further buffers, parameters and submodules, hooks and attributes of its
parameters, hooks of accelerate. Every replacement asks `obstacle` first, so that nothing is
lost in silence.
"""

import importlib
import types
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from structmat.nn.models.layer_types import STRUCTURED, fresh

_BARE = vars(nn.Module())
#: Tables of hooks, and of marks on hooks, that every module has.
_TABLES = tuple(name for name in _BARE if "hooks" in name)
#: Attributes through which accelerate attaches a hook to a module.
_ACCELERATE = ("_hf_hook", "_old_forward")
#: Names of submodules that hold the weights of structured layers.
_WEIGHT_NAMES = ("matrix", "taps", "parts")
#: Parameters that a replacement of dense or structured layers takes over as they are.
KEPT = ("bias", "in_proj_bias", "bias_k", "bias_v", "out_proj.bias")


def obstacle(layer: nn.Module, kept: Collection[str]) -> str:
    """Name an attachment that cannot move to another layer, with the remedy; empty if all can.

    `kept` names the parameters of the layer that its replacement has as well.
    """
    own = fresh(layer)
    if found := parametrized(layer):
        return f"it is {found}"
    if isinstance(layer, STRUCTURED) and type(layer) is not type(own):
        kind = type(layer).__name__
        return f"it is a {kind} instead of a {type(own).__name__} (undo what changed its class)"
    checks = (
        _compiled(layer),
        _attributes(layer, own),
        *(_attached_inside(name, module) for name, module in _inside(layer, own).items()),
        *(_attached_to(name, one) for name, one in leaving(layer, kept)),
    )
    return next(filter(None, checks), "")


def leaving(layer: nn.Module, kept: Collection[str]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that are lost when a layer is replaced, by name."""
    slots = _slots(fresh(layer))
    for name, parameter in layer.named_parameters():
        if name not in kept and name.partition(".")[0] in slots:
            yield name, parameter


def inner_modules(layer: nn.Module) -> list[nn.Module]:
    """List the layer and the modules of which its weights consist."""
    return [layer, *_inside(layer, fresh(layer)).values()]


def share_(old: nn.Module, new: nn.Module) -> None:
    """Give a layer the attachments of the one that it replaces, which keeps them as well."""
    own = fresh(old)
    new._is_full_backward_hook = old._is_full_backward_hook
    for name in _TABLES:
        present, attached = vars(new)[name], getattr(old, name)
        if not isinstance(attached, dict) or not attached:
            continue
        # The very table, so that handles of its hooks still remove them.
        vars(new)[name] = OrderedDict(present | attached) if present else attached
    for name, value in attributes(old, own).items():
        if name not in (*_ACCELERATE, "forward"):
            vars(new)[name] = value
    for table in ("_parameters", "_buffers", "_modules"):
        for name in vars(old)[table].keys() - vars(own)[table].keys():
            if name not in _slots(own):
                vars(new)[table][name] = vars(old)[table][name]
    new._non_persistent_buffers_set |= old._non_persistent_buffers_set & new._buffers.keys()


def bind_(old: nn.Module, new: nn.Module) -> None:
    """Tell attachments that know their module, which `share_` moved, of the new one."""
    for hook in new._load_state_dict_pre_hooks.values():
        if getattr(hook, "with_module", False):
            type(hook).__init__(hook, hook.hook, new)  # torch keeps a weak reference
    hook = vars(old).get("_hf_hook")
    if hook is not None:
        importlib.import_module("accelerate.hooks").add_hook_to_module(new, hook)


def carry_parameter_(old: nn.Parameter, new: nn.Parameter) -> None:
    """Give a parameter the hooks and attributes of the one that it replaces."""
    if old is new:
        return
    vars(new).update(vars(old))
    for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(old, name, None):
            setattr(new, name, getattr(old, name))


def carry_attributes_(old: Iterable[nn.Parameter], new: Iterable[nn.Parameter]) -> None:
    """Give parameters the attributes that libraries set on those that they replace."""
    found = {name: value for parameter in old for name, value in vars(parameter).items()}
    for parameter in new:
        vars(parameter).update(found)


def carry_lost_(old: nn.Module, new: nn.Module, kept: Collection[str]) -> None:
    """Give the weights of a layer the attributes of those that it replaces."""
    carry_attributes_((p for _, p in leaving(old, kept)), (p for _, p in leaving(new, kept)))


def attributes(layer: nn.Module, own: nn.Module) -> dict[str, Any]:
    """Attributes of the instance that a new layer of its type lacks."""
    return {name: value for name, value in vars(layer).items() if name not in vars(own)}


def parametrized(module: nn.Module) -> str:
    """Describe the parametrizations of a module, with the remedy; empty without."""
    if not parametrize.is_parametrized(module):
        return ""
    found: Any = module.parametrizations
    by = ", ".join(f"{name} by {type(one[0]).__name__}" for name, one in found.items())
    return f"parametrized, {by} (undo it with torch.nn.utils.parametrize.remove_parametrizations)"


def has_hooks(module: nn.Module) -> bool:
    """Tell whether anybody but structmat has registered a hook on a module."""
    hooks = (hook for name in _TABLES for hook in _entries(getattr(module, name)))
    return any(not str(getattr(h, "__module__", None)).startswith("structmat.") for h in hooks)


def _entries(table: Any) -> list[Any]:
    """Hooks in one of a module's tables; others mark hooks by True, or hold one mark."""
    return [hook for hook in table.values() if callable(hook)] if isinstance(table, dict) else []


def _slots(own: nn.Module) -> set[str]:
    """Names that a layer's type itself uses, in any of its tables."""
    return {*vars(own), *own._parameters, *own._buffers, *own._modules}


def _inside(layer: nn.Module, own: nn.Module) -> dict[str, nn.Module]:
    """Modules of which the layer's weights consist, by name."""
    parts = [(name, layer._modules[name]) for name in own._modules]
    return {
        f"{name}.{path}" if path else name: module
        for name, part in parts
        if part is not None
        for path, module in part.named_modules()
    }


def _compiled(layer: nn.Module) -> str:
    if vars(layer).get("_compiled_call_impl") is None:
        return ""
    return "it was compiled by its method compile (compile after the change)"


def _attributes(layer: nn.Module, own: nn.Module) -> str:
    for name in _slots(own) & {*KEPT, "weight", "in_proj_weight"}:
        if isinstance(vars(layer).get(name), Tensor):
            return f"its {name} is computed from other tensors (remove pruning and the like)"
    found = attributes(layer, own)
    hook = found.pop("_hf_hook", None)
    if hook is not None:
        found = {n: v for n, v in found.items() if n not in (*_ACCELERATE, "forward")}
        if any(getattr(h, "offload", False) for h in getattr(hook, "hooks", [hook])):
            return "accelerate offloads its weights (load the model without offloading)"
    extra = {
        name: value
        for table in ("_parameters", "_buffers", "_modules")
        for name, value in vars(layer)[table].items()
        if name not in _slots(own)
    }
    hooks = (hook for table in _TABLES for hook in _entries(getattr(layer, table)))
    if any(_knows(hook, layer) for hook in hooks):
        return "a hook is a method of it (remove it, and register it again after)"
    for name, value in {**found, **extra}.items():
        if name == "forward":
            return f"its {name} is replaced on the instance (delete it, and set it again after)"
        if _knows(value, layer):
            return f"its attribute {name!r} is bound to it (delete it, and set it again after)"
        if name in _WEIGHT_NAMES or any(hasattr(kind, name) for kind in STRUCTURED):
            return f"its attribute {name!r} means something else on other layers (rename it)"
    return ""


def _knows(value: Any, layer: nn.Module) -> bool:
    """Tell whether a method, or a partial function, is bound to the layer."""
    if isinstance(value, types.MethodType):
        return value.__self__ is layer
    return isinstance(value, partial) and any(one is layer for one in value.args)


def _attached_inside(name: str, module: nn.Module) -> str:
    if found := parametrized(module):
        return f"{name} is {found}"
    if has_hooks(module):
        return f"hooks are registered on {name}, which the change removes (remove them first)"
    return _compiled(module) and f"{name} was compiled by its method compile (compile it after)"


def _attached_to(name: str, parameter: nn.Parameter) -> str:
    if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
        return f"hooks are registered on its {name}, which the change replaces (remove them)"
    for key, value in vars(parameter).items():
        if isinstance(value, Tensor):
            return f"its {name} has a tensor as attribute {key!r}, which cannot follow (delete it)"
    return ""
