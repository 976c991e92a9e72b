"""Processor time of mask transforms in a training step, and of starts from given weights."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import structmat
from benchmarks.micro import inputs, rivals
from benchmarks.micro.timing import Call, interleaved
from benchmarks.micro.training import shrunk_layer, step
from benchmarks.paper.algorithm2 import STEPS, Start, published_start
from benchmarks.results import Row, Skip, short
from structmat.nn import gaudi_mask

#: Inputs, outputs and vectors of the layers whose training steps are timed.
STEP_SHAPES = ((768, 768, 256), (768, 3072, 256), (768, 3072, 2048))
#: Rows and columns of the weights that are decomposed, and the vectors of the step beside.
SVD_SHAPES, SVD_VECTORS = ((384, 384), (768, 768), (3072, 768)), 2048
#: Multiplications of the layers over those of the dense ones, and σ of their masks.
STEP_COST, SIGMA = 0.25, 100.0
#: Rounds of each measurement, at least; seconds that they may take beyond.
ROUNDS, SECONDS = 3, 0.5
#: Runs of each start, of which the fastest counts: the first one may compile kernels.
RUNS = 2
#: Matrices of `starts`, and their budgets.
MATRICES: dict[str, tuple[Callable[[np.random.Generator], NDArray], float]] = {
    "block diagonal, 8 blocks of rank 4": (inputs.block_diagonal, 0.228),
    "the same with 5 % noise": (inputs.noisy, 0.0625),
    "covariance of pixels of digits": (inputs.digits, 0.2),
    "Gaussian noise": (partial(inputs.noise, 128, 128), 0.25),
}


def processor_clock(call: Call, loops: int) -> float:
    """Processor seconds of one call, which other processes on the machine hardly change."""
    begin = time.process_time()
    for _ in range(loops):
        call()
    return (time.process_time() - begin) / loops


def transforms(shapes: Sequence[tuple[int, int, int]] = STEP_SHAPES) -> list[Row]:
    """Time of masks by Fourier transforms and by tables, beside whole training steps."""
    rows = []
    for n, m, vectors in shapes:
        published = rivals.FourierLinear(n, m, STEP_COST, SIGMA)
        x, grad = torch.randn(vectors, n), torch.randn(vectors, m)
        x.requires_grad_()
        tables = partial(gaudi_mask, sigma=SIGMA)
        fourier = partial(rivals.fourier_mask, sigma=SIGMA)
        calls = {
            "dense": partial(step, nn.Linear(n, m), x, grad),
            "published": partial(step, published, x, grad),
            "transforms": partial(_masks, published, fourier),
            "ours": partial(step, shrunk_layer(n, m, STEP_COST), x, grad),
            "tables": partial(_masks, published, tables),
        }
        timing = interleaved(calls, seconds=SECONDS, least=ROUNDS, clock=processor_clock)
        rows.append(
            {"what": "transforms", "in": n, "out": m, "vectors": vectors, "cost": STEP_COST}
            | {name: short(timing.seconds(name)) for name in calls}
            | {
                "transforms_share": short(timing.ratio("transforms", "published")),
                "tables_share": short(timing.ratio("tables", "ours")),
                "published_over_dense": short(timing.ratio("published", "dense")),
                "ours_over_dense": short(timing.ratio("ours", "dense")),
            }
        )
    return rows


def _masks(layer: rivals.FourierLinear, mask: Callable[..., Tensor]) -> None:
    """Masks of both sides of a layer, and their gradients by widths and locations."""
    for w, l, contents in zip(layer.widths, layer.locations, (layer.u, layer.v), strict=True):
        w, l = w.detach().requires_grad_(), l.detach().requires_grad_()
        masks = mask(w, l, contents.shape[1])
        masks.backward(torch.ones_like(masks))


def decompositions(shapes: Sequence[tuple[int, int]] = SVD_SHAPES) -> list[Row]:
    """Time of a weight's singular value decomposition beside a dense training step."""
    rows = []
    for m, n in shapes:
        layer = nn.Linear(n, m)
        x, grad = torch.randn(SVD_VECTORS, n), torch.randn(SVD_VECTORS, m)
        x.requires_grad_()
        calls = {
            "svd": partial(torch.linalg.svd, layer.weight.detach(), full_matrices=False),
            "step": partial(step, layer, x, grad),
        }
        timing = interleaved(calls, seconds=SECONDS, least=ROUNDS, clock=processor_clock)
        rows.append(
            {"what": "svd", "rows": m, "cols": n, "vectors": SVD_VECTORS}
            | {name: short(timing.seconds(name)) for name in calls}
            | {"svd_over_step": short(timing.ratio("svd", "step"))}
        )
    return rows


def starts(steps: int = STEPS, names: Sequence[str] = tuple(MATRICES)) -> list[Row]:
    """Error, cost and time of the published start and of `compress` on small matrices."""
    rows = []
    for name in names:
        make, budget = MATRICES[name]
        head = {"what": "start", "matrix": name, "budget": budget}
        try:
            A = np.asarray(make(np.random.default_rng(0)), dtype=np.float64)
        except Skip as reason:
            rows.append(head | {"skipped": str(reason)})
            continue
        for method, fit in _methods(A, budget, steps).items():
            seconds = []
            for _ in range(RUNS):
                begin = time.process_time()
                found = fit()
                seconds.append(time.process_time() - begin)
            error = float(np.linalg.norm(found.dense - A) / np.linalg.norm(A))
            rows.append(
                head
                | {"shape": list(A.shape), "method": method, "error": short(error)}
                | {"cost": short(found.cost / A.size), "storage": short(found.storage / A.size)}
                | {"seconds": short(min(seconds))}
            )
    return rows


def _methods(A: NDArray, budget: float, steps: int) -> dict[str, Callable[[], Start]]:
    def ours(kind: str) -> Start:
        matrix = structmat.compress(A, kind, budget=budget, rng=0, progress=False).matrix
        return Start(matrix.to_dense(), matrix.storage, matrix.cost)

    return {
        "Algorithm 2": partial(published_start, A, budget, correlated=True, steps=steps),
        "Algorithm 2 as released": partial(
            published_start, A, budget, correlated=False, steps=steps
        ),
        "truncated SVD": partial(ours, "low_rank"),
        "compress": partial(ours, "gblr"),
    }
