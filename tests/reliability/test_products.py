"""Every kind × scale × dtype × library × kernel × product, against long double."""

from itertools import product

import numpy as np
import pytest
from cases import DTYPES
from cells import BOUND, PRODUCTS, SCALES, STRUCTURES, Exact, contents, excess, forced, kernels_for

from structmat._array import from_numpy, namespace_named, to_numpy

#: A default run takes every 28th pair of scale and dtype; a slow one takes all.
THINNED = [
    pytest.param(28, id="thinned"),
    pytest.param(1, id="whole", marks=pytest.mark.slow),
]


def placed(c, xp):
    """The same drawing, in a library."""
    return lambda *shape: from_numpy(c(*shape), xp)


def cells(name, library, step):
    """Every `step`-th matrix of one structure in one library, with all its products."""
    xp = namespace_named(library)
    for scale, dtype in list(product(SCALES, DTYPES))[len(name) % step :: step]:
        A = STRUCTURES[name](contents(dtype, scale, 1))[0]
        exact, x = Exact(A), contents(dtype, scale, 2)
        A = A.to(library)
        for kernel in kernels_for(A):
            for title, multiply in PRODUCTS.items():
                if title == "from the left" and library == "array_api_strict":
                    continue  # its own @ refuses foreign operands before ours is asked
                cell = f"{name} {dtype} {scale} {library} {kernel} {title}"
                yield cell, _excess(A, exact, dtype, kernel, multiply, x, xp)


def _excess(A, exact, dtype, kernel, multiply, x, xp):
    """Error of one product in units of eps Σ|terms|."""
    with forced(kernel):
        found = multiply(A, placed(x, xp))
    known = from_numpy(x(1), xp).dtype
    assert found.dtype == (known if A.neutral else xp.result_type(A.dtype, known))
    expected, terms = exact.product(multiply, x)
    assert tuple(found.shape) == expected.shape
    return excess(to_numpy(found), expected, terms, np.finfo(dtype).eps)


@pytest.mark.parametrize("step", THINNED)
@pytest.mark.parametrize("name", STRUCTURES)
def test_products_are_right_to_rounding(name, step, backend, record_property):
    ratios = dict(cells(name, backend, step))
    worst = max(ratios, key=ratios.get)
    record_property("cells", len(ratios))
    record_property("worst", ratios[worst])
    assert ratios[worst] <= BOUND, worst
