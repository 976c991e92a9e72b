"""Results of compression, as a terminal and as a notebook show them."""

import math
import pickle
from html.parser import HTMLParser

import numpy as np
import pytest

import structmat
from structmat._table import Table
from structmat.compress.results import Comparison, ComparisonTable
from structmat.demo import earthquake_kernel
from structmat.kinds import fitted_kinds

K = earthquake_kernel(48)


class Checker(HTMLParser):
    """Tags that are open, in turn, and how often each occurs."""

    def __init__(self):
        super().__init__()
        self.open, self.count = [], {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker.count


def test_gblr_is_the_default_kind():
    one, other = (
        structmat.compress(K, budget=0.3, rng=0),
        structmat.compress(K, "gblr", budget=0.3, rng=0),
    )
    assert one.kind == one.matrix.kind == "gblr"
    assert one.error == other.error


def test_a_result_prints_as_a_table():
    result = structmat.compress(K, budget=0.3, rng=0)
    head, rule, row, units, baseline = repr(result).splitlines()
    assert head.split() == ["kind", "cost", "storage", "error", "seconds"]
    assert set(rule) == {"-"}
    assert row.split() == [
        "gblr",
        f"{result.cost / K.size:.4f}",
        f"{result.storage / K.size:.4f}",
        f"{result.error:.3g}",
        f"{result.seconds:.2f}",
    ]
    assert units == "48x48, float64; cost and storage: shares of m n"
    assert baseline == f"truncated SVD at equal cost: error {result.baseline_error:.3g}"
    assert str(result) == repr(result)


def test_a_result_in_a_notebook_has_the_picture_of_its_blocks():
    result = structmat.compress(K, budget=0.3, rng=0)
    found = tags(result._repr_html_())
    assert found["svg"] == 1
    assert found["tr"] == 2


@pytest.mark.parametrize("goal", [{"budget": 0.05}, {"tol": 1e-3}])
def test_a_comparison_prints_as_a_table_and_is_a_tuple(goal):
    rows = structmat.compare(K, **goal, rng=0)
    assert isinstance(rows, tuple)
    assert [row.kind for row in rows] == list(fitted_kinds())
    lines = repr(rows).splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == list(fitted_kinds())
    for line, row in zip(lines[2:], rows, strict=False):
        expected = f"none: {row.note}" if row.matrix is None else f"{row.error:.3g}"
        assert expected in line
    again = pickle.loads(pickle.dumps(rows))
    assert repr(again) == repr(rows)
    assert rows[1:] == tuple(rows)[1:]


def test_a_comparison_in_a_notebook_has_a_picture_for_each_matrix():
    rows = structmat.compare(K[:5, :4], budget=0.1, rng=0)
    found = tags(rows._repr_html_())
    assert any(row.matrix is None for row in rows)
    assert found["svg"] == sum(row.matrix is not None for row in rows)
    assert found["tr"] == 1 + len(rows)


def test_pages_give_full_numbers_and_text_gives_shares():
    result = structmat.compress(K, "low_rank", budget=0.3)
    rows = structmat.compare(K, budget=0.3, rng=0)
    row = next(row for row in rows if row.kind == "low_rank")
    told = f"{result.cost:,} ({result.cost / K.size:.2%})"
    for page in (result._repr_html_(), rows._repr_html_(), row._repr_html_()):
        assert told in page
    assert told not in repr(result) + repr(rows)


def test_a_reason_on_a_page_is_text():
    row = Comparison("<i>", None, 0, 0, math.nan, 0.0, "<script>alert(1)</script>")
    assert "<script" not in row._repr_html_()
    assert "<i>" not in row._repr_html_()


def test_a_comparison_to_a_tolerance_meets_it_or_says_why_not():
    noise = np.random.default_rng(0).standard_normal((16, 16))
    for A, tol in ((K, 1e-2), (K, 0.0), (noise, 1e-6), (noise.astype("f4"), 1e-12)):
        for row in structmat.compare(A, tol=tol, rng=0):
            if row.matrix is None:
                assert "allow more" in row.note
                continue
            true = np.linalg.norm(A - row.matrix.to_dense()) / np.linalg.norm(A)
            assert true <= tol * (1 + 1e-6) + 1e-14
            assert row.error <= tol
            alone = structmat.compress(A, row.kind, tol=tol, rng=0)
            assert abs(row.cost - alone.cost) <= 0.2 * alone.cost


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "exactly one"),
        ({"budget": 0.5, "tol": 0.1}, "exactly one"),
        ({"tol": -1}, "tol = -1"),
        ({"budget": 0}, "budget = 0"),
    ],
)
def test_goals_that_are_none(goal, message):
    for function in (structmat.compare, structmat.compress):
        with pytest.raises(structmat.InputError, match=message):
            function(K, **goal)


def test_a_reason_of_several_lines_stays_in_its_row():
    row = Comparison("odd", None, 0, 0, math.nan, 0.0, "first\n  second")
    assert repr(ComparisonTable([row])).splitlines()[2] == "odd   none: first second"


def test_a_table_says_what_it_is_given():
    table = Table(("kind", "n"), [("a", "10"), ("longer than", "1 < 2"), ("b", "7")], ["<note>"])
    assert table.text().splitlines()[2] == "a               10"
    html = table.html(["<svg></svg>", "", ""])
    assert "1 &lt; 2" in html
    assert "&lt;note&gt;" in html
    assert tags(html)["td"] == 6
    wide = Table(("kind", "m", "n"), [("a", "none: no matrix")])
    assert wide.text().splitlines()[2] == "a     none: no matrix"
    assert 'colspan="2"' in wide.html()


def test_empty_matrices_print():
    for shape in ((0, 3), (3, 0), (0, 0)):
        result = structmat.compress(np.zeros(shape), budget=0.5)
        assert "0.0000" in repr(result)
        assert tags(result._repr_html_())["svg"] == 1
        assert tags(structmat.compare(np.zeros(shape), budget=0.5)._repr_html_())["tr"] == 7
