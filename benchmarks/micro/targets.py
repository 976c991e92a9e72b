"""Targets of a suite beside the measured ratios: one line a target.

Limits of the products on a CPU, the bounds that bytes and operations set to them, and the
lines that say whether they were met.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row

#: Costs for which the targets of one vector on large matrices are meant.
TARGET_COSTS = (0.125, 0.25)
#: Limits on the time over the cost's share of the dense product's, at each number of threads:
#: what they are for, the limit, and the products that have to keep it.
SHARE_LIMITS: Mapping[str, tuple[float, Callable[[Row], bool]]] = {
    "one vector, n ≥ 4096": (
        1.2,
        lambda r: r["columns"] == 1 and r["n"] >= 4096 and r["budget"] in TARGET_COSTS,
    ),
    "one vector, n = 1024": (1.5, lambda r: r["columns"] == 1 and r["n"] == 1024),
    "256 to 2048 columns, n ≥ 3072": (
        1.3,
        lambda r: 256 <= r["columns"] <= 2048 and r["n"] >= 3072,
    ),
    "256 to 2048 columns, n = 768": (
        1.6,
        lambda r: 256 <= r["columns"] <= 2048 and r["n"] == 768,
    ),
}
#: Threads at which the targets are meant.
THREADS = (1, 2)
#: Time of masks, forward and backward, over that of the Fourier formula.
MASKS_LIMIT = 1 / 15
#: Frozen learned layers over dense ones: at 2 % and at 5 % of the multiplications from this
#: number of vectors on, and with one vector.
MANY_VECTORS = 64
THIN_LIMIT, WIDE_LIMIT, ONE_VECTOR_LIMIT = 0.1, 0.2, 1.05


@dataclass(frozen=True)
class RatioTarget:
    """Ratio that is to stay at or below a limit, with the worst value of each case.

    `bounds` has, by case, words on what bounds the value; they are shown for misses.
    """

    what: str
    limit: float
    worst: Mapping[str, float]
    bounds: Mapping[str, str] = field(default_factory=dict)

    @property
    def missed(self) -> list[str]:
        """Cases above the limit, those with NaN among them."""
        return [case for case, value in self.worst.items() if not value <= self.limit]

    @property
    def verdict(self) -> str:
        """Met, missed, or not measured; of a part that was met, where."""
        if not self.worst:
            return "not measured"
        kept = [case for case in self.worst if case not in self.missed]
        if not self.missed:
            return "met"
        return f"missed, met at {', '.join(kept)}" if kept else "missed"

    @property
    def measured(self) -> str:
        """Worst value of each case."""
        values = (f"{number(value, 3)} ({case})" for case, value in self.worst.items())
        return ", ".join(values) or "–"

    def line(self) -> list[str]:
        """Cells of a table: ratio, limit, worst values, verdict, bounds of the misses."""
        bounds = [f"{self.bounds[c]} ({c})" for c in self.missed if c in self.bounds]
        limit = number(self.limit, 3)
        return [self.what, limit, self.measured, self.verdict, "; ".join(bounds) or "–"]


def worst_rows(
    rows: Iterable[Row],
    value: Callable[[Row], float | None],
    case: Callable[[Row], str] = lambda row: percent(row["budget"]),
) -> dict[str, tuple[float, Row]]:
    """Largest value of each case with its row; rows without a value are left out."""
    worst: dict[str, tuple[float, Row]] = {}
    for row in rows:
        found = value(row)
        if found is not None and (case(row) not in worst or found > worst[case(row)][0]):
            worst[case(row)] = found, row
    return worst


def worst_of(
    rows: Iterable[Row],
    value: Callable[[Row], float | None],
    case: Callable[[Row], str] = lambda row: percent(row["budget"]),
) -> dict[str, float]:
    """Largest value of each case, by default of each budget; rows without a value are left out."""
    return {where: found for where, (found, _) in worst_rows(rows, value, case).items()}


def bounded(
    what: str,
    limit: float,
    worst: Mapping[str, tuple[float, Row]],
    bound: Callable[[Row], str],
) -> RatioTarget:
    """Target with the bound of each case, from the row of its worst value."""
    return RatioTarget(
        what,
        limit,
        {case: value for case, (value, _) in worst.items()},
        {case: bound(row) for case, (_, row) in worst.items()},
    )


def over_share(row: Row) -> float:
    """Time over the cost's share of the dense time: 1 keeps what the multiplications promise."""
    return row["over_dense"] / row["cost"]


def threads_of(row: Row) -> int:
    """Threads of a product; earlier files were measured at one."""
    return row.get("threads", 1)


def share_bound(row: Row) -> str:
    """Bounds on a product's time over its share of the dense time, in words.

    By bytes: reading each stored scalar and the operand and writing the result, once, as
    measured in the same run. By operations: each multiplication takes as long as one of the
    dense product, and so it is 1. By the call: a matrix of one entry, with the same operand.
    """
    moved = row.get("bytes_over_dense")
    if moved is None and "over_read" in row:  # of an earlier file: the scalars alone
        moved = row["over_dense"] / row["over_read"]
    found = {"bytes": moved, "operations": row["cost"], "the call": row.get("call_over_dense")}
    return _bounds({by: v and v / row["cost"] for by, v in found.items()})


def layer_bound(row: Row) -> str:
    """Bounds on a learned layer's time over the dense layer's, by bytes and by operations."""
    return _bounds({"bytes": row.get("bytes_over_dense"), "operations": row["cost"]})


def masks_bound(row: Row) -> str:
    """Bound on the time of masks over the formula's: writing them and reading gradients once."""
    return _bounds({"bytes": row.get("bytes_over_formula")})


def _bounds(values: Mapping[str, float | None]) -> str:
    known = [f"{number(value)} by {by}" for by, value in values.items() if value is not None]
    return ", ".join(known) or "not measured"


def target_table(targets: list[RatioTarget]) -> Table:
    """All targets of a suite."""
    return Table(
        "Targets",
        "Ratios of times, the worst of each case. The share is the cost times the dense time. "
        "Bounds stand beside misses, as ratios like theirs: moving each byte once, "
        "multiplications as fast as those of the dense product, and a call for one entry.",
        ["ratio", "at most", "measured", "met", "bounds"],
        [target.line() for target in targets],
    )
