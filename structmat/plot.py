"""Pictures of structure: the number of rank-one blocks that cover each entry."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat._coverage import coverage
from structmat.errors import InputError, MissingDependencyError, ShapeError
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
    show their nonzero entries. A hierarchical matrix is shown in its own orders of rows and
    columns, in which its blocks are rectangles. A matrix larger than the picture shows the
    number of blocks that touch each pixel.

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
    counts = [coverage(M, _PIXELS) for M in matrices]
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
