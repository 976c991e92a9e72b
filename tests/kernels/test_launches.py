"""Block sizes of the tile kernels: shipped, tried and measured, and what tuning keeps."""

import pytest

torch = pytest.importorskip("torch")

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.gpu import tune  # noqa: E402
from structmat.kernels.cost_model.coefficients import keep  # noqa: E402
from structmat.kernels.triton import launches  # noqa: E402
from structmat.kernels.triton.kernels import outer_launch, times_launch  # noqa: E402
from structmat.kernels.triton.launches import (  # noqa: E402
    CANDIDATES,
    SHIPPED,
    Figures,
    _measured,
    keep_figures,
    place_of_launches,
    trying,
)

PLACE = "Imagined 7000, launches"


@pytest.fixture(autouse=True)
def nothing_measured(user_cache):
    _measured.cache_clear()
    yield
    _measured.cache_clear()


def test_launches_as_shipped():
    def times(*given):
        return tuple(times_launch(*given).values())

    assert times(8192, 64, (64, 128), 2) == (256, 64, 8, 5)
    assert times(8192, 8, (64, 128), 2) == (128, 64, 8, 5)
    assert times(100, 64, (64, 64), 2) == (128, 64, 4, 5)
    assert times(3, 64, (16, 16), 2) == (16, 16, 4, 5)
    assert times(8192, 64, (64, 128), 4) == (64, 32, 4, 3)
    assert tuple(outer_launch((64, 128), 2).values()) == (64, 4, 3)
    assert tuple(outer_launch((128, 128), 4).values()) == (32, 8, 3)


def test_measured_figures_come_before_the_shipped_ones(user_cache):
    row = CANDIDATES["times, 16 bits"][1]
    keep_figures({"times, 16 bits": row}, PLACE)
    assert times_launch(128, 1, (64, 64), 2, PLACE)["BLOCK_M"] == row.rows == 64
    assert times_launch(128, 1, (64, 64), 2, PLACE)["num_warps"] == row.warps
    assert times_launch(128, 1, (64, 64), 2)["BLOCK_M"] == 128
    assert outer_launch((64, 64), 2, PLACE) == outer_launch((64, 64), 2)
    with trying("times, 16 bits", SHIPPED["times, 16 bits"]):
        assert times_launch(128, 1, (64, 64), 2, PLACE)["BLOCK_M"] == 128
    assert place_of_launches(torch.device("cpu")) == ""


@pytest.mark.parametrize("row", [[1.0] * 3, [100.0, 64, 4, 5], [1e9] * 4, None])
def test_figures_that_were_never_compiled_are_left_aside(row, user_cache):
    keep({"times, 16 bits": row}, PLACE) if row else None
    assert times_launch(128, 1, (64, 64), 2, PLACE) == times_launch(128, 1, (64, 64), 2)


def test_tuning_keeps_what_gains(monkeypatch):
    """A timer by hand: the second candidate takes half the time, the third a hundredth less."""
    name = "times, 16 bits"
    first, second, third = CANDIDATES[name]
    times = {SHIPPED[name]: 1.0, first: 1.2, second: 0.5, third: 0.99}

    def timer(call, device, *, tiny):
        return times[launches._tried.get(name, SHIPPED[name])]

    monkeypatch.setattr(tune, "measured", timer)
    assert tune.quickest(name, "cpu", tiny=True) == second
    times[second] = 1.0
    assert tune.quickest(name, "cpu", tiny=True) == SHIPPED[name]


def test_tuning_walks_through_on_a_cpu(capsys, user_cache):
    assert main(["gpu", "tune", "--device", "cpu", "--tiny"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: " in out for name in SHIPPED)
    assert not list(user_cache.rglob("*.json"))
    assert main(["gpu", "tune", "--device", "cpu"]) == 2


def test_figures_are_named_by_what_they_are():
    assert Figures._fields == ("rows", "part", "warps", "stages")
    assert CANDIDATES.keys() == SHIPPED.keys()
