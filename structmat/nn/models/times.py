"""Expected times of a model's structured layers, on the device where they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from structmat._table import Table
from structmat.nn.models.layer_types import STRUCTURED, weights_of
from structmat.nn.structured.expected import Expected
from structmat.nn.structured.layers import StructuredConv2d
from structmat.nn.structured.weight import StructuredWeight


@dataclass(frozen=True)
class LayerTime:
    """Expected time of one structured layer in evaluation, on one device.

    Attributes
    ----------
    name : str
    kind : str
    vectors : int
        Vectors that it multiplies at once.
    seconds : float or None
        By its structure; None where that is not known.
    dense_seconds : float or None
        By a dense weight of its shape.
    takes_dense : bool
        Whether the layer multiplies by its dense weight, as that is expected to be quicker.

    Examples
    --------
    >>> LayerTime("fc", "gblr", 256, 2e-6, 8e-6).relative
    0.25
    """

    name: str
    kind: str
    vectors: int
    seconds: float | None = None
    dense_seconds: float | None = None
    takes_dense: bool = False

    @property
    def taken(self) -> float | None:
        """Expected time of the product that the layer takes."""
        return self.dense_seconds if self.takes_dense else self.seconds

    @property
    def relative(self) -> float | None:
        """`seconds` as a fraction of `dense_seconds`."""
        if self.seconds is None or not self.dense_seconds:
            return None
        return self.seconds / self.dense_seconds


@dataclass(frozen=True)
class ModelTimes:
    """Expected times of the structured layers of a model; print it for a table.

    Attributes
    ----------
    rows : tuple of LayerTime
    place : str
        The device and the dtype that figures stand for, such as "NVIDIA H200, bfloat16".
    examples : int
        Examples for which the layers multiply.
    note : str
        A sentence on what is not known, and the remedy; else empty.

    Examples
    --------
    >>> row = LayerTime("fc", "gblr", 256, 2e-6, 8e-6)
    >>> print(ModelTimes((row,), "cpu", examples=256))
    layer  kind  vectors  by structure   dense  relative      takes
    ---------------------------------------------------------------
    fc     gblr      256        2.0 us  8.0 us      0.25  structure
    """

    rows: tuple[LayerTime, ...]
    place: str
    examples: int
    note: str = ""

    @property
    def known(self) -> tuple[LayerTime, ...]:
        """Rows with times."""
        return tuple(row for row in self.rows if row.seconds is not None)

    @property
    def seconds(self) -> float:
        """Expected time of all known rows, each by the product that it takes."""
        return sum(row.taken or 0.0 for row in self.known)

    @property
    def by_structure(self) -> float:
        """Expected time of all known rows by their structures."""
        return sum(row.seconds or 0.0 for row in self.known)

    @property
    def dense_seconds(self) -> float:
        """Expected time of dense layers of their shapes."""
        return sum(row.dense_seconds or 0.0 for row in self.known)

    @property
    def summary(self) -> str:
        """One line on all layers; empty while all of them learn."""
        if not self.known:
            return f"({self.note})" if self.place else ""
        share = self.seconds / max(self.dense_seconds, 1e-30)
        examples = f"{self.examples:,} {'example' if self.examples == 1 else 'examples'}"
        line = (
            f"expected on {self.place} for {examples}: {_time(self.seconds)}, {share:.2f} of dense "
            f"layers ({_time(self.by_structure)} by structure alone)"
        )
        return f"{line}; {self.note}" if self.note else line

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        head = ("layer", "kind", "vectors", "by structure", "dense", "relative", "takes")
        rows = [
            (
                row.name,
                row.kind,
                f"{row.vectors:,}",
                _time(row.seconds),
                _time(row.dense_seconds),
                "-" if row.relative is None else f"{row.relative:.2f}",
                "-" if row.seconds is None else "dense" if row.takes_dense else "structure",
            )
            for row in self.rows
        ]
        return Table(head, rows, [f"({self.note})"] if self.note else [])


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e6 * seconds:,.1f} us"


def expected_times(
    names: Mapping[nn.Module, Sequence[str]], counts: Mapping[nn.Module, int], examples: int
) -> ModelTimes:
    """Expected times of the structured layers among some, given with all their names.

    `counts` has the vectors that each layer multiplies for one example.
    """
    rows, places, learning = [], [], False
    for layer, found in names.items():
        if not isinstance(layer, STRUCTURED):
            continue
        weights, vectors = weights_of(layer), counts[layer] * examples
        kind = "+".join(dict.fromkeys(weight.kind for weight in weights))
        times = None
        if all(isinstance(weight, StructuredWeight) for weight in weights):
            places.append(weights[0].place)
            times = _expected(layer, weights, vectors)
        else:
            learning = True
        rows.append(LayerTime(found[0], kind, vectors, *(times or ())))
    note = ""
    if any(row.seconds is None for row in rows):
        note = (
            "layers that learn have no times before freeze_"
            if learning
            else f"no times are known for {places[0]}: layers multiply by their dense weights "
            "(measure the device by structmat calibrate --device cuda)"
        )
    return ModelTimes(tuple(rows), " and ".join(dict.fromkeys(places)), examples, note)


def _expected(layer: Any, weights: Sequence[Any], vectors: int) -> Expected | None:
    """Expected seconds of a layer, all its weights together."""
    if isinstance(layer, StructuredConv2d):
        return Expected.of(layer.times, vectors, weights[0].device)
    found = [weight.expected(vectors) for weight in weights]
    if any(times is None for times in found):
        return None
    structure, dense, takes_dense = zip(*found, strict=True)
    return Expected(sum(structure), sum(dense), all(takes_dense))
