"""Tables of one experiment, from its result file alone."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.experiments.config import KINDS
from benchmarks.experiments.judged import judged
from benchmarks.experiments.report.advice_tables import advised
from benchmarks.experiments.report.generalisation import generalisation
from benchmarks.experiments.report.rates import has_rule, rates
from benchmarks.experiments.report.worth import kinds_learned, learning, spent, worth
from benchmarks.experiments.samples import DENSE, ExperimentRuns, Sample, minus
from benchmarks.reporting.names import case_name, layer_name, named, reason
from benchmarks.reporting.tables import Table, left_out, number, percent
from benchmarks.results import Row


def tables(result: Row) -> list[Table]:
    """All tables for which the result has rows.

    Parameters
    ----------
    result : dict
        Content of a result file.
    """
    runs = ExperimentRuns(result)
    own = judged(runs)
    found = [*(make(own) for make in (worth, spent, learning, kinds_learned)), *details(runs)]
    return [table for table in found if table.rows]


def details(runs: ExperimentRuns) -> list[Table]:
    """Tables of one experiment alone."""
    found = [
        *(kinds(runs, model, score) for score in (None, *_scores(runs)) for model in runs.models),
        *(
            make(runs, model)
            for make in (ablations, tuning, times, layers)
            for model in runs.models
        ),
        *(rates(runs, m, _title(runs, "Learning rates of contents", m)) for m in runs.models),
        *(
            generalisation(runs, m, _title(runs, "Generalisation and turnover", m))
            for m in runs.models
        ),
        *advised(runs),
    ]
    return [table for table in found if table.rows]


def kinds(runs: ExperimentRuns, model: str, score: str | None = None) -> Table:
    """Kinds of structure against budgets; `score` names another score than the main one."""
    budgets = runs.budgets() or [1.0]
    structured = [name for name in runs.cases() if name != runs.dense]
    best = {budget: runs.best(structured, budget, model) for budget in budgets}
    lines = []
    for name in runs.cases():
        cells = []
        for budget in budgets:
            sample = runs.sample(name, budget, model, score=score)
            bold = score is None and (name, sample) == best[budget]
            cells.append(_cell(runs, sample, runs.rows(name, budget, model), bold))
        if set(cells) != {"–"}:
            lines.append([case_name(name), *cells])
    shown = named(score) if score else runs.metric.label
    note = (
        f"{_upper(shown)}: mean ± standard deviation over the seeds; in brackets, how many seeds, "
        "and the multiplications used over those of the dense layers."
    )
    note += " The best mean at each budget is bold." if score is None else ""
    title = _title(runs, "Kinds at equal cost" + (f": {named(score)}" if score else ""), model)
    headers = ["network", *(f"at {percent(b)}" for b in budgets)]
    return Table(title, note + _left_out(runs, model, "kinds"), headers, lines)


def ablations(runs: ExperimentRuns, model: str) -> Table:
    """Ablations of the method beside the method as it is."""
    lines = []
    for budget in runs.budgets("ablations"):
        changed = runs.ablations(budget, model)
        start = runs.sample(runs.method, budget, model)
        if start and changed:
            cell = _cell(runs, start, runs.rows(runs.method, budget, model))
            lines.append([percent(budget), f"{runs.method} as it is", cell, "–"])
        for name, sample in changed.items():
            cell = _cell(runs, sample, runs.rows(name, budget, model, "ablations"))
            lines.append([percent(budget), case_name(name), cell, _difference(runs, sample, start)])
    note = f"{_upper(runs.metric.label)}: mean ± standard deviation (seeds; cost)."
    headers = ["budget", "network", runs.metric.name, "difference"]
    title = "Changes of the method"
    if runs.method is None:
        title, headers, lines = "Other runs", headers[:3], [line[:3] for line in lines]
    else:
        note += (
            f" The last column is the difference to {runs.method} as it is, paired over the seeds "
            "that both have, ± its standard error: bold where it is more than twice that, which "
            "with few seeds is a hint and no proof."
            f"{' More is worse.' if not runs.metric.higher else ''}"
        )
    note += _left_out(runs, model, "ablations")
    return Table(_title(runs, title, model), note, headers, lines)


def tuning(runs: ExperimentRuns, model: str) -> Table:
    """Settings that were tried for each kind on validation data, and those that are used."""
    rows = [] if has_rule(runs, model) else runs.group("tuning", model)
    lines = []
    for kind, budget in dict.fromkeys((row["kind"], row["budget"]) for row in rows):
        own = [row for row in rows if (row["kind"], row["budget"]) == (kind, budget)]
        tried = {row["case"]: _changes(runs, row) for row in own}
        used = [_changes(runs, row) for row in runs.group("kinds", model) if row["kind"] == kind]
        best = runs.best(tried, budget, model, "tuning")
        for name, changes in tried.items():
            sample = runs.sample(name, budget, model, "tuning")
            cell = runs.metric.spread(sample) + (f" ({sample.count})" if sample else "")
            same = any(_alike(runs, changes, other, tried.values()) for other in used)
            lines.append([
                KINDS.get(kind, kind), percent(budget),
                ", ".join(f"{named(key)} {value}" for key, value in changes.items()) or "–",
                f"**{cell}**" if best and best[0] == name else cell,
                "yes" if same else "",
            ])  # fmt: skip
    note = (
        f"{_upper(runs.metric.label)} on validation data held out of the training data, mean ± "
        "standard deviation (seeds); settings are those that differ from the experiment's. The "
        "best of each kind is bold; 'used' marks what the other tables of this experiment are "
        "run with."
    )
    headers = ["kind", "budget", "settings tried", "validation", "used"]
    return Table(_title(runs, "Tuning", model), note, headers, lines)


def _changes(runs: ExperimentRuns, row: Row) -> Row:
    """Own settings of a row's case: of its training, its conversion and its rule."""
    of_row = (row["group"], row["case"])
    cases = runs.config.get("cases", [])
    case: Row = next((c for c in cases if (c.get("group", "kinds"), c["name"]) == of_row), {})
    convert = dict(case.get("convert", {}))
    changes = {**convert.pop("options", {}), **convert, **row.get("settings", {})}
    return changes | ({"rule": case["rule"]} if "rule" in case else {})


def _alike(runs: ExperimentRuns, one: Row, other: Row, every: Iterable[Row]) -> bool:
    """Compare two cases in the settings that were varied."""
    final = runs.config.get("settings", {})
    varied = {key for changes in every for key in changes}
    return all((final | one).get(key) == (final | other).get(key) for key in varied)


def times(runs: ExperimentRuns, model: str) -> Table:
    """Training and inference time, and storage, over those of the dense network."""
    dense = [row for row in runs.group("kinds", model) if row["kind"] == DENSE]
    whole = Sample({row["seed"]: row["train_seconds"] for row in _having(dense, "train_seconds")})
    lines = []
    for name, kind in runs.cases().items():
        for budget in runs.budgets() if kind != DENSE else [1.0]:
            own = runs.rows(name, budget, model)
            if any("train_seconds" in row or "inference_seconds" in row for row in own):
                over = whole.mean if whole.count else None
                lines.append([
                    name, percent(budget),
                    _mean(own, "train_seconds", number),
                    _mean(own, "train_seconds", number, over) if over else "–",
                    _mean(own, "inference_over_dense", number),
                    _mean(own, "relative_storage", percent),
                ])  # fmt: skip
    note = (
        "Means over the seeds: seconds of training (of the process alone on a CPU), the same over "
        "the dense network's, inference over the dense network's, and stored numbers over the "
        "dense layers'."
    )
    headers = ["network", "budget", "training (s)", "training over dense"]
    headers += ["inference over dense", "storage"]
    return Table(_title(runs, "Time and storage", model), note, headers, lines)


def layers(runs: ExperimentRuns, model: str) -> Table:
    """Learned cost of each layer."""
    shares = runs.layer_costs(model)
    names = dict.fromkeys(name for by_name in shares.values() for name in by_name)
    lines = [
        [layer_name(n), *(percent(by_name.get(n)) for by_name in shares.values())] for n in names
    ]
    note = (
        f"Multiplications of {runs.method or ''} over those of the dense layer, "
        "mean over the seeds."
    )
    headers = ["layer", *(f"at {percent(b)}" for b in shares)]
    return Table(_title(runs, "Learned cost of each layer", model), note, headers, lines)


def _difference(runs: ExperimentRuns, sample: Sample, other: Sample | None) -> str:
    """Paired difference ± standard error, bold where it is more than twice that."""
    gap = minus(sample, other)
    text = runs.metric.change(gap)
    clear = gap is not None and gap.error is not None and abs(gap.mean) > 2 * gap.error
    return f"**{text}**" if clear else text


def _cell(runs: ExperimentRuns, sample: Sample | None, rows: list[Row], bold: bool = False) -> str:
    if sample is None:
        return "–"
    text = runs.metric.spread(sample)
    cost = _mean(rows, "relative_cost", percent)
    return f"{f'**{text}**' if bold else text} ({sample.count}; {cost})"


def _left_out(runs: ExperimentRuns, model: str, group: str) -> str:
    rows = [row for row in runs.every if (row["group"], row["model"]) == (group, model)]
    shown = [
        row | {"case": case_name(row["case"]), "budget": percent(row["budget"])}
        | ({"skipped": reason(row["skipped"])} if "skipped" in row else {})
        for row in rows
    ]  # fmt: skip
    return left_out(shown, "case", "budget")


def _mean(rows: list[Row], key: str, show: Callable[[float], str], over: float = 1.0) -> str:
    values = [row[key] for row in _having(rows, key)]
    return show(statistics.fmean(values) / over) if values else "–"


def _having(rows: Iterable[Row], key: str) -> list[Row]:
    return [row for row in rows if row.get(key) is not None]


def _scores(runs: ExperimentRuns) -> list[str]:
    """Names of the further scores; validation belongs to tuning."""
    names = dict.fromkeys(n for row in runs.group("kinds") for n in row.get("scores", {}))
    return [name for name in names if name != "valid"]


def _title(runs: ExperimentRuns, title: str, model: str) -> str:
    return f"{title}, {named(model)}" if len(runs.models) > 1 else title


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
