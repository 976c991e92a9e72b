"""The page docs/develop/reliability.md, from the result files alone."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability import coverage
from benchmarks.reliability.suites import KEYS, SCHEMA, SUITES
from benchmarks.reporting.page import DOCS, items, machine, section
from benchmarks.reporting.tables import Table, listing, number, percent
from benchmarks.results import BenchmarkError, Row, load, write_text

PAGE = DOCS / "develop" / "reliability.md"
NAMES = (*SUITES, "coverage", "mutants")

INTRODUCTION = """\
% Written by `python -m benchmarks reliability report` from benchmarks/results/reliability: do
% not edit.

# Reliability

This page says what was tried to make structmat return a wrong result, how often, and what
failed. The long suites run for minutes to an hour; each has a short form among the default
tests. Counts come from the result files in `benchmarks/results/reliability`:

```console
$ python -m benchmarks reliability products operands nan invariants coverage mutants
$ python -m benchmarks reliability report
```
"""


def write_page(folder: Path) -> Path:
    """Write the page from the results in a folder."""
    found = [load(p, SCHEMA, KEYS) for name in NAMES if (p := folder / f"{name}.json").exists()]
    if not found:
        raise BenchmarkError(f"no results in {folder.name}; run python -m benchmarks reliability")
    write_text(PAGE, render(found))
    return PAGE


def render(results: Sequence[Row]) -> str:
    """Page as Markdown."""
    sections = [INTRODUCTION]
    for result in results:
        if result["suite"] == "coverage":
            sections.append(_coverage(result))
        elif result["suite"] == "mutants":
            sections.append(_mutants(result))
        else:
            sections.append(_suite(result))
    return "\n".join(sections)


def _measured(result: Row) -> str:
    return (
        f"`{result['command']}`, {result['machine']['date']}, {result['seconds']} s: "
        f"{machine(result['machine'], threads=False)}"
    )


def _suite(result: Row) -> str:
    suite, rows = SUITES[result["suite"]], result["rows"]
    failed = [f"`{name}`" for row in rows for name in row["failed"]]
    columns = {"test": lambda row: f"`{row['test']}`", "cases": "cases"}
    for key, heading in (("cells", "cells"), ("refused", "of them refused"), ("worst", "worst")):
        if any(key in row for row in rows):
            columns[heading] = lambda row, key=key: number(row.get(key), 3 if key == "worst" else 9)
    if any("examples" in row for row in rows):
        columns["examples"] = lambda row: f"{row['examples']['passing']:,}"
    if any("known" in row for row in rows):
        columns["known to fail"] = lambda row: ", ".join(f"`{k}`" for k in row.get("known", []))
    columns["failed"] = lambda row: str(len(row["failed"]))
    total = sum(row.get("cells", 0) for row in rows)
    note = f"{total:,} cells in all." if total else "Examples that Hypothesis drew and that passed."
    table = listing(f"Counts of {suite.title.lower()}", note, columns, rows)
    return section(suite.title, [suite.text, _measured(result)], {}, failed, [table])


def _coverage(result: Row) -> str:
    rows = result["rows"]
    rooms = []
    for room, files in itertools.groupby(rows, key=lambda row: _room(row["file"])):
        rooms.append({"room": room, **_totals(list(files))})
    rooms.append({"room": "all", **_totals(rows)})
    reached = {
        "room": lambda row: f"`{row['room']}`",
        "lines": "lines",
        "reached": lambda row: percent(1 - row["missed"] / max(row["lines"], 1)),
        "branches": "branches",
        "taken": lambda row: percent(1 - row["untaken"] / max(row["branches"], 1)),
    }
    missed = [row for row in rows if _misses(row)]
    why = {
        "file": lambda row: f"`{row['file']}`",
        "lines": lambda row: _ranges(row["missed_lines"]) or "–",
        "branches": lambda row: ", ".join(_branch(*pair) for pair in row["missed_branches"]) or "–",
        "reason": lambda row: coverage.reason(row["file"]) or "**none given**",
    }
    text = (
        "The default tests, as continuous integration runs them, with branches counted by "
        "coverage.py. Functions that Numba or Triton compiles run outside of its sight; tests "
        "compare them with a plain reference."
    )
    tables = [
        listing("Reached by room", "Statements and branches.", reached, rooms),
        listing(
            "Missed lines and branches",
            "A branch is written as the lines that it joins; “end” leaves the function.",
            why,
            missed,
        ),
    ]
    return section("Branch coverage", [text, _measured(result)], {}, [], tables)


def _room(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _totals(rows: list[Row]) -> Row:
    return {
        "lines": sum(row["lines"] for row in rows),
        "missed": sum(len(row["missed_lines"]) for row in rows),
        "branches": sum(row["branches"] for row in rows),
        "untaken": sum(len(row["missed_branches"]) for row in rows),
    }


def _ranges(lines: list[int]) -> str:
    """Line numbers with neighbours joined: 3, 7-9."""
    runs = []
    for _, run in itertools.groupby(enumerate(lines), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [line for _, line in run]
        runs.append(f"{first}-{rest[-1]}" if rest else str(first))
    return ", ".join(runs)


def _branch(start: int, end: int) -> str:
    return f"{start} to {end if end > 0 else 'end'}"


def _misses(row: Row, *reasons: str | None) -> bool:
    """Tell whether a file has lines or branches that were missed, for one of these reasons."""
    missed = bool(row["missed_lines"] or row["missed_branches"])
    return missed and (not reasons or coverage.reason(row["file"]) in reasons)


def _mutants(result: Row) -> str:
    rows = result["rows"]
    columns = {
        "function": lambda row: f"`{row['function']}`",
        "mutants": "mutants",
        "noticed": "noticed",
        "left": lambda row: str(len(row["survivors"])),
    }
    left = [
        f"`{row['function']}`: {survivor['change']} ({survivor['reason'] or '**no reason given**'})"
        for row in rows
        for survivor in row["survivors"]
    ]
    text = (
        "Small faults (another operator, a number off by one, a condition turned round) put into "
        "the functions that most results go through, one at a time. A mutant is noticed if a "
        "test fails or never ends."
    )
    table = listing("Mutants by function", "Each function with its own tests.", columns, rows)
    listed = [f"Mutants that no test notices, and why:\n\n{items(left)}"] if left else []
    return section("Mutants", [text, _measured(result), *listed], {}, [], [table])


def summary(result: Row) -> Table:
    """Counts of a result, for the terminal: the first columns of its rows."""
    rows = result["rows"]
    if result["suite"] == "coverage":
        rows = [{"room": "all", **_totals(rows)}]
    names = list(dict.fromkeys(key for row in rows for key in row if key != "survivors"))
    shown = {key: (lambda row, key=key: str(row.get(key, "–"))) for key in names}
    return listing(result["suite"], "", shown, rows)


def failures(result: Row) -> list[str]:
    """What failed in a result, or has no explanation."""
    rows = result["rows"]
    if result["suite"] == "coverage":
        unexplained = [f"{row['file']} misses lines" for row in rows if _misses(row, None)]
        return unexplained if result["passed"] else ["a test failed", *unexplained]
    if result["suite"] == "mutants":
        left = [(row["function"], survivor) for row in rows for survivor in row["survivors"]]
        return [f"{name}: {s['change']}" for name, s in left if s["reason"] is None]
    return [name for row in rows for name in row["failed"]]
