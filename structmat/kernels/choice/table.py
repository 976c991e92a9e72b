"""The table of kernels: one record each, with all that is known of the kernel.

Records bind kernels to a structure and its packed contents. A kernel is written in a module
of `arrays`, `cpu`, `triton` or `cuda`, which is imported when the kernel is bound.
"""

from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any, cast

from structmat._array import Array, namespace_named, to_numpy
from structmat.kernels.arrays.csr import RowsFactor
from structmat.kernels.arrays.dense import DenseFactor, written_out
from structmat.kernels.arrays.panels import by_panels, panel_factors
from structmat.kernels.bound import BoundFactor, BoundKernel, Chain
from structmat.kernels.choice.record import (
    Bind,
    Kernel,
    KernelTable,
    is_modelled,
    is_on_device,
    on,
)
from structmat.kernels.cost_model import devices, prices
from structmat.kernels.cost_model.kernel_time import KernelTime
from structmat.kernels.cost_model.prices import Work
from structmat.kernels.layouts.batched import MatrixBatches, exact_batches
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import Pattern, RunPattern

#: Stored scalars from which on a product is worth importing a package and compiling for.
LEAST_COMPILED_SCALARS = 4096
#: Columns from which on torch takes matrix units.
_LEAST_UNIT_COLUMNS = 17
#: Vectors up to which a GPU reads stored scalars where they stand.
_MOST_LINE_VECTORS = 16
#: Vectors above which torch never multiplies them one by one.
MOST_ONE_BY_ONE = 8
#: Dtypes of matrix units, and of compiled kernels: torch compiles the real ones.
_MATRIX_UNITS = ("float32", "float16", "bfloat16")
_REAL = ("float32", "float64")
_COMPILED = (*_REAL, "complex64", "complex128")


# Binding: what each kernel makes of a structure and its contents.


def _factors(factor: Callable[[Pattern, Array], BoundFactor]) -> Bind:
    """Bind by `factor(pattern, contents)`, factor by factor."""

    def bind(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
        pairs = zip(structure.patterns, contents, strict=True)
        return Chain(structure, *[factor(p, c) for p, c in pairs])

    return bind


def _vectors(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    from structmat.kernels.cpu.vectors import vector_product

    return vector_product(structure, contents)


def _tiles(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    if structure.library == "torch":
        from structmat.kernels.cpu.torch_op import RowGroupIndex, TorchTiles

        indices = structure.layouts("row groups", RowGroupIndex, contents)
        tiles = partial(TorchTiles, indices, contents, through=structure.through)
        return _on_torch(structure, contents, TILES, tiles)
    from structmat.kernels.cpu.vectors import tile_product

    return tile_product(structure, contents)


def _blocks(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    if structure.library == "torch":
        from structmat.kernels.cpu.torch_blocks import TorchBlockIndex, TorchBlocks

        index = structure.kept("places", partial(TorchBlockIndex.of, structure))
        return _on_torch(structure, contents, BLOCKS, partial(TorchBlocks, index, contents))
    from structmat.kernels.cpu.blocks import BlockIndex, BlockProduct

    return BlockProduct(structure.kept("places", partial(BlockIndex.of, structure)), contents)


def _on_torch(
    structure: FactorStructure, contents: list[Array], kernel: Kernel, operators: Callable[[], Any]
) -> BoundKernel:
    from structmat._derivatives import is_transformed
    from structmat.kernels.arrays.torch_panels import panel_indices
    from structmat.kernels.cpu.torch_kernel import TorchKernel

    panel_indices(structure, contents)  # now, since a transform may not keep what it makes
    if is_transformed(*contents):
        return by_panels(structure, contents)

    def vectors() -> BoundKernel:
        on_numpy = structure.on(namespace_named("numpy"), "cpu")
        return _vectors(on_numpy, [to_numpy(c) for c in contents])

    def few() -> int:
        own, single = torch_times(kernel, Work.of(structure, contents))
        counts = range(1, MOST_ONE_BY_ONE + 1)
        quicker = (single.seconds(count) < own.seconds(count) for count in counts)
        return sum(takewhile(bool, quicker))

    return TorchKernel(
        operators(),
        vectors=vectors,
        panels=partial(by_panels, structure, contents),
        few=few,
        recorded=any(c.requires_grad for c in contents),
    )


def torch_times(kernel: Kernel, work: Work) -> tuple[KernelTime, KernelTime]:
    """Expected times of a compiled kernel on one thread, and those of single vectors one by one."""
    known = KERNELS.coefficients(threads=1)
    own, single = (KernelTime(k.price, work, known.get(k.name, ())) for k in (kernel, VECTORS))
    return own, single


def _batches(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    from structmat.kernels.arrays.batches import ArrayFactor, BatchedStructure, Batches

    totals = [c.shape[0] for c in contents]

    def batched() -> BatchedStructure:
        if structure.library != "torch":
            made = exact_batches(structure, totals)
            return BatchedStructure(structure, made, ArrayFactor, keeps=True)
        from structmat.kernels.arrays.torch_batches import TorchFactor

        made = MatrixBatches(structure, totals)
        return BatchedStructure(structure, made, TorchFactor, keeps=False)

    return Batches(structure.kept("batched factors", batched), contents)


def _triton(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    from structmat.kernels.layouts.strips import Strips
    from structmat.kernels.triton.factor import (
        TiledFactor,
        TiledStrips,
        strip_tiles,
        tile_matrix,
    )

    strips = Strips.apart(structure)
    if strips is not None:
        tiles, listed = structure.kept(
            "strip tiles", partial(strip_tiles, strips, structure.device)
        )
        return TiledStrips(strips, tiles, strips.merged(contents), listed=listed)
    make = partial(tile_matrix, device=structure.device)
    pairs = zip(structure.layouts("tile matrices", make, contents), contents, strict=True)
    factors = [TiledFactor(tiles, c, left=i == 0) for i, (tiles, c) in enumerate(pairs)]
    return Chain(structure, *factors)


def _lines(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    from structmat.kernels.triton.lines import torch_lines

    # Gradients by the contents take fewer operations in batches.
    if any(c.requires_grad for c in contents):
        return _batches(structure, contents)
    return torch_lines(structure, contents)


def _intervals(pattern: Pattern, contents: Array) -> BoundFactor:
    from structmat.kernels.cuda.intervals import CudaIntervals

    runs = cast(RunPattern, pattern)  # as its record requires
    return CudaIntervals(runs.start, runs.width, runs.n, contents)


def _pair(structure: FactorStructure, contents: list[Array]) -> BoundKernel:
    made = []
    factors = panel_factors(structure, contents)
    for factor, pattern, c in zip(factors, structure.patterns, contents, strict=True):
        made.append(written_out(factor.matmat, factor.rmatmat, pattern.shape, structure, c))
    return Chain(structure, *made)


def _dense(structure: FactorStructure, contents: list[Array]) -> DenseFactor:
    # On torch by the reference: its transforms differentiate the operations.
    columns = min(structure.shape)
    modelled = is_modelled(structure) or is_on_device(structure)
    on_device = structure.library == "torch" and str(structure.device) != "cpu"
    plain = BATCHES if on_device else REFERENCE
    writer = KERNELS.default(structure, contents, columns) if modelled else plain
    bound = writer.bind(structure, contents)
    times = partial(bound.multiply, by_columns=False)
    adjoint_times = partial(bound.multiply_adjoint, by_columns=False)
    return written_out(times, adjoint_times, structure.shape, structure, contents[0])


# Requirements of a single kernel.


def _for_tiles(structure: FactorStructure, contents: list[Array]) -> str:
    if structure.library != "torch":
        return on("numpy", dtypes=_COMPILED)(structure, contents)
    if str(structure.device) != "cpu":
        return "contents on the CPU"
    return on("torch", dtypes=_REAL)(structure, contents)


def _for_blocks(structure: FactorStructure, contents: list[Array]) -> str:
    runs = on("numpy", "torch", dtypes=_REAL, runs=True)(structure, contents)
    return runs or _for_tiles(structure, contents)


def _for_lines(structure: FactorStructure, contents: list[Array]) -> str:
    if max(c.shape[0] for c in contents) >= 2**31:
        return "fewer than 2**31 scalars"
    return on("torch", dtypes=_MATRIX_UNITS, device="cuda")(structure, contents)


#: The kernel that fits every matrix, and against which the others are tested.
REFERENCE = Kernel(
    "panels",
    "BLAS on dense panels, with any array library",
    by_panels,
    on(),
    price=prices.PANELS,
    default_from=0,
)
BATCHES = Kernel(
    "batches",
    "batched products, in as many operations for any number of blocks",
    _batches,
    on(),
    on_devices=devices.BATCHES,
    default_from=0,
    off_cpu=True,
)
VECTORS = Kernel(
    "vectors",
    "compiled, vector by vector",
    _vectors,
    on("numpy", dtypes=_COMPILED),
    package="numba",
    least_scalars=LEAST_COMPILED_SCALARS,
    price=prices.VECTORS,
    takes_orders=lambda structure: structure.col is not None and not structure.through,
)
TILES = Kernel(
    "tiles",
    "compiled, many columns at once",
    _tiles,
    _for_tiles,
    package="numba",
    least_scalars=LEAST_COMPILED_SCALARS,
    price=prices.TILES,
    default_from=0,
)
BLOCKS = Kernel(
    "blocks",
    "compiled, block by block, in any order of rows and columns",
    _blocks,
    _for_blocks,
    package="numba",
    least_scalars=LEAST_COMPILED_SCALARS,
    price=prices.BLOCKS,
    default_from=0,
    takes_orders=lambda structure: True,
)
KERNELS = KernelTable(
    REFERENCE,
    BATCHES,
    Kernel(
        "rows",
        "compressed rows of SciPy",
        _factors(RowsFactor.of),
        on("numpy", dtypes=_COMPILED),
        price=prices.ROWS,
    ),
    VECTORS,
    TILES,
    BLOCKS,
    Kernel(
        "triton",
        "matrix units of a GPU by Triton",
        _triton,
        on("torch", dtypes=_MATRIX_UNITS, device="cuda"),
        package="triton",
        install="triton",
        on_devices=devices.TRITON,
        default_from=_LEAST_UNIT_COLUMNS,
    ),
    Kernel(
        "lines",
        "a GPU by Triton, stored scalars read once where they stand, for few vectors",
        _lines,
        _for_lines,
        package="triton",
        install="triton",
        default_from=0,
        default_to=_MOST_LINE_VECTORS,
    ),
    Kernel(
        "intervals",
        "CUDA, run by run",
        _factors(_intervals),
        on("cupy", dtypes=_COMPILED, runs=True),
        on_devices=devices.INTERVALS,
        default_from=0,
    ),
    Kernel(
        "pair",
        "both factors as dense arrays with zeros",
        _pair,
        on(),
        price=prices.PAIR,
        on_devices=devices.PAIR,
    ),
    Kernel(
        "dense",
        "the matrix as a dense array",
        _dense,
        on(),
        price=prices.DENSE,
        on_devices=devices.DENSE,
        takes_orders=lambda structure: True,
    ),
)
