"""Dense networks of fewer units, whose inner layers cost what a budget allows."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from benchmarks.results import BenchmarkError
from structmat.errors import BudgetError
from structmat.learn.models import build_model

#: Sizes that may shrink, by the name that a model has for it.
WIDTHS = ("width", "dim")


def narrow(
    raw: Mapping[str, Any],
    dense: nn.Module,
    layers: Mapping[str, tuple[int, int]],
    example: Tensor,
    budget: float,
) -> nn.Module:
    """Dense network of the largest width whose layers cost at most a share of the wide ones.

    Parameters
    ----------
    raw : mapping
        Content of the experiment's file; its "size" gives the width of the wide network.
    dense : Module
        The wide network.
    layers : mapping
        Size and positions of each of its inner layers.
    example : Tensor
    budget : float

    Raises
    ------
    BudgetError
        If the least width costs more.
    """
    size = raw["size"]
    key = next((key for key in WIDTHS if isinstance(size, Mapping) and key in size), None)
    if key is None:
        raise BenchmarkError(
            f"size = {size!r} for a narrower network; expected sizes with {' or '.join(WIDTHS)} "
            "(write them out, such as { width = 256 })"
        )
    cap = budget * sum(count * positions for count, positions in layers.values())
    if raw["model"] == "gpt":
        data: dict[str, Any] = {"context": raw["context"]}
    else:
        head = dense.get_submodule("head")
        data = {"image": tuple(example.shape[1:]), "classes": head.weight.shape[0]}

    def made(units: int) -> nn.Module:
        return build_model(raw["model"], size={**size, key: units * step}, **data)

    def cost(model: nn.Module) -> int:
        return sum(
            model.get_submodule(name).weight.numel() * positions
            for name, (_, positions) in layers.items()
        )

    step = size.get("heads", 1)  # heads share the width evenly
    fits, above = 0, size[key] // step + 1
    while above - fits > 1:
        middle = (fits + above) // 2
        fits, above = (middle, above) if cost(made(middle)) <= cap else (fits, middle)
    if fits == 0:
        raise BudgetError(
            f"budget = {budget:g}; expected at least {cost(made(1)) / cap * budget:.3g}, the cost "
            f"of {key} {step}"
        )
    return made(fits)
