"""Tables of what learning the structure is worth, over all data sets or for one."""

from collections.abc import Sequence

from benchmarks.experiments.judged import Judged
from benchmarks.experiments.samples import Sample, minus
from benchmarks.reporting.tables import Table, number, percent

#: Rivals of the table of differences, in its order.
_RIVALS = {
    "fixed": "minus best fixed structure",
    "frozen": "minus own start, held",
    "ceiling": "minus single entries",
    "dense": "minus dense",
}
_PLACE = ["data", "budget"]


def worth(every: Sequence[Judged]) -> Table:
    """Learned structure against the best fixed one, its own start, its ceiling and dense."""
    lines = []
    for one in every:
        cells = [_marked(one, rival) for rival in _RIVALS]
        if one.cases.get("fixed") and cells[0] != "–":
            cells[0] += f" ({one.cases['fixed']})"
        score = one.runs.metric.within(one.learned)
        lines.append([*_place(one), str(one.learned.count), score, *cells])
    note = (
        "Scores of learned GBLR, and differences to each rival paired over the seeds, ± standard "
        "errors; clear ones are bold. The best fixed structure of each budget, named in brackets, "
        "is chosen on validation data. Its own start, held, trains the contents of random places. "
        "Single entries are learned without any structure and counted once each, without the "
        "price of their positions. For perplexity less is better."
    )
    return Table("Worth of learning", note, [*_PLACE, "seeds", "learned", *_RIVALS.values()], lines)


def spent(every: Sequence[Judged]) -> Table:
    """Multiplications and time of training and inference, over those of the dense network."""
    lines = [
        [
            *_place(one),
            percent(one.mean("learned", "relative_cost")),
            *(number(one.mean(part, "inference_over_dense")) for part in ("learned", "fixed")),
            percent(one.mean("learned", "training_cost")),
            *(number(one.over_dense("train_seconds", part)) for part in ("learned", "fixed")),
        ]
        for one in every
    ]
    note = (
        "All over those of the dense network, means over the seeds; fixed: the best fixed "
        "structure of the table above. Multiplications of the training are those of the places "
        "that each pass ends with; until the last projection they are made by a dense weight, so "
        "they take dense time. Times are those of one process on "
        f"{', '.join(dict.fromkeys(one.runs.result['machine']['cpu'] for one in every))}; "
        "networks multiply one batch in turns."
    )
    headers = ["inference multiplications", "inference time", "inference time, fixed"]
    headers += ["training multiplications", "training time", "training time, fixed"]
    return Table("Multiplications and time", note, [*_PLACE, *headers], lines)


def learning(every: Sequence[Judged]) -> Table:
    """Training scores beside test scores, the worth of the places alone, and their turnover."""
    lines = [
        [
            *_place(one),
            *(_scores(one, part) for part in ("learned", "fixed", "dense")),
            one.runs.metric.change(one.gap("frozen", "alone")),
            percent(one.mean("learned", "turnover")),
        ]
        for one in every
    ]
    note = (
        "Scores on examples of the training set / on the test set, means over the seeds. Places "
        "alone: the learned structure with contents drawn afresh and trained, minus the start "
        "held. Turnover: the share of the final entries that the start would not have kept."
    )
    headers = ["learned: training / test", "best fixed", "dense", "places alone", "turnover"]
    return Table("Training scores, places and turnover", note, [*_PLACE, *headers], lines)


def kinds_learned(every: Sequence[Judged]) -> Table:
    """Each kind learned, minus the same kind fixed at equal cost."""
    kinds = dict.fromkeys(name for one in every for name in one.runs.learned_kinds)
    lines = []
    for one in every:
        gaps = [_learned_minus_fixed(one, name) for name in kinds]
        if any(gaps):
            lines.append([*_place(one), *(one.runs.metric.change(gap) for gap in gaps)])
    note = (
        "The same kind of structure, learned minus fixed, paired over the seeds, ± standard "
        "error: tiles, and ranks of tiles, that the training chose against an even choice."
    )
    return Table("Other kinds, learned", note, [*_PLACE, *kinds], lines)


def _learned_minus_fixed(one: Judged, kind: str) -> Sample | None:
    pair = one.runs.learned_kinds.get(kind)
    if pair is None:
        return None
    found = [one.runs.anywhere(name, one.budget, one.runs.models[0]) for name in pair]
    return minus(*found)


def _place(one: Judged) -> list[str]:
    return [one.runs.title, percent(one.budget)]


def _marked(one: Judged, rival: str) -> str:
    """Difference to a rival ± standard error, bold where it is clear."""
    text = one.runs.metric.change(one.gap(rival))
    return f"**{text}**" if one.gain(rival) else text


def _scores(one: Judged, part: str) -> str:
    found = [one.figure(part, key) for key in ("train_score", "score")]
    form = one.runs.metric.form
    return " / ".join("–" if s is None else f"{s.mean:{form}}" for s in found)
