"""Fits of trained weights by the projections with which layers learn, on a layer's inputs."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from structmat.matrices import Diagonal
from structmat.matrix import StructuredMatrix
from structmat.nn.anneal.projected import Projected, in_order, packed
from structmat.nn.anneal.projectors import Options, project

#: Names of the fits: row runs, and rank-one blocks with free ends.
PROJECTED = ("runs", "blocks")
#: Entries of a weight up to which blocks are sought, and up to which in learned orders. The first
#: limit takes about a minute, and so does the second, for three searches.
BLOCK_ENTRIES, ORDERED_ENTRIES = 2**20, 2**18


def projections(entries: int, gram: Tensor | None, *, orders: bool) -> list[str]:
    """Names of the fits that a weight gets beside that of `structmat.compress`.

    Compression seeks blocks of its own, in the given order and without regard to inputs.

    Examples
    --------
    >>> projections(10**4, None, orders=True), projections(10**4, None, orders=False)
    (['runs', 'blocks'], ['runs'])
    """
    ordered = orders and entries <= ORDERED_ENTRIES
    if ordered or (gram is not None and entries <= BLOCK_ENTRIES):
        return ["runs", "blocks"]
    return ["runs"]


def projected_fit(
    name: str, W: NDArray, cap: int, gram: Tensor | None, *, orders: bool
) -> StructuredMatrix:
    """Project W (m, n) onto row runs or rank-one blocks that cost at most `cap`.

    The energy of an entry is its square, weighed by the mean square of its input where there
    is a Gram matrix. With `orders`, rows and columns may be reordered: the result is then a
    GBLR matrix between permutations.

    Examples
    --------
    >>> W = np.zeros((6, 8))
    >>> W[1:4, 2:7] = 1
    >>> fit = projected_fit("blocks", W, 8, None, orders=False)
    >>> fit.kind, fit.cost, bool(np.allclose(fit.to_dense(), W))
    ('gblr', 8, True)
    """
    sizes, inverse = _input_sizes(gram, W)
    # Far above the last cap a projection leaves runs, and blocks at the cap.
    last_cap = cap if name == "blocks" else 0
    orders = orders and (name == "runs" or W.size <= ORDERED_ENTRIES)
    whole = Projected.whole((W.shape[0], W.shape[1]))
    found = project("gblr", W * sizes, cap, last_cap, whole, Options(orders=orders))
    return _weighed_back(W, found, inverse)


def projected(
    kind: str, W: NDArray, cap: int, gram: Tensor | None, *, tile: int | None, group: int | None
) -> StructuredMatrix:
    """Project W (m, n) onto a kind with tiles of a side, or with groups of rows, under a cap.

    Examples
    --------
    >>> W = np.zeros((6, 8))
    >>> W[2:4, 4:8] = 1
    >>> projected("gblr", W, 8, None, tile=None, group=2).cost
    8
    """
    sizes, inverse = _input_sizes(gram, W)
    whole = Projected.whole((W.shape[0], W.shape[1]))
    found = project(kind, W * sizes, cap, cap, whole, Options(tile=tile, group=group))
    return _weighed_back(W, found, inverse)


def _weighed_back(W: NDArray, found: Projected, inverse: NDArray) -> StructuredMatrix:
    """The matrix near W, from the structure near W with columns over `inverse`."""
    if found.matrix is None:
        return packed(W, found)
    matrix = found.matrix @ Diagonal(inverse[found.order[1]])
    return in_order(matrix, found.row_order, found.col_order)


def weighed_fit(
    fit: Callable[[NDArray], StructuredMatrix], W: NDArray, gram: Tensor
) -> StructuredMatrix:
    """Fit W (m, n) by a function of an array, with errors weighed by the size of each input.

    Examples
    --------
    >>> import torch
    >>> from structmat.matrices import Dense
    >>> def largest(A):
    ...     return Dense(np.where(A == A.max(), A, 0))
    >>> gram = torch.diag(torch.tensor([4.0, 100.0]))
    >>> weighed_fit(largest, np.array([[3.0, 1.0]]), gram).to_dense()
    array([[0., 1.]])
    """
    sizes, inverse = _input_sizes(gram, W)
    return fit(W * sizes) @ Diagonal(inverse)


def _input_sizes(gram: Tensor | None, W: NDArray) -> tuple[NDArray, NDArray]:
    """Root mean square of each input, relative to the largest, and inverses, zero for zeros.

    All are one without a Gram matrix.
    """
    if gram is None:
        return np.ones(W.shape[1], W.dtype), np.ones(W.shape[1], W.dtype)
    squares = gram.diagonal().double().clamp(min=0).cpu().numpy()
    sizes = np.sqrt(squares / max(float(squares.max(initial=0.0)), np.finfo(float).tiny))
    inverse = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return sizes.astype(W.dtype), inverse.astype(W.dtype)
