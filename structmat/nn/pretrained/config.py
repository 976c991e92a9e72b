"""Structure of a model's layers as text in ``config.json``."""

import base64
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from structmat.errors import FileFormatError
from structmat.files.foreign import foreign, sealed, unsealed
from structmat.nn.files.describe import build_layers, describe_layers
from structmat.nn.files.place import named_tensors, shared

#: Of the structure in ``config.json``; that of version 1 has no digest.
FORMAT_VERSION = 2
METHOD_NAME = "structmat"
#: Bytes of a structure for each byte of the weights, at most: a block has contents, and its place.
_MOST_INFLATED = 32
#: Bytes of a structure, and numbers of its layers, that need no weights.
_FREE_TEXT, _FREE_NUMBERS = 2**22, 2**18
_FILE = "config.json"
_REMEDY = (
    "it has a damaged structmat structure; expected one that save_pretrained wrote (save the model "
    "again)"
)


@register_quantization_config(METHOD_NAME)
class StructureConfig(QuantizationConfigMixin):
    """Structure of a model's layers in ``config.json``, apart from their parameters.

    For transformers it is a quantization config, because quantization configs are its means
    of changing layers before weights are loaded. The text is JSON, compressed and written in
    letters. It has the descriptions of the layers, their index arrays, dtypes and shapes of
    their tensors, the modules that they share, and its own digest. Structures that are being
    learned by `Anneal` are in the states of their weights, among the parameters.

    Parameters
    ----------
    structure : str
        Text of `StructureConfig.of`.
    format_version : int

    Raises
    ------
    FileFormatError
        If the version is newer than this structmat, or the two are no text and no number.

    Examples
    --------
    >>> StructureConfig().to_dict()
    {'quant_method': 'structmat', 'format_version': 2, 'structure': ''}
    """

    def __init__(self, structure: str = "", format_version: int = FORMAT_VERSION, **_: Any) -> None:
        with foreign(_FILE, _REMEDY):
            if type(format_version) is not int or not isinstance(structure, str):
                raise ValueError(f"version {format_version!r}, {type(structure).__qualname__}")
        if format_version > FORMAT_VERSION:
            raise FileFormatError(
                f"{_FILE} has structmat's format version {format_version}; this structmat "
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
            "format_version": FORMAT_VERSION,
            "layers": layers,
            "index": {n: [a.dtype.str, a.shape, a.ravel().tolist()] for n, a in index.items()},
            "tensors": {
                name: [str(tensor.dtype).removeprefix("torch."), tensor.shape]
                for name, tensor, _ in named_tensors(model)
                if name.startswith(inside)
            },
            "shared": {p: q for p, q in shared(model).items() if p.startswith(inside)},
        }
        text = zlib.compress(sealed(known).encode())
        return cls(base64.b64encode(text).decode() if layers else "")

    def content(self, weights: int | None = None) -> dict[str, dict[str, Any]]:
        """Read descriptions, index arrays, dtypes and shapes, and shared modules.

        The bytes of the weights bound what the text may inflate to, where they are given.

        Raises
        ------
        FileFormatError
            If the text is damaged. A structure of format version 2 that is read is the one that
            was written, by its digest; those of version 1 have a checksum against accidents.
        """
        with foreign(_FILE, _REMEDY):
            known = unsealed(_inflated(self.structure, weights), FORMAT_VERSION, _FILE)
            if known["format_version"] != self.format_version:
                raise ValueError(f"versions {known['format_version']} and {self.format_version}")
            parts = {name: dict(known[name]) for name in ("layers", "index", "tensors", "shared")}
            if not all(isinstance(path, str) for path in parts["shared"].values()):
                raise ValueError("a path is no text")
            return parts

    def build(self, weights: int | None = None) -> dict[str, nn.Module]:
        """Build the layers by path, with zeros for parameters.

        The bytes of the weights bound the numbers that the layers may have, where they are given.

        Raises
        ------
        FileFormatError
            If the text is damaged, its descriptions and arrays do not belong together, or the
            layers claim more numbers than they may have.
        """
        known = self.content(weights)
        with foreign(_FILE, _REMEDY):
            if weights is not None:
                _check_claims(known["tensors"], weights + _FREE_NUMBERS)
            tensors = {
                name: torch.zeros(shape, dtype=getattr(torch, dtype))
                for name, (dtype, shape) in known["tensors"].items()
            }
            index = {name: _array(*entry) for name, entry in known["index"].items()}
            return build_layers(known["layers"], tensors, index)


def _inflated(text: str, weights: int | None) -> bytes:
    """The bytes of a compressed text in letters, as many as the bytes of the weights allow."""
    most = 0 if weights is None else _FREE_TEXT + _MOST_INFLATED * weights  # 0 is without a limit
    engine = zlib.decompressobj()
    data = engine.decompress(base64.b64decode(text, validate=True), most)
    if not engine.eof or engine.unused_data:
        raise ValueError("its text is cut, goes on after its end, or inflates without bound")
    return data


def _check_claims(tensors: Mapping[str, Any], most: int) -> None:
    """Refuse tensors that have more than `most` numbers together, before they are made."""
    numbers = 0
    for _, shape in tensors.values():
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"a tensor of shape {shape}")
        numbers += math.prod(shape)
    if numbers > most:
        raise ValueError(f"its layers claim {numbers} numbers, and the weights have at most {most}")


def _array(descr: str, shape: list[int], values: list[Any]) -> NDArray:
    dtype = np.dtype(descr)
    if dtype.kind not in "biuf":
        raise ValueError(f"an index array of {dtype}")
    return np.array(values, dtype).reshape(shape)
