"""The table "what to use when" of the page on evidence, derived from the results."""

from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.experiments.judged import Judged
from benchmarks.experiments.report.summary import headline, joined, spread
from benchmarks.experiments.samples import ENTRIES, ExperimentRuns, Sample
from benchmarks.reporting.names import case_name
from benchmarks.reporting.tables import Table, number, percent


def what_to_use(every: Sequence[Judged], by_part: Callable[[str], list[ExperimentRuns]]) -> Table:
    """Situations, what to use in each, and the figures that say so.

    `by_part` gives the experiments of a part of the page.
    """
    found = [*_from_scratch(every), *_wide(by_part("fixed"))]
    found += [line for runs in by_part("trained") for line in _cut(runs)]
    found += [line for runs in by_part("matrices") for line in _matrices(runs)]
    found += _in_time(every)
    return Table("What to use when", "", ["you have", "use", "measured"], found)


def _from_scratch(every: Sequence[Judged]) -> list[list[str]]:
    """Budgets at which learning is clearly better on most data sets, and those where it is not."""
    by_budget: dict[float, list[Judged]] = {}
    for one in every:
        if one.gain("fixed") is not None:
            by_budget.setdefault(one.budget, []).append(one)
    paid = {
        budget: 2 * sum(one.gain("fixed") == 1 for one in own) > len(own)
        for budget, own in by_budget.items()
    }
    lines = []
    for yes in (True, False):
        budgets = sorted(budget for budget, pays in paid.items() if pays == yes)
        own = [one for budget in budgets for one in by_budget[budget]]
        if own:
            at = joined([percent(budget) for budget in budgets])
            lines.append([f"a small network to train, {at} of its multiplications",
                          _learned_or_fixed(own, yes), _gain(own)])  # fmt: skip
    return lines


def _learned_or_fixed(own: Sequence[Judged], learned: bool) -> str:
    if learned:
        return "learned GBLR"
    kinds = Counter(case for one in own if (case := one.cases.get("fixed")))
    return f"fixed: {kinds.most_common(1)[0][0]}"


def _gain(own: Sequence[Judged]) -> str:
    return f"learning gains {spread(own, 'fixed')} over the best fixed kind"


def _wide(every: Sequence[ExperimentRuns]) -> list[list[str]]:
    """Fixed kinds that have the best score most often, over all budgets of larger networks."""
    wins: Counter[str] = Counter()
    budgets: set[float] = set()
    for runs in every:
        for model, budget in runs.places:
            if found := runs.best(_structured(runs), budget, model):
                wins[found[0]] += 1
                budgets.add(budget)
    if not wins:
        return []
    total = sum(wins.values())
    most = [f"{case_name(name)} ({count})" for name, count in wins.most_common(3)]
    ends = f"{percent(min(budgets))} to {percent(max(budgets))}"
    return [[f"a network to train, {ends}", case_name(wins.most_common(1)[0][0]),
             f"best of {total} cases: {', '.join(most)}"]]  # fmt: skip


def _cut(runs: ExperimentRuns) -> list[list[str]]:
    """Best case of a trained network that is cut, at the smallest budget, and the best other."""
    budget = min(runs.budgets())
    scores = [
        (name, sample)
        for model in runs.models
        for name in _structured(runs)
        if (sample := runs.sample(name, budget, model))
    ]
    if not scores:
        return []
    scores.sort(key=lambda pair: -runs.metric.sign * pair[1].mean)
    kinds = runs.cases()
    (name, best), *rest = scores
    other = next((pair for pair in rest if kinds[pair[0]] != kinds[name]), None)
    text = f"{runs.metric.name} {_shown(runs, best)}"
    text += f"; {case_name(other[0])} {_shown(runs, other[1])}" if other else ""
    dense = runs.sample(runs.dense, 1.0, runs.models[-1]) if runs.dense else None
    text += f"; dense {_shown(runs, dense)}" if dense else ""
    return [[f"{_what(runs)} to cut to {percent(budget)}", case_name(name), text]]


def _what(runs: ExperimentRuns) -> str:
    """Words for the network of an experiment that cuts one."""
    pre_trained = runs.config.get("task") == "minilm"
    return "a sentence encoder, distilled," if pre_trained else "a trained GPT, trained on,"


def _matrices(runs: ExperimentRuns) -> list[list[str]]:
    """Kind with the least error most often."""
    wins = Counter(
        found[0]
        for model, budget in runs.places
        if (found := runs.best(_structured(runs), budget, model))
    )
    if not wins:
        return []
    (name, count), total = wins.most_common(1)[0], sum(wins.values())
    return [["a matrix to approximate", name, f"least error in {count} of {total} cases"]]


def _in_time(every: Sequence[Judged]) -> list[list[str]]:
    """Inference time of learned structures, where it is no less than the dense network's."""
    at = headline(every) if every else 0.0
    times = [
        time
        for one in every
        if one.budget == at and (time := one.mean("learned", "inference_over_dense"))
    ]
    if not times or max(times) < 1:
        return []
    ends = f"{number(min(times))} to {number(max(times))}"
    return [["small layers, where time counts", "a dense network",
             f"at {percent(at)}, inference takes {ends} times dense"]]  # fmt: skip


def _structured(runs: ExperimentRuns) -> list[str]:
    """Cases with structure: neither the dense network nor single entries."""
    return [n for n, kind in runs.cases().items() if kind not in ("dense", "narrow", ENTRIES)]


def _shown(runs: ExperimentRuns, sample: Sample) -> str:
    return f"{sample.mean:.{2 if runs.metric.scale == 1 else 1}f}"
