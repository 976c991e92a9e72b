"""Two processes train, save, resume and freeze as one does, by the script of the guide's page.

The script is read from the page "Train on many devices". Both wrappers and both ways of learning
share one pair of processes, over gloo on this machine.

A process alone that adds the gradients of the two halves of a batch computes what two processes
do, number by number, and is compared bit by bit. Whole batches sum their examples in another order:
there the structure is the same, and contents agree to rounding.
"""

import itertools
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
import torch
from processes import COUNT, SECONDS, process_group, run_together
from torch import distributed
from torch.distributed import checkpoint

from structmat.nn import load_model

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "devices.md"
SCRIPT = re.search(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S).group(1)
page = types.ModuleType("devices_page")
exec(compile(SCRIPT, str(PAGE), "exec"), vars(page))

WRAPPERS, WAYS = ("ddp", "fsdp"), ("anneal", "gaudi")
CASES = list(itertools.product(WRAPPERS, WAYS))
cases = pytest.mark.parametrize(("wrapper", "learn"), CASES)
SAVED, STEPS = page.SAVE_EVERY, page.STEPS
#: Rounding of whole batches: double precision, but revived blocks come from single precision.
ROUNDING = {"anneal": 1e-12, "gaudi": 1e-6}
alone = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


@pytest.fixture(autouse=True, scope="module")
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def save(training, path):
    checkpoint.save({"training": training}, checkpoint_id=path)


def loaded(path, wrapper, learn):
    """Training from a checkpoint, begun with other numbers."""
    training = page.Training(page.network(learn, seed=1), wrapper, learn)
    checkpoint.load({"training": training}, checkpoint_id=path)
    return training


def trained(wrapper, learn, rank, folder):
    """Frozen networks of the first rank: of a training, and of one resumed under the other wrapper.

    Each with outputs of the network as it was trained, and as it is frozen.
    """
    training, found = page.Training(page.network(learn), wrapper, learn), []
    x = page.batch(STEPS)
    path = Path(folder) / f"{wrapper}-{learn}"
    for step in (SAVED, STEPS):
        training.run(step, rank, COUNT)
        save(training, path / str(step))
    other = WRAPPERS[1 - WRAPPERS.index(wrapper)]
    for resumed in (training, loaded(path / str(SAVED), other, learn)):
        resumed.run(STEPS, rank, COUNT)
        net = page.frozen(resumed.model, learn)
        with torch.no_grad():
            y = resumed.model.eval()(x)
            found.append(None if net is None else (net.state_dict(), y, net(x)))
    return found


def work(rank, folder):
    torch.set_default_dtype(torch.float64)
    with process_group(rank, folder):
        results = {case: trained(*case, rank, folder) for case in CASES}
        torch.save(results, f"{folder}/{rank}.pt")
        distributed.barrier()


@pytest.fixture(scope="module")
def folder():
    """Folder with the checkpoints of two processes, and what the first one froze."""
    with tempfile.TemporaryDirectory() as folder:
        run_together(work, folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def two(folder):
    """Results of the first process, by case."""
    return torch.load(folder / "0.pt")


def by_halves(training, until):
    """Train alone on the parts of batches that the ranks have."""
    for step in range(training.step, until):
        training.optimizer.zero_grad()
        for rank in range(COUNT):
            (page.loss(training.model, page.batch(step)[rank::COUNT]) / COUNT).backward()
        training.optimizer.step()
    return training


def begun(learn):
    return page.Training(page.network(learn), "none", learn)


def frozen(training, learn):
    return page.frozen(training.model, learn).state_dict()


@pytest.fixture(scope="module")
def one():
    """Frozen states of trainings by halves in this process."""
    return {learn: frozen(by_halves(begun(learn), STEPS), learn) for learn in WAYS}


def assert_same(found, wanted, atol=0.0):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol)


@cases
def test_two_processes_freeze_what_one_does(two, one, wrapper, learn):
    assert_same(two[wrapper, learn][0][0], one[learn])


@cases
def test_frozen_networks_compute_what_was_trained(two, wrapper, learn):
    for _, trained, frozen in two[wrapper, learn]:
        torch.testing.assert_close(frozen, trained, rtol=0, atol=1e-12)


@pytest.mark.parametrize("learn", WAYS)
def test_whole_batches_differ_by_rounding(one, learn):
    training = begun(learn)
    training.run(STEPS, 0, 1)
    assert_same(frozen(training, learn), one[learn], atol=ROUNDING[learn])


@cases
def test_two_processes_resume_under_the_other_wrapper(two, wrapper, learn):
    through, resumed = two[wrapper, learn]
    assert_same(resumed[0], through[0])


@alone
@cases
def test_one_process_resumes_what_two_saved(folder, one, wrapper, learn):
    training = loaded(folder / f"{wrapper}-{learn}" / str(SAVED), "none", learn)
    assert training.step == SAVED
    assert_same(frozen(by_halves(training, STEPS), learn), one[learn])


@alone
@cases
def test_one_process_freezes_what_two_saved(folder, two, wrapper, learn):
    training = loaded(folder / f"{wrapper}-{learn}" / str(STEPS), "none", learn)
    assert_same(frozen(training, learn), two[wrapper, learn][0][0])


@pytest.mark.slow
@pytest.mark.parametrize("learn", WAYS)
def test_the_script_itself_runs(learn, tmp_path):
    """Two processes by torchrun go half the way, one the rest, in single precision."""
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    half = SCRIPT.replace("while training.step < STEPS", "while training.step < STEPS // 2")
    assert half != SCRIPT
    (tmp_path / "half.py").write_text(half, "utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={COUNT}"]
    for words in ([*torchrun, "half.py", "ddp", learn], ["train.py", "none", learn]):
        subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=SECONDS)
    found = [load_model(tmp_path / "model.safetensors", page.network(learn))]
    (tmp_path / "model.safetensors").unlink()
    # All is done: every way of running loads the last checkpoint and freezes.
    for words in ([*torchrun, "train.py", "fsdp", learn], ["train.py", "none", learn]):
        subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=SECONDS)
        found.append(load_model(tmp_path / "model.safetensors", page.network(learn)))
    for net in found[1:]:
        assert_same(net.state_dict(), found[0].state_dict())
