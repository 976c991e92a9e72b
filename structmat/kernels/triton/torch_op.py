"""Sparse matrices in tiles on PyTorch: structure alone, which multiplies by operators."""

from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat._derivatives import is_plain, is_traced, lasting
from structmat.errors import BackendError, ShapeError
from structmat.kernels.layouts.placed import grain, placed
from structmat.kernels.layouts.tiles import MOST, TileLayout
from structmat.kernels.triton import operators


class TileValues(NamedTuple):
    """Packed contents in the tiles of a matrix and of its transpose; None where left out.

    Or packed contents as they are, for both, where they hold the tiles.
    """

    forward: Tensor | None
    transpose: Tensor | None


class TileMatrix:
    """A sparse matrix W, shape (p, q), in tiles: structure alone; contents come later.

    Layouts of W and of its transpose, for the same packed contents, are those that
    `run_tile_layouts` and `block_tile_layouts` return.

    Examples
    --------
    A block on rows 2 to 4 of column 0 and one on row 1 of column 1:

    >>> import numpy as np
    >>> from structmat.kernels.layouts.tiles import run_tile_layouts
    >>> W = TileMatrix(*run_tile_layouts(np.array([2, 1]), np.array([3, 1]), 5))
    >>> values = W.values(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> W.times(torch.eye(5), values)
    tensor([[0., 0.],
            [0., 4.],
            [1., 0.],
            [2., 0.],
            [3., 0.]])
    >>> W.transpose_times(torch.ones(1, 2), values)
    tensor([[0., 4., 1., 2., 3.]])
    """

    def __init__(
        self, layout: TileLayout, transpose: TileLayout, device: torch.device | str = "cpu"
    ) -> None:
        if transpose.shape != layout.shape[::-1] or transpose.entries.size != layout.entries.size:
            raise ShapeError(
                f"transpose has shape {transpose.shape} and {transpose.entries.size} contents; "
                f"expected {layout.shape[::-1]} and {layout.entries.size} (cut both from the same "
                "matrix)"
            )
        self.shape = layout.shape
        self._sides = _DeviceLayout(layout, device), _DeviceLayout(transpose, device)
        steps = [side.steps for side in self._sides]
        self._steps = [steps[0] + steps[1], steps[1] + steps[0]] if all(steps) else None

    @property
    def is_in_place(self) -> bool:
        """True if packed contents hold all tiles, of both sides, and need not be copied."""
        return self._steps is not None

    def in_place(self, contents: Tensor) -> TileValues:
        """Packed contents as they are, for products of a matrix that `is_in_place`."""
        return TileValues(contents, contents)

    def values(self, contents: Tensor, *, only: int | None = None) -> TileValues:
        """Packed contents in tiles, differentiable; once is enough where they do not change.

        `times` needs side 0, `transpose_times` side 1, and gradients by the operand both; with
        `only` one of them is filled.
        """
        sides = (side if only in (None, i) else None for i, side in enumerate(self._sides))
        forward, transpose = (None if side is None else side.fill(contents) for side in sides)
        return TileValues(forward, transpose)

    def times(self, x: Tensor, values: TileValues, *, by_columns: bool = False) -> Tensor:
        """Product x W: (..., p) to (..., q), in the dtype of the values.

        With `by_columns` the result lies in memory column after column, the order that
        products with listed rows read fastest.
        """
        return self._product(x, values, 0, by_columns)

    def transpose_times(self, y: Tensor, values: TileValues, *, by_columns: bool = False) -> Tensor:
        """Product y W^T: (..., q) to (..., p); for the rest see `times`."""
        return self._product(y, values, 1, by_columns)

    def _product(self, x: Tensor, both: TileValues, side: int, by_columns: bool) -> Tensor:
        p, q = self.shape if side == 0 else self.shape[::-1]
        values, back = both[side], both[1 - side]
        assert values is not None
        steps = self._steps[side] if self._steps is not None and values.ndim == 1 else []
        # One of both is enough where contents hold the tiles of both.
        back = values.new_empty(0) if back is None or steps else back
        if x.shape[-1] != p:
            raise ShapeError(
                f"x has {x.shape[-1]} columns; expected {p}, the rows of the matrix "
                "(perhaps the other product is meant)"
            )
        if x.dtype != values.dtype:
            raise BackendError(
                f"x has dtype {x.dtype} and the values {values.dtype}; expected one (convert x or "
                "the contents)"
            )
        here, there = self._sides[side], self._sides[1 - side]
        # Where torch follows nothing, the way through its dispatcher is spared.
        direct = operators.uses_triton(x) and is_plain(x, values, back)
        product = operators.times if direct else operators.choose(x, values, back)[0]
        flat = product(
            *(x.reshape(prod(x.shape[:-1]), p), values, back, here.parts, there.parts),
            *(q, by_columns or here.listed, here.batched, there.batched, steps),
        )
        # Listed columns are stored quickly column after column alone: a copy takes less.
        flat = flat if by_columns else flat.contiguous()
        return flat.reshape(*x.shape[:-1], q)


class _DeviceLayout:
    """One of a matrix's two layouts, on a device."""

    def __init__(self, layout: TileLayout, device: torch.device | str) -> None:
        found = placed(layout)
        at = np.zeros(0, np.int64) if found is None else found.at
        at = at.astype(np.int32 if layout.entries.size <= MOST else np.int64)
        arrays = layout.begin, layout.owner, layout.inputs, layout.outputs, at
        self.parts = [torch.from_numpy(array).to(device) for array in arrays]
        #: Sides of a tile, its steps in packed contents, and what divides its places there.
        self.steps = [] if found is None else [*layout.tile, *found[1:], grain(found)]
        self.batched = _batched(layout)
        self.listed = layout.outputs.shape[1] > 1
        small = layout.entries.max(initial=0) < 2**31
        self._entries = layout.entries.astype(np.int32) if small else layout.entries
        self._device = device
        self._moved: Tensor | None = None
        self._shape = (layout.num_tiles, *layout.tile)

    def fill(self, contents: Tensor) -> Tensor:
        t, tk, tn = self._shape
        if contents.shape != self._entries.shape:
            raise ShapeError(
                f"contents of shape {tuple(contents.shape)}; expected {self._entries.shape}, "
                "the packed scalars in one row (flatten them)"
            )
        # The last place takes scalars that are not part of the matrix.
        empty = contents.new_zeros(t * tk * tn + 1)
        return empty.index_copy(0, self._index().long(), contents)[:-1].view(t, tk, tn)

    def _index(self) -> Tensor:
        """The places of packed contents, moved to the device when they are first needed."""
        if self._moved is not None:
            return self._moved
        if is_traced():
            return torch.from_numpy(self._entries).to(self._device)
        with lasting():
            self._moved = torch.from_numpy(self._entries).to(self._device)
        return self._moved


def _batched(layout: TileLayout) -> bool:
    """Tell whether W is block diagonal up to the order of columns: one batched product."""
    (p, q), (tk, tn), counts = layout.shape, layout.tile, np.diff(layout.begin)
    rows = layout.inputs if layout.inputs.shape[1] > 1 else layout.inputs + np.arange(tk)
    full = rows.size == p > 0 and counts.size * tn == q and bool((counts == counts[0]).all())
    return full and np.array_equal(rows.ravel(), np.arange(p))
