"""`structmat compare`: all structures on one matrix, side by side."""

import argparse
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import cg

import structmat
from structmat._input import read_matrix
from structmat._table import Table
from structmat.cli._common import Report, add_command, check_output, draw, share, tolerance
from structmat.compress import DENSE_ENTRIES, Comparison
from structmat.compress.results import HEAD, UNITS, shown
from structmat.demo import earthquake_kernel
from structmat.errors import InputError
from structmat.matrix import StructuredMatrix

# Cap on the cost without an option.
_BUDGET = 0.2
# Unknowns up to which the dense system is solved as well, for comparison.
_DENSE_SOLVE = 2048
# Smallest norm to divide by.
_TINY = float(np.finfo(np.float64).tiny)

_EXAMPLES = """\
  structmat compare
      shows all structures on a kernel matrix of earthquakes, which ships with structmat
  structmat compare A.npy --budget 0.3 -o blocks.png
      compresses your matrix to 0.3 of the dense cost, and draws the blocks of the GBLR matrix
  structmat compare A.npy --tol 1e-3
      meets a relative error instead, each structure at the cost that it takes
"""


def add_compare(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "compress a matrix to all structures at equal cost, side by side"
    compare = add_command(commands, "compare", common, what, _EXAMPLES)
    compare.add_argument(
        "file",
        nargs="?",
        help=".npy, .npz, Matrix Market or a file of structmat (default: a kernel matrix that "
        "ships with structmat)",
    )
    goal = compare.add_mutually_exclusive_group()
    goal.add_argument(
        "--budget", type=share, help=f"cap on the cost, as a share of m n (default: {_BUDGET})"
    )
    goal.add_argument("--tol", type=tolerance, help="bound on the relative Frobenius error")
    compare.add_argument(
        "-o",
        "--output",
        default="structmat_compare.png",
        help="picture of the GBLR's blocks (default: %(default)s)",
    )
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> Report:
    check_output(options.output, options.file)
    A: Any = read_matrix(options.file, options.key) if options.file else earthquake_kernel()
    if scipy.sparse.issparse(A) or isinstance(A, StructuredMatrix):
        if math.prod(A.shape) > DENSE_ENTRIES:
            raise InputError(
                f"a sparse matrix of shape {A.shape} is too large to be made dense; compare takes "
                f"up to {DENSE_ENTRIES} entries (structmat compress takes it as it is)"
            )
        A = A.toarray()
    name = options.file or "kernel matrix of 768 earthquakes (USGS), exp(-r / 200 km)"
    budget = _BUDGET if options.budget is None and options.tol is None else options.budget
    rows = structmat.compare(A, budget=budget, tol=options.tol, rng=options.seed)
    A = np.asarray(A)
    speeds = [None if row.matrix is None else _speedup(A, row.matrix) for row in rows]
    table = [_figures(row, A, speed) for row, speed in zip(rows, speeds, strict=True)]
    m, n = A.shape
    goal = (
        f"at most {budget:g} of the dense cost"
        if budget is not None
        else f"within a relative error of {options.tol:g}"
    )
    text = [f"{name}: {m}x{n}, {A.dtype}; each structure {goal}", "", _table(rows, speeds), ""]
    solved, picture = None, None
    found = next((row for row in rows if row.kind == "gblr"), None)
    if found is None or found.matrix is None:
        text.append("no picture and no system solved: there is no GBLR matrix")
    else:
        solved = _solve(A, found.matrix, found.error)
        picture = draw(found.matrix, options.output)
        text.append(
            f"GBLR blocks drawn in {picture}"
            if picture
            else "no picture: matplotlib is not installed (pip install 'structmat[plot]')"
        )
        text.append(_told(solved))
    text += ["", *_seen(rows, budget)]
    figures = {
        "matrix": name,
        "shape": [m, n],
        "budget": budget,
        "tol": options.tol,
        "rows": table,
        "picture": picture,
        "solve": solved,
    }
    return Report("\n".join(text), figures)


def _seen(rows: Sequence[Comparison], budget: float | None) -> list[str]:
    """Name the structure that is nearest, or cheapest, in one sentence."""
    found = [row for row in rows if row.matrix is not None]
    if len(found) < 2:
        return []
    if budget is None:
        best, next_ = sorted(found, key=lambda row: row.cost)[:2]
        return [
            f"Seen: {best.kind} meets the tolerance at the fewest multiplications, "
            f"{_times(next_.cost, best.cost)} fewer than {next_.kind}."
        ]
    best, *others = sorted(found, key=lambda row: row.error)
    low_rank = [row for row in others[1:] if row.kind == "low_rank"]
    rivals = " and ".join(
        f"{_times(row.error, best.error)} below that of {row.kind}"
        for row in [others[0], *low_rank]
    )
    return [
        f"Seen: at {100 * budget:g} % of the multiplications {best.kind} has the smallest error, "
        f"{rivals}."
    ]


def _times(large: float, small: float) -> str:
    """The quotient of two numbers, in words."""
    if not small > 0:
        return "beyond measure"
    three = f"{large / small:.3g}"
    return f"{float(three):,.0f} times" if 1e3 <= float(three) < 1e6 else f"{three} times"


def _figures(row: Comparison, A: np.ndarray, speed: float | None) -> dict[str, Any]:
    figures = {
        "kind": row.kind,
        "cost": row.cost / max(A.size, 1),
        "storage": row.storage / max(A.size, 1),
        "error": row.error,
        "seconds": row.seconds,
        "speedup": speed,
    }
    return {**figures, "error": None, "note": row.note} if row.matrix is None else figures


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


def _table(rows: Sequence[Comparison], speeds: list[float | None]) -> str:
    lines = [
        shown(row) if speed is None else [*shown(row), f"{speed:.2f}x"]
        for row, speed in zip(rows, speeds, strict=True)
    ]
    notes = [f"{UNITS}; speed: dense matvec time over its own"]
    if all(speed is None or speed < 1 for speed in speeds[1:]):
        notes.append(
            "at this size a dense matvec is quick all the same: fewer multiplications pay from "
            "some thousand rows on, and with many columns"
        )
    return Table((*HEAD, "speed"), lines, notes).text()


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
