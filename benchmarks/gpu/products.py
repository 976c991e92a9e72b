"""Part "products": matrices on CuPy and on torch, against the dense product."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import structmat
from benchmarks.gpu.session import Session, agree, library, on_device, tolerance
from benchmarks.gpu.shapes import drawn
from benchmarks.micro.structures import Subject
from benchmarks.micro.timing import Clock, interleaved, wall_clock
from benchmarks.results import Row, short
from structmat.kernels import plan as planned

#: Columns of an operand that are compared with the reference.
CHECKED_COLUMNS = 2
#: Bytes that empty the caches of any GPU.
CACHE_BYTES = 2**28


@dataclass(frozen=True)
class ProductsPlan:
    """Structures, sizes and costs; dtypes and columns of the operands; seconds for each."""

    cases: Sequence[tuple[str, int, float]]
    dtypes: Sequence[str]
    columns: Sequence[int]
    seconds: float
    least: int


FULL = ProductsPlan(
    cases=(
        ("runs", 16384, 0.125),
        ("runs", 8192, 0.125),
        ("runs", 8192, 0.25),
        ("runs", 4096, 0.125),
        ("runs", 4096, 0.25),
        ("runs", 1024, 0.25),
        ("runs", 512, 0.25),
        ("tiles", 8192, 0.25),
        ("strips", 8192, 0.25),
        ("tiles", 1024, 0.25),
        ("runs", 16384, 0.25),
    ),
    dtypes=("float32", "float64"),
    columns=(1, 4, 16, 17, 64, 512),
    seconds=0.1,
    least=5,
)
TINY = ProductsPlan(
    cases=(("runs", 64, 0.25), ("tiles", 64, 0.25)),
    dtypes=FULL.dtypes,
    columns=(1, 17),
    seconds=0.0,
    least=1,
)
Library = tuple[str, Callable[[np.ndarray], Any], Clock, Callable[[Any], np.ndarray]]


def run(session: Session) -> None:
    """Check and time every structure in both libraries."""
    plan = TINY if session.tiny else FULL
    made = [session.attempt(name, partial(make, session.device)) for name, make in LIBRARIES]
    libraries = [one for one in made if one is not None]
    for name, n, cost in plan.cases if libraries else ():
        case = f"{name}, n = {n}, cost {cost:.3g}"
        session.case(case, partial(_case, session, plan, libraries, name, n, cost))


def _cupy(device: str) -> Library:
    """CuPy with a clock of its own; on a CPU NumPy stands in for it."""
    if device != "cuda":
        return "cupy", np.asarray, wall_clock, np.asarray
    cupy = on_device("cupy", device)
    filler = cupy.empty(CACHE_BYTES, cupy.int8)

    def clock(call: Callable[[], Any], loops: int) -> float:
        total = 0.0
        for _ in range(loops):
            filler.fill(0)
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            call()
            end.record()
            end.synchronize()
            total += cupy.cuda.get_elapsed_time(begin, end)
        return 1e-3 * total / loops

    return "cupy", cupy.asarray, clock, cupy.asnumpy


def _torch(device: str) -> Library:
    torch = on_device("torch", device)
    ways = library("benchmarks.gpu.ways")
    return "torch", partial(torch.asarray, device=device), ways.clock(device), ways.host


LIBRARIES = (("CuPy", _cupy), ("torch", _torch))


def _case(
    session: Session,
    plan: ProductsPlan,
    libraries: Sequence[Library],
    name: str,
    n: int,
    cost: float,
) -> None:
    subject, rng = drawn(name, n, cost), np.random.default_rng(1)
    operand = rng.standard_normal((n, max(plan.columns)), np.float32)
    expected = subject.reference(operand[:, :CHECKED_COLUMNS].astype(np.float64))
    # A few values again and again: what they are takes no time, and drawing them would.
    dense = np.resize(rng.standard_normal(2**16 + 1, np.float32), (n, n))
    for lib in libraries:
        for dtype in plan.dtypes:
            case = f"{lib[0]}, {name}, n = {n}, cost {cost:.3g}, {dtype}"
            data = tuple(array.astype(dtype) for array in (dense, operand))
            measure = partial(_timed, session, plan, lib, subject, data, expected)
            head = {"structure": name, "n": n, "budget": cost, "dtype": dtype}
            for row in session.attempt(case, measure) or ():
                session.add({"library": lib[0]} | head | row)


def _timed(
    session: Session,
    plan: ProductsPlan,
    lib: Library,
    subject: Subject,
    data: tuple[np.ndarray, np.ndarray],
    expected: np.ndarray,
) -> list[Row]:
    """Rows for one matrix and dtype: one for each number of columns."""
    where, put, clock, host = lib
    dense, operand = data
    matrix = _moved(subject.matrix.astype(str(operand.dtype)), where, session.device)
    D, rows = put(dense), []
    for columns in plan.columns:
        # A copy, so that the columns lie as they do in an array of their own.
        x = put(operand[:, :columns].copy() if columns > 1 else operand[:, 0].copy())
        first = host(matrix @ x).reshape(len(operand), -1)[:, :CHECKED_COLUMNS]
        limit = tolerance(str(operand.dtype), len(operand))
        agree(f"a product with {columns} columns", first, expected[:, : first.shape[1]], limit)
        calls = {"ours": partial(matrix.__matmul__, x), "dense": partial(D.__matmul__, x)}
        # As many bytes as contents, operand and result have.
        half = (subject.matrix.storage + columns * sum(subject.matrix.shape)) // 2
        source, target = (put(np.zeros(half, operand.dtype)) for _ in range(2))
        calls["bytes"] = partial(target.__setitem__, slice(None), source)
        timing = interleaved(
            calls,
            seconds=plan.seconds,
            least=plan.least,
            clock=clock,
        )
        rows.append(
            {
                "columns": columns,
                "cost": short(subject.matrix.relative_cost),
                "kernel": planned(matrix, columns).kernel,
                "rounds": timing.rounds,
                "seconds": short(timing.seconds("ours")),
                "over_dense": short(timing.ratio("ours", "dense")),
                "bytes_over_dense": short(timing.ratio("bytes", "dense")),
            }
        )
    return rows


def _moved(
    matrix: structmat.StructuredMatrix, where: str, device: str
) -> structmat.StructuredMatrix:
    """Matrix on the device, in a library."""
    if where == "torch":
        return matrix.to("torch").to(device)
    return matrix.to("cupy") if device == "cuda" else matrix
