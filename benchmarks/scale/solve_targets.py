"""Targets of solves and determinants, and which were met."""

from collections.abc import Sequence

from benchmarks.results import Row, short
from benchmarks.scale.equal import times
from benchmarks.scale.solves import RTOL, SPECTRA

#: Targets: seconds of a solve and of a determinant at 10⁵ points, of a solve at 10⁶.
SOLVE_SECONDS, LOGDET_SECONDS, MILLION_SECONDS = 20.0, 40.0, 360.0
#: Target: error of a determinant over n.
LOGDET_ERROR = 1e-5
#: Targets: times faster than the many steps of a decaying spectrum, and preconditioned iterations.
WOODBURY_TIMES, ITERATIONS = 50.0, 15
#: Targets: times faster than george, by the number of points.
GEORGE_TIMES = {4096: 5.0, 33_000: 10.0}
Limits = list[tuple[str, float, float]]


def targets(rows: Sequence[Row]) -> list[Row]:
    """Each figure that has a target, with the target, and whether it is met."""
    done = [row for row in rows if "note" not in row]
    found = []
    for row in done:
        for name, value, limit in _limits(row):
            least = name.endswith("times")
            met = value >= limit if least else value <= limit
            place = {key: row[key] for key in ("task", "points", "n", "kernel")}
            found.append(
                place | {"figure": name, "value": short(value), "target": limit, "met": met}
            )
    return found


def _limits(row: Row) -> Limits:
    """Figures of a row that have a target, with their targets."""
    task, n = row["task"], row["n"]
    if "peer" in row:
        return []
    if task == "equal":
        return _faster(row)
    if task == "woodbury":
        faster = ("times", row["cg_seconds"] / row["seconds"], WOODBURY_TIMES)
        return [faster] * (row["kernel"] == min(SPECTRA, key=lambda name: SPECTRA[name]))
    if task == "preconditioner":
        return [("iterations", row["iterations"], ITERATIONS)]
    found: Limits = []
    if n >= 100_000 and task == "solve":
        found.append(("seconds", row["seconds"], MILLION_SECONDS if n >= 10**6 else SOLVE_SECONDS))
    if task == "solve":
        found.append(("residual", row["residual"], RTOL))
    if task == "logdet":
        found.append(("difference", row["difference"], LOGDET_ERROR))
        found += [("seconds", row["seconds"], LOGDET_SECONDS)] * (n >= 100_000)
    return found


def _faster(row: Row) -> Limits:
    """George's seconds over those here at equal accuracy, where a target has that many points."""
    limits = [least for n, least in sorted(GEORGE_TIMES.items()) if row["n"] >= n]
    return [("times", times(row, "solve"), limits[-1])] if limits else []
