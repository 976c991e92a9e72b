"""`python -m benchmarks scale`: compression of points, how it grows, and solves with it."""

import argparse
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.apart import measured_apart
from benchmarks.results import BenchmarkError, Row, rows_as_json, short, write_text
from benchmarks.scale import growth as growth_on_workers
from benchmarks.scale import solve_targets, solves
from benchmarks.scale.peers import PEERS

RESULT = Path(__file__).parents[1] / "results" / "scale.json"
SCHEMA = 2
SIZES = (10_000, 100_000)
#: With --million, where the tolerance is the loosest.
MILLION = 1_000_000
KERNELS, LENGTH, TOLERANCES = ("exponential", "matern32"), 0.1, (1e-3, 1e-4, 1e-6)
#: Largest number of points of the peers, which need more time or memory.
PEER_POINTS = 10_000
#: Time after which a row is given up.
SECONDS_A_ROW = 600
#: Figures whose growth is told.
GROWING = ("seconds", "storage_bytes", "peak_bytes", "entries", "product_seconds")
#: Targets for the exponential kernel at 10⁵ points: seconds, GiB, share of entries, product.
TARGETS = {
    1e-3: (2.5, 0.3, 0.007, 0.03),
    1e-4: (4.0, 0.4, 0.009, 0.04),
    1e-6: (6.0, 0.65, 0.014, 0.055),
}
FIGURES = ("seconds", "storage_bytes", "share_of_entries", "product_seconds")


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the result; 1 if a row has an error above its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of points")
    parser.add_argument("--million", action="store_true", help="also 10^6 points, to 1e-3")
    parser.add_argument("--points", action="append", default=[], help="more points, .npy (n, d)")
    parser.add_argument("--data-dir", help="folder of SuiteSparse matrices, for bcsstk16")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    load = short(os.getloadavg()[0])
    sizes, million, files = _sizes(options.sizes), options.million, options.points
    rows = [_row(case) for case in cases(sizes, million, files)]
    solved = [_row(case) for case in solves.cases(sizes, million, files, options.data_dir)]
    shared = [_row(case) for case in growth_on_workers.cases(sizes)]
    result = {
        "schema": SCHEMA,
        "command": command_line(options),
        "machine": machine.facts(),
        # Processes that wanted a core when the measurement began; above `cores`, times are long.
        "load": load,
        "growth": growth(rows),
        "targets": targets(rows),
        "solves": solve_targets.targets(solved),
        "rows": [*rows, *solved, *shared],
    }
    write_text(options.output, rows_as_json(result))
    print(f"wrote {options.output.name}")
    return int(any(row.get("bound", 0.0) > row["tol"] for row in rows))


def command_line(options: argparse.Namespace) -> str:
    """The command of a run, with files and folders by their names alone."""
    words = ["python", "-m", "benchmarks", "scale", "--sizes", options.sizes]
    words += ["--million"] * options.million
    for path in options.points:
        words += ["--points", Path(path).name]
    if options.data_dir is not None:
        words += ["--data-dir", Path(options.data_dir).name]
    return shlex.join(words)


def _sizes(text: str) -> list[int]:
    try:
        return [int(float(size)) for size in text.split(",")]
    except ValueError:
        raise BenchmarkError(f"--sizes {text!r}; expected numbers, such as 1e4,1e5") from None


def cases(sizes: Sequence[int], million: bool, files: Sequence[str]) -> list[dict[str, Any]]:
    """All measurements, in order; peers follow the row whose storage they get."""
    found = []
    for kernel in KERNELS:
        for tol in TOLERANCES:
            for n in [*sizes, *([MILLION] if million and tol == max(TOLERANCES) else [])]:
                found.append(_case("square", n, kernel, tol))
                if n <= PEER_POINTS:
                    found += [found[-1] | {"peer": peer} for peer in PEERS]
    found += [_case("cube", n, "exponential", 1e-3) for n in sizes]
    found += [_case("earthquakes", 1706, "exponential", 1e-3)]
    # Few pairs of points are far apart in eight dimensions.
    found += [_case("8-D", min(sizes), kernel, 1e-3) for kernel in ("exponential", "gaussian")]
    return found + [_case(path, 10**7, "matern32", 1e-4) for path in files]


def _case(points: str, n: int, kernel: str, tol: float) -> dict[str, Any]:
    length = 1.0 if points == "8-D" else LENGTH
    return {
        "points": points, "n": n, "kernel": kernel, "length": length, "tol": tol,
        "kind": "hierarchical",
    }  # fmt: skip


_storage: dict[tuple[Any, ...], int] = {}


def _row(case: dict[str, Any]) -> Row:
    """Figures of a case from a process of its own."""
    key = tuple(case[name] for name in ("points", "n", "kernel", "tol"))
    given = case if "task" in case else case | {"storage": _storage.get(key, 0) / 8}
    load = {"load": short(os.getloadavg()[0])}
    figures = measured_apart("benchmarks.scale.row", given, SECONDS_A_ROW) | load
    if "storage_bytes" in figures:
        _storage.setdefault(key, figures["storage_bytes"])
    shown = case | {"points": Path(case["points"]).name}
    shown.pop("folder", None)
    print("  ".join(f"{value}" for value in (shown | figures).values()), flush=True)
    return shown | figures


def growth(rows: Sequence[Row]) -> list[Row]:
    """Exponents p of figures that grow as n^p, between the smallest and the largest n."""
    series: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if "peer" not in row and "note" not in row:
            key = row["points"], row["kernel"], row["tol"]
            series.setdefault(key, []).append(row)
    found = []
    for (points, kernel, tol), own in series.items():
        own.sort(key=lambda row: row["n"])
        first, last = own[0], own[-1]
        if first["n"] < last["n"]:
            found.append({"points": points, "kernel": kernel, "tol": tol} | _powers(first, last))
    return found


def _powers(first: Row, last: Row) -> Row:
    times = math.log(last["n"] / first["n"])
    return {
        name: short(math.log(max(last[name], 1e-9) / max(first[name], 1e-9)) / times)
        for name in GROWING
    }


def targets(rows: Sequence[Row]) -> list[Row]:
    """Targets of the exponential kernel at 10⁵ points in the square, and which were met."""
    found = []
    for row in rows:
        mine = row["points"] == "square" and row["kernel"] == "exponential" and row["n"] == 100_000
        if mine and "peer" not in row and "note" not in row:
            wanted = TARGETS[row["tol"]]
            limits = (wanted[0], wanted[1] * 2**30, wanted[2], wanted[3])
            pairs = zip(FIGURES, limits, strict=True)
            found.append({"tol": row["tol"]} | {name: row[name] <= most for name, most in pairs})
    return found
