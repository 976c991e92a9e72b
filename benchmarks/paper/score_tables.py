"""Tables of the pages on the paper from the results of experiments."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.experiments.samples import ExperimentRuns, read
from benchmarks.reporting.tables import Table, number, percent

#: Experiments with scores on their training data, by the names of their data.
LEARNED = {
    "learning_grey": "grey pictures",
    "learning_authors": "letter pairs of passages",
    "learning_digits": "digits",
}
#: Cases of each table of scores, by the table's name, with its experiment and group of rows.
SCORES: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "language": ("gpt_finetune", None, (
        "dense", "low rank", "block sparse", "Monarch", "GBLR", "low rank, calibrated",
        "Monarch, calibrated", "GBLR, cut once, calibrated",
    )),
    "vision": ("vit", None, (
        "dense", "low rank", "low rank, ALDS ranks", "block sparse", "block low rank", "Monarch",
        "pixelfly", "Gaudi masks from strips", "Gaudi masks from splr, published settings",
    )),
    "mixer": ("mixer", None, (
        "dense", "low rank", "low rank, ALDS ranks", "block sparse", "block low rank", "Monarch",
    )),
    "convolutions": ("resnet", None, (
        "dense", "low rank", "low rank, ALDS ranks", "block low rank",
    )),
    "sentences": ("minilm", "distilled", (
        "low rank", "low rank, ALDS ranks", "block sparse", "Monarch", "GBLR",
    )),
    "gaudi": ("digits", None, (
        "dense", "low rank", "block sparse", "GBLR by Gaudi masks",
        "Gaudi masks: splr start at 50 % width, published settings",
        "Gaudi masks: boxcars throughout, no σ schedule", "Gaudi masks: locations fixed",
        "structure frozen: splr at the budget", "structure frozen: grid at the budget",
        "low rank at the cost of each layer by Gaudi masks",
    )),
}  # fmt: skip
#: Cases whose layers differ in their cost: experiment, case, and group of rows.
SHARED_OUT = (
    ("digits", "GBLR by Gaudi masks", None),
    ("minilm", "low rank, ALDS ranks", "distilled"),
)
#: Starts from given weights that are timed beside a training.
STARTS = ("low rank", "low rank, ALDS ranks", "Monarch", "GBLR, cut once")
#: Layers of an encoder by the ends of their names; others keep their own.
LAYER_TYPES = {
    "attention.output.dense": "attention output",
    "intermediate.dense": "first of MLP",
    "output.dense": "second of MLP",
    "query": "query",
    "key": "key",
    "value": "value",
}


def scores(name: str, results: Path) -> str:
    """Scores of some cases of one experiment, a column for each budget."""
    experiment, model, cases = SCORES[name]
    runs = _runs(results, experiment)
    model = model or runs.models[0]
    lines, budgets = [], runs.budgets()
    for case in cases:
        samples = [runs.anywhere(case, budget, model) for budget in budgets]
        seeds = sorted({sample.count for sample in samples if sample})
        cells = [runs.metric.spread(sample) for sample in samples]
        lines.append([case, *cells, _span(seeds)])
    label = runs.metric.label[0].upper() + runs.metric.label[1:]
    note = f"{label}: mean ± standard deviation over the seeds. {_source(runs)}"
    return Table("", note, ["network", *map(_at, budgets), "seeds"], lines).body()


def gap(results: Path) -> str:
    """Scores on training and test data, and their gap, of dense and of learned networks."""
    lines, sources = [], []
    for experiment, data in LEARNED.items():
        runs = _runs(results, experiment)
        sources.append(runs)
        places = [("dense", 1.0), *(("GBLR", budget) for budget in runs.budgets())]
        for case, budget in places:
            own = runs.rows(case, budget, runs.models[0])
            train, test, loss = (
                statistics.fmean(values)
                for values in (
                    [100 * row["train_score"] for row in own],
                    [100 * row["score"] for row in own],
                    [row["history"][-1]["loss"] for row in own],
                )
            )
            figures = [f"{value:.2f}" for value in (train, test, train - test)]
            lines.append([data, case, percent(budget), *figures, f"{loss:.3f}", str(len(own))])
    headers = ["data", "network", "budget", "training", "test", "gap", "training loss", "seeds"]
    note = f"Accuracy in per cent, and training loss of the last pass: means. {_source(*sources)}"
    return Table("", note, headers, lines).body()


def layers(results: Path) -> str:
    """Costs of the types of layers, where the method was free to share the budget out."""
    lines, sources = [], []
    for experiment, case, model in SHARED_OUT:
        runs = _runs(results, experiment)
        sources.append(runs)
        for budget in runs.budgets():
            costs: dict[str, list[float]] = {}
            for row in runs.rows(case, budget, model or runs.models[0]):
                for layer in row["layers"]:
                    costs.setdefault(_layer_type(layer["name"]), []).append(layer["relative_cost"])
            for layer, own in costs.items():
                cells = [percent(f(own)) for f in (statistics.fmean, min, max)]
                lines.append([case, percent(budget), layer, *cells])
    headers = ["structure", "budget", "layer", "mean cost", "least", "most"]
    note = f"Multiplications over those of the dense layer. {_source(*sources)}"
    return Table("", note, headers, lines).body()


def _layer_type(name: str) -> str:
    return next((words for end, words in LAYER_TYPES.items() if name.endswith(end)), name)


def start_share(results: Path) -> str:
    """Share of starts from given weights in the distillation of a pre-trained model."""
    runs, lines = _runs(results, "minilm"), []
    for case in STARTS:
        for budget in runs.budgets():
            for row in runs.rows(case, budget, "distilled"):
                start, whole = row["convert_seconds"], row["train_seconds"]
                cells = [number(start), number(whole), percent(start / whole)]
                lines.append([case, percent(budget), *cells])
    note = f"All linear layers of the encoder of MiniLM-L6. {_source(runs)}"
    headers = ["start", "budget", "start, s", "start and distillation, s", "share"]
    return Table("", note, headers, lines).body()


def _runs(results: Path, experiment: str) -> ExperimentRuns:
    return ExperimentRuns(read(results / "experiments" / f"{experiment}.json"))


def _source(*experiments: ExperimentRuns) -> str:
    each: Sequence[str] = [
        f"`{runs.name}` ({runs.result['machine']['date']}, {runs.result['machine']['cpu']})"
        for runs in experiments
    ]
    return f"Experiment{'s' * (len(each) > 1)} {', '.join(each)}."


def _span(counts: Sequence[int]) -> str:
    return "–" if not counts else " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _at(budget: float) -> str:
    return f"at {percent(budget)}"


#: Text of every table, from the folder of results.
TABLES: dict[str, Callable[[Path], str]] = {
    **{name: partial(scores, name) for name in SCORES},
    "gap": gap,
    "layers": layers,
    "start-share": start_share,
}
