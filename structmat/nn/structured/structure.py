"""Structure of a matrix apart from its contents: described, and put around other contents."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.errors import InputError
from structmat.io import describe, restore
from structmat.matrix import StructuredMatrix
from structmat.nn.structured.state import Structure

_REMEDY = (
    "convert both models with the same Config and seed, or use structmat.nn.save_model and "
    "load_model, which rebuild the layers"
)


def described(matrix: StructuredMatrix) -> Structure:
    """An entry for JSON with kinds, sizes and shapes of contents, and all integer arrays."""
    entry, leaves = describe(matrix)
    arrays = {name: on_host(a) for name, a in leaves.items() if not is_content(a)}
    shapes = {name: list(a.shape) for name, a in leaves.items() if is_content(a)}
    # JSON makes lists of tuples, and states are compared.
    return {"matrix": _plain(entry), "shape": list(matrix.shape), "contents": shapes}, arrays


def taken(
    matrix: StructuredMatrix, entry: dict[str, Any], arrays: dict[str, NDArray]
) -> StructuredMatrix:
    """A matrix of the structure that `described` gave, around the contents of `matrix`.

    Raises
    ------
    InputError
        If the structure has another shape, or contents of other names or shapes.
    """
    own, _ = described(matrix)
    if "matrix" not in entry or (own["shape"], own["contents"]) != (
        entry["shape"],
        entry["contents"],
    ):
        raise InputError(
            f"the state dict has {_told(entry)}, and the model {_told(own)}; expected contents of "
            f"the same shapes ({_REMEDY})"
        )
    _, leaves = describe(matrix)
    parts: dict[str, Any] = {name: a for name, a in leaves.items() if is_content(a)}
    integers = {name for name, a in leaves.items() if isinstance(a, Tensor)} - parts.keys()
    parts |= {n: torch.from_numpy(a) if n in integers else a for n, a in arrays.items()}
    try:
        return restore(entry["matrix"], parts)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"the state dict has a structure that no {own['matrix']['kind']} matrix has ({error}); "
            f"expected one that state_dict wrote ({_REMEDY})"
        ) from error


def older_integers(
    matrix: StructuredMatrix, state: dict[str, Any], prefix: str
) -> dict[str, NDArray]:
    """Integer contents, which were buffers in version 0.1.0, taken out of a state dict."""
    _, leaves = describe(matrix)
    names = [n for n, a in leaves.items() if isinstance(a, Tensor) and not is_content(a)]
    keys = {name: prefix + name.replace("/", ".") for name in names}
    return {name: on_host(state.pop(key)) for name, key in keys.items() if key in state}


def is_content(array: Any) -> bool:
    """Tell contents, which are floating tensors, from structure."""
    return isinstance(array, Tensor) and array.is_floating_point()


def on_host(array: Any) -> NDArray:
    """An array or tensor on NumPy."""
    return array.cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _told(entry: dict[str, Any]) -> str:
    """A structure in a few words, for a message."""
    if "matrix" not in entry:
        return "a weight that learns its structure"
    m, n = entry["shape"]
    shapes = ", ".join(f"{name} {tuple(s)}" for name, s in sorted(entry["contents"].items()))
    return f"a {entry['matrix']['kind']} weight of {m}x{n} with {shapes or 'no contents'}"
