"""Learned structures beside what they are judged by: one record for each budget of a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.experiments.samples import ExperimentRuns, Sample, minus

#: Standard errors that a difference has to exceed, and seeds it has to have, to be clear.
CLEAR, CLEAR_SEEDS = 2.0, 3


@dataclass(frozen=True)
class Judged:
    """A learned structure at one budget, its rivals, and the cases behind their names.

    Rivals are "fixed", the best fixed structure; "frozen", the learned one's own start, held;
    "alone", the learned structure with fresh contents; "ceiling", single entries; "dense".
    """

    runs: ExperimentRuns
    budget: float
    learned: Sample
    cases: Mapping[str, str]

    def score(self, rival: str) -> Sample | None:
        """Scores of a rival, or of the learned structure itself for "learned"."""
        return self.figure(rival, "score")

    def figure(self, rival: str, key: str) -> Sample | None:
        """Figures of a rival's rows, one a seed."""
        return self.runs.anywhere(self.cases.get(rival), self.budget, self.runs.models[0], key)

    def mean(self, rival: str, key: str) -> float | None:
        """Mean of such figures."""
        sample = self.figure(rival, key)
        return None if sample is None else sample.mean

    def over_dense(self, key: str, rival: str = "learned") -> float | None:
        """Mean of such figures over the dense network's."""
        own, dense = self.mean(rival, key), self.mean("dense", key)
        return own / dense if own is not None and dense else None

    def gap(self, rival: str, one: str = "learned") -> Sample | None:
        """Differences to a rival, paired over the seeds."""
        return minus(self.score(one), self.score(rival))

    def gain(self, rival: str) -> int | None:
        """1 if the learned structure is clearly better than a rival, -1 if worse, else 0.

        None where the seeds are too few to tell.
        """
        gap = self.gap(rival)
        if gap is None or gap.error is None or gap.count < CLEAR_SEEDS:
            return None
        if abs(gap.mean) <= CLEAR * gap.error:
            return 0
        return self.runs.metric.sign if gap.mean > 0 else -self.runs.metric.sign


def judged(runs: ExperimentRuns) -> list[Judged]:
    """Records of all budgets at which an experiment learned a structure beside a ceiling.

    The best fixed structure of each budget is chosen by scores on validation data, so its
    test score is no maximum over many.
    """
    return list(_judged(runs)) if "ceiling" in runs.beside else []


def _judged(runs: ExperimentRuns) -> Iterator[Judged]:
    model = next(iter(runs.models), "")
    for budget in runs.budgets():
        learned = runs.anywhere(runs.method, budget, model)
        if learned is None:
            continue
        cases = dict(runs.beside)
        cases |= {"learned": runs.method} if runs.method else {}
        cases |= {"dense": runs.dense} if runs.dense else {}
        fixed = best_fixed(runs, budget, model)
        cases |= {"fixed": fixed} if fixed else {}
        yield Judged(runs, budget, learned, cases)


def best_fixed(runs: ExperimentRuns, budget: float, model: str) -> str | None:
    """Case of fixed structure with the best mean validation score, or None without any.

    Older results without such scores take those of the test. A frozen start of the learned
    structure is a rival of its own.
    """
    for key in ("valid_score", "score"):
        found = {name: runs.anywhere(name, budget, model, key) for name in runs.others}
        means = {name: sample.mean for name, sample in found.items() if sample is not None}
        if means:
            return max(means, key=lambda name: runs.metric.sign * means[name])
    return None
