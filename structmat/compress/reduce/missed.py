"""Norms of what a reduction leaves out, and of what it began with."""

import math
from typing import NamedTuple

import numpy as np

from structmat.compress.estimate import CONFIDENCE, lower_norm, upper_norm
from structmat.matrix import StructuredMatrix
from structmat.project.svd import gaussian

#: Most entries of a matrix whose norm is measured by a product for each column.
MEASURED_ENTRIES = 2**20
#: Random vectors of an estimate.
PROBES = 32


class Norm(NamedTuple):
    """A Frobenius norm, with bounds that hold with a probability; equal ones if it is measured."""

    value: float
    lower: float
    upper: float
    #: Random vectors that were multiplied; 0 for a norm that was measured.
    products: int = 0


def exact(value: float) -> Norm:
    """A norm that is known."""
    return Norm(value, value, value)


def norm_of(A: StructuredMatrix, rng: np.random.Generator, *, most: float = math.inf) -> Norm:
    """Frobenius norm of a matrix on NumPy: measured where that is cheap, or else estimated.

    `most` is an upper bound that is known besides.
    """
    special = getattr(A, "_norm", None)
    found = NotImplemented if special is None else special("fro")
    if found is not NotImplemented:
        return exact(float(found))
    if math.prod(A.shape) <= MEASURED_ENTRIES or min(A.shape) <= PROBES:
        return exact(A.norm())
    X = gaussian(rng, (A.shape[1], PROBES), A.dtype)
    Y = A.matmat(X).astype(np.result_type(A.dtype, np.float64))
    square, complex_ = float(np.linalg.norm(Y) ** 2), A.dtype.kind == "c"
    chance = (1 - CONFIDENCE) / 4
    upper = upper_norm(square, PROBES, chance=chance, complex_=complex_)
    lower = lower_norm(square, PROBES, chance=chance, complex_=complex_)
    return Norm(min(math.sqrt(square / PROBES), most), lower, min(upper, most), PROBES)
