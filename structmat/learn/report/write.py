"""A report of a learning experiment: one HTML file that needs nothing but a browser."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat._markup import Markup, document, element, image, section, table
from structmat.files.write import whole_file
from structmat.learn.report.figures import (
    course_map,
    heat_map,
    history_chart,
    history_curves,
    layers_chart,
    metric_chart,
    pixel_map,
)
from structmat.learn.report.results import (
    KindRuns,
    Layer,
    Metric,
    check_results,
    kinds_of,
    layers_of,
)
from structmat.learn.report.summary import count, percent, summary
from structmat.matrices import GBLR
from structmat.matrices.lazy import split_orders
from structmat.matrix import StructuredMatrix


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    matrices: Mapping[str, StructuredMatrix],
    midway: Mapping[str, NDArray[np.bool_]] | None = None,
) -> None:
    """Write the results of an experiment to one self-contained HTML file.

    It holds a summary by kind of structure, the metric seed by seed, the course of
    training, what each layer costs, the learned blocks as heat maps, and the facts of the
    run. Pictures are part of the file, and nothing in it is fetched or executed.

    Parameters
    ----------
    path : path-like
        Taken as it is, without an ending added.
    results : mapping
        What `structmat learn` writes to ``results.json``: ``format`` (1), ``task`` with
        its ``metric`` and, optionally, its ``budget``, ``runs``, and as far as they are
        there ``machine``, ``structmat``, ``command``, ``frozen`` and ``left_out``; the task may
        have the ``pixels`` of grey images, rows and columns, that its first layer takes.
    matrices : mapping of str to StructuredMatrix
        Layers by name, drawn as heat maps; may be empty.
    midway : mapping of str to array of bool (m, n), optional
        Entries that layers used half-way through the learning of their structure. Each layer
        with such entries is also drawn before, during and after it.

    Raises
    ------
    InputError
        If the results are of another format or incomplete.
    MissingDependencyError
        If matplotlib is not installed (extra ``learn``).
    SaveError
        If the file cannot be written; an older file of that name survives whole.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from structmat.learn.report import write_report
    >>> layer = {"name": "layers.0", "shape": [64, 64], "cost": 4096, "dense_cost": 4096}
    >>> run = {"kind": "dense", "seed": 0, "metric": 0.97, "cost": 4096, "relative_cost": 1.0,
    ...        "storage": 4096, "relative_storage": 1.0, "train_seconds": 3.1,
    ...        "inference_seconds": 0.002, "history": [], "layers": [layer]}
    >>> results = {"format": 1, "task": {"data": "digits", "metric": "accuracy"}, "runs": [run]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(Path(folder) / "report.html", results, {})
    ...     "97.00" in (Path(folder) / "report.html").read_text(encoding="utf-8")
    True
    """
    check_results(results)
    page = _page(results, matrices, midway or {})
    with whole_file(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _page(
    results: Mapping[str, Any],
    matrices: Mapping[str, StructuredMatrix],
    midway: Mapping[str, NDArray[np.bool_]],
) -> str:
    task, kinds = results["task"], kinds_of(results)
    metric = Metric(str(task["metric"]))
    title = ", ".join(str(task[key]) for key in ("data", "model") if key in task)
    return document(
        f"structmat learn: {title}",
        element("h1", f"Learned structure: {title}"),
        element("p", _outcome(kinds, metric), class_="lead"),
        section(
            "Summary",
            table(*summary(kinds, metric)),
            _left_out(results.get("left_out", {})),
            _metric_figure(kinds, metric),
        ),
        _inputs(matrices, task.get("pixels")),
        _training(kinds, task.get("budget")),
        _layers(kinds),
        _course(matrices, midway),
        _blocks(matrices),
        section("The run", _facts(results)),
    )


def _outcome(kinds: Sequence[KindRuns], metric: Metric) -> str:
    """Sentence on the best structured kind beside the dense one."""
    means = {kind.name: kind.mean("metric") for kind in kinds}
    sign = -1 if metric.lower_is_better else 1
    ranked = sorted(
        (kind for kind in kinds if means[kind.name] is not None and kind.name != "dense"),
        key=lambda kind: sign * (means[kind.name] or 0),
    )
    dense = f"dense: {metric.text(means.get('dense'))}"
    if not ranked:
        return f"{metric.label}, {dense}."
    best = ranked[-1]
    what = f"{metric.label} {metric.text(means[best.name])}"
    share, time = (percent(best.mean(f"relative_{key}")) for key in ("cost", "inference"))
    of = f"{share} of the multiplications" + f" and {time} of the inference time" * (time != "–")
    first = f"{best.label} did best of {len(ranked)} structured kinds" if ranked[1:] else best.label
    return f"{first}: {what} with {of} ({dense})."


def _left_out(reasons: Mapping[str, str]) -> Markup:
    """Kinds that have no network at the budget, each with its reason."""
    if not reasons:
        return Markup()
    items = (element("li", f"{KindRuns(kind, ()).label}: {why}") for kind, why in reasons.items())
    text = element("p", "Left out, as they have no matrices of so few multiplications:")
    return Markup(text + element("ul", *items))


def _metric_figure(kinds: Sequence[KindRuns], metric: Metric) -> Markup:
    values = (f"{kind.label} {metric.text(kind.mean('metric'))}" for kind in kinds)
    return image(
        metric_chart(kinds, metric),
        f"Chart of {metric.label} by kind, means: {', '.join(values)}.",
        "One point a seed; the bar is their mean, the dotted line the mean of dense.",
    )


def _inputs(matrices: Mapping[str, StructuredMatrix], pixels: Sequence[int] | None) -> Markup:
    """Pixels that the first layer reads, where its inputs are those of a grey image."""
    first = next(iter(matrices.values()), None)
    if first is None or pixels is None or math.prod(pixels) != first.shape[1]:
        return Markup()
    counts = np.count_nonzero(np.asarray(first.to_dense()), axis=0).reshape(tuple(pixels))
    text = element(
        "p",
        "How many units of the first layer have a weight for each pixel, in the frozen model. "
        "Nothing told the network which pixels matter.",
    )
    facts = f"{counts.min()} to {counts.max()} of {first.shape[0]} units read each pixel."
    picture = image(pixel_map(counts), f"Picture of the pixels: {facts}", facts)
    return section("What the first layer reads", text, element("div", picture, class_="grid"))


def _training(kinds: Sequence[KindRuns], budget: float | None) -> Markup:
    curves = history_curves(kinds)
    if not curves:
        return Markup()
    caption = "One line a seed."
    if "cost" in curves:
        caption += " Learned blocks end within the budget, wherever they begin."
    if "sigma" in curves:
        caption += " The larger σ, the sharper their masks."
    chart = history_chart(curves, budget)
    return section("Training", image(chart, "Curves over the steps of training.", caption))


def _layers(kinds: Sequence[KindRuns]) -> Markup:
    layers = layers_of(kinds)
    structured = [kind for kind in kinds if kind.name != "dense"]
    if not layers or not structured:
        return Markup()
    columns = ["Layer", "Shape", "Positions", "Dense", *(kind.label for kind in structured)]
    rows = [
        [
            layer.name,
            "×".join(str(size) for size in layer.shape),
            str(layer.positions),
            count(layer.dense_cost),
            *(_layer_cost(layer, kind) for kind in structured),
        ]
        for layer in layers
    ]
    caption = (
        "Multiplications for one example, means over the seeds. Positions are the vectors that a "
        "layer multiplies for it."
    )
    picture = image(
        layers_chart(layers, structured),
        "Bar charts of what each layer costs dense, and of the share each kind keeps; the table "
        "gives the numbers.",
        "Left, what a layer costs dense; right, the share of it that each kind keeps.",
    )
    return section("Layers", table(caption, columns, rows), picture)


def _layer_cost(layer: Layer, kind: KindRuns) -> str:
    if kind.name not in layer.costs:
        return "–"
    share = element("small", percent(layer.share(kind.name)))
    return Markup(count(layer.costs[kind.name]) + share)


def _course(
    matrices: Mapping[str, StructuredMatrix], midway: Mapping[str, NDArray[np.bool_]]
) -> Markup:
    pictures = [_stages(name, matrices[name], used) for name, used in midway.items()]
    if not pictures:
        return Markup()
    text = element(
        "p",
        "Entries of each layer that training may change: all at the start, fewer half-way, and "
        "those of the blocks at the end. Rows and columns stand in the order that the layer "
        "learned, if it learned one. The darker a point, the more of its entries are in use.",
    )
    return section("From dense to blocks", text, *pictures)


def _stages(name: str, matrix: StructuredMatrix, used: NDArray[np.bool_]) -> Markup:
    rows, inner, cols = split_orders(matrix)
    used = used.astype(np.float64)
    # Where A = P_r B P_c, the entries of B are those of P_r^T A P_c^T.
    used = used if rows is None else rows.H @ used
    used = (used if cols is None else (cols @ used.T).T) > 0
    last = np.asarray(inner.coverage() > 0 if isinstance(inner, GBLR) else inner.to_dense() != 0)
    shares = [percent(float(part.mean())) for part in (used, last)]
    titles = "start: 100\u00a0%", f"half-way: {shares[0]}", f"end: {shares[1]}"
    stages = dict(zip(titles, (np.ones_like(used), used, last), strict=True))
    about = f"{name}: all entries at the start, {shares[0]} half-way, {shares[1]} at the end."
    return image(course_map(stages), f"Entries in use of {about}", element("strong", name))


def _blocks(matrices: Mapping[str, StructuredMatrix]) -> Markup:
    if not matrices:
        return Markup()
    pictures = [_heat_map(name, matrix) for name, matrix in matrices.items()]
    text = element(
        "p",
        "How many blocks cover each entry of a layer, in the frozen model. Rows and columns stand "
        "in the order that the layer learned, if it learned one.",
    )
    return section("Learned blocks", text, element("div", *pictures, class_="grid"))


def _heat_map(name: str, matrix: StructuredMatrix) -> Markup:
    m, n = matrix.shape
    facts = f"{m}×{n}, {percent(matrix.relative_cost)} of dense"
    rows, inner, cols = split_orders(matrix)
    if isinstance(inner, GBLR):
        count = inner.coverage()
        covered = percent(float((count > 0).mean())) if count.size else "none"
        facts += f"; {inner.num_blocks} blocks on {covered} of the entries"
    ordered = [side for side, order in (("rows", rows), ("columns", cols)) if order is not None]
    if ordered:
        facts += f"; {' and '.join(ordered)} in learned order"
    return image(
        heat_map(inner), f"Heat map of {name}: {facts}.", element("strong", name), f" {facts}"
    )


def _facts(results: Mapping[str, Any]) -> Markup:
    facts = {key: results[key] for key in ("command", "structmat") if key in results}
    facts |= results["task"] | results.get("machine", {})
    facts |= {f"frozen model: {key}": v for key, v in results.get("frozen", {}).items()}
    rows = [[key.replace("_", " "), _fact(value)] for key, value in facts.items()]
    return table("What was run, and where.", ["Fact", "Value"], rows, class_="facts")


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{key} = {_fact(part)}" for key, part in value.items()] or None
    if isinstance(value, list | tuple):
        return ", ".join(_fact(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value in (None, "") else str(value)
