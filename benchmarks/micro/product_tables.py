"""Tables of the suite "products"."""

from collections.abc import Callable, Sequence

from benchmarks.micro.product_targets import product_targets
from benchmarks.micro.targets import over_share, target_table
from benchmarks.reporting.tables import Table, left_out, number, percent, pivot
from benchmarks.results import Row

#: The other structures are shown at this cost; the result file holds all of them.
SHOWN = 0.25
#: So many products are shown whose kernel was furthest from the best.
WORST = 12
PRECISION = {"float32": "single", "float64": "double"}
USUAL = ("precision", "columns", "share")


def product_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times: below 1, structmat is the faster one."""
    timed = [_named(row) for row in rows if row["what"] == "product"]
    timed.sort(key=lambda row: (row["precision"] == "double", row["columns"], row["budget"]))
    random = [row for row in timed if row["source"] == "random"]
    gblr = [row for row in random if row["kind"] == "gblr"]
    single = [row for row in gblr if row["precision"] == "single"]
    return [
        target_table(product_targets(rows)),
        _table(
            "GBLR against the dense product",
            "Time over that of the dense product by BLAS.",
            gblr,
            lambda row: number(row["over_dense"]),
        ),
        _table(
            "GBLR against its share of the dense product",
            "Time over the cost times that of the dense product, single precision.",
            single,
            lambda row: number(over_share(row)),
        ),
        _table("Kernels chosen", "Single precision.", single, lambda row: row["kernel"]),
        choice_table(timed),
        _table(
            "GBLR against a pair of CSR matrices",
            "Time over that of both factors in `scipy.sparse.csr_array`. A dash: left out, "
            "for seconds a call.",
            gblr,
            lambda row: number(row["over"].get("csr_pair")),
        ),
        _table(
            "GBLR against low rank",
            "Time over that of a product by two dense factors of the same cost.",
            gblr,
            lambda row: number(row["over"]["low_rank"]),
        ),
        learned_table(timed),
        reading_table(single),
        growth_table([row for row in rows if row["what"] == "growth"]),
        *_other_kinds(random),
        peer_table([row for row in rows if row["what"] == "peer"]),
    ]


def _named(row: Row) -> Row:
    """A row with its values as a table shows them."""
    return row | {
        "structure": row["kind"].replace("_", " "),
        "precision": PRECISION[row["dtype"]],
        "share": percent(row["budget"]),
    }


def _table(
    title: str,
    note: str,
    rows: list[Row],
    value: Callable[[Row], str],
    index: Sequence[str] = USUAL,
) -> Table:
    """One column a size."""
    headers, body = pivot(rows, index, "n", value)
    return Table(title, note, [h.replace("share", "cost") for h in headers], body)


def choice_table(rows: list[Row]) -> Table:
    """Products whose kernel was not the best."""
    rows = sorted((r for r in rows if "over_best" in r), key=lambda r: -r["over_best"])[:WORST]
    return Table(
        "Where the choice was furthest from the best",
        "Of all products measured: time of the kernel chosen over that of the best one, and "
        "time of the product over the dense one.",
        ["structure", "n", "cost", "precision", "columns", "chosen", "best", "over", "over dense"],
        [
            [
                f"{row['structure']}, {row['source']}",
                str(row["n"]),
                row["share"],
                row["precision"],
                str(row["columns"]),
                row["kernel"],
                row["best"],
                number(row["over_best"], 3),
                number(row["over_dense"]),
            ]
            for row in rows
            if row["over_best"] > 1
        ],
    )


def learned_table(rows: list[Row]) -> Table:
    """Structures as learning and compression make them, beside random ones."""
    gblr = [row for row in rows if row["kind"] == "gblr"]
    places = {(r["n"], r["budget"]) for r in gblr if r["source"] != "random"}
    here = [row for row in gblr if (row["n"], row["budget"]) in places]
    headers, body = pivot(
        here,
        ["n", "share", "precision", "columns"],
        "source",
        lambda row: f"{number(row['over_dense'])} / {number(over_share(row))}",
    )
    return Table(
        "GBLR as learning and compression make it",
        "Time over that of the dense product / over the cost's share of it. Grid: aligned equal "
        "tiles, as layers begin. Uneven: widths from nothing to whole rows, crowded in places. "
        "Compressed: the kernel matrix 1/(|x−y| + 0.01) of sorted random points.",
        [h.replace("share", "cost").replace("source = ", "") for h in headers],
        body,
    )


def reading_table(rows: list[Row]) -> Table:
    """One vector against what memory allows."""
    return Table(
        "GBLR against reading the stored scalars once",
        "One vector, single precision: time over that of reading as many scalars once, in a "
        "compiled sum where Numba is there, else NumPy's maximum; gigabytes of contents a "
        "second of the product, of the dense product and of the reading.",
        ["n", "cost", "over reading", "product", "dense", "reading"],
        [
            [
                str(row["n"]),
                row["share"],
                number(row["over_read"], 3),
                *(number(v / 1e9) for v in row["bytes_a_second"].values()),
            ]
            for row in sorted(rows, key=lambda row: (row["n"], row["budget"]))
            if row["columns"] == 1
        ],
    )


def growth_table(rows: list[Row]) -> Table:
    """Time against size at the same number of scalars a row."""
    return Table(
        "Growth with n",
        "One vector, single precision, the same number of stored scalars for every row: seconds "
        "a stored scalar, over that of the smallest matrix; the same of reading them once.",
        ["n", "scalars", "microseconds", "over smallest", "reading over smallest", "over reading"],
        [
            [
                str(row["n"]),
                str(row["scalars"]),
                number(1e6 * row["seconds"], 3),
                number(row["over_first"], 3),
                number(row["reading_over_first"], 3),
                number(row["over_read"], 3),
            ]
            for row in rows
        ],
    )


def _other_kinds(rows: list[Row]) -> list[Table]:
    """Kinds beside GBLR."""
    others = [row for row in rows if row["kind"] != "gblr"]
    return [
        _table(
            f"Other structures against the dense product, at {percent(SHOWN)} of its cost",
            "Time over that of the dense product by BLAS.",
            [row for row in others if row["budget"] == SHOWN],
            lambda row: number(row["over_dense"]),
            ["structure", "precision", "columns"],
        ),
        _table(
            "Block sparse against scipy.sparse",
            "Time over that of CSR / over that of BSR with the same blocks.",
            [row for row in others if row["kind"] == "block_sparse"],
            lambda row: f"{number(row['over'].get('csr'))} / {number(row['over'].get('bsr'))}",
        ),
    ]


def peer_table(rows: list[Row]) -> Table:
    """Products by other packages."""
    return Table(
        "Against other packages",
        "The same matrix, double precision: structmat's time over the other's."
        + left_out(rows, "peer", "matrix"),
        ["package", "matrix", "n", "cost", "columns", "over the other"],
        [
            [
                row["peer"],
                row["matrix"],
                str(row["n"]),
                percent(row["cost"]),
                str(row["columns"]),
                number(row["over_peer"]),
            ]
            for row in rows
            if "skipped" not in row
        ],
    )
