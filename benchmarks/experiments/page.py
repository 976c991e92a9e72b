"""The page docs/evidence.md, from result files alone."""

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.experiments import config
from benchmarks.experiments.runner import command_of
from benchmarks.experiments.samples import METRICS, Runs
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
from benchmarks.reporting.tables import Table
from benchmarks.results import BenchmarkError, Row, write_text

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
#: Folder of the plots, seen from the page.
PICTURES = Path("_static") / "evidence"
SCHEMA = 1
KEYS = ("schema", "experiment", "command", "machine", "config", "rows")

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
    # Not before it is wanted: it needs matplotlib.
    figures = importlib.import_module("benchmarks.experiments.figures")
    render(results, {})  # a text that is refused leaves page and plots as they were
    folder = PAGE.parent / PICTURES
    pictures = {result["experiment"]: figures.write(result, folder) for result in results}
    write_text(PAGE, render(results, pictures))
    return PAGE


def read(path: Path) -> Row:
    """One result file.

    Raises
    ------
    BenchmarkError
        If it is none of this version.
    """
    try:
        result: Row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise BenchmarkError(f"{path.name} is no JSON file ({reason}); run it again") from None
    missing = [key for key in KEYS if not isinstance(result, dict) or key not in result]
    if missing or result["schema"] != SCHEMA or result["config"].get("metric") not in METRICS:
        raise BenchmarkError(
            f"{path.name} is no result of an experiment of this version (expected schema "
            f"{SCHEMA} with {', '.join(KEYS)} and a metric among {', '.join(METRICS)}); "
            "run it again"
        )
    return result


def render(results: Sequence[Row], pictures: Mapping[str, Mapping[str, str]]) -> str:
    """The page as Markdown; `pictures` holds the files of each experiment and what they show."""
    commands = "\n".join(f"$ {command_of(result['experiment'])}" for result in results)
    every = [Runs(result) for result in results]
    parts = [INTRODUCTION.format(commands=commands), _summary(every)]
    parts += [_section(runs, pictures.get(runs.result["experiment"], {})) for runs in every]
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


def _summary(every: Sequence[Runs]) -> str:
    """What all experiments with several seeds say together."""
    lines = [line for runs in every for line in standing(runs)]
    still = [line for runs in every for line in worth(runs)]
    counted = [f"- {sentence}" for runs in every for sentence in wins(runs)]
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
    shown = [first, second] if still else [first]
    return "\n".join(["## Summary\n", *counted, "", *(table.markdown() for table in shown)])


def _section(runs: Runs, pictures: Mapping[str, str]) -> str:
    result, settings = runs.result, runs.result["config"]
    parts = [f"## {settings['title']}\n", fill(runs, settings["note"].strip()) + "\n"]
    if found := sentences(runs, "findings"):
        parts.append("\n".join(f"- {sentence}" for sentence in found) + "\n")
    parts.append(_machine(result))
    for name, text in pictures.items():
        parts.append(f"![{text}]({(PICTURES / name).as_posix()})\n")
    if wrong := [f"- {text}" for row in result["rows"] for text in row.get("failures", [])]:
        parts.append("```{warning}\nThese checks failed:\n\n" + "\n".join(wrong) + "\n```\n")
    return "\n".join([*parts, *(table.markdown() for table in tables(result))])


def _machine(result: Row) -> str:
    facts = result["machine"]
    gpu = f", {facts['gpu']}" if facts.get("gpu") else ""
    versions = [f"{name} {v}" for name, v in facts["peers"].items() if v]
    return (
        f"Run by `{result['command']}`, last on {facts['date']}: {facts['cpu']}, "
        f"{facts['cores']} cores, {facts['system']}{gpu}; structmat {facts['structmat']}, "
        f"Python {facts['python']}, NumPy {facts['numpy']}, SciPy {facts['scipy']}"
        f"{''.join(', ' + version for version in versions)}.\n"
    )


def _listed(title: str, note: str, texts: Sequence[tuple[Runs, list[str]]]) -> str:
    parts = [f"## {title}\n", f"{note}\n"]
    for runs, own in texts:
        if own:
            parts.append(f"{runs.result['config']['title']}:\n")
            parts.append("\n".join(f"- {text}" for text in own) + "\n")
    return "\n".join(parts)


def _planned(runs: Runs) -> list[tuple[str, str, float, int]]:
    """Keys of all runs that the config asks for."""
    raw = runs.result["config"]
    return [job.key for job in config.parse(runs.result["experiment"], raw).jobs()]
