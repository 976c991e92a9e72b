"""HTML of a matrix: well-formed, small, and of every kind."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cases import CASES, build

import structmat
from structmat._html import blocks_svg


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
