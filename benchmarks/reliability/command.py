"""`python -m benchmarks reliability SUITE… | report`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability import coverage, page, suites
from benchmarks.results import rows_as_json, write_text

RESULTS_FOLDER = Path(__file__).parents[1] / "results" / "reliability"


def main(arguments: Sequence[str]) -> int:
    """Run suites and write their results; 1 if a test failed."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.suite:
        if name == "report":
            print(f"wrote {page.write_page(options.output).name}")
            continue
        print(f"{name}: minutes to an hour on two cores", flush=True)
        result = coverage.run() if name == "coverage" else suites.run(name)
        write_text(options.output / f"{name}.json", rows_as_json(result))
        if name == "coverage":
            for row in coverage.unexplained(result["rows"]):
                print(f"no reason for what is missed in {row['file']}")
            continue
        print(page.summary(result).text(), flush=True)
        failed |= any(row["failed"] for row in result["rows"])
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks reliability", description=__doc__)
    parser.add_argument(
        "suite",
        nargs="+",
        choices=[*suites.SUITES, "coverage", "report"],
        help="the suites to run in turn, or 'report' to write docs/develop/reliability.md",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS_FOLDER,
        metavar="DIR",
        help="folder of the result files (default: benchmarks/results/reliability)",
    )
    return parser
