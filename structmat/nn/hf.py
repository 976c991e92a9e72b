"""Structured models in Hugging Face's transformers, saved, loaded and trained by its own means.

    import structmat.nn.hf
    structmat.nn.hf.enable(model)            # once, after its layers were converted or frozen
    model.save_pretrained("folder")

    import structmat.nn.hf                   # wherever it is loaded again
    model = AutoModelForCausalLM.from_pretrained("folder")

Without the second import, transformers warns of an unknown quantization type and loads
dense layers of random weights.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from structmat.errors import FileFormatError, InputError, MissingDependencyError
from structmat.nn.files.describe import build_layers, describe_layers
from structmat.nn.files.place import named_tensors, put_layer, share, shared
from structmat.nn.training.for_trainers import Rules

try:
    from transformers import PreTrainedModel, TrainerCallback
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.quantizers.base import HfQuantizer
    from transformers.trainer_callback import ExportableState
    from transformers.utils.quantization_config import QuantizationConfigMixin
except ImportError:
    raise MissingDependencyError(
        "transformers is not installed; install it with pip install 'structmat[hf]'"
    ) from None

__all__ = ["StructureCallback", "StructureConfig", "StructureQuantizer", "enable"]

FORMAT_VERSION = 1
_METHOD_NAME = "structmat"


def enable(model: PreTrainedModel) -> None:
    """Let ``model.save_pretrained`` write the structure of its layers.

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
    model.hf_quantizer = StructureQuantizer(StructureConfig())


@register_quantization_config(_METHOD_NAME)
class StructureConfig(QuantizationConfigMixin):
    """Structure of a model's layers in ``config.json``, apart from their parameters.

    For transformers it is a quantization config, because quantization configs are its means
    of changing layers before weights are loaded. The text is JSON, compressed and written in
    letters. It has the descriptions of the layers, their index arrays, dtypes and shapes of
    their tensors, and the modules that they share.

    Parameters
    ----------
    structure : str
        Text of `StructureConfig.of`.
    format_version : int

    Raises
    ------
    FileFormatError
        If the version is newer than this structmat.

    Examples
    --------
    >>> StructureConfig().to_dict()
    {'quant_method': 'structmat', 'format_version': 1, 'structure': ''}
    """

    def __init__(self, structure: str = "", format_version: int = FORMAT_VERSION, **_: Any) -> None:
        if format_version > FORMAT_VERSION:
            raise FileFormatError(
                f"config.json has structmat's format version {format_version}; this structmat "
                f"reads up to {FORMAT_VERSION} (upgrade it)"
            )
        self.quant_method: Any = _METHOD_NAME
        self.format_version, self.structure = format_version, structure

    @classmethod
    def of(cls, model: nn.Module) -> "StructureConfig":
        """Describe a model as it is now; the text is empty if all of its layers are dense."""
        layers, index = describe_layers(model)
        inside = tuple(f"{path}." for path in layers)
        known = {
            "layers": layers,
            "index": {n: [a.dtype.str, a.shape, a.ravel().tolist()] for n, a in index.items()},
            "tensors": {
                name: [str(tensor.dtype).removeprefix("torch."), tensor.shape]
                for name, tensor, _ in named_tensors(model)
                if name.startswith(inside)
            },
            "shared": {p: q for p, q in shared(model).items() if p.startswith(inside)},
        }
        text = zlib.compress(json.dumps(known).encode())
        return cls(base64.b64encode(text).decode() if layers else "")

    def content(self) -> dict[str, Any]:
        """Read descriptions, index arrays, dtypes and shapes, and shared modules.

        Raises
        ------
        FileFormatError
            If the text is damaged.
        """
        try:
            known: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(self.structure)))
        except (ValueError, zlib.error) as error:
            raise _damaged(error) from None
        return known

    def build(self) -> dict[str, nn.Module]:
        """Build the layers by path, with zeros for parameters.

        Raises
        ------
        FileFormatError
            If the text is damaged, or its descriptions and arrays do not belong together.
        """
        known = self.content()
        try:
            tensors = {
                name: torch.zeros(shape, dtype=getattr(torch, dtype))
                for name, (dtype, shape) in known["tensors"].items()
            }
            index = {
                name: np.array(values, dtype).reshape(shape)
                for name, (dtype, shape, values) in known["index"].items()
            }
            return build_layers(known["layers"], tensors, index)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise _damaged(error) from None


def _damaged(error: Exception) -> FileFormatError:
    return FileFormatError(
        f"config.json has a damaged structmat structure ({error}); expected one that "
        "save_pretrained wrote (save the model again)"
    )


@register_quantizer(_METHOD_NAME)
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

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        with torch.device("cpu"):  # transformers has made meta the default
            layers = self.quantization_config.build()
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
        paths = self.quantization_config.content()["shared"]
        one = {_place(model, p): _place(model, q) for p, q in paths.items()}
        share(model, {p: q for p, q in one.items() if p is not None and q is not None})

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        for layer, fixed in self._placed:
            for name in fixed:
                layer.get_parameter(name).requires_grad_(False)
        self._placed = []
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
        state = model.state_dict()
        return {n: t.clone() if n.startswith(again) else t for n, t in state.items()}, {}


def _place(model: PreTrainedModel, path: str) -> str | None:
    """Path in this model of a module of the saved one; either may be the base of the other."""
    prefix = f"{model.base_model_prefix}."
    modules = dict(model.named_modules(remove_duplicate=False))
    return next((p for p in (path, path.removeprefix(prefix), prefix + path) if p in modules), None)


class StructureCallback(TrainerCallback, ExportableState):
    """Learn structure and meet a budget on the Gaudi layers while the Trainer trains.

    When training begins, the rules that `structure` names are attached to the Trainer's
    optimizer for all its steps. The log (``state.log_history``, and the logs of later
    callbacks) gets the cost of the Gaudi layers, a fraction of dense, as
    ``structure_cost``. With "gaudi" it also gets σ, as ``structure_sigma``. The Trainer's
    checkpoints hold the state, so a resumed training continues as if it had not stopped.

    With "gaudi", widths and locations need optimizer settings of their own: pass
    ``optimizers=(AdamW(parameter_groups(model, …)), None)`` to the Trainer.

    Parameters
    ----------
    budget : float
        Fraction of the dense cost, as for `EdgeSearch` and `BudgetProjection`.
    structure : str
        "edges" moves the ends of runs (`EdgeSearch`); "gaudi" follows gradients through
        Gaudi masks (`BudgetProjection` and `SigmaSchedule`).
    moves, projection, sigma : mapping, optional
        Further options of `EdgeSearch`, of `BudgetProjection` and of `SigmaSchedule`.

    Raises
    ------
    InputError
        If options belong to the other `structure`, or, when training begins, if the model
        has no Gaudi layers.

    Examples
    --------
    >>> callback = StructureCallback(0.2, moves={"every": 20})
    >>> callback.state()["args"]["budget"]
    0.2
    """

    def __init__(
        self,
        budget: float,
        *,
        structure: str = "edges",
        moves: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | None = None,
        sigma: Mapping[str, Any] | None = None,
    ) -> None:
        self._rules = Rules(budget, structure, moves, projection, sigma)

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Attach the rules to the Trainer's optimizer, with their state in a resumed training."""
        saved = state.stateful_callbacks.get(type(self).__name__)
        if state.global_step > 0 and saved is not None:
            self._rules.load_state_dict(saved["attributes"]["rules"])
        self._rules.begin(objects["model"], objects["optimizer"], state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Add the figures of the rules to the log."""
        metrics = self._rules.metrics()
        objects["logs"].update(metrics)
        state.log_history[-1].update(metrics)

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Detach the rules from the optimizer."""
        self._rules.end()

    def state(self) -> dict[str, Any]:
        """State for the Trainer's checkpoints."""
        rules = self._rules
        args = {"budget": rules.budget, "structure": rules.structure, "moves": rules.moves}
        args |= {"projection": rules.projection, "sigma": rules.sigma}
        return {"args": args, "attributes": {"rules": rules.state_dict()}}
