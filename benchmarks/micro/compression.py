"""Suite "compression": error, cost, time and memory against truncated SVD and other packages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

import structmat
from benchmarks.micro import data, inputs, peers
from benchmarks.micro.inputs import MatrixCase
from benchmarks.micro.progress import Progress
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import peak_bytes
from benchmarks.results import Row, Skip, short
from structmat.errors import BudgetError
from structmat.kinds import fitted_kinds

#: Seconds of a fit below which it is repeated, for the median time.
FAST_SECONDS = 1.0
REPEAT_COUNT = 3


@dataclass(frozen=True)
class CompressionPlan:
    """Cases to run, and their time in minutes."""

    cases: Callable[[], list[MatrixCase]]
    minutes: float


FULL = CompressionPlan(lambda: [*inputs.table(), *inputs.timed(), *inputs.shipped()], minutes=3)
QUICK = CompressionPlan(inputs.quick, minutes=0.2)


def run(plan: CompressionPlan, seeds: Sequence[int], data_dir: Path | None = None) -> Suite:
    """Compress every matrix to every kind; check the results and note their errors."""
    suite = Suite("compression", seeds)
    cases = plan.cases()
    if data_dir is not None:
        cases += data.cases(data.find(data_dir))
    with Progress("compression", len(cases)) as progress:
        for case in cases:
            progress.step(case.name)
            try:
                matrices = [case.make(np.random.default_rng(seed)) for seed in seeds]
            except Skip as reason:
                suite.rows.append(
                    {"group": case.group, "matrix": case.name, "skipped": str(reason)}
                )
                continue
            for budget in case.budgets:
                _compress_all(suite, case, budget, matrices)
    return suite


@dataclass(frozen=True)
class Reference:
    """Matrix with the relative errors of its truncated SVDs."""

    A: NDArray
    cap: int
    tail: NDArray[np.float64]  # relative error of every rank

    @classmethod
    def of(cls, A: NDArray, budget: float) -> "Reference":
        """Decompose a matrix."""
        s = np.linalg.svd(A, compute_uv=False).astype(np.float64)
        tail = np.sqrt(np.append(np.cumsum((s**2)[::-1])[::-1], 0.0))
        return cls(A, math.floor(budget * A.size), tail / tail[0])

    @property
    def svd_error(self) -> float:
        """Relative error of the largest rank within the cap."""
        return float(self.tail[min(self.cap // sum(self.A.shape), len(self.tail) - 1)])

    def error(self, B: NDArray) -> float:
        """Relative error of a dense approximation."""
        return float(np.linalg.norm(self.A - B) / np.linalg.norm(self.A))


def _compress_all(suite: Suite, case: MatrixCase, budget: float, matrices: list[NDArray]) -> None:
    references = [Reference.of(A, budget) for A in matrices]
    head = {
        "group": case.group,
        "matrix": case.name,
        "shape": list(matrices[0].shape),
        "dtype": str(matrices[0].dtype),
        "budget": budget,
        "svd_error": short(median(r.svd_error for r in references)),
    }
    for kind in fitted_kinds():
        row = head | {"method": "structmat", "kind": kind}
        try:
            row |= _compressed(suite, case, budget, kind, references)
        except BudgetError as reason:
            row["skipped"] = str(reason)
        suite.rows.append(row)
    if case.peers:
        for method, fit in peers.METHODS.items():
            row = head | {"method": method}
            try:
                row |= _fitted(suite, method, fit, references)
            except Skip as reason:
                row["skipped"] = str(reason)
            suite.rows.append(row)


def _compressed(
    suite: Suite, case: MatrixCase, budget: float, kind: str, references: list[Reference]
) -> Row:
    """Compress with every seed; check cost, error, and GBLR against truncated SVD."""
    errors, costs, seconds = [], [], []
    for seed, reference in zip(suite.seeds, references, strict=True):
        call = partial(structmat.compress, reference.A, kind, budget=budget, rng=seed)
        result = call()
        error = reference.error(result.matrix.to_dense())
        label = f"{case.name}, {kind} at {budget:.4g}, seed {seed}"
        _check(suite, label, result, error, reference)
        errors.append(error)
        costs.append(result.cost / reference.A.size)
        times = [result.seconds]
        while times[0] < FAST_SECONDS and len(times) < REPEAT_COUNT:
            times.append(call().seconds)
        seconds.append(median(times))
    row: Row = {
        "error": short(median(errors)),
        "errors": [short(error) for error in errors],
        "cost": short(max(costs)),
        "seconds": short(median(seconds)),
    }
    if case.memory:
        row["memory"] = short(peak_bytes(call) / references[-1].A.nbytes)
    if kind == "gblr":
        row |= {"target": case.target, "limit": case.limit}
    return row


def _check(
    suite: Suite,
    label: str,
    result: structmat.CompressionResult,
    error: float,
    reference: Reference,
) -> None:
    suite.check(
        result.cost <= reference.cap and result.cost == result.matrix.cost,
        f"{label}: cost {result.cost}, cap {reference.cap}",
    )
    # Rounding moves a relative error by about this much.
    rounding = sum(reference.A.shape) * float(np.finfo(reference.A.dtype).eps)
    suite.check(
        abs(result.error - error) <= 1e-6 * error + rounding,
        f"{label}: reports error {result.error:.6g}, has {error:.6g}",
    )
    if result.kind == "gblr":
        suite.check(
            error <= (1 + 1e-9) * reference.svd_error + rounding,
            f"{label}: error {error:.6g}, truncated SVD {reference.svd_error:.6g}",
        )


def _fitted(suite: Suite, method: str, fit: peers.Fit, references: list[Reference]) -> Row:
    """Approximate the same matrices by another package under the same cap."""
    fits = [
        fit(reference.A, reference.cap, seed)
        for seed, reference in zip(suite.seeds, references, strict=True)
    ]
    errors = [r.error(f.dense) for r, f in zip(references, fits, strict=True)]
    costs = [f.cost / r.A.size for r, f in zip(references, fits, strict=True)]
    for reference, found in zip(references, fits, strict=True):
        suite.check(
            found.cost <= reference.cap, f"{method}: cost {found.cost} over {reference.cap}"
        )
    return {
        "error": short(median(errors)),
        "errors": [short(error) for error in errors],
        "cost": short(max(costs)),
        "seconds": short(median(f.seconds for f in fits)),
    }
