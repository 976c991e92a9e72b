"""Tables of the suite "compression"."""

from collections.abc import Iterable

from benchmarks.reporting.tables import Table, left_out, number, percent
from benchmarks.results import Row

KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr")
GROUPS = {
    "table": "Matrices with a known structure, or none",
    "timing": "Matrices of the size of trained weights",
    "shipped": "The kernel matrix that ships with structmat",
    "data": "Real matrices: kernels of point sets, SuiteSparse",
}


def compression_tables(rows: list[Row]) -> list[Table]:
    """Errors at equal cost for each group, then GBLR in detail, then other packages."""
    groups = {row["group"] for row in rows}
    return [
        error_table(group, title, rows) for group, title in GROUPS.items() if group in groups
    ] + [
        gblr_table(rows),
        time_table(rows),
        peer_table(rows),
    ]


def error_table(group: str, title: str, rows: list[Row]) -> Table:
    """One line a matrix and budget, one column a structure."""
    lines, here = [], [row for row in rows if row["group"] == group]
    for key, cells in _cases(here):
        svd = cells["gblr"]["svd_error"]
        errors = [number(cells[kind].get("error")) for kind in KINDS]
        lines.append([key[0], key[1], percent(key[2]), number(svd), *errors])
    return Table(
        title,
        "Relative Frobenius error under one cap on the cost."
        + left_out(
            (row for row in here if row.get("method", "structmat") == "structmat"), "matrix", "kind"
        ),
        ["matrix", "shape", "budget", "truncated SVD", *(k.replace("_", " ") for k in KINDS)],
        lines,
    )


def gblr_table(rows: list[Row]) -> Table:
    """What GBLR was asked and what it did."""
    lines = []
    for key, cells in _cases(rows):
        row = cells["gblr"]
        if "skipped" in row:
            continue
        lines.append(
            [
                key[0],
                key[1],
                percent(key[2]),
                percent(row["cost"]),
                number(row["error"], 3),
                _goal(row["error"], row["target"]),
                number(row["seconds"]),
                _goal(row["seconds"], row["limit"]),
                number(row.get("memory")),
            ]
        )
    return Table(
        "GBLR in detail",
        "Cost used, error and the error to meet, seconds and the seconds to keep, and the "
        "most memory held at once over that of the matrix.",
        ["matrix", "shape", "budget", "cost", "error", "goal", "seconds", "limit", "memory"],
        lines,
    )


def _goal(value: float, goal: float | None) -> str:
    if goal is None:
        return "–"
    return f"{number(goal, 3)}, {'met' if value <= goal else 'missed'}"


def time_table(rows: list[Row]) -> Table:
    """Seconds of every structure."""
    lines = []
    for key, cells in _cases(rows):
        seconds = [number(cells[kind].get("seconds")) for kind in KINDS]
        lines.append([key[0], key[1], percent(key[2]), *seconds])
    return Table(
        "Seconds to compress",
        "Time of the fit alone.",
        ["matrix", "shape", "budget", *(k.replace("_", " ") for k in KINDS)],
        lines,
    )


def peer_table(rows: list[Row]) -> Table:
    """Other packages beside GBLR, or why they are absent."""
    theirs = [row for row in rows if row.get("method", "structmat") != "structmat"]
    lines = []
    for row in theirs:
        if "skipped" in row:
            continue
        ours = next(
            r
            for r in rows
            if (r.get("kind"), r["matrix"], r.get("budget"))
            == ("gblr", row["matrix"], row["budget"])
        )
        lines.append(
            [
                row["matrix"],
                percent(row["budget"]),
                row["method"],
                percent(row["cost"]),
                number(row["error"]),
                number(row["seconds"]),
                number(ours["error"]),
                number(ours["seconds"]),
            ]
        )
    return Table(
        "Against other packages",
        "The same matrix under the same cap. PALM4MSA finds two sparse factors without any "
        "structure, 50 iterations; ksd is tried with every pair of factor sizes."
        + left_out(theirs, "method", "matrix"),
        ["matrix", "budget", "method", "cost", "error", "seconds", "GBLR error", "GBLR seconds"],
        lines,
    )


def _cases(rows: Iterable[Row]) -> list[tuple[tuple[str, str, float], dict[str, Row]]]:
    """Rows of structmat by (matrix, shape, budget), each a mapping of kinds to rows."""
    found: dict[tuple[str, str, float], dict[str, Row]] = {}
    for row in rows:
        if row.get("method") == "structmat":
            key = row["matrix"], "×".join(map(str, row["shape"])), row["budget"]
            found.setdefault(key, {})[row["kind"]] = row
    return list(found.items())
