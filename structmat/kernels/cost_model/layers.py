"""Times of layers: a product by a structure or by its dense weight, and steps of Gaudi layers.

Layers choose by the counts of one product, so that the same layer multiplies in the same
way again and again. Plain numbers: the counting itself is left to `structmat.nn`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

#: Vectors that a thread takes through a structure at once where no gradient is recorded: by
#: panels, so that the numbers between two factors stay in its cache, and by compiled kernels,
#: which keep them there by themselves.
CHUNK, COMPILED_CHUNK = 256, 8192
#: Factor on the time of the dense weight: the structure has to promise less than that.
LAYER_MARGIN = 0.85


class LayerWork(NamedTuple):
    """Counts of a product by a structure."""

    #: Operations that touch data, for any number of vectors.
    calls: int
    #: Scalars that a vector is multiplied by, padding included.
    scalars: float
    #: Numbers that are written for each vector.
    written: float
    #: Scalars that a vector is multiplied by in compiled kernels, padding included.
    compiled: float = 0.0


class LayerCoefficients(NamedTuple):
    """Nanoseconds of a device, with one thread."""

    #: To start a product.
    dense: float
    structured: float
    #: To start one operation within it.
    call: float
    #: To fetch one stored scalar.
    dense_read: float
    read: float
    #: For one multiplication: in a dense product, a dense convolution, a structure.
    dense_multiply: float
    convolve: float
    multiply: float
    #: To write one number.
    write: float
    #: To start a compiled kernel, to fetch one scalar for it, and for one multiplication.
    compiled_call: float
    compiled_read: float
    compiled_multiply: float


# Least squares on 714 products in float32, relative errors, one thread of an AMD EPYC
# (Zen 4): all kinds at 6 to 75 % of the dense cost, 1 to 4096 vectors, weights from
# 256 x 256 to 3072 x 768. The choice was right for 95 % of them.
CPU = LayerCoefficients(
    5300.0, 43700.0, 4150.0, 0.112, 0.27, 0.0215, 0.0165, 0.0234, 0.3, 3e4, 0.11, 0.0185
)
# Orders of magnitude of a data-centre GPU, from its data sheet: nothing was measured.
ACCELERATOR = LayerCoefficients(1e4, 2e4, 5e3, 2e-3, 2e-3, 4e-5, 4e-5, 1e-4, 4e-3, 2e4, 2e-3, 1e-4)


def _coefficients(device: str) -> LayerCoefficients:
    return CPU if device == "cpu" else ACCELERATOR


class Times(NamedTuple):
    """Nanoseconds of both products: once, and for each vector on one thread."""

    dense_once: float
    dense_each: float
    #: By the structure, once for each `chunk` of vectors.
    once: float
    each: float
    chunk: int = CHUNK

    @classmethod
    def of(cls, work: LayerWork, shape: tuple[int, int], device: str) -> "Times":
        """Times of a structure (m, n) on a type of device."""
        ns, area = _coefficients(device), math.prod(shape)
        plain = work.scalars > 0 or work.calls > 0
        once = ns.read * work.scalars + ns.compiled_read * work.compiled
        once += plain * ns.structured + ns.call * work.calls
        once += (work.compiled > 0) * ns.compiled_call
        multiplying = ns.multiply * work.scalars + ns.compiled_multiply * work.compiled
        return cls(
            ns.dense + ns.dense_read * area,
            ns.dense_multiply * area,
            once,
            multiplying + ns.write * (work.written + shape[0]),
            COMPILED_CHUNK if work.compiled > 0 else CHUNK,
        )

    @classmethod
    def of_convolution(cls, taps: Sequence["Times"], width: int, device: str) -> "Times":
        """Times of a convolution by these taps, with `width` numbers in a patch and its result."""
        ns = _coefficients(device)
        total = cls(*map(sum, zip(*taps, strict=True)))
        return total._replace(
            dense_each=total.dense_each * ns.convolve / ns.dense_multiply,
            each=total.each + ns.write * width,
            chunk=min(tap.chunk for tap in taps),
        )


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
