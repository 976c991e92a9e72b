"""`structmat solve`: a system with the matrix in a file, or with a kernel of points."""

import argparse
import cmath
import time
from typing import Any

import numpy as np
import scipy.sparse

import structmat
from structmat._input import read_matrix
from structmat._table import Table
from structmat.cli._common import Report, add_command, check_output, number
from structmat.cli._points import add_kernel, has_kernel, kernel_matrix
from structmat.errors import InputError
from structmat.files.write import whole_file
from structmat.matrix import StructuredMatrix
from structmat.solvers import Factorization, Solution

_EXAMPLES = """\
  structmat compress A.npy --to low_rank --tol 1e-6 -o OUT.npz
  structmat solve OUT.npz --shift 0.01 B.npy -o X.npy
      solves (A + 0.01 I) X = B with the compressed matrix
  structmat solve A.mtx B.npy -o X.npy --tol 1e-12
      takes a sparse matrix, and refuses a backward error above 1e-11
  structmat solve points.npy --kernel matern32 --length 0.1 --shift 0.01 B.npy -o X.npy
      takes the kernel of the points, which is never formed

B holds a vector (n,) or columns (n, k). A singular matrix, or an error above ten
times the tolerance, ends with status 1 and writes nothing.
"""


def add_solve(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "solve a system with the matrix in a file"
    solve = add_command(commands, "solve", common, what, _EXAMPLES)
    solve.add_argument(
        "file", help=".npy, .npz, Matrix Market, or a file of structmat; with --kernel, of points"
    )
    solve.add_argument("right", metavar="B", help="right-hand sides (n,) or (n, k), as .npy")
    solve.add_argument(
        "--shift", type=_shift, default=0.0, help="multiple of the identity to add (default: 0)"
    )
    solve.add_argument(
        "--tol",
        type=_tolerance,
        help="bound on the backward error (default: 1e-8, or 1e-5 in single precision)",
    )
    add_kernel(solve)
    solve.add_argument("-o", "--output", required=True, help="file to write, .npy")
    solve.set_defaults(run=_solve)


def _shift(text: str) -> complex:
    try:
        value = complex(text)
    except ValueError:
        value = complex("nan")
    if not cmath.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number, such as 0.01 or 1+2j")
    return value if value.imag else value.real


def _tolerance(text: str) -> float:
    return number(text, "a backward error above 0 and below 1, such as 1e-8", lambda x: 0 < x < 1)


def _solve(options: argparse.Namespace) -> Report:
    for path in (options.file, options.right):
        check_output(options.output, path)
    A = read_matrix(options.file, options.key)
    if has_kernel(options):
        A = kernel_matrix(A, options)
    B = _right_hand_sides(options.right)
    begin = time.perf_counter()
    F = structmat.factorize(A, shift=options.shift, tol=options.tol)
    between = time.perf_counter()
    found = F.solution(B)
    seconds = {"factorize": between - begin, "solve": time.perf_counter() - between}
    with whole_file(options.output) as beside, open(beside, "wb") as file:
        np.save(file, found.x, allow_pickle=False)
    return _report(F, found, seconds, options)


def _right_hand_sides(path: str) -> np.ndarray:
    B = read_matrix(path)
    if scipy.sparse.issparse(B) or isinstance(B, StructuredMatrix):
        B = B.toarray()
    if not isinstance(B, np.ndarray) or B.ndim not in (1, 2):
        raise InputError(
            f"{path!r} holds an array of shape {np.shape(B)}; expected right-hand sides (n,) or "
            "(n, k)"
        )
    return B


def _report(
    F: Factorization, found: Solution, seconds: dict[str, float], options: argparse.Namespace
) -> Report:
    rank = "" if F.rank is None else f", rank {F.rank}"
    head = ("method", "factorize", "solve", "steps", "residual", "backward error")
    row = (
        f"{found.method}{rank}",
        *(f"{value:.2g} s" for value in seconds.values()),
        str(found.iterations),
        f"{found.residual:.1e}",
        f"{found.backward_error:.1e}",
    )
    written = f"{'x'.join(map(str, found.x.shape))} {found.x.dtype} written to {options.output}"
    figures = {
        "method": found.method,
        "rank": F.rank,
        "seconds": seconds,
        "steps": found.iterations,
        "residual": found.residual,
        "backward_error": found.backward_error,
        "tol": F.tol,
        "shape": list(found.x.shape),
        "dtype": str(found.x.dtype),
        "output": options.output,
    }
    return Report(Table(head, [row], [written]).text(), figures)
