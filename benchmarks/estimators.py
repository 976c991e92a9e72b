"""structmat's estimators beside scikit-learn's own, of the same parameters, in one run.

`python -m benchmarks estimators run` measures and keeps the figures (with `--data-dir DIR` also on
measured points); `python -m benchmarks estimators report` writes the tables into the guide. One
case, in a process of its own: ``python -m benchmarks.estimators CASE``.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.apart import answer, measured_apart
from benchmarks.learn import placed
from benchmarks.micro import data
from benchmarks.reporting.names import named
from benchmarks.reporting.tables import listing, number
from benchmarks.results import Row, load, rows_as_json, short, write_text
from benchmarks.scale.places import peak, points_of

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "estimators.json"
PAGE = ROOT / "docs" / "guide" / "scikit_learn.md"
#: Lines around the tables on the page.
BEGIN = "<!-- figures of estimators, by `python -m benchmarks estimators report` -->"
END = "<!-- end of these figures -->"
SCHEMA = 1
KEYS = ("schema", "command", "machine", "rows")
SECONDS_A_ROW = 240.0
#: Points, kernel and its length, number of points, features or shift. scikit-learn knows the
#: Gaussian kernel in both classes.
FEATURES = (
    ("earthquakes", 0.05, 1706, 50), ("earthquakes", 0.05, 1706, 200),
    ("susy", 4.0, 8000, 50), ("susy", 4.0, 8000, 200),
)  # fmt: skip
REGRESSIONS = (
    ("square", "gaussian", 0.1, 2000), ("square", "gaussian", 0.1, 8000),
    ("square", "matern32", 0.1, 8000), ("square", "matern32", 0.1, 32_000),
    ("susy", "gaussian", 4.0, 8000), ("zip codes", "matern32", 0.1, 32_000),
)  # fmt: skip
ALPHA = 0.1
#: Points at which predictions are compared.
COMPARED = 500
#: Most points for which scikit-learn's matrix is formed here.
DENSE_POINTS = 8000


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimators", description=__doc__)
    parser.add_argument("what", choices=("run", "report"), help="measure, or write the tables")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with point sets")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if options.what == "run":
        write_text(options.output, rows_as_json(measured(options.data_dir)))
        print(f"wrote {options.output.name}")
    text = tables(load(RESULT, SCHEMA, KEYS))
    write_text(PAGE, placed(PAGE.read_text(encoding="utf-8"), text, PAGE.name, BEGIN, END))
    print(f"wrote {PAGE.name}")
    return 0


def measured(folder: Path | None) -> Row:
    """Content of the result file."""
    busy = short(os.getloadavg()[0])
    rows = []
    for case in cases(folder):
        found = measured_apart("benchmarks.estimators", case, SECONDS_A_ROW)
        shown = {key: value for key, value in case.items() if key != "folder"}
        print("  ".join(map(str, (shown | found).values())), flush=True)
        rows.append(shown | found)
    return {
        "schema": SCHEMA,
        "command": f"python -m benchmarks estimators run{' --data-dir DIR' if folder else ''}",
        "machine": machine.facts(),
        # Processes that wanted a core when it began; seconds are those of the processor.
        "load": busy,
        "rows": rows,
    }


def cases(folder: Path | None) -> list[Row]:
    """All measurements, without those whose points are not at hand."""
    where = None if folder is None else str(folder)
    found: list[Row] = [
        {"task": "features", "points": p, "kernel": "gaussian", "length": s, "n": n, "k": k}
        for p, s, n, k in FEATURES
    ]
    found += [
        {"task": "regression", "points": p, "kernel": kernel, "length": s, "n": n}
        for p, kernel, s, n in REGRESSIONS
    ]
    measured_points = ("susy", "zip codes")
    return [c | {"folder": where} for c in found if folder or c["points"] not in measured_points]


def one(case: Row) -> Row:
    """Figures of one case."""
    points = places(case["points"], case["n"], case["folder"])
    return (_features if case["task"] == "features" else _regression)(case, points)


def places(name: str, n: int, folder: str | None) -> NDArray[np.float64]:
    """Points by name, in double precision; those of the folder are scaled."""
    if name not in ("susy", "zip codes"):
        return np.asarray(points_of(name, n), np.float64)
    found = data.find(Path(str(folder)))
    if name == "susy":
        x = np.load(found / "susy_10k.npz")["x_train"][:n].astype(np.float64)
        return (x - x.mean(0)) / x.std(0)
    stored = np.load(found / "points_us_zipcodes.npz")
    p = stored["latlon"][stored["contiguous_us"]][:n].astype(np.float64)
    return (p - p.min(0)) / np.ptp(p, axis=0).max()


def _features(case: Row, X: NDArray) -> Row:
    """Errors of the kernel matrix by both transformers, and their times."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.metrics.pairwise import rbf_kernel

    from structmat.sklearn import KernelFeatures

    gamma = 1 / (2 * case["length"] ** 2)
    K = rbf_kernel(X, gamma=gamma)
    own = KernelFeatures(length=case["length"], n_components=case["k"], random_state=0)
    other = Nystroem(gamma=gamma, n_components=case["k"], random_state=0)
    found: Row = {}
    for name, transformer in (("own", own), ("scikit-learn", other)):
        transformer.fit(X[:300])  # compiles and warms up
        seconds, F = _timed(lambda t=transformer: t.fit_transform(X))
        found[f"{name} error"] = short(float(np.linalg.norm(K - F @ F.T) / np.linalg.norm(K)))
        found[f"{name} seconds"] = short(seconds)
    return found


def _regression(case: Row, X: NDArray) -> Row:
    """Times of both regressors, and the difference of their predictions."""
    from structmat.sklearn import KernelRidge

    rng = np.random.default_rng(0)
    y = np.sin(9 * X[:, 0]) * X[:, 1] + 0.1 * rng.standard_normal(len(X))
    model = KernelRidge(case["kernel"], length=case["length"], alpha=ALPHA)
    some = slice(None, 2200)
    model.fit(X[some], y[some])  # compiles and warms up
    before = peak()
    seconds, _ = _timed(lambda: model.fit(X, y))
    found: Row = {
        "own seconds": short(seconds),
        "own bytes": peak() - before,
        "residual": short(model.residual_),
        "method": model.method_,
    }
    if len(X) <= DENSE_POINTS:
        found |= _beside(case, X, y, model.predict(X[:COMPARED]))
    return found


def _beside(case: Row, X: NDArray, y: NDArray, predicted: NDArray) -> Row:
    """Time of scikit-learn's regressor on the matrix of the same kernel, and what both predict."""
    from sklearn.gaussian_process.kernels import RBF, Matern
    from sklearn.kernel_ridge import KernelRidge

    length = case["length"]
    kernel = RBF(length) if case["kernel"] == "gaussian" else Matern(length, nu=1.5)
    before = peak()
    seconds, model = _timed(
        lambda: KernelRidge(alpha=ALPHA, kernel="precomputed").fit(kernel(X), y)
    )
    difference = np.linalg.norm(model.predict(kernel(X[:COMPARED], X)) - predicted)
    return {
        "scikit-learn seconds": short(seconds),
        "scikit-learn bytes": peak() - before,
        "difference": short(float(difference / np.linalg.norm(predicted))),
    }


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    found = call()
    return time.process_time() - begin, found


def tables(result: Row) -> str:
    """Both tables of a result in Markdown, with a line on the machine."""
    rows, facts = result["rows"], result["machine"]
    features = listing(
        "",
        "Features: relative error of the kernel matrix, and seconds.",
        {
            "points": _points,
            "features": "k",
            "error": lambda row: number(row["own error"]),
            "scikit-learn's": lambda row: number(row["scikit-learn error"]),
            "seconds": lambda row: number(row["own seconds"]),
            "scikit-learn's seconds": lambda row: number(row["scikit-learn seconds"]),
        },
        [row for row in rows if row["task"] == "features"],
    )
    regression = listing(
        "",
        "Regression: seconds of `fit`, memory beside the points, and the relative difference of "
        "500 predictions.",
        {
            "points": _points,
            "kernel": lambda row: named(row["kernel"]),
            "solved by": lambda row: row.get("method", row.get("note", "–")),
            "seconds": lambda row: number(row.get("own seconds")),
            "GiB": lambda row: _gib(row, "own bytes"),
            "scikit-learn's seconds": lambda row: number(row.get("scikit-learn seconds")),
            "GiB of it": lambda row: _gib(row, "scikit-learn bytes"),
            "difference": lambda row: number(row.get("difference")),
        },
        [row for row in rows if row["task"] == "regression"],
    )
    note = (
        f"Measured on {facts['date']}; seconds of one processor. {facts['cpu']}, structmat "
        f"{facts['structmat']}, scikit-learn {facts['peers']['scikit-learn']}."
    )
    return f"{features.body()}\n{regression.body()}\n{note}"


def _points(row: Row) -> str:
    return f"{named(row['points'])}, {row['n']:,}"


def _gib(row: Row, key: str) -> str:
    return number(row[key] / 2**30) if key in row else "–"


if __name__ == "__main__":
    answer(one)
