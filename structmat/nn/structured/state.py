"""Structure of a weight in torch's state dicts: one tensor of bytes beside its parameters.

The bytes are a checksum, the length of a header, the header (JSON), and the index arrays
that it lists. A byte is exact in every dtype that trained networks are cast to, the mean of
equal structures is that structure, and all other arithmetic is found out by the checksum.
"""

import json
import math
import warnings
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat.errors import InputError
from structmat.nn.sharded import whole
from structmat.nn.structured.shown import Shown

FORMAT_VERSION = 1
#: Name that torch gives to the state of `get_extra_state`.
STATE_NAME = "_extra_state"
#: Bytes of the checksum, and of the length of the header.
_CHECKSUM, _LENGTH = 4, 8
#: Headers are filled up to a multiple of this many bytes, so that states of one structure have
#: one size: distributed checkpoints are read into tensors of the size that they had. A module
#: whose structure changes sets a larger size.
_ALIGNMENT = 64

Structure = tuple[dict[str, Any], dict[str, NDArray]]


class StructuredModule(Shown, nn.Module):
    """Abstract weight whose state dict has its structure, apart from its parameters.

    A final class gives its structure as an entry for a JSON header and arrays by name, and
    takes one back.

    Attributes
    ----------
    state_size : int
        Bytes that the state is filled up to, for a structure whose size changes in training.
    """

    state_size = 0

    @abstractmethod
    def _describe(self) -> Structure:
        """The present structure: an entry for JSON, and arrays by name."""

    @abstractmethod
    def _take_structure(self, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        """Rebuild in place around the present parameters, or refuse with an `InputError`."""

    @abstractmethod
    def refresh(self) -> None:
        """Drop results that were computed from the present values."""

    @abstractmethod
    def _take_older(self, found: dict[str, Any], prefix: str) -> bool:
        """Take the structure of a state dict of version 0.1.0; False if it has none."""

    def get_extra_state(self) -> Tensor:
        """The structure as a tensor of bytes, which `state_dict` adds as ``_extra_state``."""
        return encode(*self._describe(), size=self.state_size)

    def set_extra_state(self, state: Any) -> None:
        """Take the structure of a state dict; parameters keep their identity.

        Raises
        ------
        InputError
            If the present parameters do not fit the structure, or the state is damaged.
        """
        if isinstance(state, Tensor) and state.is_meta:  # a state without values
            return
        entry, arrays = decode(state)
        present = decode(self.get_extra_state())
        if not _are_equal((entry, arrays), present):
            self.refresh()
            self._take_structure(entry, arrays)

    # By torch's name for the state, so that `torch.func.functional_call` swaps it as well.
    _extra_state = property(
        lambda self: self.get_extra_state(), lambda self, state: self.set_extra_state(state)
    )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self.refresh()
        key, older = prefix + STATE_NAME, False
        if key not in state_dict and any(name.startswith(prefix) for name in state_dict):
            older = True
            if not self._take_older(state_dict, prefix):
                warnings.warn(_OLDER, stacklevel=2)
        name, known = prefix[:-1] or "the weight", len(error_msgs)
        keys = missing_keys, unexpected_keys, error_msgs
        try:
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *keys)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        if error_msgs[known:]:
            raise InputError(
                f"{name}: {'; '.join(error_msgs[known:])}; expected contents of the same shapes "
                "(convert both models with the same Config and weights, or save with save_model "
                "and read with load_model, which replaces the layers)"
            )
        if older and key in missing_keys:
            missing_keys.remove(key)


_OLDER = (
    "the state dict has contents without their structure (as state dicts of structmat 0.1.0 do): "
    "they are laid out by the structure of the model that loads them; expected one that was made "
    "with the same Config and seed (save the model again to keep its structure)"
)


def encode(entry: Mapping[str, Any], arrays: Mapping[str, NDArray], *, size: int = 0) -> Tensor:
    """Write a structure as a tensor of bytes, (bytes,) of uint8, of at least a size.

    Examples
    --------
    >>> state = encode({"kind": "diagonal"}, {"start": np.arange(3)})
    >>> state.dtype, decode(state.bfloat16())
    (torch.uint8, ({'kind': 'diagonal'}, {'start': array([0, 1, 2])}))
    """
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    header = {"format_version": FORMAT_VERSION, "structure": entry, "arrays": listed}
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    known = _CHECKSUM + _LENGTH + len(text) + sum(a.nbytes for a in arrays.values())
    text += b" " * (size - known)
    parts = [len(text).to_bytes(_LENGTH, "little"), text, *(a.tobytes() for a in arrays.values())]
    body = b"".join(parts)
    data = zlib.crc32(body).to_bytes(_CHECKSUM, "little") + body
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def decode(state: Any) -> Structure:
    """Read a tensor of `encode`, perhaps cast to another dtype since.

    Raises
    ------
    InputError
        If it is no such tensor, is damaged, or is of a newer version.
    """
    data = _bytes(state)
    body = data[_CHECKSUM:]
    if data[:_CHECKSUM] != zlib.crc32(body).to_bytes(_CHECKSUM, "little"):
        raise InputError(_damaged(state))
    begin = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
    try:
        header = json.loads(body[_LENGTH:begin])
        version = int(header["format_version"])
        if version <= FORMAT_VERSION:
            return header["structure"], _arrays(header["arrays"], body, begin)
    except Exception:  # bytes with a checksum that somebody has computed
        raise InputError(_damaged(state)) from None
    raise InputError(
        f"the state dict has structure of version {version}; this structmat reads up to "
        f"{FORMAT_VERSION} (upgrade it)"
    )


def _arrays(listed: list[Any], body: bytes, begin: int) -> dict[str, NDArray]:
    """Arrays that lie one after another, of plain numbers."""
    arrays = {}
    for name, descr, shape in listed:
        dtype, count = np.dtype(descr), math.prod(shape)
        if dtype.kind not in "biuf" or min(shape, default=0) < 0:
            raise ValueError(f"an array of {dtype} and shape {shape}")
        arrays[name] = np.frombuffer(body, dtype, count, begin).reshape(shape).copy()
        begin += arrays[name].nbytes
    return arrays


def _bytes(state: Any) -> bytes:
    if not isinstance(state, Tensor):
        raise InputError(
            f"the state dict has a {type(state).__qualname__} for the structure of a weight; "
            "expected the tensor that state_dict wrote"
        )
    values = whole(state).cpu()
    if values.is_floating_point():  # the mean of equal structures is one up to rounding
        values = values.double().round()
    data = values.to(torch.uint8)
    if values.ndim != 1 or not torch.equal(data.to(values.dtype), values):
        raise InputError(_damaged(state))
    return data.numpy().tobytes()


def _damaged(state: Tensor) -> str:
    return (
        f"the structure of a weight in the state dict ({state.dtype}, {tuple(state.shape)}) has a "
        "wrong checksum; expected the bytes that state_dict wrote (when state dicts are averaged, "
        "average their floating tensors and copy the others)"
    )


def _are_equal(a: Structure, b: Structure) -> bool:
    same = a[0] == b[0] and a[1].keys() == b[1].keys()
    return same and all(np.array_equal(array, b[1][name]) for name, array in a[1].items())
