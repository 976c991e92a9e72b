"""What all rules share that change widths after an optimizer step."""

from typing import Any

import torch
from torch import nn, optim

from structmat.errors import InputError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.weight import StructuredWeight
from structmat.nn.training.schedule import AfterStep
from structmat.nn.training.widths import Widths


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    structure_lr: float,
    contents_lr: float | None = None,
    weight_decay: float = 0.0,
    structure_betas: tuple[float, float] = (0.9, 0.999),
) -> list[dict[str, Any]]:
    """Parameters in groups, for any AdamW-like optimizer.

    Widths and locations get their own learning rate and no weight decay. Contents of
    structured matrices, learned or not, get theirs where `contents_lr` is given: with few
    entries in each row they can take larger steps than dense layers (Qiu et al., arXiv
    2406.06248, scale rates by structure). All others are first.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> groups = parameter_groups(GaudiLinear(8, 8), lr=1e-3, structure_lr=5e-3)
    >>> [len(group["params"]) for group in groups]
    [3, 4]
    """
    structural = {
        id(p)
        for w in model.modules()
        if isinstance(w, GaudiWeight)
        for p in w.structure.parameters()
    }
    own = [p for p in model.parameters() if id(p) in structural and p.requires_grad]
    rest = [p for p in model.parameters() if id(p) not in structural and p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": lr, "weight_decay": weight_decay}]
    if contents_lr is not None:
        inside = {
            id(p)
            for w in model.modules()
            if isinstance(w, GaudiWeight | StructuredWeight)
            for p in w.parameters()
        }
        groups[0]["params"] = [p for p in rest if id(p) not in inside]
        contents = [p for p in rest if id(p) in inside]
        if contents:
            groups.append({"params": contents, "lr": contents_lr, "weight_decay": weight_decay})
    if own:
        groups.append(
            {"params": own, "lr": structure_lr, "weight_decay": 0.0, "betas": structure_betas}
        )
    return groups


class ProximalStep(AfterStep):
    """Base of the rules that change widths after an optimizer step."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer, measure: str) -> None:
        named = {n: w for n, w in model.named_modules() if isinstance(w, GaudiWeight)}
        if not named:
            raise InputError(
                f"{type(model).__name__} has no Gaudi layers; expected at least one (convert it "
                'first: structmat.nn.convert_(model, Config(kind="gblr", budget=…)))'
            )
        self.weights = list(named.values())
        # One name for each structure: taps of a convolution may share theirs.
        shared = {id(w.structure): name for name, w in reversed(named.items())}
        self.names = [name for name, w in named.items() if shared[id(w.structure)] == name]
        self.widths = Widths(self.weights, measure)
        self._check_followed(optimizer)
        super().__init__(optimizer)

    def _check_followed(self, optimizer: optim.Optimizer) -> None:
        """Refuse an optimizer that leaves all widths where they are."""
        followed = {id(p) for group in optimizer.param_groups for p in group["params"]}
        learned = [p for p in self.widths.parameters() if p.requires_grad]
        if learned and not any(id(p) in followed for p in learned):
            raise InputError(
                "the optimizer has none of the model's widths; expected one that was made after "
                "the conversion, from parameter_groups(model, …) or model.parameters()"
            )

    def _tidy(self) -> None:
        """Bring locations back onto the circle where contents live on whole circles."""
        for weight in self.weights:
            structure = weight.structure
            sides = zip((structure.row_location, structure.col_location), weight.shape, strict=True)
            for limit, (location, n) in zip(weight.max_width, sides, strict=True):
                # On a window, storage follows the unwrapped location.
                if limit == n and location.requires_grad:
                    with torch.no_grad():
                        location.copy_(location % 1.0)
