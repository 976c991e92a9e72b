"""`structmat compress`, `info` and `plot`: files of structured matrices."""

import argparse
import math
import os
import warnings
from typing import Any

import structmat
from structmat._input import read_matrix
from structmat.cli._common import Report, add_command, check_output, draw, share, tolerance
from structmat.cli._points import add_kernel, announced, has_kernel, kernel_matrix
from structmat.io import read, write
from structmat.kinds import compressible_kinds
from structmat.matrices.hierarchical import Hierarchical
from structmat.matrices.lazy import split_orders
from structmat.matrix import StructuredMatrix

NO_PICTURES = "matplotlib is not installed; install it with pip install 'structmat[plot]'"

_COMPRESS = """\
  structmat compress A.npy --budget 0.2 -o small.npz
      keeps to a fifth of the dense cost, with blocks where they serve the error most
  structmat compress A.mtx --to block_low_rank --tol 1e-3 -o small.npz --picture small.png
      meets a relative error, and draws the blocks
  structmat compress A.npy --to low_rank --tol 1e-6 --symmetric -o half.npz
      stores half of a matrix that equals its adjoint
  structmat compress points.npy --kernel matern32 --length 0.1 --tol 1e-4 -o operator.npz
      takes the kernel of points, a row each, which is never formed

structmat.load reads the file, and so do info, plot, report and solve.
"""
_INFO = """\
  structmat info small.npz
      prints kind, shape, cost and storage, and the error that structmat compress measured
  structmat info small.npz --json
      prints the same for programs
"""
_PLOT = """\
  structmat plot small.npz -o small.png
      draws where blocks lie, and how many cover each entry
  structmat plot small.npz -o small.pdf
      does the same as a PDF: the ending names the format
"""


def add_compress(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "compress a matrix to one structure, and write it to a file"
    compress = add_command(commands, "compress", common, what, _COMPRESS)
    compress.add_argument(
        "file", help=".npy, .npz, Matrix Market, or a file of structmat; with --kernel, of points"
    )
    compress.add_argument(
        "--to",
        choices=compressible_kinds(),
        help="structure (default: gblr, and hierarchical with --kernel)",
    )
    add_kernel(compress)
    goal = compress.add_mutually_exclusive_group(required=True)
    goal.add_argument("--budget", type=share, help="cap on the cost, as a share of m n")
    goal.add_argument("--tol", type=tolerance, help="bound on the relative Frobenius error")
    compress.add_argument(
        "--symmetric",
        action="store_true",
        help="store half of a matrix that equals its adjoint; others are refused",
    )
    compress.add_argument("-o", "--output", required=True, help="file to write")
    compress.add_argument("--picture", help="picture of the blocks to write as well")
    compress.set_defaults(run=_compress)


def add_info(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    info = add_command(commands, "info", common, "describe a saved matrix", _INFO)
    info.add_argument("file", help="file that structmat wrote")
    info.set_defaults(run=_info)


def add_plot(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    plot = add_command(commands, "plot", common, "draw the blocks of a saved matrix", _PLOT)
    plot.add_argument("file", help="file that structmat wrote")
    plot.add_argument("-o", "--output", required=True, help="picture to write")
    plot.set_defaults(run=_plot)


def _compress(options: argparse.Namespace) -> Report:
    for path in filter(None, (options.output, options.picture)):
        check_output(path, options.file)
    A = read_matrix(options.file, options.key)
    goal = {"budget": options.budget, "tol": options.tol, "rng": options.seed}
    goal |= {"symmetric": True} if options.symmetric else {}
    kind = options.to or ("gblr" if options.kernel is None else "hierarchical")
    foretold: dict[str, Any] = {}
    if has_kernel(options):
        A = kernel_matrix(A, options)
        foretold = announced(A, kind, goal)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        result = structmat.compress(A, kind, **goal)
    notes = {"error": result.error, "estimate": str(result.estimate)}
    write(options.output, result.matrix, notes)
    text = f"{result}\n{result.matrix!r} written to {options.output}"
    if result.cost > math.prod(result.matrix.shape):
        text += "\nthis costs more than the dense matrix: nothing is gained"
    text += "".join(f"\n{warning.message}" for warning in told)
    if options.picture and draw(result.matrix, options.picture) is None:
        raise structmat.MissingDependencyError(NO_PICTURES)
    figures = {k: v for k, v in vars(result).items() if k not in ("matrix", "estimate")}
    figures |= {"estimate": vars(result.estimate), **foretold, **_facts(result.matrix)}
    if math.isnan(result.baseline_error):
        figures["baseline_error"] = None
    return Report(text, {**figures, "output": options.output})


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


def _structure(A: StructuredMatrix) -> dict[str, Any]:
    """Facts of a matrix inside orders, and of the blocks of a hierarchical one."""
    inner = split_orders(A)[1]
    facts: dict[str, Any] = {} if inner is A else {"in_orders": inner.kind}
    if isinstance(inner, Hierarchical):
        ranks = inner.blocks[:, 4]
        facts |= {
            "blocks": len(ranks),
            "dense_blocks": int((ranks < 0).sum()),
            "largest_rank": int(ranks.max(initial=0)),
            "symmetric": inner.symmetric,
        }
    return facts


def _info(options: argparse.Namespace) -> Report:
    A, notes = read(options.file)
    figures = {**_facts(A), **_structure(A), **notes, "bytes": os.path.getsize(options.file)}
    return Report("\n".join(f"{name:<18}{value}" for name, value in figures.items()), figures)


def _plot(options: argparse.Namespace) -> Report:
    check_output(options.output, options.file)
    A = structmat.load(options.file)
    if draw(A, options.output) is None:
        raise structmat.MissingDependencyError(NO_PICTURES)
    return Report(f"{A!r} drawn in {options.output}", {**_facts(A), "output": options.output})
