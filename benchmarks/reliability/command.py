"""`python -m benchmarks reliability SUITE… | report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability import coverage, mutants, page, suites
from benchmarks.results import rows_as_json, write_text

#: Suites that are more than one run of pytest.
MEASURED = {"coverage": coverage.run, "mutants": mutants.run}
RESULTS_FOLDER = Path(__file__).parents[1] / "results" / "reliability"


def main(arguments: Sequence[str]) -> int:
    """Run suites and write their results; 1 if a test failed or something is not explained."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    failures = []
    for name in options.suite:
        if name == "report":
            print(f"wrote {page.write_page(options.output).name}")
            continue
        print(f"{name}: minutes to an hour on two cores", flush=True)
        result = MEASURED[name]() if name in MEASURED else suites.run(name)
        write_text(options.output / f"{name}.json", rows_as_json(result))
        print(page.summary(result).text(), flush=True)
        failures += page.failures(result)
    for failure in failures:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks reliability", description=__doc__)
    parser.add_argument(
        "suite",
        nargs="+",
        choices=[*suites.SUITES, *MEASURED, "report"],
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
