"""Targets and tables of the suite "training"."""

from benchmarks.micro.targets import RatioTarget, target_table, worst_of
from benchmarks.reporting.names import case_name
from benchmarks.reporting.tables import Table, listing, number, percent
from benchmarks.results import Row


def training_tables(rows: list[Row]) -> list[Table]:
    """One table a shape and device, after the targets."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(place(row), []).append(row)
    return [
        target_table([_target(rows, layer) for layer in ("Gaudi, from a grid", "Gaudi, shrunk")]),
        *(_training(where, here) for where, here in places.items()),
    ]


def place(row: Row) -> str:
    """Shape, vectors and machine of a row, in words."""
    vectors = "1 vector" if row["tokens"] == 1 else f"{row['tokens']} vectors"
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    where = f"GPU, {row['dtype']}" if row["device"] == "cuda" else f"CPU, {threads}"
    return f"{row['in']}→{row['out']}, {vectors}, {where}"


def _target(rows: list[Row], layer: str) -> RatioTarget:
    own = [
        row
        for row in rows
        if row["layer"] == layer and abs(row["cost"] - 0.25) < 0.01 and row["tokens"] > 1
    ]
    what = f"over dense, {layer}, 25 % of the cost"
    return RatioTarget(what, 1.0, worst_of(own, lambda row: row["over_dense"], place))


def _training(where: str, rows: list[Row]) -> Table:
    return listing(
        f"Training step, {where}",
        "Forward and backward, time over that of `torch.nn.Linear`. Memory: what is kept "
        "for the backward pass beyond what the dense layer keeps, over the parameters.",
        {
            "layer": lambda row: case_name(row["layer"]),
            "cost": lambda row: percent(row["cost"]),
            "blocks": lambda row: str(row.get("blocks", "–")),
            "rank": lambda row: str(row.get("rank", "–")),
            "σ": _sigma,
            "over dense": lambda row: number(row["over_dense"], 3),
            "memory": lambda row: number(row["kept_over_parameters"]),
        },
        rows,
    )


def _sigma(row: Row) -> str:
    if "sigma" not in row:
        return "–"
    return "∞" if row["sigma"] is None else number(row["sigma"], 3)
