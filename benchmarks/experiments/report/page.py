"""The page docs/evidence.md, from result files alone."""

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.experiments import config
from benchmarks.experiments.judged import judged
from benchmarks.experiments.report.choice import what_to_use
from benchmarks.experiments.report.sentences import fill, losses, sentences, undone
from benchmarks.experiments.report.summary import five_sentences
from benchmarks.experiments.report.tables import details
from benchmarks.experiments.report.worth import kinds_learned, learning, spent, worth
from benchmarks.experiments.runner import command_of
from benchmarks.experiments.samples import ExperimentRuns, read
from benchmarks.reporting.names import named
from benchmarks.reporting.page import DOCS, caption, failed, items, machine, placed, shown
from benchmarks.reporting.stamps import MEANING, stamp
from benchmarks.reporting.tables import Table, folded
from benchmarks.results import BenchmarkError, Row, write_text

PAGE = DOCS / "evidence.md"
#: Folder of the plots, seen from the page.
PICTURES = Path("_static") / "evidence"
#: Key of the pictures that show all data sets.
ALL = ""
#: Parts of the page after its beginning: titles, and what their experiments have in common.
PARTS = {
    "learning": (
        "Data sets with learned structure",
        "Each network is trained dense and with its inner layers in each structure, at the same "
        "few per cent of their multiplications.",
    ),
    "trained": (
        "Trained networks, cut",
        "Layers of a trained network are replaced by structures near their weights.",
    ),
    "fixed": (
        "Fixed kinds at a tenth and more",
        "At larger budgets, kinds of structure are compared with one another and with GBLR by "
        "Gaudi masks, the published way to learn it.",
    ),
    "advice": (
        "Advice before a training",
        "Figures that networks have before a training, beside what came of it.",
    ),
    "matrices": ("Matrices", "No network: the error of an approximation at equal cost."),
    "rates": (
        "Learning rates of contents",
        "Rates that follow from the structure beside the best of a grid.",
    ),
}

HEAD = """\
% Written by `python -m benchmarks experiments report` from benchmarks/results/experiments:
% do not edit.

# Evidence
"""

READING = """\
Figures are means over seeds on test sets; every choice, also that of the best fixed structure, was
made on validation data. A difference is taken seed by seed, between runs that see the same data in
the same order, and stands ± the standard error of its mean. It is *clear* with three seeds or more
and above two standard errors. Costs are [multiplications](glossary.md#cost) of the converted layers
over those of the dense ones. Learned [GBLR](structures/gblr.md) begins dense and comes down to
rank-one blocks in learned orders of rows and columns ([how](guide/learn.md)). Blocks are charged
nothing beside their multiplications, and most are short runs and single entries
([how many](benchmarks.md#learned-layers)); "blocks charged 2 multiplications each" are larger.
"""

AGAIN = """\
## Run it again

Each experiment is one file in `benchmarks/experiments/configs`. A run that was interrupted goes on
where it stopped, and what is done is skipped. Data sets that may not be shipped are read from a
folder of your own. Every figure of this page comes from the files in
`benchmarks/results/experiments`, also those inside sentences.

```console
{commands}
$ python -m benchmarks experiments report
```

Configs whose names end in `_full` hold larger networks, some of them the sizes of the paper:
`--device cuda` trains them on a GPU, and `--at-once 4` four of them at a time, as small networks
leave most of it idle. They were not run for this page.
"""


def write(results_folder: Path) -> Path:
    """Write the page and its plots from all results in a folder.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    BenchmarkError
        If the folder has no results, or a text has a figure or a name that they have not.
    """
    results = [read(path) for path in sorted(results_folder.glob("*.json"))]
    results.sort(key=lambda result: result["config"].get("order", math.inf))
    if not results:
        raise BenchmarkError(
            f"no *.json in {results_folder}; expected results of experiments "
            "(run python -m benchmarks experiments run CONFIG first)"
        )
    # Imported here, because plots need matplotlib and tables do not.
    figures = importlib.import_module("benchmarks.experiments.report.figures")
    overview = importlib.import_module("benchmarks.experiments.report.overview")
    render(results, {})  # a text that is refused leaves page and plots as they were
    folder = PAGE.parent / PICTURES
    pictures = {result["experiment"]: figures.write(result, folder) for result in results}
    every = [one for result in results for one in judged(ExperimentRuns(result))]
    pictures[ALL] = overview.write(every, folder)
    for old in folder.glob("*.png"):
        if not any(old.name in drawn for drawn in pictures.values()):
            old.unlink()
    write_text(PAGE, render(results, pictures))
    return PAGE


def render(results: Sequence[Row], pictures: Mapping[str, Mapping[str, str]]) -> str:
    """Page as Markdown; `pictures` holds the files of each experiment and their descriptions."""
    every = [ExperimentRuns(result) for result in results]
    commands = "\n".join(f"$ {command_of(runs.name)}" for runs in every)
    parts = [HEAD, *_beginning(every, pictures.get(ALL, {}))]
    for part, (title, note) in PARTS.items():
        own = [runs for runs in every if part_of(runs) == part]
        if own:
            parts.append(f"## {title}\n\n{note}\n")
            parts += [_experiment(runs, pictures.get(runs.name, {})) for runs in own]
    parts.append(AGAIN.format(commands=commands))
    return "\n".join(part for part in parts if part)


def part_of(runs: ExperimentRuns) -> str:
    """Part of the page for an experiment, by what it has."""
    if "ceiling" in runs.beside:
        return "learning"
    if runs.config.get("task") == "advice":
        return "advice"
    if runs.config["metric"] == "error":
        return "matrices"
    if runs.config.get("task") == "minilm" or "begin" in runs.config:
        return "trained"
    return "fixed" if runs.group("kinds") else "rates"


def _beginning(every: Sequence[ExperimentRuns], pictures: Mapping[str, str]) -> list[str]:
    """One picture, five sentences and what to use when; then what they rest on."""
    own = [runs for runs in every if judged(runs)]
    found = [one for runs in own for one in judged(runs)]
    if not found:
        return [f"No file of results has a learned structure yet.\n\n{READING}"]
    origin = stamp(*(runs.result for runs in own))
    first, *others = _one_by_one(pictures, origin) or [""]
    use = what_to_use(found, lambda part: [runs for runs in every if part_of(runs) == part])
    exact = (worth(found), spent(found), learning(found), kinds_learned(found))
    return [
        first,
        f"{items(five_sentences(found))}\n",
        f"## {use.title}\n\n{use.body().strip()}\n",
        f"## All data sets together\n\n{READING}\n{MEANING}\n",
        *(folded(table.title, table.body(), origin) for table in exact if table.rows),
        folded("More pictures", "\n".join(others)) if others else "",
    ]


def _experiment(runs: ExperimentRuns, pictures: Mapping[str, str]) -> str:
    """Section of an experiment: what was found, its first picture, and all else folded."""
    result = runs.result
    origin = stamp(result)
    first, *others = _one_by_one(pictures, origin) or [""]
    every, beside = details(runs), 0 if first else 1
    parts = [f"### {runs.config['title']}\n", f"{fill(runs, runs.config['note'].strip())}\n"]
    parts += [f"{items(found)}\n"] if (found := sentences(runs, "findings")) else []
    parts += [first, failed([text for row in result["rows"] for text in row.get("failures", [])])]
    # Results without a picture have a table that takes its place.
    parts += [f"{table.body()}\n{caption(origin)}" for table in every[:beside]]
    parts += _folds(runs, every[beside:], origin)
    parts += [folded("More pictures", "\n".join(others))] if others else []
    if against := [*sentences(runs, "negative"), *losses(runs)]:
        parts.append(folded("Against it", f"{items(against)}\n"))
    made = (
        f"Run by `{result['command']}`, last on {result['machine']['date']}: "
        f"{machine(result['machine'], threads=False)}"
    )
    rest = [made, *sentences(runs, "not_tried"), *undone(runs, _planned(runs))]
    parts.append(folded("Machine, and what was not tried", f"{items(rest)}\n"))
    return "\n".join(part for part in parts if part)


def _folds(runs: ExperimentRuns, tables: Sequence[Table], origin: str) -> list[str]:
    """Tables, folded; those that differ in the network or matrix alone are in one fold."""
    found: dict[str, list[str]] = {}
    for table in tables:
        models = [named(name) for name in runs.models]
        model = next((name for name in models if table.title.endswith(f", {name}")), "")
        title = table.title.removesuffix(f", {model}") if model else table.title
        heading = f"**{model}**\n\n" if model else ""
        found.setdefault(title, []).append(heading + table.body())
    return [folded(title, "\n".join(bodies), origin) for title, bodies in found.items()]


def _one_by_one(pictures: Mapping[str, str], origin: str) -> list[str]:
    return [shown(placed(PICTURES, {name: text}), origin) for name, text in pictures.items()]


def _planned(runs: ExperimentRuns) -> list[tuple[str, str, float, int]]:
    """Keys of all runs that the config asks for."""
    return [job.key for job in config.parse(runs.name, runs.config).jobs()]
