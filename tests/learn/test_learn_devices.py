"""Trainings on devices: no step reads a value, and what a device is given at once."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
from device_rules import by_kernel

from structmat.cli import main
from structmat.errors import InputError, TrainingError
from structmat.learn import _losses, _state, devices
from structmat.learn import train as training
from structmat.learn.data import Text, load_data
from structmat.learn.experiment import Experiment
from structmat.learn.tasks import ImageTask, TextTask, is_inner, make_task
from structmat.learn.train import Settings, train
from structmat.nn import Config, convert_
from structmat.nn.structured import devices as layers

SHORT = Settings(epochs=2, batch=256)
TEXT = np.tile(np.arange(97, 123, dtype=np.uint8), 40)


def images(device="cpu", size="small", **options):
    given = {"batch": 256, "augment": True, **options}
    return ImageTask(load_data("digits"), "mlp", size, device=device, **given)


def text(device="cpu", **options):
    data = Text("abc", TEXT, TEXT, TEXT, "")
    return TextTask(data, "gpt", "small", batch=2, context=16, steps=3, device=device, **options)


def converted(task, kind="gblr", learn=None):
    torch.manual_seed(0)
    model, generator = task.model(), torch.Generator().manual_seed(0)
    config = Config(kind=kind, budget=0.2, learn=learn)
    convert_(model, config, is_inner, example=task.example(), generator=generator)
    return model


@pytest.fixture
def apart(monkeypatch):
    """Let the CPU be treated as a device."""
    monkeypatch.setattr(layers, "is_apart", lambda device: True)
    by_kernel(monkeypatch, "batches")


class Reads(TorchDispatchMode):
    """Count of the values that the host reads."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [images, text])
@pytest.mark.parametrize("learn", ["gaudi", True])
def test_an_epoch_reads_no_value(make, learn, apart):
    """On the meta device there is none to read."""
    task = make("meta")
    model = converted(task, learn=learn).to("meta")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    losses = training._epoch(task, model, model, optimizer, SHORT, 0, 0, 10)
    assert len(losses._new) == task.steps_per_epoch


def test_the_host_reads_as_often_in_long_epochs(apart, monkeypatch):
    counts = []
    for batch in (256, 64):
        task = images(batch=batch)
        model = converted(task, "block_sparse")
        with Reads() as reads:
            train(task, model, replace(SHORT, epochs=1))
        counts.append(reads.count)
    assert counts[0] == counts[1]
    losses = []
    for every in (256, 2):
        monkeypatch.setattr(_losses, "LOOK_EVERY", every)
        losses.append([r["loss"] for r in train(task, converted(task, "monarch"), SHORT).history])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("make", [images, text])
def test_a_device_gets_large_data_batch_by_batch(make, monkeypatch):
    wanted = [list(make().batches(1, 2)), list(make().test_batches())]
    moves, own = [], devices.moved
    monkeypatch.setattr(devices, "KEPT_BYTES", 0)
    monkeypatch.setattr(devices, "moved", lambda x, place: (moves.append(x), own(x, place))[1])
    task = make()
    found = [list(task.batches(1, 2)), list(task.test_batches())]
    for some, others in zip(found, wanted, strict=True):
        for a, b in zip(some, others, strict=True):
            assert all(map(torch.equal, a, b))
    assert all(len(x) < len(load_data("digits").train_x) for x in moves if x.ndim > 1)
    x, y = next(iter(make("meta").batches(1, 2)))
    assert (x.is_meta, y.is_meta) == (True, True)


def test_a_loss_that_is_no_number_is_found_when_losses_are_read(apart, monkeypatch):
    task, settings = images(), replace(SHORT, lr=math.nan)
    with pytest.raises(TrainingError, match=r"nan at step 1 \(epoch 1\), seen some steps later"):
        train(task, converted(task, "low_rank"), settings)
    monkeypatch.setattr(_losses, "LOOK_EVERY", 2)
    with pytest.raises(TrainingError, match=r"nan at step 1 \(epoch 1\)"):
        training._epoch(task, *_broken(task), settings, 0, 0, 10)


def _broken(task):
    model = converted(task, "low_rank")
    optimizer = torch.optim.SGD(model.parameters(), lr=math.nan)
    optimizer.param_groups[0]["initial_lr"] = math.nan
    return model, model, optimizer


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_states_go_to_the_device_that_resumes(tmp_path):
    task, path = images(), tmp_path / "state.safetensors"
    model = converted(task, "low_rank")
    optimizer = torch.optim.AdamW(model.parameters())
    task.loss(model, next(iter(task.batches(0, 0)))).backward()
    optimizer.step()
    _state.save(path, model, optimizer, (), {}, 1, {})
    there = converted(task, "low_rank").to("meta")
    again = torch.optim.AdamW(there.parameters())
    assert _state.load(path, there, again, (), {})[0] == 1
    assert all(p.is_meta for p in there.parameters())
    moments = [s["exp_avg"] for s in again.state.values()]
    assert moments
    assert all(moment.is_meta for moment in moments)


@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:99"])
def test_devices_that_do_not_work_are_refused(name):
    with pytest.raises(InputError, match=rf"--device {name} does not work here \(.*expected cpu"):
        devices.training_device(name)


def test_auto_takes_the_best_device(monkeypatch):
    class Here:
        is_available = staticmethod(lambda: True)
        current_accelerator = staticmethod(lambda: torch.device("cuda"))
        device_count = staticmethod(lambda: 2)

    assert devices.training_device("cpu") == "cpu"
    monkeypatch.setattr(torch, "accelerator", Here)
    assert devices.training_device("auto") == "cuda"
    with pytest.raises(InputError, match="cpu, cuda, or one of cuda:0 to cuda:1"):
        devices.training_device("abacus")
    Here.is_available = staticmethod(lambda: False)
    assert devices.training_device("auto") == "cpu"


def test_tiles_and_groups_have_the_sides_asked_for(tmp_path):
    task = make_task(load_data("digits"), "mlp", {"width": 32}, 512)
    experiment = Experiment(
        task=task, facts={}, kinds=["block_sparse", "gblr_fixed"], budget=0.5, seeds=[0],
        settings=Settings(epochs=1, batch=512), tile=8, group=4, folder=tmp_path,
    )  # fmt: skip
    tiles, groups = (experiment._one(kind, 0, None)[0].layers[0] for kind in experiment.kinds)
    assert tiles.to_matrix().blocks.shape[1:] == (8, 8)
    places = groups.to_matrix().to("numpy").coverage().reshape(8, 4, -1)
    assert (places == places[:, :1]).all()


@pytest.mark.slow
def test_the_command_names_sides_and_device(tmp_path, capsys):
    words = ["--kinds", "gblr", "--epochs", "1", "--seeds", "1", "--group", "8", "--budget", "0.3"]
    words += ["--size", "small", "--device", "auto", "-o", str(tmp_path), "--json"]
    assert main(["learn", *words]) == 0
    assert "--group 8" in capsys.readouterr().out


@pytest.mark.gpu
def test_a_training_resumes_on_another_device(tmp_path):
    state = tmp_path / "state.safetensors"

    def stop(done, _all, _loss):
        if done == 1:
            raise KeyboardInterrupt

    ends = []
    for first, second in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        model = converted(images()).to(first)
        with pytest.raises(KeyboardInterrupt):
            train(images(first), model, SHORT, budget=0.2, state=state, progress=stop)
        model, task = converted(images()).to(second), images(second)
        train(task, model, SHORT, budget=0.2, state=state, resume=True)
        ends.append(task.score(model))
    assert max(ends) - min(ends) < 0.1
