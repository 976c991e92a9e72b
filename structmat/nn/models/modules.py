"""Modules of a model: their names, checks before a change, and replacement in place."""

from collections.abc import Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from structmat.errors import InputError
from structmat.nn.models.layer_types import STRUCTURED, layer_type


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


def put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module under a name of the model."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def replace_(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> dict[nn.Module, list[str]]:
    """Replace modules everywhere in the model, and list the names of the new ones.

    A new module takes the mode, training or evaluation, of the old one.
    """
    placed = {}
    for module, names in module_names(model).items():
        if module in new:
            placed[new[module].train(module.training)] = names
            for name in names:
                put_module(model, name, new[module])
    return placed
