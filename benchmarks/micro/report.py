"""The page docs/benchmarks.md, and the tables on the terminal, from results alone."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.gp.tables import gp_section
from benchmarks.gpu.tables import gpu_section
from benchmarks.micro.beginning import beginning
from benchmarks.micro.compression_tables import compression_tables
from benchmarks.micro.layer_tables import layer_tables
from benchmarks.micro.learned_tables import learned_tables
from benchmarks.micro.product_tables import product_tables
from benchmarks.micro.suites import read
from benchmarks.micro.training_tables import training_tables
from benchmarks.reporting.page import DOCS, folds, items, machine, placed, shown
from benchmarks.reporting.stamps import MEANING, stamp
from benchmarks.reporting.tables import Table
from benchmarks.results import BenchmarkError, Row, write_text
from benchmarks.scale.tables import scale_section

PAGE = DOCS / "benchmarks.md"
#: Folder of the plots, seen from the page.
PICTURES = Path("_static") / "benchmarks"
#: Title of each suite's section, and the function that makes its tables.
SUITES = {
    "products": ("Products", product_tables),
    "compression": ("Compression", compression_tables),
    "layers": ("Layers", layer_tables),
    "learned": ("Learned layers", learned_tables),
    "training": ("Training steps", training_tables),
}

#: Results of a GPU, and of what networks ask of one.
GPU = ("gpu", "gpu_counts")

#: Picture of the first screen, by its suite and file.
FIRST = "products", "products_cost.png"

INTRODUCTION = """\
% Written by `python -m benchmarks report` from benchmarks/results: do not edit.

# Benchmarks
"""

HOW = """\
Every figure on this page comes from the result files in `benchmarks/results`, which one
command writes on a machine of your own:

```console
$ python -m benchmarks all
$ python -m benchmarks report
```

Each run checks results before it measures: products against the dense product, costs
against the budget, and errors against what `compress` says of them. Times are medians
of calls taken in turns within one run, and ratios are medians of the ratios of
neighbouring calls, so that what else the machine does weighs on both sides. On a GPU,
its own clock is read around each call, with caches emptied before. They are figures for
one machine; the ratios carry over better than the seconds.
"""


def tables(result: Row) -> list[Table]:
    """Tables of one suite."""
    _, make = SUITES[result["suite"]]
    return make(result["rows"])


def write_page(folder: Path) -> Path:
    """Write the page and its plots from the full results in a folder."""
    results = [result for suite in SUITES if (result := read(folder, suite)) is not None]
    if not results:
        raise BenchmarkError(
            f"no results in {folder}; expected {' or '.join(f'{s}.json' for s in SUITES)} "
            "(run python -m benchmarks all first)"
        )
    # Imported here, because plots need matplotlib and tables do not.
    plots = importlib.import_module("benchmarks.micro.plots")
    pictures = {result["suite"]: plots.write(result, PAGE.parent / PICTURES) for result in results}
    importlib.import_module("benchmarks.reporting.front").write_front(
        folder, PAGE.parent / PICTURES.parent
    )
    gpu, counts = (read(folder, name) for name in GPU)
    beside = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name in ("scale", "gp")
        if (path := folder / f"{name}.json").is_file()
    }
    write_text(PAGE, render(results, pictures, gpu, counts, beside))
    return PAGE


def render(
    results: list[Row],
    pictures: Mapping[str, Mapping[str, str]],
    gpu: Row | None = None,
    counts: Row | None = None,
    beside: Mapping[str, Row] | None = None,
) -> str:
    """Page as Markdown; `pictures` holds the files of each suite and their descriptions.

    `beside` are results of benchmarks with sections of their own, by their names.
    """
    beside = beside or {}
    known = {result["suite"]: result for result in results} | dict(beside)
    if gpu is not None:
        known["gpu"] = gpu
    sections = [
        folds(
            SUITES[result["suite"]][0],
            "",
            placed(PICTURES, _after_the_first(result["suite"], pictures)),
            result["failures"],
            tables(result),
            [_measured(result)],
            stamp(result),
        )
        for result in results
    ]
    own = [_OWN[name](result) for name, result in beside.items()]
    parts = [INTRODUCTION, *_first_screen(known, pictures), HOW, f"{MEANING}\n"]
    parts += [*sections, *own, gpu_section(gpu, counts)]
    return "\n".join(part for part in parts if part)


_OWN = {"scale": scale_section, "gp": gp_section}


def _first_screen(known: Mapping[str, Row], pictures: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One picture, five sentences, and what to use when."""
    suite, name = FIRST
    sentences, use = beginning(known)
    parts = [f"{items(sentences)}\n", f"## {use.title}\n\n{use.body().strip()}\n"]
    if text := pictures.get(suite, {}).get(name):
        parts.insert(0, shown(placed(PICTURES, {name: text}), stamp(known[suite])))
    return [*parts, "## How it is measured\n"]


def _after_the_first(suite: str, pictures: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Pictures of a suite but for that of the first screen."""
    return {name: text for name, text in pictures.get(suite, {}).items() if (suite, name) != FIRST}


def _measured(result: Row) -> str:
    seeds = ", ".join(map(str, result["seeds"]))
    return (
        f"Measured on {result['machine']['date']} by `{result['command']}` in "
        f"{result['seconds']:.0f} s, seed {seeds}: {machine(result['machine'], threads=True)}"
    )
