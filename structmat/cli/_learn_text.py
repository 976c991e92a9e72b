"""Text that `structmat learn` prints: a table, the files, and one sentence of what was seen."""

import statistics
from collections.abc import Iterable
from typing import Any

#: Name of GBLR layers whose blocks stay where a random start puts them.
FIXED = "gblr_fixed"


def outcome_text(results: dict[str, Any], files: dict[str, str]) -> str:
    """Table of an experiment, its files, and what was seen."""
    task, runs = results["task"], results["runs"]
    lines = [
        f"{task['data']}, {task['model']} ({task['size']}): {_many(len(task['seeds']), 'seed')}, "
        f"{_many(task['epochs'], 'epoch')}, structured layers at {task['budget']:g} of their dense "
        "multiplications",
        "",
        *_table(runs, task["metric"], results.get("left_out", {})),
        "",
    ]
    if "frozen" in results:
        frozen = results["frozen"]
        lines.append(
            f"frozen GBLR model: {frozen['bytes']} bytes; read again it predicts "
            f"{'the same' if frozen['same_predictions'] else 'OTHERWISE'} "
            f"(largest difference {frozen['largest_difference']:.2g})"
        )
    lines += [f"{what:<8}{path}" for what, path in files.items()]
    return "\n".join(lines + _seen(runs, task["metric"]))


def _seen(runs: list[dict[str, Any]], metric: str) -> list[str]:
    """Set learned blocks beside the best other kind, in one sentence."""
    scores = {
        kind: statistics.fmean(run["metric"] for run in runs if run["kind"] == kind)
        for kind in dict.fromkeys(run["kind"] for run in runs)
    }
    others = {kind: score for kind, score in scores.items() if kind not in ("gblr", "dense")}
    if "gblr" not in scores or not others:
        return []
    sign = -1 if metric == "perplexity" else 1
    best = max(others, key=lambda kind: sign * others[kind])
    own = [run for run in runs if run["kind"] == "gblr"]
    cost, seconds = _mean(own, "relative_cost"), _mean(own, "relative_inference")
    dense = f", and dense {scores['dense']:.4g}" if "dense" in scores else ""
    return [
        "",
        f"Seen: at {100 * cost:.3g} % of the multiplications and {100 * seconds:.2g} % of the "
        f"inference time of dense layers, learned blocks reach {scores['gblr']:.4g} ({metric}); "
        f"the best other structure, {best}, reaches {others[best]:.4g}{dense}.",
    ]


def _table(runs: list[dict[str, Any]], metric: str, left_out: Iterable[str]) -> list[str]:
    head = (
        f"{'kind':<15}{metric:>18}{'on training':>13}{'cost':>9}{'inference':>11}{'training':>10}"
    )
    lines = [head, "-" * len(head)]
    for kind in dict.fromkeys(run["kind"] for run in runs):
        own = [run for run in runs if run["kind"] == kind]
        score = _spread([run["metric"] for run in own])
        lines.append(
            f"{kind:<15}{score:>18}{_mean(own, 'train_metric'):>13.4f}"
            f"{_mean(own, 'relative_cost'):>9.4f}{_mean(own, 'relative_inference'):>11.2f}"
            f"{_mean(own, 'train_seconds'):>8.1f} s"
        )
    lines += [f"{kind:<15}{'–':>18}{'–':>13}   needs a larger budget" for kind in left_out]
    lines.append(
        f"{metric}: mean and standard deviation over seeds, on the test set, and the mean on as "
        "many training examples; cost: multiplications over the dense layers'; inference: time of "
        "the test set over the dense network's, turn by turn"
    )
    if left_out:
        lines.append(
            "a kind without figures has no matrices of so few multiplications: raise --budget "
            "(results.json says how many it needs)"
        )
    if {FIXED, "gblr"} <= {run["kind"] for run in runs}:
        lines.append(f"gblr learns its blocks; those of {FIXED} stay at random places")
    return lines


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")


def _mean(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.fmean(run[name] for run in runs)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"
