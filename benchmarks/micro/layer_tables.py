"""Targets and tables of the suite "layers"."""

from benchmarks.micro.targets import RatioTarget, over_share, target_table, worst_of
from benchmarks.reporting.tables import Table, budget, listing, number, pivot
from benchmarks.results import Row

DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def layer_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times within one run."""
    frozen = {
        device: [row for row in rows if row["what"] == "frozen" and row["device"] == device]
        for device in DEVICES
    }
    return [
        target_table(_targets(frozen["cuda"])),
        listing(
            "Gaudi masks, forward and backward",
            "Time of the Fourier formula under automatic differentiation over that of the tables, "
            "single precision.",
            {
                "samples": "n",
                "masks": "masks",
                "formula over table": lambda row: number(row["formula_over_table"]),
            },
            [row for row in rows if row["what"] == "masks"],
        ),
        *(_frozen(own, DEVICES[device]) for device, own in frozen.items() if own),
    ]


def _targets(rows: list[Row]) -> list[RatioTarget]:
    half = [row for row in rows if row["dtype"] == "bfloat16"]
    one = [row for row in half if row["tokens"] == 1]
    many = [row for row in half if row["tokens"] > 1]
    return [
        RatioTarget("over the share, GPU, bfloat16, many rows", 1.3, worst_of(many, over_share)),
        RatioTarget(
            "over low rank of the same cost, GPU, bfloat16, many rows",
            1.2,
            worst_of(many, lambda row: row["over_low_rank"]),
        ),
        RatioTarget("over the share, GPU, bfloat16, one row", 1.2, worst_of(one, over_share)),
    ]


def _frozen(rows: list[Row], device: str) -> Table:
    return pivot(
        f"Frozen layer, {device}",
        "Evaluation, time over that of `torch.nn.Linear` / over that of two dense layers of the "
        "same cost, by number of vectors.",
        {
            "layer": lambda row: f"{row['in']}→{row['out']}",
            "dtype": "dtype",
            "start": "start",
            "cost": budget,
        },
        ("tokens", "vectors = {}"),
        lambda row: f"{number(row['over_dense'], 3)} / {number(row['over_low_rank'], 3)}",
        rows,
    )
