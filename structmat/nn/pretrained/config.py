"""Structure of a model's layers as text in ``config.json``."""

import base64
import json
import zlib
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from structmat.errors import FileFormatError
from structmat.nn.files.describe import build_layers, describe_layers
from structmat.nn.files.place import named_tensors, shared

FORMAT_VERSION = 1
METHOD_NAME = "structmat"


@register_quantization_config(METHOD_NAME)
class StructureConfig(QuantizationConfigMixin):
    """Structure of a model's layers in ``config.json``, apart from their parameters.

    For transformers it is a quantization config, because quantization configs are its means
    of changing layers before weights are loaded. The text is JSON, compressed and written in
    letters. It has the descriptions of the layers, their index arrays, dtypes and shapes of
    their tensors, and the modules that they share. Structures that are being learned by `Anneal`
    are in the states of their weights, among the parameters.

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
        self.quant_method: Any = METHOD_NAME
        self.format_version, self.structure = format_version, structure

    @classmethod
    def of(cls, model: nn.Module) -> "StructureConfig":
        """Describe a model as it is now; the text is empty if all of its layers are dense."""
        layers, index = describe_layers(model, states=True)
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
