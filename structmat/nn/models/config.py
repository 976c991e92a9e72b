"""Settings of a conversion, checked together."""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from structmat.errors import BudgetError, InputError, KindError
from structmat.nn.anneal.sides import check_sides
from structmat.nn.anneal.weight import LEARNED_KINDS
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.starts.kinds import network_kinds
from structmat.nn.starts.of_sides import Sides

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
    learn : bool or "gaudi", optional
        Whether the structure is learned with the contents. True begins with dense layers,
        which the rule `Anneal` brings down to the budget: for the kinds "gblr",
        "block_sparse", "block_low_rank" and "low_rank". "gaudi" learns widths and locations of
        GBLR blocks through Gaudi masks, by `BudgetProjection`. By default True for "gblr" with
        start="scratch", and False otherwise.
    oversize : float
        Layers of learn="gaudi" start at this multiple of the budget, at most at their dense
        cost.
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
    tile : int, optional
        Rows and columns of the tiles of "block_sparse" and "block_low_rank": any whole number,
        16, 32, 64 or 128 for the matrix units of a GPU. Tiles at the lower and the right edge are
        cut. By default the budget decides.
    group : int, optional
        Consecutive outputs, in the learned order, that share their windows of inputs, for
        "gblr" with learn=True or False: any whole number, 16, 32, 64 or 128 for matrix units, or
        4 for small layers on a CPU. Windows begin and end at multiples of `group`, at most of 16,
        and one of w inputs costs w multiplications for each output. The last group has the outputs
        that are left. By default every output has inputs of its own.
    parts : callable, optional
        ``parts(name, module)`` is the number of equal row blocks of a packed weight, such
        as 3 for queries, keys and values in one; each becomes a matrix of its own.
    options : mapping
        Further options of `GaudiWeight`, for learn="gaudi".

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
    >>> config.kind, config.method, config.start_budget
    ('gblr', 'anneal', 0.1)
    """

    budget: float
    kind: str = "gblr"
    start: str = "scratch"
    learn: bool | str | None = None
    oversize: float = 1.0
    shares: str = "uniform"
    conv: str = "matrix"
    shared_masks: bool = False
    min_features: int = 16
    tile: int | None = None
    group: int | None = None
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
        check_sides(self.kind, self.tile, self.group)
        if self.group is not None and self.learn == "gaudi":
            raise InputError(
                f"group = {self.group} with learn = 'gaudi'; expected learn=True or False with it, "
                "as runs that gradients move are those of single blocks (or no group)"
            )
        if self.learn not in (None, True, False, "gaudi"):
            raise InputError(f"learn = {self.learn!r}; expected True, False, 'gaudi' or None")
        known = ("gblr",) if self.learn == "gaudi" else LEARNED_KINDS
        if self.learn and self.kind not in known:
            raise InputError(
                f"learn = {self.learn!r} with kind {self.kind!r}; expected a kind whose structure "
                f"can be learned so: {', '.join(known)} (or learn=False)"
            )
        if self.oversize != 1 and self.method != "gaudi":
            raise InputError(
                f"oversize = {self.oversize!r} without learn='gaudi'; expected 1 (other layers "
                "begin dense, or at the budget)"
            )
        if self.shares == "error" and self.start == "scratch":
            raise InputError(
                "shares = 'error' with start = 'scratch'; expected start='weights', as random "
                "weights have no errors to compare (or shares='uniform')"
            )
        if self.shared_masks and not (self.method == "gaudi" and self.conv == "taps"):
            raise InputError(
                "shared_masks = True; expected learned layers of taps with it (learn='gaudi', "
                "conv='taps'), as other layers have no masks to share"
            )
        if self.shared_masks and self.start == "weights":
            raise InputError(
                "shared_masks = True with start = 'weights'; expected start='scratch', as the "
                "weights of each tap need runs of their own"
            )
        self._check_options()

    def _check_options(self) -> None:
        if self.options and self.method != "gaudi":
            raise InputError(
                f"options = {dict(self.options)!r} without learn='gaudi'; expected no options "
                "(GaudiWeight alone has them: set kind='gblr' and learn='gaudi')"
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
        return bool(self.method)

    @property
    def method(self) -> str:
        """Way to learn structure: "anneal", "gaudi", or "" for none."""
        if self.learn is None:
            return "anneal" if self.kind == "gblr" and self.start == "scratch" else ""
        return "gaudi" if self.learn == "gaudi" else "anneal" if self.learn else ""

    @property
    def sides(self) -> Sides | None:
        """The kind with its tiles or groups, if they have a given size."""
        given = self.tile is not None or self.group is not None
        return Sides(self.kind, self.tile, self.group) if given else None

    @property
    def start_budget(self) -> float:
        """Cost of the structures at the start, as a fraction of the dense cost.

        Layers of learn=True begin dense; this is the cost to which they come down.
        """
        return min(1.0, self.oversize * self.budget)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} = {value!r}; expected {' or '.join(map(repr, known))}")
