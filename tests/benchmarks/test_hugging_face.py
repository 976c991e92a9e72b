"""The guide for Hugging Face models shows what its command measured, by the loop that it ran."""

import inspect
import re
from types import SimpleNamespace

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
    for function in (hugging_face.embedded, hugging_face.distil):
        body = inspect.getsource(function).partition("\n")[2]
        shown = re.search(rf"^def {function.__name__}\(.*\n((?:    .*\n)+)", page, re.MULTILINE)
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

        def forward(self, input_ids, attention_mask):
            states = self.inner(self.embed(input_ids))
            return type("Output", (), {"last_hidden_state": states})

    torch.manual_seed(0)
    teacher, student = Net(), Net()
    student.embed.load_state_dict(teacher.embed.state_dict())
    student.embed.requires_grad_(False)
    mask = torch.ones(8, 5).tril(2)
    batches = [{"input_ids": torch.randint(20, (8, 5)), "attention_mask": mask} for _ in range(800)]

    def error():
        with torch.no_grad():
            found, wanted = (
                hugging_face.embedded(net, batches[0])[0] for net in (student, teacher)
            )
        return float((found - wanted).norm() / wanted.norm())

    before = error()
    hugging_face.distil(student, teacher, batches)
    assert error() < 0.8 * before
    assert not student.training


def test_padding_says_nothing():
    torch.manual_seed(0)
    states = torch.randn(1, 4, 3)

    def model(input_ids, attention_mask):
        padded = torch.cat([states, torch.full((1, input_ids.shape[1] - 4, 3), 7.0)], dim=1)
        return SimpleNamespace(last_hidden_state=padded)

    for longest in (4, 6):
        batch = {"input_ids": torch.zeros(1, longest), "attention_mask": torch.zeros(1, longest)}
        batch["attention_mask"][:, :4] = 1
        own, mean = hugging_face.embedded(model, batch)
        assert torch.equal(mean, states.mean(1))
        assert not own[:, 4:].any()


def test_a_run_asks_for_the_text():
    with pytest.raises(BenchmarkError, match="--data-dir is missing"):
        hugging_face.main(["run"])
