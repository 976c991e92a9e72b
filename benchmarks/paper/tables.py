"""Tables of the pages on the paper by name, and those of `paper.json`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.paper import score_tables
from benchmarks.reporting.page import machine
from benchmarks.reporting.tables import Cell, listing, number, percent
from benchmarks.results import load

SCHEMA = 1
KEYS = ("schema", "command", "machine", "load", "rows")


def transforms(results: Path) -> str:
    """Share of the masks in a training step, by Fourier transforms and by tables."""
    return _measured(
        results,
        "transforms",
        "One layer, forward and backward. Shares are those of the masks of both sides and their "
        "gradients.",
        {
            "layer": lambda row: f"{row['in']}→{row['out']}",
            "vectors": lambda row: str(row["vectors"]),
            "transforms in a published step": lambda row: percent(row["transforms_share"]),
            "tables in ours": lambda row: percent(row["tables_share"]),
            "published step over dense": lambda row: number(row["published_over_dense"]),
            "ours over dense": lambda row: number(row["ours_over_dense"]),
        },
    )


def decompositions(results: Path) -> str:
    """Singular value decompositions in units of training steps."""
    return _measured(
        results,
        "svd",
        "One decomposition of a weight, and one dense training step of the same layer.",
        {
            "weight": lambda row: f"{row['rows']}×{row['cols']}",
            "vectors of the step": lambda row: str(row["vectors"]),
            "decomposition, s": lambda row: number(row["svd"]),
            "step, s": lambda row: number(row["step"]),
            "decomposition in steps": lambda row: number(row["svd_over_step"]),
        },
    )


def starts(results: Path) -> str:
    """Starts from given weights: the published algorithm, truncation, and `compress`."""
    return _measured(
        results,
        "start",
        "Relative Frobenius errors at one budget. The published algorithm counts all widths, "
        "structmat multiplications; both are over those of the dense matrix.",
        {
            "matrix": "matrix",
            "budget": lambda row: percent(row["budget"]),
            "method": lambda row: row.get("method", row.get("skipped", "")),
            "error": lambda row: number(row.get("error")),
            "multiplications": lambda row: percent(row.get("cost")),
            "widths": lambda row: percent(row.get("storage")),
            "processor, s": lambda row: number(row.get("seconds")),
        },
    )


def planted(results: Path) -> str:
    """Both ways to learn on planted matrices."""
    return _measured(
        results,
        "planted",
        "A layer of 128×128 learns a planted matrix from random vectors, at the matrix's own cost; "
        "one seed. Missed is the share of the squared weight.",
        {
            "planted": "planted",
            "way": "way",
            "budget": lambda row: percent(row["budget"]),
            "cost": lambda row: percent(row["cost"]),
            "missed": lambda row: percent(row["missed"]),
            "processor, s": lambda row: number(row["seconds"]),
        },
    )


def subspaces(results: Path) -> str:
    """ALDS with one subspace a layer, and with several to choose from."""
    return _measured(
        results,
        "alds",
        "The two hidden layers of a trained 64-512-64-10 network on digits: groups k and rank r of "
        "each, the greatest relative error in the operator norm, and the test accuracy without "
        "further training.",
        {
            "budget": lambda row: percent(row.get("budget")),
            "k among": lambda row: ", ".join(map(str, row.get("groups", [row.get("skipped")]))),
            "k × r": lambda row: ", ".join(f"{k} × {r}" for k, r in row.get("chosen", [])),
            "error": lambda row: number(row.get("error")),
            "accuracy": lambda row: percent(row.get("accuracy")),
            "dense": lambda row: percent(row.get("dense")),
        },
    )


def _measured(results: Path, what: str, note: str, columns: Mapping[str, Cell]) -> str:
    result = load(results / "paper.json", SCHEMA, KEYS)
    facts = result["machine"]
    busy = f"a load of {number(result['load'])} on {facts['cores']} cores"
    source = (
        "Times are those of the processor. Measured on "
        f"{facts['date']} by `{result['command']}` at {busy}: {machine(facts, threads=False)}"
    )
    rows = [row for row in result["rows"] if row["what"] == what]
    return listing("", f"{note} {source}", columns, rows).body()


#: Text of every table, from the folder of results.
TABLES: dict[str, Callable[[Path], str]] = {
    "transforms": transforms,
    "decompositions": decompositions,
    "starts": starts,
    "planted": planted,
    "subspaces": subspaces,
    **score_tables.TABLES,
}
