"""The page docs/develop/reliability.md, from the result files alone."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.reliability import coverage, mutants
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
tests. Counts come from the result files in `benchmarks/results/reliability`. `coverage` and
`mutants` need the tools of the dependency group `reliability`:

```console
$ python -m pip install -c constraints.txt -e . --group reliability
$ python -m benchmarks reliability products operands nan files kills lines recovery
$ python -m benchmarks reliability invariants costly coverage mutants
$ python -m benchmarks reliability report
```

## Faults that these tries found

Each was mended, and a test holds it.

- A masked array lost its mask as an operand and as contents: the masked entries were multiplied.
- Functions of NumPy took a matrix for an object: `np.kron(A, A)` was the product `A @ A`, and
  `np.dot`, `np.block` and `np.hstack` made arrays of objects.
- In 20 of 300 random small matrices, `compress` to a structure was worse than to one that the
  structure contains.
- A matrix of 60 blocks of four shapes came back with an error of 0.39 at its own cost.
- A tile of low rank with an empty side kept blocks that multiply nothing, as a GBLR matrix.
- Second derivatives through layers that learn were zero, and state dicts had no structure.
- Fixed layers multiplied by what they had remembered after writes through `parameter.data`, and in
  replicas of `DataParallel`.
- One wrong bit in the header of an archive loaded a matrix of another shape, and wrong bits in a
  file of a model loaded other weights.
- The structure in `config.json` of a pretrained model was believed: every length that it inflated
  to, the shapes that it claimed, and other numbers with a right checksum.
- Runs whose widths add up to more than 64 bits hold loaded as a matrix without contents.
- A copy of a network in training had no gradients of its widths any more.
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
    for key, heading in (("cells", "cells"), ("refused", "of them refused")):
        if any(key in row for row in rows):
            columns[heading] = lambda row, key=key: f"{row[key]:,}" if key in row else "–"
    if any("worst" in row for row in rows):
        columns["worst"] = lambda row: number(row.get("worst"), 3)
    if any("examples" in row for row in rows):
        columns["examples"] = lambda row: (
            f"{row['examples']['passing']:,}" if "examples" in row else "–"
        )
    if any("known" in row for row in rows):
        columns["known to fail"] = lambda row: ", ".join(f"`{k}`" for k in row.get("known", []))
    columns["failed"] = lambda row: str(len(row["failed"]))
    total = sum(row.get("cells", 0) for row in rows)
    note = f"{total:,} cells in all." if total else "Examples that Hypothesis drew and that passed."
    table = listing(f"Counts of {suite.title.lower()}", note, columns, rows)
    return section(suite.title, [suite.text, _measured(result)], failed, [table])


def _coverage(result: Row) -> str:
    rows = result["rows"]
    ordered = sorted(rows, key=lambda row: _room(row["file"]))
    rooms = [
        {"room": room, **_totals(list(files))}
        for room, files in itertools.groupby(ordered, key=lambda row: _room(row["file"]))
    ]
    rooms.append({"room": "all", **_totals(rows)})
    columns = {
        "room": lambda row: f"`{row['room']}`",
        "lines": "lines",
        "reached": lambda row: percent(1 - row["missed"] / max(row["lines"], 1)),
        "branches": "branches",
        "taken": lambda row: percent(1 - row["untaken"] / max(row["branches"], 1)),
        "compiled": "compiled",
    }
    text = (
        "The default tests, as continuous integration runs them, with branches counted by "
        "coverage.py, in subprocesses as well. Functions that Numba or Triton compiles run out of "
        "its sight: their lines are in the last column alone, and tests compare them with a "
        "reference in plain Python."
    )
    tables = [
        listing("Reached by room", "Statements and branches.", columns, rooms),
        Table("Missed lines and branches", _missed(rows), [], []),
    ]
    return section("Branch coverage", [text, _measured(result)], [], tables)


def _missed(rows: list[Row]) -> str:
    """List of what was missed: functions by reason, so that each reason is read once."""
    places: dict[str, list[str]] = {}
    for row, part, why in _parts(rows):
        name = ": ".join(filter(None, (row["file"].removeprefix("structmat/"), part["function"])))
        places.setdefault(why or "**No reason given**", []).append(f"`{name}` ({_where(part)})")
    listed = [f"{why}: {', '.join(names)}." for why, names in sorted(places.items())]
    head = "Why lines were missed, and branches, which are written as the lines that they join:"
    return f"{head}\n\n{items(listed)}" if listed else "No line and no branch was missed."


def _parts(rows: list[Row]) -> Iterator[tuple[Row, Row, str | None]]:
    """Functions with missed lines or branches: the file's row, the function's, and the reason."""
    for row in rows:
        for part in row["missed"]:
            yield row, part, coverage.reason(row["file"], part["function"])


def _room(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _totals(rows: list[Row]) -> Row:
    missed = [part for row in rows for part in row["missed"]]
    return {
        "lines": sum(row["lines"] for row in rows),
        "missed": sum(len(part["lines"]) for part in missed),
        "branches": sum(row["branches"] for row in rows),
        "untaken": sum(len(part["branches"]) for part in missed),
        "compiled": sum(row["compiled"] for row in rows),
    }


def _where(part: Row) -> str:
    """Missed lines with neighbours joined, and the branches that lead to none of them."""
    lines, runs = part["lines"], []
    for _, run in itertools.groupby(enumerate(lines), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [line for _, line in run]
        runs.append(f"{first}-{rest[-1]}" if rest else str(first))
    for start, end in part["branches"]:
        if start not in lines and end not in lines:
            runs.append(f"{start} to {end if end > 0 else 'the end'}")
    return ", ".join(runs)


def _mutants(result: Row) -> str:
    rows = result["rows"]
    columns = {
        "function": lambda row: f"`{row['function']}`",
        "mutants": "mutants",
        "noticed": "noticed",
        "left": lambda row: str(len(row["survivors"])),
    }
    left = [
        f"`{name}`: `{change}` ({why or '**no reason given**'})"
        for name, change, why in _survivors(rows)
    ]
    text = (
        "Small faults (another operator, a number off by one, a condition turned round) put into "
        "the functions that most results go through, one at a time. A mutant is noticed if a "
        "test fails or never ends."
    )
    table = listing("Mutants by function", "Each function with its own tests.", columns, rows)
    listed = [f"Mutants that no test notices, and why:\n\n{items(left)}"] if left else []
    return section("Mutants", [text, _measured(result), *listed], [], [table])


def _survivors(rows: Sequence[Row]) -> Iterator[tuple[str, str, str | None]]:
    """Functions, the changes in them that no test noticed, and why."""
    for row in rows:
        for survivor in row["survivors"]:
            name, change = row["function"], survivor["change"]
            yield name, change, mutants.reason(name, change)


def summary(result: Row) -> Table:
    """Counts of a result, for the terminal: the first columns of its rows."""
    rows = result["rows"]
    if result["suite"] == "coverage":
        rows = [{"room": "all", **_totals(rows)}]
    names = list(dict.fromkeys(key for row in rows for key in row if key != "survivors"))
    shown = {key: (lambda row, key=key: str(row.get(key, "–"))) for key in names}
    return listing(result["suite"], "", shown, rows)


def failures(result: Row) -> list[str]:
    """Failures in a result, and gaps without an explanation."""
    rows = result["rows"]
    if result["suite"] == "coverage":
        unexplained = [
            f"{row['file']}: {part['function']} misses {_where(part)}"
            for row, part, why in _parts(rows)
            if why is None
        ]
        return [*result["failed"], *unexplained]
    if result["suite"] == "mutants":
        return [f"{name}: {change}" for name, change, why in _survivors(rows) if why is None]
    return [name for row in rows for name in row["failed"]]
