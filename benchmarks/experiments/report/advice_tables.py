"""Tables of the judgement of advice, from the result file alone."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from scipy.stats import spearmanr

from benchmarks.experiments.config import KINDS
from benchmarks.experiments.samples import ExperimentRuns
from benchmarks.reporting.tables import Table, percent
from benchmarks.results import Row


def advised(runs: ExperimentRuns) -> list[Table]:
    """Gains beside what gradients said, and choices of kinds beside what came of them."""
    made = {"gains": foretold, "weights": chosen}
    return [make(runs) for group, make in made.items() if runs.group(group)]


def foretold(runs: ExperimentRuns) -> Table:
    """Gain of learning for each network and budget, and the unserved share before."""
    found = gains(runs)
    lines = [
        [
            gain["network"], percent(gain["budget"]),
            *(f"{100 * gain[key]:.1f}" for key in ("dense", "frozen", "learned")),
            f"{gain['gain']:+.1f}", f"{gain['unserved']:.2f}",
        ]
        for gain in found
    ]  # fmt: skip
    note = (
        f"Accuracy in per cent, one seed. Rank correlation of the gain with the unserved share: "
        f"{_ranked(found, 'unserved'):+.2f}; with the budget: {_ranked(found, 'budget'):+.2f}. "
        f"Of pairs of networks at one budget, the one with the larger unserved share gains more in "
        f"{' of '.join(map(str, _pairs(found)))}."
    )
    heads = ["network", "budget", "dense", "frozen", "learned", "gain", "unserved"]
    return Table("Gains of learning, and what the first gradients say", note, heads, lines)


def chosen(runs: ExperimentRuns) -> Table:
    """Errors and losses of trained networks with quick fits, and accuracies after training."""
    rows = runs.group("weights")
    lines = [
        [
            row["matrix"], percent(row["budget"]), row["case"],
            f"{row['error']:.3f}", f"{row['loss']:.2f}",
            f"{100 * row['score_before']:.1f}", f"{100 * row['score']:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["matrix"], row["budget"]), []).append(row)
    below = ", ".join(f"{name} {_below(groups.values(), rule):.1f}" for name, rule in RULES.items())
    note = (
        "All inner layers of a trained network replaced by quick fits, and an eighth of the "
        "training after it. Points below the best kind after training, mean over networks and "
        f"budgets: {below}."
    )
    heads = ["network", "budget", "kind", "error", "loss", "accuracy before", "and after"]
    return Table("Kinds for trained networks", note, heads, lines)


def gains(runs: ExperimentRuns) -> list[Row]:
    """Accuracies by network and budget, with the gain in points and the unserved share."""
    rows = {(r["matrix"], r["case"], r["budget"], r["seed"]): r for r in runs.group("gains")}
    found = []
    for (network, case, budget, seed), row in rows.items():
        others = [
            rows.get((network, "frozen", budget, seed)),
            rows.get((network, "dense", 1.0, seed)),
        ]
        if case == "learned" and all(others):
            frozen, dense = (other["score"] for other in others if other)
            gain = {"network": network, "budget": budget, "unserved": row["unserved"]}
            gain |= {"dense": dense, "frozen": frozen, "learned": row["score"]}
            found.append(gain | {"gain": 100 * (row["score"] - frozen)})
    return found


def _ranked(found: Sequence[Row], key: str) -> float:
    """Rank correlation of the gain with a figure; of the budget, with its inverse."""
    sign = -1 if key == "budget" else 1
    values = [sign * gain[key] for gain in found]
    return float(spearmanr(values, [gain["gain"] for gain in found])[0])


def _pairs(found: Sequence[Row]) -> tuple[int, int]:
    """Pairs at one budget that the unserved share orders as the gain does, and all of them."""
    signs = [
        (one["unserved"] - other["unserved"]) * (one["gain"] - other["gain"])
        for i, one in enumerate(found)
        for other in found[:i]
        if one["budget"] == other["budget"]
    ]
    return sum(sign > 0 for sign in signs), sum(sign != 0 for sign in signs)


def _least(key: str) -> Callable[[Sequence[Row]], float]:
    """Rule that takes the kind with the least of a figure, for all layers."""
    return lambda rows: min(_single(rows), key=lambda row: row[key])["score"]


def _single(rows: Sequence[Row]) -> list[Row]:
    """Rows with one kind for all layers."""
    return [row for row in rows if row["kind"] in KINDS]


#: Rules of choice: accuracy after training from the rows of a network and budget.
RULES: dict[str, Callable[[Sequence[Row]], float]] = {
    "the least loss": _least("loss"),
    "for each layer the least loss with it alone replaced": lambda rows: statistics.fmean(
        row["score"] for row in rows if row["kind"] not in KINDS
    ),
    "the least error": _least("error"),
    "always GBLR": lambda rows: next(row["score"] for row in rows if row["kind"] == "gblr"),
    "a kind at random": lambda rows: statistics.fmean(row["score"] for row in _single(rows)),
}


def _below(groups: Iterable[Sequence[Row]], rule: Callable[[Sequence[Row]], float]) -> float:
    """Points that a rule stays below the best kind, on average; NaN where it has no rows."""
    try:
        return statistics.fmean(
            100 * (max(row["score"] for row in _single(rows)) - rule(rows)) for rows in groups
        )
    except statistics.StatisticsError:
        return math.nan
