"""Clock of trainings on a device, and inference times beside those of the dense network."""

import statistics
import time

import torch
from torch import nn

from structmat.learn.devices import wait_for
from structmat.learn.tasks import ImageTask, TextTask

#: Timings of both networks on the same batch, in turns.
_TIMING_COUNT = 7


def now(device: str) -> float:
    """Seconds: of this process alone on the CPU, which others share, else by the wall clock."""
    if torch.device(device).type == "cpu":
        return time.process_time()
    wait_for(device)
    return time.perf_counter()


@torch.no_grad()
def inference(model: nn.Module, task: ImageTask | TextTask, device: str) -> tuple[float, float]:
    """Seconds for a batch of the test set, and their ratio to the dense network's, in turns."""
    dense = task.model().to(device).eval()
    x, _ = next(iter(task.test_batches()))
    times: list[tuple[float, float]] = []
    for _ in range(_TIMING_COUNT + 1):
        pair = []
        for network in (model.eval(), dense):
            begin = now(device)
            network(x)
            pair.append(now(device) - begin)
        times.append((pair[0], pair[1]))
    times = times[1:]  # the first one compiles
    return statistics.median(t for t, _ in times), statistics.median(a / b for a, b in times)
