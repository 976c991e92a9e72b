"""Tables of solves and determinants for docs/benchmarks.md."""

from benchmarks.reporting.tables import Table, listing, number
from benchmarks.results import Row


def solve_tables(rows: list[Row], targets: list[Row]) -> list[Table]:
    """Solves, determinants, preconditioners, and all targets."""
    done = [row for row in rows if "note" not in row]
    of = {
        task: [row for row in done if row["task"] == task]
        for task in ("solve", "logdet", "preconditioner")
    }
    return [
        solved(of["solve"]),
        determinants(of["logdet"]),
        preconditioners(of["preconditioner"]),
    ] + [over_targets(targets)]


def solved(rows: list[Row]) -> Table:
    """Time, method and residual of each solve."""
    return listing(
        "Solves with a shift",
        "(K + shift I) x = b to 1e-6, from the points: the seconds include compression, "
        "factorisation, solve and check. The last column is the residual on 256 rows of the exact "
        "kernel, over b on them.",
        {
            **_HEAD,
            "shift": lambda row: number(row["shift"]),
            "method": "method",
            "seconds": lambda row: number(row["seconds"]),
            "steps": lambda row: str(row["iterations"]),
            "GiB": lambda row: number(row["peak_bytes"] / 2**30),
            "residual": lambda row: number(row["residual"]),
            "of the kernel": lambda row: number(row["sampled_residual"]),
        },
        rows,
    )


def determinants(rows: list[Row]) -> Table:
    """Time and error of each determinant, here and by other libraries."""
    return listing(
        "Logarithms of determinants",
        "log det(K + shift I) from the points. The difference is over n, to the dense value up to "
        "4096 points, else to structmat's at a tolerance ten times smaller. George's seconds "
        "include a solve.",
        {
            **_HEAD,
            "library": lambda row: row.get("peer", "structmat"),
            "seconds": lambda row: number(row["seconds"]),
            "log det": lambda row: number(row["logdet"], 8),
            "difference": lambda row: number(row.get("difference")),
            "standard error": lambda row: number(row.get("standard_error")),
        },
        rows,
    )


def preconditioners(rows: list[Row]) -> Table:
    """Steps of conjugate gradients with and without a loose factorisation."""
    return listing(
        "A loose factorisation as a preconditioner",
        "SciPy's conjugate gradients to 1e-6, with a shift of 0.01 of the norm: steps with the "
        "factorisation of a hierarchical matrix of tolerance 0.01 as M, and without, up to 1000.",
        {
            **_HEAD,
            "seconds for M": lambda row: number(row["seconds"]),
            "steps": lambda row: str(row["iterations"]),
            "without M": lambda row: str(row["plain"]),
        },
        rows,
    )


def over_targets(rows: list[Row]) -> Table:
    """Every figure that has a target."""
    return listing(
        "Targets of solves",
        "Times faster than conjugate gradients or george have a least value; other figures have a "
        "largest.",
        {
            "task": "task",
            **_HEAD,
            "figure": "figure",
            "value": lambda row: number(row["value"]),
            "target": lambda row: number(row["target"]),
            "met": lambda row: "yes" if row["met"] else "no",
        },
        rows,
    )


_HEAD = {"points": "points", "n": "n", "kernel": "kernel"}
