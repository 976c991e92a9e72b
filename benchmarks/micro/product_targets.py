"""Targets of the suite "products"."""

from benchmarks.micro.targets import Target, over_share, worst_of
from benchmarks.results import Row

#: Costs for which the targets of one vector on large matrices are meant.
COSTS = (0.125, 0.25)


def product_targets(rows: list[Row]) -> list[Target]:
    """On random GBLR matrices in single precision; the choice, on all that was measured."""
    timed = [r for r in rows if r["what"] == "product"]
    gblr = [
        r for r in timed if (r["kind"], r["source"], r["dtype"]) == ("gblr", "random", "float32")
    ]
    one = [r for r in gblr if r["columns"] == 1]
    large = [r for r in one if r["n"] >= 4096]
    many = [r for r in gblr if 256 <= r["columns"] <= 2048]
    return [
        Target(
            "over the share, one vector, n ≥ 4096",
            1.15,
            worst_of([r for r in large if r["budget"] in COSTS], over_share),
        ),
        Target(
            "over the share, one vector, n = 1024",
            1.5,
            worst_of([r for r in one if r["n"] == 1024], over_share),
        ),
        Target(
            "over the share, 256 to 2048 columns, n ≥ 3072",
            1.3,
            worst_of([r for r in many if r["n"] >= 3072], over_share),
        ),
        Target(
            "over the share, 256 to 2048 columns, n = 768",
            1.6,
            worst_of([r for r in many if r["n"] == 768], over_share),
        ),
        Target(
            "over reading the scalars once, one vector, n ≥ 4096",
            1.25,
            worst_of(large, lambda r: r["over_read"]),
        ),
        Target(
            "over reading the scalars once, one vector, n < 4096",
            1.25,
            worst_of([r for r in one if r["n"] < 4096], lambda r: r["over_read"]),
        ),
        Target(
            "over a pair of CSR matrices, one vector",
            1 / 3,
            worst_of(one, lambda r: r["over"].get("csr_pair")),
        ),
        Target(
            "a scalar's time over that at the smallest n, at a fixed number of scalars a row",
            1.2,
            worst_of(
                [r for r in rows if r["what"] == "growth"],
                lambda r: r["over_first"],
                lambda r: f"n = {r['n']}",
            ),
        ),
        _of_all("the choice over dense", timed, "over_dense", 1.05),
        _of_all("the kernel chosen over the best kernel", timed, "over_best", 1.1),
    ]


def _of_all(what: str, rows: list[Row], name: str, limit: float) -> Target:
    """The worst of all products that have several kernels, and how many miss the limit."""
    rows = [row for row in rows if "over_best" in row]
    above = sum(row[name] > limit for row in rows)
    case = f"worst of {len(rows)}, {above} above"
    return Target(what, limit, worst_of(rows, lambda row: row[name], lambda _row: case))
