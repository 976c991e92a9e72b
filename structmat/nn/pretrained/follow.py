"""Pretrained models that are enabled when their layers are replaced."""

import sys
import warnings
from typing import Any

import torch
from torch import nn

from structmat.nn.models.modules import put_module


def follow(model: nn.Module) -> None:
    """Enable the models of transformers in a model whose layers were replaced.

    Transformers is not imported: a model of it is there only if somebody else has done so.
    """
    known: Any = sys.modules.get("transformers.modeling_utils")
    if known is None:
        return
    for found in _outermost(model, known.PreTrainedModel):
        from structmat.nn.pretrained.quantizer import StructureQuantizer, enable

        _transpose_linears_(found, known.PreTrainedModel)
        present = getattr(found, "hf_quantizer", None)
        if present is None or isinstance(present, StructureQuantizer):
            enable(found)
        else:
            warnings.warn(
                f"{type(found).__name__} is quantized by {type(present).__name__}, so "
                "save_pretrained cannot write the structure of its layers; expected a model that "
                "is not quantized (save it with structmat.nn.save_model)",
                stacklevel=2,
            )


def _transpose_linears_(model: nn.Module, kind: type) -> None:
    """Turn layers of `to_dense_` into Conv1D again where an architecture has them.

    Conv1D stores the transpose of a linear layer's weight under the same name, so that a
    square weight would be read as its transpose. Architectures are found in parts of the
    model, of the given kind, and behind classes that are derived from them.
    """
    for part in [module for module in model.modules() if isinstance(module, kind)]:
        for base in type(part).__mro__:
            conv1d = getattr(sys.modules.get(base.__module__), "Conv1D", None)
            if conv1d is not None:
                _restore_conv1d_(part, base, conv1d)
                break


def _restore_conv1d_(model: Any, architecture: Any, conv1d: Any) -> None:
    with torch.device("meta"):
        original = dict(architecture(model.config).named_modules())
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and isinstance(original.get(name), conv1d):
            layer = conv1d(module.out_features, module.in_features).train(module.training)
            weight = module.weight
            layer.weight = nn.Parameter(weight.detach().T.contiguous(), weight.requires_grad)
            layer.bias = module.bias
            put_module(model, name, layer)


def _outermost(model: nn.Module, kind: type) -> list[Any]:
    """Modules of a kind that lie in no other one."""
    if isinstance(model, kind):
        return [model]
    return [found for child in model.children() for found in _outermost(child, kind)]
