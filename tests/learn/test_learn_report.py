"""The report: one file that stands alone, says what the results say, and takes any name."""

import base64
import copy
import json
import os
import re
import statistics
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import structmat
from structmat._markup import element
from structmat.errors import InputError, MissingDependencyError, SaveError
from structmat.learn.report import write_report

pytest.importorskip("matplotlib")

LAYERS = {"layers.0": (256, 64), "layers.1": (256, 256)}
POSITIONS = 4
ACCURACY = {
    "dense": 0.976, "low_rank": 0.896, "block_sparse": 0.921, "block_low_rank": 0.948,
    "monarch": 0.955, "gblr": 0.967,
}  # fmt: skip
VOID = {"img", "meta"}


def a_run(kind, seed, random, *, metric, steps=60):
    share = 1.0 if kind == "dense" else 0.1
    layers = []
    for name, (m, n) in LAYERS.items():
        own = share * random.uniform(0.7, 1.2) if kind == "gblr" else share
        stored = int(own * m * n)
        layers.append(
            {"name": name, "kind": kind, "shape": [m, n], "cost": POSITIONS * stored,
             "dense_cost": POSITIONS * m * n, "storage": stored, "positions": POSITIONS}
        )  # fmt: skip
    cost, dense = (sum(layer[key] for layer in layers) for key in ("cost", "dense_cost"))
    history = []
    for epoch in range(1, steps + 1):
        done = epoch / steps
        ramp = max(share, 0.4 * (1 - done / 0.6) ** 3 + share) if kind == "gblr" else share
        history.append(
            {"step": 20 * epoch, "epoch": float(epoch), "cost": ramp,
             "loss": 2.3 * np.exp(-5 * done) + 0.02 + 0.02 * random.uniform(),
             "sigma": 1 + 99 * min(max((done - 0.1) / 0.8, 0), 1) if kind == "gblr" else None}
        )  # fmt: skip
    return {
        "kind": kind, "seed": seed, "metric": metric + 0.005 * random.standard_normal(),
        "cost": cost, "dense_cost": dense, "relative_cost": cost / dense, "storage": 2 * cost,
        "relative_storage": 2 * cost / dense, "history": history, "layers": layers,
        "train_seconds": random.uniform(20, 90) * (1 + (kind == "gblr")),
        "inference_seconds": random.uniform(1e-3, 4e-3),
        "train_metric": metric + 0.02, "relative_inference": random.uniform(0.4, 1.1),
    }  # fmt: skip


def sample(kinds=tuple(ACCURACY), seeds=(0, 1, 2), steps=60):
    """Results as `structmat learn` writes them, by way of JSON."""
    random = np.random.default_rng(7)
    # Seeds and kinds in an order of no use to a reader.
    runs = [
        a_run(kind, seed, random, metric=ACCURACY[kind], steps=steps)
        for seed in reversed(seeds)
        for kind in reversed(kinds)
    ]
    results = {
        "format": 1, "structmat": "0.1.0", "command": "structmat learn --data digits",
        "machine": {"cpu": "Some CPU @ 2 GHz", "cores": 2, "python": "3.11", "torch": "2.13.0"},
        "task": {"data": "digits", "model": "mlp", "budget": 0.1, "epochs": 60,
                 "seeds": list(seeds), "metric": "accuracy", "note": None,
                 "train_examples": 1257,
                 "test_examples": 540},
        "runs": runs,
        "frozen": {"file": "model.safetensors", "same_predictions": True,
                   "largest_difference": 0.0},
    }  # fmt: skip
    return json.loads(json.dumps(results))


def learned():
    """A GBLR matrix a layer: blocks of rank one, some overlapping, some across the edges."""
    random = np.random.default_rng(3)
    matrices = {}
    for name, (m, n) in LAYERS.items():
        rows, cols = random.integers(4, m // 4, 24), random.integers(4, n // 3, 24)
        matrices[name] = structmat.GBLR(
            random.integers(0, m, 24), rows, np.ones(rows.sum()),
            random.integers(0, n, 24), cols, np.ones(cols.sum()), shape=(m, n),
        )  # fmt: skip
    return matrices


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, text by element, tables by rows."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.tables, self.words = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        place = self.open[-1] if self.open else ""
        self.words[place] = self.words.get(place, "") + data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data.replace("\u00a0", " ")

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def table(self, number):
        """Rows by their names, each a mapping of column to cell."""
        columns, *rows = self.tables[number]
        return {row[0]: list(zip(columns[1:], row[1:], strict=True)) for row in rows}


def report(tmp_path, results, matrices=None):
    path = tmp_path / "report.html"
    write_report(path, results, matrices or {})
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The full report, written once."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, sample(), learned())
    return path


@pytest.fixture
def drawn(monkeypatch):
    """Figures in their order, kept to be looked at and not rendered, which is slow."""
    figures = []

    def keep(figure, _kind, **_options):
        figures.append(figure)
        return b"<svg></svg>"

    monkeypatch.setattr("structmat.learn.report.figures._saved", keep)
    return figures


def runs_of(results, kind):
    return [run for run in results["runs"] if run["kind"] == kind]


# The page.


def test_an_outcome_shows_the_table_of_the_page_in_a_notebook(tmp_path):
    from structmat.learn.experiment import Outcome

    results = sample(kinds=("dense", "gblr"))
    results["runs"][0]["kind"] = "<script>alert(1)</script>"
    html = Outcome(results, {"report": "here/<b>.html"})._repr_html_()
    rows = ElementTree.fromstring(html).findall("table/tbody/tr")
    kinds = [row.find("th").text for row in rows]
    assert kinds[0] == "dense"
    assert "GBLR" in kinds[1]
    assert "<script" not in html
    assert "report: here/&lt;b&gt;.html" in html
    cells = [cell.text for cell in rows[1].findall("td")]
    write_report(tmp_path / "page.html", results, {})
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(f"<td>{cell}</td>" in page for cell in cells)


def test_the_page_is_well_made(whole):
    page = Page(whole.read_text(encoding="utf-8"))
    assert page.all("html") == [{"lang": "en"}]
    assert page.words["title"] == "structmat learn: digits, mlp"
    assert len(page.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert ids == ["summary", "training", "layers", "learned-blocks", "the-run"]
    assert [attrs["aria-labelledby"] for attrs in page.all("section")] == ids
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert {attrs["scope"] for attrs in page.all("th")} == {"row", "col"}
    assert [table[0][0] for table in page.tables] == ["Kind", "Layer", "Fact"]
    assert len(page.all("img")) == len(page.all("figcaption")) == 3 + len(LAYERS)
    assert all(attrs["alt"] for attrs in page.all("img"))


def test_nothing_is_fetched_or_executed(whole):
    text = whole.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object"})
    for _, attrs in page.elements:
        assert attrs.get("src", "data:image/").startswith("data:image/")
        assert not {"href", "srcset", "action"} & attrs.keys()
        assert not [key for key in attrs if key.startswith("on")]
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def pictures(page):
    """Contents of the pictures: (media type, bytes)."""
    for attrs in page.all("img"):
        media, _, data = attrs["src"].removeprefix("data:").partition(";base64,")
        yield media, base64.b64decode(data, validate=True)


def test_pictures_are_in_the_file(whole):
    kinds = []
    for media, data in pictures(Page(whole.read_text(encoding="utf-8"))):
        kinds.append(media)
        if media == "image/png":
            assert data.startswith(b"\x89PNG")
            continue
        tree = ElementTree.fromstring(data)
        assert tree.tag.endswith("svg")
        links = [v for e in tree.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)
        # Drawn in the colour of the text around it, on light and on dark.
        assert b"currentColor" in data
        assert b"prefers-color-scheme: dark" in data
    assert kinds == ["image/svg+xml"] * 3 + ["image/png"] * len(LAYERS)


def test_the_same_results_give_the_same_bytes(whole, tmp_path):
    write_report(tmp_path / "again.html", sample(), learned())
    assert (tmp_path / "again.html").read_bytes() == whole.read_bytes()


def test_inputs_and_settings_are_left_alone(tmp_path):
    import matplotlib

    results = sample(kinds=("dense", "gblr"), steps=2)
    before = copy.deepcopy(results)
    with matplotlib.rc_context({"font.size": 7.0, "axes.grid": False}):
        settings = dict(matplotlib.rcParams)
        write_report(tmp_path / "report.html", results, {})
        assert dict(matplotlib.rcParams) == settings
    assert results == before


# What it says.


def number(cell):
    """The number and the spread of a cell, its unit taken off."""
    value, _, spread = re.sub(r"[,\s]|%|ms|min|s", "", cell).partition("±")
    return float(value), float(spread) if spread else None


def test_the_summary_says_what_the_results_say(whole):
    results, table = sample(), Page(whole.read_text(encoding="utf-8")).table(0)
    assert list(table) == [
        "dense", "low rank", "block sparse", "block low rank", "Monarch", "GBLR"
    ]  # fmt: skip
    for kind, cells in zip(ACCURACY, table.values(), strict=True):
        runs = runs_of(results, kind)
        numbers = [key for key in runs[0] if isinstance(runs[0][key], int | float)]
        mean = {key: np.mean([run[key] for run in runs]) for key in numbers}
        (title, metric), (_, known), *rest = cells
        assert title == "Accuracy, higher is better"
        value, spread = number(metric)
        assert value == pytest.approx(100 * mean["metric"], abs=0.005)
        expected = 100 * statistics.stdev(run["metric"] for run in runs)
        assert spread == pytest.approx(expected, rel=0.05)
        assert number(known)[0] == pytest.approx(100 * mean["train_metric"], abs=0.005)
        expected = [
            ("Multiplications", mean["cost"], 1),
            ("of dense", mean["relative_cost"], 100),
            ("Stored scalars", mean["storage"], 1),
            ("of dense", mean["relative_storage"], 100),
            ("Inference", mean["inference_seconds"], 1000),
            ("of dense", mean["relative_inference"], 100),
            ("Training", mean["train_seconds"], 1),
        ]
        for (column, cell), (name, value, scale) in zip(rest, expected, strict=True):
            assert column == name
            assert number(cell)[0] == pytest.approx(scale * value, rel=0.006), (kind, name)


@pytest.mark.usefixtures("drawn")
def test_times_have_units(tmp_path):
    results = sample(kinds=("dense", "gblr"), seeds=(0,), steps=1)
    for run, times in zip(results["runs"], [(0.5, 0.0123), (7200, 90)], strict=True):
        run["train_seconds"], run["inference_seconds"] = times
        # Files of earlier versions have no time over that of the dense network.
        del run["relative_inference"], run["train_metric"]
    table = report(tmp_path, results).table(0)
    cells = {row: [cell for _, cell in table[row]] for row in table}
    assert (cells["GBLR"][6], cells["GBLR"][8]) == ("12.3 ms", "500 ms")
    assert (cells["dense"][6], cells["dense"][8]) == ("90 s", "120 min")
    for run in runs_of(results, "gblr"):
        run["train_seconds"] = run["inference_seconds"] = None
    (tmp_path / "again").mkdir()
    row = [cell for _, cell in report(tmp_path / "again", results).table(0)["GBLR"]]
    assert row[6:9] == ["–", "–", "–"]


def test_the_outcome_comes_first(whole):
    page = Page(whole.read_text(encoding="utf-8"))
    table = page.table(0)
    best, dense = (table[row][0][1].split(" ±")[0] for row in ("GBLR", "dense"))
    share, time = table["GBLR"][3][1], table["GBLR"][7][1]
    assert (
        page.words["p"]
        .replace("\u00a0", " ")
        .startswith(
            f"GBLR did best of 5 structured kinds: accuracy {best} % with {share} of the "
            f"multiplications and {time} of the inference time (dense: {dense} %)."
        )
    )


@pytest.mark.usefixtures("drawn")
def test_lower_is_better_for_perplexity(tmp_path):
    results = sample(kinds=("dense", "low_rank", "gblr"), seeds=(0,), steps=2)
    results["task"]["metric"] = "perplexity"
    for run in results["runs"]:
        run["metric"] = {"dense": 18.5, "low_rank": 19.48, "gblr": 19.24}[run["kind"]]
    page = report(tmp_path, results)
    assert page.words["p"].startswith("GBLR did best of 2 structured kinds: perplexity 19.24 with")
    assert page.table(0)["low rank"][0] == ("Perplexity, lower is better", "19.48")


@pytest.mark.usefixtures("drawn")
def test_one_seed_has_no_spread(tmp_path):
    page = report(tmp_path, sample(kinds=("dense", "gblr"), seeds=(4,), steps=2))
    assert "±" not in str(page.tables) + page.words["caption"]
    assert page.table(0)["GBLR"][1] == ("On training examples", "98.70 %")


def test_only_kinds_that_were_run_are_shown(tmp_path, drawn):
    page = report(tmp_path, sample(kinds=("gblr", "monarch"), steps=2))
    assert list(page.table(0)) == ["Monarch", "GBLR"]
    assert [column for column, _ in page.table(1)["layers.0"]][3:] == ["Monarch", "GBLR"]
    assert "dense: –" in page.words["p"]
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in drawn[0].axes]
    assert labels == [["Monarch", "GBLR"]]


@pytest.mark.usefixtures("drawn")
def test_dense_alone_makes_a_report(tmp_path):
    page = report(tmp_path, sample(kinds=("dense",), steps=2))
    assert [attrs["id"] for attrs in page.all("h2")] == ["summary", "training", "the-run"]


@pytest.mark.usefixtures("drawn")
def test_a_kind_from_elsewhere_comes_last(tmp_path):
    results = sample(kinds=("dense", "gblr"), steps=2)
    results["runs"][0]["kind"] = "butterfly_flat"
    assert list(report(tmp_path, results).table(0)) == ["dense", "GBLR", "butterfly flat"]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_run_that_diverged_is_left_out(value, tmp_path):
    results = sample(kinds=("dense", "monarch", "gblr"), seeds=(0, 1, 2), steps=2)
    lost = [runs_of(results, "monarch")[0], *runs_of(results, "gblr")]
    for run in lost:
        run["metric"] = run["history"][-1]["loss"] = value
    page = report(tmp_path, results)
    left = [run["metric"] for run in runs_of(results, "monarch")[1:]]
    mean, spread = number(page.table(0)["Monarch"][0][1])
    assert mean == pytest.approx(100 * np.mean(left), abs=0.01)
    assert spread == pytest.approx(100 * statistics.stdev(left), rel=0.1)
    assert page.table(0)["GBLR"][0][1] == "–"
    assert page.words["p"].startswith("Monarch: accuracy")


def test_layers_say_what_they_cost(whole):
    results, table = sample(), Page(whole.read_text(encoding="utf-8")).table(1)
    assert list(table) == list(LAYERS)
    for number_, (name, (m, n)) in enumerate(LAYERS.items()):
        (_, shape), (_, positions), (_, dense), *kinds = table[name]
        assert (shape, positions, dense) == (f"{m}×{n}", "4", f"{4 * m * n:,}")
        for kind, (_, cell) in zip(list(ACCURACY)[1:], kinds, strict=True):
            costs = [run["layers"][number_]["cost"] for run in runs_of(results, kind)]
            share = f"{100 * np.mean(costs) / (4 * m * n):.3g} %"
            assert cell == f"{np.mean(costs):,.0f}{share}"


@pytest.mark.usefixtures("drawn")
def test_a_layer_that_a_kind_lacks_has_no_cost(tmp_path):
    results = sample(kinds=("dense", "monarch", "gblr"), seeds=(0,), steps=2)
    del runs_of(results, "monarch")[0]["layers"][0]
    table = report(tmp_path, results).table(1)
    assert set(table) == set(LAYERS)
    assert dict(table["layers.0"])["Monarch"] == "–"


def test_the_run_is_described(whole):
    facts = {
        row: cells[0][1] for row, cells in Page(whole.read_text(encoding="utf-8")).table(2).items()
    }
    assert facts["command"] == "structmat learn --data digits"
    assert facts["structmat"] == "0.1.0"
    assert facts["note"] == "–"
    assert facts["cpu"] == "Some CPU @ 2 GHz"
    assert facts["seeds"] == "0, 1, 2"
    assert facts["train examples"] == "1257"
    assert facts["frozen model: same predictions"] == "yes"
    assert facts["frozen model: largest difference"] == "0.0"


# What is drawn.


def test_the_metric_is_drawn_seed_by_seed(tmp_path, drawn):
    results = sample(steps=2)
    report(tmp_path, results)
    (axes,) = drawn[0].axes
    marks = {"o": {}, "|": {}}
    for line in axes.lines:
        if line.get_marker() in marks:
            marks[line.get_marker()][int(line.get_ydata()[0])] = sorted(line.get_xdata())
    for row, kind in enumerate(ACCURACY):
        values = sorted(100 * run["metric"] for run in runs_of(results, kind))
        assert marks["o"][row] == pytest.approx(values)
        assert marks["|"][row] == pytest.approx([np.mean(values)])


def test_curves_are_drawn_run_by_run(tmp_path, drawn):
    results = sample()
    report(tmp_path, results)
    loss, sigma, cost = drawn[1].axes

    def curves(axes, key, scale=1):
        wanted = sorted(
            [scale * entry[key] for entry in run["history"]]
            for run in results["runs"]
            if key == "loss" or run["kind"] == "gblr"
        )
        found = sorted(list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) > 2)
        np.testing.assert_allclose(found, wanted)

    curves(loss, "loss")
    curves(sigma, "sigma")
    curves(cost, "cost", 100)
    assert list(loss.lines[0].get_xdata()) == [20 * epoch for epoch in range(1, 61)]
    assert [text.get_text() for text in cost.get_legend().texts] == ["GBLR", "budget"]
    assert list(cost.lines[-1].get_ydata()) == [10, 10]
    assert len(loss.get_legend().texts) == len(ACCURACY)


def test_fixed_structures_have_a_loss_alone(tmp_path, drawn):
    page = report(tmp_path, sample(kinds=("dense", "monarch"), steps=2))
    assert [axes.get_ylabel() for axes in drawn[1].axes] == ["training loss"]
    assert "Learned blocks" not in page.words["figcaption"]


@pytest.mark.parametrize("sigma", [None, float("inf")])
def test_masks_that_are_always_sharp_have_no_curve(tmp_path, drawn, sigma):
    results = sample(kinds=("gblr",), seeds=(0,), steps=3)
    assert "The larger σ" in report(tmp_path, results).words["figcaption"]
    for entry in results["runs"][0]["history"]:
        entry["sigma"] = sigma
    drawn.clear()
    page = report(tmp_path, results)
    names = [axes.get_ylabel() for axes in drawn[1].axes]
    assert names == ["training loss", "multiplications\n(% of dense)"]
    assert "σ" not in "".join(page.words.values())
    assert "Learned blocks end within the budget" in page.words["figcaption"]


def test_options_among_the_facts_are_written_out(tmp_path):
    results = sample(kinds=("gblr",), seeds=(0,), steps=1)
    results["task"] |= {"moves": {"every": 20, "across": False}, "none": {}}
    rows = dict(report(tmp_path, results).tables[-1])
    assert rows["moves"] == "every = 20, across = no"
    assert rows["none"] == "–"


def test_without_a_history_there_are_no_curves(tmp_path, drawn):
    page = report(tmp_path, sample(kinds=("dense", "gblr"), steps=0))
    assert "training" not in [attrs["id"] for attrs in page.all("h2")]
    assert len(drawn) == 2


def test_layers_are_drawn_dense_and_by_share(tmp_path, drawn):
    results = sample(kinds=("dense", "monarch", "gblr"), steps=2)
    report(tmp_path, results)
    dense, kept = drawn[2].axes
    assert [bar.get_width() for bar in dense.patches] == [4 * 256 * 64, 4 * 256 * 256]
    shares = []
    for kind in ("monarch", "gblr"):
        for number_, (m, n) in enumerate(LAYERS.values()):
            costs = [run["layers"][number_]["cost"] for run in runs_of(results, kind)]
            shares.append(100 * np.mean(costs) / (4 * m * n))
    assert [bar.get_width() for bar in kept.patches] == pytest.approx(shares)


def test_layers_are_drawn_from_dense_to_blocks(tmp_path, drawn):
    matrices = learned()
    halfway = np.zeros(LAYERS["layers.1"], bool)
    halfway[:64, :128] = True
    write_report(tmp_path / "r.html", sample(), matrices, {"layers.1": halfway})
    (course,) = (f for f in drawn if f.axes[0].get_title().startswith("start"))
    start, middle, end = (axes.images[0].get_array() for axes in course.axes)
    assert np.array_equal(start, np.ones((128, 128)))
    assert np.array_equal(middle, halfway[::2, ::2])
    used = matrices["layers.1"].coverage() > 0
    assert np.allclose(end, used.reshape(128, 2, 128, 2).mean((1, 3)))
    assert "12.5" in course.axes[1].get_title()


def test_entries_in_use_are_drawn_in_the_order_that_was_learned(tmp_path, drawn):
    inner, random = learned()["layers.1"], np.random.default_rng(1)
    rows, cols = (structmat.Permutation(random.permutation(256)) for _ in range(2))
    # The same entries half-way as at the end, in the order of the layer's vectors.
    used = (rows @ structmat.Dense((inner.coverage() > 0) * 1.0) @ cols).to_dense() > 0
    write_report(tmp_path / "r.html", sample(), {"a": rows @ inner @ cols}, {"a": used})
    (course,) = (f for f in drawn if f.axes[0].get_title().startswith("start"))
    _, middle, end = (axes.images[0].get_array() for axes in course.axes)
    assert np.array_equal(middle, end)


@pytest.mark.parametrize("pixels", [[8, 8], [4, 16], [5, 5], None])
def test_the_first_layer_shows_the_pixels_that_it_reads(pixels, tmp_path, drawn):
    results, first = sample(kinds=("dense", "gblr"), steps=2), learned()["layers.0"]
    results["task"]["pixels"] = pixels
    page = report(tmp_path, results, learned())
    shown = [figure for figure in drawn if figure.axes[-1].get_ylabel().startswith("units")]
    if pixels is None or pixels[0] * pixels[1] != first.shape[1]:
        assert not shown
        assert "first layer" not in page.words["p"]
        return
    counts = shown[0].axes[0].images[0].get_array()
    assert np.array_equal(counts, (first.coverage() > 0).sum(0).reshape(pixels))
    alt = f"{counts.min()} to {counts.max()} of {first.shape[0]} units read each pixel."
    assert any(attrs["alt"].endswith(alt) for attrs in page.all("img"))


def test_heat_maps_show_the_coverage(tmp_path, drawn):
    matrices = learned()
    page = report(tmp_path, sample(kinds=("dense", "gblr"), steps=2), matrices)
    for figure, (name, A), attrs in zip(
        drawn[3:], matrices.items(), page.all("img")[3:], strict=True
    ):
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), A.coverage())
        covered = 100 * np.count_nonzero(A.coverage()) / A.coverage().size
        alt = attrs["alt"].replace("\u00a0", " ")
        assert alt.startswith(f"Heat map of {name}: {A.shape[0]}×{A.shape[1]}, ")
        assert alt.endswith(f"; 24 blocks on {covered:.3g} % of the entries.")


def test_blocks_are_drawn_in_the_order_that_was_learned(tmp_path, drawn):
    random, A = np.random.default_rng(0), learned()["layers.0"]
    P, Q = (structmat.Permutation(random.permutation(n)) for n in A.shape)
    matrices = {"both": P @ A @ Q, "rows": P @ A, "cols": A @ Q}
    page = report(tmp_path, sample(kinds=("dense",), seeds=(0,), steps=2), matrices)
    assert "in the order that the layer learned" in page.words["p"]
    for figure, attrs, words in zip(
        drawn[-3:], page.all("img")[-3:], ("rows and columns", "rows", "columns"), strict=True
    ):
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), A.coverage())
        assert "; 24 blocks on" in attrs["alt"]
        assert attrs["alt"].endswith(f"; {words} in learned order.")


def test_other_and_empty_matrices_are_drawn(tmp_path):
    none = np.zeros(0)
    matrices = {
        "low": structmat.LowRank(np.ones((6, 2)), np.ones((5, 2))),
        "empty": structmat.GBLR([], [], none, [], [], none, shape=(4, 3)),
        "void": structmat.GBLR([], [], none, [], [], none, shape=(0, 3)),
    }
    page = report(tmp_path, sample(kinds=("dense",), seeds=(0,), steps=2), matrices)
    alts = [attrs["alt"].replace("\u00a0", " ") for attrs in page.all("img")[2:]]
    assert alts == [
        "Heat map of low: 6×5, 73.3 % of dense.",
        "Heat map of empty: 4×3, 0 % of dense; 0 blocks on 0 % of the entries.",
        "Heat map of void: 0×3, 0 % of dense; 0 blocks on none of the entries.",
    ]


# Names.

EVIL = "<script>alert(1)</script>\"' onload='x' & $x_$ </style></title>"


def test_elements_escape_their_attributes_and_text():
    assert element("p", "<", element("b", "&"), class_='"', data_x="<>") == (
        '<p class="&quot;" data-x="&lt;&gt;">&lt;<b>&amp;</b></p>'
    )


def test_names_of_any_kind_are_only_text(tmp_path):
    results = sample(kinds=("dense", "gblr"), seeds=(0,), steps=2)
    results["task"] |= {"data": EVIL, "model": EVIL, "metric": EVIL, EVIL: EVIL}
    results |= {"command": EVIL, "structmat": EVIL, "machine": {"cpu": EVIL, "list": [EVIL]}}
    for run in results["runs"]:
        run["layers"][0]["name"] = EVIL
    runs_of(results, "gblr")[0]["kind"] = EVIL
    page = report(tmp_path, results, {EVIL: learned()["layers.0"]})
    assert {tag for tag, _ in page.elements} == {
        "html", "head", "meta", "title", "style", "body", "main", "section", "h1", "h2", "p",
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "small",
        "figure", "img", "figcaption", "strong",
    }  # fmt: skip
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert page.words["title"] == f"structmat learn: {EVIL}, {EVIL}"
    assert page.words["strong"] == EVIL
    assert EVIL in page.table(1)
    assert page.table(2)["command"][0][1] == EVIL
    assert EVIL in page.all("img")[-1]["alt"]
    for media, data in pictures(page):
        assert media == "image/png" or ElementTree.fromstring(data).tag.endswith("svg")


# Files and refusals.


@pytest.fixture
def small():
    return sample(kinds=("dense",), seeds=(0,), steps=1)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there(failure, tmp_path, monkeypatch, small):
    path = tmp_path / "report.html"
    path.write_text("older")

    def fail(*_args, **_options):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", fail)
        expected = SaveError if isinstance(failure, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            write_report(path, small, {})
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["older"]


def test_an_older_report_is_replaced(tmp_path, small):
    path = tmp_path / "report.html"
    path.write_text("older")
    write_report(str(path), small, {})
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert list(tmp_path.iterdir()) == [path]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_that_is_missing_or_in_the_way_is_refused(tmp_path, small):
    missing = tmp_path / "missing" / "report.html"
    for place, remedy in ((missing, "choose a folder that exists"), (tmp_path, "another name")):
        with pytest.raises(SaveError, match=remedy):
            write_report(place, small, {})
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, small):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'structmat\[learn\]'"):
        write_report(tmp_path / "report.html", small, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=2), "results of format 2; expected 1"),
        (lambda r: r.pop("format"), "results of format None; expected 1"),
        (lambda r: r.pop("task"), "without a metric of the task or without runs"),
        (lambda r: r["task"].pop("metric"), "expected task.metric"),
        (lambda r: r.update(runs=[]), "at least one run"),
        (lambda r: r["runs"][0].pop("storage"), "a run lacks storage; expected all of cost, "),
    ],
)
def test_foreign_results_are_refused(change, message, tmp_path, small):
    change(small)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path / "report.html", small, {})
    assert list(tmp_path.iterdir()) == []
