"""Tables of the suite "compression"."""

from collections.abc import Callable

from benchmarks.reporting.tables import (
    Cell,
    Table,
    budget,
    left_out,
    listing,
    number,
    percent,
    structure,
)
from benchmarks.results import Row
from structmat.kinds import fitted_kinds, kind_record

KINDS = fitted_kinds()
GROUPS = {
    "table": "Matrices with a known structure, or none",
    "timing": "Matrices of the size of trained weights",
    "shipped": "The kernel matrix that ships with structmat",
    "data": "Real matrices: kernels of point sets, SuiteSparse",
}


def compression_tables(rows: list[Row]) -> list[Table]:
    """Errors at equal cost for each group, then GBLR in detail, then other packages."""
    ours = [row for row in rows if row.get("method", "structmat") == "structmat"]
    theirs = [row for row in rows if row.get("method", "structmat") != "structmat"]
    groups = {group: [row for row in ours if row["group"] == group] for group in GROUPS}
    return [
        *(error_table(GROUPS[group], own) for group, own in groups.items() if own),
        gblr_table(_gblr(ours)),
        time_table(ours),
        peer_table(_gblr(ours), theirs),
    ]


def error_table(title: str, rows: list[Row]) -> Table:
    """One line a matrix and budget, one column a structure."""
    note = "Relative Frobenius error under one cap on the cost."
    columns = HEAD | {"truncated SVD": lambda row: number(row["svd_error"])}
    columns |= _by_kind(rows, "error")
    shown = [row | ({"kind": structure(row)} if "kind" in row else {}) for row in rows]
    return listing(title, note + left_out(shown, "matrix", "kind"), columns, _gblr(rows))


def gblr_table(rows: list[Row]) -> Table:
    """Goals of GBLR, and its results."""
    return listing(
        "GBLR in detail",
        "Cost used, error and the error to meet, seconds and the seconds to keep, and the "
        "most memory held at once over that of the matrix.",
        {
            **HEAD,
            "cost": lambda row: percent(row["cost"]),
            "error": lambda row: number(row["error"], 3),
            "goal": lambda row: _goal(row["error"], row["target"]),
            "seconds": lambda row: number(row["seconds"]),
            "limit": lambda row: _goal(row["seconds"], row["limit"]),
            "memory": lambda row: number(row.get("memory")),
        },
        [row for row in rows if "skipped" not in row],
    )


def _goal(value: float, goal: float | None) -> str:
    if goal is None:
        return "–"
    return f"{number(goal, 3)}, {'met' if value <= goal else 'missed'}"


def time_table(rows: list[Row]) -> Table:
    """Seconds of every structure."""
    columns = HEAD | _by_kind(rows, "seconds")
    return listing("Seconds to compress", "Time of the fit alone.", columns, _gblr(rows))


def peer_table(gblr: list[Row], rows: list[Row]) -> Table:
    """Other packages beside GBLR, or why they are absent."""
    ours = {_key(row): row for row in gblr}
    return listing(
        "Against other packages",
        "The same matrix under the same cap. PALM4MSA finds two sparse factors without any "
        "structure, 50 iterations; ksd is tried with every pair of factor sizes."
        + left_out(rows, "method", "matrix"),
        {
            "matrix": "matrix",
            "budget": budget,
            "method": "method",
            "cost": lambda row: percent(row["cost"]),
            "error": lambda row: number(row["error"]),
            "seconds": lambda row: number(row["seconds"]),
            "GBLR error": lambda row: number(ours[_key(row)]["error"]),
            "GBLR seconds": lambda row: number(ours[_key(row)]["seconds"]),
        },
        [row for row in rows if "skipped" not in row],
    )


def _shape(row: Row) -> str:
    return "×".join(map(str, row["shape"]))


HEAD: dict[str, Cell] = {"matrix": "matrix", "shape": _shape, "budget": budget}


def _key(row: Row) -> tuple[str, str, float]:
    return row["matrix"], _shape(row), row["budget"]


def _gblr(rows: list[Row]) -> list[Row]:
    """Rows of GBLR: one for each matrix and budget."""
    return [row for row in rows if row.get("kind") == "gblr"]


def _by_kind(rows: list[Row], name: str) -> dict[str, Cell]:
    """Columns of one figure, one for each kind of structure."""
    found = {(*_key(row), row["kind"]): row.get(name) for row in rows if "kind" in row}

    def cell(kind: str) -> Callable[[Row], str]:
        return lambda row: number(found[*_key(row), kind])

    measured = {row["kind"] for row in rows if "kind" in row}
    return {kind_record(kind).label: cell(kind) for kind in KINDS if kind in measured}
