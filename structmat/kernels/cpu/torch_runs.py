"""Compiled products by blocks whose runs move: torch tensors in, torch tensors out.

Nothing is kept from one product to the next. Contents lie on windows around the runs,
r to a block of rank r, and gradients come back on the same windows.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.kernels.cpu.column_loops import ROWS
from structmat.kernels.cpu.columns import TileFactor, TileProduct, gradients
from structmat.kernels.cpu.run_cells import run_row_groups
from structmat.kernels.cpu.torch_op import on_numpy


class _RunFactor:
    """One side of all blocks as a factor in row groups, on an axis of `size` samples.

    Contents, (K, r, S), lie on windows of S samples. They count on the cyclic runs from
    `start` on, `reach` samples wide. Each run begins at sample `slot` of its window, and
    comes around with the window.
    """

    def __init__(
        self, contents: Tensor, start: Tensor, reach: Tensor, slot: Tensor, size: int
    ) -> None:
        blocks, rank, window = self.shape = contents.shape
        self.numbers = contents.detach().contiguous().view(-1).numpy()
        first = np.arange(blocks * rank) * window
        runs = [np.repeat(array.cpu().numpy(), rank) for array in (start, reach)]
        runs.append(first + np.repeat(slot.cpu().numpy(), rank))
        whole = window == size
        *index, self.entries = run_row_groups(
            *runs, size, ROWS, self.numbers.size, whole, np.empty(0, np.int64)
        )
        padded = np.append(self.numbers, self.numbers.dtype.type(0))
        cells = np.take(padded, self.entries)
        self.factor = TileFactor.of((*index, cells), (size, blocks * rank))

    def window_gradient(self, cells: Any) -> Tensor:
        """Gradient on the windows, (K, r, S), from that of the cells."""
        padded = np.zeros(self.numbers.size + 1, cells.dtype)
        padded[self.entries] = cells[:, :ROWS]
        return torch.from_numpy(padded[:-1].reshape(self.shape))


class RunProduct:
    """Products of vectors with the transpose of Σ_k u_k v_k^T.

    Either side of the blocks is given by the arguments of its `_RunFactor`.
    """

    def __init__(self, rows: tuple[Any, ...], cols: tuple[Any, ...]) -> None:
        self._rows, self._cols = _RunFactor(*rows), _RunFactor(*cols)
        factors = self._rows.factor, self._cols.factor
        self._product = TileProduct(*factors, through=False, threads=torch.get_num_threads())

    def multiply(self, x: Tensor) -> Tensor:
        """Vectors (T, n) to (T, m)."""
        y = self._product.multiply(on_numpy(x).T, by_columns=True)
        return torch.from_numpy(y.T)

    def gradients(
        self, x: Tensor, grad: Tensor, operand: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of x, if wanted, and of both sides' contents on their windows."""
        arrays = on_numpy(x).T, on_numpy(grad).T
        by_x, *cells = gradients(self._product, *arrays, contents=True, operand=operand)
        sides = zip((self._rows, self._cols), cells, strict=True)
        by_rows, by_cols = (side.window_gradient(grad) for side, grad in sides)
        return None if by_x is None else torch.from_numpy(by_x.T), by_rows, by_cols
