"""Targets and tables of the suite "products"."""

from collections.abc import Callable, Mapping

from benchmarks.micro.targets import (
    SHARE_LIMITS,
    THREADS,
    RatioTarget,
    bounded,
    over_share,
    share_bound,
    target_table,
    threads_of,
    worst_of,
    worst_rows,
)
from benchmarks.reporting.tables import (
    Cell,
    Table,
    budget,
    left_out,
    listing,
    number,
    percent,
    pivot,
    structure,
)
from benchmarks.results import Row

#: The other structures are shown at this cost; the result file holds every cost.
SHOWN_COST = 0.25
#: Lines of the table of products whose kernel was furthest from the best.
WORST_LINES = 12
PRECISION = {"float32": "single", "float64": "double"}


def product_tables(rows: list[Row]) -> list[Table]:
    """Ratios of times: below 1, structmat is the faster one."""
    timed = [row for row in rows if row["what"] == "product"]
    timed.sort(key=lambda row: (row["dtype"] == "float64", row["columns"], row["budget"]))
    random = [row for row in timed if row["source"] == "random"]
    gblr = [row for row in random if row["kind"] == "gblr"]
    single = [row for row in gblr if row["dtype"] == "float32"]
    return [
        target_table(product_targets(rows)),
        _by_size(
            "GBLR against the dense product",
            "Time over that of the dense product by BLAS.",
            lambda row: number(row["over_dense"]),
            gblr,
        ),
        _by_size(
            "GBLR against its share of the dense product",
            "Time over the cost times that of the dense product, single precision.",
            lambda row: number(over_share(row)),
            single,
        ),
        _by_size("Kernels chosen", "Single precision.", lambda row: row["kernel"], single),
        choice_table(timed),
        _by_size(
            "GBLR against a pair of CSR matrices",
            "Time over that of both factors in `scipy.sparse.csr_array`. A dash: left out, "
            "for seconds a call.",
            lambda row: number(row["over"].get("csr_pair")),
            gblr,
        ),
        _by_size(
            "GBLR against low rank",
            "Time over that of a product by two dense factors of the same cost.",
            lambda row: number(row["over"]["low_rank"]),
            gblr,
        ),
        learned_table(timed),
        reading_table(single),
        growth_table([row for row in rows if row["what"] == "growth"]),
        threads_table([row for row in rows if row["what"] == "threads"]),
        *_other_kinds(random),
        peer_table([row for row in rows if row["what"] == "peer"]),
    ]


def product_targets(rows: list[Row]) -> list[RatioTarget]:
    """Limits for random GBLR matrices in single precision, and for the choice of kernels."""
    timed = [r for r in rows if r["what"] == "product"]
    gblr = [
        r for r in timed if (r["kind"], r["source"], r["dtype"]) == ("gblr", "random", "float32")
    ]
    one = [r for r in gblr if r["columns"] == 1 and threads_of(r) == 1]
    growth = [r for r in rows if r["what"] == "growth"]

    def reading(where: str, rows: list[Row]) -> RatioTarget:
        what = f"over reading the scalars once, one vector, {where}"
        return RatioTarget(what, 1.25, worst_of(rows, lambda r: r["over_read"]))

    return [
        *share_targets([*gblr, *(r for r in rows if r["what"] == "threads" and "n" in r)]),
        reading("n ≥ 4096", [r for r in one if r["n"] >= 4096]),
        reading("n < 4096", [r for r in one if r["n"] < 4096]),
        RatioTarget(
            "over a pair of CSR matrices, one vector",
            1 / 3,
            worst_of(one, lambda r: r["over"].get("csr_pair")),
        ),
        RatioTarget(
            "a scalar's time over that at the smallest n, at a fixed number of scalars a row",
            1.2,
            worst_of(growth, lambda r: r["over_first"], lambda r: f"n = {r['n']}"),
        ),
        _of_all("the choice over dense", timed, "over_dense", 1.05),
        _of_all("the kernel chosen over the best kernel", timed, "over_best", 1.1),
    ]


def share_targets(rows: list[Row]) -> list[RatioTarget]:
    """Limits on the time over the cost's share of the dense time, at each number of threads."""
    return [
        bounded(
            f"over the share, {where}, {threads} thread{'s' * (threads > 1)}",
            limit,
            worst_rows([r for r in rows if threads_of(r) == threads and meant(r)], over_share),
            share_bound,
        )
        for threads in THREADS
        for where, (limit, meant) in SHARE_LIMITS.items()
    ]


def _of_all(what: str, rows: list[Row], name: str, limit: float) -> RatioTarget:
    """Worst of all products that have several kernels, and the number that miss the limit."""
    rows = [row for row in rows if "over_best" in row]
    above = sum(row[name] > limit for row in rows)
    case = f"worst of {len(rows)}, {above} above"
    return RatioTarget(what, limit, worst_of(rows, lambda row: row[name], lambda _row: case))


def _precision(row: Row) -> str:
    return PRECISION[row["dtype"]]


def _by_size(
    title: str,
    note: str,
    value: Callable[[Row], str],
    rows: list[Row],
    index: Mapping[str, Cell] | None = None,
) -> Table:
    """Table with one column a size."""
    index = index or {"precision": _precision, "columns": "columns", "cost": budget}
    return pivot(title, note, index, ("n", "n = {}"), value, rows)


def choice_table(rows: list[Row]) -> Table:
    """Products whose kernel was not the best."""
    rows = sorted((r for r in rows if "over_best" in r), key=lambda r: -r["over_best"])
    return listing(
        "Where the choice was furthest from the best",
        "Of all products measured: time of the kernel chosen over that of the best one, and "
        "time of the product over the dense one.",
        {
            "structure": lambda row: f"{structure(row)}, {row['source']}",
            "n": "n",
            "cost": budget,
            "precision": _precision,
            "columns": "columns",
            "chosen": "kernel",
            "best": "best",
            "over": lambda row: number(row["over_best"], 3),
            "over dense": lambda row: number(row["over_dense"]),
        },
        [row for row in rows[:WORST_LINES] if row["over_best"] > 1],
    )


def learned_table(rows: list[Row]) -> Table:
    """Structures as learning and compression make them, beside random ones."""
    gblr = [row for row in rows if row["kind"] == "gblr"]
    places = {(r["n"], r["budget"]) for r in gblr if r["source"] != "random"}
    return pivot(
        "GBLR as learning and compression make it",
        "Time over that of the dense product / over the cost's share of it. Grid: aligned equal "
        "tiles, as layers begin. Uneven: widths from nothing to whole rows, crowded in places. "
        "Compressed: the kernel matrix 1/(|x−y| + 0.01) of sorted random points.",
        {"n": "n", "cost": budget, "precision": _precision, "columns": "columns"},
        ("source", "{}"),
        lambda row: f"{number(row['over_dense'])} / {number(over_share(row))}",
        [row for row in gblr if (row["n"], row["budget"]) in places],
    )


def reading_table(rows: list[Row]) -> Table:
    """One vector against the speed of memory."""

    def speed(what: str) -> Cell:
        return lambda row: number(row["bytes_a_second"][what] / 1e9)

    one = [row for row in rows if row["columns"] == 1]
    return listing(
        "GBLR against reading the stored scalars once",
        "One vector, single precision: time over that of reading as many scalars once, in a "
        "compiled sum where Numba is there, else NumPy's maximum; gigabytes of contents a "
        "second of the product, of the dense product and of the reading.",
        {
            "n": "n",
            "cost": budget,
            "over reading": lambda row: number(row["over_read"], 3),
            "product": speed("structmat"),
            "dense": speed("dense"),
            "reading": speed("reading"),
        },
        sorted(one, key=lambda row: (row["n"], row["budget"])),
    )


def growth_table(rows: list[Row]) -> Table:
    """Time against size at the same number of scalars a row."""
    return listing(
        "Growth with n",
        "One vector, single precision, the same number of stored scalars for every row: seconds "
        "a stored scalar, over that of the smallest matrix; the same of reading them once.",
        {
            "n": "n",
            "scalars": "scalars",
            "microseconds": lambda row: number(1e6 * row["seconds"], 3),
            "over smallest": lambda row: number(row["over_first"], 3),
            "reading over smallest": lambda row: number(row["reading_over_first"], 3),
            "over reading": lambda row: number(row["over_read"], 3),
        },
        rows,
    )


def threads_table(rows: list[Row]) -> Table:
    """Products at one and two threads."""
    return listing(
        "GBLR at one and two threads",
        "Single precision: time over that of the dense product with as many threads, and over the "
        "cost's share of it. Each is timed in a block of its own, since threads of BLAS spin for a "
        "while after a product." + left_out(rows, "threads"),
        {
            "threads": "threads",
            "columns": "columns",
            "n": "n",
            "cost": budget,
            "over dense": lambda row: number(row["over_dense"]),
            "over the share": lambda row: number(over_share(row), 3),
        },
        [row for row in rows if "skipped" not in row],
    )


def _other_kinds(rows: list[Row]) -> list[Table]:
    """Kinds beside GBLR."""
    others = [row for row in rows if row["kind"] != "gblr"]
    return [
        _by_size(
            f"Other structures against the dense product, at {percent(SHOWN_COST)} of its cost",
            "Time over that of the dense product by BLAS.",
            lambda row: number(row["over_dense"]),
            [row for row in others if row["budget"] == SHOWN_COST],
            {"structure": structure, "precision": _precision, "columns": "columns"},
        ),
        _by_size(
            "Block sparse against scipy.sparse",
            "Time over that of CSR / over that of BSR with the same blocks.",
            lambda row: f"{number(row['over'].get('csr'))} / {number(row['over'].get('bsr'))}",
            [row for row in others if row["kind"] == "block_sparse"],
        ),
    ]


def peer_table(rows: list[Row]) -> Table:
    """Products by other packages."""
    return listing(
        "Against other packages",
        "The same matrix, double precision: structmat's time over the other's."
        + left_out(rows, "peer", "matrix"),
        {
            "package": "peer",
            "matrix": "matrix",
            "n": "n",
            "cost": lambda row: percent(row["cost"]),
            "columns": "columns",
            "over the other": lambda row: number(row["over_peer"]),
        },
        [row for row in rows if "skipped" not in row],
    )
