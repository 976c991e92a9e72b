"""Block Jacobi: the inverses of diagonal tiles of S, for rows that lie together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array
from structmat.intervals import IntArray
from structmat.matrix import StructuredMatrix
from structmat.solvers.iterative.preconditioners.preconditioner import Halves, Preconditioner
from structmat.solvers.iterative.preconditioners.sparse_inverse import Blocks, Indefinite

#: Rows of a tile.
TILE = 64
#: Eigenvalues of an indefinite tile count as this share of the largest one at least.
LEAST = 1e-3
#: Tiles whose entries are taken at once.
_AT_ONCE = 64


class _Tiles:
    """Diagonal tiles (t, p, p) between an order of rows and its inverse."""

    def __init__(self, tiles: NDArray, order: IntArray, like: StructuredMatrix) -> None:
        xp, n = like.xp, order.size
        self._xp, self._shape = xp, tiles.shape
        index = np.concatenate([order, np.zeros(tiles.shape[0] * tiles.shape[1] - n, np.int64)])
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        self._index, self._place = (_array.integers(at, xp, like.device) for at in (index, place))
        tiles = tiles.astype(_array.host_dtype(like.dtype, xp))
        self._tiles = _array.from_numpy(tiles, xp, like.device)

    def times(self, r: Array, *, adjoint: bool = False) -> Array:
        """Tiles times rows, (n, k)."""
        xp, tiles = self._xp, self._tiles
        tiles = _array.adjoint(tiles, xp) if adjoint else tiles
        inside = xp.reshape(xp.take(r, self._index, axis=0), (*self._shape[:2], r.shape[1]))
        wide = xp.result_type(tiles.dtype, r.dtype)
        found = xp.astype(tiles, wide, copy=False) @ xp.astype(inside, wide, copy=False)
        return xp.take(xp.reshape(found, (-1, r.shape[1])), self._place, axis=0)


class DefiniteTiles(Halves):
    """Inverse Cholesky factors of the diagonal tiles of a hermitian positive definite S."""

    name = "block Jacobi"

    def __init__(self, tiles: _Tiles, log_half: float) -> None:
        self._tiles, self.log_half = tiles, log_half

    def half(self, r: Array) -> Array:
        """G r for columns r (n, k)."""
        return self._tiles.times(r)

    def half_adjoint(self, r: Array) -> Array:
        """G^H r for columns r (n, k)."""
        return self._tiles.times(r, adjoint=True)


class InverseTiles(Preconditioner):
    """Inverses of the diagonal tiles of any S."""

    name = "block Jacobi"

    def __init__(self, tiles: _Tiles, *, definite: bool) -> None:
        self._tiles, self.definite = tiles, definite

    def multiply(self, r: Array) -> Array:
        """M r for columns r (n, k)."""
        return self._tiles.times(r)

    def multiply_adjoint(self, r: Array) -> Array:
        """M^H r for columns r (n, k)."""
        return self._tiles.times(r, adjoint=True)


def block_jacobi(
    blocks: Blocks, order: IntArray, like: StructuredMatrix, *, hermitian: bool, definite: bool
) -> Preconditioner | None:
    """Inverses of tiles of consecutive rows of an order; None where a tile is singular.

    A definite S has halves. An S that is hermitian alone has positive definite ones, by the
    absolute values of the eigenvalues of its tiles.

    Raises
    ------
    Indefinite
        If S is to be definite, and a tile is not.
    """
    n = order.size
    side = min(TILE, max(n, 1))
    padded = np.concatenate([order, np.full(-n % side, -1)]).reshape(-1, side)
    parts = [np.zeros((0, side, side))]
    parts += [blocks(padded[i : i + _AT_ONCE]) for i in range(0, len(padded), _AT_ONCE)]
    tiles = np.concatenate(parts)
    if hermitian:
        lower = np.tril(tiles, -1)
        tiles = np.tril(tiles) + lower.conj().swapaxes(1, 2)
    beyond = padded < 0
    tiles = np.where(beyond[:, :, None] | beyond[:, None, :], np.eye(side), tiles)
    if definite:
        return _halves(tiles, padded, order, like)
    if hermitian:
        values, vectors = np.linalg.eigh(tiles)
        size = np.abs(values)
        size = np.maximum(size, LEAST * size.max(axis=1, keepdims=True))
        if not (size > 0).all():
            return None
        inverse = (vectors / size[:, None, :]) @ vectors.conj().swapaxes(1, 2)
    else:
        if not (np.linalg.cond(tiles) < 1 / np.finfo(np.float64).eps).all():
            return None
        inverse = np.linalg.inv(tiles)
    return InverseTiles(_Tiles(inverse, order, like), definite=hermitian)


def _halves(tiles: Any, padded: IntArray, order: IntArray, like: StructuredMatrix) -> DefiniteTiles:
    try:
        L = np.linalg.cholesky(tiles)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(tiles)[:, 0]
        worst = int(np.argmin(least))
        raise Indefinite(int(padded[worst, 0]), float(least[worst])) from None
    half = np.linalg.inv(L)
    log_half = -float(np.log(np.diagonal(L, axis1=1, axis2=2).real).sum())
    return DefiniteTiles(_Tiles(half, order, like), log_half)
