"""Tables of one experiment, from its result file alone."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.experiments.samples import DENSE, Runs, Sample, change, spread
from benchmarks.reporting.tables import Table, left_out, number, percent
from benchmarks.results import Row


class Marked(Table):
    """A table in which some cells are bold; a terminal does not show that."""

    def text(self) -> str:
        """In columns, for the terminal."""
        rows = [[cell.replace("**", "") for cell in row] for row in self.rows]
        return Table(self.title, self.note, self.headers, rows).text()


def tables(result: Row) -> list[Table]:
    """All tables for which the result has rows.

    Parameters
    ----------
    result : dict
        Content of a result file.
    """
    runs = Runs(result)
    found = [
        *(kinds(runs, model, score) for score in (None, *_scores(runs)) for model in runs.models),
        *(ablations(runs, model) for model in runs.models),
        *(tuning(runs, model) for model in runs.models),
        *(times(runs, model) for model in runs.models),
        *(layers(runs, model) for model in runs.models),
    ]
    return [table for table in found if table.rows]


def kinds(runs: Runs, model: str, score: str | None = None) -> Table:
    """Kinds of structure against budgets; `score` names another score than the main one."""
    budgets = runs.budgets() or [1.0]
    names = [*runs.cases()]
    structured = [name for name in names if name != runs.dense]
    best = {budget: runs.best(structured, budget, model) for budget in budgets}
    lines = []
    for name in names:
        cells = []
        for budget in budgets:
            sample = runs.sample(name, budget, model, score=score)
            bold = score is None and (name, sample) == best[budget]
            cells.append(_cell(runs, sample, runs.rows(name, budget, model), bold))
        if set(cells) != {"–"}:
            lines.append([name, *cells])
    what = runs.metric.label if score is None else score
    note = (
        f"{_upper(what)}: mean ± standard deviation over the seeds; in brackets, how many "
        "seeds, and the multiplications used over those of the dense layers."
    )
    note += " The best mean at each budget is bold." if score is None else ""
    skipped = [r for r in runs.every if r["group"] == "kinds" and r["model"] == model]
    title = _title(runs, "Kinds at equal cost" + (f": {score}" if score else ""), model)
    headers = ["network", *(f"at {percent(b)}" for b in budgets)]
    return Marked(title, note + left_out(skipped, "case", "budget"), headers, lines)


def ablations(runs: Runs, model: str) -> Table:
    """The method with one thing changed, beside the method as it is."""
    group, method = "ablations", next(iter(runs.learned), None)
    lines = []
    for budget in runs.budgets(group):
        start = runs.sample(method, budget, model) if method else None
        own = [(name, runs.sample(name, budget, model, group)) for name in runs.cases(group)]
        if not any(sample for _, sample in own):
            continue
        if method and start:
            cell = _cell(runs, start, runs.rows(method, budget, model), False)
            lines.append([percent(budget), f"{method} as it is", cell, "–"])
        for name, sample in own:
            if sample:
                cell = _cell(runs, sample, runs.rows(name, budget, model, group), False)
                lines.append([percent(budget), name, cell, difference(runs, sample, start)])
    note = (
        f"{_upper(runs.metric.label)}: mean ± standard deviation (seeds; cost). The last column "
        f"is the difference to {method} as it is, paired over the seeds that both have, ± its "
        "standard error: bold where it is more than twice that, which with few seeds is a hint "
        f"and no proof.{' More is worse.' if not runs.metric.higher else ''}"
    )
    skipped = [r for r in runs.every if r["group"] == group and r["model"] == model]
    headers = ["budget", "network", runs.metric.label.split(" (")[0], "difference"]
    title = _title(runs, "Ablations", model)
    return Marked(title, note + left_out(skipped, "case", "budget"), headers, lines)


def tuning(runs: Runs, model: str) -> Table:
    """What was tried for each kind on validation data, and which of it the kinds use."""
    rows = runs.group("tuning", model)
    lines = []
    for kind, budget in dict.fromkeys((row["kind"], row["budget"]) for row in rows):
        own = [row for row in rows if (row["kind"], row["budget"]) == (kind, budget)]
        tried = {row["case"]: _changes(runs, row) for row in own}
        used = [_changes(runs, row) for row in runs.group("kinds", model) if row["kind"] == kind]
        best = runs.best([*tried], budget, model, "tuning")
        for name, changes in tried.items():
            sample = runs.sample(name, budget, model, "tuning")
            cell = spread(sample, runs.metric) + (f" ({sample.count})" if sample else "")
            same = any(_alike(runs, changes, other, tried.values()) for other in used)
            lines.append([
                kind, percent(budget), name,
                ", ".join(f"{key} {value}" for key, value in changes.items()) or "–",
                f"**{cell}**" if best and best[0] == name else cell,
                "yes" if same else "",
            ])  # fmt: skip
    note = (
        f"{_upper(runs.metric.label)} on validation data held out of the training data, mean ± "
        "standard deviation (seeds); settings are those that differ from the experiment's. The "
        "best of each kind is bold; 'used' marks what the other tables of this experiment are "
        "run with."
    )
    headers = ["kind", "budget", "tried", "settings", "validation", "used"]
    return Marked(_title(runs, "Tuning", model), note, headers, lines)


def _changes(runs: Runs, row: Row) -> Row:
    """What the case of a row has of its own: settings, and how its network is converted."""
    cases = runs.result["config"].get("cases", [])
    of_row = (row["group"], row["case"])
    case: Row = next((c for c in cases if (c.get("group", "kinds"), c["name"]) == of_row), {})
    convert = dict(case.get("convert", {}))
    changes = {**convert.pop("options", {}), **convert, **row.get("settings", {})}
    return changes | ({"rule": case["rule"]} if "rule" in case else {})


def _alike(runs: Runs, one: Row, other: Row, every: Iterable[Row]) -> bool:
    """Whether two cases agree in all that was varied."""
    final = runs.result["config"].get("settings", {})
    varied = {key for changes in every for key in changes}
    return all((final | one).get(key) == (final | other).get(key) for key in varied)


def times(runs: Runs, model: str) -> Table:
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


def layers(runs: Runs, model: str) -> Table:
    """What the learned network spends on each layer."""
    title = _title(runs, "Learned cost of each layer", model)
    shares = layer_costs(runs, model)
    names = list(dict.fromkeys(name for by_name in shares.values() for name in by_name))
    lines = [[n, *(percent(by_name.get(n)) for by_name in shares.values())] for n in names]
    note = (
        f"Multiplications of {next(iter(runs.learned), '')} over those of the dense layer, "
        "mean over the seeds."
    )
    return Table(title, note, ["layer", *(f"at {percent(b)}" for b in shares)], lines)


def layer_costs(runs: Runs, model: str) -> dict[float, dict[str, float]]:
    """For each budget, the learned relative cost of each layer, mean over the seeds."""
    found: dict[float, dict[str, float]] = {}
    for budget in runs.budgets() if runs.learned else []:
        values: dict[str, list[float]] = {}
        for row in runs.rows(runs.learned[0], budget, model):
            for layer in row.get("layers", []):
                values.setdefault(layer["name"], []).append(layer["relative_cost"])
        if values:
            found[budget] = {name: statistics.fmean(own) for name, own in values.items()}
    return found


def difference(runs: Runs, sample: Sample | None, other: Sample | None) -> str:
    """Paired difference ± standard error, bold where it is more than twice that."""
    gap = sample.minus(other) if sample else None
    text = change(gap, runs.metric)
    clear = gap is not None and gap.error is not None and abs(gap.mean) > 2 * gap.error
    return f"**{text}**" if clear else text


def _cell(runs: Runs, sample: Sample | None, rows: list[Row], bold: bool) -> str:
    if sample is None:
        return "–"
    text = spread(sample, runs.metric)
    cost = _mean(rows, "relative_cost", percent)
    return f"{f'**{text}**' if bold else text} ({sample.count}; {cost})"


def _mean(rows: list[Row], key: str, show: Callable[[float], str], over: float = 1.0) -> str:
    values = [row[key] for row in _having(rows, key)]
    return show(statistics.fmean(values) / over) if values else "–"


def _having(rows: Iterable[Row], key: str) -> list[Row]:
    return [row for row in rows if row.get(key) is not None]


def _scores(runs: Runs) -> list[str]:
    """Names of the further scores; validation belongs to tuning."""
    names = dict.fromkeys(n for row in runs.group("kinds") for n in row.get("scores", {}))
    return [name for name in names if name != "valid"]


def _title(runs: Runs, title: str, model: str) -> str:
    return f"{title}, {model}" if len(runs.models) > 1 else title


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
