"""Worth of learning the structure on all data sets, in five short sentences for people.

The tables of the page have the exact figures with their errors.
"""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.experiments.judged import CLEAR_SEEDS, Judged
from benchmarks.reporting.tables import number, percent

#: Budget of the sentences, where all data sets have it.
HEADLINE = 0.02
#: Units of differences by metric; others have the metric's name.
UNITS = {"accuracy": "points"}


def five_sentences(every: Sequence[Judged]) -> list[str]:
    """Sentences for people, from the figures alone; none without a learned structure."""
    if not every:
        return []
    at = headline(every)
    chosen = [one for one in every if one.budget == at]
    return [
        f"**Where it pays.** With {percent(at)} of the multiplications, learned blocks beat the "
        f"best fixed structure {_verdict(chosen, 'fixed')}, by {spread(chosen, 'fixed')}.",
        f"**Where it does not.** {_unpaid(every)}",
        f"**Where the gain is from.** Blocks whose places stay as they begin score "
        f"{spread(chosen, 'frozen')} less.",
        f"**How far it gets.** {_far(chosen)}",
        f"**What it costs.** {_costs(chosen)}",
    ]


def headline(every: Sequence[Judged]) -> float:
    """Budget of the sentences: `HEADLINE` if a data set has it, or else the smallest of all."""
    budgets = {one.budget for one in every}
    return HEADLINE if HEADLINE in budgets else min(budgets)


def _verdict(chosen: Sequence[Judged], rival: str) -> str:
    """Words for the data sets on which the learned structure is clearly better."""
    signs = _signs(chosen, rival)
    if not signs:
        return f"(with fewer than {CLEAR_SEEDS} seeds, so this may be chance)"
    return f"clearly on {signs.count(1)} of {len(signs)} data set{'s' * (len(signs) > 1)}"


def spread(chosen: Sequence[Judged], rival: str) -> str:
    """Smallest and largest difference to a rival over the data sets, for each metric."""
    gaps: dict[str, list[float]] = {}
    for one in chosen:
        if gap := one.gap(rival):
            gain = one.runs.metric.sign * gap.mean
            gaps.setdefault(one.runs.config["metric"], []).append(gain)
    parts = [
        f"{_ends(sorted(own), lambda value: f'{value:.1f}')} {UNITS.get(metric, metric)}"
        for metric, own in gaps.items()
    ]
    return joined(parts) or "what was not measured"


def _signs(chosen: Sequence[Judged], rival: str) -> list[int]:
    return [sign for one in chosen if (sign := one.gain(rival)) is not None]


def _unpaid(every: Sequence[Judged]) -> str:
    """Sentence on the budgets at which the gain over the best fixed structure is not clear."""
    signs = [(one, sign) for one in every if (sign := one.gain("fixed")) is not None]
    if not signs:
        return f"No data set has {CLEAR_SEEDS} seeds yet."
    missed: dict[str, list[str]] = {}
    for one, sign in signs:
        if sign <= 0:
            missed.setdefault(one.runs.title, []).append(percent(one.budget))
    if not missed:
        most = percent(max(one.budget for one, _ in signs))
        return f"The gain is clear at all budgets measured, up to {most}."
    places = joined([f"{title} at {joined(budgets)}" for title, budgets in missed.items()])
    return f"There is no clear gain on {places}."


def _far(chosen: Sequence[Judged]) -> str:
    """Sentence on single entries and on the dense network."""
    ceiling, dense = _signs(chosen, "ceiling"), _signs(chosen, "dense")
    if not ceiling or not dense:
        return "Single entries and the dense network were not compared with enough seeds."
    return (
        f"Without any structure, single entries are clearly better on {ceiling.count(-1)} of "
        f"{len(ceiling)}; the dense network is on {dense.count(-1)}."
    )


def _costs(chosen: Sequence[Judged]) -> str:
    """Sentence on the time of training and of inference."""
    seconds = _ranged(chosen, lambda one: one.over_dense("train_seconds"), number)
    inference = _ranged(chosen, lambda one: one.mean("learned", "inference_over_dense"), number)
    return (
        f"Training takes {seconds} times the dense network's time, and the trained network "
        f"{inference} times."
    )


def _ranged(
    chosen: Iterable[Judged],
    figure: Callable[[Judged], float | None],
    show: Callable[[float], str],
) -> str:
    """Smallest and largest figure over the data sets, or a dash."""
    values = sorted(value for one in chosen if (value := figure(one)) is not None)
    return _ends(values, show) if values else "–"


def _ends(values: Sequence[float], show: Callable[[float], str]) -> str:
    """First and last of some values, once if they look the same."""
    return " to ".join(dict.fromkeys(show(value) for value in (values[0], values[-1])))


def joined(parts: Sequence[str]) -> str:
    """List in a sentence.

    Examples
    --------
    >>> joined(["a", "b", "c"]), joined(["a"]), joined([])
    ('a, b and c', 'a', '')
    """
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
