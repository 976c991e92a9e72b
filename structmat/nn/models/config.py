"""Settings of a conversion, checked together."""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from structmat.errors import BudgetError, InputError, KindError
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.kinds import network_kinds

#: Parameters of `GaudiWeight` that the conversion sets itself.
_RESERVED_OPTIONS = ("self", "shape", "budget", "generator", "device", "dtype")
#: Options of the initial structure and contents, which start="weights" takes from the weights.
_START_OPTIONS = ("num_blocks", "rank", "width_init", "location_init", "content_init")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of `convert_`.

    Attributes
    ----------
    budget : float
        Cap on the multiplications of all converted layers together, for one example, as
        a fraction of those of the dense layers; in (0, 1].
    kind : str
        "gblr", "low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly", or
        any other kind that `structmat.compress` knows.
    start : str
        "scratch" starts with random contents of the variance that the dense layers start
        with; "weights" approximates the present weights.
    learn : bool, optional
        Whether the structure is learned with the contents: only with kind "gblr", and
        then by default.
    oversize : float
        Layers that learn their structure start at this multiple of the budget, at most
        at their dense cost; `EdgeSearch` or `BudgetProjection` brings them down to it.
    shares : str
        "uniform" gives every layer the same fraction of its dense cost; "error", with
        start="weights", puts multiplications where they lower the relative error most.
    conv : str
        "matrix" takes a convolution as one matrix of all taps, "taps" as one matrix for
        each tap.
    shared_masks : bool
        Whether the taps of a convolution, each a matrix, learn one structure.
    min_features : int
        Layers with fewer inputs or outputs stay dense.
    parts : callable, optional
        ``parts(name, module)`` is the number of equal row blocks of a packed weight, such
        as 3 for queries, keys and values in one; each becomes a matrix of its own.
    options : mapping
        Further options of `GaudiWeight`, for layers that learn their structure.

    Raises
    ------
    BudgetError
        If the budget is not in (0, 1].
    KindError
        If the kind is unknown.
    InputError
        If a value is unknown, or two values contradict each other.

    Examples
    --------
    >>> config = Config(budget=0.1)
    >>> config.kind, config.learns, config.start_budget
    ('gblr', True, 0.1)
    """

    budget: float
    kind: str = "gblr"
    start: str = "scratch"
    learn: bool | None = None
    oversize: float = 1.0
    shares: str = "uniform"
    conv: str = "matrix"
    shared_masks: bool = False
    min_features: int = 16
    parts: Callable[[str, nn.Module], int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_real(self.budget) or not 0 < self.budget <= 1:
            raise BudgetError(
                f"budget = {self.budget!r}; expected a fraction of the dense multiplications, "
                "above 0 and at most 1 (0.2 for twenty per cent)"
            )
        if self.kind not in network_kinds():
            raise KindError(f"kind {self.kind!r}; expected one of {', '.join(network_kinds())}")
        if not _is_real(self.oversize) or not 1 <= self.oversize < math.inf:
            raise InputError(f"oversize = {self.oversize!r}; expected a finite number, at least 1")
        if not isinstance(self.min_features, int) or self.min_features < 1:  # type: ignore[redundant-expr]
            raise InputError(f"min_features = {self.min_features!r}; expected at least 1")
        if self.parts is not None and not callable(self.parts):
            raise InputError(
                f"parts = {self.parts!r}; expected a function of a layer's name and module that "
                "returns how many row blocks its weight packs"
            )
        _check_choice("start", self.start, ("scratch", "weights"))
        _check_choice("shares", self.shares, ("uniform", "error"))
        _check_choice("conv", self.conv, ("matrix", "taps"))
        self._check_together()

    def _check_together(self) -> None:
        if self.learn and self.kind != "gblr":
            raise InputError(
                f"learn = True with kind {self.kind!r}; expected kind 'gblr', whose structure can "
                "be learned (or learn=False)"
            )
        if self.shares == "error" and self.start == "scratch":
            raise InputError(
                "shares = 'error' with start = 'scratch'; expected start='weights', as random "
                "weights have no errors to compare (or shares='uniform')"
            )
        if self.shared_masks and not (self.learns and self.conv == "taps"):
            raise InputError(
                "shared_masks = True; expected learned layers of taps with it (kind='gblr', "
                "conv='taps'), as other layers have no masks to share"
            )
        if self.shared_masks and self.start == "weights":
            raise InputError(
                "shared_masks = True with start = 'weights'; expected start='scratch', as the "
                "weights of each tap need runs of their own"
            )
        self._check_options()

    def _check_options(self) -> None:
        if self.options and not self.learns:
            raise InputError(
                f"options = {dict(self.options)!r} without learned structure; expected no options "
                "(GaudiWeight alone has them: set kind='gblr' and leave learn out)"
            )
        reserved = _RESERVED_OPTIONS + (_START_OPTIONS if self.start == "weights" else ())
        parameters = inspect.signature(GaudiWeight.__init__).parameters
        known = [option for option in parameters if option not in reserved]
        unknown = [option for option in self.options if option not in known]
        if unknown:
            raise InputError(
                f"options {unknown} with start = {self.start!r}; expected among {known}"
            )

    @property
    def learns(self) -> bool:
        """True if layers learn their structure."""
        return self.kind == "gblr" if self.learn is None else self.learn

    @property
    def start_budget(self) -> float:
        """Cost of the converted layers at the start, as a fraction of the dense cost."""
        return min(1.0, self.oversize * self.budget) if self.learns else self.budget


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} = {value!r}; expected {' or '.join(map(repr, known))}")
