"""Worth of learning the structure on all data sets, in five sentences for people."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.experiments.judged import CLEAR_SEEDS, Judged
from benchmarks.reporting.tables import number, percent

#: Budget of the sentences, where all data sets have it: the default of `structmat learn`.
HEADLINE = 0.02
#: Units of differences by metric; others have the metric's name.
UNITS = {"accuracy": " points"}
#: Words for numbers of seeds that are too few to judge by.
FEW = {1: "one seed", 2: "two seeds"}


def five_sentences(every: Sequence[Judged]) -> list[str]:
    """Sentences for people, from the figures alone; none without a learned structure."""
    if not every:
        return []
    at = headline(every)
    chosen = [one for one in every if one.budget == at]
    return [
        f"**Where it pays.** Against the best fixed structure of equal cost, GBLR that is learned "
        f"at {percent(at)} of the multiplications is {_verdict(chosen, 'fixed')}: "
        f"{_gaps(chosen, 'fixed', named=True)}.",
        f"**Where the gain is from.** Against its own start with the places held, it is "
        f"{_verdict(chosen, 'frozen')}: {_gaps(chosen, 'frozen')}; the learned places alone, with "
        f"fresh contents, differ from that start by {_gaps(chosen, 'frozen', part='alone')}.",
        f"**How far it gets.** Against single entries, learned without any structure, it is "
        f"{_verdict(chosen, 'ceiling')}: {_gaps(chosen, 'ceiling')}; against the "
        f"dense network it is {_verdict(chosen, 'dense')}: {_gaps(chosen, 'dense')}.",
        f"**Where it does not pay.** {_unpaid(every)}",
        f"**What it costs.** {_costs(chosen)}",
    ]


def headline(every: Sequence[Judged]) -> float:
    """Budget of the sentences: `HEADLINE` if a data set has it, or else the smallest of all."""
    budgets = {one.budget for one in every}
    return HEADLINE if HEADLINE in budgets else min(budgets)


def _verdict(chosen: Sequence[Judged], rival: str) -> str:
    """Words for the data sets on which the learned structure is clearly better or worse."""
    signs = [sign for one in chosen if (sign := one.gain(rival)) is not None]
    if not signs:
        return "not told apart, for want of seeds"
    words = {1: "clearly better", 0: "even", -1: "clearly worse"}
    parts = [f"{text} on {signs.count(sign)}" for sign, text in words.items() if sign in signs]
    enough = "" if len(signs) == len(chosen) else f" with {CLEAR_SEEDS} seeds"
    parts[0] += f" of {len(signs)} data set{'s' * (len(signs) > 1)}{enough}"
    return joined(parts)


def _gaps(
    chosen: Sequence[Judged], rival: str, *, part: str = "learned", named: bool = False
) -> str:
    """Differences on each data set, with the rival's name on request.

    The unit stands once for each metric. Too few seeds to judge by are said, once if all data
    sets have as many.
    """
    found = [(one, gap) for one in chosen if (gap := one.gap(rival, part))]
    counts = {gap.count for _, gap in found}
    texts: list[str] = []
    units: set[str] = set()
    for one, gap in found:
        metric = one.runs.config["metric"]
        unit = "" if metric in units else UNITS.get(metric, f" {metric}")
        units.add(metric)
        beside = [one.cases[rival]] if named else []
        beside += [FEW[gap.count]] if gap.count in FEW and len(counts) > 1 else []
        more = f" ({', '.join(beside)})" if beside else ""
        texts.append(f"{one.runs.metric.change(gap)}{unit} on {one.runs.title}{more}")
    few = [f", {FEW[count]} each" for count in counts if count in FEW and len(counts) == 1]
    return "".join([joined(texts), *few]) if texts else "not measured"


def _unpaid(every: Sequence[Judged]) -> str:
    """Sentence on the budgets at which the gain over the best fixed structure is not clear."""
    signs = [(one, sign) for one in every if (sign := one.gain("fixed")) is not None]
    if not signs:
        return f"No data set has {CLEAR_SEEDS} seeds yet, so no budget can be named."
    missed = [one for one, sign in signs if sign <= 0]
    if not missed:
        most = percent(max(one.budget for one, _ in signs))
        return f"The gain over the best fixed structure is clear at all budgets, up to {most}."
    places = [
        f"{one.runs.title} at {percent(one.budget)} ({one.runs.metric.change(one.gap('fixed'))}, "
        f"{one.cases['fixed']})"
        for one in missed
    ]
    return (
        f"No clear gain over the best fixed structure at {len(missed)} of {len(signs)} pairs of "
        f"data set and budget: {joined(places)}."
    )


def _costs(chosen: Sequence[Judged]) -> str:
    """Sentence on multiplications and time of training and of inference."""
    trained = _ranged(chosen, lambda one: one.mean("learned", "training_cost"), percent)
    seconds = _ranged(chosen, lambda one: one.over_dense("train_seconds"), number)
    times = [t for one in chosen if (t := one.mean("learned", "inference_over_dense")) is not None]
    inference = _ranged(chosen, lambda one: one.mean("learned", "inference_over_dense"), number)
    text = (
        f"Training takes {trained} of the dense network's multiplications and {seconds} times its "
        f"time, and inference {inference} times"
    )
    if times and min(times) > 1:
        return f"{text}: fewer multiplications are not less time in layers as small as these."
    if times and max(times) < 1:
        return f"{text}: fewer multiplications are less time, though not in proportion."
    return f"{text}."


def _ranged(
    chosen: Iterable[Judged],
    figure: Callable[[Judged], float | None],
    show: Callable[[float], str],
) -> str:
    """Smallest and largest figure over the data sets, or a dash."""
    values = sorted(value for one in chosen if (value := figure(one)) is not None)
    ends = dict.fromkeys(show(value) for value in (values[0], values[-1])) if values else ("–",)
    return " to ".join(ends)


def joined(parts: Sequence[str]) -> str:
    """List in a sentence.

    Examples
    --------
    >>> joined(["a", "b", "c"]), joined(["a"]), joined([])
    ('a, b and c', 'a', '')
    """
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
