"""Suite "learning": handwritten digits by structured networks, and what each choice is worth.

The network is 64-256-256-10; its two hidden layers are structured. Accuracies are those
of evaluation: hard boxcars, true widths.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.micro.progress import Progress
from benchmarks.results import BenchmarkError, Row, Suite, short

try:
    import torch
    from torch import nn

    from structmat import BudgetError, LowRank
    from structmat.learn.data import load_data
    from structmat.learn.tasks import ImageTask, is_inner, make_task
    from structmat.learn.train import Settings, train
    from structmat.nn import Config, GaudiLinear, StructuredLinear, convert_, cost
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[learn]'"
    ) from None

BOXCARS = (math.inf, math.inf)
KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly")


@dataclass(frozen=True)
class Plan:
    """Budgets, seeds at least, and passes through the data."""

    budgets: Sequence[float]
    seeds: int
    epochs: int
    minutes: float


FULL = Plan(budgets=(0.1, 0.05), seeds=5, epochs=60, minutes=20)
QUICK = Plan(budgets=(0.1,), seeds=1, epochs=2, minutes=0.5)


@dataclass(frozen=True)
class Case:
    """One way to a network: how it is made and trained.

    Parameters
    ----------
    name, group : str
        As tables show it, and which table it is in.
    change : dict
        Of the settings.
    convert : dict
        Further fields of `Config`.
    make : callable, optional
        ``make(n, m, budget, generator)`` is a layer; `convert_` makes the others.
    kind : str
        For `convert_`.
    """

    name: str
    group: str
    change: dict[str, Any] = field(default_factory=dict)
    convert: dict[str, Any] = field(default_factory=dict)
    make: Callable[..., nn.Module] | None = None
    kind: str = "gblr"


def _rule(oversize: float, rule: str, **options: Any) -> Callable[..., nn.Module]:
    """Layers of min(m, n) blocks at random places, by a published rule or of equal widths."""

    def make(n: int, m: int, budget: float, generator: Any) -> nn.Module:
        width = min(1.0, oversize * budget * max(m, n) / (m + n))
        start = width if rule == "equal" else f"{rule}{width:.6f}"
        return GaudiLinear(n, m, width_init=start, generator=generator, **options)

    return make


def _published(n: int, m: int, _budget: float, generator: Any) -> nn.Module:
    return GaudiLinear(n, m, width_init="splr0.5", location_init=0.0, generator=generator)


def _grid(oversize: float, **options: Any) -> dict[str, Any]:
    return {"oversize": oversize, "options": {"width_init": "grid", **options}}


FROZEN = {"learn_widths": False, "learn_locations": False}
MASKS = {"structure": "gaudi"}
CASES = (
    Case("dense", "kinds", kind="dense"),
    *(Case(kind.replace("_", " "), "kinds", kind=kind) for kind in KINDS),
    Case("GBLR", "kinds"),
    Case("ends moved from strips at 2 times the budget", "ablations", {}, {"oversize": 2.0}),
    Case("ends moved from a grid at the budget", "ablations", {}, _grid(1.0)),
    Case("structure frozen: strips at the budget", "ablations", {}, {"options": FROZEN}),
    Case("structure frozen: grid at the budget", "ablations", {}, _grid(1.0, **FROZEN)),
    Case("structure frozen: equal widths, random places", "ablations",
         make=_rule(1.0, "equal", **FROZEN)),
    Case("structure frozen: splr at the budget", "ablations", make=_rule(1.0, "splr", **FROZEN)),
    Case("GBLR by Gaudi masks", "ablations", MASKS, _grid(2.0)),
    Case("Gaudi masks: boxcars throughout, no σ schedule", "ablations",
         {**MASKS, "sigma": BOXCARS}, _grid(2.0)),
    Case("Gaudi masks: locations fixed", "ablations", MASKS, _grid(2.0, learn_locations=False)),
    Case("Gaudi masks: from strips at the budget", "ablations", MASKS),
    Case("Gaudi masks: grid from 1 times the budget", "ablations", MASKS, _grid(1.0)),
    Case("Gaudi masks: grid from 4 times the budget", "ablations", MASKS, _grid(4.0)),
    Case("Gaudi masks: splr start at 50 % width, published settings", "ablations",
         {**MASKS, "sigma": (1.0, 100.0)}, make=_published),
    Case("Gaudi masks: momentum 0.9 on widths and locations", "ablations",
         {**MASKS, "structure_betas": (0.9, 0.999)}, _grid(2.0)),
    Case("Gaudi masks: dead blocks revived", "ablations", {**MASKS, "revive_every": 30},
         _grid(2.0)),
)  # fmt: skip
TRANSFER = "low rank at the learned cost of each layer"


def run(plan: Plan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Train every case with every budget and seed."""
    seeds = seeds if len(seeds) >= plan.seeds else range(plan.seeds)
    suite = Suite("learning", seeds)
    task = make_task(load_data("digits"), "mlp", "small", Settings().batch)
    jobs = list(_jobs(plan, seeds))
    with Progress("learning", len(jobs)) as progress:
        for case, budget, seed in jobs:
            progress.step(f"{case.name}, {budget:g}, seed {seed}")
            try:
                model = _model(task, case, budget, seed)
            except BudgetError as reason:
                row = {"case": case.name, "group": case.group, "budget": budget, "seed": seed}
                suite.rows.append(row | {"skipped": str(reason)})
                continue
            row = _trained(suite, task, plan, case, model, budget, seed)
            if case.name == "GBLR":
                shares = _transferred(task, model, seed)
                again = Case(TRANSFER, "ablations", kind="low_rank")
                _trained(suite, task, plan, again, shares, budget, seed)
                suite.check(row["cost"] <= budget, f"GBLR costs {row['cost']}, above {budget}")
    return suite


def _jobs(plan: Plan, seeds: Sequence[int]) -> Iterator[tuple[Case, float, int]]:
    for case in CASES:
        for budget in plan.budgets if case.kind != "dense" else (1.0,):
            for seed in seeds:
                yield case, budget, seed


def _model(task: ImageTask, case: Case, budget: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model, generator = task.model(), torch.Generator().manual_seed(seed)
    if case.make is not None:
        for name, module in list(model.named_modules()):
            if is_inner(name, module):
                layer = case.make(module.in_features, module.out_features, budget, generator)
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, layer)
    elif case.kind != "dense":
        config = Config(kind=case.kind, budget=budget, **case.convert)
        convert_(model, config, is_inner, generator=generator)
    return model


def _transferred(task: ImageTask, learned: nn.Module, seed: int) -> nn.Module:
    """A low-rank network in which each layer costs what the learned one does, at most."""
    torch.manual_seed(seed)
    model = task.model()
    layers = {r.name.removesuffix(".matrix"): r.cost for r in cost(learned).rows}
    for name, module in list(model.named_modules()):
        if is_inner(name, module):
            m, n = module.weight.shape
            rank = layers[name] // (m + n)
            spread = (3 * n * max(rank, 1)) ** -0.25
            matrix = LowRank(spread * torch.randn(m, rank), spread * torch.randn(n, rank))
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, StructuredLinear(matrix, module.bias))
    return model


def _trained(
    suite: Suite,
    task: ImageTask,
    plan: Plan,
    case: Case,
    model: nn.Module,
    budget: float,
    seed: int,
) -> Row:
    settings = replace(Settings(), epochs=plan.epochs, **case.change)
    frozen = "frozen" in case.name
    learned = case.kind == "gblr" and not frozen
    trained = train(task, model, settings, budget=budget if learned else None, seed=seed)
    rows = [r for r in cost(model).rows if r.name.partition(".")[0] == "layers"]
    dense = sum(r.dense_cost for r in rows)
    row = {
        "case": case.name,
        "group": case.group,
        "budget": budget,
        "seed": seed,
        "accuracy": short(task.score(model)),
        "cost": sum(r.cost for r in rows) / dense,
        "layers": [short(r.cost / r.dense_cost) for r in rows],
        "seconds": short(trained.seconds),
    }
    suite.rows.append(row)
    return row
