"""Targets of a suite beside the measured ratios: one line a target."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row


@dataclass(frozen=True)
class RatioTarget:
    """Ratio that is to stay at or below a limit, with the worst value of each case."""

    what: str
    limit: float
    worst: dict[str, float]

    def line(self) -> list[str]:
        """Cells of a table: ratio, limit, worst values, cases within the limit."""
        if not self.worst:
            return [self.what, number(self.limit, 3), "–", "not measured"]
        measured = ", ".join(f"{number(value, 3)} ({case})" for case, value in self.worst.items())
        kept = [case for case, value in self.worst.items() if value <= self.limit]
        met = "no" if not kept else f"at {', '.join(kept)}"
        return [
            self.what,
            number(self.limit, 3),
            measured,
            "yes" if len(kept) == len(self.worst) else met,
        ]


def worst_of(
    rows: Iterable[Row],
    value: Callable[[Row], float | None],
    case: Callable[[Row], str] = lambda row: percent(row["budget"]),
) -> dict[str, float]:
    """Largest value of each case, by default of each budget; rows without a value are left out."""
    worst: dict[str, float] = {}
    for row in rows:
        if (found := value(row)) is not None:
            worst[case(row)] = max(found, worst.get(case(row), found))
    return worst


def over_share(row: Row) -> float:
    """Time over the cost's share of the dense time: 1 keeps what the multiplications promise."""
    return row["over_dense"] / row["cost"]


def target_table(targets: list[RatioTarget]) -> Table:
    """All targets of a suite."""
    return Table(
        "Targets",
        "Ratios of times, the worst of each case. The share is the cost times the dense time.",
        ["ratio", "at most", "measured", "met"],
        [target.line() for target in targets],
    )
