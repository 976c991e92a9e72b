"""Suite "layers": Gaudi masks, and frozen layers in evaluation, with torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.micro.progress import Progress
from benchmarks.micro.suites import Suite
from benchmarks.micro.timing import Call, interleaved
from benchmarks.results import BenchmarkError, Row, short

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from benchmarks.micro import rivals
    from benchmarks.micro.settings import Setting, Shape, relative_error, settings
    from structmat.nn import GaudiLinear, StructuredLinear, gaudi_mask
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[torch]'"
    ) from None


@dataclass(frozen=True)
class LayersPlan:
    """Samples and number of masks, shapes of layers, and seconds for each.

    Costs are in units of the dense layer's; those on a GPU are `gpu_costs`.
    """

    masks: Sequence[tuple[int, int]]
    cpu: Sequence[Shape]
    gpu: Sequence[Shape]
    costs: Sequence[float]
    gpu_costs: Sequence[float]
    seconds: float
    least: int
    minutes: float


FULL = LayersPlan(
    masks=((768, 768), (3072, 768)),
    cpu=tuple((768, 3072, tokens) for tokens in (1, 16, 256, 4096)),
    gpu=tuple((n, n, tokens) for n in (4096, 8192) for tokens in (1, 8192)),
    costs=(0.05, 0.12, 0.25, 0.5, 0.75, 1.0),
    gpu_costs=(0.125, 0.25, 0.5),
    seconds=1.0,
    least=5,
    minutes=2,
)
QUICK = LayersPlan(
    masks=((256, 64),),
    cpu=((96, 192, 1), (96, 192, 64)),
    gpu=((256, 256, 64),),
    costs=(0.12,),
    gpu_costs=(0.25,),
    seconds=0.05,
    least=3,
    minutes=0.2,
)


def run(plan: LayersPlan, seeds: Sequence[int], _data_dir: Path | None = None) -> Suite:
    """Check and measure everything in the plan; structures come from the first seed."""
    suite = Suite("layers", seeds[:1])
    torch.manual_seed(seeds[0])
    chosen = settings(plan.cpu, plan.gpu, [torch.get_num_threads()])
    with Progress("layers", len(plan.masks) + len(chosen)) as progress:
        for n, count in plan.masks:
            progress.step(f"{count} masks on {n} samples")
            suite.rows.append(_masks(suite, plan, n, count))
        for setting in chosen:
            n, m, tokens = setting.shape
            progress.step(f"frozen {n}→{m}, {tokens} vectors, {setting.device}")
            _frozen(suite, plan, setting)
    return suite


def _masks(suite: Suite, plan: LayersPlan, n: int, count: int) -> Row:
    """Time the table algorithm and the Fourier formula, forward and backward."""
    width = torch.randint(n, (count,)) / n
    location = torch.randint(n, (count,)) / n
    grad = torch.randn(count, n)

    def step(straight_through: bool) -> tuple[Tensor, ...]:
        w, l = width.clone().requires_grad_(), location.clone().requires_grad_()
        mask = gaudi_mask(w, l, n, sigma=100.0, straight_through=straight_through)
        mask.backward(grad)
        return mask.detach(), w.grad, l.grad

    for ours, formula in zip(step(True), step(False), strict=True):
        error = float((ours - formula).abs().max() / formula.abs().max())
        suite.check(error < 1e-3, f"masks on {n} samples: off the formula by {error:.1e}")
    calls: dict[str, Call] = {
        "table": partial(step, True),
        "formula": partial(step, False),
        # Masks written once and gradients read once: no fewer bytes move.
        "bytes": partial(torch.empty_like(grad).copy_, grad),
    }
    timing = interleaved(calls, seconds=plan.seconds, least=plan.least)
    return {
        "what": "masks",
        "n": n,
        "masks": count,
        "seconds": short(timing.seconds("table")),
        "formula_over_table": short(timing.ratio("formula", "table")),
        "bytes_over_formula": short(timing.ratio("bytes", "formula")),
    }


@torch.no_grad()
def _frozen(suite: Suite, plan: LayersPlan, setting: Setting) -> None:
    """Time frozen layers and low-rank ones of the same cost in turns with a dense one."""
    n, m, tokens = setting.shape
    x = setting.moved(torch.randn(tokens, n))
    dense = setting.moved(nn.Linear(n, m).eval())
    for cost in plan.costs if setting.device == "cpu" else plan.gpu_costs:
        low_rank = setting.moved(rivals.LowRankLinear(n, m, cost).eval())
        calls: dict[str, Call] = {"dense": partial(dense, x), "low rank": partial(low_rank, x)}
        shares = {}
        for start, options in _structures(n, m, cost).items():
            gaudi = GaudiLinear(n, m, **options).eval()
            matrix = gaudi.to_matrix()
            frozen = setting.moved(StructuredLinear(matrix, gaudi.bias).eval())
            expected = F.linear(x.float(), gaudi.weight.to(setting.device))
            error = relative_error(frozen(x) - frozen.bias, expected)
            place = f"{n}→{m}, {tokens} vectors, {setting.device}, {setting.dtype}"
            suite.check(error <= setting.limit, f"frozen {start}, {place}: off by {error:.1e}")
            calls[start], shares[start] = partial(frozen, x), matrix.relative_cost
        timing = setting.timed(calls, seconds=plan.seconds, least=plan.least)
        for start, share in shares.items():
            suite.rows.append(
                {"what": "frozen", "start": start, "budget": cost, **setting.row()}
                | {
                    "cost": short(share),
                    "rounds": timing.rounds,
                    "seconds": short(timing.seconds(start)),
                    "over_dense": short(timing.ratio(start, "dense")),
                    "over_low_rank": short(timing.ratio(start, "low rank")),
                }
            )


def _structures(n: int, m: int, cost: float) -> dict[str, dict[str, Any]]:
    """Options of layers of one cost: a grid of tiles, and blocks in random places."""
    return {
        "grid": {"budget": cost, "width_init": "grid"},
        "random": {"num_blocks": min(m, n), "width_init": min(1.0, cost * max(m, n) / (m + n))},
    }
