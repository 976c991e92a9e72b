"""`structmat compress`, `info` and `plot`: files of structured matrices."""

import argparse
import math
import os
from typing import Any

import structmat
from structmat._input import read_matrix
from structmat.cli._common import Report, check_output, draw, share, tolerance
from structmat.kinds import fitted_kinds
from structmat.matrix import StructuredMatrix


def add_compress(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    compress = commands.add_parser("compress", parents=common, help="write one structure")
    compress.add_argument("file", help=".npy, .npz, Matrix Market, or a file of structmat")
    compress.add_argument(
        "--to", choices=fitted_kinds(), default="gblr", help="structure (default: gblr)"
    )
    goal = compress.add_mutually_exclusive_group(required=True)
    goal.add_argument("--budget", type=share, help="cap on the cost, as a share of m n")
    goal.add_argument("--tol", type=tolerance, help="bound on the relative Frobenius error")
    compress.add_argument("-o", "--output", required=True, help="file to write")
    compress.set_defaults(run=_compress)


def add_info(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    info = commands.add_parser("info", parents=common, help="describe a saved matrix")
    info.add_argument("file", help="file that structmat wrote")
    info.set_defaults(run=_info)


def add_plot(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    plot = commands.add_parser("plot", parents=common, help="draw the blocks of a saved matrix")
    plot.add_argument("file", help="file that structmat wrote")
    plot.add_argument("-o", "--output", required=True, help="picture to write")
    plot.set_defaults(run=_plot)


def _compress(options: argparse.Namespace) -> Report:
    check_output(options.output, options.file)
    A = read_matrix(options.file, options.key)
    result = structmat.compress(
        A, options.to, budget=options.budget, tol=options.tol, rng=options.seed
    )
    structmat.save(options.output, result.matrix)
    figures = {k: v for k, v in vars(result).items() if k != "matrix"}
    figures["estimate"] = vars(result.estimate)
    if math.isnan(result.baseline_error):
        figures["baseline_error"] = None
    text = f"{result}\n{result.matrix!r} written to {options.output}"
    if result.cost > math.prod(result.matrix.shape):
        text += "\nthis costs more than the dense matrix: nothing is gained"
    return Report(text, {**figures, **_facts(result.matrix), "output": options.output})


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


def _info(options: argparse.Namespace) -> Report:
    A = structmat.load(options.file)
    figures = {**_facts(A), "bytes": os.path.getsize(options.file)}
    return Report("\n".join(f"{name:<18}{value}" for name, value in figures.items()), figures)


def _plot(options: argparse.Namespace) -> Report:
    check_output(options.output, options.file)
    A = structmat.load(options.file)
    if draw(A, options.output) is None:
        raise structmat.MissingDependencyError(
            "matplotlib is not installed; install it with pip install 'structmat[plot]'"
        )
    return Report(f"{A!r} drawn in {options.output}", {**_facts(A), "output": options.output})
