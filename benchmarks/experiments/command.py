"""`python -m benchmarks experiments run CONFIG | table | plot | report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments import config, runner
from benchmarks.experiments.report.tables import tables
from benchmarks.experiments.samples import read
from benchmarks.results import BenchmarkError

RESULTS_FOLDER = Path(__file__).parents[1] / "results" / "experiments"
STATES_FOLDER = Path("structmat_experiments")


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    options = _parser().parse_args(arguments)
    if options.what == "run":
        return _run(options)
    if options.what == "report":
        # Imported here, because pictures need matplotlib.
        from benchmarks.experiments.report import page

        print(f"wrote {page.write(options.output).name}")
        return 0
    for result in _results(options.output, options.config):
        if options.what == "table":
            print("\n\n".join([result["config"]["title"], *(t.text() for t in tables(result))]))
            print()
            continue
        from benchmarks.experiments.report import figures

        for name in figures.write(result, options.to):
            print(f"wrote {options.to / name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks experiments", description=__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS_FOLDER,
        metavar="DIR",
        help="folder of the result files (default: benchmarks/results/experiments)",
    )
    commands = parser.add_subparsers(dest="what", required=True)
    names = ", ".join(sorted(file.stem for file in config.CONFIGS.glob("*.toml")))
    run = commands.add_parser("run", help="train and measure the runs that are missing")
    run.add_argument("config", metavar="CONFIG", help=f"{names}, or the path of a TOML file")
    run.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder with the data; nothing is downloaded"
    )
    run.add_argument(
        "--states",
        type=Path,
        default=STATES_FOLDER,
        metavar="DIR",
        help=f"folder of unfinished trainings and of trained networks (default: {STATES_FOLDER})",
    )
    run.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="I/N",
        help="every N-th run from the I-th on, for N processes side by side (default: 1/1)",
    )
    run.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where to train: cpu, cuda, cuda:1, auto (default: cpu)",
    )
    run.add_argument(
        "--at-once",
        type=_count,
        default=1,
        metavar="N",
        help="trainings that share the device, each in a process (default: 1)",
    )
    run.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these cases only")
    for name, text in (
        ("table", "print the result files as tables"),
        ("plot", "draw the result files"),
        ("report", "write docs/evidence.md"),
    ):
        command = commands.add_parser(name, help=text)
        if name != "report":
            command.add_argument("config", metavar="NAME", nargs="*", help="all, if none is given")
        if name == "plot":
            command.add_argument("--to", type=Path, default=Path(), metavar="DIR")
    return parser


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N with I from 1 to N, such as 1/2")
    return int(first), int(last)


def _run(options: argparse.Namespace) -> int:
    experiment = config.load(options.config)
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise BenchmarkError(
            f"--data-dir {options.data_dir} is no folder; expected one that exists (check its "
            "spelling)"
        )
    places = runner.Places(
        data=options.data_dir,
        results=options.output,
        states=options.states,
        device=options.device,
        at_once=options.at_once,
    )
    path = runner.run(experiment, places, _report, part=options.part, only=options.only)
    print(f"\nwrote {path.name}")
    return 0


def _report(text: str, done: int, total: int) -> None:
    """Show progress: one line, rewritten, on a terminal, and a line a step elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{done}/{total} {text}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{done}/{total} {text}", file=sys.stderr, flush=True)


def _results(folder: Path, names: Sequence[str]) -> list[dict]:
    """Result files by name, or all of a folder."""
    files = [folder / f"{name}.json" for name in names] or sorted(folder.glob("*.json"))
    missing = [file.stem for file in files if not file.is_file()]
    if missing or not files:
        what = f"{', '.join(missing)}: no result" if missing else "no results"
        raise BenchmarkError(
            f"{what} in {folder}; run python -m benchmarks experiments run CONFIG first"
        )
    return [read(file) for file in files]
