"""The projection onto a budget as devices run it: the widths of the host's, and no value read."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[1]))
from device_steps import Launches, Stays, apart  # noqa: E402

from structmat.nn import BudgetProjection, GaudiLinear, SigmaSchedule  # noqa: E402
from structmat.nn.gaudi import mask_tables  # noqa: E402
from structmat.nn.training.projection import METRICS, projected  # noqa: E402
from structmat.nn.training.projection_apart import projected_apart  # noqa: E402
from structmat.nn.training.widths import Widths  # noqa: E402


def network(seed=0, n=24):
    torch.manual_seed(seed)
    layers = [
        GaudiLinear(n, n, width_init=0.4, num_blocks=20),
        GaudiLinear(n, 2 * n + 1, width_init=0.3, num_blocks=9, rank=2, granularity=4),
        GaudiLinear(2 * n + 1, 5, width_init=0.5, num_blocks=3, learn_widths=False),
    ]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_widths_are_those_of_the_host(metric, ties):
    widths = Widths(network(), "multiplications")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.33, 0.7, 0.95, 1.0, 2.0):
        values = widths.values()
        if not ties:
            values = values * torch.from_numpy(rng.uniform(-0.2, 1.5, len(values))).float()
        budget = int(share * widths.cost(values))
        wanted = projected(widths, values, budget, metric)
        found = projected_apart(widths, values, budget, metric)
        assert torch.equal(found, wanted)


def test_a_rule_takes_that_path_on_a_device(monkeypatch):
    found = []
    for there in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        rule = BudgetProjection(model, optimizer, 0.3, 4, ramp=0.5)
        if there:
            apart(monkeypatch)
            monkeypatch.setattr(Widths, "values", lambda widths: pytest.fail("widths were read"))
        for _ in range(4):
            rule._hook.step += 1
            rule.update()
        found.append(torch.cat(rule.widths.parameters()))
    assert torch.equal(*found)


def test_no_value_is_read(monkeypatch):
    apart(monkeypatch)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = BudgetProjection(model, optimizer, 0.3, 4)
    schedule = SigmaSchedule(model, optimizer, 100)
    model.to("meta")
    for followed in (rule, schedule):
        followed.update()
        with Stays(), Launches() as seen:
            followed._hook.step += 1
            followed.update()
        print(type(followed).__name__, len(seen.names), "launches")
        assert len(seen.names) <= 451


def test_tables_of_masks_are_made_in_their_place(monkeypatch):
    """They are made where no mode sees it, as a schedule asks for new ones after each step."""
    seen, gauss = [], mask_tables.gauss
    monkeypatch.setattr(mask_tables, "gauss", lambda k, s: seen.append(k.device) or gauss(k, s))
    place = torch.device("meta")
    table = mask_tables.mask_table.__wrapped__(12, 3.0, torch.float32, place)
    assert seen == [place]
    assert table.edge.device == place
