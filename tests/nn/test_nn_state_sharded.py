"""FSDP2 shards every kind, over gloo on this machine: in this process, or in two."""

import tempfile
import time
from datetime import timedelta

import pytest
import torch
from nn_kinds import KINDS, LAYERS
from sharded_kinds import EMPTY, empty_layer, errors, train_beside
from torch import distributed, multiprocessing

SECONDS = 240


def begin(folder, rank, processes):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=SECONDS),
    )


@pytest.fixture(scope="module")
def alone():
    with tempfile.TemporaryDirectory() as folder:
        begin(folder, 0, 1)
        yield folder
        distributed.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_one_process(kind, alone):
    found = errors(kind, LAYERS[KINDS.index(kind) % 3], alone)
    assert max(found.values()) < 1e-5, found
    assert found["DCP"] == found["sent"] == 0.0


@pytest.mark.parametrize("kind", [*EMPTY, "learning"])
def test_weights_without_contents(kind, alone):
    layer = empty_layer(kind)
    state = train_beside(layer)
    assert {n for n in state if n.startswith("1.matrix.")} == {
        f"1.{n}" for n in layer.state_dict() if n.startswith("matrix.")
    }
    assert not [n for n, p in layer.named_parameters() if not p.numel()]


def work(rank, folder):
    torch.set_num_threads(1)
    begin(folder, rank, 2)
    try:
        found = {f"{k}, {x}": errors(k, x, folder) for k in KINDS for x in LAYERS}
        for kind in (*EMPTY, "learning"):
            train_beside(empty_layer(kind))
    finally:
        distributed.destroy_process_group()
    torch.save(found, f"{folder}/errors-{rank}.pt")


@pytest.mark.slow
def test_every_kind_in_two_processes(tmp_path):
    context = multiprocessing.spawn(work, (str(tmp_path),), nprocs=2, join=False)
    deadline = time.monotonic() + SECONDS
    while not context.join(timeout=5):
        assert time.monotonic() < deadline, "the processes hang"
    for rank in range(2):
        found = torch.load(tmp_path / f"errors-{rank}.pt")
        wrong = {name: e for name, e in found.items() if max(e.values()) > 1e-5}
        assert not wrong
