"""The page docs/evidence.md, from result files alone."""

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.experiments import config
from benchmarks.experiments.runner import command_of
from benchmarks.experiments.samples import ExperimentRuns, read
from benchmarks.experiments.sentences import (
    fill,
    losses,
    sentences,
    standing,
    undone,
    wins,
    worth,
)
from benchmarks.experiments.tables import tables
from benchmarks.reporting.page import DOCS, items, machine, placed, section
from benchmarks.reporting.tables import Table
from benchmarks.results import BenchmarkError, Row, write_text

PAGE = DOCS / "evidence.md"
#: Folder of the plots, seen from the page.
PICTURES = Path("_static") / "evidence"

INTRODUCTION = """\
% Written by `python -m benchmarks experiments report` from benchmarks/results/experiments:
% do not edit.

# Evidence

What is a learned structure worth inside a network, at the multiplications of another
structure? Every experiment on this page trains or compresses the same network with each
kind of structure at the same budget, a share of the multiplications of its dense layers,
and asks three things: which kind scores best, how far it stays from the dense network,
and whether it is the learning of the structure that pays or only having one.

Figures are means over seeds ± standard deviations. A difference is taken seed by seed
between runs that see the same data in the same order, and is given ± the standard error
of its mean; a difference smaller than about twice that says nothing. Costs are counted,
not wished for: hard boxcars, true widths. Scores are those of evaluation with the same
hard structure. In the plots, points at one cost are drawn a little apart. Every figure
comes from the result files in `benchmarks/results/experiments`, also those inside
sentences.

Each experiment is one config file. A run that was interrupted goes on where it stopped,
and what is done is skipped. Data sets that may not be shipped are read from a folder of
your own:

```console
{commands}
$ python -m benchmarks experiments report
```

The configs `vit_full` and `mixer_full` hold the sizes of the paper, in bfloat16 and by
`torch.compile`: `--device cuda` trains them on a GPU. They were not run for this page.
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
    figures = importlib.import_module("benchmarks.experiments.figures")
    render(results, {})  # a text that is refused leaves page and plots as they were
    folder = PAGE.parent / PICTURES
    pictures = {result["experiment"]: figures.write(result, folder) for result in results}
    write_text(PAGE, render(results, pictures))
    return PAGE


def render(results: Sequence[Row], pictures: Mapping[str, Mapping[str, str]]) -> str:
    """Page as Markdown; `pictures` holds the files of each experiment and their descriptions."""
    every = [ExperimentRuns(result) for result in results]
    commands = "\n".join(f"$ {command_of(runs.name)}" for runs in every)
    parts = [INTRODUCTION.format(commands=commands), _summary(every)]
    parts += [_section(runs, pictures.get(runs.name, {})) for runs in every]
    parts.append(_listed(
        "Negative results",
        "Where a learned structure does not come first, and changes of the method that do no "
        "harm: each is counted from the means, within the spread or not.",
        [(runs, [*sentences(runs, "negative"), *losses(runs)]) for runs in every],
    ))  # fmt: skip
    parts.append(_listed(
        "What was not tried", "Runs that were left out, and questions that stay open.",
        [(runs, [*sentences(runs, "not_tried"), *undone(runs, _planned(runs))]) for runs in every],
    ))  # fmt: skip
    return "\n".join(part for part in parts if part)


def _summary(every: Sequence[ExperimentRuns]) -> str:
    """Tables of all experiments with several seeds."""
    lines = [line for runs in every for line in standing(runs)]
    still = [line for runs in every for line in worth(runs)]
    counted = [sentence for runs in every for sentence in wins(runs)]
    if not lines:
        return ""
    first = Table(
        "Learned structure against the best other kind and against dense",
        "Mean ± standard deviation; differences are learned minus other, paired over seeds, ± "
        "standard error. For accuracy and cosine more is better, for perplexity and error less.",
        ["experiment", "network", "budget", "learned", "score", "best other kind",
         "difference to it", "difference to dense"],
        lines,
    )  # fmt: skip
    second = Table(
        "Learned structure against structure that is not learned",
        "The same with the method's structure frozen as it was drawn, and laid as the best of "
        "the fixed grids; differences are learned minus frozen, ± standard error.",
        ["experiment", "network", "budget", "learned", "minus frozen at random",
         "minus best fixed grid"],
        still,
    )  # fmt: skip
    return section("Summary", [items(counted)], {}, [], [first, second] if still else [first])


def _section(runs: ExperimentRuns, pictures: Mapping[str, str]) -> str:
    result = runs.result
    findings = sentences(runs, "findings")
    made = (
        f"Run by `{result['command']}`, last on {result['machine']['date']}: "
        f"{machine(result['machine'], threads=False)}"
    )
    return section(
        runs.config["title"],
        [fill(runs, runs.config["note"].strip()), *([items(findings)] if findings else []), made],
        placed(PICTURES, pictures),
        [text for row in result["rows"] for text in row.get("failures", [])],
        tables(result),
    )


def _listed(title: str, note: str, texts: Sequence[tuple[ExperimentRuns, list[str]]]) -> str:
    own = [f"{runs.config['title']}:\n\n{items(some)}" for runs, some in texts if some]
    return section(title, [note, *own], {}, [], [])


def _planned(runs: ExperimentRuns) -> list[tuple[str, str, float, int]]:
    """Keys of all runs that the config asks for."""
    return [job.key for job in config.parse(runs.name, runs.config).jobs()]
