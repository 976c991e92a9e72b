"""Checks of every conversion of a model for an experiment."""

from torch import Tensor, nn

from benchmarks.results import BenchmarkError

STARTS = ("scratch", "weights")


def check_start(start: str) -> None:
    """Refuse an unknown start."""
    if start not in STARTS:
        raise BenchmarkError(f"start = {start!r}; expected {' or '.join(map(repr, STARTS))}")


def check_linear(name: str, module: nn.Module) -> nn.Linear:
    """Return the layer if it is exactly an `nn.Linear`: subclasses may compute anything."""
    if isinstance(module, nn.Conv2d):
        raise BenchmarkError(
            f"layer {name!r} is a Conv2d; expected an nn.Linear (leave convolutions out: this kind "
            "is compared on networks of linear layers only)"
        )
    if type(module) is not nn.Linear:
        raise BenchmarkError(
            f"layer {name!r} is a {type(module).__name__}; expected an nn.Linear (leave it out)"
        )
    return module


def check_finite(name: str, weight: Tensor) -> None:
    """Refuse NaN and infinity, which no approximation survives."""
    if not weight.isfinite().all():
        raise BenchmarkError(
            f"{name} has NaN or infinite entries; expected finite ones (mend them)"
        )
