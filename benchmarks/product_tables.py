"""Tables of the suite "products"."""

from collections.abc import Callable

from benchmarks.results import Row
from benchmarks.tables import Table, left_out, number, percent, pivot

#: The other structures are shown at this cost; the result file holds all of them.
SHOWN = 0.25
OPERAND = {"float32": "single", "float64": "double"}


def product_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times: below 1, structmat is the faster one."""
    measured = [named(row) for row in rows if "peer" not in row]
    measured.sort(key=lambda row: (row["precision"] == "double", row["columns"], row["budget"]))
    random = [row for row in measured if row["source"] == "random"]
    gblr = [row for row in random if row["kind"] == "gblr"]
    others = [row for row in random if row["kind"] != "gblr" and row["budget"] == SHOWN]
    blocks = [row for row in random if row["kind"] == "block_sparse"]
    return [
        table(
            "GBLR against a pair of CSR matrices",
            summary(gblr, "csr_pair") + " The pair holds the same two factors in "
            "`scipy.sparse.csr_array`. A dash: left out, for seconds a call.",
            gblr,
            lambda row: number(row["over"].get("csr_pair")),
        ),
        table(
            "GBLR against the dense product",
            "Time over that of the dense product by BLAS.",
            gblr,
            lambda row: number(row["over_dense"]),
        ),
        fill_table(gblr),
        table(
            f"Other structures against the dense product, at {percent(SHOWN)} of its cost",
            "Time over that of the dense product by BLAS.",
            others,
            lambda row: number(row["over_dense"]),
            ["structure", "precision", "columns"],
        ),
        table(
            "Block sparse against scipy.sparse",
            "Time over that of CSR / over that of BSR with the same blocks.",
            blocks,
            lambda row: f"{number(row['over'].get('csr'))} / {number(row['over'].get('bsr'))}",
        ),
        compressed_table([row for row in measured if row["source"] == "compressed"]),
        peer_table([row for row in rows if "peer" in row]),
    ]


def named(row: Row) -> Row:
    """A row with its values as a table shows them."""
    return row | {
        "structure": row["kind"].replace("_", " "),
        "precision": OPERAND[row["dtype"]],
        "share": percent(row["budget"]),
    }


def table(
    title: str,
    note: str,
    rows: list[Row],
    value: Callable[[Row], str],
    index: list[str] | None = None,
) -> Table:
    """One column a size."""
    headers, body = pivot(rows, index or ["precision", "columns", "share"], "n", value)
    return Table(title, note, [h.replace("share", "cost") for h in headers], body)


def summary(rows: list[Row], rival: str) -> str:
    """How often and how far one vector's product is slower than the rival."""
    ratios = [row["over"][rival] for row in rows if row["columns"] == 1 and rival in row["over"]]
    if not ratios:
        return "No product with one vector was measured."
    slower = sum(ratio > 1 for ratio in ratios)
    return (
        f"Time over that of the pair. One vector: from {number(min(ratios))} to "
        f"{number(max(ratios))}, above 1 in {slower} of {len(ratios)} cases."
    )


def fill_table(rows: list[Row]) -> Table:
    """The share of the entries in the panels that are not padding."""
    once = [row for row in rows if row["columns"] == 1 and row["dtype"] == rows[0]["dtype"]]
    return table(
        "Fill of GBLR panels",
        "Share of the panels' entries that is not padding.",
        once,
        lambda row: percent(row["fill"]),
        ["share"],
    )


def compressed_table(rows: list[Row]) -> Table:
    """GBLR matrices that compression found."""
    return Table(
        "GBLR found by compression",
        "The kernel matrix 1/(|x−y| + 0.01) of sorted random points, compressed: time over "
        "that of the dense product and over that of the CSR pair.",
        ["n", "cost", "precision", "columns", "fill", "over dense", "over CSR pair"],
        [
            [
                str(row["n"]),
                row["share"],
                row["precision"],
                str(row["columns"]),
                percent(row["fill"]),
                number(row["over_dense"]),
                number(row["over"].get("csr_pair")),
            ]
            for row in rows
        ],
    )


def peer_table(rows: list[Row]) -> Table:
    """Products by other packages."""
    found = [row for row in rows if "skipped" not in row]
    return Table(
        "Against other packages",
        "The same matrix, double precision: structmat's time over the other's."
        + left_out(rows, "peer", "what"),
        ["package", "matrix", "n", "cost", "columns", "over the other"],
        [
            [
                row["peer"],
                row["what"],
                str(row["n"]),
                percent(row["cost"]),
                str(row["columns"]),
                number(row["over_peer"]),
            ]
            for row in found
        ],
    )
