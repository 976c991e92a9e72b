"""`python -m benchmarks gpu`: check and measure everything on a GPU, in under eight minutes."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import child
from benchmarks.gpu.facts import check_gpu, facts
from benchmarks.gpu.parts import PARTS, TOTAL_SECONDS, measure, share
from benchmarks.gpu.session import Session
from benchmarks.gpu.tables import gpu_tables
from benchmarks.micro.suites import Suite, write
from benchmarks.results import BenchmarkError, Row

RESULTS_FOLDER = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str]) -> int:
    """Run every part; 0 if every check passed, 1 if not."""
    if arguments and arguments[0] == "tune":
        from benchmarks.gpu import tune  # it needs torch

        return tune.main(arguments[1:])
    if arguments and arguments[0] == "counts":
        from benchmarks.gpu import counts

        return counts.main(arguments[1:])
    options = _parser().parse_args(arguments)
    _check(options)
    folder = None if options.tiny else options.output or RESULTS_FOLDER
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if not options.tiny:
        # As an exception, so that an end from outside also writes what there is.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    result = run(options.device, options.tiny, folder)
    if options.tiny:
        print("\nThese are toy sizes: no figure and no verdict below means anything.\n")
    print("\n\n".join(table.text() for table in gpu_tables(result["rows"])))
    if folder is not None:
        print(f"\nwrote {folder / 'gpu.json'}")
    for failure in result["failures"]:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if result["failures"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="toy sizes, which walk through every part: their figures mean nothing and are "
        "written nowhere",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of gpu.json (default: benchmarks/results)",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.device == "cpu" and not options.tiny:
        raise BenchmarkError(
            "--device cpu has nothing to measure here; expected --tiny with it, which walks "
            "through every part (measure a CPU by python -m benchmarks all)"
        )
    if options.tiny and options.output is not None:
        raise BenchmarkError(
            f"--output {options.output} with --tiny, whose figures are written nowhere; expected "
            "one of the two"
        )
    if options.device == "cuda":
        check_gpu()


def run(device: str, tiny: bool, folder: Path | None, seconds: float = TOTAL_SECONDS) -> Row:
    """Measure all parts, and write the result after each into a folder, if there is one.

    Toy sizes run in this process, others in a process for each part.
    """
    begin = time.monotonic()
    suite, about = Suite("gpu", [0]), facts(device)

    def put(row: Row) -> None:
        if "failure" in row:
            suite.failures.append(row["failure"])
        else:
            suite.rows.append(row)

    def finished() -> Row:
        words = ["python", "-m", "benchmarks", "gpu", *["--tiny"] * tiny]
        passed = time.monotonic() - begin
        result = suite.finished(quick=tiny, command=" ".join(words), seconds=passed)
        return result | {"machine": about}

    for name in PARTS:
        own = share(name, seconds - (time.monotonic() - begin))
        print(f"{name}: at most {own:.0f} s", flush=True)
        failed = len(suite.failures)
        if tiny:
            measure(Session(name, device, tiny, time.monotonic() + own, put))
            continue
        try:
            child.apart(name, device, tiny, own, put)
        finally:  # rows of a part that was interrupted are there as well
            if folder is not None:
                write(folder, finished())
            for failure in suite.failures[failed:]:
                print(f"  {failure}", flush=True)
    return finished()
