"""Copies of a sentence embedder: distillation from the original, and their fidelity."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.models.minilm import Embedder, pooled
from benchmarks.results import Row, short

__all__ = ["Distillation"]

#: Steps of an epoch, after which a training reports.
EPOCH_STEPS = 10


class Distillation:
    """Task of `structmat.learn.train.train` that makes a model like the original one.

    The loss is the squared error of the states of all tokens, relative to their size, plus
    one minus the cosine of the embeddings; both are zero for an exact copy.

    Parameters
    ----------
    original : Embedder
    batches : sequence of Tensor
        Sentences to learn from, (B, T) each; every batch is seen once, in this order.
    held_out : mapping of str to sequence of Tensor
        Sentences to measure with, by the name of their text.

    Attributes
    ----------
    answers : Tensor, shape (sentences, width)
        Embeddings of the held-out sentences by the original.
    """

    metric = "cosine"

    def __init__(
        self,
        original: Embedder,
        batches: Sequence[Tensor],
        held_out: Mapping[str, Sequence[Tensor]],
    ) -> None:
        self.original = original
        self.steps_per_epoch = min(EPOCH_STEPS, len(batches))
        self.epochs = len(batches) // self.steps_per_epoch
        self._batches, self._held_out = batches, held_out
        with torch.no_grad():
            self._states = [original.states(batch) for batch in batches]
        self.answers, self._dense_seconds = self._embedded(original)

    def model(self) -> Embedder:
        """A copy of the original."""
        return copy.deepcopy(self.original)

    def batches(self, _seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Sentences, and the states of their tokens in the original."""
        part = slice(epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch)
        yield from zip(self._batches[part], self._states[part], strict=True)

    def loss(self, model: Embedder, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Error of the states plus one minus the cosine of the embeddings."""
        states, target = model.states(batch[0]), batch[1]
        error = (states - target).square().sum() / target.square().sum()
        return error + 1 - (pooled(states) * pooled(target)).sum(1).mean()

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Held-out sentences, and their embeddings by the original."""
        batches = [batch for part in self._held_out.values() for batch in part]
        yield from zip(batches, self.answers.split([len(b) for b in batches]), strict=True)

    def score(self, model: nn.Module) -> float:
        """Mean cosine to the original on all held-out sentences."""
        return float(self._cosines(self._embedded(model)[0]).mean())

    def example(self) -> Tensor:
        """A batch of sentences."""
        return self._batches[0]

    def measure(self, model: nn.Module) -> Row:
        """Fidelity and time of a model: score, scores, inference_seconds and their ratio.

        "rank_correlation" is Spearman's, of the cosines of all pairs of held-out sentences
        against those that the original gives; the other scores are the mean cosine to the
        original on each text.
        """
        found, seconds = self._embedded(model.eval())
        cosines = self._cosines(found)
        sizes = [sum(len(batch) for batch in part) for part in self._held_out.values()]
        parts = zip(self._held_out, cosines.split(sizes), strict=True)
        pairs = torch.triu_indices(len(found), len(found), offset=1)
        alike, wanted = ((x @ x.T)[pairs[0], pairs[1]] for x in (found, self.answers))
        return {
            "score": short(float(cosines.mean())),
            "scores": {
                "rank_correlation": short(float(spearmanr(alike, wanted).statistic)),
                **{name: short(float(part.mean())) for name, part in parts},
            },
            "inference_seconds": short(seconds),
            "inference_over_dense": short(seconds / self._dense_seconds),
        }

    def one_point(self) -> float:
        """Mean cosine of the best model that gives every sentence the same embedding."""
        point = nn.functional.normalize(self.answers.sum(0), dim=0)
        return float(self._cosines(point).mean())

    def _cosines(self, found: Tensor) -> Tensor:
        return (found * self.answers).sum(1)

    @torch.no_grad()
    def _embedded(self, model: nn.Module) -> tuple[Tensor, float]:
        """Embeddings of all held-out sentences, and the CPU seconds for them."""
        begin = time.process_time()
        found = [model(batch) for part in self._held_out.values() for batch in part]
        return torch.cat(found), time.process_time() - begin
