"""Targets and tables of the suite "learned"."""

from benchmarks.micro.targets import (
    MANY_VECTORS,
    ONE_VECTOR_LIMIT,
    THIN_LIMIT,
    WIDE_LIMIT,
    RatioTarget,
    bounded,
    layer_bound,
    target_table,
    worst_rows,
)
from benchmarks.reporting.tables import Table, number, pivot
from benchmarks.results import Row

_TIMES = {"product": "product_over_dense", "frozen layer": "layer_over_dense"}


def learned_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times within one run."""
    shown = [
        {**row, "what": what, "ratio": row[key]} for what, key in _TIMES.items() for row in rows
    ]
    return [
        target_table(_targets(rows)),
        pivot(
            "Learned layers against dense ones, CPU",
            "Time of `A @ X` on NumPy over that of the dense product, and of a frozen layer in "
            "evaluation over that of `torch.nn.Linear`; single precision. The layers are those of "
            "the experiment on grey pictures, seed 0; areas are numbers of entries.",
            {
                "layer": lambda row: f"{row['in']}→{row['out']}",
                "cost": lambda row: f"{100 * row['cost']:.2g} %",
                "blocks": "blocks",
                "mean area": lambda row: number(row["area"]),
                "what": "what",
            },
            ("vectors", "vectors = {}"),
            lambda row: number(row["ratio"], 2),
            shown,
        ),
    ]


def _targets(rows: list[Row]) -> list[RatioTarget]:
    def layer_over_dense(row: Row) -> float:
        return float(row["layer_over_dense"])

    thin, wide = (
        [row for row in rows if row["vectors"] >= MANY_VECTORS and (row["cost"] < 0.03) == is_thin]
        for is_thin in (True, False)
    )
    one = [row for row in rows if row["vectors"] == 1]

    def shape(row: Row) -> str:
        return f"{row['in']}→{row['out']}"

    return [
        bounded(
            f"frozen over dense, {text}",
            most,
            worst_rows(own, layer_over_dense, shape),
            layer_bound,
        )
        for text, most, own in (
            (f"2 %, {MANY_VECTORS} vectors and more", THIN_LIMIT, thin),
            (f"5 %, {MANY_VECTORS} vectors and more", WIDE_LIMIT, wide),
            ("one vector", ONE_VECTOR_LIMIT, one),
        )
    ]
