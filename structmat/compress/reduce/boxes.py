"""Rectangles of a matrix with contents, and their singular value decompositions."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.intervals import IntArray, multiplications, offsets, stretches
from structmat.kernels.arrays.rectangles import RectangleBatches
from structmat.kernels.layouts.rectangles import DENSE, Rectangles

#: Roundings of its factors below which a singular value of a rectangle is none.
ROUNDINGS = 16


@dataclass(frozen=True, eq=False)
class Boxes:
    """Rectangles of a matrix (m, n) with contents in double precision.

    The table and the contents are laid out as those of a hierarchical matrix. Rectangles may
    overlap; with `cyclic` their runs may come around the edge, and one that is a single row or
    column saves a multiplication.
    """

    table: IntArray
    u: NDArray[Any]
    v: NDArray[Any]
    dense: NDArray[Any]
    shape: tuple[int, int]
    symmetric: bool = False
    cyclic: bool = False
    #: Multiplications of each rank beside those of its rows and columns.
    extra: int = 0

    @cached_property
    def of(self) -> Rectangles:
        """The rectangles alone."""
        return Rectangles(self.table, self.shape, self.symmetric)

    @cached_property
    def weight(self) -> IntArray:
        """2 for rectangles that stand for a mirror image, too; 1 for others."""
        return 1 + (self.symmetric & ~self.of.is_triangular)

    @cached_property
    def step(self) -> IntArray:
        """Multiplications of a further rank of each rectangle."""
        p, q = self.of.height, self.of.width
        single = multiplications(p, q) if self.cyclic else p + q
        return np.asarray(self.weight * single + self.extra)

    @cached_property
    def whole(self) -> IntArray:
        """Multiplications of each rectangle stored dense."""
        return np.asarray(self.weight * self.of.height * self.of.width)

    @property
    def cost(self) -> int:
        """Multiplications of all rectangles for one vector."""
        rank = self.table[:, 4]
        return int(np.where(rank == DENSE, self.whole, rank * self.step).sum())

    def in_order(self) -> "Boxes":
        """The same rectangles by their first rows and columns: equal ones at equal places."""
        order = np.lexsort(self.table[:, 3::-1].T)
        if (np.diff(order) > 0).all():
            return self
        taken = []
        for flat, begin in zip((self.u, self.v, self.dense), self.of.begins, strict=True):
            size = np.diff(begin)[order]
            taken.append(flat[stretches(begin[:-1][order], size)])
        return replace(self, table=self.table[order], u=taken[0], v=taken[1], dense=taken[2])

    def scaled(self, alpha: Any) -> "Boxes":
        """The rectangles times a number."""
        return replace(self, u=self.u * alpha, dense=self.dense * alpha)


@dataclass(frozen=True, eq=False)
class Spectra:
    """Singular values and vectors of all rectangles but triangles, which stay dense."""

    boxes: Boxes
    #: Number of values of each rectangle, and all of them, largest first in each.
    count: IntArray
    values: NDArray[np.float64]
    #: U^T and V^T of each rectangle, each with the roots of the values.
    u: NDArray[Any]
    v: NDArray[Any]
    #: Sum of the norms of each rectangle's terms, whose roundings are no values.
    scale: NDArray[np.float64]

    @cached_property
    def owner(self) -> IntArray:
        """Rectangle of each value."""
        return np.repeat(np.arange(self.count.size), self.count)

    @cached_property
    def energy(self) -> NDArray[np.float64]:
        """Square of each value, with that of the mirror image."""
        return np.asarray(self.values**2 * self.boxes.weight[self.owner])

    @property
    def is_noise(self) -> NDArray[np.bool_]:
        """Mask of the values that are roundings."""
        floor = ROUNDINGS * np.finfo(np.float64).eps * self.scale
        return np.asarray(self.values <= floor[self.owner])

    def kept(self, rank: IntArray) -> Boxes:
        """The rectangles of these ranks, -1 for dense ones; those of rank zero are left out."""
        low = np.maximum(rank, 0)
        sides = [
            _prefixes(flat, self.count, low, size)
            for flat, size in ((self.u, self.boxes.of.height), (self.v, self.boxes.of.width))
        ]
        left = rank != 0
        table = self.boxes.table[left].copy()
        table[:, 4] = rank[left]
        return replace(
            self.boxes, table=table, u=sides[0], v=sides[1], dense=self._filled(rank == DENSE)
        )

    def dropped(self, rank: IntArray) -> Boxes:
        """The rectangles that `kept` leaves out, with the rest of their ranks."""
        low = np.where(rank == DENSE, self.count, rank)
        rest = self.count - low
        sides = [
            _suffixes(flat, self.count, rest, size)
            for flat, size in ((self.u, self.boxes.of.height), (self.v, self.boxes.of.width))
        ]
        left = rest > 0
        table = self.boxes.table[left].copy()
        table[:, 4] = rest[left]
        none = self.boxes.dense[:0]
        return replace(self.boxes, table=table, u=sides[0], v=sides[1], dense=none)

    def _filled(self, wanted: NDArray[np.bool_]) -> NDArray[Any]:
        """Entries of the rectangles that are stored dense, those of low rank filled in."""
        boxes, of = self.boxes, self.boxes.of
        parts: list[NDArray[Any]] = [boxes.dense[:0]]
        for k in np.flatnonzero(wanted):
            if of.is_dense[k]:
                parts.append(boxes.dense[of.begins[2][k] : of.begins[2][k + 1]])
                continue
            p, q, r = int(of.height[k]), int(of.width[k]), int(of.rank[k])
            U = boxes.u[of.begins[0][k] : of.begins[0][k + 1]].reshape(r, p)
            V = boxes.v[of.begins[1][k] : of.begins[1][k + 1]].reshape(r, q)
            parts.append((U.T @ V.conj()).ravel())
        return np.concatenate(parts)


def decomposed(boxes: Boxes) -> Spectra:
    """Singular values and vectors of all rectangles, by QR and SVD of their factors."""
    of, size = boxes.of, len(boxes.table)
    most = np.minimum(of.height, of.width)
    count = np.where(of.is_dense, most, np.minimum(of.rank, most))
    count = np.where(of.is_triangular & of.is_dense, 0, count)
    begins = [offsets(count * side) for side in (of.height, of.width)]
    dtype = np.result_type(boxes.u, boxes.v, boxes.dense)
    sides = [np.empty(int(begin[-1]), dtype) for begin in begins]
    at, values, scale = offsets(count), np.empty(int(count.sum())), np.zeros(size)
    parts = RectangleBatches(of, boxes.u, boxes.v, boxes.dense)
    for group, stacks in parts.stacks():
        if group.triangular or group.rank == 0:
            continue
        U, s, V, norm = _triples(stacks)
        scale[group.members] = norm
        values[at[group.members, None] + np.arange(s.shape[1])] = s
        root = np.sqrt(s)[:, :, None]
        for flat, begin, F in zip(sides, begins, (U, V), strict=True):
            place = begin[group.members, None] + np.arange(F.shape[1] * F.shape[2])
            flat[place] = (F * root).reshape(len(F), -1)
    return Spectra(boxes, count, values, sides[0], sides[1], scale)


def _triples(stacks: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """U^T (c, k, p), values (c, k), V^T (c, k, q) and norms of factors of a stack."""
    if len(stacks) == 1:
        U, s, Vh = np.linalg.svd(stacks[0], full_matrices=False)
        return U.swapaxes(1, 2), s, Vh.conj(), np.linalg.norm(s, axis=1)
    (P, R), (Q, S) = (np.linalg.qr(F.swapaxes(1, 2)) for F in stacks)
    left, s, right = np.linalg.svd(R @ S.conj().swapaxes(1, 2), full_matrices=False)
    norm = (np.linalg.norm(R, axis=1) * np.linalg.norm(S, axis=1)).sum(axis=1)
    U, V = P @ left, Q @ right.conj().swapaxes(1, 2)
    return U.swapaxes(1, 2), s, V.swapaxes(1, 2), norm


def _prefixes(flat: NDArray[Any], count: IntArray, kept: IntArray, size: IntArray) -> NDArray[Any]:
    """The first ranks of each rectangle's factor."""
    begin = offsets(count * size)[:-1]
    return flat[stretches(begin, kept * size)]


def _suffixes(flat: NDArray[Any], count: IntArray, left: IntArray, size: IntArray) -> NDArray[Any]:
    """The last ranks of each rectangle's factor."""
    begin = offsets(count * size)[:-1] + (count - left) * size
    return flat[stretches(begin, left * size)]
