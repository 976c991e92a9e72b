"""Sizes of rows and columns of a matrix of tiles, and the matrix with these made similar."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.solvers.elimination.scaling import Scales, are_similar, levels_of, powers
from structmat.solvers.elimination.tile_arithmetic import Thin, Tile, adjoint_tile, as_dense
from structmat.solvers.elimination.tile_form import TileForm


def balanced(form: TileForm, *, definite: bool) -> tuple[TileForm, Scales | None]:
    """The form with rows and columns scaled, and the scales; None where nothing needed scaling.

    A definite form is scaled by its diagonal from both sides alike, so that it stays hermitian.
    """
    if definite:
        levels = levels_of(np.concatenate(_diagonal(form)))
        if are_similar(levels):
            return form, None
        scales = powers(levels / 2, form.dtype, of="row")
        return scaled(form, scales, scales), Scales(scales, scales)
    rows = _row_levels(form)
    ones = np.ones(len(rows))
    if are_similar(rows) and are_similar(_row_levels(_turned(form))):
        return form, None
    tops = powers(rows, form.dtype, of="row")
    form = scaled(form, tops, ones)
    lefts = powers(_row_levels(_turned(form)), form.dtype, of="column")
    return scaled(form, ones, lefts), Scales(tops, lefts)


def scaled(form: TileForm, rows: NDArray, cols: NDArray) -> TileForm:
    """diag(rows) S diag(cols)."""
    rows, cols = rows.astype(form.dtype), cols.astype(form.dtype)
    tiles: dict[tuple[int, int], Tile] = {}
    for (i, j), tile in form.tiles.items():
        top = rows[form.begins[i] : form.begins[i + 1], None]
        left = cols[form.begins[j] : form.begins[j + 1]]
        if isinstance(tile, Thin):
            tiles[i, j] = Thin(tile.U * top, tile.V * left[:, None])
        else:
            tiles[i, j] = tile * top * left
    return replace(form, tiles=tiles)


def has_positive_diagonal(form: TileForm) -> bool:
    """True if all diagonal entries are positive, as those of a definite matrix are."""
    return all((part > 0).all() for part in _diagonal(form))


def frobenius(form: TileForm) -> float:
    """Frobenius norm."""
    return float(np.sqrt(sum(_square(tile) for tile in form.tiles.values())))


def one_norm(form: TileForm) -> float:
    """Largest sum of the absolute values of a column."""
    sums = np.zeros(int(form.begins[-1]))
    for (_, j), tile in form.tiles.items():
        sums[form.begins[j] : form.begins[j + 1]] += np.abs(as_dense(tile)).sum(axis=0)
    return float(sums.max(initial=0.0))


def _diagonal(form: TileForm) -> list[NDArray]:
    """Real parts of the diagonals of all diagonal tiles."""
    count = len(form.begins) - 1
    tiles = [np.diagonal(as_dense(form.tiles[k, k])).real for k in range(count)]
    return [np.zeros(0), *tiles]


def _square(tile: Tile) -> float:
    if isinstance(tile, Thin):
        grams = [F.conj().T @ F for F in tile]
        return max(float((grams[0] * grams[1].conj()).real.sum(dtype=np.float64)), 0.0)
    return float(np.square(np.abs(tile)).sum(dtype=np.float64))


def _turned(form: TileForm) -> TileForm:
    return replace(form, tiles={(j, i): adjoint_tile(t) for (i, j), t in form.tiles.items()})


def _row_levels(form: TileForm) -> NDArray:
    """Base-two logarithm of the size of each row: the norm of its largest part in a tile."""
    levels = np.full(int(form.begins[-1]), -np.inf)
    for (i, _), tile in form.tiles.items():
        some = slice(form.begins[i], form.begins[i + 1])
        levels[some] = np.maximum(levels[some], _tile_levels(tile))
    return levels


def _tile_levels(tile: Tile) -> NDArray:
    if not isinstance(tile, Thin):
        return levels_of(np.abs(tile).max(axis=1, initial=0))
    (U, up), (V, wide) = (_moderate(F) for F in tile)
    triangle = np.asarray(np.linalg.qr(V, mode="r"))
    return levels_of(np.abs(U @ triangle.conj().T).max(axis=1, initial=0)) + up + wide


def _moderate(F: NDArray) -> tuple[NDArray, int]:
    """An array with entries of at most 1, and the power of two that was taken out."""
    power = int(np.frexp(np.abs(F).max(initial=0))[1])
    shift: Any = np.asarray(2.0, F.dtype) ** np.asarray(-power, F.dtype)
    return F * shift, power
