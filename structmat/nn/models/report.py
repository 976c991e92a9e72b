"""What layers cost, and what a conversion did, as rows and as readable tables."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerReport:
    """One weight: that of a layer, or of several layers that share it.

    Attributes
    ----------
    name : str
        Of the layer in its model.
    kind : str
        Structure, or "dense".
    shape : tuple of int
        (out, in), or (out, in, height, width) of a convolution.
    positions : int
        Vectors that it multiplies for one example, in all layers that share it.
    cost : int
        Multiplications for one vector.
    storage : int
        Stored scalars, biases apart.
    error : float or None
        Relative error against the weight it replaced; None from scratch.
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
        """Multiplications for one vector of a dense weight of that shape."""
        return math.prod(self.shape)

    @property
    def relative_cost(self) -> float:
        """`cost` as a fraction of `dense_cost`."""
        return self.cost / max(self.dense_cost, 1)


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that stays as it is, and why.

    Examples
    --------
    >>> SkippedLayer("tokens", "Embedding, which is not converted").name
    'tokens'
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Total:
    """Sums over layers; costs are those of one example.

    Attributes
    ----------
    cost, dense_cost, storage, dense_storage : int

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
        """The sums over some rows."""
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
    """What the layers of a model cost.

    Attributes
    ----------
    rows : tuple of LayerReport
        Linear layers and convolutions, dense ones included. Products inside attention,
        embeddings and other operations are not counted.
    counted : bool
        Whether positions were counted on an example; if not, structured layers have
        those that they were given, and dense ones count as one vector.

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
        """Of the structured layers together."""
        return Total.of(row for row in self.rows if row.kind != "dense")

    @property
    def everything(self) -> Total:
        """Of all rows together."""
        return Total.of(self.rows)

    def __str__(self) -> str:
        lines = _table(self.rows)
        lines += [f"structured: {self.structured}", f"together: {self.everything}"]
        if not self.counted:
            lines.append("(dense layers count as one vector each: give an example to count them)")
        return "\n".join(lines)


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did, or would do.

    Attributes
    ----------
    rows : tuple of LayerReport
        Converted layers. After a dry run, costs of kinds that are yet to be fitted are
        what they may cost at most.
    skipped : tuple of SkippedLayer
        Layers that stay as they are.
    notes : tuple of str
        What to know about the figures.
    dry_run : bool
        Whether the model was left as it is.

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
        """Of the converted layers together."""
        return Total.of(self.rows)

    def __str__(self) -> str:
        lines = _table(self.rows)
        lines.append(f"{'would be converted' if self.dry_run else 'converted'}: {self.total}")
        if self.skipped:
            lines += ["skipped:", *(f"  {skip.name}: {skip.reason}" for skip in self.skipped)]
        lines += [f"({note})" for note in self.notes]
        return "\n".join(lines)


_HEAD = (
    "layer",
    "shape",
    "kind",
    "positions",
    "multiplications",
    "relative",
    "scalars",
    "error",
)
_TEXT_COLUMNS = 3


def _table(rows: Sequence[LayerReport]) -> list[str]:
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEAD))]
    lines = []
    for line in cells:
        parts = [
            text.ljust(width) if i < _TEXT_COLUMNS else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def _cells(row: LayerReport) -> tuple[str, ...]:
    return (
        " = ".join([row.name, *row.shared_with]),
        "x".join(map(str, row.shape)),
        row.kind,
        f"{row.positions:,}",
        f"{row.cost:,}",
        f"{row.relative_cost:.2%}",
        f"{row.storage:,}",
        "-" if row.error is None else f"{row.error:.4f}",
    )
