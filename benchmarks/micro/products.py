"""Suite "products": A @ x and A @ X against dense BLAS, every kernel, SciPy and low rank."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import structmat
from benchmarks.micro import gblr, growth, inputs, peer_products, structures, threads
from benchmarks.micro.kernels import forced
from benchmarks.micro.memory import reader
from benchmarks.micro.progress import Progress
from benchmarks.micro.structures import Product, Subject
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import Call, Timing, interleaved
from benchmarks.results import Row, short

#: Columns of a product that are compared with the reference.
CHECKED_COLUMNS = 8
#: Multiplications above which products of scipy.sparse are left out: they take seconds.
SPARSE_MULTIPLICATION_LIMIT = 2e8
#: Bytes of an operand, at most.
OPERAND_BYTE_LIMIT = 2**25


@dataclass(frozen=True)
class ProductsPlan:
    """Sizes, costs in units of n^2, columns, and seconds a call.

    `dtypes` gives the largest size for each dtype. `learned` and `others` are the sizes
    and costs at which learned structures, and other kinds than GBLR, stand beside random
    GBLR, in the first dtype alone. `threads` are the sizes and columns that are timed at one and
    two threads. `scalars` is the most that a GBLR matrix stores, and
    `multiplications` the most for a dense product with a float32 operand, half of that in
    float64.
    """

    sizes: Sequence[int]
    costs: Sequence[float]
    columns: Sequence[int]
    dtypes: Mapping[str, int]
    learned: Sequence[tuple[int, float]]
    others: Sequence[tuple[int, float]]
    compressed: Sequence[tuple[int, float]]
    peers: Sequence[int]
    threads: Sequence[tuple[int, int]]
    growth: Sequence[int]
    scalars: float
    multiplications: float
    seconds: float
    least: int
    minutes: float


FULL = ProductsPlan(
    sizes=(512, 768, 1024, 2048, 3072, 4096, 8192, 16384),
    costs=(0.05, 0.125, 0.25, 0.5),
    columns=(1, 8, 64, 256, 2048, 8192),
    dtypes={"float32": 16384, "float64": 4096},
    learned=((1024, 0.25), (4096, 0.25)),
    others=((1024, 0.25), (4096, 0.25)),
    compressed=((512, 0.125), (512, 0.25)),
    peers=(1024,),
    threads=((4096, 1), (8192, 1), (1024, 1), (3072, 256), (4096, 256), (768, 256), (768, 2048)),
    growth=(1024, 2048, 4096, 8192, 16384),
    scalars=4e7,
    multiplications=3.5e10,
    seconds=0.02,
    least=5,
    minutes=10,
)
QUICK = ProductsPlan(
    sizes=(512, 1024),
    costs=(0.05, 0.25),
    columns=(1, 64),
    dtypes={"float32": 1024},
    learned=((512, 0.25),),
    others=((512, 0.25),),
    compressed=((256, 0.25),),
    peers=(512,),
    threads=((512, 1), (512, 64)),
    growth=(512, 1024),
    scalars=1e7,
    multiplications=1e9,
    seconds=0.005,
    least=3,
    minutes=0.2,
)


def run(plan: ProductsPlan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure everything in the plan.

    Structures are drawn with the first seed alone: their times hardly depend on it.
    """
    suite, seed = Suite("products", seeds[:1]), seeds[0]
    groups = [*_groups(plan)]
    with Progress("products", len(groups) + len(plan.peers) + 2) as progress:
        for n, cost, makers in groups:
            progress.step(f"n = {n}, cost {cost:.3g}")
            subjects = [subject for make in makers for subject in _made(make, n, cost, seed)]
            for dtype, largest in plan.dtypes.items():
                if n <= largest:
                    _measure(suite, plan, n, cost, dtype, subjects, seed)
                subjects = subjects[:1]
        progress.step("growth")
        growth.run(suite, plan.growth, 8 * plan.seconds, plan.least, seed)
        progress.step("threads")
        threads.run(suite, plan.threads, 8 * plan.seconds, plan.least, seed)
        for n in plan.peers:
            progress.step(f"peers, n = {n}")
            peer_products.run(suite, plan, n, seed)
    return suite


Maker = Callable[[int, float, np.random.Generator], Subject | list[Subject]]


def _groups(plan: ProductsPlan) -> Iterator[tuple[int, float, list[Maker]]]:
    """Groups that are timed side by side: one a size and cost."""
    for n in plan.sizes:
        for cost in plan.costs:
            if n * n * cost > plan.scalars:
                continue
            makers: list[Maker] = [gblr.random_gblr]
            if (n, cost) in plan.learned:
                makers += [gblr.grid_gblr, gblr.uneven_gblr]
            if (n, cost) in plan.others:
                makers += [structures.all_random]
            yield n, cost, makers
    for n, cost in plan.compressed:
        yield n, cost, [_compressed]


def _compressed(n: int, cost: float, rng: np.random.Generator) -> Subject:
    result = structmat.compress(inputs.sharp_kernel(n, rng), "gblr", budget=cost, rng=rng)
    return gblr.described(result.matrix, "compressed")


def _made(make: Maker, n: int, cost: float, seed: int) -> list[Subject]:
    made = make(n, cost, np.random.default_rng(seed))
    return made if isinstance(made, list) else [made]


def _measure(
    suite: Suite,
    plan: ProductsPlan,
    n: int,
    cost: float,
    dtype: str,
    subjects: list[Subject],
    seed: int,
) -> None:
    rng, itemsize = np.random.default_rng(seed), np.dtype(dtype).itemsize
    most = min(4 * plan.multiplications / n, OPERAND_BYTE_LIMIT) / (n * itemsize)
    columns = [k for k in plan.columns if k <= most]
    X = rng.standard_normal((n, max(columns)), np.float32).astype(dtype)
    expected = [
        subject.reference(X[:, :CHECKED_COLUMNS].astype(np.float64)) for subject in subjects
    ]
    dense, U, V = (rng.standard_normal(s, np.float32).astype(dtype) for s in _shapes(n, cost))
    matrices = [subject.matrix.astype(dtype) for subject in subjects]
    rivals = [{name: make(dtype) for name, make in b.rivals.items()} for b in subjects]
    for k in columns:
        x = X[:, :k].copy() if k > 1 else X[:, 0].copy()
        calls: dict[str, Call] = {
            "dense": lambda x=x: dense @ x,
            "low_rank": lambda x=x: U @ (V @ x),
        }
        for i, (subject, matrix) in enumerate(zip(subjects, matrices, strict=True)):
            ways = _ways(matrix, rivals[i], k)
            for name, product in ways.items():
                error = subject.product_error(_first(product(x)), expected[i], _first(x))
                what = f"{matrix!r}, {subject.source}, {k} columns, {name}"
                suite.check(error <= n * np.finfo(dtype).eps, f"{what}: error {error:.1e}")
                calls[f"{i} {name}"] = partial(product, x)
            if k == 1:
                calls[f"{i} read"] = _reading(matrix)
            if subject.source == "random" and matrix.kind == "gblr":
                calls[f"{i} call"] = partial(one_entry(n, dtype).__matmul__, x)
                calls[f"{i} bytes"] = _moving(matrix, x)
        timing = interleaved(calls, seconds=plan.seconds * len(calls), least=plan.least)
        for i, (subject, matrix) in enumerate(zip(subjects, matrices, strict=True)):
            head = {"what": "product", "n": n, "budget": cost, "dtype": dtype, "columns": k}
            head["threads"] = structmat.kernels.num_threads()
            suite.rows.append(head | _described(subject) | _times(timing, i, matrix, k))


def _shapes(n: int, cost: float) -> list[tuple[int, int]]:
    """Shapes of the dense matrix and of two dense factors that cost as much as the structure."""
    rank = max(1, round(cost * n / 2))
    return [(n, n), (n, rank), (rank, n)]


def _ways(
    matrix: structmat.StructuredMatrix, rivals: dict[str, Product], columns: int
) -> dict[str, Product]:
    """Products by structmat's choice, as "ours", by each of its kernels, and by the rivals."""
    sparse = rivals if matrix.cost * columns <= SPARSE_MULTIPLICATION_LIMIT else {}
    return {
        "ours": matrix.__matmul__,
        **{f"kernel {name}": way for name, way in forced(matrix, columns).items()},
        **{f"rival {name}": way for name, way in sparse.items()},
    }


def _first(y: NDArray) -> NDArray:
    return y.reshape(len(y), -1)[:, :CHECKED_COLUMNS]


def _reading(matrix: structmat.StructuredMatrix) -> Call:
    """Call that reads as many bytes as the matrix stores."""
    return partial(reader()[1], np.ones(matrix.storage, matrix.dtype))


def _moving(matrix: structmat.StructuredMatrix, x: NDArray) -> Call:
    """Call that reads what the matrix stores and the operand, and writes the result."""
    read, y = _reading(matrix), np.empty_like(x)

    def call() -> None:
        read()
        np.copyto(y, x)

    return call


def one_entry(n: int, dtype: str) -> structmat.GBLR:
    """GBLR matrix of one entry, whose product takes as long as any call does."""
    one = np.ones(1, dtype)
    return structmat.GBLR([0], [1], one, [0], [1], one, shape=(n, n))


def _described(subject: Subject) -> Row:
    return {
        "kind": subject.matrix.kind,
        "source": subject.source,
        "cost": short(subject.matrix.relative_cost),
    }


def _times(timing: Timing, i: int, matrix: structmat.StructuredMatrix, columns: int) -> Row:
    ours, read = f"{i} ours", f"{i} read"
    kernels, rivals = _calls(timing, f"{i} kernel "), _calls(timing, f"{i} rival ")
    rivals["low_rank"] = "low_rank"
    row: Row = {
        "rounds": timing.rounds,
        "seconds": short(timing.seconds(ours)),
        "over_dense": short(timing.ratio(ours, "dense")),
        "over": {name: short(timing.ratio(ours, call)) for name, call in rivals.items()},
        "kernel": structmat.kernels.plan(matrix, columns).kernel,
    }
    if kernels:
        # Where no dense copy was made, the dense product itself stands for that kernel.
        kernels.setdefault("dense", "dense")
        best = min(kernels, key=lambda name: timing.seconds(kernels[name]))
        row |= {
            "kernels": {name: short(timing.ratio(c, "dense")) for name, c in kernels.items()},
            "best": best,
            "over_best": short(timing.ratio(kernels[row["kernel"]], kernels[best])),
        }
    for what in ("call", "bytes"):
        if f"{i} {what}" in timing.samples:
            row[f"{what}_over_dense"] = short(timing.ratio(f"{i} {what}", "dense"))
    if read in timing.samples:
        stored, (m, n) = matrix.storage * matrix.dtype.itemsize, matrix.shape
        row["over_read"] = short(timing.ratio(ours, read))
        row["bytes_a_second"] = {
            "structmat": short(stored / timing.seconds(ours)),
            "dense": short(m * n * matrix.dtype.itemsize / timing.seconds("dense")),
            "reading": short(stored / timing.seconds(read)),
        }
    return row


def _calls(timing: Timing, prefix: str) -> dict[str, str]:
    """Names of the calls with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): name for name in timing.samples if name.startswith(prefix)}
