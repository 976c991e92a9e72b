"""Products whose operands, cells and results end, or begin, where memory may not be touched.

Run as a program: a kernel that reads or writes one byte too many ends it by a signal. So
does the program itself at its very end, to show that pages are guarded.
"""

import ctypes
import itertools
import mmap
import resource
import sys

import numpy as np
from patterns import PATTERNS, dense, draw

from structmat.kernels.cpu import columns as cpu_panels
from structmat.kernels.cpu import row_groups
from structmat.kernels.cpu import vectors as cpu
from structmat.kernels.cpu.vectors import TileFactor, TileProduct, VectorFactor

PAGE, PROT_NONE = mmap.PAGESIZE, 0
_PROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_PROTECT.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
SIDES = "end", "begin"
PRECISIONS = ("float32", "float64")


def guarded(shape, dtype, side, *, alignment=1):
    """A C-ordered array of NaN that touches a page which may not be touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    inside = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    whole = np.frombuffer(memory, np.uint8)  # which keeps the pages as long as it is there
    begin = whole.ctypes.data
    for page in (begin, begin + PAGE + inside):
        if _PROTECT(page, PAGE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = PAGE if side == "begin" else (PAGE + inside - size) // alignment * alignment
    array = whole[first : first + size].view(dtype).reshape(shape)
    array[...] = np.nan
    return array


def placed(x, order, side):
    """A guarded copy of an operand."""
    array = guarded(x.shape if order == "C" else x.shape[::-1], x.dtype, side)
    array = array if order == "C" else array.T
    array[...] = x
    return array


class GuardedNumPy:
    """NumPy, but that new arrays are guarded."""

    def __init__(self, side):
        self.side = side

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        return guarded(shape, dtype, self.side)


def guard(side):
    """Let the kernels' own memory be guarded too."""
    cpu.np = cpu_panels.np = GuardedNumPy(side)
    for module in (cpu, cpu_panels, row_groups):
        module.aligned = lambda shape, dtype: guarded(shape, dtype, side, alignment=64)


def check(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def main():
    rng = np.random.default_rng(1)
    every = itertools.product(SIDES, PRECISIONS)
    for side, dtype in every if sys.argv[1] == "all" else zip(SIDES, PRECISIONS, strict=True):
        guard(side)
        for pattern in PATTERNS.values():
            contents = draw(pattern, dtype)
            S = dense(pattern, contents)
            for make, columns in ((VectorFactor, (1, 2)), (TileFactor, (1, 5, 16, 37, 131))):
                factor = make(pattern, contents)
                for k, order in itertools.product(columns, "CF"):
                    z, y = (rng.standard_normal((n, k)).astype(dtype) for n in S.shape[::-1])
                    check(factor.matmat(placed(z, order, side)), S @ z)
                    check(factor.rmatmat(placed(y, order, side)), S.T @ y)
            both = TileProduct(factor, factor, through=False)
            x = rng.standard_normal((S.shape[0], 37)).astype(dtype)
            for by_columns in (False, True):
                for product in (both.multiply, both.multiply_adjoint):
                    check(product(placed(x, "C", side), by_columns=by_columns), S @ (S.T @ x))
    print("all products stayed inside", flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    guarded(1, "float64", "end").ctypes.data_as(ctypes.POINTER(ctypes.c_double))[1]


if __name__ == "__main__":
    main()
