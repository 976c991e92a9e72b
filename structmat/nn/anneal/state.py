"""Structure of an annealed weight in state dicts: support, orders and blocks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.io import describe, restore
from structmat.kinds import kind_class
from structmat.matrices import GBLR
from structmat.nn.anneal.projected import Projected, in_given_order
from structmat.nn.structured.state import Structure

#: Prefix of the arrays of the matrix that the last projection left.
_MATRIX = "matrix/"
#: Settings of a weight that do not change, and the kind of its structure.
_SETTINGS = ("shape", "cap", "kind", "tile", "group")
_ORDERS = ("row_order", "col_order")
#: Bytes of a header, at most.
_HEADER = 2048
#: Least side of learned tiles of low rank, where there are several.
_TILE = 16
#: Most cost of a search of blocks that a state is large enough for, as a multiple of the cap.
_SEARCHED = 3


def settings_of(weight: Any) -> dict[str, Any]:
    """Settings of a weight, for JSON."""
    return {**{name: getattr(weight, name) for name in _SETTINGS}, "shape": list(weight.shape)}


def described(weight: Any) -> Structure:
    """Settings and structure of a weight as an entry for JSON, and its arrays."""
    projected: Projected = weight.projected
    integer = _integer(weight.shape)
    orders = {name: getattr(projected, name) for name in _ORDERS}
    arrays = {name: order.astype(integer) for name, order in orders.items() if order is not None}
    matrix, blocks = projected.matrix, None
    # Of the other kinds, a projection looks at the weight alone.
    if matrix is not None and (weight.is_factored or isinstance(matrix, GBLR)):
        entry, own = describe(matrix)
        lengths = {name: own[name].shape for name in matrix.data_names}
        blocks = {"entry": entry, "contents": {n: list(s) for n, s in lengths.items()}}
        # Trained contents are those of the parameter.
        left_out = matrix.data_names if weight.is_factored else ()
        arrays |= {_MATRIX + n: _small(a, integer) for n, a in own.items() if n not in left_out}
    if blocks is None or not isinstance(matrix, GBLR):
        arrays["support"] = np.packbits(projected.support)
    found = {
        **settings_of(weight),
        "is_factored": weight.is_factored,
        "gain": weight.gain,
        "cost": projected.cost,
        "side": projected.side,
        "price": projected.price,
        "charge": projected.charge,
        "matrix": blocks,
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
    row_order, col_order = (_read_order(arrays.get(name)) for name in _ORDERS)
    matrix: Any = None if there["matrix"] is None else _restored(there["matrix"], arrays)
    if "support" in arrays:
        support = np.unpackbits(arrays["support"], count=m * n).reshape(m, n).astype(bool)
    else:
        support = in_given_order(matrix.coverage() > 0, row_order, col_order)
    projected = Projected(
        cost=there["cost"],
        support=support,
        row_order=row_order,
        col_order=col_order,
        matrix=matrix,
        side=there["side"],
        price=there["price"],
        charge=there["charge"],
    )
    weight.follow(projected, factored=there["is_factored"], gain=there["gain"])


def _read_order(array: NDArray | None) -> IntArray | None:
    return None if array is None else array.astype(np.int64)


def _restored(blocks: dict[str, Any], arrays: dict[str, NDArray]) -> Any:
    """The matrix of `described`; contents that are not there are zeros."""
    names = kind_class(blocks["entry"]["kind"]).data_names
    own: dict[str, Any] = {n: np.zeros(s, np.float32) for n, s in blocks["contents"].items()}
    for name, array in arrays.items():
        if name.startswith(_MATRIX):
            short = name.removeprefix(_MATRIX)
            own[short] = array if short in names else array.astype(np.int64)
    return restore(blocks["entry"], own)


def size_bound(shape: tuple[int, int], cap: int, kind: str, tile: int | None = None) -> int:
    """Bytes that the state of a weight fills up to, at each stage of its training.

    A distributed checkpoint is read into tensors of the size that they had when it was saved.

    Examples
    --------
    >>> size_bound((256, 784), 4014, "gblr"), 4 * 256 * 784
    (198880, 802816)
    """
    (m, n), integer = shape, np.dtype(_integer(shape)).itemsize
    room = -(-m * n // 8)
    if kind == "gblr":
        # A block has four numbers for its place; one of a single entry has two contents.
        room = max(room, min(_SEARCHED * cap, m * n) * (4 * integer + 8))
    elif kind == "block_low_rank":
        side = tile or _TILE
        room += 3 * integer * (m // side + 1) * (n // side + 1)
    return _HEADER + 2 * integer * (m + n) + room


def _integer(shape: tuple[int, int]) -> type[np.signedinteger]:
    """Smallest type of all positions on the sides of a matrix."""
    return np.int16 if max(shape) < 2**15 else np.int32


def _small(array: Any, integer: type[np.signedinteger]) -> NDArray:
    array = np.asarray(array)
    return array if array.dtype.kind == "f" else array.astype(integer)


def _told(settings: dict[str, Any]) -> str:
    m, n = settings["shape"]
    sides = [f" with {k} {settings[k]}" for k in ("tile", "group") if settings.get(k)]
    return (
        f"a weight of {m}x{n} that learns {settings['kind']} at {settings['cap']}{''.join(sides)}"
    )
