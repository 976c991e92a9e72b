"""Times of layers: a product by a structure or by its dense weight.

Layers choose by the counts of one product, so that the same layer multiplies in the same
way again and again. Compiled kernels in a product have prices of their own; its other
operations are counted. Plain numbers: the counting itself is left to `structmat.nn`.

Coefficients stand for a place, as those of kernels do. Where a place has none, a product by the
structure counts as endless, so that layers multiply by their dense weight.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from structmat.kernels.cost_model.coefficients import CPU, keep, measured_at
from structmat.kernels.cost_model.kernel_time import KernelTime

#: Vectors that a thread takes through a structure at once where no gradient is recorded: by
#: panels, so that the numbers between two factors stay in its cache, and by compiled kernels,
#: which keep them there by themselves.
CHUNK, COMPILED_CHUNK = 256, 8192
#: Vectors that a device takes at once: all, since parts would only start more operations.
ALL_VECTORS = 2**40
#: Vectors, and twice as many, between which a product's time grows as for any large number.
_MANY = 2**16
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
    #: Those of `scalars` that belong to batched products.
    batched: float = 0.0
    #: Compiled kernels of the product, with times of their own.
    kernels: tuple[KernelTime, ...] = ()


class LayerCoefficients(NamedTuple):
    """Nanoseconds at a place; those of a CPU with one thread."""

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
    #: To start a product by compiled kernels, beside their own times.
    compiled: float
    #: Whether batched products were measured, and multiply as fast as others.
    batches: bool = True


# Least squares on 714 products in float32, relative errors, one thread of an AMD EPYC
# (Zen 4): all kinds at 6 to 75 % of the dense cost, 1 to 4096 vectors, weights from
# 256 x 256 to 3072 x 768. The choice was right for 95 % of them. The start of compiled
# products is that of an Intel Xeon (Sapphire Rapids).
_ON_CPU = LayerCoefficients(
    7500.0, 43700.0, 4150.0, 0.112, 0.27, 0.0215, 0.0165, 0.0234, 0.3, 2000.0
)
# Measured on an H200, 2026-11-29, bfloat16: dense layers of 1 to 8192 vectors, dense training
# steps, and low-rank pairs with 8192 vectors, weights 4096 x 4096 and 8192 x 8192 at 1/8 and 1/4
# of the dense cost. The start of a structure is a bound; that of compiled kernels is in their own
# times. Convolutions were not measured: dense ones count as free.
_ON_H200 = LayerCoefficients(
    *(1e4, 6e4, 5e3, 6e-4, 6e-4, 2.6e-6, 0.0, 2.6e-6, 4.65e-4, 0.0), batches=False
)
SHIPPED: Mapping[str, LayerCoefficients] = {CPU: _ON_CPU, "NVIDIA H200, bfloat16": _ON_H200}
#: Name of the coefficients of layers in the file of measured ones.
_NAME = "layers"


def layer_coefficients(place: str) -> LayerCoefficients | None:
    """Coefficients of layers at a place: measured, or shipped, or None."""
    count = len(LayerCoefficients._fields) - 1
    found = measured_at(_beside(place), {_NAME: count}).get(_NAME)
    return SHIPPED.get(place) if found is None else LayerCoefficients._make([*found, True])


def keep_layers(measured: LayerCoefficients, place: str) -> Path:
    """Write measured coefficients of layers at a place to the file, and use them from now on."""
    return keep({_NAME: list(measured[:-1])}, _beside(place))


def _beside(place: str) -> str:
    """The place of layers in the file, beside that of kernels."""
    return f"{place}, {_NAME}"


def chunk_at(place: str, *, compiled: bool = False) -> int:
    """Vectors that a thread, or a device, takes through a structure at once."""
    if place != CPU:
        return ALL_VECTORS
    return COMPILED_CHUNK if compiled else CHUNK


@dataclass(frozen=True)
class Times:
    """Nanoseconds of products by a structure and by its dense weight.

    Both are linear in the vectors on one thread, but for compiled kernels in the structure.
    """

    dense_once: float
    dense_each: float
    #: By the structure, once for each `chunk` of vectors.
    once: float
    each: float
    chunk: int = CHUNK
    kernels: tuple[KernelTime, ...] = ()
    #: To write one number, and a dense convolution's multiplication over a dense product's.
    write: float = 0.0
    convolution: float = 1.0
    #: Whether the dense weight multiplies very many vectors sooner.
    dense_for_many: bool = field(init=False)
    #: Choices made, by what they depend on.
    chosen: dict[tuple[int, int, int], bool] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        # Now, as tracers ask, which can follow no search for it.
        more = self.structured(2 * _MANY) - self.structured(_MANY) if self.known else math.inf
        object.__setattr__(self, "dense_for_many", self.dense_each * _MANY < more)

    @classmethod
    def of(cls, work: LayerWork, shape: tuple[int, int], place: str) -> "Times":
        """Times of a structure (m, n) at a place; endless for a structure without figures."""
        ns, area = layer_coefficients(place), math.prod(shape)
        unknown = not all(kernel.known for kernel in work.kernels)
        if ns is None or unknown or (work.batched > 0 and not ns.batches):
            return cls(0.0, 0.0, math.inf, math.inf, chunk_at(place))
        compiled = bool(work.kernels)
        plain = work.scalars > 0 or (work.calls > 0 and not compiled)
        once = ns.read * work.scalars + ns.call * work.calls
        once += plain * ns.structured + compiled * ns.compiled
        return cls(
            ns.dense + ns.dense_read * area,
            ns.dense_multiply * area,
            once,
            ns.multiply * work.scalars + ns.write * (work.written + shape[0]),
            chunk_at(place, compiled=compiled),
            work.kernels,
            ns.write,
            ns.convolve / ns.dense_multiply,
        )

    @property
    def known(self) -> bool:
        """True if the place has figures of this structure."""
        return self.each != math.inf  # tracers know no isfinite

    def dense(self, count: float, threads: int = 1) -> float:
        """Time of a product of `count` vectors with the dense weight."""
        return self.dense_once + self.dense_each * count / threads

    def structured(self, count: float, threads: int = 1) -> float:
        """Time of a product of `count` vectors by the structure, as large parts on each thread."""
        rounds = math.ceil(count / (self.chunk * threads))
        return self.once * rounds + self.each * count / threads + self.of_kernels(count, threads)

    def of_kernels(self, count: float, threads: int = 1) -> float:
        """Time of the compiled kernels within `structured`."""
        rounds, rest = divmod(math.ceil(count / threads), self.chunk)
        sizes = [(self.chunk, rounds)] * (rounds > 0) + [(rest, 1)] * (rest > 0)
        return sum(
            1e9 * times * kernel.seconds(size) for kernel in self.kernels for size, times in sizes
        )

    @classmethod
    def of_convolution(cls, taps: Sequence["Times"], width: int) -> "Times":
        """Times of a convolution by these taps, with `width` numbers in a patch and its result."""
        first = taps[0]
        return cls(
            sum(tap.dense_once for tap in taps),
            sum(tap.dense_each for tap in taps) * first.convolution,
            sum(tap.once for tap in taps),
            sum(tap.each for tap in taps) + first.write * width,
            min(tap.chunk for tap in taps),
            tuple(kernel for tap in taps for kernel in tap.kernels),
            first.write,
            first.convolution,
        )
