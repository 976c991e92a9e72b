"""Pictures of structure: how many rank-one blocks cover each entry."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat import _array
from structmat.errors import ConversionError, InputError, MissingDependencyError, ShapeError
from structmat.matrices import GBLR, Adjoint, Permutation, Product, Scaled, Sum
from structmat.matrix import StructuredMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["structure"]

# Longer sides are thinned out to about this many pixels before they are drawn.
_PIXELS = 1024


def structure(A: StructuredMatrix | Sequence[StructuredMatrix], ax: Any = None) -> Any:
    """Heat map of how many rank-one blocks cover each entry.

    A low-rank matrix is one even sheet, a block-sparse one shows its blocks, a GBLR one
    the overlap of its blocks. Combinations show the coverage of their parts; kinds that
    have no exact GBLR form show which entries are not zero.

    Parameters
    ----------
    A : StructuredMatrix or sequence of them
        Several are drawn side by side on one colour scale.
    ax : matplotlib Axes, or as many as there are matrices, optional
        Where to draw; a new figure by default.

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
        raise InputError(f"{A!r}; expected a StructuredMatrix or a sequence of them")
    axes = _axes(ax, len(matrices))
    counts = [_thinned(_coverage(M)) for M in matrices]
    top = max(max(int(c.max(initial=0)) for c in counts), 1)
    for M, count, place in zip(matrices, counts, axes, strict=True):
        _draw(M, count, top, place)
    return axes if several else axes[0]


def _axes(ax: Any, count: int) -> np.ndarray:
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise MissingDependencyError(
                "matplotlib is not installed; install it with pip install 'structmat[plot]'"
            ) from None
        size = (4.2 * count, 4.0)
        return plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")[1][0]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if not all(hasattr(place, "imshow") for place in axes):
        raise InputError(f"ax = {ax!r}; expected matplotlib Axes")
    if len(axes) != count:
        raise ShapeError(f"{len(axes)} axes for {count} matrices; expected one axes a matrix")
    return axes


def _draw(A: StructuredMatrix, count: np.ndarray, top: int, ax: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    m, n = A.shape
    image = ax.imshow(
        count,
        vmin=0,
        vmax=top,
        cmap="viridis",
        interpolation="nearest",
        extent=(0, max(n, 1), max(m, 1), 0),
        aspect="equal" if 0.2 < (m + 1) / (n + 1) < 5 else "auto",
    )
    ax.set_title(f"{type(A).__name__} {m}x{n}, cost {100 * A.relative_cost:.3g} %")
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    bar = ax.figure.colorbar(image, ax=ax, label="blocks on an entry", shrink=0.85)
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()


def _coverage(A: StructuredMatrix) -> np.ndarray:
    """How many rank-one blocks cover each entry, shape (m, n)."""
    if isinstance(A, GBLR):
        return A.coverage()
    if isinstance(A, Scaled):
        return _coverage(A.children[0])
    if isinstance(A, Adjoint):
        return _coverage(A.children[0]).T
    if isinstance(A, Sum):
        return sum((_coverage(term) for term in A.children[1:]), _coverage(A.children[0]))
    if isinstance(A, Product) and isinstance(A.children[0], Permutation) and len(A.children) == 2:
        return _coverage(A.children[1])[_array.to_numpy(A.children[0].p)]
    try:
        return _coverage(A.to_kind("gblr"))
    except ConversionError:
        return (_array.to_numpy(A.to_dense()) != 0).astype(np.int64)


def _thinned(count: np.ndarray) -> np.ndarray:
    """Greatest count in each cell of a grid that fits the picture."""
    m, n = count.shape
    if not count.size:
        return np.zeros((1, 1), np.int64)
    step_m, step_n = -(-m // _PIXELS), -(-n // _PIXELS)
    rows = np.maximum.reduceat(count, np.arange(0, m, step_m), axis=0)
    return np.maximum.reduceat(rows, np.arange(0, n, step_n), axis=1)
