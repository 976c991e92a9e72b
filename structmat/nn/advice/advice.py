"""Result of `structmat.nn.advise`: the outlook of each weight at each budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from structmat._table import Table
from structmat.errors import BudgetError
from structmat.nn.models.config import Config
from structmat.nn.models.report import SkippedLayer
from structmat.nn.models.targets import Filter


@dataclass(frozen=True)
class LayerAdvice:
    """Outlook of one weight at one budget.

    Attributes
    ----------
    name : str
        Name of the layer in its model.
    shape : tuple of int
        Matrix of the weight, (m, n); a convolution's has a column for each input and tap.
    share : float
        Part of the multiplications of all linear layers and convolutions that this weight
        has now.
    budget : float
        Cost as a fraction of m n.
    kind : str
        Kind worth trying: that of the fit which raises the loss least; "gblr" without a loss,
        and from scratch, as random weights say nothing of kinds.
    learn : bool
        Whether to learn the structure: that of "gblr" from weights, and from scratch below a
        budget of 0.1 or where no fixed structure so cheap reaches every row and column.
    cost : int
        Multiplications of that fit for one vector.
    time : float
        Estimated time of its product over that of the dense weight, for as many vectors as a
        batch has, on one thread. From 1 on, the structure saves multiplications and no time:
        a frozen layer then multiplies by its dense weight.
    error : float
        Error of its outputs on the batches, ‖(W - Ŵ) X‖ / ‖W X‖.
    over_chance : float
        Least error of all kinds, over the least error of three random weights that are fitted
        to that kind in the same way: about 1 for weights that are not trained.
    start : str
        Start worth trying: "weights" if `over_chance` is below 0.9 at one of the budgets, or
        else "scratch".
    rise : float or None
        Rise of the mean loss when this weight alone is replaced by the fit.
    errors, rises : mapping
        The same by kind, for all kinds that have such a matrix; `rises` is empty without a
        loss.
    idle_inputs : int
        Inputs that are constant throughout the batches, so that the bias can replace them.
    input_rank : float
        Effective number of directions in which the inputs vary, (tr C)² / tr C² of their
        covariance C.
    shared_with : tuple of str
        Other names that use the same weight.

    Examples
    --------
    >>> figures = {"learn": False, "cost": 96, "time": 1.5, "error": 0.4, "over_chance": 0.6}
    >>> row = LayerAdvice("fc", (32, 64), 1.0, 0.05, "low_rank", **figures, start="weights")
    >>> row.saves_time
    False
    """

    name: str
    shape: tuple[int, int]
    share: float
    budget: float
    kind: str
    learn: bool
    cost: int
    time: float
    error: float
    over_chance: float
    start: str
    rise: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    rises: Mapping[str, float] = field(default_factory=dict)
    idle_inputs: int = 0
    input_rank: float = 0.0
    shared_with: tuple[str, ...] = ()

    @property
    def saves_time(self) -> bool:
        """True if the product is expected to take less time than the dense one."""
        return self.time < 1


@dataclass(frozen=True)
class Advice:
    """Outlook of the layers of a model, weight by weight and budget by budget.

    Attributes
    ----------
    rows : tuple of LayerAdvice
        All budgets of the first weight, then those of the next one.
    loss : float or None
        Mean loss on the batches of the model as it is.
    losses : mapping
        With a loss: mean loss on the batches by (kind, budget), with all weights replaced by
        their fits of that kind.
    skipped : tuple of SkippedLayer
        Layers that cannot be converted.

    Examples
    --------
    >>> figures = {"learn": False, "cost": 96, "time": 1.5, "error": 0.4, "over_chance": 0.6}
    >>> row = LayerAdvice("fc", (32, 64), 1.0, 0.05, "low_rank", **figures, start="weights")
    >>> print(Advice((row,)))
    layer  shape   share  budget      kind    start  multiplications  time   error  over chance
    -------------------------------------------------------------------------------------------
    fc     32x64  100.0%    0.05  low_rank  weights               96  1.50  0.4000         0.60
    (time 1 or more: the product saves multiplications and no time)
    """

    rows: tuple[LayerAdvice, ...]
    loss: float | None = None
    losses: Mapping[tuple[str, float], float] = field(default_factory=dict)
    skipped: tuple[SkippedLayer, ...] = ()

    @property
    def budgets(self) -> tuple[float, ...]:
        """Budgets of the rows, in their order."""
        return tuple(dict.fromkeys(row.budget for row in self.rows))

    def conversions(self, budget: float) -> list[tuple[Config, Filter]]:
        """Arguments of the calls of `convert_` that follow the rows of a budget.

        Parameters
        ----------
        budget : float
            One of `budgets`.

        Returns
        -------
        list of (Config, filter_fn)
            One for each combination of kind, start and learning.

        Raises
        ------
        BudgetError
            If no row has that budget.

        Examples
        --------
        >>> figures = {"learn": False, "cost": 96, "time": 1.5, "error": 0.4, "over_chance": 0.6}
        >>> row = LayerAdvice("fc", (32, 64), 1.0, 0.05, "low_rank", **figures, start="weights")
        >>> [(config, chosen)] = Advice((row,)).conversions(0.05)
        >>> config.kind, config.start, chosen("fc", None), chosen("head", None)
        ('low_rank', 'weights', True, False)
        """
        if budget not in self.budgets:
            raise BudgetError(f"budget = {budget!r}; expected one of {self.budgets}")
        names: dict[tuple[str, str, bool], set[str]] = {}
        for row in self.rows:
            if row.budget == budget:
                way = row.kind, row.start, row.learn
                names.setdefault(way, set()).update((row.name, *row.shared_with))
        return [
            (Config(kind=kind, budget=budget, start=start, learn=learn), _among(chosen))
            for (kind, start, learn), chosen in names.items()
        ]

    def __str__(self) -> str:
        return "\n".join(table.text() for table in self._tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self._tables())

    def _tables(self) -> list[Table]:
        return [self._by_layer(), *([self._by_kind()] if self.losses else [])]

    def _by_layer(self) -> Table:
        columns = [c for c in _COLUMNS if any(c[1](row) != "-" for row in self.rows)]
        lines = [[text(row) for _, text in columns] for row in self.rows]
        idle = {row.name: row for row in self.rows if row.idle_inputs}
        notes = [
            f"({name}: {row.idle_inputs} of {row.shape[1]} inputs are constant)"
            for name, row in idle.items()
        ]
        if not all(row.saves_time for row in self.rows):
            notes.append("(time 1 or more: the product saves multiplications and no time)")
        notes += [f"(skipped: {skip.name}: {skip.reason})" for skip in self.skipped]
        return Table([title for title, _ in columns], lines, notes)

    def _by_kind(self) -> Table:
        cells = [
            [kind, *(_number(self.losses.get((kind, budget))) for budget in self.budgets)]
            for kind in dict.fromkeys(kind for kind, _ in self.losses)
        ]
        head = ["loss with all of a kind", *(f"at {budget:.4g}" for budget in self.budgets)]
        return Table(head, cells, [f"(the model as it is: {_number(self.loss)})"])


def _among(names: set[str]) -> Filter:
    return lambda name, module: name in names


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


#: Printed columns: title, and text of a row.
_COLUMNS: tuple[tuple[str, Callable[[LayerAdvice], str]], ...] = (
    ("layer", lambda row: " = ".join([row.name, *row.shared_with])),
    ("shape", lambda row: "x".join(map(str, row.shape))),
    ("share", lambda row: f"{row.share:.1%}"),
    ("budget", lambda row: f"{row.budget:.4g}"),
    ("kind", lambda row: row.kind),
    ("start", lambda row: row.start + (", learn" if row.learn else "")),
    ("multiplications", lambda row: f"{row.cost:,}"),
    ("time", lambda row: f"{row.time:.2f}"),
    ("error", lambda row: f"{row.error:.4f}"),
    ("over chance", lambda row: f"{row.over_chance:.2f}"),
    ("loss", lambda row: "-" if row.rise is None else f"{row.rise:+.4g}"),
)
