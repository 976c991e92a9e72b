"""Sentences of the page whose figures come from the results.

``{GBLR@0.2}`` in a text becomes "mean ± standard deviation" of that case at that budget,
and ``{GBLR-Monarch@0.2}`` the difference, paired over seeds, "± its standard error".
``{bcsstk16: GBLR@0.2}`` says which matrix or network, where a file has several, and
``{GBLR@0.2:wikitext2}`` which of the further scores.
"""

import json
import re
from collections.abc import Sequence

from benchmarks.experiments.judged import best_fixed
from benchmarks.experiments.samples import ExperimentRuns, Sample, minus
from benchmarks.reporting.names import case_name, named, reason
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


def losses(runs: ExperimentRuns) -> list[str]:
    """Rivals that a learned case does not beat, and ablations that are no worse than it."""
    found: dict[str, list[str]] = {}

    def note(start: str, name: str, budget: float, gap: Sample) -> None:
        place = f"{name}at {percent(budget)} ({runs.metric.change(gap)})"
        found.setdefault(start, []).append(place)

    for model, budget in runs.places:
        where = f"{named(model)}: " if len(runs.models) > 1 else ""
        for name in runs.learned:
            sample, rival = _against(runs, name, budget, model)
            gap = minus(sample, rival[1]) if rival else None
            if rival and gap and runs.metric.sign * gap.mean <= 0:
                note(f"{where}{name} is not better than", f"{rival[0]} ", budget, gap)
        method = runs.sample(runs.method, budget, model)
        for name, sample in runs.ablations(budget, model).items():
            gap = minus(sample, method)
            if gap and runs.metric.sign * gap.mean >= 0:
                note(f"{where}“{case_name(name)}” is no worse than {runs.method}", "", budget, gap)
    return [f"{start} {', '.join(places)}." for start, places in found.items()]


def undone(runs: ExperimentRuns, planned: Sequence[tuple[str, str, float, int]]) -> list[str]:
    """Runs that were left out and why, and how many are still to be made."""
    done = {(r["group"], r["case"], r["budget"], r["seed"]) for r in runs.every}
    missing = [key for key in planned if key not in done]
    skipped: dict[tuple[str, str], list[str]] = {}
    for row in runs.every:
        if "skipped" in row:
            model = f", {named(row['model'])}" if len(runs.models) > 1 else ""
            key = f"{case_name(row['case'])}{model}", reason(row["skipped"])
            skipped.setdefault(key, []).append(percent(row["budget"]))
    left = [f"{n} at {', '.join(dict.fromkeys(at))}: {why}." for (n, why), at in skipped.items()]
    rest = f"{len(missing)} of {len(planned)} runs are still to be made."
    return [*left, *([rest] if missing else [])]


def _against(
    runs: ExperimentRuns, name: str, budget: float, model: str
) -> tuple[Sample | None, tuple[str, Sample] | None]:
    """Sample of a case, and the best case of fixed structure."""
    fixed = best_fixed(runs, budget, model)
    rival = runs.sample(fixed, budget, model)
    return runs.sample(name, budget, model), (fixed, rival) if fixed and rival else None
