"""Arithmetic of tiles: dense arrays, and thin products U V^H of few columns, on NumPy."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

#: A sum of thin products is held dense from this part of the shorter side on.
THIN = 0.5


class Thin(NamedTuple):
    """U V^H, for U (p, r) and V (q, r)."""

    U: NDArray
    V: NDArray


Tile = NDArray | Thin


def as_tile(tile: Any) -> Tile:
    """Tile of `BlockLowRank.tiles`: a dense array, or a pair of factors."""
    return Thin(*tile) if isinstance(tile, tuple) else tile


def adjoint_tile(tile: Tile) -> Tile:
    """Conjugate transpose, without a copy of real contents."""
    return Thin(tile.V, tile.U) if isinstance(tile, Thin) else tile.conj().T


def tile_rank(tile: Tile) -> int:
    """Number of columns of the factors; the shorter side of a dense tile."""
    return tile.U.shape[1] if isinstance(tile, Thin) else min(tile.shape)


def tile_size(tile: Tile) -> int:
    """Stored scalars."""
    return tile.U.size + tile.V.size if isinstance(tile, Thin) else tile.size


def as_dense(tile: Tile) -> NDArray:
    """Entries of a tile, shape (p, q)."""
    return tile.U @ tile.V.conj().T if isinstance(tile, Thin) else tile


def times(tile: Tile, x: NDArray) -> NDArray:
    """Product of a tile with columns x (q, k)."""
    return tile.U @ (tile.V.conj().T @ x) if isinstance(tile, Thin) else tile @ x


def adjoint_times(tile: Tile, y: NDArray) -> NDArray:
    """Product of the adjoint with columns y (p, k)."""
    return tile.V @ (tile.U.conj().T @ y) if isinstance(tile, Thin) else tile.conj().T @ y


def _thin_product(left: Tile, right: Tile) -> Thin:
    """Product of two tiles, at least one of them thin; of the smaller rank."""
    if isinstance(left, np.ndarray):
        return Thin(left @ right.U, right.V)  # type: ignore[union-attr]
    if isinstance(right, np.ndarray):
        return Thin(left.U, right.conj().T @ left.V)
    middle = left.V.conj().T @ right.U
    if middle.shape[0] <= middle.shape[1]:
        return Thin(left.U, right.V @ middle.conj().T)
    return Thin(left.U @ middle, right.V)


def difference(
    start: Tile | None, pairs: Iterable[tuple[Tile, Tile]], shape: tuple[int, int], dtype: Any
) -> Tile:
    """A tile minus the sum of products of pairs, without truncation.

    The result is thin while its factors are short: no dense tile and no product of two dense
    ones takes part, and the ranks add up to less than half of the shorter side.
    """
    thin, dense = [], []
    for left, right in pairs:
        if isinstance(left, Thin) or isinstance(right, Thin):
            thin.append(_thin_product(left, right))
        else:
            dense.append((left, right))
    rank = sum(part.U.shape[1] for part in thin)
    rank += start.U.shape[1] if isinstance(start, Thin) else 0
    if isinstance(start, np.ndarray) or dense or rank > THIN * min(shape):
        return _dense_difference(start, thin, dense, shape, dtype)
    first = [] if start is None else [start]
    U = np.concatenate([np.zeros((shape[0], 0), dtype), *(part.U for part in [*first, *thin])], 1)
    V = np.concatenate([np.zeros((shape[1], 0), dtype), *(part.V for part in [*first, *thin])], 1)
    U[:, rank - sum(part.U.shape[1] for part in thin) :] *= -1
    return Thin(U, V)


def _dense_difference(
    start: Tile | None,
    thin: list[Thin],
    dense: list[tuple[NDArray, NDArray]],
    shape: tuple[int, int],
    dtype: Any,
) -> NDArray:
    total = np.zeros(shape, dtype) if start is None else np.array(as_dense(start), dtype)
    for left, right in dense:
        total -= left @ right
    if thin:
        U, V = (np.concatenate(parts, 1) for parts in zip(*thin, strict=True))
        total -= U @ V.conj().T
    return total


def truncated(tile: Tile, most_error: float) -> tuple[Tile | None, float]:
    """The tile with the fewest columns that QR with column pivoting finds, and the error.

    The Frobenius norm of the difference is at most `most_error`. A tile whose factors would
    hold no fewer scalars than the dense one becomes dense, and one of rank 0 is None.

    Examples
    --------
    >>> tile, error = truncated(Thin(np.ones((4, 2)), np.ones((3, 2))), 1e-9)
    >>> tile.U.shape, error < 1e-9
    ((4, 1), True)
    """
    if isinstance(tile, Thin):
        if not tile.U.shape[1]:
            return None, 0.0
        basis, triangle = linalg.qr(tile.V, mode="economic", check_finite=False)
        core = tile.U @ triangle.conj().T
    else:
        basis, core = None, tile
    Q, R, order = linalg.qr(core, mode="economic", pivoting=True, check_finite=False)
    tails = np.sqrt(np.cumsum(np.square(np.abs(R[::-1])).sum(axis=1, dtype=np.float64))[::-1])
    rank = int((tails > most_error).sum())
    error = float(tails[rank]) if rank < len(tails) else 0.0
    p, q = core.shape[0], tile.V.shape[0] if isinstance(tile, Thin) else tile.shape[1]
    if rank * (p + q) >= p * q:
        return as_dense(tile), 0.0
    if rank == 0:
        return None, error
    V = np.empty((core.shape[1], rank), core.dtype)
    V[order] = R[:rank].conj().T
    return Thin(np.ascontiguousarray(Q[:, :rank]), V if basis is None else basis @ V), error
