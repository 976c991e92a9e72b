"""The list of benchmarks, and the picture of the front page."""

import json

import pytest

from benchmarks import __main__, overview
from benchmarks.reporting import front
from benchmarks.reporting.page import DOCS


def test_without_arguments_the_suites_are_listed_and_nothing_runs(capsys, monkeypatch):
    monkeypatch.setattr(__main__, "_run", pytest.fail)
    assert __main__.main([]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert set(__main__.SUITES) | set(overview.COMMANDS) <= set(listed)


def test_the_time_of_the_last_run_is_that_of_its_result(tmp_path):
    (tmp_path / "layers.json").write_text(json.dumps({"seconds": 90}))
    rows = {line.split()[0]: line for line in overview.overview(tmp_path).splitlines() if line}
    assert "1.5 min" in rows["layers"]
    assert "–" in rows["products"]


def test_the_picture_shows_every_kind_in_both_panels(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(front, "save", lambda figures, *_, **__: drawn.update(figures))
    front.write_front(__main__.RESULTS_FOLDER, tmp_path)
    figure, _ = drawn[front.PICTURE]
    for axes in figure.axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(lines) == len(front.KINDS)
        assert all(len(line.get_xdata()) == 4 for line in lines)


def test_no_picture_is_drawn_without_its_results(tmp_path):
    front.write_front(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_picture_of_the_readme_is_there():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert f"docs/_static/{front.PICTURE}" in text
    assert (DOCS / "_static" / front.PICTURE).is_file()
