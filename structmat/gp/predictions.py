"""Means and variances of a process at new points, some points at a time."""

import numpy as np

from structmat._progress import Progress
from structmat.gp.correlation import Correlation, Real
from structmat.sources.kernel_matrix import KernelMatrix

#: Numbers in the right-hand sides that are solved for at once: 64 MiB.
AT_ONCE = 2**23


def means(cross: KernelMatrix, x: Real) -> Real:
    """K_* R^-1 y for the kernel K_* between new points and those of the fit, with R x = y."""
    found: Real = cross @ x
    return found


def variances(cross: KernelMatrix, R: Correlation, report: Progress) -> Real:
    """k(0) - k_*^T R^-1 k_* for every new point; the amplitude is one.

    A solve leaves an error of rounding, so that a variance of zero may come out below: it is zero.
    """
    m, n = cross.shape
    found, every = np.ones(m), np.arange(n)
    step = max(1, AT_ONCE // max(n, 1))
    for first in range(0, m, step):
        rows = np.arange(first, min(first + step, m))
        block = cross.block(rows, every)
        found[rows] -= (block * R.solve(np.ascontiguousarray(block.T)).T).sum(axis=1)
        report(rows[-1] / m)
    return np.maximum(found, 0.0)
