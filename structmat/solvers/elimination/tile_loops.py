"""Elimination of a matrix of tiles: S = L U over tiles, or L L^H, by block columns.

Left-looking: a tile takes all its updates at once and is truncated once, so the errors of the
tiles are a backward error of S. Rows change places inside diagonal tiles alone. Tiles that are
absent stay absent unless they fill.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from structmat.solvers.elimination.pivots import LU, Cholesky
from structmat.solvers.elimination.tile_arithmetic import (
    Thin,
    Tile,
    adjoint_tile,
    adjoint_times,
    as_dense,
    difference,
    tile_size,
    times,
    truncated,
)

Place = tuple[int, int]


class SingularTile(Exception):
    """A diagonal tile without an inverse, or not definite.

    Attributes
    ----------
    tile, column : int
        Number of the tile, and the column in it.
    lowest : float
        Smallest eigenvalue of a hermitian tile; 0 for others.
    """

    def __init__(self, tile: int, column: int, lowest: float = 0.0) -> None:
        super().__init__(tile, column, lowest)
        self.tile, self.column, self.lowest = tile, column, lowest


class TooLarge(Exception):
    """Factors that hold more scalars than they may."""


class Eliminated:
    """Factors of a matrix of tiles, with solves, the determinant and products.

    Attributes
    ----------
    pivots : list of LU or Cholesky
        Diagonal tiles taken apart.
    lower, upper : list of dict
        Tiles below each diagonal tile by their row, and those right of it by their column.
    truncation : float
        Frobenius norm of all that truncation left out.
    """

    def __init__(self, begins: NDArray[np.int64], dtype: Any) -> None:
        self.begins, self.dtype = begins, np.dtype(dtype)
        self.pivots: list[LU | Cholesky] = []
        self.lower: list[dict[int, Tile]] = []
        self.upper: list[dict[int, Tile]] = []
        self.truncation = 0.0

    @property
    def cost(self) -> int:
        """Multiplications of one solve."""
        own = sum(pivot.factor.size for pivot in self.pivots)
        sides = self.lower, self.upper
        tiles = sum(tile_size(t) for side in sides for tiles in side for t in tiles.values())
        return tiles + own * (1 + self.definite)

    @property
    def definite(self) -> bool:
        """True for L L^H."""
        return bool(self.pivots) and self.pivots[0].definite

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b for columns b (n, k)."""
        x = self._parts(b)
        for k, pivot in enumerate(self.pivots):
            x[k] = pivot.first(x[k])
            for i, tile in self.lower[k].items():
                x[i] = x[i] - times(tile, x[k])
        for k in reversed(range(len(self.pivots))):
            for j, tile in self.upper[k].items():
                x[k] = x[k] - times(tile, x[j])
            x[k] = self.pivots[k].last(x[k])
        return self._whole(x, b)

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b for columns b (n, k)."""
        x = self._parts(b)
        for k, pivot in enumerate(self.pivots):
            x[k] = pivot.last_adjoint(x[k])
            for j, tile in self.upper[k].items():
                x[j] = x[j] - adjoint_times(tile, x[k])
        for k in reversed(range(len(self.pivots))):
            for i, tile in self.lower[k].items():
                x[k] = x[k] - adjoint_times(tile, x[i])
            x[k] = self.pivots[k].first_adjoint(x[k])
        return self._whole(x, b)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        parts = [pivot.log_determinant() for pivot in self.pivots]
        sign = np.prod([part[0] for part in parts]) if parts else 1.0
        return sign, float(sum(part[1] for part in parts))

    def _parts(self, b: NDArray) -> list[NDArray]:
        return [b[first:end] for first, end in zip(self.begins, self.begins[1:], strict=False)]

    def _whole(self, parts: list[NDArray], b: NDArray) -> NDArray:
        return np.concatenate([np.zeros((0, b.shape[1]), b.dtype), *parts])


def eliminate(
    tiles: Mapping[Place, Tile],
    begins: NDArray[np.int64],
    dtype: Any,
    *,
    definite: bool,
    tile_error: float,
    most_size: float = np.inf,
) -> Eliminated:
    """Factors of the matrix of these tiles on a square grid with the given borders.

    Parameters
    ----------
    tiles : mapping of (i, j) to tile
    begins : ndarray of int
        First row of each tile row, then n.
    definite : bool
        Whether to find L L^H of a hermitian matrix; then tiles above the diagonal are not read.
    tile_error : float
        Largest Frobenius norm that truncation takes from a tile that was thin or absent.
    most_size : float
        Most scalars that the factors may hold.

    Raises
    ------
    SingularTile
        If a diagonal tile has no inverse, or is not definite where L L^H is asked for.
    TooLarge
        If the factors hold more than `most_size` scalars.
    """
    count = len(begins) - 1
    sizes = np.diff(begins).tolist()
    result, held = Eliminated(begins, dtype), 0
    left_of: list[dict[int, Tile]] = [{} for _ in range(count)]  # L by rows
    above: list[dict[int, Tile]] = [{} for _ in range(count)]  # U by columns
    starts: list[tuple[dict[int, Tile], dict[int, Tile]]] = [({}, {}) for _ in range(count)]
    for (i, j), tile in tiles.items():
        if i > j:
            starts[j][0][i] = tile
        elif j > i:
            starts[i][1][j] = tile

    def updated(i: int, j: int, start: Tile | None) -> Tile:
        rows, cols = left_of[i], above[j]
        both = sorted(rows.keys() & cols.keys())
        pairs = [(rows[m], cols[m]) for m in both]
        return difference(start, pairs, (sizes[i], sizes[j]), dtype)

    def settled(tile: Tile, start: Tile | None) -> Tile | None:
        if isinstance(start, np.ndarray):
            return tile
        kept, error = truncated(tile, tile_error)
        both = error * (2**0.5 if definite else 1)
        result.truncation = float(np.hypot(result.truncation, both))
        return kept

    for k in range(count):
        D = as_dense(updated(k, k, tiles.get((k, k))))
        pivot = Cholesky(D) if definite else LU(D)
        if pivot.singular is not None:
            lowest = float(eigvalsh(D, check_finite=False)[0]) if definite else 0.0
            raise SingularTile(k, pivot.singular, lowest)
        lower: dict[int, Tile] = {}
        for i in _reached(starts[k][0], above[k], result.lower, k):
            below = settled(updated(i, k, starts[k][0].get(i)), starts[k][0].get(i))
            if below is not None:
                lower[i] = _over(below, pivot)
        if definite:
            upper = {i: adjoint_tile(tile) for i, tile in lower.items()}
        else:
            upper = {}
            for j in _reached(starts[k][1], left_of[k], result.upper, k):
                beside = settled(updated(k, j, starts[k][1].get(j)), starts[k][1].get(j))
                if beside is not None:
                    upper[j] = _under(beside, pivot)
        for i, tile in lower.items():
            left_of[i][k] = tile
        for j, tile in upper.items():
            above[j][k] = tile
        result.pivots.append(pivot)
        result.lower.append(lower)
        result.upper.append(upper)
        held += D.size + sum(tile_size(t) for t in lower.values())
        held += 0 if definite else sum(tile_size(t) for t in upper.values())
        if held > most_size:
            raise TooLarge
    return result


def _reached(
    start: Mapping[int, Tile], across: Mapping[int, Tile], earlier: list[dict[int, Tile]], k: int
) -> list[int]:
    """Places beyond the diagonal tile k that hold a tile, or that earlier pivots fill."""
    filled = {i for m in across for i in earlier[m] if i > k}
    return sorted(filled | start.keys())


def _over(tile: Tile, pivot: LU | Cholesky) -> Tile:
    """A tile below the diagonal times U^-1 of the diagonal tile."""
    if isinstance(tile, Thin):
        return Thin(tile.U, pivot.last_adjoint(tile.V))
    return pivot.last_adjoint(tile.conj().T).conj().T


def _under(tile: Tile, pivot: LU | Cholesky) -> Tile:
    """(P^T L)^-1 of the diagonal tile times a tile right of it."""
    if isinstance(tile, Thin):
        return Thin(pivot.first(tile.U), tile.V)
    return pivot.first(tile)
