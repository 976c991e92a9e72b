"""Progress: a bar on a terminal, calls of a function, and silence elsewhere."""

import io
import sys
from importlib import import_module

import numpy as np
import pytest

import structmat
from structmat import _progress
from structmat._progress import no_progress, part, reporting

torch = pytest.importorskip("torch")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass by hand; returns the function that lets them pass."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def stream(monkeypatch, kind):
    written = kind()
    monkeypatch.setattr(sys, "stderr", written)
    return written


def shown(written):
    """Text of the last line that was drawn, and whether it was covered at the end."""
    lines = [line.rstrip() for line in written.getvalue().split("\r") if line.strip()]
    return lines[-1] if lines else ""


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("given", [None, True, False])
def test_bars(monkeypatch, clock, kind, given):
    written = stream(monkeypatch, kind)
    with reporting(given, "working") as report:
        report(0.1)
        early = shown(written)
        clock(20)
        report(0.25)
        late = shown(written)
    asked, unasked = given is True, given is None and kind is Terminal
    assert early == ("working  10 % ##---------------------- 0 s, 0 s to go" if asked else "")
    line = "working  25 % ######------------------ 20 s, 1:00 min to go"
    assert late == (line if asked or unasked else "")
    if late:
        assert written.getvalue().endswith(f"\r{'':{len(line)}}\r")


def test_a_bar_that_nobody_asked_for_waits_some_seconds(monkeypatch, clock):
    written = stream(monkeypatch, Terminal)
    with reporting(None, "working") as report:
        clock(2.9)
        report(0.5)
        assert written.getvalue() == ""
        clock(0.2)
        report(0.5)
        assert "50 %" in written.getvalue()


def test_a_bar_never_goes_back_and_is_not_drawn_too_often(monkeypatch, clock):
    written = stream(monkeypatch, Terminal)
    with reporting(True, "working") as report:
        report(0.6)
        drawn = written.getvalue()
        report(0.7)
        assert written.getvalue() == drawn
        clock(1)
        report(0.2)
        assert shown(written).startswith("working  70 %")


def test_a_line_fits_the_terminal(monkeypatch, clock):
    written = stream(monkeypatch, Terminal)
    monkeypatch.setenv("COLUMNS", "30")
    with reporting(True, "a label of some length") as report:
        report(0.5)
    assert shown(written) == "a label of some length  50 %"


def test_work_inside_other_work_shows_no_bar(monkeypatch, clock):
    for outer in (None, False, print):
        written = stream(monkeypatch, Terminal)
        with reporting(outer, "outside"), reporting(None, "inside") as report:
            clock(10)
            report(0.5)
        assert written.getvalue() == ""
    with reporting(None, "afterwards") as report:
        clock(10)
        report(0.5)
    assert "afterwards" in written.getvalue()


@pytest.mark.parametrize("broken", [None, "closed"])
def test_a_stream_that_is_gone_ends_nothing(monkeypatch, clock, broken):
    written = stream(monkeypatch, Terminal) if broken else None
    monkeypatch.setattr(sys, "stderr", written)
    if broken:
        written.close()
    for given in (None, True):
        with reporting(given, "working") as report:
            clock(10)
            report(0.5)


def test_parts():
    seen = []
    for i in range(2):
        part(seen.append, i / 2, (i + 1) / 2)(0.5)
    assert seen == [0.25, 0.75]
    assert part(no_progress, 0, 1) is no_progress


A = np.diag(np.arange(1.0, 9.0))


def calibrate(progress):
    calibration = import_module("structmat.kernels.choice.calibrate")
    return calibration.calibrate(sizes=(64,), progress=progress)


def convert(progress):
    from structmat.nn import Config, convert_

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 8))
    sizes = {"budget": 0.6, "min_features": 4}
    config = Config(kind="block_low_rank", start="weights", shares="error", **sizes)
    return convert_(model, config, calibration=torch.randn(8, 8), progress=progress)


LONG = {
    "calibrate": calibrate,
    "convert_": convert,
    "compress": lambda progress: structmat.compress(A, budget=0.5, rng=0, progress=progress),
    "compare": lambda progress: structmat.compare(A, budget=0.5, rng=0, progress=progress),
}


@pytest.fixture
def quick(monkeypatch):
    """Less of the work that nobody looks at."""
    calibration = import_module("structmat.kernels.choice.calibrate")
    monkeypatch.setattr(calibration, "_COLUMNS", (1,))
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(import_module("structmat.nn.starts.on_inputs"), "LBFGS_STEPS", 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", LONG)
def test_functions_that_take_long(monkeypatch, capsys, name):
    with pytest.raises(structmat.InputError, match="progress = 'yes'; expected None"):
        LONG[name]("yes")
    for quiet in (None, False):
        LONG[name](quiet)
    assert capsys.readouterr().err == ""
    LONG[name](True)
    assert "%" in capsys.readouterr().err
    seen = []
    LONG[name](seen.append)
    assert seen[-1] == 1.0
    assert 0 <= min(seen) <= max(seen) <= 1.0
    if name != "compare":  # whose kinds may try again
        assert seen == sorted(seen)
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    written = stream(monkeypatch, Terminal)
    LONG[name](None)
    assert "%" in written.getvalue()
    assert set(written.getvalue().split("\r")[-2]) <= {" "}, "the bar goes when the work ends"
