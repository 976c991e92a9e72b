"""Settings of a training, and their defaults for each data set and model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from structmat.errors import InputError

__all__ = ["default_settings"]

# Settings that only one way of learning structure uses.
_ANNEAL_ALONE = ("anneal",)
_GAUDI_ALONE = ("structure_lr", "structure_betas", "sigma", "ramp", "oversize", "revive_every")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a training; the defaults are those for the digits.

    Attributes
    ----------
    epochs : int
    batch : int
        Examples a step.
    lr : float
        Learning rate of AdamW for weights, on a cosine after warm-up.
    contents_lr : float, str or None
        Learning rate of the contents of structured matrices; None for `lr`, "rule" for
        multiples of `lr` by structure, as `structmat.nn.parameter_groups` sets them.
    weight_decay : float
    warmup : float
        Share of the steps over which the learning rate rises.
    structure : str
        Way to learn structure: "anneal" projects dense weights onto structures of falling
        cost (`Anneal`), "gaudi" follows gradients through Gaudi masks (`BudgetProjection` and
        `SigmaSchedule`).
    anneal : mapping
        Further options of `Anneal`.
    structure_lr : float
        Learning rate of widths and locations by "gaudi", without weight decay.
    structure_betas : tuple of float
        Betas of AdamW for widths and locations by "gaudi".
    sigma : tuple of float
        Sharpness of the masks at the start and at the end.
    ramp : float
        Share of the steps after which "gaudi" reaches the budget.
    oversize : float
        Cost of Gaudi layers at the start, as a multiple of the budget.
    revive_every : int or None
        Steps between revivals of dead blocks by "gaudi".
    precision : str
        "float32", or "bfloat16" for the products of the forward pass by autocast;
        parameters and optimizer stay in float32.
    compiled : bool
        Train by torch.compile.

    Examples
    --------
    >>> Settings(epochs=5).structure
    'anneal'
    """

    epochs: int = 60
    batch: int = 128
    lr: float = 2e-3
    contents_lr: float | str | None = None
    weight_decay: float = 0.0
    warmup: float = 0.0
    structure: str = "anneal"
    anneal: Mapping[str, Any] = field(default_factory=dict)
    structure_lr: float = 5e-3
    structure_betas: tuple[float, float] = (0.0, 0.999)
    sigma: tuple[float, float] = (10.0, 100.0)
    ramp: float = 0.6
    oversize: float = 1.0
    revive_every: int | None = None
    precision: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.structure not in ("anneal", "gaudi"):
            raise InputError(f"structure = {self.structure!r}; expected 'anneal' or 'gaudi'")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision = {self.precision!r}; expected 'float32' or 'bfloat16'")

    def facts(self) -> dict[str, Any]:
        """All settings by name that this way of learning structure uses."""
        idle = _GAUDI_ALONE if self.structure == "anneal" else _ANNEAL_ALONE
        return {name: value for name, value in asdict(self).items() if name not in idle}


_TRANSFORMER = Settings(
    epochs=10, batch=64, lr=1e-3, weight_decay=0.05, warmup=0.05, structure_lr=2e-3
)
_DIGITS = Settings(epochs=20, lr=1e-3, contents_lr="rule", anneal={"orders": False, "every": 0.1})
_DEFAULTS = {
    "mlp": Settings(epochs=12, batch=256, lr=1e-3),
    "mixer": _TRANSFORMER,
    "vit": _TRANSFORMER,
    "resnet": replace(_TRANSFORMER, lr=2e-3, weight_decay=5e-4),
    "gpt": replace(_TRANSFORMER, batch=32, weight_decay=0.1),
}


def default_settings(data: str, model: str) -> Settings:
    """Settings for a data set and a model.

    The digits are few, so their epochs are short and many. Five projections in the given order
    of the pixels take less time than the ten of `Anneal` in learned orders.

    Examples
    --------
    >>> default_settings("digits", "mlp").epochs, default_settings("text", "gpt").batch
    (20, 32)
    """
    if data in ("digits", "noisy-digits"):
        return _DIGITS if model == "mlp" else replace(_DEFAULTS[model], epochs=30)
    return _DEFAULTS[model]
