"""Tables of the suite "layers"."""

from benchmarks.micro.targets import Target, over_share, target_table, worst_of
from benchmarks.reporting.tables import Table, number, percent, pivot
from benchmarks.results import Row


def layer_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times within one run."""
    frozen = [row for row in rows if row["what"] == "frozen"]
    return [
        target_table(_targets([row for row in frozen if row["device"] == "cuda"])),
        _masks([row for row in rows if row["what"] == "masks"]),
        *(
            _frozen([row for row in frozen if row["device"] == device], device)
            for device in ("cpu", "cuda")
            if device in {row["device"] for row in frozen}
        ),
    ]


def _targets(rows: list[Row]) -> list[Target]:
    half = [row for row in rows if row["dtype"] == "bfloat16"]
    many = [row for row in half if row["tokens"] > 1]
    return [
        Target("over the share, GPU, bfloat16, many rows", 1.3, worst_of(many, over_share)),
        Target(
            "over low rank of the same cost, GPU, bfloat16, many rows",
            1.2,
            worst_of(many, lambda row: row["over_low_rank"]),
        ),
        Target(
            "over the share, GPU, bfloat16, one row",
            1.2,
            worst_of([row for row in half if row["tokens"] == 1], over_share),
        ),
    ]


def _masks(rows: list[Row]) -> Table:
    return Table(
        "Gaudi masks, forward and backward",
        "Time of the Fourier formula under automatic differentiation over that of the tables, "
        "single precision.",
        ["samples", "masks", "formula over table"],
        [[str(r["n"]), str(r["masks"]), number(r["formula_over_table"])] for r in rows],
    )


def _frozen(rows: list[Row], device: str) -> Table:
    named = [
        row | {"layer": f"{row['in']}→{row['out']}", "share": percent(row["budget"])}
        for row in rows
    ]
    headers, body = pivot(
        named,
        ["layer", "dtype", "start", "share"],
        "tokens",
        lambda r: f"{number(r['over_dense'], 3)} / {number(r['over_low_rank'], 3)}",
    )
    return Table(
        f"Frozen layer, {'GPU' if device == 'cuda' else 'CPU'}",
        "Evaluation, time over that of `torch.nn.Linear` / over that of two dense layers of the "
        "same cost, by number of vectors.",
        [h.replace("share", "cost").replace("tokens", "vectors") for h in headers],
        body,
    )
