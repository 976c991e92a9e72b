"""Suite "learned": products with layers whose structure was learned, against the dense ones.

The layers are those of the experiment "learning_grey", seed 0: many small blocks in learned
orders of rows and columns, which random structures do not resemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import structmat
from benchmarks.micro.progress import Progress
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import Call, interleaved
from benchmarks.results import BenchmarkError, Row, short
from structmat.matrices import split_orders

try:
    import torch
    from torch import nn

    from structmat.nn import StructuredLinear
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[torch]'"
    ) from None

LAYERS = Path(__file__).parent / "learned_layers"


@dataclass(frozen=True)
class LearnedPlan:
    """Names of layers, numbers of vectors, and seconds for each."""

    layers: Sequence[str]
    vectors: Sequence[int]
    seconds: float
    least: int
    minutes: float


FULL = LearnedPlan(
    layers=sorted(file.stem for file in LAYERS.glob("*.npz")),
    vectors=(1, 16, 64, 256, 1024),
    seconds=1.0,
    least=10,
    minutes=0.5,
)
QUICK = LearnedPlan(layers=FULL.layers[:1], vectors=(1, 64), seconds=0.05, least=3, minutes=0.1)


def run(plan: LearnedPlan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure every layer with every number of vectors."""
    suite = Suite("learned", seeds[:1])
    rng = np.random.default_rng(seeds[0])
    with Progress("learned", len(plan.layers)) as progress:
        for name in plan.layers:
            progress.step(name)
            A = structmat.load(LAYERS / f"{name}.npz")
            for count in plan.vectors:
                x = rng.standard_normal((count, A.shape[1]), np.float32)
                suite.rows.append(_row(suite, plan, name, A, x))
    return suite


def _row(
    suite: Suite, plan: LearnedPlan, name: str, A: structmat.StructuredMatrix, x: np.ndarray
) -> Row:
    """Time a frozen layer and a product on NumPy in turns with the dense ones."""
    blocks = split_orders(A)[1]
    assert isinstance(blocks, structmat.GBLR)
    W, vectors = A.to_dense(), torch.from_numpy(x)
    dense = nn.Linear(A.shape[1], A.shape[0]).eval()
    layer = StructuredLinear(A, dense.bias.detach()).eval()
    columns = np.ascontiguousarray(x.T)
    calls: dict[str, Call] = {
        "product": partial(np.matmul, A, columns),
        "dense product": partial(np.matmul, W, columns),
        "layer": partial(layer, vectors),
        "dense layer": partial(dense, vectors),
        "bytes": _moving(A, x),
    }
    with torch.inference_mode():
        errors = [A @ columns - W @ columns, (layer(vectors) - dense.bias).numpy().T - W @ columns]
        timing = interleaved(calls, seconds=plan.seconds, least=plan.least)
    size = np.linalg.norm(W @ columns)
    for what, error in zip(("product", "layer"), errors, strict=True):
        off = float(np.linalg.norm(error) / size)
        suite.check(off < 1e-5, f"{what} with {name}, {len(x)} vectors: off by {off:.1e}")
    area = blocks.row_width * blocks.col_width
    return {
        "layer": name,
        "out": A.shape[0],
        "in": A.shape[1],
        "cost": short(A.relative_cost),
        "blocks": blocks.num_blocks,
        "area": short(float(area.mean())),
        "vectors": len(x),
        "threads": torch.get_num_threads(),
        "rounds": timing.rounds,
        "product_over_dense": short(timing.ratio("product", "dense product")),
        "layer_over_dense": short(timing.ratio("layer", "dense layer")),
        "bytes_over_dense": short(timing.ratio("bytes", "dense layer")),
    }


def _moving(A: structmat.StructuredMatrix, x: np.ndarray) -> Call:
    """Call that moves as many bytes as operand, result and contents have."""
    count = len(x) * sum(A.shape) + A.storage
    source, target = np.ones((2, count // 2), np.float32)
    return partial(np.copyto, target, source)
