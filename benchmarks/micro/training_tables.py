"""Tables of the suite "training"."""

from benchmarks.micro.targets import Target, target_table, worst_of
from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row


def training_tables(rows: list[Row]) -> list[Table]:
    """One table a shape and device, after the targets."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(place(row), []).append(row)
    return [
        target_table(_targets(rows)),
        *(_training(where, here) for where, here in places.items()),
    ]


def place(row: Row) -> str:
    """Shape, vectors and machine of a row, in words."""
    vectors = "1 vector" if row["tokens"] == 1 else f"{row['tokens']} vectors"
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    where = f"GPU, {row['dtype']}" if row["device"] == "cuda" else f"CPU, {threads}"
    return f"{row['in']}→{row['out']}, {vectors}, {where}"


def _targets(rows: list[Row]) -> list[Target]:
    gaudi = [
        row
        for row in rows
        if row["layer"].startswith("Gaudi") and abs(row["cost"] - 0.25) < 0.01 and row["tokens"] > 1
    ]
    return [
        Target(
            f"over dense, {layer}, 25 % of the cost",
            1.0,
            worst_of(
                [row for row in gaudi if row["layer"] == layer],
                lambda row: row["over_dense"],
                place,
            ),
        )
        for layer in ("Gaudi, from a grid", "Gaudi, shrunk")
    ]


def _training(where: str, rows: list[Row]) -> Table:
    return Table(
        f"Training step, {where}",
        "Forward and backward, time over that of `torch.nn.Linear`. Memory: what is kept "
        "for the backward pass beyond what the dense layer keeps, over the parameters.",
        ["layer", "cost", "blocks", "rank", "σ", "over dense", "memory"],
        [
            [
                row["layer"],
                percent(row["cost"]),
                str(row.get("blocks", "–")),
                str(row.get("rank", "–")),
                _sigma(row),
                number(row["over_dense"], 3),
                number(row["kept_over_parameters"]),
            ]
            for row in rows
        ],
    )


def _sigma(row: Row) -> str:
    if "sigma" not in row:
        return "–"
    return "∞" if row["sigma"] is None else number(row["sigma"], 3)
