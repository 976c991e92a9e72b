"""`python -m benchmarks gp`: Gaussian processes on held-out points, beside other libraries."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.apart import measured_apart
from benchmarks.gp.gpytorch_models import EXACT_STEPS, INDUCING, STEPS
from benchmarks.gp.libraries import LIBRARIES, MOST
from benchmarks.gp.places import START, TRUE
from benchmarks.results import BenchmarkError, Row, rows_as_json, short, write_text

RESULT = Path(__file__).parents[1] / "results" / "gp.json"
SCHEMA = 1
SIZES = (4096, 33_109, 100_000)
#: Number of points of the catalogue, and of a file with fewer.
EARTHQUAKES, ALL = 1706, 10**7
#: Numbers of points at which the ways to a gradient are compared.
GRADIENT_POINTS = 40_000
#: Time after which a row is given up.
SECONDS_A_ROW = 300.0
#: Rows by structmat, and rows that the earthquakes do not have.
OWN, LEFT_OUT = (
    ("structmat", "true parameters"),
    ("true parameters", "gpytorch, inducing points"),
)
#: Packages beside those that every result names.
PEERS = ("george", "gpytorch")


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gp", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of points")
    parser.add_argument("--points", action="append", default=[], help="more points, .npy (n, d)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS_A_ROW, help="most seconds of a row"
    )
    parser.add_argument("--without-peers", action="store_true", help="structmat alone")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    load = short(os.getloadavg()[0])
    chosen = cases(_sizes(options.sizes), options.points, peers=not options.without_peers)
    rows = [_row(case, options.seconds) for case in chosen]
    facts = machine.facts()
    facts["peers"] |= {name: machine.version(name) for name in PEERS}
    result = {
        "schema": SCHEMA,
        "command": command_line(options),
        "machine": facts,
        # Processes that wanted a core when the measurement began; above `cores`, times are long.
        "load": load,
        "settings": {
            "true": TRUE,
            "start": START,
            "evaluations": MOST,
            "seconds": options.seconds,
            "steps": EXACT_STEPS,
            "inducing": INDUCING,
            "batches": STEPS,
        },
        "rows": rows,
    }
    write_text(options.output, rows_as_json(result))
    print(f"wrote {options.output.name}")
    return 0


def command_line(options: argparse.Namespace) -> str:
    """The command of a run, with files by their names alone."""
    words = ["python", "-m", "benchmarks", "gp", "--sizes", options.sizes]
    words += ["--seconds", f"{options.seconds:g}"]
    for path in options.points:
        words += ["--points", Path(path).name]
    return shlex.join(words + ["--without-peers"] * options.without_peers)


def _sizes(text: str) -> list[int]:
    try:
        return [int(float(size)) for size in text.split(",")]
    except ValueError:
        raise BenchmarkError(f"--sizes {text!r}; expected numbers, such as 4096,1e5") from None


def cases(sizes: Sequence[int], files: Sequence[str], *, peers: bool = True) -> list[Row]:
    """All measurements, in order: structmat at a size, then the libraries that reach it."""
    places = [("earthquakes", EARTHQUAKES), *(("clusters", n) for n in sizes)]
    places += [(path, ALL) for path in files]
    found: list[Row] = []
    for points, n in places:
        real = points == "earthquakes"
        for name, library in LIBRARIES.items():
            reached = n <= library.points or (n == ALL and name == "george")
            wanted = peers or name in OWN
            if reached and wanted and not (real and name in LEFT_OUT):
                found.append({"task": "fit", "points": points, "n": n, "library": name})
        if not real and n <= GRADIENT_POINTS:
            found.append({"task": "gradient", "points": points, "n": n})
    return found


def _row(case: dict[str, Any], seconds: float) -> Row:
    """Figures of a case from a process of its own."""
    figures = measured_apart("benchmarks.gp.row", case, seconds)
    shown = case | {"points": Path(case["points"]).name}
    print("  ".join(f"{value}" for value in (shown | figures).values()), flush=True)
    return shown | figures
