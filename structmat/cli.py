"""The command line: words to library calls to a table.

``structmat compare`` shows all structures on one matrix, ``compress`` writes one,
``info`` and ``plot`` show what a file holds.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import cg

import structmat
from structmat._input import read_matrix
from structmat.compress import DENSE_ENTRIES, KINDS
from structmat.demo import earthquake_kernel
from structmat.errors import InputError, SaveError, StructmatError
from structmat.matrix import StructuredMatrix

__all__ = ["main"]

# Up to this many unknowns the dense system is solved as well, for comparison.
_DENSE_SOLVE = 2048
_TINY = float(np.finfo(np.float64).tiny)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        0, or 1 after an error, whose message stands on standard error (2 for words
        that cannot be understood, as argparse has it).

    Examples
    --------
    >>> from structmat.cli import main
    >>> main(["info", "no-such-file.npz"])
    1
    """
    options = _parser().parse_args(arguments)
    try:
        report = options.run(options)
    except (StructmatError, OSError) as error:
        print(f"structmat: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("structmat: interrupted", file=sys.stderr)
        return 130
    print(json.dumps(report.figures, indent=2) if options.json else report.text)
    return 0


@dataclass(frozen=True)
class _Report:
    """What a command says to people, and the same figures for machines."""

    text: str
    figures: dict[str, Any]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="structmat", description=structmat.__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"structmat {structmat.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print figures for machines")
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("--key", help="which array of an .npz file")
    source.add_argument("--seed", type=_seed, default=0, help="seed of random choices (default: 0)")

    compare = commands.add_parser(
        "compare", parents=[common, source], help="all structures at equal cost, side by side"
    )
    compare.add_argument(
        "file",
        nargs="?",
        help=".npy, .npz or .mtx (default: a kernel matrix that ships with structmat)",
    )
    compare.add_argument(
        "--budget",
        type=_budget,
        default=0.2,
        help="cap on the cost, as a share of m n (default: 0.2)",
    )
    compare.add_argument(
        "-o",
        "--output",
        default="structmat_compare.png",
        help="picture of the GBLR's blocks (default: %(default)s)",
    )
    compare.set_defaults(run=_compare)

    compress = commands.add_parser("compress", parents=[common, source], help="write one structure")
    compress.add_argument("file", help=".npy, .npz or .mtx")
    compress.add_argument(
        "--to", choices=tuple(KINDS), default="gblr", help="structure (default: gblr)"
    )
    goal = compress.add_mutually_exclusive_group(required=True)
    goal.add_argument("--budget", type=_budget, help="cap on the cost, as a share of m n")
    goal.add_argument("--tol", type=_tolerance, help="bound on the relative Frobenius error")
    compress.add_argument("-o", "--output", required=True, help="file to write")
    compress.set_defaults(run=_compress)

    info = commands.add_parser("info", parents=[common], help="what a saved matrix is")
    info.add_argument("file", help="file that structmat wrote")
    info.set_defaults(run=_info)

    plot = commands.add_parser("plot", parents=[common], help="draw the blocks of a saved matrix")
    plot.add_argument("file", help="file that structmat wrote")
    plot.add_argument("-o", "--output", required=True, help="picture to write")
    plot.set_defaults(run=_plot)
    return parser


def _number(text: str, what: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected {what}")
    return value


def _budget(text: str) -> float:
    return _number(text, "a share of the dense cost, above 0 and up to 1", lambda x: 0 < x <= 1)


def _tolerance(text: str) -> float:
    return _number(
        text, "a relative error of at least 0, such as 1e-3", lambda x: 0 <= x < math.inf
    )


def _seed(text: str) -> int:
    return int(_number(text, "a whole number of at least 0", lambda x: x >= 0 and x.is_integer()))


@contextmanager
def _progress(label: str) -> Any:
    """A progress bar on a terminal, nothing in a pipe or without tqdm."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield None
        return
    with tqdm(
        total=100, desc=label, leave=False, bar_format="{desc} {bar} {percentage:3.0f} %"
    ) as bar:

        def advance(share: float) -> None:
            if (reached := round(100 * share)) != bar.n:
                bar.n = reached
                bar.refresh()

        yield advance


def _compare(options: argparse.Namespace) -> _Report:
    _check_folder(options.output)
    A: Any = read_matrix(options.file, options.key) if options.file else earthquake_kernel()
    if scipy.sparse.issparse(A):
        if math.prod(A.shape) > DENSE_ENTRIES:
            raise InputError(
                f"a sparse matrix of shape {A.shape} is too large to be made dense; compare takes "
                f"up to {DENSE_ENTRIES} entries (structmat compress takes it as it is)"
            )
        A = A.toarray()
    name = options.file or "kernel matrix of 768 earthquakes (USGS), exp(-r / 200 km)"
    with _progress("compressing") as progress:
        rows = structmat.compare(A, budget=options.budget, rng=options.seed, progress=progress)
    A = np.asarray(A)
    table = [_row(row, A) for row in rows]
    B, error = next((r.matrix, r.error) for r in rows if isinstance(r.matrix, structmat.GBLR))
    solved = _solve(A, B, error)
    picture = _draw(B, options.output)
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
    return _Report("\n".join(text), figures)


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
    # As much as the approximation leaves in doubt, or enough for a good condition.
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


def _check_folder(path: str) -> None:
    """Refuse an unwritable place before the long work, not after it."""
    folder = Path(path).resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SaveError(
            f"cannot write {path!r}; choose a folder that exists and that you may write to"
        )


def _draw(B: StructuredMatrix, path: str) -> str | None:
    """Draw to a file without a display; None where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    structmat.plot.structure(B, figure.subplots())
    try:
        figure.savefig(path, dpi=150, format=Path(path).suffix.lstrip(".") or "png")
    except (OSError, ValueError) as error:
        raise SaveError(
            f"cannot write the picture {path!r} ({error}); choose a folder that you may write to "
            "and an ending such as .png, .svg or .pdf"
        ) from error
    return path


def _compress(options: argparse.Namespace) -> _Report:
    _check_folder(options.output)
    A = read_matrix(options.file, options.key)
    with _progress(f"to {options.to}") as progress:
        result = structmat.compress(
            A,
            options.to,
            budget=options.budget,
            tol=options.tol,
            rng=options.seed,
            progress=progress,
        )
    structmat.save(options.output, result.matrix)
    figures = {k: v for k, v in vars(result).items() if k != "matrix"}
    text = (
        f"{result.matrix!r}\nerror {result.error:.3g} (truncated SVD at that "
        f"{'budget' if options.budget else 'cost'}: {result.baseline_error:.3g}), "
        f"{result.seconds:.2f} s, written to {options.output}"
    )
    if result.cost > math.prod(result.matrix.shape):
        text += "\nthis costs more than the dense matrix: nothing is gained"
    return _Report(text, {**figures, **_facts(result.matrix), "output": options.output})


def _facts(A: StructuredMatrix) -> dict[str, Any]:
    return {
        "kind": A.kind,
        "shape": list(A.shape),
        "dtype": str(A.dtype),
        "cost": A.cost,
        "storage": A.storage,
        "relative_cost": A.relative_cost,
        "relative_storage": A.relative_storage,
    }


def _info(options: argparse.Namespace) -> _Report:
    A = structmat.load(options.file)
    figures = {**_facts(A), "bytes": os.path.getsize(options.file)}
    return _Report("\n".join(f"{name:<18}{value}" for name, value in figures.items()), figures)


def _plot(options: argparse.Namespace) -> _Report:
    A = structmat.load(options.file)
    if _draw(A, options.output) is None:
        raise structmat.MissingDependencyError(
            "matplotlib is not installed; install it with pip install 'structmat[plot]'"
        )
    return _Report(f"{A!r} drawn in {options.output}", {**_facts(A), "output": options.output})
