"""Ways to call a layer: eager, compiled, and replayed from a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.micro.settings import cuda_clock
from benchmarks.micro.timing import Call, Clock, Timing, wall_clock
from benchmarks.results import Row, short

#: Calls before a capture, in which libraries choose their algorithms.
WARM_UPS = 3
#: What is done with a layer: a product, or a training step.
Use = Callable[[Any], Any]


def clock(device: str) -> Clock:
    """Clock of a device; that of a GPU empties its caches before each call."""
    return cuda_clock if device == "cuda" else wall_clock


def over_dense(timing: Timing, name: str) -> Row:
    """Figures of one of several calls that were timed side by side with "dense"."""
    return {
        "rounds": timing.rounds,
        "seconds": short(timing.seconds(name)),
        "over_dense": short(timing.ratio(name, "dense")),
    }


def eager(layer: nn.Module, use: Use, _device: str) -> Call:
    """The layer itself."""
    return lambda: use(layer)


def compiled(layer: nn.Module, use: Use, device: str) -> Call:
    """The layer through torch.compile with its graphs; on a CPU it is traced alone."""
    made = optimized(layer, device, mode="reduce-overhead")

    def call() -> Any:
        if device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        return use(made)

    for _ in range(WARM_UPS):
        call()
    return call


def optimized(model: nn.Module, device: str, **options: Any) -> Any:
    """Model through torch.compile with these options; on a CPU without a compiler."""
    if device != "cuda":
        return torch.compile(model, dynamic=False, backend="eager")
    return torch.compile(model, dynamic=False, **options)


def graphed(layer: nn.Module, use: Use, device: str) -> Call:
    """The layer in a CUDA graph made by hand; on a CPU the layer itself."""
    if device != "cuda":
        return eager(layer, use, device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            use(layer)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = use(layer)

    def replay() -> Any:
        graph.replay()
        return result

    return replay


WAYS: dict[str, Callable[[nn.Module, Use, str], Call]] = {
    "eager": eager,
    "compiled": compiled,
    "graph": graphed,
}


def host(tensor: Tensor) -> Any:
    """Tensor as an array in double precision on the CPU."""
    return tensor.detach().double().cpu().numpy()


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
