"""Reports of costs and conversions: rows, sums and readable tables."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


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
    """Sums over layers, with costs for one example.

    Examples
    --------
    >>> Total(10, 40, 12, 48).relative_cost
    0.25
    """

    cost: int
    dense_cost: int
    storage: int
    dense_storage: int

    @classmethod
    def of(cls, rows: Iterable[LayerReport]) -> "Total":
        """Sum over rows."""
        rows = list(rows)
        return cls(
            sum(row.positions * row.cost for row in rows),
            sum(row.positions * row.dense_cost for row in rows),
            sum(row.storage for row in rows),
            sum(row.dense_cost for row in rows),
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
            f"{self.cost:,} of {self.dense_cost:,} multiplications an example "
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

    Examples
    --------
    >>> row = LayerReport("fc", "low_rank", (8, 16), positions=1, cost=48, storage=48)
    >>> ModelCost((row,), counted=False).structured.relative_cost
    0.375
    """

    rows: tuple[LayerReport, ...]
    counted: bool

    @property
    def structured(self) -> Total:
        """Sums over the structured layers."""
        return Total.of(row for row in self.rows if row.kind != "dense")

    @property
    def everything(self) -> Total:
        """Sums over all rows."""
        return Total.of(self.rows)

    def __str__(self) -> str:
        lines = _table(self.rows)
        lines += [f"structured: {self.structured}", f"together: {self.everything}"]
        if not self.counted:
            lines.append("(dense layers count as one vector each: give an example to count them)")
        return "\n".join(lines)


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

    @property
    def total(self) -> Total:
        """Sums over the converted layers."""
        return Total.of(self.rows)

    def __str__(self) -> str:
        lines = _table(self.rows)
        lines.append(f"{'would be converted' if self.dry_run else 'converted'}: {self.total}")
        if self.skipped:
            lines += ["skipped:", *(f"  {skip.name}: {skip.reason}" for skip in self.skipped)]
        lines += [f"({note})" for note in self.notes]
        return "\n".join(lines)


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
