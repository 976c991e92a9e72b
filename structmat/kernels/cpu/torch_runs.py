"""Compiled products by blocks whose runs move: torch tensors in, torch tensors out.

Nothing is kept from one product to the next. Contents lie on windows around the runs,
several to a block, and gradients come back on the same windows.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.kernels.cpu.column_loops import ROWS
from structmat.kernels.cpu.columns import TileFactor, TileProduct, gradients
from structmat.kernels.cpu.run_cells import run_strips


class _RunFactor:
    """Contents on cyclic runs as a factor of row groups.

    Parameters
    ----------
    contents : Tensor, shape (K, r, S)
        What blocks hold, on windows of S samples.
    start, reach : Tensor of int64, shape (K,)
        The cyclic runs on which it counts.
    slot : Tensor of int64, shape (K,)
        Where in the window each run begins; it comes around where the window does.
    size : int
        Samples of the axis.
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
        *index, self.entries = run_strips(*runs, size, ROWS, self.numbers.size, whole)
        self.factor = TileFactor.of((*index, self._cells()), (size, blocks * rank))

    def _cells(self) -> np.ndarray:
        padded = np.append(self.numbers, self.numbers.dtype.type(0))
        return np.take(padded, self.entries)

    def window_gradient(self, cells: Any) -> Tensor:
        """Gradient on the windows, (K, r, S), from that of the cells."""
        padded = np.zeros(self.numbers.size + 1, cells.dtype)
        padded[self.entries] = cells[:, :ROWS]
        return torch.from_numpy(padded[:-1].reshape(self.shape))


class RunProduct:
    """Vectors times the transpose of Σ_k u_k v_k^T.

    Parameters
    ----------
    rows, cols : tuple
        What `_RunFactor` takes, for either side of the blocks.
    """

    def __init__(self, rows: tuple[Any, ...], cols: tuple[Any, ...]) -> None:
        self._rows, self._cols = _RunFactor(*rows), _RunFactor(*cols)
        factors = self._rows.factor, self._cols.factor
        self._product = TileProduct(*factors, through=False, threads=torch.get_num_threads())

    def multiply(self, x: Tensor) -> Tensor:
        """Vectors (T, n) to (T, m)."""
        y = self._product.multiply(_columns(x), by_columns=True)
        return torch.from_numpy(y.T)

    def gradients(
        self, x: Tensor, grad: Tensor, operand: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of x, if wanted, and of both sides' contents on their windows."""
        arrays = _columns(x), _columns(grad)
        by_x, *cells = gradients(self._product, *arrays, contents=True, operand=operand)
        sides = zip((self._rows, self._cols), cells, strict=True)
        by_rows, by_cols = (side.window_gradient(grad) for side, grad in sides)
        return None if by_x is None else torch.from_numpy(by_x.T), by_rows, by_cols


def _columns(x: Tensor) -> np.ndarray:
    """Vectors (T, n) as columns of NumPy."""
    return x.detach().resolve_neg().numpy().T
