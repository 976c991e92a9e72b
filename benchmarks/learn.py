"""Figures of `structmat learn` for people: a result file, and a table on two pages.

`python -m benchmarks learn run` runs the command with its defaults and keeps its figures;
`python -m benchmarks learn report` writes the table into the README and the guide.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.reporting.tables import number, percent
from benchmarks.results import BenchmarkError, Row, load, rows_as_json, short, write_text
from structmat.kinds import kind_record

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "learn.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "guide" / "learn.md")
#: Lines around the table on a page.
BEGIN = "<!-- figures of structmat learn, by `python -m benchmarks learn report` -->"
END = "<!-- end of these figures -->"
SCHEMA = 2
KEYS = ("schema", "command", "machine", "task", "seconds", "rows")
#: Settings of the command, and figures of a run, that are kept.
TASK = ("data", "model", "size", "budget", "epochs")
FIGURES = ("metric", "train_metric", "relative_cost", "relative_inference", "train_seconds")
#: Names of GBLR in the table; others have their own.
NAMES = {"gblr": "**GBLR, learned**", "gblr_fixed": "GBLR, random places held"}


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learn", description=__doc__)
    parser.add_argument("what", choices=("run", "report"), help="measure, or write the pages")
    if parser.parse_args(arguments).what == "run":
        measure()
        print(f"wrote {RESULT.name}")
    for page in write_pages():
        print(f"wrote {page.name}")
    return 0


def measure() -> None:
    """Run the command with its defaults and keep its figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "structmat", "learn", "-o", folder]
        begin = time.perf_counter()
        if subprocess.run(command, check=False).returncode:
            raise BenchmarkError("structmat learn failed; its message says why")
        seconds = time.perf_counter() - begin
        found = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    write_text(RESULT, rows_as_json(kept(found, seconds)))


def kept(found: Row, seconds: float) -> Row:
    """Result of the figures that the command has written in this time."""
    rows = [
        {"kind": run["kind"], "seed": run["seed"]} | {key: short(run[key]) for key in FIGURES}
        for run in found["runs"]
    ]
    return {
        "schema": SCHEMA,
        "command": "structmat learn",
        "machine": machine.facts(),
        "task": {key: found["task"][key] for key in TASK},
        "seconds": short(seconds),
        "rows": rows,
    }


def write_pages() -> list[Path]:
    """Write the table into the pages, between the two lines that stand for it."""
    text = table(load(RESULT, SCHEMA, KEYS))
    for page in PAGES:
        write_text(page, placed(page.read_text(encoding="utf-8"), text, page.name))
    return list(PAGES)


def placed(page: str, text: str, name: str, first: str = BEGIN, last: str = END) -> str:
    """Page with this text between the two lines that stand for it.

    Raises
    ------
    BenchmarkError
        If the page lacks one of them.
    """
    before, begin, rest = page.partition(f"{first}\n")
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise BenchmarkError(f"{name} has no line {first!r} with {last!r} below it; put both back")
    return f"{before}{begin}{text}\n{end}{after}"


def table(result: Row) -> str:
    """Table of a result in Markdown, with a line that names seeds and machine."""
    rows, task, facts = result["rows"], result["task"], result["machine"]
    lines = [
        "| hidden layers | test accuracy | on training | multiplications | inference time |",
        "|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        cells = [
            NAMES.get(kind) or kind_record(kind).label,
            _percents([row["metric"] for row in own]),
            f"{100 * statistics.fmean(row['train_metric'] for row in own):.2f} %",
            percent(statistics.fmean(row["relative_cost"] for row in own)),
            number(statistics.fmean(row["relative_inference"] for row in own)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    seeds = len({row["seed"] for row in rows})
    spread = ", mean ± standard deviation" * (seeds > 1)
    note = (
        f"{seeds} seed{'s' * (seeds > 1)} of {task['epochs']} epochs{spread}; multiplications and "
        f"time over the dense network's. {result['seconds']:.0f} s in all, "
        f"{facts['cpu']}, structmat {facts['structmat']}, torch {facts['peers']['torch']}, "
        f"{facts['date']}."
    )
    return "\n".join([*lines, "", note])


def _percents(values: Sequence[float]) -> str:
    """Mean ± standard deviation in per cent; of one value without it."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    # Spaces that do not break, so that a cell stays in one line.
    return f"{100 * statistics.fmean(values):.2f}{spread} %".replace(" ", "\u00a0")
