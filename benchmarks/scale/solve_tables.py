"""Tables of solves and determinants for docs/benchmarks.md."""

from benchmarks.reporting.tables import Table, listing, number
from benchmarks.results import Row
from benchmarks.scale.equal import equal_table
from benchmarks.scale.solves import LOOSE, RTOL, SHARE, STEPS


def solve_tables(rows: list[Row], targets: list[Row]) -> list[Table]:
    """Solves, determinants, preconditioners, low rank with a shift, and all targets."""
    of: dict[str, list[Row]] = {}
    for row in rows:
        if "note" not in row:
            of.setdefault(row["task"], []).append(row)
    makers = {
        "solve": solved, "logdet": determinants, "equal": equal_table,
        "preconditioner": preconditioners, "woodbury": low_rank,
    }  # fmt: skip
    return [*(make(of.get(task, [])) for task, make in makers.items()), over_targets(targets)]


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
        "4096 points, else to that of structmat's factors with a far smaller error. George's "
        "seconds include a solve; the next table compares at equal accuracy.",
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
        f"SciPy's conjugate gradients to {RTOL}, with a shift of {SHARE} of the norm: steps with "
        f"the factorisation of a hierarchical matrix of tolerance {LOOSE} as M, and without, up "
        f"to {STEPS}.",
        {
            **_HEAD,
            "shift": lambda row: number(row["shift"], 3),
            "seconds for M": lambda row: number(row["seconds"]),
            "steps": lambda row: str(row["iterations"]),
            "without M": lambda row: str(row["plain"]),
        },
        rows,
    )


def low_rank(rows: list[Row]) -> Table:
    """Woodbury beside conjugate gradients, for two spectra."""
    return listing(
        "Low rank with a shift",
        "A factorisation and a solve by Woodbury beside SciPy's conjugate gradients, each the "
        "shortest of some. Eigenvalues that are nearly even take few steps, those that decay many; "
        "the residuals are those of x over b. The load counts processes that wanted a core.",
        {
            "matrix": "kernel",
            "n": "n",
            "rank": "rank",
            "shift": lambda row: number(row["shift"]),
            "seconds": lambda row: number(row["seconds"]),
            "residual": lambda row: number(row["residual"]),
            "CG seconds": lambda row: number(row["cg_seconds"]),
            "CG steps": lambda row: str(row["cg_steps"]),
            "CG residual": lambda row: number(row["cg_residual"]),
            "load": lambda row: number(row["load"]),
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
