"""Charts of results as images inside a page: ``data:`` addresses."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.kinds import kind_record
from structmat.learn.data.files import optional
from structmat.learn.report.results import KindRuns, Layer, Metric
from structmat.matrix import StructuredMatrix
from structmat.plot import structure

#: Runs of a kind, steps and values of each run, by the key of the curve.
Curves = Mapping[str, Sequence[tuple[KindRuns, Sequence[tuple[int, float]]]]]

# Characters of a name, at most: names differ most at their ends.
_LABEL_LENGTH = 40
# Parts of a layer's side in a picture, at most.
_CELLS = 128
# Charts take the colour of their page's text in place of this one.
_INK = "#1d2329"
_INKS = (
    f"<style>svg {{ color: {_INK} }}"
    " @media (prefers-color-scheme: dark) { svg { color: #e6e9ec } }</style>"
)
_STYLE = {
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#88888855",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    # The same results give the same bytes.
    "svg.hashsalt": "structmat",
}
_CURVES = {
    "loss": "training loss",
    "sigma": "σ of the masks",
    "cost": "multiplications\n(% of dense)",
}


def metric_chart(kinds: Sequence[KindRuns], metric: Metric) -> str:
    """Chart of the metric by kind: a point a seed and a line at the mean."""
    with _style():
        figure = _figure(0.42 * len(kinds) + 0.8)
        axes = figure.subplots()
        scale = 100 if metric.is_share else 1
        for row, kind in enumerate(kinds):
            values, mean = kind.values("metric"), kind.mean("metric")
            colour = kind.colour
            axes.plot(
                [scale * v for v in values], [row] * len(values), "o", color=colour, alpha=0.6
            )
            if mean is not None:
                axes.plot(scale * mean, row, "|", color=colour, markersize=18, markeredgewidth=2.5)
                if kind.name == "dense":
                    axes.axvline(scale * mean, color=colour, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(kinds)), [_plain(kind.label) for kind in kinds])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(_plain(metric.label + (" (%)" if metric.is_share else "")))
        return _svg(figure)


def history_curves(kinds: Sequence[KindRuns]) -> Curves:
    """Loss of every run, and cost and σ of runs that learn their structure."""
    curves = {
        key: [(kind, points) for kind in kinds for run in kind.runs if (points := _curve(run, key))]
        for key in _CURVES
    }
    return {key: found for key, found in curves.items() if found}


def history_chart(curves: Curves, budget: float | None) -> str:
    """Chart of the curves over the steps of training, one panel below the other."""
    with _style():
        figure = _figure(2.2 * len(curves) + 0.4)
        places = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for (key, found), axes in zip(curves.items(), places, strict=True):
            for kind, points in found:
                steps, values = zip(*points, strict=True)
                axes.plot(
                    steps, values, color=kind.colour, label=_plain(kind.label), lw=1.1, alpha=0.85
                )
            axes.set_ylabel(_CURVES[key])
            if key == "cost" and budget is not None:
                axes.axhline(100 * budget, color=_INK, linestyle=":", lw=1, label="budget")
            if key == "loss":
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            # One entry a kind, whatever the number of its seeds.
            lines = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
            axes.legend(lines.values(), lines, loc="center left", bbox_to_anchor=(1.0, 0.5))
        places[-1].set_xlabel("step")
        places[-1].locator_params(axis="x", integer=True)
        return _svg(figure)


def layers_chart(layers: Sequence[Layer], kinds: Sequence[KindRuns]) -> str:
    """Chart of each layer's dense cost, and of the share that each structured kind keeps."""
    thick = 0.8 / len(kinds)
    with _style():
        figure = _figure(len(layers) * max(0.3, 0.1 * len(kinds) + 0.1) + 1.0)
        dense, kept = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2])
        rows = range(len(layers))
        colour = kind_record("dense").colour
        dense.barh(rows, [layer.dense_cost for layer in layers], 0.8, color=colour)
        for number, kind in enumerate(kinds):
            shares = [100 * (layer.share(kind.name) or 0) for layer in layers]
            centres = [row - 0.4 + (number + 0.5) * thick for row in rows]
            kept.barh(centres, shares, thick, color=kind.colour, label=_plain(kind.label))
        dense.set_yticks(rows, [_plain(layer.name) for layer in layers])
        dense.locator_params(axis="x", nbins=3)
        dense.xaxis.set_major_formatter(
            optional("matplotlib.ticker", "matplotlib").EngFormatter(sep="")
        )
        dense.set_ylim(len(layers) - 0.4, -0.6)
        dense.set_xlabel("dense: multiplications\nan example")
        kept.set_xlabel("structured:\n% of dense")
        kept.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes in (dense, kept):
            axes.grid(visible=False, axis="y")
        return _svg(figure)


def heat_map(matrix: StructuredMatrix) -> str:
    """Heat map of the number of blocks on each entry."""
    with _style():
        figure = _figure(3.2, 3.8)
        axes = figure.subplots()
        axes.grid(visible=False)
        structure(matrix, axes).set_title("")
        (bar,) = axes.child_axes
        bar.locator_params(axis="y", nbins=4)  # a wide matrix is not high
        return _address("png", _saved(figure, "png", dpi=120, facecolor="white"))


def course_map(stages: Mapping[str, NDArray[np.bool_]]) -> str:
    """Pictures side by side of the entries that one layer uses, by the names of the stages."""
    norm = optional("matplotlib.colors", "matplotlib").PowerNorm(0.4, 0, 1)
    with _style():
        figure = _figure(3.3, 3.0 * len(stages))
        places = figure.subplots(1, len(stages), squeeze=False)[0]
        for (name, used), axes in zip(stages.items(), places, strict=True):
            m, n = used.shape
            axes.imshow(
                _shares(used),
                norm=norm,
                cmap="Blues",
                interpolation="nearest",
                extent=(0, max(n, 1), max(m, 1), 0),
                aspect="auto",
            )
            axes.grid(visible=False)
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("column")
        places[0].set_ylabel("row")
        return _address("png", _saved(figure, "png", dpi=120, facecolor="white"))


def pixel_map(counts: NDArray[np.int64]) -> str:
    """Picture of the number of units that read each pixel of an image."""
    with _style():
        figure = _figure(3.2, 3.8)
        axes = figure.subplots()
        axes.grid(visible=False)
        shown = axes.imshow(counts, vmin=0, cmap="viridis", interpolation="nearest")
        figure.colorbar(shown, ax=axes, label="units that read a pixel")
        return _address("png", _saved(figure, "png", dpi=120, facecolor="white"))


def _shares(used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the entries in use in each of at most `_CELLS` by `_CELLS` parts of a layer."""
    shares = used.astype(np.float64)
    for axis, size in enumerate(used.shape):
        count = min(size, _CELLS)
        ends = np.arange(count + 1) * size // max(count, 1)
        if count:
            shares = np.add.reduceat(shares, ends[:-1], axis)
            shares /= np.diff(ends).reshape((-1, 1) if axis == 0 else (1, -1))
    return shares


def _curve(run: Mapping[str, Any], key: str) -> list[tuple[int, float]]:
    """Steps and finite values; σ and cost of learned structures only."""
    if key != "loss" and run["kind"] != "gblr":
        return []
    scale = 100 if key == "cost" else 1
    points = [(entry["step"], entry.get(key)) for entry in run["history"]]
    return [(step, scale * v) for step, v in points if v is not None and math.isfinite(v)]


def _plain(text: str) -> str:
    """Text without formulas of dollar signs, cut to leave room."""
    text = text if len(text) <= _LABEL_LENGTH else "…" + text[1 - _LABEL_LENGTH :]
    return text.replace("$", r"\$")


def _style() -> Any:
    return optional("matplotlib", "matplotlib").rc_context(_STYLE)


def _figure(height: float, width: float = 9.0) -> Any:
    """Figure outside pyplot: no window, nothing to close."""
    figures = optional("matplotlib.figure", "matplotlib")
    return figures.Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    # Neither a background nor an ink of its own: the page may be light or dark.
    drawn = _saved(figure, "svg", transparent=True, metadata={"Date": None}).decode()
    start = drawn.index(">", drawn.index("<svg")) + 1
    drawn = drawn[:start] + _INKS + drawn[start:].replace(_INK, "currentColor")
    return _address("svg+xml", drawn.encode())


def _saved(figure: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, **options)
    return stream.getvalue()


def _address(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
