"""The page docs/benchmarks.md, and the tables on the terminal, from results alone."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from benchmarks.micro.compression_tables import compression_tables
from benchmarks.micro.layer_tables import layer_tables
from benchmarks.micro.product_tables import product_tables
from benchmarks.micro.training_tables import training_tables
from benchmarks.reporting.tables import Table
from benchmarks.results import BenchmarkError, Row, read, write_text

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
#: Folder of the plots, seen from the page.
PICTURES = Path("_static") / "benchmarks"
SUITES = {
    "products": product_tables,
    "compression": compression_tables,
    "layers": layer_tables,
    "training": training_tables,
}
TITLES = {
    "products": "Products",
    "compression": "Compression",
    "layers": "Layers",
    "training": "Training steps",
}

INTRODUCTION = """\
% Written by `python -m benchmarks report` from benchmarks/results: do not edit.

# Benchmarks

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
    """The tables of one suite."""
    return SUITES[result["suite"]](result["rows"])


def write_page(folder: Path) -> Path:
    """Write the page and its plots from the full results in a folder."""
    results = [result for suite in SUITES if (result := read(folder, suite)) is not None]
    if not results:
        raise BenchmarkError(
            f"no results in {folder}; expected {' or '.join(f'{s}.json' for s in SUITES)} "
            "(run python -m benchmarks all first)"
        )
    # Not before it is wanted: it needs matplotlib.
    plots = importlib.import_module("benchmarks.micro.plots")
    pictures = {
        result["suite"]: plots.write(result["suite"], result["rows"], PAGE.parent / PICTURES)
        for result in results
    }
    write_text(PAGE, render(results, pictures))
    return PAGE


def render(results: list[Row], pictures: Mapping[str, Mapping[str, str]]) -> str:
    """The page as Markdown; `pictures` holds the files of each suite with what they show."""
    sections = [_section(result, pictures.get(result["suite"], {})) for result in results]
    return "\n".join([INTRODUCTION, *sections])


def _section(result: Row, pictures: Mapping[str, str]) -> str:
    parts = [f"## {TITLES[result['suite']]}\n", _machine(result)]
    for name, text in pictures.items():
        parts.append(f"![{text}]({(PICTURES / name).as_posix()})\n")
    if result["failures"]:
        wrong = "\n".join(f"- {failure}" for failure in result["failures"])
        parts.append(f"```{{warning}}\nThese checks failed:\n\n{wrong}\n```\n")
    return "\n".join([*parts, *(table.markdown() for table in tables(result))])


def _machine(result: Row) -> str:
    facts = result["machine"]
    threads = "unknown" if facts["threads"] is None else facts["threads"]
    blas = f"{facts['blas']} (threads: {threads})"
    gpu = f", {facts['gpu']}" if facts.get("gpu") else ""
    peers = [f"{name} {v}" for name, v in facts["peers"].items() if v]
    seeds = ", ".join(map(str, result["seeds"]))
    return (
        f"Measured on {facts['date']} by `{result['command']}` in {result['seconds']:.0f} s, "
        f"seed {seeds}: {facts['cpu']}, {facts['cores']} cores, {facts['system']}{gpu}; "
        f"{blas}; structmat {facts['structmat']}{_threads(facts)}, "
        f"Python {facts['python']}, NumPy {facts['numpy']}, SciPy {facts['scipy']}"
        f"{''.join(', ' + peer for peer in peers)}.\n"
    )


def _threads(facts: Row) -> str:
    """Threads of structmat's own kernels, where the file says them."""
    return f" (threads: {facts['structmat_threads']})" if "structmat_threads" in facts else ""
