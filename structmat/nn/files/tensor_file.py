"""Files of tensors: safetensors files with a header of ours, read whole and checked.

The header is JSON among the metadata of the file. It has a digest of every tensor, with its
dtype and shape, and of itself.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from structmat.errors import InputError, MissingDependencyError, SaveError
from structmat.files.foreign import check_members, digest_of, foreign, sealed, unsealed
from structmat.files.paths import name_of
from structmat.files.write import apart, whole_file

#: Bytes that say how long safetensors' own header is.
_LENGTH = 8


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any], key: str
) -> None:
    """Write tensors by name, and a header under a key of the metadata.

    Raises
    ------
    InputError
        If a tensor is of a dtype that no such file holds, or is no dense one.
    SaveError
        If the file cannot be written.
    """
    safetensors = safetensors_package()
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    digests = {name: _digest(tensor) for name, tensor in plain.items()}
    text = sealed({**header, "members": digests})
    # safetensors writes to a temporary file of its own, beside the one that it is given.
    with whole_file(path) as beside, apart(beside) as place:
        try:
            safetensors.torch.save_file(_unshared(plain), place, {key: text})
        except KeyError as error:
            raise InputError(
                f"the model has a tensor of {error}, which no safetensors file can hold; expected "
                "another dtype (convert it first)"
            ) from None
        except safetensors.SafetensorError as error:
            raise SaveError(
                f"cannot write {name_of(path)!r} ({error}); choose a folder with room enough"
            ) from error


def read_tensors(
    path: str | os.PathLike[str], key: str, newest: int, remedy: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header under a key, of a version up to `newest`, and all tensors with it.

    Digests are checked; files of version 1 have none.

    Raises
    ------
    FileFormatError
        If the file is no such file, is damaged, or lacks the header.
    FileNotFoundError
        If there is no such file.
    """
    safetensors = safetensors_package()
    with reading(path, remedy):
        header = unsealed(_text(path, key), newest, name_of(path))
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_members(header, {name: _digest(tensor) for name, tensor in tensors.items()})
        return header, tensors


def reading(path: str | os.PathLike[str], remedy: str) -> AbstractContextManager[None]:
    """Turn whatever a file of tensors raises into a `FileFormatError`."""
    what = f"it is truncated, damaged or not a structmat file ({remedy})"
    return foreign(name_of(path), what)


def safetensors_package() -> Any:
    """The package, or an error that names the extra that brings it."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise MissingDependencyError(
            "safetensors is not installed; install it with pip install 'structmat[torch]'"
        ) from None
    return safetensors


def _text(path: str | os.PathLike[str], key: str) -> str:
    """The header of ours in that of safetensors, which has to name every tensor once."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= size - _LENGTH:
            raise ValueError(f"its header claims {length} bytes of {size}")
        entries = json.loads(file.read(length), object_pairs_hook=_once)
    text = entries.get("__metadata__", {}).get(key)
    if not isinstance(text, str):
        raise ValueError("a safetensors file without a structmat header")
    return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _plain(name: str, tensor: Tensor) -> Tensor:
    """The numbers of a tensor on the CPU as they lie in a file: none is conjugated or negated."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise InputError(
            f"{name} is no dense tensor ({tensor.dtype}, {tensor.layout}"
            f"{', nested' * tensor.is_nested}), and a safetensors file holds no others; expected a "
            "dense one (make it dense, or keep its parts as buffers)"
        )
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _digest(tensor: Tensor) -> str:
    """Digest of dtype, shape and numbers."""
    head = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode()
    flat = tensor.contiguous().reshape(-1)
    return digest_of(head, flat.view(torch.uint8).numpy() if flat.numel() else b"")


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy each tensor that shares its memory with one before it."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return result
