"""Products by other packages that are installed, each beside structmat's."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import structmat
from benchmarks.micro import gblr, structures
from benchmarks.micro.structures import Subject
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import interleaved
from benchmarks.results import Skip, short

#: Cost of every structure, in units of n^2.
RELATIVE_COST = 0.25
Theirs = Callable[[NDArray], NDArray]


def load(name: str, package: str) -> Any:
    """Import a module of an optional package without its warnings, or raise `Skip`."""
    try:
        # Recorded, because some of these packages switch ignored warnings on again.
        with warnings.catch_warnings(record=True):
            return importlib.import_module(name)
    except ImportError as reason:
        raise Skip(f"{package} is not installed ({reason})") from None
    except Exception as reason:
        raise Skip(f"{package} does not import here ({type(reason).__name__}: {reason})") from None


def run(suite: Suite, plan: Any, n: int, seed: int) -> None:
    """Time every peer beside structmat on one size, or note why one is left out."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, max(plan.columns)))
    for peer, what, make in _pairs():
        head = {"what": "peer", "peer": peer, "matrix": what, "n": n}
        try:
            subject, theirs = make(n, np.random.default_rng(seed))
        except Skip as reason:
            suite.rows.append(head | {"skipped": str(reason)})
            continue
        for columns in plan.columns:
            x = X[:, :columns] if columns > 1 else X[:, 0]
            calls = {
                "ours": lambda x=x, A=subject.matrix: A @ x,
                "theirs": lambda x=x, f=theirs: f(x),
            }
            expected = subject.reference(x)
            for name, call in calls.items():
                error = subject.product_error(call(), expected, x)
                limit = n * np.finfo(np.float64).eps
                suite.check(error <= limit, f"{what}, {peer}, {name}: error {error:.1e}")
            timing = interleaved(calls, seconds=8 * plan.seconds, least=plan.least)
            suite.rows.append(
                head
                | {
                    "kind": subject.matrix.kind,
                    "cost": short(subject.matrix.relative_cost),
                    "dtype": "float64",
                    "columns": columns,
                    "seconds": short(timing.seconds("ours")),
                    "over_peer": short(timing.ratio("ours", "theirs")),
                }
            )


def _pairs() -> Iterator[tuple[str, str, Callable[..., tuple[Subject, Theirs]]]]:
    yield "pylops", "low rank, two MatrixMult", _pylops_low_rank
    yield "pylops", "8 dense diagonal blocks, BlockDiag", _pylops_block_diagonal
    yield "lazylinop", "Monarch, two Kronecker-sparse factors", _lazylinop_monarch
    yield "pyfaust", "GBLR, a Faust of two sparse factors", _pyfaust_pair


def _pylops_low_rank(n: int, rng: np.random.Generator) -> tuple[Subject, Theirs]:
    pylops = load("pylops", "pylops")
    subject = structures.random_low_rank(n, RELATIVE_COST, rng)
    U, V = np.asarray(subject.matrix.U), np.asarray(subject.matrix.V)
    operator = pylops.MatrixMult(U) @ pylops.MatrixMult(V.T.copy())
    return subject, lambda x: operator @ x


def _pylops_block_diagonal(n: int, rng: np.random.Generator) -> tuple[Subject, Theirs]:
    pylops = load("pylops", "pylops")
    size = n // 8
    blocks = rng.standard_normal((8, size, size))
    dense = np.zeros((n, n))
    for i, block in enumerate(blocks):
        dense[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    matrix = structmat.BlockSparse(blocks, np.arange(8), np.arange(8), shape=(n, n))
    operator = pylops.BlockDiag([pylops.MatrixMult(block) for block in blocks])
    return structures.beside_dense(matrix, dense), lambda x: operator @ x


def _lazylinop_monarch(n: int, rng: np.random.Generator) -> tuple[Subject, Theirs]:
    butterfly = load("lazylinop.butterfly", "lazylinop")
    subject = structures.random_monarch(n, RELATIVE_COST, rng)
    # A factor of shape (a, b, c, d) stands for the pattern I_a x ones(b, c) x I_d.
    left = np.asarray(subject.matrix.L).transpose(1, 2, 0)[None]
    right = np.asarray(subject.matrix.R)[..., None]
    operator = butterfly.ksm([np.ascontiguousarray(left), np.ascontiguousarray(right)])
    return subject, lambda x: operator @ x


def _pyfaust_pair(n: int, rng: np.random.Generator) -> tuple[Subject, Theirs]:
    pyfaust = load("pyfaust", "pyfaust")
    from scipy.sparse import csr_matrix

    subject = gblr.random_gblr(n, RELATIVE_COST, rng)
    faust = pyfaust.Faust([csr_matrix(f) for f in gblr.factors(subject.matrix, np.float64)])
    return subject, lambda x: faust @ x
