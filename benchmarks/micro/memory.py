"""How fast this machine reads an array once: no product with one vector can be faster."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reader = Callable[[NDArray], Any]


@cache
def reader() -> tuple[str, Reader]:
    """The fastest way found to read every number of a real array, on one thread, and its name.

    A sum in any order, compiled, keeps many registers busy; NumPy's maximum comes close,
    and its sum and dot product stay well behind.
    """
    try:
        from numba import njit
    except ImportError:
        return "numpy.max", np.max

    @njit(fastmath={"reassoc", "nsz"})
    def total(a: NDArray) -> Any:
        s = a[0]
        for i in range(1, a.size):
            s += a[i]
        return s

    return "compiled sum", total
