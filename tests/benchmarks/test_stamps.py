"""Dates and commits: every result has them, and so has every picture and table of the pages."""

import json
import re
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


DOCS = Path(__file__).parents[2] / "docs"
PICTURES = [DOCS / "_static" / "front.png"]
PICTURES += sorted(
    p for name in ("evidence", "benchmarks") for p in (DOCS / "_static" / name).glob("*.png")
)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_every_picture_has_a_date_and_a_commit(picture):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    from benchmarks.reporting.plots import stamp_of

    assert re.search(r"20\d\d-\d\d-\d\d(, recorded in| at) [0-9a-f]{7}", stamp_of(picture))


@pytest.mark.parametrize("page", ["evidence", "benchmarks"])
def test_every_table_of_figures_is_folded_with_its_date_and_commit(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    folds = re.findall(r"<details>\n<summary>(.*?)</summary>\n(.*?)</details>", text, re.DOTALL)
    with_table = [title for title, body in folds if "| --- |" in body]
    assert len(with_table) > 20
    bare = [title for title in with_table if "· 20" not in title and "not measured" not in title]
    assert bare == []
    outside = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    # What to use when, and tables in the place of a picture.
    assert len(re.findall(r"^\| --- ", outside, re.MULTILINE)) <= 4
