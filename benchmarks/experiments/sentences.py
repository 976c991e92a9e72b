"""Sentences of the page whose figures come from the results.

``{GBLR@0.2}`` in a text becomes "mean ± standard deviation" of that case at that budget,
and ``{GBLR-Monarch@0.2}`` the difference, paired over seeds, "± its standard error".
``{bcsstk16: GBLR@0.2}`` says which matrix or network, where a file has several, and
``{GBLR@0.2:wikitext2}`` which of the further scores.
"""

import json
import re
from collections.abc import Sequence

from benchmarks.experiments.samples import Runs, Sample, change, spread
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


def sentences(runs: Runs, key: str) -> list[str]:
    """One of the config's lists, checked and filled in."""
    texts = runs.result["config"].get(key, [])
    for text in texts:
        _refuse_typed_figures(runs, text)
    return [fill(runs, text) for text in texts]


def fill(runs: Runs, text: str) -> str:
    """Figures in the place of placeholders.

    Raises
    ------
    BenchmarkError
        If a placeholder names what the result has not.
    """
    return PLACEHOLDER.sub(lambda match: _figure(runs, match[1]), text)


def _figure(runs: Runs, wanted: str) -> str:
    match = WANTED.fullmatch(wanted)
    if match is None:
        raise _unknown(runs, wanted)
    model = match["model"] or (runs.models[0] if len(runs.models) == 1 else "")
    if model not in runs.models:
        raise _unknown(runs, wanted)
    at = float(match["budget"]), model, match["score"]
    cases = match["cases"]
    if _group(runs, cases):
        sample = _sample(runs, cases, *at)
        if sample is not None:
            return spread(sample, runs.metric)
    # Names may have hyphens of their own, so every one is tried.
    for hyphen in re.finditer("-", cases):
        first, second = cases[: hyphen.start()].strip(), cases[hyphen.end() :].strip()
        if _group(runs, first) and _group(runs, second):
            left, right = _sample(runs, first, *at), _sample(runs, second, *at)
            gap = left.minus(right) if left else None
            if gap is not None:
                return change(gap, runs.metric)
    raise _unknown(runs, wanted)


def _group(runs: Runs, case: str) -> str | None:
    return next((g for g in ("kinds", "ablations") if case in runs.cases(g)), None)


def _sample(runs: Runs, case: str, budget: float, model: str, score: str | None) -> Sample | None:
    return runs.sample(case, budget, model, _group(runs, case) or "", score)


def _unknown(runs: Runs, wanted: str) -> BenchmarkError:
    known = ", ".join([*runs.cases(), *runs.cases("ablations")])
    budgets = ", ".join(f"{b:g}" for b in sorted({*runs.budgets(), *runs.budgets("ablations")}))
    models = f"; models {', '.join(runs.models)} (MODEL: before it)" if len(runs.models) > 1 else ""
    return BenchmarkError(
        f"{runs.result['experiment']}: {{{wanted}}} in a text; expected {{CASE@BUDGET}} or "
        f"{{CASE-CASE@BUDGET}} with scores: cases {known}; budgets {budgets}{models} "
        "(mend the text or run the experiment)"
    )


def _refuse_typed_figures(runs: Runs, text: str) -> None:
    """Only settings may be typed; what was measured must be computed."""
    config = runs.result["config"]
    settings = json.dumps({key: value for key, value in config.items() if key not in TEXTS})
    known = {float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", settings)}
    known |= {round(100 * figure, 6) for figure in known}
    known.add(float(len({row["seed"] for row in runs.done})))
    typed = [n for n in NUMBER.findall(PLACEHOLDER.sub("", text)) if float(n) not in known]
    if typed:
        raise BenchmarkError(
            f"{runs.result['experiment']}: {typed[0]} in {text!r} is no setting of the config; "
            "expected figures that are computed (write {CASE@BUDGET})"
        )


def standing(runs: Runs) -> list[list[str]]:
    """A line a network, budget and learned case: scores, best other kind, differences."""
    lines = []
    for model, budget in runs.places:
        for name in runs.learned:
            sample, rival = _against(runs, name, budget, model)
            if sample is None or sample.count < 2:
                continue
            dense = runs.sample(runs.dense, budget, model) if runs.dense else None
            lines.append([
                runs.result["experiment"], model, percent(budget), name,
                spread(sample, runs.metric),
                f"{rival[0]}: {spread(rival[1], runs.metric)}" if rival else "–",
                change(sample.minus(rival[1]), runs.metric) if rival else "–",
                change(sample.minus(dense), runs.metric),
            ])  # fmt: skip
    return lines


def worth(runs: Runs) -> list[list[str]]:
    """A line a network and budget: the method against structures that are not learned.

    They are the ablations whose names say "frozen" or "fixed", and "random" or "grid";
    of several grids, the best at that budget.
    """
    lines = []
    still = [n for n in runs.cases("ablations") if re.search("frozen|fixed", n, re.IGNORECASE)]
    for model in runs.models:
        for budget in runs.budgets("ablations"):
            method = runs.sample(runs.learned[0], budget, model) if runs.learned else None
            if method is None or method.count < 2:
                continue
            cells = []
            for word in ("random", "grid"):
                names = [n for n in still if word in n.lower()]
                best = runs.best(names, budget, model, "ablations")
                gap = change(method.minus(best[1]), runs.metric) if best else "–"
                cells.append(f"{gap} ({best[0]})" if best else gap)
            if cells != ["–", "–"]:
                own = [runs.result["experiment"], model, percent(budget)]
                lines.append([*own, spread(method, runs.metric), *cells])
    return lines


def wins(runs: Runs) -> list[str]:
    """A sentence a network and learned case on how often its mean is the best."""
    found = []
    for model in runs.models:
        for name in runs.learned:
            held = [_against(runs, name, budget, model) for budget in runs.budgets()]
            fair = [(s, rival[1]) for s, rival in held if s and s.count > 1 and rival]
            sign = 1 if runs.metric.higher else -1
            won = sum(sign * (sample.mean - other.mean) > 0 for sample, other in fair)
            if fair:
                where = runs.result["experiment"] + (f", {model}" if len(runs.models) > 1 else "")
                found.append(f"{where}: {name} has the best mean at {won} of {len(fair)} budgets.")
    return found


def losses(runs: Runs) -> list[str]:
    """Where a learned case does not come first, and which ablations are no worse than it."""
    found: dict[str, list[str]] = {}
    sign = 1 if runs.metric.higher else -1
    for model, budget in runs.places:
        for name in runs.learned:
            sample, rival = _against(runs, name, budget, model)
            gap = sample.minus(rival[1]) if sample and rival else None
            if rival and gap and sign * gap.mean <= 0:
                where = f"{rival[0]} at {percent(budget)} ({change(gap, runs.metric)})"
                found.setdefault(f"{model}: {name} is not better than", []).append(where)
        method = runs.sample(runs.learned[0], budget, model) if runs.learned else None
        for name in runs.cases("ablations"):
            sample = runs.sample(name, budget, model, "ablations")
            gap = sample.minus(method) if sample else None
            if gap and sign * gap.mean >= 0:
                where = f"at {percent(budget)} ({change(gap, runs.metric)})"
                start = f"{model}: “{name}” is no worse than the method as it is"
                found.setdefault(start, []).append(where)
    return [f"{start} {', '.join(places)}." for start, places in found.items()]


def undone(runs: Runs, planned: Sequence[tuple[str, str, float, int]]) -> list[str]:
    """What was left out and why, and how many runs are still to be made."""
    done = {(r["group"], r["case"], r["budget"], r["seed"]) for r in runs.every}
    missing = [key for key in planned if key not in done]
    skipped: dict[str, None] = {}
    for row in runs.every:
        if "skipped" in row:
            where = f"{row['case']}, {row['model']} at {percent(row['budget'])}"
            skipped[f"{where}: {row['skipped']}."] = None
    rest = f"{len(missing)} of {len(planned)} runs are still to be made."
    return [*skipped, *([rest] if missing else [])]


def _against(
    runs: Runs, name: str, budget: float, model: str
) -> tuple[Sample | None, tuple[str, Sample] | None]:
    return runs.sample(name, budget, model), runs.best(runs.others, budget, model)
