"""Max-subarray power iteration: rank-1 blocks that take away more energy than they cost.

For a unit vector v on a run of columns, the best rows are the cyclic run that maximises
the sum of |(R v)_i|^2 - price: a maximum-subarray problem. Taking turns between rows and
columns never lowers the gain, energy taken away less price times multiplications.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.compress._gblr_residual import Block, DenseResidual, Residual, squares, take
from structmat.intervals import best_runs

__all__ = ["Found", "climb", "propose", "propose_tiles", "refit", "sweep"]


class Found(NamedTuple):
    """A block, and its gain: the energy it takes away less the price of its cost."""

    block: Block
    gain: float


def climb(residual: Residual, col: int, v: NDArray, price: float) -> Found | None:
    """Best rows for v, then best columns for those; None where nothing is gained.

    O(m w_C + n w_R) for a block of w_R rows and w_C columns.
    """
    norm = float(np.linalg.norm(v))
    if not norm > 0:
        return None
    p = residual.times(col, v / v.dtype.type(norm))
    _, row, width = _best_run(squares(p) - price)
    u = take(p, row, width)
    norm = float(np.linalg.norm(u))
    if not norm > 0:
        return None
    u /= u.dtype.type(norm)
    q = residual.adjoint_times(row, u)
    total, col, reach = _best_run(squares(q) - price)
    gain = total - price * width
    return Found(Block(row, u, col, take(q, col, reach)), gain) if gain > 0 else None


def _best_run(score: NDArray) -> tuple[float, int, int]:
    """`intervals.best_runs` for a single row, without the overhead of many."""
    n = score.size
    prefix = np.empty(n + 1)
    prefix[0] = 0.0
    np.cumsum(score, out=prefix[1:])
    rise = prefix - np.minimum.accumulate(prefix)
    fall = np.maximum.accumulate(prefix) - prefix
    i, j = int(rise.argmax()), int(fall.argmax())
    inner, outer = float(rise[i]), float(prefix[n] + fall[j])
    if max(inner, outer) <= 0:
        return 0.0, 0, 0
    if inner >= outer:
        start = int(prefix[: i + 1].argmin())
        return inner, start, i - start
    start = int(prefix[: j + 1].argmax())
    return outer, j % n, n - (j - start)


def sweep(residual: Residual, blocks: list[Block], price: float) -> list[Block]:
    """Take out every block in turn, fit run and contents anew, and put it back if it gains."""
    kept = []
    for block in blocks:
        residual.change(block, +1)
        found = climb(residual, block.col, block.v, price)
        if found is not None:
            residual.change(found.block, -1)
            kept.append(found.block)
    return kept


def refit(residual: Residual, blocks: list[Block]) -> list[Block]:
    """Fit the contents of every block in turn on its own run: the error never grows."""
    m, n = residual.shape
    fitted = []
    for block in blocks:
        norm = float(np.linalg.norm(block.v))
        if norm > 0:
            residual.change(block, +1)
            p = residual.times(block.col, block.v / block.v.dtype.type(norm))
            u = take(p, block.row, block.u.size)
            norm = float(np.linalg.norm(u))
            u /= u.dtype.type(norm if norm > 0 else 1)
            v = take(residual.adjoint_times(block.row, u), block.col, block.v.size)
            block = Block(block.row, u, block.col, v)
            residual.change(block, -1)
            fitted.append(block)
    return fitted


def propose(
    residual: Residual, price: float, count: int, rng: np.random.Generator
) -> list[Found]:
    """Climb from many random starts at once: blocks that gain, best first; they may overlap.

    A start is a random combination of a run of rows seen through a window of columns,
    of widths spread evenly in their logarithm. O(m n count).
    """
    m, n = residual.shape
    V = residual.rmatmat(_windows(m, count, rng).astype(residual.dtype))
    V *= _windows(n, count, rng) != 0
    for _ in range(2):
        P = residual.matmat(_unit(V))
        _, row, height = best_runs(squares(P).T - price)
        U = _unit(P * _inside(row, height, m).T)
        Q = residual.rmatmat(U)
        total, col, reach = best_runs(squares(Q).T - price)
        V = Q * _inside(col, reach, n).T
    gain = total - price * height
    return [
        Found(
            Block(
                int(row[k]), take(U[:, k], row[k], height[k]), int(col[k]), take(V[:, k], col[k], reach[k])
            ),
            float(gain[k]),
        )
        for k in _best_first(gain)
    ]


def propose_tiles(
    residual: DenseResidual, price: float, level: int, rng: np.random.Generator
) -> list[Found]:
    """One climb inside every tile of a randomly shifted grid: blocks that do not overlap.

    Tiles are 2^-level of each axis, so that a round costs a few passes over the residual
    however many blocks it brings.
    """
    m, n = residual.shape
    a, b = max(1, m >> level), max(1, n >> level)
    tiles, top, left = _grid(residual.array, a, b, rng)
    l = tiles.shape[1]
    strongest = squares(tiles).sum(-1).argmax(-1)
    v = np.take_along_axis(tiles, strongest[:, :, None, None], 2)[:, :, 0].conj().reshape(-1, b)
    for _ in range(2):
        p = np.matmul(tiles, _unit(v.T).T.reshape(*tiles.shape[:2], b, 1)).reshape(-1, a)
        _, row, height = best_runs(squares(p) - price, cyclic=a == m)
        u = _unit((p * _inside(row, height, a)).T).T
        q = np.matmul(u.conj().reshape(*tiles.shape[:2], 1, a), tiles).reshape(-1, b).conj()
        total, col, reach = best_runs(squares(q) - price, cyclic=b == n)
        v = q * _inside(col, reach, b)
    gain = total - price * height
    found = []
    for k in _best_first(gain):
        i, j = divmod(int(k), l)
        rows, cols = (top + i * a + int(row[k])) % m, (left + j * b + int(col[k])) % n
        block = Block(rows, take(u[k], row[k], height[k]), cols, take(v[k], col[k], reach[k]))
        found.append(Found(block, float(gain[k])))
    return found


def _grid(array: NDArray, a: int, b: int, rng: np.random.Generator) -> tuple[NDArray, int, int]:
    """A view of shape (k, l, a, b) of the a x b tiles from a random corner on, and the corner."""
    m, n = array.shape
    top = int(rng.integers(a)) if 2 * a <= m else 0
    left = int(rng.integers(b)) if 2 * b <= n else 0
    k, l = (m - top) // a, (n - left) // b
    part = array[top : top + k * a, left : left + l * b]
    return part.reshape(k, a, l, b).transpose(0, 2, 1, 3), top, left


def _windows(n: int, count: int, rng: np.random.Generator) -> NDArray:
    """Gaussian columns on random runs of widths spread evenly in their logarithm."""
    width = np.maximum(1, n ** rng.random(count)).astype(np.int64)
    start = rng.integers(0, n, count)
    return rng.standard_normal((n, count)) * _inside(start, width, n).T


def _inside(start: NDArray, width: NDArray, n: int) -> NDArray:
    return (np.arange(n) - start[:, None]) % n < width[:, None]


def _unit(columns: NDArray) -> NDArray:
    norm = np.linalg.norm(columns, axis=0)
    return columns / np.where(norm > 0, norm, 1)


def _best_first(gain: NDArray) -> NDArray:
    order = np.argsort(-gain, kind="stable")
    return order[gain[order] > 0]
