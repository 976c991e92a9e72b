"""Part "frozen": layers in evaluation, by rows, dtype and way to call, against dense ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.gpu.session import Session, agree, tolerance
from benchmarks.gpu.shapes import SHAPES, drawn
from benchmarks.gpu.ways import WAYS, clock, graphed, host
from benchmarks.micro.structures import Subject
from benchmarks.micro.timing import Call, Timing, interleaved
from benchmarks.results import Row, short
from structmat.nn import StructuredLinear

#: Rows of a batch that are compared with the reference.
CHECKED_ROWS = 4


@dataclass(frozen=True)
class FrozenPlan:
    """Sizes and costs of cases with their dtypes, rows of batches, and seconds for each.

    Up to `few` rows, layers are also captured in graphs; cases and structures in `compile`
    are compiled for one row.
    """

    cases: Sequence[tuple[int, float, Sequence[str]]]
    rows: Sequence[int]
    few: int
    compile: Sequence[tuple[int, float, str, str]]
    seconds: float
    least: int


#: Structures that are compiled: one of tiles and one of arbitrary runs.
COMPILED = ("dense", "tiles", "runs")
DTYPES = ("bfloat16", "float16", "float32")
FULL = FrozenPlan(
    cases=(
        (8192, 0.25, DTYPES[:1]),
        (4096, 0.25, DTYPES),
        (8192, 0.125, DTYPES[:1]),
        (4096, 0.125, DTYPES[:1]),
        (1024, 0.25, DTYPES[:1]),
        (8192, 0.25, DTYPES[1:]),
    ),
    rows=(1, 8192, 16, 256),
    few=16,
    compile=[(n, 0.25, "bfloat16", name) for n in (4096, 8192) for name in COMPILED],
    seconds=0.4,
    least=5,
)
TINY = FrozenPlan(
    cases=((64, 0.25, DTYPES),),
    rows=(1, 8),
    few=1,
    compile=[(64, 0.25, "bfloat16", name) for name in COMPILED],
    seconds=0.0,
    least=1,
)


def run(session: Session) -> None:
    """Check and time every case that the time allows."""
    plan = TINY if session.tiny else FULL
    for n, cost, dtypes in plan.cases:
        session.case(f"n = {n}, cost {cost:.3g}", partial(_size, session, plan, n, cost, dtypes))


def _size(session: Session, plan: FrozenPlan, n: int, cost: float, dtypes: Sequence[str]) -> None:
    subjects = {name: drawn(name, n, cost) for name in SHAPES}
    for dtype in dtypes:
        case = f"n = {n}, cost {cost:.3g}, {dtype}"
        session.case(case, partial(_case, session, plan, subjects, n, cost, dtype))


@torch.no_grad()
def _case(
    session: Session,
    plan: FrozenPlan,
    subjects: Mapping[str, Subject],
    n: int,
    cost: float,
    dtype: str,
) -> None:
    """Time layers of every structure side by side, for each number of rows."""
    torch.manual_seed(0)
    like = {"device": session.device, "dtype": getattr(torch, dtype)}
    layers = {"dense": nn.Linear(n, n, bias=False, **like).eval()}
    layers |= {name: frozen_layer(subject, like) for name, subject in subjects.items()}
    for rows in plan.rows:
        x, one = torch.randn(rows, n, **like), torch.zeros(1, **like)
        calls = {"launch": graphed(nn.Identity(), lambda _, one=one: one.add_(1), session.device)}
        for name, layer in layers.items():
            ways = ["eager", *["graph"] * (rows <= plan.few)]
            ways += ["compiled"] * (rows == 1 and (n, cost, dtype, name) in plan.compile)
            for way in ways:
                made = session.attempt(
                    f"{name}, n = {n}, cost {cost:.3g}, {dtype}, {rows} rows, {way}",
                    partial(_checked, way, layer, subjects.get(name), x, dtype),
                )
                if made is not None:
                    calls[f"{name} {way}"] = made
        for name, subject in subjects.items():
            moved = moving(subject, rows, like)
            calls[f"{name} bytes"] = graphed(nn.Identity(), lambda _, m=moved: m(), session.device)
        timing = interleaved(
            calls, seconds=plan.seconds, least=plan.least, clock=clock(session.device)
        )
        head = {"n": n, "budget": cost, "dtype": dtype, "rows": rows}
        for name, way in product(subjects, WAYS):
            if {f"{name} {way}", f"dense {way}"} <= calls.keys():
                session.add(head | _row(timing, name, way, subjects[name]))


def moving(subject: Subject, rows: int, like: dict) -> Call:
    """Call that moves as many bytes as contents, operand and result have."""
    count = subject.matrix.storage + rows * sum(subject.matrix.shape)
    source, target = torch.zeros(2, count // 2, **like)
    return partial(target.copy_, source)


def frozen_layer(subject: Subject, like: dict) -> nn.Module:
    """Layer in evaluation around a structure."""
    matrix = subject.matrix.astype("float32").to("torch").to(like["device"])
    return StructuredLinear(matrix.astype(like["dtype"])).eval()


def _checked(way: str, layer: nn.Module, subject: Subject | None, x: Tensor, dtype: str) -> Call:
    """Call of a layer whose result is right; there is no subject of a dense one."""
    call = WAYS[way](layer, lambda layer: layer(x), x.device.type)
    if subject is None:
        return call
    some = torch.linspace(0, len(x) - 1, min(len(x), CHECKED_ROWS), device=x.device).long()
    expected = subject.reference(host(x[some]).T).T
    call()  # the next one may use what this one kept
    agree("the result", host(call()[some]), expected, tolerance(dtype, x.shape[1]))
    return call


def _row(timing: Timing, name: str, way: str, subject: Subject) -> Row:
    matrix = subject.matrix
    m, n = matrix.shape
    ours, dense = f"{name} {way}", f"dense {way}"
    return {
        "structure": name,
        "way": way,
        "cost": short(matrix.relative_cost),
        "storage": short(matrix.storage / (m * n)),
        "rounds": timing.rounds,
        "seconds": short(timing.seconds(ours)),
        "over_dense": short(timing.ratio(ours, dense)),
        "launch_over_dense": short(timing.ratio("launch", dense)),
        "bytes_over_dense": short(timing.ratio(f"{name} bytes", dense)),
    }
