"""`python -m benchmarks gpu counts`: operations and memory of training steps, without a GPU.

Networks of full size take a step on the meta device, where nothing is computed: a step there
takes the path that it takes on a GPU, and would fail if it read a value.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmarks.gpu.host import LaunchCount
from benchmarks.gpu.networks import PLANS, TINY, NetworkPlan, loss_of, networks
from benchmarks.gpu.step_bytes import COPIES, beside, kept_for_backward
from benchmarks.micro.suites import Suite, write
from benchmarks.results import Row, short

RESULTS_FOLDER = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str]) -> int:
    """Count the steps of all networks, print them, and write them."""
    from benchmarks.gpu.tables import counts_table

    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu counts", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="toy sizes; nothing is written")
    parser.add_argument("--output", type=Path, default=RESULTS_FOLDER, metavar="DIR")
    options = parser.parse_args(arguments)
    begin, suite = time.monotonic(), Suite("gpu_counts", [0])
    for part, plan in (TINY if options.tiny else PLANS).items():
        suite.rows += counted(part, plan)
    print(counts_table(suite.rows).text())
    if not options.tiny:
        words, seconds = "python -m benchmarks gpu counts", time.monotonic() - begin
        result = suite.finished(quick=False, command=words, seconds=seconds)
        print(f"\nwrote {write(options.output, result).name}")
    return 0


def counted(part: str, plan: NetworkPlan) -> list[Row]:
    """Operations and bytes of a step of each network of a plan, over those of the dense one."""
    found: list[Row] = []
    for name, make in networks(plan).items():
        torch.manual_seed(0)
        own = step_counts(plan, make())
        dense = found[0] if found else own
        ratio = short(own["bytes"] / dense["bytes"])
        budget = 1.0 if name == "dense" else plan.cost
        row = {"part": part, "layers": name, "batch": plan.batch, "budget": budget}
        found.append({**row, **own, "bytes_over_dense": ratio})
    return found


def step_counts(plan: NetworkPlan, model: nn.Module) -> Row:
    """Operations of a step that launch, and bytes at its peak, in single precision."""
    model.to("meta").train()
    inputs, labels = (x.to("meta") for x in plan.examples(plan.batch, "cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)

    def step() -> None:
        loss_of(model, inputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    with LaunchCount() as count:
        step()
    with kept_for_backward(model) as kept:
        step()
    contents = COPIES * sum(p.nbytes for p in model.parameters()) + beside(model)
    return {
        "operations": count.total,
        "bytes_of_contents": contents,
        "bytes": contents + kept.total,
    }
