"""`python -m benchmarks paper`: measure for the pages on the paper, or write their tables."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.paper.tables import SCHEMA, TABLES
from benchmarks.reporting.page import DOCS
from benchmarks.results import BenchmarkError, Row, rows_as_json, short, write_text

RESULTS = Path(__file__).parents[1] / "results"
PAGES = DOCS / "paper"
#: A table's place on a page, with its name, and its end.
PLACE = re.compile(
    r"(<!-- table (?P<name>[\w-]+), by `python -m benchmarks paper report` -->\n).*?"
    r"(<!-- end of the table -->)",
    re.DOTALL,
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paper", description=__doc__)
    parser.add_argument("what", choices=("run", "report"), help="measure, or write the tables")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "paper.json")
    options = parser.parse_args(arguments)
    if options.what == "run":
        write_text(options.output, rows_as_json(measured()))
        print(f"wrote {options.output.name}")
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (now := with_tables(text)) != text:
            write_text(page, now)
            print(f"wrote {page.name}")
    return 0


def measured() -> Row:
    """Content of the result file."""
    try:
        import torch

        from benchmarks.paper import measure
        from benchmarks.paper.planted import planted
        from benchmarks.paper.subspaces import subspaces
    except ImportError as missing:
        raise BenchmarkError(
            f"{missing.name} is not installed; install it with pip install 'structmat[torch]'"
        ) from None
    torch.manual_seed(0)
    busy = short(os.getloadavg()[0])
    rows = [*measure.transforms(), *measure.decompositions(), *measure.starts(), *subspaces()]
    rows += planted()
    return {
        "schema": SCHEMA,
        "command": "python -m benchmarks paper run",
        "machine": machine.facts(),
        # Processes that wanted a core when it began; seconds are those of the processor.
        "load": busy,
        "rows": rows,
    }


def with_tables(text: str) -> str:
    """Page with the present tables in their places.

    Raises
    ------
    BenchmarkError
        If a place names no table.
    """

    def table(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in TABLES:
            raise BenchmarkError(f"no table {name!r}; expected one of {', '.join(TABLES)}")
        return f"{place[1]}{TABLES[name](RESULTS)}\n{place[3]}"

    return PLACE.sub(table, text)
