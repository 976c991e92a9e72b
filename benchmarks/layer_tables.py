"""Tables of the suite "layers"."""

from benchmarks.results import Row
from benchmarks.tables import Table, number, percent, pivot


def layer_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times within one run."""
    by = {what: [r for r in rows if r["what"] == what] for what in ("masks", "training", "frozen")}
    return [_masks(by["masks"]), _training(by["training"]), _frozen(by["frozen"])]


def _masks(rows: list[Row]) -> Table:
    return Table(
        "Gaudi masks, forward and backward",
        "Time of the Fourier formula under automatic differentiation over that of the tables, "
        "single precision.",
        ["samples", "masks", "formula over table"],
        [[str(r["n"]), str(r["masks"]), number(r["formula_over_table"])] for r in rows],
    )


def _training(rows: list[Row]) -> Table:
    tokens = f" with {rows[0]['tokens']} vectors" if rows else ""
    return Table(
        "Training step of a Gaudi layer",
        f"Forward and backward{tokens}, time over that of `torch.nn.Linear`. Memory: what is kept "
        "for the backward pass beyond what the dense layer keeps, over the two factors.",
        ["start", "blocks", "rank", "cost", "σ", "over dense", "memory over factors"],
        [
            [
                r["layer"],
                str(r["blocks"]),
                str(r["rank"]),
                percent(r["cost"]),
                "∞" if r["sigma"] is None else number(r["sigma"], 3),
                number(r["over_dense"], 3),
                number(r["kept_over_factors"], 3),
            ]
            for r in rows
        ],
    )


def _frozen(rows: list[Row]) -> Table:
    named = [r | {"share": percent(r["budget"])} for r in rows]
    headers, body = pivot(named, ["start", "share"], "tokens", lambda r: number(r["over_dense"], 3))
    return Table(
        "Frozen layer",
        "Evaluation, time over that of `torch.nn.Linear`, by number of vectors.",
        [h.replace("share", "cost") for h in headers],
        body,
    )
