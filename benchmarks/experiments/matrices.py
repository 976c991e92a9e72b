"""Errors against cost of every kind on real kernel, inverse and sparse matrices."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import structmat
from benchmarks.experiments import config as config_file
from benchmarks.experiments.config import Report
from benchmarks.micro import data
from benchmarks.micro.inputs import MatrixCase
from benchmarks.results import BenchmarkError, Row, Skip, short
from structmat.errors import BudgetError

#: Structures of the paper, and BLAST; matrices of this size are too small for hierarchical ones.
KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr", "blast")
#: Numbers of blocks a side to try for BLAST; the other kinds search their parameters too.
BLAST_BLOCKS = (4, 8, 16)


@dataclass(frozen=True)
class Approximation:
    """Approximation: dense form, cost, storage, and seconds to find it."""

    dense: NDArray
    cost: int
    storage: int
    seconds: float
    #: Relative error of truncated SVD under the same cap, for GBLR.
    svd_error: float | None = None
    settings: Row | None = None


def run(config: dict[str, Any], data_dir: Path, done: list[Row], report: Report) -> Iterator[Row]:
    """Compress every matrix to every kind at every budget, and yield a row for each.

    Parameters
    ----------
    config : dict
        "matrices" (their names), "kinds", "budgets" (shares of the dense multiplications),
        "size" (the matrices are cut to it) and "seeds" (of samples and searches).
    data_dir : Path
        The folder with the files, or the one above it.
    done : list of dict
        Rows of an earlier run, which are not made again.
    report : callable
        ``report(what, done, total)`` before each row that is made.

    Yields
    ------
    dict
        A row as result files hold it: "score" is the relative Frobenius error, "scores" has
        the relative spectral one. A row where a check failed says so in "failures".

    Raises
    ------
    BenchmarkError
        If no file is there, or the config names an unknown matrix or kind.
    """
    cases = {case.name: case for case in data.cases(data.find(data_dir), config["size"])}
    _check_known("matrices", config["matrices"], list(cases))
    _check_known("kinds", config["kinds"], list(KINDS))
    finished = {_key(row) for row in done}
    total = math.prod(len(config[k]) for k in ("matrices", "seeds", "budgets", "kinds"))
    count = 0
    for name, seed in product(config["matrices"], config["seeds"]):
        jobs = []
        for budget, kind in product(config["budgets"], config["kinds"]):
            head = {"case": config_file.KINDS[kind], "kind": kind}
            head |= {"group": "kinds", "matrix": name, "budget": budget, "seed": seed}
            jobs += [head] if _key(head) not in finished else []
        count += len(config["budgets"]) * len(config["kinds"]) - len(jobs)
        A: NDArray | Skip | None = None
        for head in jobs:
            report(f"{name}, {head['case']} at {head['budget']:g}", count, total)
            A = _made(cases[name], seed) if A is None else A
            yield head | _measured(A, head)
            count += 1


def _key(row: Row) -> tuple[Any, ...]:
    return row["matrix"], row["kind"], row["budget"], row["seed"]


def _check_known(key: str, given: list[str], known: list[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise BenchmarkError(
            f"{key} = {unknown[0]!r} in the config; expected one of {', '.join(known)}"
        )


def _made(case: MatrixCase, seed: int) -> NDArray | Skip:
    """Draw the matrix, or give the reason why there is none, for all of its rows."""
    try:
        return case.make(np.random.default_rng(seed))
    except Skip as reason:
        return reason


def _measured(A: NDArray | Skip, head: Row) -> Row:
    """Figures of one row, or the reason why it is left out."""
    if isinstance(A, Skip):
        return {"skipped": str(A)}
    fit = _blast if head["kind"] == "blast" else _compressed
    try:
        found = fit(A, head["kind"], head["budget"], head["seed"])
    except (Skip, BudgetError) as reason:
        return {"n": A.shape[0], "skipped": str(reason)}
    E = A - found.dense
    error = float(np.linalg.norm(E) / np.linalg.norm(A))
    row: Row = {
        "n": A.shape[0],
        "score": short(error),
        "scores": {"spectral": short(float(np.linalg.norm(E, 2) / np.linalg.norm(A, 2)))},
        "relative_cost": short(found.cost / A.size),
        "relative_storage": short(found.storage / A.size),
        "seconds": short(found.seconds),
    }
    if found.settings:
        row["settings"] = found.settings
    failures = list(_failures(A, head, found, error))
    return row | ({"failures": failures} if failures else {})


def _failures(A: NDArray, head: Row, found: Approximation, error: float) -> Iterator[str]:
    """Complaints: cost above the cap, or GBLR worse than truncated SVD."""
    cap = _cap(A, head["budget"])
    if found.cost > cap:
        yield f"cost {found.cost}, above the cap {cap}"
    # Rounding moves a relative error by about this much.
    rounding = sum(A.shape) * float(np.finfo(A.dtype).eps)
    svd_error = found.svd_error
    if head["kind"] == "gblr" and svd_error is not None and error > svd_error + rounding:
        yield f"error {error:.6g}, above that of truncated SVD, {svd_error:.6g}"


def _cap(A: NDArray, budget: float) -> int:
    return math.floor(budget * A.size)


def _compressed(A: NDArray, kind: str, budget: float, seed: int) -> Approximation:
    result = structmat.compress(A, kind, budget=budget, rng=seed)
    B = result.matrix
    dense = np.asarray(B.to_dense())
    return Approximation(dense, B.cost, B.storage, result.seconds, result.baseline_error)


def _blast(A: NDArray, _kind: str, budget: float, seed: int) -> Approximation:
    """Best of some numbers of blocks, each with the largest rank that the cap allows."""
    if np.iscomplexobj(A):
        raise Skip("BLAST is fitted to real matrices only")
    if find_spec("torch") is None:
        raise Skip("torch is not installed; install it with pip install 'structmat[learn]'")
    cap, (m, n) = _cap(A, budget), A.shape
    ranks = {b: cap // (m + n + b**2) for b in BLAST_BLOCKS if m % b == n % b == 0}
    fits = [_blast_of(A, blocks, rank, seed) for blocks, rank in ranks.items() if rank]
    if not fits:
        raise Skip(
            f"no BLAST matrix of {m}×{n} in {', '.join(map(str, BLAST_BLOCKS))} blocks a side is "
            "so cheap"
        )
    best = min(fits, key=lambda found: float(np.linalg.norm(found.dense - A)))
    return replace(best, seconds=sum(found.seconds for found in fits))


def _blast_of(A: NDArray, blocks: int, rank: int, seed: int) -> Approximation:
    """One fit, in single precision: double gave the same errors to four digits."""
    import torch

    from benchmarks.models.blast import BlastLinear

    generator = torch.Generator().manual_seed(seed)
    begin = time.perf_counter()
    layer = BlastLinear.from_weight(
        torch.as_tensor(A, dtype=torch.float32), blocks=blocks, rank=rank, generator=generator
    )
    seconds = time.perf_counter() - begin
    dense = layer.dense().detach().double().numpy()
    storage = sum(p.numel() for p in layer.parameters())
    settings = {"blocks": blocks, "rank": rank}
    return Approximation(dense, layer.cost, storage, seconds, settings=settings)
