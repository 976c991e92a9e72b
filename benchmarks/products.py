"""Suite "products": A @ x and A @ X against dense BLAS and scipy.sparse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import structmat
from benchmarks import inputs, peer_products, structures
from benchmarks.progress import Progress
from benchmarks.results import Row, Suite, short
from benchmarks.structures import Built, Product
from benchmarks.timing import Call, Timing, interleaved

#: Columns of a product that are compared with the dense one.
CHECKED = 8
#: A product of scipy.sparse with more multiplications than this is left out: seconds a call.
SPARSE_LIMIT = 5e8


@dataclass(frozen=True)
class Plan:
    """What is measured: sizes, costs in units of n^2, columns, and how long each."""

    sizes: Sequence[int]
    costs: Sequence[float]
    columns: Sequence[int]
    dtypes: Sequence[str]
    compressed: Sequence[tuple[int, float]]
    peers: Sequence[int]
    seconds: float
    least: int
    minutes: float


FULL = Plan(
    sizes=(512, 1024, 2048, 4096),
    costs=(0.05, 0.125, 0.25, 0.5),
    columns=(1, 64, 1024),
    dtypes=("float32", "float64"),
    compressed=((512, 0.125), (512, 0.25)),
    peers=(1024,),
    seconds=0.25,
    least=3,
    minutes=3,
)
QUICK = Plan(
    sizes=(512, 1024),
    costs=(0.05, 0.25),
    columns=(1, 64),
    dtypes=("float32",),
    compressed=((256, 0.25),),
    peers=(512,),
    seconds=0.05,
    least=3,
    minutes=0.2,
)


def run(plan: Plan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure everything in the plan.

    Structures are drawn with the first seed alone: their times hardly depend on it.
    """
    suite = Suite("products", seeds[:1])
    steps = len(plan.sizes) * len(plan.costs) + len(plan.compressed) + len(plan.peers)
    with Progress("products", steps) as progress:
        for n, cost, builts in _groups(plan, seeds[0]):
            progress.step(f"n = {n}, cost {cost:.3g}")
            _measure(suite, plan, n, cost, builts, seeds[0])
        for n in plan.peers:
            progress.step(f"peers, n = {n}")
            peer_products.run(suite, plan, n, seeds[0])
    return suite


def _groups(plan: Plan, seed: int) -> Iterator[tuple[int, float, list[Built]]]:
    """Structures that are timed side by side: one group a size and cost."""
    for n in plan.sizes:
        for cost in plan.costs:
            rng = np.random.default_rng(seed)
            yield n, cost, structures.all_random(n, cost, rng)
    for n, cost in plan.compressed:
        rng = np.random.default_rng(seed)
        result = structmat.compress(inputs.sharp_kernel(n, rng), "gblr", budget=cost, rng=rng)
        built = structures.describe_gblr(result.matrix, "compressed")
        yield n, cost, [built]


def _measure(suite: Suite, plan: Plan, n: int, cost: float, builts: list[Built], seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, max(plan.columns)))
    expected = [built.dense @ X[:, :CHECKED] for built in builts]
    for dtype in plan.dtypes:
        dense = rng.standard_normal((n, n)).astype(dtype)
        ways = [_ways(built, dtype) for built in builts]
        for columns in plan.columns:
            x = (X[:, :columns] if columns > 1 else X[:, 0]).astype(dtype)
            calls: dict[str, Call] = {"dense": partial(dense.__matmul__, x)}
            for i, built in enumerate(builts):
                for name, product in ways[i].items():
                    if name and built.matrix.cost * columns > SPARSE_LIMIT:
                        continue
                    error = _error(product(x), expected[i], built, x)
                    what = f"{built.matrix!r}, {dtype}, {name or 'structmat'}"
                    suite.check(error <= n * np.finfo(dtype).eps, f"{what}: error {error:.1e}")
                    calls[f"{i} {name}"] = partial(product, x)
            timing = interleaved(calls, seconds=plan.seconds, least=plan.least)
            for i, built in enumerate(builts):
                row = {"n": n, "budget": cost, "dtype": dtype, "columns": columns}
                suite.rows.append(row | _described(built) | _times(timing, i, built))


def _ways(built: Built, dtype: str) -> dict[str, Product]:
    """Ways to the product in one dtype: structmat's under the empty name, and its rivals."""
    rivals = {name: make(dtype) for name, make in built.rivals.items()}
    return {"": built.matrix.astype(dtype).__matmul__, **rivals}


def _described(built: Built) -> Row:
    return {
        "kind": built.matrix.kind,
        "source": built.source,
        "cost": short(built.matrix.relative_cost),
        "fill": short(built.fill),
    }


def _times(timing: Timing, i: int, built: Built) -> Row:
    names = [name for name in built.rivals if f"{i} {name}" in timing.samples]
    return {
        "rounds": timing.rounds,
        "seconds": short(timing.seconds(f"{i} ")),
        "over_dense": short(timing.ratio(f"{i} ", "dense")),
        "over": {name: short(timing.ratio(f"{i} ", f"{i} {name}")) for name in names},
    }


def _error(y: NDArray, expected: NDArray, built: Built, x: NDArray) -> float:
    """Error of the first columns of a product; see `Built.product_error`."""
    y, x = y.reshape(len(y), -1)[:, :CHECKED], x.reshape(len(x), -1)[:, :CHECKED]
    return built.product_error(y, expected, x)
