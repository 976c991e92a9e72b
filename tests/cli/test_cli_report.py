"""Pages on files: what they say, that they stand alone, and how a browser shows them."""

import json
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest

import structmat
from structmat.cli import main
from structmat.cli._report_page import Row, matrix_page, model_page
from structmat.matrices import Product, Sum

VOID = {"meta"}
NAME = "<script>alert('no')</script>"


class Page(HTMLParser):
    """A page as its elements, with the rows of its tables; a tag that stays open is an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += f"{text} "

    def row(self, name):
        (found,) = [row for row in self.rows if row[0].split()[:1] == [name]]
        return [" ".join(cell.split()) for cell in found]

    def count(self, tag):
        return sum(found == tag for found, _ in self.tags)


def stands_alone(text):
    """A page that no script, no network and no other file has a part in."""
    page = Page(text)
    assert "default-src 'none'" in text
    assert not page.count("script") + page.count("link") + page.count("iframe")
    named = [v for _, attributes in page.tags for k, v in attributes.items() if k != "xmlns"]
    assert not any(re.search(r"https?:|file:|url\(", value or "") for value in named)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    return page


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(capsys, path, *options):
    status = main(["report", str(path), "-o", "page.html", *options])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    with open("page.html", encoding="utf-8") as file:
        return stands_alone(file.read()), out


def test_a_compressed_matrix_is_shown_with_its_error(here, capsys):
    rng = np.random.default_rng(5)
    np.save("low.npy", rng.standard_normal((40, 3)) @ rng.standard_normal((3, 32)))
    words = ["compress", "low.npy", "--to", "low_rank", "--budget", "0.2", "-o", "a.npz", "--json"]
    assert main(words) == 0
    error = json.loads(capsys.readouterr().out)["error"]
    page, out = report(capsys, "a.npz")
    assert page.row("shape") == ["shape", "40 x 32"]
    assert page.row("cost") == ["cost", "216 (16.88% of dense)"]
    assert page.row("error")[1].startswith(f"{error:.3g} (relative")
    assert page.row("structmat")[1] == structmat.__version__
    assert page.count("svg") == 1
    assert "written to page.html" in out
    figures = json.loads(report(capsys, "a.npz", "--json")[1])
    assert (figures["kind"], figures["cost"], figures["error"]) == ("low_rank", 216, error)
    assert main(["info", "a.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["error"] == error


def test_a_saved_matrix_holds_no_error_and_shows_its_operands(here, capsys):
    D = structmat.Diagonal(np.arange(1.0, 5))
    structmat.save("a.npz", Product(Sum(D, structmat.LowRank(np.ones((4, 1)), np.ones((4, 1)))), D))
    page, _ = report(capsys, "a.npz")
    assert not any(row[:1] == ["error "] for row in page.rows)
    assert page.count("li") == 4


def test_names_on_a_page_are_text():
    A = structmat.Permutation([1, 0])
    stands_alone(matrix_page(NAME, A, {"error": 0.1, "estimate": NAME}, {NAME: NAME}))
    row = Row(NAME, NAME, (2, 2), cost=1, storage=1, dense=4)
    page = stands_alone(model_page(NAME, [row, row], {NAME: ((2,), NAME)}, {"file": NAME}))
    assert page.rows[1][0].startswith(NAME)


def test_long_pages_are_cut_and_say_so():
    picture = structmat._html.blocks_svg(structmat.Permutation([1, 0]))
    rows = [
        Row(f"l{i}", "gblr", (2, 2), cost=1, storage=2, dense=4, pictures=[picture] * 9)
        for i in range(60)
    ]
    others = {f"t{i}": ((), "float32") for i in range(1200)}
    text = model_page("model", rows, others, {})
    page = stands_alone(text)
    assert page.count("svg") == 44 * 9
    assert "These are the first 44 of 60 layers." in text
    assert "1,200 tensors" in text
    assert "These are the first 1,000." in text
    assert sum(row[-1] == "float32 " for row in page.rows) == 1000
    assert page.row("together") == ["together", "60", "25.00%", "120", "50.00%"]


def test_a_network_is_shown_layer_by_layer(here, capsys):
    torch = pytest.importorskip("torch")
    from structmat.nn import GaudiLinear, StructuredConv2d, cost, freeze_, save_model

    twice = GaudiLinear(16, 16, budget=0.5)
    taps = [structmat.LowRank(np.ones((6, 1)), np.ones((4, 1)))] * 9
    conv = StructuredConv2d(taps, in_channels=4, kernel_size=3)
    frozen = torch.nn.Sequential(GaudiLinear(16, 8))
    freeze_(frozen)
    model = torch.nn.Sequential(twice, twice, conv, torch.nn.Linear(3, 2), *frozen)
    save_model("model.safetensors", model)
    known = {row.name: row for row in cost(model).rows}
    page, out = report(capsys, "model.safetensors")
    for name, first in (("0", "0 = 1 gblr, learning, 16 x 16"), ("2", "2 low_rank, 6 x 4 x 3 x 3")):
        cells, row = page.row(name), known[name]
        assert cells[0] == first
        assert cells[1:3] == [f"{row.cost:,}", f"{row.relative_cost:.2%}"]
        assert cells[3] == f"{row.storage:,}"
    assert page.row("4")[0] == "4 gblr, 8 x 16"
    assert page.row("3.weight") == ["3.weight", "2 x 3", "float32"]
    others = [row[0].strip() for row in page.rows if row[-1].startswith("float32")]
    assert sorted(others) == ["3.bias", "3.weight"]
    assert page.count("svg") == 1 + 9 + 1
    assert "model.safetensors: 3 structured layers" in out
    figures = json.loads(report(capsys, ".", "--json")[1])  # the folder of structmat learn
    costs = [known[name].cost for name in ("0", "2", "4")]
    assert [layer["cost"] for layer in figures["layers"]] == costs
    assert figures["total"]["cost"] == sum(costs)


def test_a_layer_alone_has_the_name_of_its_type(here, capsys):
    pytest.importorskip("torch")
    from structmat.nn import GaudiLinear, save_model

    save_model("layer.safetensors", GaudiLinear(16, 8))
    assert report(capsys, "layer.safetensors")[0].row("GaudiLinear")[0].startswith("GaudiLinear")


def test_a_dense_network_has_no_layers_to_show(here, capsys):
    torch = pytest.importorskip("torch")
    from structmat.nn import save_model

    save_model("dense.safetensors", torch.nn.Linear(3, 2))
    page, out = report(capsys, "dense.safetensors")
    assert out.startswith("dense.safetensors: no structured layer\n")
    assert page.row("weight") == ["weight", "2 x 3", "float32"]
    assert not any(row[0] == "Layer " for row in page.rows)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("array.npz", "no structmat header; expected a file written by structmat.save"),
        ("array.npy", "neither a matrix nor a network of structmat; expected a matrix that"),
        ("empty", "neither a matrix nor a network"),
        ("folder", "has no config.json and no model.safetensors; expected a matrix that"),
        ("dense", "has no structured layers; expected a model that structmat.nn.convert_"),
        ("other", "(the model is quantized by 'gptq'); expected"),
        ("damaged", "cannot be read"),
        ("lost", "model.safetensors"),
        ("absent", "expected"),
    ],
)
def test_other_files_are_refused_in_one_line(name, message, here, capsys):
    np.savez("array.npz", a=np.ones(3))
    np.save("array.npy", np.ones(3))
    (here / "empty").touch()
    (here / "folder").mkdir()
    entry = {"quant_method": "structmat", "format_version": 2, "structure": "eJw="}
    configs = {
        "dense": {}, "other": {"quantization_config": {"quant_method": "gptq"}}, "damaged": [],
        "lost": {"quantization_config": entry},
    }  # fmt: skip
    if name in configs:
        pytest.importorskip("transformers")
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(configs[name]))
    assert main(["report", name, "-o", "page.html"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not (here / "page.html").exists()


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
#: Measures of a page, as a browser lays it out, written where `--dump-dom` shows them. The page is
#: in a frame, because windows are not as narrow as telephones.
MEASURE = """<script>
const sizes = [...document.querySelectorAll("svg")].map(s => s.getBoundingClientRect());
const box = document.documentElement;
parent.document.title = JSON.stringify({inside: innerWidth, width: box.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  ratios: sizes.map(s => s.width / s.height), right: Math.max(...sizes.map(s => s.right))});
</script>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium on the path")
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1400, False)])
def test_a_browser_shows_a_page_whole(width, dark, tmp_path):
    picture = structmat._html.blocks_svg(structmat.Permutation(np.arange(8)), side=480)
    wide = structmat.LowRank(np.ones((8, 1)), np.ones((64, 1)))
    name = "model.encoder.layers.11.self_attn.a_long_name.q_proj"
    shown = [picture, structmat._html.blocks_svg(wide)]
    row = Row(name, "block_low_rank", (4096, 4096), cost=10**6, storage=10**7, dense=4096**2,
              pictures=shown)  # fmt: skip
    text = model_page(name, [row] * 3, {name: ((4096,), "float32")}, {"file": name})
    text = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</main>", f"</main>{MEASURE}")
    frame = f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{escape(text)}">'
    schemes = "<style>:root { color-scheme: light dark }</style>"
    (tmp_path / "page.html").write_text(f"<title></title>{schemes}{frame}", encoding="utf-8")
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,900",
             "--dump-dom"]  # fmt: skip
    words += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [*words, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120
    )
    found = json.loads(re.search(r"<title>(.*?)</title>", done.stdout).group(1))
    assert found["inside"] == width
    assert found["width"] <= width
    assert found["right"] <= width
    assert found["paper"] == ("rgb(20, 24, 28)" if dark else "rgb(255, 255, 255)")
    assert found["ratios"] == pytest.approx([1, 8] * 3, rel=0.02)
