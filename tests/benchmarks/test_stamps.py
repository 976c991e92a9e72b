"""Dates and commits: every result has them, and so has every picture and table of the pages."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import RESULTS_FOLDER
from benchmarks.reporting.stamps import dated, stamp

RESULTS = sorted(RESULTS_FOLDER.rglob("*.json"))


def git(folder, *words):
    who = "-c", "user.name=A", "-c", "user.email=a@b.c"
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_says_when_source_has_changed(tmp_path):
    assert machine.commit(tmp_path) is None
    (tmp_path / "code.py").write_text("one")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    result = tmp_path / "benchmarks" / "results" / "a.json"
    result.write_text("{}")
    git(tmp_path, "init", "-q")
    assert machine.commit(tmp_path) is None  # a repository without a commit
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert machine.commit(tmp_path) == head
    assert machine.commit(tmp_path / "benchmarks") is None  # source within another repository
    result.write_text("[]")
    (tmp_path / "new.py").write_text("not tracked")
    assert machine.commit(tmp_path) == head
    (tmp_path / "code.py").write_text("two")
    assert machine.commit(tmp_path) == f"{head} (dirty)"


def test_facts_name_the_commit():
    assert machine.facts()["commit"] == machine._COMMIT


def test_stamps_tell_what_was_measured_from_what_was_recorded():
    measured = {"machine": {"date": "2026-12-01", "commit": "06ae227"}, "recorded_in": "123"}
    recorded = {"machine": {"date": "2026-11-30", "commit": None}, "recorded_in": "7b6240e"}
    neither = {"machine": {"date": "2026-11-29"}}
    assert stamp(measured, recorded, measured) == (
        "2026-12-01 at 06ae227; 2026-11-30, recorded in 7b6240e"
    )
    assert stamp(neither) == "2026-11-29, no commit known"
    assert dated([measured, recorded])
    assert not dated([measured, neither])


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: Path(path).stem)
def test_every_result_of_the_repository_has_a_date_and_a_commit(path):
    assert dated([json.loads(path.read_text(encoding="utf-8"))]), (
        f"{path.name} names no commit: measure it again, or write the commit that brought it in "
        'as "recorded_in" beside "machine"'
    )
