"""Counts of the long suites, faults of mutants, and the page that they make."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.reliability import coverage, faults, mutants, page, suites
from benchmarks.reliability.mutants import noticed
from benchmarks.results import rows_as_json

REPORT = """<testsuites><testsuite>
<testcase name="test_a[x]"><properties>
  <property name="cells" value="30"/><property name="worst" value="2.5"/></properties></testcase>
<testcase name="test_a[y]"><properties>
  <property name="cells" value="12"/><property name="worst" value="1.0"/></properties></testcase>
<testcase name="test_a[z]"><failure/></testcase>
<testcase name="test_b"><skipped/></testcase>
<testcase name="test_b[x]"><skipped type="pytest.xfail"/></testcase>
</testsuite></testsuites>"""

STATISTICS = """
tests/compress/test_invariants.py::test_b:

  - during reuse phase (0.01 seconds):
    - 2 passing, 0 failing, and 0 invalid test cases
  - during generate phase (0.26 seconds):
    - 9998 passing, 0 failing, and 7 invalid test cases
"""

MACHINE = {
    "cpu": "a processor", "cores": 2, "system": "Linux x86_64", "structmat": "0", "python": "3",
    "numpy": "2", "scipy": "1", "peers": {}, "date": "2026-01-01",
}  # fmt: skip


def result(suite, rows, **more):
    return {
        "schema": suites.SCHEMA, "suite": suite, "command": "a command", "seconds": 3,
        "machine": MACHINE, "rows": rows, **more,
    }  # fmt: skip


def test_cases_are_counted_by_function():
    a, b = suites.count_cases(ElementTree.fromstring(REPORT))
    assert (a["cases"], a["cells"], a["worst"], a["failed"]) == (3, 42, 2.5, ["test_a[z]"])
    assert (b["cases"], b["skipped"], b["failed"]) == (2, 2, [])
    assert b["known"] == ["test_b[x]"]


def test_examples_of_all_phases_are_added():
    found = suites.count_examples(STATISTICS)
    assert found == {"test_b": {"passing": 10_000, "failing": 0, "invalid": 7}}


CODE = (
    'def f(a):\n    """One."""\n    if a < 1:\n        raise ValueError(f"{a[1]}")\n    return -a\n'
)


@pytest.mark.parametrize(
    ("before", "after", "is_fault"),
    [("a < 1", "a <= 1", True), ("-a", "a", True), ("a[1]", "a[2]", False), ("(a)", "(+)", False)],
)
def test_faults_are_valid_and_outside_of_texts(before, after, is_fault):
    assert faults.has_fault(CODE, CODE.replace(before, after, 1)) == is_fault


def test_changes_are_shown_as_lines():
    assert faults.change_of(CODE, CODE.replace("<", ">")) == "if a < 1: → if a > 1:"


def test_subjects_are_there():
    for subject in mutants.SUBJECTS:
        text = (suites.ROOT / subject.file).read_text(encoding="utf-8")
        assert faults.body_of(text, subject.function), subject
        assert all((suites.ROOT / test.split("::")[0]).exists() for test in subject.tests)
    assert len(mutants.SUBJECTS) >= 20


TESTED = """
import ratio

def test_half():
    assert ratio.half(4) == 2

def test_other():
    pass
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fault meets the tests in a forked process")
def test_tests_that_reach_a_function_meet_its_faults(tmp_path):
    code = "def half(x):\n    return x / 2 if x != 0 else 0\n"
    (tmp_path / "ratio.py").write_text(code)
    (tmp_path / "test_ratio.py").write_text(TESTED)
    changes = [("/ 2", "/ 3"), ("else 0", "else 1"), ("!=", "=="), ("x / 2", "[][x]")]
    job = {"ratio: half": [code.replace(*change) for change in changes]}
    assert noticed(job, ("test_ratio.py",), tmp_path) == {
        "ratio: half": {"tests": 1, "noticed": [True, False, True, True]}
    }
    assert (tmp_path / "ratio.py").read_text() == code


def test_page_shows_counts_failures_and_reasons(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "REASONS_FILE", tmp_path / "reasons.json")
    reasons = {
        "structmat/a/b.py: f": "Needs a GPU",
        "structmat/a/c": "Needs Windows",
        "structmat/a.": "Old",
    }
    coverage.REASONS_FILE.write_text(json.dumps(reasons))
    failed, _ = suites.count_cases(ElementTree.fromstring(REPORT))
    f, g = (
        {"missing_lines": [3, 4, 5, 9], "missing_branches": [[2, 3], [7, -1]]},
        {"missing_lines": [], "missing_branches": [[12, 13]]},
    )
    found = {
        "summary": {"num_statements": 10, "num_branches": 6, "excluded_lines": 5},
        "functions": {"f": f, "C.g": g, "h": {"missing_lines": [], "missing_branches": []}},
    }
    files = [coverage._row(f"structmat/{name}.py", found) for name in ("a/b", "a.c", "a/c")]
    left = {"change": "a → b"}
    function = {"function": "f.py: f", "mutants": 5, "noticed": 4, "survivors": [left]}
    results = [
        result("products", [failed]),
        result("coverage", files, failed=["tests/a.py::test_c"]),
        result("mutants", [function]),
    ]
    text = page.render(results)
    for words in (
        "| `test_a` | 3 | 42 | 2.5 | 1 |", "- `test_a[z]`",
        "| `structmat/a` | 20 | 60 % | 12 | 50 % | 10 |",
        "- Needs a GPU: `a/b.py: f` (3-5, 9, 7 to the end).",
        "- Needs Windows: `a/c.py: f` (3-5, 9, 7 to the end), `a/c.py: C.g` (12 to 13).",
        "- **No reason given**: `a/b.py: C.g` (12 to 13).", "`a → b` (**no reason given**)",
    ):  # fmt: skip
        assert words in text, text
    found = [failure for one in results for failure in page.failures(one)]
    assert found == [
        "test_a[z]",
        "tests/a.py::test_c",
        "structmat/a/b.py: C.g misses 12 to 13",
        "f.py: f: a → b",
    ]


def test_reasons_are_for_code_that_is_there():
    for place in json.loads(coverage.REASONS_FILE.read_text(encoding="utf-8")):
        file, _, function = place.partition(": ")
        text = (suites.ROOT / file).read_text(encoding="utf-8")
        for name in filter(None, function.split(".")):
            assert re.search(rf"(def|class) {name}\b", text), place


def test_some_rows_have_examples_and_some_have_none():
    rows = [{"test": name, "cases": 1, "failed": [], "skipped": 0} for name in ("test_a", "test_b")]
    rows[0]["examples"] = {"passing": 1000, "failing": 0, "invalid": 0}
    text = page.render([result("invariants", rows)])
    assert "| `test_a` | 1 | 1,000 | 0 |" in text
    assert "| `test_b` | 1 | – | 0 |" in text


def test_page_comes_from_the_files_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    assert main(["reliability", "report", "--output", str(tmp_path)]) == 2
    assert "no results" in capsys.readouterr().err
    rows = [{"test": "test_b", "cases": 1, "failed": [], "skipped": 0, "cells": 5}]
    (tmp_path / "nan.json").write_text(rows_as_json(result("nan", rows)))
    assert main(["reliability", "report", "--output", str(tmp_path)]) == 0
    assert "| `test_b` | 1 | 5 | 0 |" in (tmp_path / "page.md").read_text()
