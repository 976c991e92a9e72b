"""Real and imaginary parts of complex matrices, structured where that is exact.

Each function here gives both parts of one kind, or None where the kind holds neither. What has
no function of its own is linear in its contents, or gets a lazy mean with its conjugate.
"""

from collections.abc import Callable
from functools import reduce
from operator import add, matmul
from typing import Any

import numpy as np

from structmat._array import Array, integers, is_complex
from structmat.intervals import alternated
from structmat.kinds import kind_class
from structmat.matrices.block_low_rank import BlockLowRank
from structmat.matrices.gblr import GBLR
from structmat.matrices.grid import Grid
from structmat.matrices.hermitian import HermitianLowRank, Mirrored
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.kronecker import Kronecker
from structmat.matrices.lazy import Adjoint, Product, Scaled, Sum
from structmat.matrices.low_rank import LowRank
from structmat.matrices.monarch import Monarch
from structmat.matrix import StructuredMatrix

Parts = tuple[Any, Any]

#: Complex factors of a product whose parts are real products: more cost more than complex ones.
_MOST_FACTORS = 4


def complex_parts(A: StructuredMatrix) -> Parts:
    """Real and imaginary part of a matrix, so that A is their sum with i times the second.

    Examples
    --------
    >>> import structmat
    >>> real, imaginary = complex_parts(structmat.Diagonal([1 + 2j, 3]))
    >>> real.d, imaginary.d
    (array([1., 3.]), array([2., 0.]))
    """
    if not _turns(A):
        return A, _zero(A)
    apart = _APART.get(type(A))
    found = None if apart is None else apart(A)
    if found is None and not A.children and set(A.data_names) == set(A.scaled_names):
        found = A._map(A.xp.real), A._map(A.xp.imag)
    if found is None or any(map(_turns, found)):
        return (A + A.conj()) / 2, (A - A.conj()) / 2j
    wide = _zero(A).dtype
    real, imaginary = (part if part.dtype == wide else part.astype(wide) for part in found)
    return real, imaginary


def _turns(A: StructuredMatrix) -> bool:
    return is_complex(A, A.xp)


def _zero(A: StructuredMatrix) -> StructuredMatrix:
    """The zero matrix of rank 0, in the real dtype of A."""
    none = A.xp.zeros(0, dtype=A.dtype, device=A.device)
    dtype = A.xp.real(none).dtype if is_complex(A, A.xp) else A.dtype
    U, V = (A.xp.zeros((size, 0), dtype=dtype, device=A.device) for size in A.shape)
    zero: StructuredMatrix = kind_class("low_rank")(U, V)
    return zero


# (a + ib)(c + id)^H has the real part a c^T + b d^T and the imaginary part b c^T - a d^T.


def _low_rank(A: LowRank) -> Parts:
    xp = A.xp
    a, b, c, d = xp.real(A.U), xp.imag(A.U), xp.real(A.V), xp.imag(A.V)
    V = xp.concat([c, d], axis=1)
    return LowRank(xp.concat([a, b], axis=1), V), LowRank(xp.concat([b, -a], axis=1), V)


def _gblr(A: GBLR) -> Parts:
    xp = A.xp
    a, b, c, d = xp.real(A.u), xp.imag(A.u), xp.real(A.v), xp.imag(A.v)
    at = {name: np.concatenate([run, run]) for name, run in A._static().items() if name != "shape"}
    real, imaginary = (
        GBLR(u=xp.concat(u), v=xp.concat([c, d]), shape=A.shape, **at) for u in ([a, b], [b, -a])
    )
    return real, imaginary


def _monarch(A: Monarch) -> Parts:
    """Sums of two real ones."""
    xp = A.xp
    a, b, c, d = xp.real(A.L), xp.imag(A.L), xp.real(A.R), xp.imag(A.R)
    first, second, third, fourth = (
        Monarch(L, R, shape=A.shape) for L, R in ((a, c), (-b, d), (a, d), (b, c))
    )
    return first + second, third + fourth


def _block_low_rank(A: BlockLowRank) -> Parts | None:
    parts: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    for place, tile in A.tiles.items():
        if isinstance(tile, tuple):
            halves = _low_rank(LowRank(*tile))
            parts[0][place], parts[1][place] = ((half.U, half.V) for half in halves)
        else:
            parts[0][place], parts[1][place] = A.xp.real(tile), A.xp.imag(tile)
    if not A.tiles:
        return None
    real, imaginary = (
        BlockLowRank(part, row_sizes=A.row_sizes, col_sizes=A.col_sizes) for part in parts
    )
    return real, imaginary


def _hierarchical(A: Hierarchical) -> Parts:
    """Blocks of low rank get twice the rank; the imaginary part of a symmetric one is not."""
    xp = A.xp
    real = _twice(A, (xp.real, xp.imag), lambda u: u)
    whole = A._unfolded()
    return real, _twice(whole, (xp.imag, xp.real), lambda u: -u)


def _twice(
    A: Hierarchical, halves: tuple[Callable[[Array], Array], ...], turn: Callable[[Array], Array]
) -> Hierarchical:
    """Both halves of the contents, block by block; `turn` changes the second half of u."""
    xp, (_, height, _, width, rank) = A.xp, A.blocks.T
    first, second = halves
    low = np.maximum(rank, 0)
    at = [integers(alternated(low * size, low * size), xp, A.device) for size in (height, width)]
    u = xp.take(xp.concat([first(A.u), turn(second(A.u))]), at[0], axis=0)
    v = xp.take(xp.concat([xp.real(A.v), xp.imag(A.v)]), at[1], axis=0)
    table = A.blocks.copy()
    table[:, 4] = np.where(rank > 0, 2 * rank, rank)
    static = {**A._static(), "blocks": table}
    return A._build({"u": u, "v": v, "dense": first(A.dense)}, (), static)


def _hermitian_low_rank(A: HermitianLowRank) -> Parts:
    """The real part is Hermitian too; the imaginary one is its own negative transpose."""
    xp = A.xp
    a, b, d = xp.real(A.U), xp.imag(A.U), xp.real(A.d)
    imaginary = LowRank(xp.concat([b * d, -a * d], axis=1), xp.concat([a, b], axis=1))
    return HermitianLowRank(xp.concat([a, b], axis=1), xp.concat([d, d])), imaginary


def _mirrored(A: Mirrored) -> Parts:
    real, imaginary = complex_parts(A.children[0])
    return Mirrored(real), imaginary - imaginary.H


def _sum(A: Sum) -> Parts:
    parts = [complex_parts(term) for term in A.children]
    # A real term has no imaginary part, and a neutral one no precision for it.
    turned = [part[1] for part, term in zip(parts, A.children, strict=True) if _turns(term)]
    return reduce(add, (part[0] for part in parts)), reduce(add, turned, _zero(A))


def _scaled(A: Scaled) -> Parts:
    xp, (real, imaginary) = A.xp, complex_parts(A.children[0])
    if not is_complex(A.alpha, xp):
        return A.alpha * real, A.alpha * imaginary
    a, b = xp.real(A.alpha), xp.imag(A.alpha)
    if not is_complex(A.children[0], xp):
        return a * real, b * real
    return a * real - b * imaginary, a * imaginary + b * real


def _adjoint(A: Adjoint) -> Parts:
    real, imaginary = complex_parts(A.children[0])
    return real.H, -imaginary.H


def _grid(A: Grid) -> Parts:
    parts = [complex_parts(block) for block in A.children]
    at = [t for t, block in enumerate(A.children) if _turns(block)]
    places = {**A._static(), "places": A.places[at]}
    return A._with([part[0] for part in parts]), Grid(*(parts[t][1] for t in at), **places)


def _product(A: Product) -> Parts | None:
    """One complex factor has the parts for all; of more, each doubles the number of products."""
    at = [i for i, factor in enumerate(A.children) if is_complex(factor, A.xp)]
    if len(at) == 1:
        (i,) = at
        before, after = A.children[:i], A.children[i + 1 :]
        real, imaginary = (
            reduce(matmul, [*before, part, *after]) for part in complex_parts(A.children[i])
        )
        return real, imaginary
    if len(at) > _MOST_FACTORS:
        return None
    left, right = A.children[: at[1]], A.children[at[1] :]
    (a, b), (c, d) = (complex_parts(reduce(matmul, side)) for side in (left, right))
    return a @ c - b @ d, a @ d + b @ c


def _kronecker(A: Kronecker) -> Parts:
    (a, b), (c, d) = (complex_parts(factor) for factor in A.children)
    left, right = (is_complex(factor, A.xp) for factor in A.children)
    if not (left and right):
        real, imaginary = Kronecker(a, c), Kronecker(b, c) if left else Kronecker(a, d)
        return real, imaginary
    return Kronecker(a, c) - Kronecker(b, d), Kronecker(a, d) + Kronecker(b, c)


_APART: dict[type, Callable[[Any], Parts | None]] = {
    LowRank: _low_rank,
    GBLR: _gblr,
    Monarch: _monarch,
    BlockLowRank: _block_low_rank,
    Hierarchical: _hierarchical,
    HermitianLowRank: _hermitian_low_rank,
    Mirrored: _mirrored,
    Sum: _sum,
    Scaled: _scaled,
    Adjoint: _adjoint,
    Product: _product,
    Kronecker: _kronecker,
    Grid: _grid,
}
