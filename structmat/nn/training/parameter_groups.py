"""Groups of a model's parameters for its optimizer."""

from typing import Any

from torch import nn

from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.weight import StructuredWeight


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    structure_lr: float,
    contents_lr: float | None = None,
    weight_decay: float = 0.0,
    structure_betas: tuple[float, float] = (0.9, 0.999),
) -> list[dict[str, Any]]:
    """Groups of parameters for any AdamW-like optimizer.

    Widths and locations get a learning rate of their own and no weight decay. Contents of
    structured matrices, learned or not, get a rate of their own with `contents_lr`: having few
    entries in each row, they can take larger steps than dense layers (Qiu et al., arXiv
    2406.06248, scale rates by structure). The group of all other parameters is first.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> groups = parameter_groups(GaudiLinear(8, 8), lr=1e-3, structure_lr=5e-3)
    >>> [len(group["params"]) for group in groups]
    [3, 4]
    """
    weights = [w for w in model.modules() if isinstance(w, GaudiWeight | StructuredWeight)]
    runs = {p for w in weights if isinstance(w, GaudiWeight) for p in w.structure.parameters()}
    contents = {p for w in weights for p in w.parameters() if contents_lr is not None} - runs
    learned = [p for p in model.parameters() if p.requires_grad]
    rest = [p for p in learned if p not in runs and p not in contents]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": lr, "weight_decay": weight_decay}]
    if inside := [p for p in learned if p in contents]:
        groups.append({"params": inside, "lr": contents_lr, "weight_decay": weight_decay})
    if own := [p for p in learned if p in runs]:
        groups.append(
            {"params": own, "lr": structure_lr, "weight_decay": 0.0, "betas": structure_betas}
        )
    return groups
