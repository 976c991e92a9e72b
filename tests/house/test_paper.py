"""The pages on the paper: complete, of one form, and true to the repository in what they name."""

import ast
import importlib
import re
from functools import cache

import pytest
from rooms import ROOT

PAPER = ROOT / "docs" / "paper"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAPER.glob("*.md"))}
#: Everything in the paper and in its public discussion that a reader may look for.
ITEMS = (
    *(f"Definition {k}" for k in (1, 2, 3)),
    *(f"Theorem {k}" for k in (1, 2, 3)),
    "Corollary 4",
    "Lemmas",
    *(f"Equation {k}" for k in (4, 8, 9)),
    "Dirichlet mask",
    "Gaudi mask",
    *(f"Algorithm {k}" for k in (1, 2)),
    *(f"Appendix A.{k}" for k in ("6", "7.2")),
    *(f"Figure {k}" for k in range(1, 7)),
    *(f"Table {k}" for k in (1, 2, 3, 5, 6)),
    *(f"Question {k}" for k in range(1, 13)),
)
#: What a reviewer's question has to be about, by its number.
QUESTIONS = (
    "penalty", "λ", "σ", "transforms", "AdamW", "SVD", "baselines", "models", "budgets", "power",
    "layers", "ranks",
)  # fmt: skip
VERDICTS = {"same", "extended", "sharper", "better", "other", "weaker", "not done"}
#: Texts that the pages must have beside the items.
TOPICS = ("λ from a budget", "ALDS with several subspaces", "Related work")
ROW = re.compile(r"^\| \[([^\]]+)\]\(([\w.]+)#([^)]+)\) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = {match[1]: match.groups() for match in ROW.finditer(PAGES["index.md"])}


def slug(heading):
    """Anchor of a heading, as GitHub and the documentation make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def sections(page):
    """Text below each heading of the second level, by the heading's anchor."""
    parts = re.split(r"^## (.+)$", PAGES[page], flags=re.MULTILINE)
    return {slug(h): (h, text) for h, text in zip(parts[1::2], parts[2::2], strict=True)}


def part(text, label):
    """Text of the point of a section that begins with this label, or None."""
    found = re.search(rf"^- \*\*{label}\*\*: (.+?)(?=^- \*\*|^[^- \n]|\Z)", text, re.M | re.S)
    return found and found[1]


def spans(text):
    """Code spans of a text without its fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@cache
def functions_of(path):
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def mistake(span):
    """Reason why a code span names nothing, or None."""
    path, _, test = span.partition("::")
    if re.fullmatch(r"(benchmarks|docs|structmat|tests)/[\w./-]+", path):
        if not (ROOT / path).exists():
            return f"{path} does not exist"
        if test and test not in functions_of(path):
            return f"{path} has no test {test}"
    elif name := re.match(r"structmat(\.\w+)+", span):
        module, _, last = name[0].rpartition(".")
        if last not in getattr(importlib.import_module(module), "__all__", ()):
            return f"{name[0]} is not public"
    return None


def test_every_item_has_its_row_and_no_other_thing_has_one():
    assert sorted(ROWS) == sorted(ITEMS)
    listed = [name for name in ROWS if name.startswith("Question")]
    assert all(word in ROWS[q][3] for q, word in zip(listed, QUESTIONS, strict=True))


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_has_a_section_of_three_points(item):
    _, page, anchor, _, verdict = ROWS[item]
    heading, text = sections(page)[anchor]
    assert heading.startswith(f"{item}:")
    points = {label: part(text, label) for label in ("Here", "Where", "Difference")}
    assert all(points.values()), points
    words = set(re.split(", ", verdict))
    assert words <= VERDICTS
    assert {word.lower() for word in re.findall(r"\*\*([\w ]+)\*\*", points["Difference"])} == words
    named = [span for span in spans(points["Where"]) if "/" in span]
    assert named, "name a file"


@pytest.mark.parametrize("topic", TOPICS)
def test_topics_have_a_heading(topic):
    assert any(re.search(rf"^###? {topic}$", text, re.MULTILINE) for text in PAGES.values())


@pytest.mark.parametrize("page", PAGES)
def test_files_tests_and_names_exist(page):
    pytest.importorskip("torch")
    assert [reason for span in spans(PAGES[page]) if (reason := mistake(span))] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_and_headings(page):
    for place, anchor in re.findall(r"\]\(([\w./]*)(?:#([^)\s]+))?\)", PAGES[page]):
        path = PAPER / (place or page)
        assert path.exists() or "_generated" in place, place
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{place}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_say_what_they_show(page):
    for text, place in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", PAGES[page]):
        assert len(text) > 40, place
        picture = place.removeprefix("../_generated/").removesuffix(".png")
        assert f"def {picture}(" in (ROOT / "docs" / "paper_pictures.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ("structmat/attic.py", "structmat/attic.py does not exist"),
        ("tests/house/test_paper.py::test_nothing", "tests/house/test_paper.py has no test"),
        ("structmat.nn.gaudi_masks", "structmat.nn.gaudi_masks is not public"),
        ("structmat.compress(A)", None),
        ("tests/house/test_paper.py::test_topics_have_a_heading", None),
        ("learn=True", None),
    ],
)
def test_names_of_nothing_are_found(span, reason):
    pytest.importorskip("torch")
    assert (mistake(span) or "").startswith(reason or "")
    assert bool(mistake(span)) == bool(reason)
