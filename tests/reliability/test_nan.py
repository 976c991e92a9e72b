"""NaN and infinity, in operands and in contents: what they touch is never a number.

Padding may carry them to entries beside those that they touch, as the documentation says;
an entry that is a number is right all the same.
"""

from itertools import product

import numpy as np
import pytest
from cases import DTYPES
from cells import BOUND, PRODUCTS, STRUCTURES, contents, excess, forced, kernels_for
from exact import REAL, dense, wide

from structmat._array import from_numpy, to_numpy

THINNED = [
    pytest.param(36, id="thinned"),
    pytest.param(1, id="whole", marks=pytest.mark.slow),
]
MARK = REAL(1e100)
BAD = (np.nan, np.inf, -np.inf)
TITLES = ("matvec", "matmat", "matmat by columns", "matmat of many", "rmatvec", "from the left")


def spoiled(array, bad, seed):
    """A copy with one bad entry somewhere."""
    array = array.copy()
    if array.size:
        array.flat[np.random.default_rng(seed).integers(array.size)] = bad
    return array


def spoiled_matrix(A, bad, seed):
    """The same matrix with one bad entry among its floating contents."""
    state = {"left": np.random.default_rng(seed).integers(len(A._leaves()) or 1)}

    def change(array):
        state["left"] -= 1
        hit = state["left"] == -1 and array.dtype.kind in "fc"
        return spoiled(array, bad, seed) if hit else array

    return A._map(change)


def tame(array):
    """A copy in long double with zeros for what is no number."""
    return np.where(np.isfinite(array), wide(array), 0)


def marks(array):
    """One for each number, and so much for anything else that no sum of ones reaches it."""
    return np.where(np.isfinite(array), REAL(1), MARK)


class Marked:
    """A matrix as marks, as its numbers alone, and as their sizes, in long double."""

    def __init__(self, A):
        self.marks, self.tame = dense(A, marks), dense(A, tame)
        self.terms = dense(A, lambda array: abs(tame(array)))

    def check(self, A, kernel, title, x, eps):
        """Compare one product with the sum of the terms that are numbers, and with their marks."""
        multiply, xp = PRODUCTS[title], A.xp
        touched = multiply(self.marks, lambda *shape: marks(x(*shape))) >= MARK
        expected = multiply(self.tame, lambda *shape: tame(x(*shape)))
        terms = multiply(self.terms, lambda *shape: abs(tame(x(*shape))))
        with np.errstate(invalid="ignore"), forced(kernel):
            found = to_numpy(multiply(A, lambda *shape: from_numpy(x(*shape), xp)))
        number = np.isfinite(found)
        assert not (touched & number).any(), f"{kernel} {title}: a number where none can be"
        ratio = excess(found[number], expected[number], terms[number], eps)
        assert ratio <= BOUND, f"{kernel} {title}: off by {ratio} eps Σ|terms|"


def matrices(name, dtype, bad, seed):
    """A matrix with a drawing of spoiled operands, and a spoiled one with a clean drawing."""
    A = STRUCTURES[name](contents(dtype, "plain", 1))[0]
    x = contents(dtype, "plain", 2)
    yield A, lambda *shape: spoiled(x(*shape), bad, seed)
    yield spoiled_matrix(A, bad, seed), x


@pytest.mark.parametrize("step", THINNED)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_nan_and_infinity_are_never_lost(name, library, step, record_property):
    count = 0
    for dtype, bad, seed in list(product(DTYPES, BAD, range(3)))[len(name) % step :: step]:
        for A, x in matrices(name, dtype, bad, seed):
            marked, A = Marked(A), A.to(library)
            for kernel in kernels_for(A):
                for title in TITLES:
                    marked.check(A, kernel, title, x, np.finfo(dtype).eps)
                    count += 1
    record_property("cells", count)
