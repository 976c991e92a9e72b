"""Reports of costs and conversions: rows, sums and readable tables."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from structmat._markup import amount
from structmat._table import Table
from structmat.nn.models.times import ModelTimes


@dataclass(frozen=True)
class LayerReport:
    """Cost of one weight, in the layer or layers that have it.

    Attributes
    ----------
    name : str
        Name of the layer in its model.
    kind : str
        Structure, or "dense".
    shape : tuple of int
        (out, in), or (out, in, height, width) of a convolution.
    positions : int
        Vectors that the weight multiplies for one example, in all layers that share it.
    cost : int
        Multiplications for one vector.
    storage : int
        Stored scalars without biases.
    error : float or None
        Relative error against the replaced weight; None from scratch.
    shared_with : tuple of str
        Other names that use the same weight.
    counted : bool
        Whether `positions` were counted on an example, now or when the layer was converted.

    Examples
    --------
    >>> row = LayerReport("fc", "low_rank", (8, 16), positions=4, cost=48, storage=48)
    >>> row.dense_cost, row.relative_cost
    (128, 0.375)
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    positions: int
    cost: int
    storage: int
    error: float | None = None
    shared_with: tuple[str, ...] = ()
    counted: bool = True

    @property
    def dense_cost(self) -> int:
        """Multiplications for one vector by a dense weight of this shape."""
        return math.prod(self.shape)

    @property
    def relative_cost(self) -> float:
        """`cost` as a fraction of `dense_cost`."""
        return self.cost / max(self.dense_cost, 1)


@dataclass(frozen=True)
class SkippedLayer:
    """Layer that stays as it is, with the reason.

    Examples
    --------
    >>> SkippedLayer("tokens", "Embedding, which is not converted").name
    'tokens'
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Total:
    """Sums over layers, in one unit.

    Attributes
    ----------
    cost, dense_cost : int
        Multiplications.
    storage, dense_storage : int
        Scalars.
    counted : bool
        Whether multiplications are those of one example. Otherwise the vectors of some
        layer are unknown, and each weight counts with one vector.

    Examples
    --------
    >>> Total(10, 40, 12, 48).relative_cost
    0.25
    """

    cost: int
    dense_cost: int
    storage: int
    dense_storage: int
    counted: bool = True

    @classmethod
    def of(cls, rows: Iterable[LayerReport]) -> "Total":
        """Sum over rows: for one example if all rows know theirs, or else for one vector."""
        rows = list(rows)
        counted = all(row.counted for row in rows)
        vectors = [row.positions if counted else 1 for row in rows]
        return cls(
            sum(n * row.cost for n, row in zip(vectors, rows, strict=True)),
            sum(n * row.dense_cost for n, row in zip(vectors, rows, strict=True)),
            sum(row.storage for row in rows),
            sum(row.dense_cost for row in rows),
            counted,
        )

    @property
    def relative_cost(self) -> float:
        """`cost` as a fraction of `dense_cost`; 0 without layers."""
        return self.cost / max(self.dense_cost, 1)

    @property
    def relative_storage(self) -> float:
        """`storage` as a fraction of `dense_storage`; 0 without layers."""
        return self.storage / max(self.dense_storage, 1)

    def __str__(self) -> str:
        return (
            f"{self.cost:,} of {self.dense_cost:,} multiplications "
            f"{'an example' if self.counted else 'a vector'} "
            f"({self.relative_cost:.2%}), {self.storage:,} of {self.dense_storage:,} scalars "
            f"({self.relative_storage:.2%})"
        )


@dataclass(frozen=True)
class ModelCost:
    """Costs of the layers of a model.

    Attributes
    ----------
    rows : tuple of LayerReport
        Linear layers and convolutions, dense ones included. Products inside attention,
        embeddings and other operations are not counted.
    counted : bool
        Whether positions were counted on an example. Otherwise structured layers have
        the positions that they were given, and dense layers count as one vector.
    others : tuple of str
        Modules with weights whose multiplications are not counted, with their types.
    times : ModelTimes, optional
        Expected times of the structured layers for the vectors of the example; None without one.

    Examples
    --------
    >>> row = LayerReport("fc", "low_rank", (8, 16), positions=1, cost=48, storage=48)
    >>> ModelCost((row,), counted=False).structured.relative_cost
    0.375
    """

    rows: tuple[LayerReport, ...]
    counted: bool
    others: tuple[str, ...] = ()
    times: ModelTimes | None = field(default=None, compare=False)

    @property
    def structured(self) -> Total:
        """Sums over the structured layers."""
        return Total.of(row for row in self.rows if row.kind != "dense")

    @property
    def everything(self) -> Total:
        """Sums over all rows."""
        return Total.of(self.rows)

    @property
    def share(self) -> float:
        """Fraction of the dense multiplications of all rows that structured layers replace."""
        return _share([row for row in self.rows if row.kind != "dense"], self.rows)

    def __str__(self) -> str:
        return "\n".join([*_table(self.rows), *self._notes()])

    def _repr_html_(self) -> str:
        return _html(self.rows, self._notes())

    def _notes(self) -> list[str]:
        lines = [f"structured: {self.structured}", f"together: {self.everything}"]
        lines.append(f"(structured layers stand for {self.share:.2%} of the dense multiplications)")
        if not self.everything.counted:
            lines.append("(together each weight counts with one vector: give an example)")
        if self.others:
            lines.append(f"(not counted: {', '.join(self.others)})")
        if self.times is not None and self.times.summary:
            lines.append(self.times.summary)
        return lines


@dataclass(frozen=True)
class ConversionReport:
    """Result of a conversion, or of its dry run.

    Attributes
    ----------
    rows : tuple of LayerReport
        Converted layers. After a dry run, the costs of fitted kinds are upper bounds.
    skipped : tuple of SkippedLayer
        Layers that stay as they are.
    notes : tuple of str
        Remarks on the figures.
    dry_run : bool
        Whether the model was left unchanged.
    rest : tuple of LayerReport
        The linear layers and convolutions that were not converted.

    Examples
    --------
    >>> row = LayerReport("fc", "low_rank", (8, 16), positions=1, cost=48, storage=48)
    >>> print(ConversionReport((row,), (SkippedLayer("head", "8 outputs"),)))
    layer  shape  kind      positions  multiplications  relative  scalars  error
    fc     8x16   low_rank          1               48    37.50%       48      -
    converted: 48 of 128 multiplications an example (37.50%), 48 of 128 scalars (37.50%)
    skipped:
      head: 8 outputs
    """

    rows: tuple[LayerReport, ...]
    skipped: tuple[SkippedLayer, ...] = ()
    notes: tuple[str, ...] = ()
    dry_run: bool = False
    rest: tuple[LayerReport, ...] = ()

    @property
    def total(self) -> Total:
        """Sums over the converted layers."""
        return Total.of(self.rows)

    @property
    def everything(self) -> Total:
        """Sums over the converted layers and the rest."""
        return Total.of((*self.rows, *self.rest))

    @property
    def share(self) -> float:
        """Fraction of the model's multiplications that the converted layers had, when dense."""
        return _share(self.rows, (*self.rows, *self.rest))

    def __str__(self) -> str:
        return "\n".join([*_table(self.rows), *self._notes()])

    def _repr_html_(self) -> str:
        return _html(self.rows, self._notes())

    def _notes(self) -> list[str]:
        lines = [f"{'would be converted' if self.dry_run else 'converted'}: {self.total}"]
        if self.rest:
            lines.append(f"with the rest: {self.everything}")
            lines.append(
                f"(the converted ones had {self.share:.2%} of the multiplications of all linear "
                "layers and convolutions)"
            )
        if self.skipped:
            lines += ["skipped:", *(f"  {skip.name}: {skip.reason}" for skip in self.skipped)]
        return [*lines, *(f"({note})" for note in self.notes)]


def _share(part: Sequence[LayerReport], rows: Sequence[LayerReport]) -> float:
    """Fraction of the dense cost of `rows` that is that of `part`, in the unit of `rows`."""
    whole = Total.of(rows)
    vectors = [row.positions if whole.counted else 1 for row in part]
    own = sum(n * row.dense_cost for n, row in zip(vectors, part, strict=True))
    return own / max(whole.dense_cost, 1)


#: Printed columns: title, alignment, and text of a row.
_COLUMNS: tuple[tuple[str, str, Callable[[LayerReport], str]], ...] = (
    ("layer", "<", lambda row: " = ".join([row.name, *row.shared_with])),
    ("shape", "<", lambda row: "x".join(map(str, row.shape))),
    ("kind", "<", lambda row: row.kind),
    ("positions", ">", lambda row: f"{row.positions:,}"),
    ("multiplications", ">", lambda row: f"{row.cost:,}"),
    ("relative", ">", lambda row: f"{row.relative_cost:.2%}"),
    ("scalars", ">", lambda row: f"{row.storage:,}"),
    ("error", ">", lambda row: "-" if row.error is None else f"{row.error:.4f}"),
)


def _table(rows: Sequence[LayerReport]) -> list[str]:
    columns = []
    for title, alignment, text in _COLUMNS:
        cells = [title, *map(text, rows)]
        width = max(map(len, cells))
        columns.append([f"{cell:{alignment}{width}}" for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _html(rows: Sequence[LayerReport], notes: Sequence[str]) -> str:
    """The same as a page, where numbers have their shares beside them."""
    sizes: dict[str, Callable[[LayerReport], str]] = {
        "multiplications": lambda row: amount(row.cost, row.dense_cost, of=""),
        "scalars": lambda row: amount(row.storage, row.dense_cost, of=""),
    }
    columns = [
        (title, sizes.get(title, text)) for title, _, text in _COLUMNS if title != "relative"
    ]
    lines = [[text(row) for _, text in columns] for row in rows]
    return Table([title for title, _ in columns], lines, notes).html()
