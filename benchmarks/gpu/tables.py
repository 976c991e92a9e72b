"""Tables of a GPU's result, for the terminal and for docs/benchmarks.md."""

from collections.abc import Callable

from benchmarks.gpu.targets import target_table
from benchmarks.reporting.page import folds, machine
from benchmarks.reporting.stamps import stamp
from benchmarks.reporting.tables import (
    Table,
    budget,
    folded,
    left_out,
    listing,
    number,
    percent,
    pivot,
)
from benchmarks.results import Row

INTRODUCTION = (
    "`python -m benchmarks gpu` runs the tests that need a GPU, checks every result and then "
    "measures, in under eight minutes; it takes whatever versions of torch, CuPy, Triton and "
    "numba are there. Clocks are those of the GPU, with its caches emptied before each call."
)
UNMEASURED = "It has not run since these targets were set."


def gpu_section(result: Row | None, counts: Row | None = None) -> str:
    """Section of the page: figures where there is a result, and otherwise the targets alone."""
    lead = INTRODUCTION if result is not None else f"{INTRODUCTION}\n\n{UNMEASURED}"
    shown = [target_table([])] if result is None else gpu_tables(result["rows"])
    failures = [] if result is None else result["failures"]
    how = [] if result is None else [measured(result)]
    origin = "not measured" if result is None else stamp(result)
    parts = [folds("On a GPU", lead, {}, failures, shown, how, origin)]
    if counts is not None:
        table = counts_table(counts["rows"])
        parts.append(folded(table.title, table.body(), stamp(counts)))
    return "\n".join(part for part in parts if part)


def counts_table(rows: list[Row]) -> Table:
    """Operations and memory of the steps of networks, as `counts` finds them without a GPU."""
    names = {"vit": "ViT-S/4", "gpt2": "GPT-2 small"}
    return listing(
        "What a training step asks of a GPU",
        "Counted on the meta device by `python -m benchmarks gpu counts`, and not timed: the "
        "operations of a step that launch, with AdamW's; bytes of parameters, gradients and "
        "moments, and with what the backward pass needs; in single precision.",
        {
            "network": lambda row: f"{names[row['part']]}, {row['layers']}",
            "cost": _cost,
            "batch": "batch",
            "operations": "operations",
            "contents, GB": lambda row: number(row["bytes_of_contents"] / 1e9, 3),
            "step, GB": lambda row: number(row["bytes"] / 1e9, 3),
            "over dense": lambda row: number(row["bytes_over_dense"], 3),
        },
        rows,
    )


def measured(result: Row) -> str:
    """Sentence on the machine of a result."""
    facts = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    return (
        f"Measured on {facts['date']} by `{result['command']}` in {result['seconds']:.0f} s: "
        f"{machine(facts | {'peers': {}}, threads=False).removesuffix('.')}; CUDA "
        f"{facts.get('cuda', '–')}, {versions}."
    )


def gpu_tables(rows: list[Row]) -> list[Table]:
    """Targets first, then a table for each part that has figures, and what was left out."""
    found = [target_table(rows)]
    for part, make in _TABLES.items():
        own = [row for row in rows if row["part"] == part and "skipped" not in row]
        if own:
            found += make(own)
    skipped = [row for row in rows if "skipped" in row]
    if skipped:
        found.append(Table("Left out", left_out(skipped, "part", "case").strip(), [], []))
    return found


def _ratio(row: Row) -> str:
    return number(row["over_dense"])


def _cost(row: Row) -> str:
    return percent(row["budget"])


def _tests(rows: list[Row]) -> list[Table]:
    columns = {"group": "group", "passed": "passed", "failed": "failed", "skipped": "skips"}
    return [listing("GPU tests", "How the tests of each group ended.", columns, rows)]


def _products(rows: list[Row]) -> list[Table]:
    names = {"cupy": "CuPy", "torch": "torch"}
    return [
        pivot(
            f"Products on {names[library]}",
            "Time of `A @ X` over that of the dense product, and the kernel chosen.",
            {"structure": "structure", "n": "n", "cost": _cost, "dtype": "dtype"},
            ("columns", "columns = {}"),
            lambda row: f"{_ratio(row)} {row['kernel']}",
            [row for row in rows if row["library"] == library],
        )
        for library in dict.fromkeys(row["library"] for row in rows)
    ]


def _frozen(rows: list[Row]) -> list[Table]:
    return [
        pivot(
            "Frozen layers on a GPU",
            "Time over that of `torch.nn.Linear` called in the same way. Tiles: full ones of "
            "128×128. Windows: a run of columns shared by 128 outputs. Strips: a run for each "
            "output. Runs: as many rank-one blocks as rows, anywhere. Graphs are made for up to 16 "
            "rows, and two of the structures are compiled, for one row.",
            {"structure": "structure", "n": "n", "cost": _cost, "dtype": "dtype", "way": "way"},
            ("rows", "rows = {}"),
            _ratio,
            rows,
        )
    ]


def _training(rows: list[Row]) -> list[Table]:
    return [
        pivot(
            "Training steps on a GPU",
            "Forward and backward of 8192 vectors in bfloat16, over those of a dense layer.",
            {"layer": "layer", "n": "n", "cost": _cost},
            ("way", "{}"),
            _ratio,
            rows,
        )
    ]


def _host(rows: list[Row]) -> list[Table]:
    calls = [row for row in rows if row["what"] == "host"]
    memory = [row for row in rows if row["what"] == "memory"]
    launches = [row for row in rows if row["what"] == "launches"]
    return [
        listing(
            "Host time of a call",
            "Eager, one row in bfloat16; the empty operator launches a kernel that does nothing.",
            {"call": "call", "n": "n", "µs": lambda row: number(1e6 * row["seconds"])},
            calls,
        ),
        listing(
            "Memory of a frozen layer",
            "Bytes on the device after some products, over those of the contents.",
            {
                "structure": "structure",
                "n": "n",
                "cost": _cost,
                "over contents": lambda row: number(row["over_contents"], 3),
            },
            memory,
        ),
        listing(
            "Launches of a training step",
            "Operations that compute, as torch dispatches them; kernels, copies and fills that "
            "the profiler saw.",
            {
                "layer": "layer",
                "n": "n",
                "operations": "operations",
                "launches": lambda row: number(row["launches"], 4),
            },
            launches,
        ),
    ]


def _projections(rows: list[Row]) -> list[Table]:
    return [
        listing(
            "Projections on a GPU",
            "Seconds of a projection, and ten of them over a training of 10,000 steps.",
            {
                "kind": "kind",
                "n": "n",
                "cost": budget,
                "seconds": lambda row: number(row["seconds"]),
                "longest": lambda row: number(row["longest"]),
                "share": lambda row: percent(row["share"]),
            },
            rows,
        )
    ]


def _networks(title: str, note: str) -> Callable[[list[Row]], list[Table]]:
    def make(rows: list[Row]) -> list[Table]:
        index = {"layers": "layers", "cost": _cost, "batch": "batch"}
        timed, counted = ([r for r in rows if ("way" in r) == by_time] for by_time in (True, False))
        found = [pivot(title, note, index, ("way", "{}"), _ratio, timed)]
        if counted:
            columns = {
                **index,
                "operations": "operations",
                "host, ms": lambda row: number(1e3 * row["host_seconds"]),
                "bytes": "bytes",
                "over dense": lambda row: number(row["bytes_over_dense"], 3),
            }
            found.append(listing(f"{title}: its steps", _STEPS, columns, counted))
        return found

    return make


#: Of what steps ask for.
_STEPS = (
    "Operations of a step that launch, with the optimizer's, as torch dispatches them; the time "
    "for which it keeps the host; bytes at its peak, with AdamW's moments."
)


_TABLES: dict[str, Callable[[list[Row]], list[Table]]] = {
    "tests": _tests,
    "products": _products,
    "frozen": _frozen,
    "training": _training,
    "host": _host,
    "projections": _projections,
    "decoding": _networks(
        "Decoding on a GPU",
        "One token of a GPT of width 2048 and depth 2 in bfloat16, over the dense network's time.",
    ),
    "vit": _networks(
        "Vision transformer on a GPU",
        "A training step of ViT-S/4, bfloat16, over that of the dense network. Gaudi: masks as "
        "published, looked up in tables, by an assembled weight.",
    ),
    "gpt2": _networks(
        "GPT-2 small on a GPU",
        "A training step of GPT-2 small, bfloat16, over that of the dense network, the same ways.",
    ),
}
