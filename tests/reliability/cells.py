"""Cells of the reliability tables: matrices at several scales, kernels, products and bounds."""

from contextlib import nullcontext

import numpy as np
from cases import CASES, block_low_rank, block_sparse, hierarchical, low_rank, monarch, random_gblr
from exact import dense, sizes, wide

from structmat.errors import InputError, MissingDependencyError
from structmat.kernels.choice.contexts import using
from structmat.kernels.choice.table import KERNELS

#: Rounding errors may be this often eps times the sum of the sizes of all terms.
BOUND = 12

#: Larger matrices beside the cases of the contract: several tiles, tails, long sums.
LARGE = {
    "low_rank-large": low_rank(131, 97, 17),
    "block_sparse-large": block_sparse(130, 101, 11, 17, [0, 3, 3, 7, 11, 11], [5, 0, 4, 2, 1, 5]),
    "block_low_rank-large": block_low_rank(
        [40, 1, 33, 57], [17, 80], {(0, 0): 3, (1, 1): None, (2, 0): 17, (3, 0): 1, (3, 1): 5}
    ),
    "monarch-large": monarch((12, 11, 3), (6, 6, 17), (129, 100)),
    "hierarchical-large": hierarchical(
        (130, 130), [[0, 65, 0, 65, -1], [65, 65, 0, 65, 9], [65, 65, 65, 65, -1]], symmetric=True
    ),
    "gblr-large": random_gblr(127, 131, 60, 3),
    "gblr-tall": random_gblr(1009, 7, 20, 4),
    "gblr-wide": random_gblr(3, 1021, 25, 5),
}
STRUCTURES = {**CASES, **LARGE}


def contents(dtype, scale, seed):
    """A function that draws arrays of a dtype at one of the `SCALES`: always the same ones."""
    info, draw = np.finfo(dtype), SCALES[scale]

    def c(*shape):
        rng = np.random.default_rng([seed, *shape])
        x = draw(rng, shape, info)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * draw(rng, shape, info)
        return x.astype(dtype)

    return c


def _spread(rng, shape, info):
    decades = np.log10(float(info.max)) / 10
    return rng.standard_normal(shape) * 10 ** rng.uniform(-decades, decades, shape)


def _zeros(rng, shape, info):
    return rng.standard_normal(shape) * rng.choice([0.0, -0.0, 1.0], shape)


def _signs(rng, shape, info):
    # Near ones of both signs, so that sums are far smaller than their terms.
    return rng.choice([-1.0, 1.0], shape) * (1 + 1e-3 * rng.standard_normal(shape))


SCALES = {
    "plain": lambda rng, shape, info: rng.standard_normal(shape),
    "huge": lambda rng, shape, info: rng.standard_normal(shape) * float(info.max) ** 0.12,
    "tiny": lambda rng, shape, info: rng.standard_normal(shape) * float(info.tiny) ** 0.12,
    "spread": _spread,
    "signs": _signs,
    "zeros": _zeros,
    "integers": lambda rng, shape, info: rng.integers(-3, 4, shape).astype(float),
}

#: Each product as a function of the matrix, a drawing of operands and the library's `asarray`;
#: the same function on a dense array in long double gives the exact result.
PRODUCTS = {
    "matvec": lambda A, x: A @ x(A.shape[1]),
    "matmat": lambda A, x: A @ x(A.shape[1], 3),
    "matmat by columns": lambda A, x: A @ x(3, A.shape[1]).T,
    "matmat of many": lambda A, x: A @ x(A.shape[1], 40),
    "rmatvec": lambda A, x: A.conj().T @ x(A.shape[0]),
    "rmatmat": lambda A, x: A.conj().T @ x(A.shape[0], 5),
    "from the left": lambda A, x: x(2, A.shape[0]) @ A,
    "batch": lambda A, x: A @ x(2, A.shape[1], 2),
    "transpose": lambda A, x: A.T @ x(A.shape[0]),
}


def kernels_for(A):
    """Names of the kernels that multiply this matrix; None stands for its own choice."""
    found = [name for name in KERNELS if _fits(A, name)]
    # A matrix with one way to multiply takes any name.
    return [None] if len(found) == len(list(KERNELS)) else [None, *found]


def _fits(A, kernel):
    try:
        # Contents may hold what is no number.
        with using(kernel), np.errstate(invalid="ignore"):
            A.matvec(A.xp.zeros(A.shape[1], dtype=A.dtype))
    except (InputError, MissingDependencyError):
        return False
    return True


def forced(kernel):
    """The context in which products use a kernel."""
    return nullcontext() if kernel is None else using(kernel)


class Exact:
    """A matrix in long double, with the sizes of its terms."""

    def __init__(self, A):
        self.dense, self.terms = dense(A, wide), dense(A, sizes)

    def product(self, product, x):
        """The exact result, and the sum of the sizes of its terms."""
        return (
            product(self.dense, lambda *shape: wide(x(*shape))),
            product(self.terms, lambda *shape: sizes(x(*shape))),
        )


def excess(found, exact, terms, eps, least=0.0):
    """Error in units of eps Σ|terms|, at the worst entry; infinite for wrong zeros.

    `least` is the largest error that rounding to a subnormal number can make.
    """
    error = np.maximum(np.abs(wide(found) - exact) - least, 0)
    unit = eps * terms
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(error > 0, error / unit, 0)
    return float(ratio.max(initial=0))
