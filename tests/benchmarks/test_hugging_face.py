"""The guide for Hugging Face models shows what its command measured, by the loop that it ran."""

import inspect
import re

import pytest

pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")

import torch
from torch import nn

from benchmarks import hugging_face
from benchmarks.learn import placed
from benchmarks.results import BenchmarkError, load


@pytest.fixture
def page():
    return hugging_face.PAGE.read_text(encoding="utf-8")


@pytest.fixture
def result():
    return load(hugging_face.RESULT, hugging_face.SCHEMA, hugging_face.KEYS)


def test_the_guide_has_the_present_table(page, result):
    table = hugging_face.table(result)
    shown = placed(page, table, "page", hugging_face.BEGIN, hugging_face.END)
    assert shown == page


def test_the_guide_shows_the_loop_that_was_measured(page):
    body = inspect.getsource(hugging_face.distil).partition("\n")[2]
    shown = re.search(r"^def distil\(.*\n((?:    .*\n)+)", page, re.MULTILINE)
    assert shown[1] == body


def test_steps_follow_each_other(result):
    found = [(row["budget"], row["step"]) for row in result["rows"]]
    steps = ("weights", "calibrated", "distilled")
    budgets = hugging_face.BUDGETS
    assert found == [(1.0, "original"), *((b, step) for b in budgets for step in steps)]
    assert all(row["relative_cost"] <= row["budget"] for row in result["rows"])


def test_a_student_learns():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.inner = nn.Embedding(20, 8), nn.Linear(8, 8)

        def forward(self, tokens):
            states = self.inner(self.embed(tokens))
            return type("Output", (), {"last_hidden_state": states})

    torch.manual_seed(0)
    teacher, student = Net(), Net()
    student.embed.load_state_dict(teacher.embed.state_dict())
    student.embed.requires_grad_(False)
    batches = [torch.randint(20, (8, 5)) for _ in range(800)]

    def error():
        with torch.no_grad():
            found, wanted = (net(batches[0]).last_hidden_state for net in (student, teacher))
        return float((found - wanted).norm() / wanted.norm())

    before = error()
    hugging_face.distil(student, teacher, batches)
    assert error() < 0.8 * before
    assert not student.training


def test_a_run_asks_for_the_text():
    with pytest.raises(BenchmarkError, match="--data-dir is missing"):
        hugging_face.main(["run"])
