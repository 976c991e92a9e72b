"""HTML of a matrix: well-formed, small, and of every kind."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cases import CASES, build

import structmat
from structmat._html import blocks_svg, operands_html
from structmat._markup import amount, card
from structmat.matrices import Product, Sum


def covered(svg):
    """Area of the picture that its paths fill, in pixels."""
    total = 0
    for path in svg.iter():
        for bar in path.get("d", "").split("M")[1:]:
            total += int(bar.split("h")[1].split("v")[0])
    return total


@pytest.mark.parametrize("name", CASES)
def test_every_kind_has_facts_and_a_picture(name):
    A, twin = build(name)
    html = ElementTree.fromstring(A._repr_html_())
    cells = [cell.text for cell in html.iter("td")]
    assert cells[:2] == [f"{A.shape[0]} x {A.shape[1]}", A.kind]
    svg = ElementTree.fromstring(blocks_svg(A))
    assert covered(svg) >= min(np.count_nonzero(twin), 1)


def test_the_picture_has_the_blocks_in_their_places():
    A = structmat.BlockSparse(np.ones((2, 2, 3)), [0, 1], [1, 0], shape=(4, 6))
    (path,) = (e for e in ElementTree.fromstring(blocks_svg(A)).iter() if e.get("d"))
    assert path.get("d") == "M3 0h3v1h-3zM3 1h3v1h-3zM0 2h3v1h-3zM0 3h3v1h-3z"


def test_more_blocks_are_darker():
    A = structmat.GBLR([0, 0, 1], [1] * 3, np.ones(3), [0, 0, 1], [1] * 3, np.ones(3), shape=(2, 2))
    paths = [e for e in ElementTree.fromstring(blocks_svg(A)).iter() if e.get("d")]
    assert [(e.get("d")[:4], e.get("fill-opacity")) for e in paths] == [
        ("M1 1", "0.71"),
        ("M0 0", "1.00"),
    ]


def test_large_matrices_stay_cheap():
    n = 100_000
    A = structmat.LowRank(np.ones((n, 1)), np.ones((n, 1)))
    product = structmat.Permutation(np.arange(n)[::-1].copy()) @ structmat.Permutation(np.arange(n))
    for matrix in (
        A,
        product,
        product * 2 + A,
        structmat.Monarch(np.ones((100, 9, 9)), np.ones((100, 9, 9))),
    ):
        assert len(matrix._repr_html_()) < 50_000


def test_large_diagonals_and_permutations_show_their_entries():
    n = 1_000_000
    slope = np.arange(n)[::-1].copy()
    for matrix, places in (
        (structmat.Identity(n), {(0, 0), (95, 95)}),
        (structmat.Diagonal(np.ones(n)) * 2, {(0, 0), (95, 95)}),
        (structmat.Permutation(slope), {(0, 95), (95, 0)}),
    ):
        svg = ElementTree.fromstring(blocks_svg(matrix))
        bars = "".join(path.get("d", "") for path in svg.iter())
        assert all(re.search(f"M{column} {row}h", bars) for row, column in places)
        assert covered(svg) < 200


def leaf(value=1.0):
    return structmat.Dense(np.full((2, 2), value))


def lines_of(tree):
    return list(ElementTree.fromstring(tree).iter("li"))


def test_cost_and_storage_are_numbers_and_shares():
    A = structmat.LowRank(np.ones((30, 2)), np.ones((20, 2)))
    html = A._repr_html_()
    assert html.count("100 (16.67% of dense)") == 2
    assert amount(0, 0) == "0 (0.00% of dense)"


def test_operands_of_lazy_matrices_are_a_tree():
    A = Product(Sum(leaf(), structmat.Permutation([1, 0])), structmat.Diagonal([1.0, 2.0]))
    tree = ElementTree.fromstring(operands_html(A))
    first, last = tree.findall("li")
    assert [line.find("strong").text for line in first.iter("li")] == [
        "Sum",
        "Dense",
        "Permutation",
    ]
    assert "cost 4, storage 4" in first.findall("ul/li")[0].find("span").text
    assert last.find("ul") is None
    assert operands_html(leaf()) == ""
    assert "<ul" not in leaf()._repr_html_()


def test_a_tree_is_bounded_in_width_and_depth_and_counts_what_it_leaves_out():
    wide = Sum(*(Product(structmat.Permutation([1, 0]), leaf(k)) for k in range(50)))
    assert "… 44 more" in operands_html(wide)
    deep = leaf()
    for _ in range(40):
        deep = Product(leaf(), Sum(deep, leaf()))
    for A, count in ((wide, 18), (deep, 24)):
        shown = [line for line in lines_of(operands_html(A)) if line.find("strong") is not None]
        assert len(shown) == count
        assert len(A._repr_html_()) < 20_000


def test_names_from_elsewhere_are_text():
    html = card("<b>A</b>", {"<i>name</i>": "<script>alert(1)</script>"})
    assert not any(tag in html for tag in ("<b>", "<i>", "<script>"))
    assert "<title>&lt;i&gt;</title>" in blocks_svg(leaf(), "<i>")


def test_colours_are_those_of_the_notebook():
    html = Sum(leaf(), structmat.Permutation([1, 0]))._repr_html_()
    assert not re.search(r"background|<style|<script|https?://(?!www.w3.org/2000/svg)", html)
    named = set(re.findall(r"#[0-9a-f]{3,6}", html))
    assert named == {"#888", "#1f86c9"}  # of frame and blocks, which both stand out


def test_batches_show_their_first_blocks():
    html = structmat.stack([leaf(k) for k in range(9)])._repr_html_()
    assert ElementTree.fromstring(html).find("table/tr/td").text == "9 x 2 x 2"
    assert html.count("<svg") == 6
