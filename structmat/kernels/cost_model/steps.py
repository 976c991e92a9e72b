"""Training steps of layers: by their structure, or by a dense weight that is assembled in each.

On the CPU, steps of Gaudi layers are counted in multiplications. On a device, steps have times,
from figures of the place; where it has none, the weight is assembled, which takes few operations
and never much longer than a dense step.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from structmat.kernels.cost_model.layers import LAYER_MARGIN, Times


class FactorCoefficients(NamedTuple):
    """Cost of a product by the factors of Gaudi blocks, in multiplications of a dense product.

    One multiplication, the start of a layer's product, and samples of padding for a run:
    measured with 768 -> 3072 and 4096 vectors.
    """

    factor: float
    start: float
    padding: int


GAUDI_PANELS = FactorCoefficients(2.0, 3e7, 48)
GAUDI_COMPILED = FactorCoefficients(1.5, 1e7, 6)


class StepCost(NamedTuple):
    """Multiplications of a training step by each product, estimated from the structure."""

    #: By factors, for all vectors.
    factors: float
    #: By a weight assembled in one product; infinite where contents live on windows.
    assembled: float
    #: By a weight assembled as the factors' product with an identity.
    by_identity: float

    @classmethod
    def of(
        cls,
        count: int,
        shape: tuple[int, int],
        contents: tuple[int, int],
        reached: Sequence[float],
        *,
        whole: bool,
        compiled: bool,
    ) -> "StepCost":
        """Cost for `count` vectors and a weight of `shape` (m, n).

        `contents` are the number of blocks and their rank, and `reached` the samples that
        all masks leave, for either side. `whole` tells that both sides' contents lie on
        whole circles, `compiled` that compiled kernels multiply.
        """
        (m, n), (blocks, rank) = shape, contents
        factor, start, padding = GAUDI_COMPILED if compiled else GAUDI_PANELS
        touched = sum(samples + blocks * padding for samples in reached)
        by_factors = 3.0 * factor * rank * touched
        dense = 3.0 * m * n * count
        return cls(
            by_factors * count + start,
            dense + 3.0 * m * n * blocks * rank if whole else math.inf,
            dense + by_factors * min(m, n) + start,
        )


class StepCoefficients(NamedTuple):
    """Nanoseconds at a place with a device."""

    #: For one multiplication of a dense product, and what a product through factors adds to it.
    multiply: float
    factors: float
    #: For an entry of a weight assembled by one product, and by placing contents; with gradients.
    entry: float
    placed: float
    #: To start the operations of a product through factors, beside those that assemble.
    factors_start: float


#: Measured on an H200, 2026-11-29, bfloat16, 8192 vectors: a dense step; strips placed in a dense
#: weight (1.18 of the dense step at 4096 x 4096); K masked blocks in one product (1.61, 1.37, 1.26
#: for K = n, n/2, n/4) and through both factors (2.2, 1.1, .65).
SHIPPED: Mapping[str, StepCoefficients] = {
    "NVIDIA H200, bfloat16": StepCoefficients(2.62e-6, 1.05, 7.7e-3, 1.16e-2, 1.1e5)
}


def masked_steps(
    ns: StepCoefficients, count: int, shape: tuple[int, int], terms: int
) -> tuple[float, float]:
    """Nanoseconds of a step by `terms` masked pairs of vectors: assembled, and through both."""
    m, n = shape
    assembled = ns.multiply * 3.0 * m * n * (count + terms) + ns.entry * m * n
    through = ns.multiply * ns.factors * 3.0 * (m + n) * terms * count + ns.factors_start
    return assembled, through


def assembles_masked(place: str, count: int, shape: tuple[int, int], terms: int) -> bool:
    """Tell whether a step by `terms` masked pairs of vectors is sooner by an assembled weight.

    Examples
    --------
    >>> [assembles_masked("NVIDIA H200, bfloat16", 8192, (4096, 4096), K) for K in (4096, 1024)]
    [True, False]
    >>> assembles_masked("a new device", 8192, (4096, 4096), 16)
    True
    """
    ns = SHIPPED.get(place)
    if ns is None:
        return True
    assembled, through = masked_steps(ns, count, shape, terms)
    return LAYER_MARGIN * assembled < through


def assembles_structure(
    place: str, count: int, shape: tuple[int, int], times: Times, *, terms: int | None
) -> bool:
    """Tell whether a training step by a fixed structure is sooner by an assembled weight.

    Parameters
    ----------
    place : str
    count : int
        Vectors.
    shape : tuple of int
        Of the weight, (m, n).
    times : Times
        Of products by the structure.
    terms : int or None
        0 where every entry of the weight is one number of the contents, so that these are placed
        at once; the columns of two factors in which they are placed, whose product is the weight;
        None for a weight that is a product with the unit vectors.

    Examples
    --------
    >>> H200 = "NVIDIA H200, bfloat16"
    >>> times = Times(dense_once=2e4, dense_each=44.0, once=2.5e5, each=9.0, chunk=2**40)
    >>> [assembles_structure(H200, T, (4096, 4096), times, terms=0) for T in (256, 8192)]
    [True, False]
    """
    ns, (m, n) = SHIPPED.get(place), shape
    if ns is None or not times.known:
        return True
    if terms is None:
        assembly = 2 * times.structured(min(m, n))
    elif terms == 0:
        assembly = ns.placed * m * n
    else:
        assembly = masked_steps(ns, 0, shape, terms)[0]
    assembled = ns.multiply * 3.0 * m * n * count + assembly + times.dense_once
    # Both gradients are products of the same size.
    return LAYER_MARGIN * assembled < 3 * times.structured(count)
