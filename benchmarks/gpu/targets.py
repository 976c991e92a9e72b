"""Targets of the GPU: limits, values from the rows of a run, and what was measured before."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.micro.targets import (
    RatioTarget,
    bounded,
    over_share,
    share_bound,
    worst_rows,
)
from benchmarks.reporting.tables import Table, number, percent
from benchmarks.results import Row

#: The run in which the values "before" were measured.
BEFORE = "one H200, 2026-11-29, torch 2.11 for CUDA 13.0, CuPy 14.2, Triton 3.6"
#: Worst values of a target that its line has.
SHOWN = 3
#: Ways in which a layer runs without its host's help.
REPLAYED = ("graph", "compiled")
#: Structures whose runs are shared by groups of outputs, and those whose runs are not.
SHARED, ARBITRARY = ("tiles", "windows"), ("strips", "runs")


@dataclass(frozen=True)
class GpuTarget:
    """Target with the value of the first run on a GPU."""

    before: str
    target: RatioTarget

    def line(self) -> list[str]:
        """Cells of a table: case, value before, limit, worst values, verdict, bounds."""
        own = self.target
        worst = sorted(own.worst.items(), key=lambda item: -item[1])[:SHOWN]
        shown = ", ".join(f"{number(value, 3)} ({case})" for case, value in worst)
        verdict = own.verdict.partition(",")[0]
        if own.missed:
            verdict += f" at {len(own.missed)} of {len(own.worst)}"
        bounds = own.bounds.get(worst[0][0]) if own.missed else None
        limit = number(own.limit, 3)
        return [own.what, self.before, limit, shown or "–", verdict, bounds or "–"]


def target_table(rows: list[Row]) -> Table:
    """Every target with met, missed or not measured."""
    return Table(
        "GPU targets",
        f"Ratios to the dense product or step of the same shape in the same run, the worst of "
        f"each case; c is the cost over the dense cost. Before: {BEFORE}. Bounds stand beside the "
        "worst miss, as ratios like it: moving each byte once, multiplications as fast as those of "
        "the dense product.",
        ["case", "before", "at most", "measured", "met", "bounds"],
        [target.line() for target in gpu_targets(rows)],
    )


def gpu_targets(rows: list[Row]) -> list[GpuTarget]:
    """All targets, from the rows of a run or from none."""
    by_part: dict[str, list[Row]] = {}
    for row in rows:
        if "skipped" not in row:
            by_part.setdefault(row["part"], []).append(row)
    return [found for part, targets in _TARGETS.items() for found in targets(by_part.get(part, []))]


def _target(
    what: str,
    before: str,
    limit: float,
    rows: Iterable[Row],
    value: Callable[[Row], float | None],
    case: Callable[[Row], str],
    bound: Callable[[Row], str] = lambda _row: "",
) -> GpuTarget:
    return GpuTarget(before, bounded(what, limit, worst_rows(rows, value, case), bound))


def _over_dense(row: Row) -> float:
    return row["over_dense"]


def _shape(row: Row) -> str:
    return f"n = {row['n']}, {percent(row['budget'])}"


def _structure(row: Row) -> str:
    return f"{row['structure']}, {percent(row['budget'])}"


def _tests(rows: list[Row]) -> list[GpuTarget]:
    def case(row: Row) -> str:
        return f"{row['group']}, {row['passed']} passed"

    return [
        _target(
            "GPU tests and the contract on CuPy: tests that failed",
            "185",
            0,
            # A group of which nothing ran tells nothing.
            [row for row in rows if row["passed"] + row["failed"]],
            lambda row: row["failed"],
            case,
        )
    ]


def _products(rows: list[Row]) -> list[GpuTarget]:
    cupy = [row for row in rows if row["library"] == "cupy"]
    runs = [r for r in cupy if r["structure"] == "runs" and r["dtype"] == "float32"]
    one = [r for r in runs if r["n"] == 16384 and r["columns"] == 1]
    many = [r for r in runs if r["n"] >= 8192 and 64 <= r["columns"] <= 512]

    def of(row: Row) -> str:
        return f"{row['structure']}, n = {row['n']}"

    return [
        _target("CuPy, any columns, any n", "170", 1.05, cupy, _over_dense, of),
        _target("CuPy, 1 vector, n = 16384, float32, over c", "1.3–1.6", 1.2, one, over_share,
                _shape, share_bound),
        _target("CuPy, 64 to 512 columns, n ≥ 8192, float32, over c", "20–130 × dense", 1.6, many,
                over_share, _shape, share_bound),
    ]  # fmt: skip


def _frozen(rows: list[Row]) -> list[GpuTarget]:
    half = [row for row in rows if row["dtype"] == "bfloat16"]
    many = [row for row in half if row["rows"] == 8192 and row["way"] == "eager"]
    few = [
        row
        for row in half
        if row["rows"] == 1 and row["n"] >= 4096 and row["budget"] <= 0.25
        and row["way"] in REPLAYED
    ]  # fmt: skip
    found = []
    for what, structures, limits in (
        ("tile-shaped", SHARED, {8192: 1.3, 4096: 1.6}),
        ("arbitrary runs", ARBITRARY, {8192: 2.0, 4096: 2.5}),
    ):
        for n, limit in limits.items():
            own = [r for r in many if r["n"] == n and r["structure"] in structures]
            case = f"frozen layer, bf16, 8192 rows, n = {n}, {what}, over c"
            found.append(
                _target(case, "1.0 × dense", limit, own, over_share, _structure, share_bound)
            )

    def beyond_launch(row: Row) -> float:
        return (row["over_dense"] - row["launch_over_dense"]) / row["storage"]

    found.append(
        _target(
            "frozen layer, bf16, 1 row, n ≥ 4096, c ≤ 1/4, in a graph or compiled, less one "
            "launch, over its storage",
            "1.0 × dense",
            1.5,
            few,
            beyond_launch,
            lambda row: f"{row['structure']}, n = {row['n']}, {row['way']}",
            lambda row: f"{number(row['bytes_over_dense'] / row['storage'])} by bytes",
        )
    )
    return found


def _training(rows: list[Row]) -> list[GpuTarget]:
    large = [row for row in rows if row["n"] == 4096 and row["way"] == "eager"]
    small = [row for row in rows if row["n"] == 1024 and row["way"] in REPLAYED]

    def step(what: str, limit: float, names: Iterable[str]) -> GpuTarget:
        own = [row for row in large if row["layer"] in names]
        case = f"training step, n = 4096, 8192 vectors, {what}"

        def bound(row: Row) -> str:
            share = 1.0 if row["layer"] == "learning" else row["budget"]
            return f"{number(share)} by operations"

        return _target(case, "42–131", limit, own, _over_dense, lambda row: row["layer"], bound)

    return [
        step("learning layer", 1.15, ["learning"]),
        step("pinned, tile-shaped, c = 1/4", 0.7, SHARED),
        step("pinned, arbitrary runs, c = 1/4", 1.3, ARBITRARY),
        _target("training step, n = 1024, compiled or in a graph", "42–131", 1.5, small,
                _over_dense, lambda row: f"{row['layer']}, {row['way']}"),
    ]  # fmt: skip


def _host(rows: list[Row]) -> list[GpuTarget]:
    calls = [r for r in rows if r["what"] == "host"]
    floors = [1e6 * r["seconds"] for r in calls if r["call"] == "empty operator"]
    floor = f" (an empty operator: {number(floors[0])})" if floors else ""
    launches = [r for r in rows if r["what"] == "launches" and r["layer"] != "dense"]
    ours = [r for r in calls if r["call"] not in ("empty operator", "dense")]
    return [
        _target(f"host time of an eager call, µs{floor}", "250–350", 60, ours,
                lambda row: 1e6 * row["seconds"], lambda row: row["call"]),
        _target("memory of a frozen layer, over its contents", "contents + dense", 1.3,
                [r for r in rows if r["what"] == "memory"],
                lambda row: row["over_contents"], _structure),
        _target("operations of a training step that launch", "500", 40,
                launches, lambda row: row["operations"], lambda row: row["layer"]),
        _target("the same at twice the size, over those at the size", "–", 1, _grown(launches),
                lambda row: row["growth"], lambda row: row["layer"]),
    ]  # fmt: skip


def _grown(rows: list[Row]) -> list[Row]:
    """Operations of each layer at its largest size over those at its smallest."""
    sizes: dict[str, dict[int, int]] = {}
    for row in rows:
        sizes.setdefault(row["layer"], {})[row["n"]] = row["operations"]
    return [
        {"layer": layer, "growth": own[max(own)] / own[min(own)]}
        for layer, own in sizes.items()
        if len(own) > 1
    ]


def _projections(rows: list[Row]) -> list[GpuTarget]:
    return [
        _target("projections of a training of 10,000 steps, over its steps", "–", 0.05, rows,
                lambda row: row["share"], lambda row: f"{row['kind']}, n = {row['n']}"),
    ]  # fmt: skip


def _networks(what: str) -> Callable[[list[Row]], list[GpuTarget]]:
    def targets(rows: list[Row]) -> list[GpuTarget]:
        compiled = [row for row in rows if row.get("way") == "compiled"]
        learning = [row for row in compiled if row["layers"] == "learning"]
        pinned = [row for row in compiled if row["layers"].startswith("pinned")]
        memory = [row for row in rows if "bytes" in row and row["layers"] == "learning"]

        def layers(row: Row) -> str:
            return row["layers"]

        step = f"{what}, bf16, compiled"
        return [
            _target(f"{step}, learning", "–", 1.2, learning, _over_dense, layers),
            _target(f"{step}, pinned, c = 1/4", "–", 1.0, pinned, _over_dense, layers),
            _target(f"{what}, memory, learning", "–", 1.3, memory,
                    lambda row: row["bytes_over_dense"], layers),
        ]  # fmt: skip

    return targets


#: Targets of each part.
_TARGETS: dict[str, Callable[[list[Row]], list[GpuTarget]]] = {
    "tests": _tests,
    "products": _products,
    "frozen": _frozen,
    "host": _host,
    "training": _training,
    "projections": _projections,
    "vit": _networks("ViT-S/4, training step of 512 images"),
    "gpt2": _networks("GPT-2 small, training step of 8 × 1024 tokens"),
}
