"""Processes that are killed while they save or train: old files stay whole, and work goes on."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, contents
from test_files import numbers, same_matrix

import structmat

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="processes are forked, as POSIX does"
)
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def started(work):
    """Start a process that does some work, with the signals of a new one; it is at work."""
    ready, begun = os.pipe()
    # A signal that came before the process is ready would end up in the tests.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS[1:])
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
            os.write(begun, b"1")
            work()
            os._exit(0)
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
    os.close(begun)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    return child


def killed(work, seconds, how):
    """Kill a process that works, after some seconds; True if it was still at work."""
    child = started(work)
    time.sleep(seconds)
    os.kill(child, how)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def saves(save, whole, path, count, record, leftovers):
    """Kill `count` processes that save over and over; the file is a whole one each time.

    Each leaves no more than a number of files and folders behind.
    """
    rng = np.random.default_rng(5)
    save(path)
    for i in range(count):

        def work():
            while True:
                save(path)

        assert killed(work, rng.uniform(0.002, 0.03), SIGNALS[i % 3])
        assert whole(path)
        left = [p for p in path.parent.iterdir() if p != path]
        assert len(left) <= leftovers * (i + 1)
        assert all(p.name.endswith(".structmat-part") for p in left)
    # What is old goes with the next save, and only that.
    for p in path.parent.iterdir():
        if p != path:
            os.utime(p, (0, 0))
    save(path)
    assert list(path.parent.iterdir()) == [path]
    record("cells", count)


@pytest.mark.parametrize("count", numbers(9, 100))
def test_kills_during_a_save_of_a_matrix(count, tmp_path, record_property):
    matrices = [CASES[name](contents("float64"))[0] for name in ("gblr", "monarch")]

    def save(path):
        for matrix in matrices:
            structmat.save(path, matrix)

    def whole(path):
        return any(same_matrix(A, structmat.load(path)) for A in matrices)

    saves(save, whole, tmp_path / "a.npz", count, record_property, 1)


@pytest.mark.parametrize("count", numbers(3, 50))
def test_kills_during_a_save_of_a_model(count, tmp_path, record_property):
    torch = pytest.importorskip("torch")
    from structmat.nn import StructuredLinear, load_model, save_model

    torch.set_num_threads(1)
    models = [
        torch.nn.Sequential(StructuredLinear(structmat.LowRank(np.ones((6, r)), np.ones((5, r)))))
        for r in (1, 2)
    ]

    def save(path):
        for model in models:
            save_model(path, model)

    def whole(path):
        model = torch.nn.Sequential(torch.nn.Linear(5, 6, bias=False))
        return load_model(path, model)[0].matrix.cost in (11, 22)

    saves(save, whole, tmp_path / "m", count, record_property, 2)


@pytest.mark.parametrize("count", numbers(3, 50))
def test_kills_during_a_save_of_a_state(count, tmp_path, record_property):
    torch = pytest.importorskip("torch")
    from structmat.learn import _state

    torch.set_num_threads(1)
    model = torch.nn.Linear(5, 6)
    optimizer = torch.optim.AdamW(model.parameters())

    def save(path):
        for epoch in (1, 2):
            _state.save(path, model, optimizer, (), {}, epoch, {})

    def whole(path):
        return _state.load(path, model, optimizer, (), {})[0] in (1, 2)

    saves(save, whole, tmp_path / "s", count, record_property, 2)


@pytest.mark.slow
def test_kills_inside_a_training(tmp_path, record_property):
    """Each is resumed, and ends as the training that nobody disturbed, bit for bit."""
    torch = pytest.importorskip("torch")
    from structmat.learn.data import load_data
    from structmat.learn.settings import default_settings
    from structmat.learn.tasks import make_task
    from structmat.learn.train import train
    from structmat.nn import Config, convert_

    torch.set_num_threads(1)
    task = make_task(load_data("digits"), "mlp", "small", 64)
    settings = replace(default_settings("digits", "mlp"), epochs=6)

    def trained(state, resume):
        torch.manual_seed(0)
        model = task.model()
        convert_(model, Config(budget=0.1))
        found = train(task, model, settings, budget=0.1, state=state, resume=resume)
        tensors = {n: p.detach().clone() for n, p in model.state_dict().items()}
        return found.history, tensors

    begin = time.perf_counter()
    history, tensors = trained(tmp_path / "whole.safetensors", False)
    seconds = time.perf_counter() - begin
    rng, killed_at_work = np.random.default_rng(6), 0
    for i in range(30):
        state = tmp_path / f"{i}.safetensors"
        work = lambda: trained(state, False)  # noqa: B023, E731
        killed_at_work += killed(work, rng.uniform(0.2, 0.9) * seconds, SIGNALS[i % 3])
        again, found = trained(state, state.exists())
        assert again == history
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found[name], tensor), name
    # Fewer where the machine became less busy after the first training, which is the measure.
    assert killed_at_work > 15, f"{killed_at_work} of 30 were still at work"
    record_property("cells", 30)
