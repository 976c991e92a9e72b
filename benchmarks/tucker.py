"""Tucker's decomposition of convolutions beside structmat's kinds, at equal multiplications.

`python -m benchmarks tucker run` trains small networks on scikit-learn's digits, compresses their
two large convolutions, fine-tunes, and keeps the figures; `python -m benchmarks tucker report`
writes the table into the page of questions on the paper.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.learn import placed
from benchmarks.reporting.stamps import stamp
from benchmarks.reporting.tables import number, percent
from benchmarks.results import BenchmarkError, Row, load, rows_as_json, short, write_text

try:
    import torch
    from sklearn.datasets import load_digits
    from torch import Tensor, nn
    from torch.nn import functional as F

    from benchmarks.models.tucker import ranks_under, tucker
    from structmat.nn import Anneal, Config, convert_, cost, freeze_
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[learn]'"
    ) from None

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "tucker.json"
PAGE = ROOT / "docs" / "paper" / "questions.md"
#: Lines around the table on the page.
BEGIN = "<!-- table of convolutions, by `python -m benchmarks tucker report` -->"
END = "<!-- end of this table -->"
SCHEMA = 1
KEYS = ("schema", "command", "machine", "settings", "rows")
BUDGETS, SEEDS = (0.05, 0.1, 0.25), (0, 1, 2, 3, 4)
#: Epochs of the dense training and of the fine-tuning, examples of a batch, and learning rates.
EPOCHS, TUNING, BATCH, RATES = 15, 5, 64, (2e-3, 1e-3)
TRAINING = 1257
#: Kinds of structmat, with their names in the table.
KINDS = {
    "tucker": "Tucker, by TensorLy",
    "low_rank": "low rank",
    "block_low_rank": "block low rank",
    "monarch": "Monarch",
    "gblr": "GBLR, learned in the fine-tuning",
}
#: Convolutions that are compressed, and the pixels of their input and output.
INNER = {"2": (64, 64), "5": (16, 16)}


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tucker", description=__doc__)
    parser.add_argument("what", choices=("run", "report"), help="measure, or write the table")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if options.what == "run":
        write_text(options.output, rows_as_json(measured()))
        print(f"wrote {options.output.name}")
    text = table(load(RESULT, SCHEMA, KEYS))
    write_text(PAGE, placed(PAGE.read_text(encoding="utf-8"), text, PAGE.name, BEGIN, END))
    print(f"wrote {PAGE.name}")
    return 0


def measured(seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS) -> Row:
    """Content of the result file."""
    busy, begin = short(os.getloadavg()[0]), time.process_time()
    rows = [row for seed in seeds for row in of_seed(seed, epochs)]
    return {
        "schema": SCHEMA,
        "command": "python -m benchmarks tucker run",
        "machine": machine.facts(),
        # Processes that wanted a core when it began; seconds are those of the processor.
        "load": busy,
        "seconds": short(time.process_time() - begin),
        "settings": {"epochs": epochs, "tuning": TUNING, "batch": BATCH, "rates": RATES},
        "rows": rows,
    }


def of_seed(seed: int, epochs: int = EPOCHS) -> list[Row]:
    """The dense network of a seed, and every kind at every budget, before and after the tuning."""
    torch.manual_seed(seed)
    x, y = digits(seed)
    dense = network()
    train(dense, x, y, epochs, RATES[0])
    example = x[:1]
    whole = inner_cost(dense, example)
    rows = [{"kind": "dense", "seed": seed, "budget": 1.0, "tuned": accuracy(dense, x, y)}]
    for budget in BUDGETS:
        for kind in KINDS:
            model, begin = copy.deepcopy(dense), time.process_time()
            if kind == "tucker":
                convs = {name: model.get_submodule(name) for name in INNER}
                ranks = ranks_under(convs, INNER, budget * whole)
                for name, conv in convs.items():
                    model.set_submodule(name, tucker(conv, ranks[name]))
            else:
                config = Config(kind=kind, budget=budget, start="weights", learn=kind == "gblr")
                convert_(model, config, lambda name, _: name in INNER, example=example)
            at_once = None if kind == "gblr" else accuracy(model, x, y)
            train(model, x, y, TUNING, RATES[1], budget if kind == "gblr" else None)
            if kind == "gblr":
                freeze_(model)
            rows.append({
                "kind": kind, "seed": seed, "budget": budget,
                "relative_cost": short(inner_cost(model, example) / whole),
                "at_once": at_once, "tuned": accuracy(model, x, y),
                "seconds": short(time.process_time() - begin),
            })  # fmt: skip
            print("  ".join(f"{value}" for value in rows[-1].values()), flush=True)
    return rows


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """scikit-learn's digits in an order of the seed's."""
    images, y = load_digits(return_X_y=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    return x[order], torch.tensor(y)[order]


def network() -> nn.Sequential:
    """Three convolutions of which two are large, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def train(
    model: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float, budget: float | None = None
) -> None:
    """Train on the first examples; with a budget, the structure of learned layers too."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    steps = epochs * len(torch.arange(TRAINING).split(BATCH))
    if budget is not None:
        Anneal(model, optimizer, budget, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(TRAINING).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the examples left over that are told right."""
    model.eval()
    right = model(x[TRAINING:]).argmax(1) == y[TRAINING:]
    model.train()
    return float(right.double().mean())


def inner_cost(model: nn.Module, example: Tensor) -> int:
    """Multiplications of the compressed convolutions for one example."""
    rows = cost(model, example).rows
    return sum(row.cost * row.positions for row in rows if row.name.split(".")[0] in INNER)


def table(result: Row) -> str:
    """Table of a result in Markdown, with a line that names seeds and machine."""
    rows, settings = result["rows"], result["settings"]
    heads = ["two convolutions as", *(f"at {percent(b)}" for b in BUDGETS)]
    lines = [heads, ["---"] * len(heads)]
    for kind, name in KINDS.items():
        cells = []
        for budget in BUDGETS:
            own = [r for r in rows if (r["kind"], r["budget"]) == (kind, budget)]
            before = [r["at_once"] for r in own if r["at_once"] is not None]
            begun = f"{_mean(before)} → " if before else ""
            cells.append(f"{begun}{_mean([r['tuned'] for r in own])}")
        lines.append([name, *cells])
    dense = _mean([row["tuned"] for row in rows if row["kind"] == "dense"])
    seeds = len({row["seed"] for row in rows})
    note = (
        f"Test accuracy in per cent at once → after {settings['tuning']} epochs of fine-tuning, "
        f"means of {seeds} seeds; dense {dense}. Multiplications are those of both convolutions "
        f"for one example, never above the budget. {number(result['seconds'])} s of one processor, "
        f"{result['machine']['cpu']}, {stamp(result)}."
    )
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", note])


def _mean(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}"
