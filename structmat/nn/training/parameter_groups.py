"""Groups of a model's parameters for its optimizer."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from structmat.errors import InputError
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.structured.weight import StructuredWeight
from structmat.nn.training.contents_rates import rate_multiples


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    structure_lr: float,
    contents_lr: float | str | None = None,
    weight_decay: float = 0.0,
    structure_betas: tuple[float, float] = (0.9, 0.999),
) -> list[dict[str, Any]]:
    """Groups of parameters for any AdamW-like optimizer.

    Widths and locations get a learning rate of their own and no weight decay. Contents of
    structured matrices, learned or not, have few entries in each row, and can take larger steps
    than dense layers: ``contents_lr="rule"`` sets their rates by structure. The group of all
    other parameters is first.

    Parameters
    ----------
    model : torch.nn.Module
        Parameters that are not trained are left out.
    lr : float
        Rate of all parameters without one of their own: of dense layers, biases, norms.
    structure_lr : float
        Rate of widths and locations.
    contents_lr : float or str, optional
        Rate of contents; `lr` by default. With "rule" a multiple of `lr` for each weight, from
        the multiplications for each output: m n over the cost, or (3 n / r)^(1/4) for low rank
        r, between 1 and 8, in a group for each multiple. The rule is meant for Adam-like
        optimizers, random starts, and an `lr` that is tuned for dense layers.
    weight_decay : float
        For all parameters but widths and locations.
    structure_betas : tuple of float
        Betas of widths and locations.

    Returns
    -------
    list of dict
        Groups as `torch.optim.AdamW` takes them: other parameters, contents by rising rate,
        widths and locations. All but the first are left out if they are empty.

    Raises
    ------
    InputError
        If `contents_lr` is another string.

    Notes
    -----
    AdamW multiplies weight decay by the rate, so that contents with a larger rate also decay
    faster. The rule takes the cost of the moment: call the function after `convert_`, and in the
    same way when a training is resumed. Learning rates by structure: Qiu et al., arXiv 2406.06248.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import GaudiLinear
    >>> groups = parameter_groups(GaudiLinear(8, 8), lr=1e-3, structure_lr=5e-3)
    >>> [len(group["params"]) for group in groups]
    [3, 4]
    >>> layer = GaudiLinear(64, 64, budget=0.1)
    >>> groups = parameter_groups(layer, lr=1e-3, structure_lr=5e-3, contents_lr="rule")
    >>> [(len(group["params"]), group["lr"]) for group in groups]
    [(1, 0.001), (2, 0.008), (4, 0.005)]
    """
    weights = [
        w for w in model.modules() if isinstance(w, GaudiWeight | AnnealWeight | StructuredWeight)
    ]
    runs = {p for w in weights if isinstance(w, GaudiWeight) for p in w.structure.parameters()}
    rates = _contents_rates(weights, lr, contents_lr)
    learned = [p for p in model.parameters() if p.requires_grad]
    rest = [p for p in learned if p not in runs and p not in rates]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": lr, "weight_decay": weight_decay}]
    for rate in sorted({rates[p] for p in learned if p in rates}):
        inside = [p for p in learned if rates.get(p) == rate]
        groups.append({"params": inside, "lr": rate, "weight_decay": weight_decay})
    if own := [p for p in learned if p in runs]:
        groups.append(
            {"params": own, "lr": structure_lr, "weight_decay": 0.0, "betas": structure_betas}
        )
    return groups


def _contents_rates(
    weights: Sequence[GaudiWeight | StructuredWeight], lr: float, contents_lr: float | str | None
) -> dict[nn.Parameter, float]:
    """Rate of each content parameter that does not take the rate of all others."""
    if contents_lr is None:
        return {}
    multiples = rate_multiples(weights)
    if contents_lr == "rule":
        return {parameter: lr * multiple for parameter, multiple in multiples.items()}
    if isinstance(contents_lr, str):
        raise InputError(
            f'contents_lr = {contents_lr!r}; expected a learning rate, "rule", or None for that '
            "of all other parameters"
        )
    return dict.fromkeys(multiples, contents_lr)
