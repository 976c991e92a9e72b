"""`push_to_hub` uploads what `from_pretrained` needs; nothing here asks the network."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"

pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")

from transformers import BertConfig, BertModel
from transformers.utils import hub

import structmat.nn.hf  # noqa: F401
from structmat.nn import Config, convert_


@pytest.fixture
def uploads(monkeypatch, tmp_path):
    """Folder in which a stand-in of the hub keeps what is uploaded."""

    class Hub:
        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def create_commit(self, *, operations, **_):
            for file in operations:
                shutil.copy(file.path_or_fileobj, tmp_path / file.path_in_repo)

    monkeypatch.setattr(hub, "hf_api", Hub)
    card = SimpleNamespace(save=lambda path: Path(path).write_text("a card"))
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *_, **__: card)
    return tmp_path


def test_what_is_pushed_comes_back(uploads):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    model = BertModel(BertConfig(vocab_size=50, num_attention_heads=2, **sizes)).eval()
    config = Config(kind="low_rank", budget=0.5, start="weights")
    convert_(model, config, lambda name, _: "encoder.layer" in name)
    model.push_to_hub("someone/model")
    assert {file.name for file in uploads.iterdir()} >= {"config.json", "model.safetensors"}
    again = BertModel.from_pretrained(uploads).eval()
    tokens = torch.randint(50, (2, 7))
    assert torch.equal(again(tokens)[0], model(tokens)[0])
