"""Section of docs/benchmarks.md on matrices that are never formed, from the result of `scale`."""

from collections.abc import Callable

from benchmarks.reporting.page import folds, machine
from benchmarks.reporting.stamps import stamp
from benchmarks.reporting.tables import Table, listing, number, percent
from benchmarks.results import Row
from benchmarks.scale.command import TARGETS
from benchmarks.scale.growth import TASK, worker_table
from benchmarks.scale.solve_tables import solve_tables


def scale_section(result: Row) -> str:
    """Section of the page."""
    facts = result["machine"]
    measured = (
        f"Measured on {facts['date']} by `{result['command']}`, at a load of {result['load']} on "
        f"{facts['cores']} cores when it began: {machine(facts, threads=True)}"
    )
    rows = [row for row in result["rows"] if "task" not in row]
    shared = [row for row in result["rows"] if row.get("task") == TASK and "note" not in row]
    solves = [row for row in result["rows"] if row.get("task", TASK) != TASK]
    own = [row for row in rows if "peer" not in row and "note" not in row]
    tables = [compressions(own), targets(own), growth(result["growth"]), peers(rows)]
    tables += [*solve_tables(solves, result["solves"]), worker_table(shared)]
    tables.append(given_up(result["rows"]))
    shown = [table for table in tables if table.rows]
    title = "Matrices that are never formed"
    return folds(title, "", {}, [], shown, [measured], stamp(result))


def compressions(rows: list[Row]) -> Table:
    """Time, size and error of every compression."""
    return listing(
        "Compression of kernels to hierarchical matrices",
        "Double precision. The bound of the error holds with a probability of 0.99; the seconds "
        "include its estimate, the product is with one vector.",
        {
            **_HEAD,
            "seconds": lambda row: number(row["seconds"]),
            "GiB": lambda row: number(row["storage_bytes"] / 2**30),
            "over dense": lambda row: percent(row["storage_bytes"] / (8 * row["n"] ** 2)),
            "evaluated": lambda row: percent(row["share_of_entries"]),
            "bound": lambda row: number(row["bound"]),
            "product, s": lambda row: number(row["product_seconds"]),
        },
        rows,
    )


def targets(rows: list[Row]) -> Table:
    """Figures of 10⁵ points in the square over what they should be at most."""
    chosen = [
        row for row in rows
        if (row["points"], row["kernel"], row["n"]) == ("square", "exponential", 100_000)
    ]  # fmt: skip
    return listing(
        "Over the targets",
        "The exponential kernel at 100 000 points in the square: each figure over its target.",
        {
            "tolerance": lambda row: number(row["tol"]),
            "seconds": lambda row: number(row["seconds"] / TARGETS[row["tol"]][0]),
            "storage": lambda row: number(row["storage_bytes"] / 2**30 / TARGETS[row["tol"]][1]),
            "evaluated": lambda row: number(row["share_of_entries"] / TARGETS[row["tol"]][2]),
            "product": lambda row: number(row["product_seconds"] / TARGETS[row["tol"]][3]),
        },
        chosen,
    )


def growth(rows: list[Row]) -> Table:
    """Exponents with which figures grow."""
    names = {
        "seconds": "seconds", "storage": "storage_bytes", "entries": "entries",
        "product": "product_seconds",
    }  # fmt: skip
    return listing(
        "Growth",
        "The exponent p of n^p between the smallest and the largest number of points.",
        {
            "points": "points",
            "kernel": "kernel",
            "tolerance": lambda row: number(row["tol"]),
            **{title: _figure(name) for title, name in names.items()},
        },
        rows,
    )


def peers(rows: list[Row]) -> Table:
    """Other libraries beside structmat, at the same points."""
    own = {_key(row): row for row in rows if "peer" not in row and "note" not in row}
    found = [
        row | {"own": own[_key(row)]}
        for row in rows
        if "peer" in row and "note" not in row and _key(row) in own
    ]
    return listing(
        "Other libraries",
        "Nyström features have the storage of the hierarchical matrix, and the error beside it. "
        "George's seconds include its factorisation, which structmat's do not; its error is not "
        "known.",
        {
            **_HEAD,
            "library": "peer",
            "seconds": lambda row: number(row["seconds"]),
            "structmat": lambda row: number(row["own"]["seconds"]),
            "error": lambda row: number(row.get("error")),
            "structmat's bound": lambda row: number(row["own"]["bound"]),
        },
        found,
    )


def given_up(rows: list[Row]) -> Table:
    """Rows without figures, and why."""
    return listing(
        "Without figures",
        "What was refused, took too long, or is not installed.",
        {**_HEAD, "library": lambda row: row.get("peer", "structmat"), "reason": "note"},
        [row for row in rows if "note" in row],
    )


_HEAD = {
    "points": "points",
    "n": "n",
    "kernel": "kernel",
    "tolerance": lambda row: number(row["tol"]),
}


def _figure(name: str) -> Callable[[Row], str]:
    return lambda row: number(row[name], 3)


def _key(row: Row) -> tuple:
    return row["points"], row["n"], row["kernel"], row["tol"]
