"""Pictures of structure: the number of rank-one blocks that cover each entry."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat import _array
from structmat.errors import InputError, MissingDependencyError, ShapeError
from structmat.intervals import IntArray, Runs, coarse_runs, cover_count, offsets
from structmat.matrices import (
    GBLR,
    Adjoint,
    BlockLowRank,
    BlockSparse,
    Dense,
    LowRank,
    Monarch,
    Permutation,
    Product,
    Scaled,
    Sum,
)
from structmat.matrix import StructuredMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["structure"]

# Pixels a side at most; on a longer side a pixel stands for several rows or columns.
_PIXELS = 1024


def structure(A: StructuredMatrix | Sequence[StructuredMatrix], ax: Any = None) -> Any:
    """Heat map of the number of rank-one blocks that cover each entry.

    A low-rank matrix is one even sheet, a block-sparse matrix shows its blocks, a GBLR
    matrix the overlap of its blocks; a dense block counts once. Combinations show the
    coverage of their parts. Kinds without blocks, those of other packages among them,
    show their nonzero entries. A matrix larger than the picture shows the number of
    blocks that touch each pixel.

    Parameters
    ----------
    A : StructuredMatrix or sequence of them
        Several matrices are drawn side by side, each on a colour scale of its own.
    ax : matplotlib Axes, or as many as there are matrices, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Axes, or ndarray of Axes for a sequence

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed (extra ``plot``).

    Examples
    --------
    >>> import numpy as np, structmat
    >>> A = structmat.GBLR([0, 3], [4, 4], np.ones(8), [0, 3], [4, 4], np.ones(8), shape=(8, 8))
    >>> structmat.plot.structure(A).get_title()
    'GBLR 8x8, cost 25 %'
    """
    several = not isinstance(A, StructuredMatrix)
    given: list[Any] = list(A) if several and isinstance(A, Iterable) else [A]
    matrices = [M for M in given if isinstance(M, StructuredMatrix)]
    if not matrices or len(matrices) < len(given):
        kinds = ", ".join(sorted({type(M).__qualname__ for M in given})) or "nothing"
        raise InputError(
            f"{kinds}; expected a StructuredMatrix or a sequence of them (of a result its .matrix; "
            "wrap an array in structmat.Dense)"
        )
    axes = _axes(ax, len(matrices))
    counts = [_pixels(M) for M in matrices]
    for M, count, place in zip(matrices, counts, axes, strict=True):
        _draw(M, count, place)
    return axes if several else axes[0]


def _axes(ax: Any, count: int) -> np.ndarray:
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise MissingDependencyError(
                "matplotlib is not installed; install it with pip install 'structmat[plot]'"
            ) from None
        size = (5.0 * count, 4.0)
        return plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")[1][0]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if not all(hasattr(place, "imshow") for place in axes):
        raise InputError(f"ax = {ax!r}; expected matplotlib Axes")
    if len(axes) != count:
        raise ShapeError(f"{len(axes)} axes for {count} matrices; expected one axes a matrix")
    return axes


def _draw(A: StructuredMatrix, count: np.ndarray, ax: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    m, n = A.shape
    image = ax.imshow(
        count,
        vmin=0,
        vmax=max(int(count.max()), 1),
        cmap="viridis",
        interpolation="nearest",
        extent=(0, max(n, 1), max(m, 1), 0),
        aspect="equal" if 0.2 < (m + 1) / (n + 1) < 5 else "auto",
    )
    ax.set_title(f"{type(A).__name__} {m}x{n}, cost {100 * A.relative_cost:.3g} %", fontsize=11)
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    # Inside the axes' own box, so that the bar is as high as the matrix.
    beside = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
    bar = ax.figure.colorbar(image, cax=beside, label="blocks on an entry")
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()


def _pixels(A: StructuredMatrix) -> np.ndarray:
    if 0 in A.shape:
        return np.zeros((1, 1), np.int64)
    m, n = A.shape
    return _coverage(A, (-(-m // _PIXELS), -(-n // _PIXELS)))


def _coverage(A: StructuredMatrix, steps: tuple[int, int]) -> np.ndarray:
    """Number of rank-one blocks that touch each pixel of `steps` rows and columns."""
    if isinstance(A, Sum):
        return sum(
            (_coverage(term, steps) for term in A.children[1:]), _coverage(A.children[0], steps)
        )
    if isinstance(A, Scaled):
        return _coverage(A.children[0], steps)
    if isinstance(A, Adjoint):
        return _coverage(A.children[0], steps[::-1]).T
    if isinstance(A, Product) and isinstance(A.children[0], Permutation) and len(A.children) == 2:
        rows = _coverage(A.children[1], (1, steps[1]))[_array.to_numpy(A.children[0].p)]
        return np.maximum.reduceat(rows, np.arange(0, A.shape[0], steps[0]), axis=0)
    if isinstance(A, Monarch):
        return _coverage(A.to_kind("gblr"), steps)
    blocks = _blocks(A)
    if blocks is None:
        return _nonzero(A, steps)
    rows, cols, count = blocks
    touched = [
        coarse_runs(*runs, n, step)
        for runs, n, step in zip((rows, cols), A.shape, steps, strict=True)
    ]
    pixels = -(-A.shape[0] // steps[0]), -(-A.shape[1] // steps[1])
    return cover_count(touched[0], touched[1], pixels, count)


def _blocks(A: StructuredMatrix) -> tuple[Runs, Runs, IntArray] | None:
    """Runs of rows and of columns, and the number of rank-one blocks on each pair of them."""
    if isinstance(A, GBLR):
        runs = (A.row_start, A.row_width), (A.col_start, A.col_width)
        return *runs, np.ones(A.num_blocks, np.int64)
    zero, (m, n) = np.zeros(1, np.int64), A.shape
    if isinstance(A, LowRank | Dense):
        count = A.rank if isinstance(A, LowRank) else 1
        return (zero, zero + m), (zero, zero + n), np.full(1, count)
    if isinstance(A, BlockSparse):
        starts = [at * size for at, size in zip((A.rows, A.cols), A.block_shape, strict=True)]
        widths = [
            np.minimum(size, total - start)
            for start, size, total in zip(starts, A.block_shape, A.shape, strict=True)
        ]
        return (starts[0], widths[0]), (starts[1], widths[1]), np.ones(len(starts[0]), np.int64)
    if isinstance(A, BlockLowRank):
        i, j = A.places.T
        rows = (offsets(A.row_sizes)[:-1][i], A.row_sizes[i])
        cols = (offsets(A.col_sizes)[:-1][j], A.col_sizes[j])
        return rows, cols, np.where(A.ranks < 0, 1, A.ranks)
    return None


def _nonzero(A: StructuredMatrix, steps: tuple[int, int]) -> np.ndarray:
    """Mask of the pixels with a nonzero entry, for kinds without blocks."""
    found = (_array.to_numpy(A.to_dense()) != 0).astype(np.int64)
    for axis, (n, step) in enumerate(zip(A.shape, steps, strict=True)):
        found = np.maximum.reduceat(found, np.arange(0, n, step), axis=axis)
    return found
