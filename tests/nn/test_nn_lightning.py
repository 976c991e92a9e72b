"""Structured training under Lightning: the budget is met, logged, and resumed exactly."""

import importlib
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip(
    "lightning.pytorch", reason="lightning is not installed (extra lightning)"
)

from structmat.errors import InputError, MissingDependencyError  # noqa: E402
from structmat.nn.anneal.weight import AnnealWeight  # noqa: E402
from structmat.nn.gaudi.weight import GaudiWeight  # noqa: E402
from structmat.nn.lightning import StructureCallback  # noqa: E402
from structmat.nn.models.config import Config  # noqa: E402
from structmat.nn.models.convert import convert_  # noqa: E402
from structmat.nn.training.parameter_groups import parameter_groups  # noqa: E402

pytestmark = [
    # Lightning calls what torch renamed; nothing of ours is on the way.
    pytest.mark.filterwarnings(
        r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning"
    ),
]


class Module(lightning.LightningModule):
    def __init__(self, optimizers=1, learn=True):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = optimizers == 1
        self.count = optimizers
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        oversize = 3.0 if learn == "gaudi" else 1.0
        convert_(self.net, Config(budget=0.2, learn=learn, oversize=oversize, min_features=8))

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        groups = parameter_groups(self.net, lr=1e-2, structure_lr=1e-2)
        return [torch.optim.AdamW(groups) for _ in range(self.count)]

    @property
    def relative_cost(self):
        weights = [m for m in self.modules() if isinstance(m, GaudiWeight | AnnealWeight)]
        return sum(w.cost for w in weights) / sum(w.shape[0] * w.shape[1] for w in weights)

    @property
    def sigmas(self):
        return {m.sigma for m in self.modules() if isinstance(m, GaudiWeight)}


class Watch(lightning.Callback):
    """Notes what is logged after each batch, and saves after the first epoch."""

    def __init__(self, path=None):
        self.path, self.seen = path, []

    def on_train_batch_end(self, trainer, *_):
        metrics = trainer.callback_metrics
        self.seen.append({k: float(v) for k, v in metrics.items() if k.startswith("structure")})

    def on_train_epoch_end(self, trainer, module):
        if self.path is not None and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def fit(callback, watch=None, *, start=None, module=None, **options):
    generator = torch.Generator().manual_seed(0)
    data = (torch.randn(32, size, generator=generator) for size in (16, 8))
    trainer = lightning.Trainer(
        **{"max_epochs": 3, "log_every_n_steps": 1, "accelerator": "cpu"} | options,
        callbacks=[callback, watch or Watch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = module or Module(learn=callback._rules.structure == "anneal" or "gaudi")
    trainer.fit(module, DataLoader(TensorDataset(*data), batch_size=8), ckpt_path=start)
    return module


def test_the_budget_is_met_and_logged():
    watch = Watch()
    module = fit(StructureCallback(0.2, anneal={"end": 0.5}), watch)
    assert 0.15 < module.relative_cost <= 0.2
    assert [entry.keys() for entry in watch.seen] == [{"structure_cost"}] * 12
    costs = [entry["structure_cost"] for entry in watch.seen]
    assert costs[0] == 1
    assert costs[5:] == pytest.approx([module.relative_cost] * 7)
    assert costs == sorted(costs, reverse=True)


def test_the_budget_is_met_and_logged_by_gaudi_masks():
    watch = Watch()
    projection, sigma = {"ramp": 0.5}, {"stop": 50.0}
    module = fit(
        StructureCallback(0.2, structure="gaudi", projection=projection, sigma=sigma), watch
    )
    assert 0.15 < module.relative_cost <= 0.2
    assert module.sigmas == {50.0}
    assert len(watch.seen) == 12
    assert watch.seen[0]["structure_cost"] > 0.2 >= watch.seen[-1]["structure_cost"]
    assert watch.seen[-1]["structure_cost"] == pytest.approx(module.relative_cost)
    assert watch.seen[0]["structure_sigma"] < watch.seen[-1]["structure_sigma"] == 50.0


@pytest.mark.gpu
@pytest.mark.parametrize("structure", ["anneal", "gaudi"])
def test_the_budget_is_met_on_a_gpu(structure):
    module = fit(StructureCallback(0.2, structure=structure), accelerator="gpu", devices=1)
    assert module.relative_cost <= 0.2


def test_it_logs_as_often_as_the_trainer():
    watch = Watch()
    fit(StructureCallback(0.2, structure="gaudi"), watch, log_every_n_steps=4, max_epochs=2)
    sigmas = [entry.get("structure_sigma") for entry in watch.seen]
    assert sigmas[:3] == [None] * 3
    assert sigmas[3] is not None
    assert sigmas[7] > sigmas[3]


def test_steps_are_those_of_the_optimizer():
    callback = StructureCallback(0.2)
    module = fit(callback, accumulate_grad_batches=2)
    assert callback.state_dict()["anneal"]["step"] == 6
    assert module.relative_cost <= 0.2
    callback = StructureCallback(0.2, structure="gaudi")
    module = fit(callback, accumulate_grad_batches=2)
    assert callback.state_dict()["schedule"]["step"] == 6
    assert module.relative_cost <= 0.2
    assert module.sigmas == {100.0}


WAYS = ({"anneal": {"every": 0.25}}, {"structure": "gaudi"})


@pytest.mark.parametrize("way", WAYS, ids=["anneal", "gaudi"])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(tmp_path, way):
    path = tmp_path / "first.ckpt"
    watches = Watch(path), Watch()
    expected = fit(StructureCallback(0.2, **way), watches[0])
    callback = StructureCallback(0.2, **way)
    resumed = fit(callback, watches[1], start=path)
    assert watches[1].seen == watches[0].seen[4:]
    for name, value in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert resumed.sigmas == expected.sigmas
    anew = Watch()
    fit(callback, anew)  # the state was for that training alone
    assert anew.seen == watches[0].seen


def test_the_optimizer_is_left_alone_after_training():
    for way, rule in zip(WAYS, ("anneal", "schedule"), strict=True):
        callback = StructureCallback(0.2, **way)
        module = fit(callback)
        optimizer = module.optimizers().optimizer
        assert not optimizer._optimizer_step_post_hooks
        optimizer.step()
        assert callback.state_dict()[rule]["step"] == 12
        assert all(p.requires_grad for p in module.parameters())
        fit(callback, module=module)  # and once more, from the beginning
        assert module.relative_cost <= 0.2
        assert callback.state_dict()[rule]["step"] == 12


def test_options_of_the_other_way_are_refused():
    for options in ({"projection": {"ramp": 0.5}}, {"sigma": {"stop": 50.0}}):
        with pytest.raises(InputError, match=r"expected none \(or structure='gaudi'\)"):
            StructureCallback(0.2, **options)
        StructureCallback(0.2, structure="gaudi", **options)
    with pytest.raises(InputError, match=r"anneal = .* \(or structure='anneal'\)"):
        StructureCallback(0.2, structure="gaudi", anneal={"charge": 5.0})
    with pytest.raises(InputError, match="'gauss'; expected 'anneal' or 'gaudi'"):
        StructureCallback(0.2, structure="gauss")


def test_a_training_goes_on_the_way_it_began():
    callback = StructureCallback(0.2)
    fit(callback)
    with pytest.raises(InputError, match="state of anneal for structure = 'gaudi'"):
        StructureCallback(0.2, structure="gaudi").load_state_dict(callback.state_dict())
    StructureCallback(0.2, structure="gaudi").load_state_dict({})  # of a training not begun


def test_a_trainer_without_an_end_is_refused():
    with pytest.raises(InputError, match=r"runs for inf steps; .* \(set its max_steps\)"):
        fit(StructureCallback(0.2), max_epochs=-1)


def test_several_optimizers_are_refused():
    with pytest.raises(InputError, match="2 optimizers; expected one"):
        fit(StructureCallback(0.2), module=Module(optimizers=2))


def test_a_model_without_learned_layers_is_refused():
    module = Module()
    module.net = nn.Linear(16, 8)
    for structure, weight in (("anneal", "AnnealWeight"), ("gaudi", "Gaudi layers")):
        with pytest.raises(InputError, match=rf"has no (layers with a )?{weight}; expected"):
            fit(StructureCallback(0.2, structure=structure), module=module)


def test_the_module_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "structmat.nn.lightning")
    with pytest.raises(MissingDependencyError, match=r"pip install 'structmat\[lightning\]'"):
        importlib.import_module("structmat.nn.lightning")
