"""Compression of sources on the workers of a Dask cluster, by the fits of one machine."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat._progress import Progress
from structmat.compress.arguments import Workers
from structmat.compress.contained import Bound
from structmat.compress.entries.run import Compression
from structmat.compress.estimate import Estimate
from structmat.compress.goal import Goal
from structmat.compress.hermitian import hermitian_fit
from structmat.compress.results import CompressionResult
from structmat.distributed.facts import facts_of, facts_of_result
from structmat.distributed.folder import Folder
from structmat.distributed.rectangles import HierarchicalFit
from structmat.distributed.tiles import TilesFit
from structmat.errors import InputError
from structmat.sources.source import Source
from structmat.sources.views import on_host


def compress_source(
    source: Source,
    kind: str,
    bound: Bound,
    workers: Workers,
    rng: np.random.Generator,
    report: Progress,
    *,
    exact: bool,
    hermitian: bool,
) -> CompressionResult:
    """A distributed matrix near a source; see `structmat.compress`."""
    if kind not in FITS:
        raise InputError(
            f"kind {kind!r} with client; expected one of {', '.join(FITS)}, which workers build "
            "(or client left out)"
        )
    folder = None if workers.folder is None else Folder(workers.folder)
    if folder is not None:
        facts = {"kind": kind, "tol": bound.tol, "cap": bound.cap, "symmetric": hermitian}
        folder.begin({**facts, "exact": exact, **facts_of(source)}, rng, workers.client)
    fit = FITS[kind](source, workers.client, folder, hermitian=hermitian)
    run = Compression(source, kind, hermitian_fit(kind, fit) if hermitian else fit, local=False)
    if folder is not None and (known := folder.result) is not None:
        ordered = fit.matrix(run.source, Goal(**known["goal"]), known["seed"], report)
        matrix = _of_source(run.in_place(ordered), source)
        estimate = Estimate(**known["estimate"])
        return CompressionResult(
            matrix, kind, estimate.error, matrix.cost, matrix.storage, math.nan, 0.0, estimate,
            entries=run.entries, ordered=run.ordered,
        )  # fmt: skip
    result = run.result(bound, rng, report, exact=exact)
    if result is None:
        raise InputError(f"no {kind!r} matrix of {source!r}; expected a larger tolerance")
    if folder is not None:
        matrix = result.matrix
        orders = matrix.row_order, matrix.col_order
        folder.finish(facts_of_result(result, *fit.last), folder.store(*fit.last), orders)
    _of_source(result.matrix, source)
    return result


def _of_source(matrix: Any, source: Source) -> Any:
    """The matrix, with the source that it stands for, whose points help solves."""
    matrix.source = on_host(source)
    return matrix


#: Fits by kinds.
FITS: dict[str, Callable[..., Any]] = {"hierarchical": HierarchicalFit, "block_low_rank": TilesFit}
