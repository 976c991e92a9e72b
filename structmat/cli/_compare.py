"""`structmat compare`: all structures on one matrix, side by side."""

import argparse
import math
import time
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import cg

import structmat
from structmat._input import read_matrix
from structmat.cli._common import Report, check_folder, draw, progress, share
from structmat.compress import DENSE_ENTRIES
from structmat.demo import earthquake_kernel
from structmat.errors import InputError
from structmat.matrix import StructuredMatrix

# Unknowns up to which the dense system is solved as well, for comparison.
_DENSE_SOLVE = 2048
# Smallest norm to divide by.
_TINY = float(np.finfo(np.float64).tiny)


def add_compare(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    compare = commands.add_parser(
        "compare", parents=common, help="all structures at equal cost, side by side"
    )
    compare.add_argument(
        "file",
        nargs="?",
        help=".npy, .npz or .mtx (default: a kernel matrix that ships with structmat)",
    )
    compare.add_argument(
        "--budget",
        type=share,
        default=0.2,
        help="cap on the cost, as a share of m n (default: %(default)s)",
    )
    compare.add_argument(
        "-o",
        "--output",
        default="structmat_compare.png",
        help="picture of the GBLR's blocks (default: %(default)s)",
    )
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> Report:
    check_folder(options.output)
    A: Any = read_matrix(options.file, options.key) if options.file else earthquake_kernel()
    if scipy.sparse.issparse(A):
        if math.prod(A.shape) > DENSE_ENTRIES:
            raise InputError(
                f"a sparse matrix of shape {A.shape} is too large to be made dense; compare takes "
                f"up to {DENSE_ENTRIES} entries (structmat compress takes it as it is)"
            )
        A = A.toarray()
    name = options.file or "kernel matrix of 768 earthquakes (USGS), exp(-r / 200 km)"
    with progress("compressing") as report:
        rows = structmat.compare(A, budget=options.budget, rng=options.seed, progress=report)
    A = np.asarray(A)
    table = [_row(row, A) for row in rows]
    B, error = next((r.matrix, r.error) for r in rows if r.kind == "gblr" and r.matrix is not None)
    solved = _solve(A, B, error)
    picture = draw(B, options.output)
    m, n = A.shape
    text = [
        f"{name}: {m}x{n}, {A.dtype}; each structure at most {options.budget:g} of the dense cost",
        "",
        _table(table),
        "",
        f"GBLR blocks drawn in {picture}"
        if picture
        else "no picture: matplotlib is not installed (pip install 'structmat[plot]')",
        _told(solved),
    ]
    figures = {
        "matrix": name,
        "shape": [m, n],
        "budget": options.budget,
        "rows": table,
        "picture": picture,
        "solve": solved,
    }
    return Report("\n".join(text), figures)


def _row(row: Any, A: np.ndarray) -> dict[str, Any]:
    figures = {
        "kind": row.kind,
        "cost": row.cost / max(A.size, 1),
        "storage": row.storage / max(A.size, 1),
        "error": row.error,
        "seconds": row.seconds,
        "speedup": None,
    }
    if row.matrix is None:
        return {**figures, "error": None, "note": row.note}
    return {**figures, "speedup": _speedup(A, row.matrix)}


def _speedup(A: np.ndarray, B: StructuredMatrix) -> float:
    """Time of a dense matvec over that of the structured one; medians, taken in turn."""
    dense = A if np.issubdtype(A.dtype, np.inexact) else A.astype(np.float64)
    x = np.ones(A.shape[1], dtype=dense.dtype)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(31):
        for product, found in ((dense.__matmul__, times[0]), (B.matvec, times[1])):
            start = time.perf_counter()
            product(x)
            found.append(time.perf_counter() - start)
    return float(np.median(times[0]) / np.median(times[1]))


def _table(rows: list[dict[str, Any]]) -> str:
    head = f"{'kind':<15}{'cost':>8}{'storage':>9}{'error':>11}{'seconds':>9}{'speed':>8}"
    lines = [head, "-" * len(head)]
    for row in rows:
        if row["error"] is None:
            lines.append(f"{row['kind']:<15}{'none: ' + row['note']}")
            continue
        lines.append(
            f"{row['kind']:<15}{row['cost']:>8.4f}{row['storage']:>9.4f}{row['error']:>11.3g}"
            f"{row['seconds']:>9.2f}{row['speedup']:>7.2f}x"
        )
    lines.append("cost and storage: shares of m n; speed: dense matvec time over its own")
    if all(row["speedup"] is None or row["speedup"] < 1 for row in rows[1:]):
        lines.append(
            "at this size a dense matvec is quick all the same: fewer multiplications pay from "
            "some thousand rows on, and with many columns"
        )
    return "\n".join(lines)


def _solve(A: np.ndarray, B: StructuredMatrix, error: float) -> dict[str, Any] | None:
    """Tikhonov-regularised least squares through B, against the same through A."""
    n, size = A.shape[1], float(np.linalg.norm(A))
    # The size of the approximation's error, or enough for a good condition number.
    damping = max(1e-4, 10 * error**2) * size**2
    if damping == 0:
        return None
    normal = B.H @ B + damping * structmat.Permutation(np.arange(n))
    b = np.sin(np.arange(A.shape[0]))
    steps: list[int] = []
    start = time.perf_counter()
    x, status = cg(normal, B.rmatvec(b), rtol=1e-8, callback=lambda _: steps.append(1))
    seconds = time.perf_counter() - start
    difference = None
    if n <= _DENSE_SOLVE:
        exact = np.linalg.solve(A.conj().T @ A + damping * np.eye(n), A.conj().T @ b)
        difference = float(np.linalg.norm(x - exact)) / max(float(np.linalg.norm(exact)), _TINY)
    return {
        "iterations": len(steps),
        "converged": status == 0,
        "seconds": seconds,
        "lambda": damping,
        "matrix_error": error,
        "relative_difference": difference,
    }


def _told(solved: dict[str, Any] | None) -> str:
    if solved is None:
        return "no system solved: the matrix is zero or empty"
    told = (
        "regularised least squares, (B^H B + λ I) x = B^H b, by scipy.sparse.linalg.cg through the "
        f"GBLR operator:\n{solved['iterations']} iterations, {solved['seconds']:.3g} s, λ = "
        f"{solved['lambda']:.3g}"
    )
    difference = solved["relative_difference"]
    if difference is None:
        return told
    return (
        f"{told}, off the dense solution by {difference:.2g} "
        f"(the matrix itself is off by {solved['matrix_error']:.2g})"
    )
