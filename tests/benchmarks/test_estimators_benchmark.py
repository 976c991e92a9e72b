"""Figures of the estimators: measured as they say, and shown on the guide's page."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra sklearn)")

from benchmarks import estimators
from benchmarks.learn import placed
from benchmarks.results import load


@pytest.fixture
def result():
    return load(estimators.RESULT, estimators.SCHEMA, estimators.KEYS)


def test_the_guide_has_the_present_tables(result):
    page = estimators.PAGE.read_text(encoding="utf-8")
    text = estimators.tables(result)
    assert placed(page, text, "page", estimators.BEGIN, estimators.END) == page


def test_every_case_was_measured(result):
    known = [{key: row[key] for key in case} for row, case in _paired(result)]
    assert known == [case for _, case in _paired(result)]
    assert not any("note" in row for row in result["rows"])


def _paired(result):
    cases = [
        {key: value for key, value in case.items() if key != "folder"}
        for case in estimators.cases(estimators.ROOT)
    ]
    return list(zip(result["rows"], cases, strict=True))


def test_both_predict_the_same():
    case = {"task": "regression", "points": "square", "kernel": "matern32", "length": 0.3}
    found = estimators.one(case | {"n": 300, "folder": None})
    assert found["difference"] < 1e-10
    assert found["method"] == "dense"


def test_features_have_the_error_that_is_said(monkeypatch):
    case = {"task": "features", "points": "square", "kernel": "gaussian", "length": 0.3}
    found = estimators.one(case | {"n": 200, "k": 60, "folder": None})
    assert 0 < found["own error"] < found["scikit-learn error"] < 1
    assert np.isfinite(found["own seconds"])
