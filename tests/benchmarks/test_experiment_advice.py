"""Judgement of advice: what gradients leave, rows that are asked for, and tables."""

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.experiments import advice, config
from benchmarks.experiments.advice_networks import planted, shuffled, useless
from benchmarks.experiments.report.tables import tables
from benchmarks.experiments.samples import ExperimentRuns
from benchmarks.results import BenchmarkError


def test_runs_leave_what_they_do_not_hold():
    gradient = np.zeros((4, 8))
    gradient[1:3, 2:6] = 1.0
    assert advice._left(gradient, gradient, np.eye(8), 4) == pytest.approx(1 / 2, abs=1e-5)
    assert advice._left(gradient, 3 * gradient, np.eye(8), 8) == pytest.approx(0, abs=1e-5)
    # A run of three entries in one row; where all inputs are equal, it does the work of the row.
    assert advice._left(gradient, gradient, np.eye(8), 3) == pytest.approx(5 / 8, abs=1e-5)
    assert advice._left(gradient, gradient, np.ones((8, 8)), 3) == pytest.approx(1 / 2, abs=1e-5)


def test_config_asks_for_known_networks_alone():
    raw = config.load("advice").raw
    heads = list(advice._heads(raw))
    assert len(heads) == len({advice._key(head) for head in heads})
    with pytest.raises(BenchmarkError, match="network 'none'; expected among digits"):
        list(advice._heads(raw | {"weights": {"none": [0.1]}}))


def test_rows_that_are_done_are_not_made_again():
    raw = config.load("advice").raw
    done = list(advice._heads(raw))
    assert list(advice.run(raw, None, done, print)) == []


def test_networks_keep_examples_and_their_order():
    plain, more = shuffled(None), useless(None)
    assert more.train_x.shape[1] == 4 * plain.train_x.shape[1]
    assert (plain.train_y == more.train_y).all()
    assert len(set(planted(None).test_y.tolist())) == 10


def test_tables_rank_gains_and_choices():
    def gain(network, case, budget, score, **more):
        head = {"group": "gains", "matrix": network, "case": case, "kind": "gblr", "seed": 0}
        return head | {"budget": budget, "score": score} | more

    rows = []
    for network, unserved, learned in (("a", 0.7, 0.9), ("b", 0.2, 0.8)):
        rows.append(gain(network, "dense", 1.0, 0.95))
        for budget in (0.02, 0.1):
            rows.append(gain(network, "frozen", budget, 0.8))
            score = learned if budget == 0.02 else 0.79
            rows.append(gain(network, "learned", budget, score, unserved=unserved - budget))
    kinds = ("gblr", 2.0, 0.3, 0.7), ("monarch", 1.0, 0.4, 0.9), ("by layer", 1.0, 0.3, 0.95)
    for kind, loss, error, score in kinds:
        head = {"group": "weights", "matrix": "a", "case": kind, "kind": kind, "seed": 0}
        figures = {"budget": 0.1, "loss": loss, "error": error, "score_before": 0.5}
        rows.append(head | figures | {"score": score})
    result = {"experiment": "advice", "config": {"metric": "accuracy"}, "rows": rows}
    first, second = tables(result)
    assert [line[-2:] for line in first.rows] == [
        ["+10.0", "0.68"], ["-1.0", "0.60"], ["+0.0", "0.18"], ["-1.0", "0.10"],
    ]  # fmt: skip
    assert "1 of 1" in first.note
    assert "the least loss 0.0, for each layer" in second.note
    assert "alone replaced -5.0, the least error 20.0, always GBLR 20.0" in second.note
    assert "a kind at random 10.0" in second.note
    assert ExperimentRuns(result).cases() == {}
