"""Sentences of the page whose figures come from the results.

``{GBLR@0.2}`` in a text becomes "mean ± standard deviation" of that case at that budget,
and ``{GBLR-Monarch@0.2}`` the difference, paired over seeds, "± its standard error".
``{bcsstk16: GBLR@0.2}`` says which matrix or network, where a file has several, and
``{GBLR@0.2:wikitext2}`` which of the further scores.
"""

import json
import re
from collections.abc import Sequence

from benchmarks.experiments.samples import ExperimentRuns, Sample, minus
from benchmarks.reporting.tables import percent
from benchmarks.results import BenchmarkError

#: Lists of sentences that a config may have.
TEXTS = ("findings", "negative", "not_tried")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
WANTED = re.compile(
    r"(?:(?P<model>.+): )?(?P<cases>.+)@(?P<budget>\d+(?:\.\d+)?)(?::(?P<score>.+))?"
)
#: Numbers that are no part of a name such as CIFAR-10 or ViT-S/4.
NUMBER = re.compile(r"(?<![\w./-])\d+(?:\.\d+)?(?![\w/]|-\w)")


def sentences(runs: ExperimentRuns, key: str) -> list[str]:
    """Sentences of one of the config's lists, checked and filled in."""
    texts = runs.config.get(key, [])
    for text in texts:
        _refuse_typed_figures(runs, text)
    return [fill(runs, text) for text in texts]


def fill(runs: ExperimentRuns, text: str) -> str:
    """Text with figures in the place of its placeholders.

    Raises
    ------
    BenchmarkError
        If a placeholder names a case, budget or score that the result lacks.
    """
    return PLACEHOLDER.sub(lambda match: _figure(runs, match[1]), text)


def _figure(runs: ExperimentRuns, wanted: str) -> str:
    match = WANTED.fullmatch(wanted)
    if match is None:
        raise _unknown(runs, wanted)
    model = match["model"] or (runs.models[0] if len(runs.models) == 1 else "")
    if model not in runs.models:
        raise _unknown(runs, wanted)

    def sample(case: str) -> Sample | None:
        group = next((g for g in ("kinds", "ablations") if case in runs.cases(g)), "")
        return runs.sample(case, float(match["budget"]), model, group, match["score"])

    cases = match["cases"]
    if found := sample(cases):
        return runs.metric.spread(found)
    # Names may have hyphens of their own, so every one is tried.
    for hyphen in re.finditer("-", cases):
        first, second = cases[: hyphen.start()].strip(), cases[hyphen.end() :].strip()
        if gap := minus(sample(first), sample(second)):
            return runs.metric.change(gap)
    raise _unknown(runs, wanted)


def _unknown(runs: ExperimentRuns, wanted: str) -> BenchmarkError:
    known = ", ".join([*runs.cases(), *runs.cases("ablations")])
    budgets = ", ".join(f"{b:g}" for b in sorted({*runs.budgets(), *runs.budgets("ablations")}))
    models = f"; models {', '.join(runs.models)} (MODEL: before it)" if len(runs.models) > 1 else ""
    return BenchmarkError(
        f"{runs.name}: {{{wanted}}} in a text; expected {{CASE@BUDGET}} or "
        f"{{CASE-CASE@BUDGET}} with scores: cases {known}; budgets {budgets}{models} "
        "(mend the text or run the experiment)"
    )


def _refuse_typed_figures(runs: ExperimentRuns, text: str) -> None:
    """Only settings may be typed; measured figures must be computed."""
    settings = json.dumps({key: v for key, v in runs.config.items() if key not in TEXTS})
    known = {float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", settings)}
    known |= {round(100 * figure, 6) for figure in known}
    known.add(float(len({row["seed"] for row in runs.done})))
    typed = [n for n in NUMBER.findall(PLACEHOLDER.sub("", text)) if float(n) not in known]
    if typed:
        raise BenchmarkError(
            f"{runs.name}: {typed[0]} in {text!r} is no setting of the config; "
            "expected figures that are computed (write {CASE@BUDGET})"
        )


def standing(runs: ExperimentRuns) -> list[list[str]]:
    """Line for each network, budget and learned case: scores, best other kind, differences."""
    lines = []
    show = runs.metric
    for model, budget in runs.places:
        for name in runs.learned:
            sample, rival = _against(runs, name, budget, model)
            if sample is None or sample.count < 2:
                continue
            dense = runs.sample(runs.dense, budget, model)
            lines.append([
                runs.name, model, percent(budget), name, show.spread(sample),
                f"{rival[0]}: {show.spread(rival[1])}" if rival else "–",
                show.change(minus(sample, rival[1])) if rival else "–",
                show.change(minus(sample, dense)),
            ])  # fmt: skip
    return lines


def worth(runs: ExperimentRuns) -> list[list[str]]:
    """Line for each network and budget: the method against structures that are not learned.

    These are the ablations whose names say "frozen" or "fixed", and "random" or "grid"; of
    several grids, the best at that budget.
    """
    lines = []
    still = [n for n in runs.cases("ablations") if re.search("frozen|fixed", n, re.IGNORECASE)]
    for model in runs.models:
        for budget in runs.budgets("ablations"):
            method = runs.sample(runs.method, budget, model)
            if method is None or method.count < 2:
                continue
            cells = []
            for word in ("random", "grid"):
                names = [n for n in still if word in n.lower()]
                best = runs.best(names, budget, model, "ablations")
                gap = runs.metric.change(minus(method, best[1])) if best else "–"
                cells.append(f"{gap} ({best[0]})" if best else gap)
            if cells != ["–", "–"]:
                own = [runs.name, model, percent(budget)]
                lines.append([*own, runs.metric.spread(method), *cells])
    return lines


def wins(runs: ExperimentRuns) -> list[str]:
    """Sentence for each network and learned case: budgets at which its mean is the best."""
    found = []
    for model in runs.models:
        for name in runs.learned:
            held = [_against(runs, name, budget, model) for budget in runs.budgets()]
            fair = [(s, rival[1]) for s, rival in held if s and s.count > 1 and rival]
            won = sum(runs.metric.sign * (own.mean - other.mean) > 0 for own, other in fair)
            if fair:
                where = runs.name + (f", {model}" if len(runs.models) > 1 else "")
                found.append(f"{where}: {name} has the best mean at {won} of {len(fair)} budgets.")
    return found


def losses(runs: ExperimentRuns) -> list[str]:
    """Rivals that a learned case does not beat, and ablations that are no worse than it."""
    found: dict[str, list[str]] = {}

    def note(start: str, name: str, budget: float, gap: Sample) -> None:
        where = f"{name}at {percent(budget)} ({runs.metric.change(gap)})"
        found.setdefault(start, []).append(where)

    for model, budget in runs.places:
        for name in runs.learned:
            sample, rival = _against(runs, name, budget, model)
            gap = minus(sample, rival[1]) if rival else None
            if rival and gap and runs.metric.sign * gap.mean <= 0:
                note(f"{model}: {name} is not better than", f"{rival[0]} ", budget, gap)
        method = runs.sample(runs.method, budget, model)
        for name, sample in runs.ablations(budget, model).items():
            gap = minus(sample, method)
            if gap and runs.metric.sign * gap.mean >= 0:
                note(f"{model}: “{name}” is no worse than the method as it is", "", budget, gap)
    return [f"{start} {', '.join(places)}." for start, places in found.items()]


def undone(runs: ExperimentRuns, planned: Sequence[tuple[str, str, float, int]]) -> list[str]:
    """Runs that were left out and why, and how many are still to be made."""
    done = {(r["group"], r["case"], r["budget"], r["seed"]) for r in runs.every}
    missing = [key for key in planned if key not in done]
    skipped = {
        f"{row['case']}, {row['model']} at {percent(row['budget'])}: {row['skipped']}.": None
        for row in runs.every
        if "skipped" in row
    }
    rest = f"{len(missing)} of {len(planned)} runs are still to be made."
    return [*skipped, *([rest] if missing else [])]


def _against(
    runs: ExperimentRuns, name: str, budget: float, model: str
) -> tuple[Sample | None, tuple[str, Sample] | None]:
    """Sample of a case, and the best kind that is not learned."""
    return runs.sample(name, budget, model), runs.best(runs.others, budget, model)
