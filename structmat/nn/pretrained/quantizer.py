"""Structured layers in pretrained models, as transformers saves and loads them."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from structmat.errors import InputError
from structmat.files.foreign import foreign
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.files.place import put_layer, share
from structmat.nn.models.layer_types import STRUCTURED
from structmat.nn.pretrained.config import METHOD_NAME, StructureConfig
from structmat.nn.structured.state import STATE_NAME, StructuredModule


def enable(model: PreTrainedModel) -> None:
    """Let ``model.save_pretrained`` write the structure of its layers.

    `convert_`, `freeze_`, `to_dense_`, `load_model` and `StructureCallback` do so themselves.
    A call is needed where they saw a part of the model only, or layers were put in by hand.
    ``config.json`` gets the structure at the time of saving; before that, the model may be
    trained, frozen or made dense.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Raises
    ------
    InputError
        If `model` is another kind of object, or quantized by another method.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from structmat.nn import GaudiLinear
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32))
    >>> model.transformer.h[0].mlp.c_fc = GaudiLinear(16, 64)
    >>> enable(model)
    """
    if not isinstance(model, PreTrainedModel):
        raise InputError(
            f"model is a {type(model).__qualname__}; expected a transformers.PreTrainedModel "
            "(other modules are saved by structmat.nn.save_model)"
        )
    present = getattr(model, "hf_quantizer", None)
    if present is not None and not isinstance(present, StructureQuantizer):
        raise InputError(
            f"{type(model).__name__} is quantized by {type(present).__name__}; expected a model "
            "that is not quantized"
        )
    if present is None:
        model.register_load_state_dict_pre_hook(_drop_guards)
    model.hf_quantizer = StructureQuantizer(StructureConfig())


@register_quantizer(METHOD_NAME)
class StructureQuantizer(HfQuantizer):
    """Replacement of layers by structured ones, before transformers loads parameters.

    The model is not quantized: a quantizer is the interface through which transformers lets
    layers change.

    Examples
    --------
    >>> StructureQuantizer(StructureConfig()).is_serializable()
    True
    """

    quantization_config: StructureConfig

    is_trainable = True

    def is_serializable(self) -> bool:
        """Answer that models can be saved."""
        return True

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: Any = None, **_: Any
    ) -> None:
        files = [os.fspath(name) for name in checkpoint_files or ()]
        size = _bytes_of(files, model)
        with torch.device("cpu"):  # transformers has made meta the default
            layers = self.quantization_config.build(size)
        self._placed: list[tuple[nn.Module, list[str]]] = []
        for path, layer in layers.items():
            place = _place(model, path)
            if place is not None:  # None for a head, which a base model lacks
                put_layer(model, place, layer.to("meta", model.dtype))
                fixed = [name for name, p in layer.named_parameters() if not p.requires_grad]
                self._placed.append((layer, fixed))
        if not self._placed:
            raise InputError(
                f"{type(model).__name__} has none of the layers {', '.join(layers)}; expected the "
                "architecture that was saved, or its base model"
            )
        model._keys_to_ignore_on_load_unexpected = {
            *(model._keys_to_ignore_on_load_unexpected or ()),
            *(rf"(^|\.){re.escape(path)}\.weight$" for path in layers),
        }
        self._handles = []
        if not _have_states(files):
            weights = [m for m in model.modules() if isinstance(m, StructuredModule)]
            if any(isinstance(weight, AnnealWeight) for weight in weights):
                raise InputError(
                    f"the weight files lack the states ({STATE_NAME}) of layers that learn their "
                    "structure; expected files that save_pretrained wrote (save the model again)"
                )
            self._handles = [w.register_state_dict_post_hook(_drop_state) for w in weights]
            model._keys_to_ignore_on_load_unexpected.add(rf"\.{STATE_NAME}$")
        paths = self.quantization_config.content(size)["shared"]
        one = {_place(model, p): _place(model, q) for p, q in paths.items()}
        share(model, {p: q for p, q in one.items() if p is not None and q is not None})

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        for layer, fixed in self._placed:
            for name in fixed:
                layer.get_parameter(name).requires_grad_(False)
        self._placed = []
        for handle in self._handles:
            handle.remove()
        model.register_load_state_dict_pre_hook(_drop_guards)
        # On the host, transformers leaves tensors at any address of a mapped file, and sums may
        # depend on their alignment. `_apply` also prepares the products again.
        model._apply(lambda tensor: tensor.clone() if tensor.device.type == "cpu" else tensor)
        model.is_quantized = False  # which would forbid casts

    def get_state_dict_and_metadata(
        self, model: PreTrainedModel
    ) -> tuple[dict[str, Tensor] | None, dict[str, str]]:
        """Note the present structure, just before config and weights are written."""
        config = StructureConfig.of(model)
        if not config.structure:
            vars(model.config).pop("quantization_config", None)
            return None, {}
        self.quantization_config = model.config.quantization_config = config
        again = tuple(f"{path}." for path in config.content()["shared"])
        # Transformers refuses to write shared tensors, unless it made them so itself.
        state = {n: t.clone() if n.startswith(again) else t for n, t in model.state_dict().items()}
        return state | {f"{path}.weight": _guard() for path in config.content()["layers"]}, {}


def _guard() -> Tensor:
    """A tensor in the place of a dense weight, which has no layer's shape.

    Without `structmat.nn.hf`, transformers builds dense layers. It would fill them with random
    numbers if their weights were missing, and refuses weights of another shape.
    """
    return torch.zeros(1, dtype=torch.uint8)


def _drop_guards(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out of a state dict what guards the weights of structured layers."""
    for path, module in model.named_modules(remove_duplicate=False):
        key = f"{prefix}{path}.weight"
        if isinstance(module, STRUCTURED) and getattr(state.get(key), "shape", None) == (1,):
            del state[key]


def _drop_state(weight: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Expect no structure in files of version 0.1.0, which have it in ``config.json`` alone."""
    state.pop(prefix + STATE_NAME, None)


def _bytes_of(files: Sequence[str], model: nn.Module) -> int:
    """Bytes of weight files, or of the dense model, if its weights come from a state dict."""
    if files:
        return sum(os.stat(name).st_size for name in files)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _have_states(files: Iterable[str]) -> bool:
    """Tell whether weight files have the structure of weights."""
    return any(key.endswith(f".{STATE_NAME}") for name in files for key in _names_in(name))


def _names_in(name: str) -> list[str]:
    """List the names of tensors in a weight file, of safetensors or of torch."""
    with foreign(name, "expected weights that save_pretrained wrote (save the model again)"):
        if name.endswith(".safetensors"):
            with safe_open(name, "pt") as file:
                return list(file.keys())
        return list(torch.load(name, map_location="meta", weights_only=True))


def _place(model: PreTrainedModel, path: str) -> str | None:
    """Path in this model of a module of the saved one; either may be the base of the other."""
    prefix = f"{model.base_model_prefix}."
    modules = dict(model.named_modules(remove_duplicate=False))
    return next((p for p in (path, path.removeprefix(prefix), prefix + path) if p in modules), None)
