"""The last line of a comparison, which says what the table shows."""

import math

import numpy as np
import pytest

import structmat
from structmat.cli import _compare, _learn_text
from structmat.compress import Comparison


def row(kind, error, cost):
    matrix = None if math.isnan(error) else structmat.Identity(2)
    return Comparison(kind, matrix, cost, cost, error, 0.1)


def run(kind, metric):
    return {"kind": kind, "metric": metric, "relative_cost": 0.02, "relative_inference": 0.25}


def test_the_nearest_structure_is_named_beside_the_next_one_and_low_rank():
    rows = [row("low_rank", 0.1, 9), row("monarch", np.nan, 9), row("gblr", 1e-3, 9)]
    (told,) = _compare._seen([*rows, row("block_low_rank", 4e-3, 9)], 0.2)
    assert told == (
        "Seen: at 20 % of the multiplications gblr has the smallest error, 4 times below that of "
        "block_low_rank and 100 times below that of low_rank."
    )


@pytest.mark.parametrize(
    ("quotient", "words"),
    [(2.345, "2.35"), (999.4, "999"), (999.6, "1,000"), (6534.0, "6,530"), (2e9, "2e+09")],
)
def test_thousands_are_written_out(quotient, words):
    assert _compare._times(quotient, 1.0) == f"{words} times"


def test_an_error_of_zero_is_beyond_measure():
    (told,) = _compare._seen([row("gblr", 0.0, 9), row("low_rank", 0.1, 9)], 0.2)
    assert told.endswith("smallest error, beyond measure below that of low_rank.")


def test_to_a_tolerance_the_cheapest_structure_is_named():
    (told,) = _compare._seen([row("gblr", 0.1, 50), row("low_rank", 0.01, 75)], None)
    assert "gblr meets the tolerance at the fewest multiplications, 1.5 times fewer" in told


def test_one_structure_alone_is_not_compared():
    assert _compare._seen([row("gblr", 0.1, 50)], 0.5) == []
    assert _learn_text._seen([run("gblr", 0.9)], "accuracy") == []


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "monarch"), ("perplexity", "low_rank")])
def test_learned_blocks_stand_beside_the_best_other_structure(metric, best):
    runs = [run("dense", 0.98), run("low_rank", 0.5), run("monarch", 0.75), run("gblr", 0.875)]
    told = _learn_text._seen([*runs, run("gblr", 0.925)], metric)[-1]
    assert "at 2 % of the multiplications and 25 % of the inference time" in told
    assert f"learned blocks reach 0.9 ({metric})" in told
    assert f"structure, {best}, reaches" in told
    assert told.endswith("and dense 0.98.")
