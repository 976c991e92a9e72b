"""Structure of an annealed weight in state dicts: support, order and blocks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.io import describe, restore
from structmat.nn.anneal.projected import Projected
from structmat.nn.structured.state import Structure

#: Prefix of the arrays of the matrix that the last projection left.
_MATRIX = "matrix/"
#: Settings that the shapes of the parameters follow, and the kind of the structure.
_SETTINGS = ("shape", "cap", "kind")


def described(weight: Any) -> Structure:
    """Settings and structure of a weight as an entry for JSON, and its arrays."""
    projected: Projected = weight.projected
    arrays = {"support": np.packbits(projected.support)}
    for name in ("row_order", "col_order"):
        if (order := getattr(projected, name)) is not None:
            arrays[name] = order.astype(np.int32)
    entry = None
    if projected.matrix is not None:
        entry, own = describe(projected.matrix)
        arrays |= {_MATRIX + name: np.asarray(array) for name, array in own.items()}
    found = {
        **{name: getattr(weight, name) for name in _SETTINGS},
        "shape": list(weight.shape),
        "is_factored": weight.is_factored,
        "cost": projected.cost,
        "side": projected.side,
        "price": projected.price,
        "matrix": entry,
    }
    return {"annealing": found}, arrays


def take_(weight: Any, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
    """Give a weight the structure that `described` found.

    Raises
    ------
    InputError
        If the structure is that of another weight.
    """
    own, there = described(weight)[0]["annealing"], entry.get("annealing")
    if there is None or any(own[name] != there.get(name) for name in _SETTINGS):
        what = "a weight of another sort" if there is None else _told(there)
        raise InputError(
            f"the state dict has {what}, and the model {_told(own)}; expected the same (convert "
            "both models with the same Config, and freeze both or neither)"
        )
    m, n = weight.shape
    matrix = None
    if there["matrix"] is not None:
        inner = {k[len(_MATRIX) :]: a for k, a in arrays.items() if k.startswith(_MATRIX)}
        matrix = restore(there["matrix"], inner)
    orders = {
        name: arrays[name].astype(np.int64) if name in arrays else None
        for name in ("row_order", "col_order")
    }
    weight.projected = Projected(
        cost=there["cost"],
        support=np.unpackbits(arrays["support"], count=m * n).reshape(m, n).astype(bool),
        matrix=matrix,
        side=there["side"],
        price=there["price"],
        row_order=orders["row_order"],
        col_order=orders["col_order"],
    )
    weight.is_factored = there["is_factored"]
    weight._lay_out()


def _told(settings: dict[str, Any]) -> str:
    m, n = settings["shape"]
    return f"a weight of {m}x{n} that learns {settings['kind']} at {settings['cap']}"
