"""Command line: `python -m benchmarks [SUITE|all|report]`, or a command with words of its own, such
as `scale …`; without arguments the list of them."""

import argparse
import importlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import estimators, learn
from benchmarks.experiments import command as experiments
from benchmarks.gp import command as gp
from benchmarks.gpu import command as gpu
from benchmarks.micro import data, report
from benchmarks.micro.suites import write
from benchmarks.overview import overview
from benchmarks.paper import command as paper
from benchmarks.reliability import command as reliability
from benchmarks.results import BenchmarkError
from benchmarks.scale import command as scale

SUITES = tuple(report.SUITES)
RESULTS_FOLDER = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if every check passed, 1 if not, 2 for bad arguments."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    commands = {
        "estimators": estimators.main,
        "experiments": experiments.main,
        "gp": gp.main,
        "gpu": gpu.main,
        "hugging_face": _late("hugging_face"),
        "learn": learn.main,
        "paper": paper.main,
        "reliability": reliability.main,
        "scale": scale.main,
        "tucker": _late("tucker"),
    }
    if arguments and arguments[0] in commands:
        return _checked(commands[arguments[0]], arguments[1:])
    if not arguments:
        print(overview(RESULTS_FOLDER))
        return 0
    options = _parser().parse_args(arguments)
    try:
        if options.suite == "report":
            print(f"wrote {report.write_page(options.output).name}")
            return 0
        _check(options)
        names = list(SUITES) if options.suite == "all" else [options.suite]
        failures = [failure for name in names for failure in _run(name, options)]
    except BenchmarkError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    for failure in failures:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _late(name: str) -> Callable[[Sequence[str]], int]:
    """A command whose module needs torch, and is imported when it is called."""
    return lambda arguments: int(importlib.import_module(f"benchmarks.{name}").main(arguments))


def _checked(run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Another command line; 2 for what the user can put right."""
    try:
        return run(arguments)
    except BenchmarkError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "suite",
        choices=[*SUITES, "all", "report"],
        help="what to measure, or 'report' to write docs/benchmarks.md",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with the point sets and SuiteSparse matrices, for compression",
    )
    parser.add_argument(
        "--seeds", type=_count, default=1, metavar="N", help="use seeds 0 to N - 1 (default: 1)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS_FOLDER,
        metavar="DIR",
        help="folder of the result files (default: benchmarks/results)",
    )
    return parser


def _count(text: str) -> int:
    count = int(text) if text.isdigit() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return count


def _check(options: argparse.Namespace) -> None:
    """Refuse folders now that would fail after minutes."""
    if options.data_dir is not None:
        data.find(options.data_dir)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        probe = options.output / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as reason:
        raise BenchmarkError(
            f"--output {options.output} cannot be written ({reason.strerror}); "
            "give a folder that can"
        ) from None


def _run(name: str, options: argparse.Namespace) -> list[str]:
    """Measure, print and write one suite; its failed checks come back."""
    # Imported here, because some suites need torch.
    module = importlib.import_module(f"benchmarks.micro.{name}")
    plan = module.QUICK if options.quick else module.FULL
    minutes = plan.minutes + (
        data.DATA_MINUTES if options.data_dir and name == "compression" else 0
    )
    minutes *= options.seeds if name == "compression" else 1
    print(f"{name}: about {minutes:.3g} minutes on two cores", flush=True)
    begin = time.perf_counter()
    suite = module.run(plan, range(options.seeds), options.data_dir)
    result = suite.finished(
        quick=options.quick, command=_command(name, options), seconds=time.perf_counter() - begin
    )
    print("\n\n".join(table.text() for table in report.tables(result)))
    print(f"\nwrote {write(options.output, result).name}\n", flush=True)
    return suite.failures


def _command(name: str, options: argparse.Namespace) -> str:
    """Command that repeats the suite, without the folders of this machine."""
    words = ["python", "-m", "benchmarks", name]
    words += ["--quick"] * options.quick
    words += ["--data-dir", "DIR"] * (options.data_dir is not None and name == "compression")
    words += ["--seeds", str(options.seeds)] * (options.seeds != 1)
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
