"""Targets and tables of the suite "layers"."""

from benchmarks.micro.targets import (
    MASKS_LIMIT,
    RatioTarget,
    bounded,
    masks_bound,
    over_share,
    target_table,
    worst_of,
    worst_rows,
)
from benchmarks.reporting.tables import Table, budget, listing, number, pivot
from benchmarks.results import Row

DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def layer_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times within one run."""
    masks = [row for row in rows if row["what"] == "masks"]
    frozen = {
        device: [row for row in rows if row["what"] == "frozen" and row["device"] == device]
        for device in DEVICES
    }
    return [
        target_table([masks_target(masks), *_targets(frozen["cuda"])]),
        listing(
            "Gaudi masks, forward and backward",
            "Time of the Fourier formula under automatic differentiation over that of the tables, "
            "single precision.",
            {
                "samples": "n",
                "masks": "masks",
                "formula over table": lambda row: number(row["formula_over_table"]),
            },
            masks,
        ),
        *(_frozen(own, DEVICES[device]) for device, own in frozen.items() if own),
    ]


def masks_target(rows: list[Row]) -> RatioTarget:
    """Limit on the time of masks by tables over that of the Fourier formula."""
    return bounded(
        "masks, forward and backward, over the Fourier formula",
        MASKS_LIMIT,
        worst_rows(rows, lambda r: 1 / r["formula_over_table"], lambda r: f"n = {r['n']}"),
        masks_bound,
    )


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
