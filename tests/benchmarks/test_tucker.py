"""The baseline by Tucker: exact at full ranks, never above the budget, and shown on the page."""

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra torch)")
pytest.importorskip("tensorly", reason="tensorly is not installed (extra test)")

import torch
from torch import nn

from benchmarks import tucker as benchmark
from benchmarks.learn import placed
from benchmarks.models.tucker import multiplications, ranks_under, tucker
from benchmarks.results import BenchmarkError, load
from structmat.nn import cost


@pytest.mark.parametrize("shape", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_full_ranks_are_the_convolution(shape):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 3, **shape), torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(tucker(conv, (4, 6))(x), conv(x), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(tucker(conv, (2, 3))(x), conv(x), atol=1e-2)


def test_multiplications_are_those_that_are_counted():
    conv, x = nn.Conv2d(4, 6, 3, stride=2), torch.randn(1, 4, 9, 9)
    found = cost(nn.Sequential(tucker(conv, (3, 2))), x).everything.cost
    assert multiplications(conv, (3, 2), (81, 16)) == found


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_ranks_keep_to_the_cap_and_use_it(share):
    convs = {"a": nn.Conv2d(32, 64, 3), "b": nn.Conv2d(64, 128, 3)}
    pixels = {"a": (64, 64), "b": (16, 16)}
    cap = share * sum(c.weight.numel() * pixels[n][1] for n, c in convs.items())
    ranks = ranks_under(convs, pixels, cap)
    used = sum(multiplications(convs[n], r, pixels[n]) for n, r in ranks.items())
    assert 0.97 * cap < used <= cap
    with pytest.raises(BenchmarkError, match="ranks of one cost"):
        ranks_under(convs, pixels, 100)


def test_a_convolution_of_groups_is_refused():
    with pytest.raises(BenchmarkError, match="expected one of 1 group"):
        tucker(nn.Conv2d(4, 4, 3, groups=2), (2, 2))


def test_the_page_has_the_present_table_of_all_cases():
    result = load(benchmark.RESULT, benchmark.SCHEMA, benchmark.KEYS)
    page = benchmark.PAGE.read_text(encoding="utf-8")
    table = benchmark.table(result)
    assert placed(page, table, "page", benchmark.BEGIN, benchmark.END) == page
    rows = [row for row in result["rows"] if row["kind"] != "dense"]
    assert len(rows) == len(benchmark.SEEDS) * len(benchmark.BUDGETS) * len(benchmark.KINDS)
    assert all(row["relative_cost"] <= row["budget"] for row in rows)


def test_networks_are_compressed_and_tuned(monkeypatch):
    monkeypatch.setattr(benchmark, "BUDGETS", (0.1,))
    monkeypatch.setattr(benchmark, "TUNING", 1)
    monkeypatch.setattr(benchmark, "KINDS", {"tucker": "", "gblr": ""})
    dense, own, learned = benchmark.of_seed(0, epochs=1)
    assert dense["tuned"] > 0.5
    assert 0.09 < own["relative_cost"] <= 0.1
    assert learned["at_once"] is None
    assert min(own["tuned"], learned["tuned"]) > 0.5
