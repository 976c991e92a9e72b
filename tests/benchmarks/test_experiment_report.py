"""Tables, plots and the page of experiments, on results made up for these tests."""

import json
import re
import statistics

import pytest

from benchmarks import machine
from benchmarks.experiments.report import figures, page
from benchmarks.experiments.report.sentences import fill, losses, sentences, undone
from benchmarks.experiments.report.tables import tables
from benchmarks.experiments.samples import METRICS, ExperimentRuns, Sample, minus
from benchmarks.results import BenchmarkError

SEEDS = (0, 1, 2)
#: Made up: accuracy at seed 0 of each case at each budget; seeds add what SHIFT says.
SCORES = {
    "GBLR": ("gblr", {0.2: 0.7, 0.4: 0.75}),
    "Monarch": ("monarch", {0.2: 0.68, 0.4: 0.77}),
    "low-rank": ("low_rank", {0.2: 0.6, 0.4: 0.65}),
}
SHIFT = {"dense": (0, 0.01, 0.02), "GBLR": (0, 0.02, 0.04), "Monarch": (0, 0.02, 0.01)}
ABLATIONS = {
    "structure frozen, at random": -0.05,
    "fixed grid, 8 tiles": -0.03,
    "fixed grid, 4 tiles": -0.02,
    "more steps": 0.01,
}


def row(case, kind, group, budget, seed, score, **more):
    return {
        "case": case,
        "kind": kind,
        "group": group,
        "budget": budget,
        "seed": seed,
        "model": "vit",
        "score": score,
        "scores": {"valid": score, "corrupted": score / 2},
        "relative_cost": 0.97 * budget if budget < 1 else 1.0,
        "relative_storage": budget,
        "train_seconds": 100 * budget if budget < 1 else 50.0,
        "inference_seconds": budget,
        "inference_over_dense": 1.5 * budget if budget < 1 else 1.0,
        "settings": {},
        "layers": [],
        "history": [{"step": 1, "loss": 2.0, "cost": 1.0}],
        **more,
    }


def made_up(metric="accuracy", **config):
    rows = [row("dense", "dense", "kinds", 1.0, s, 0.8 + SHIFT["dense"][s]) for s in SEEDS]
    for name, (kind, scores) in SCORES.items():
        for budget, score in scores.items():
            for seed in SEEDS:
                value = score + SHIFT.get(name, (0, 0, 0))[seed]
                learned = [
                    {"name": "0.fc", "relative_cost": 0.1 * (seed + 1)},
                    {"name": "1.fc", "relative_cost": budget},
                ]
                more = {"layers": learned if kind == "gblr" else []}
                rows.append(row(name, kind, "kinds", budget, seed, value, **more))
    for name, by in ABLATIONS.items():
        for seed in SEEDS[:2] if name == "more steps" else SEEDS:
            value = 0.7 + SHIFT["GBLR"][seed] + by + 0.001 * seed
            rows.append(row(name, "gblr", "ablations", 0.2, seed, value))
    for lr, score in ((0.001, 0.55), (0.004, 0.58)):
        settings = {"lr": lr}
        rows.append(
            row(f"GBLR, lr {lr}", "gblr", "tuning", 0.2, 0, score, settings=settings)
        )  # fmt: skip
    left_out = {"case": "pixelfly", "kind": "pixelfly", "group": "kinds", "budget": 0.2}
    rows.append(left_out | {"seed": 0, "model": "vit", "skipped": "no such matrix"})
    cases = [{"name": name, "kind": kind} for name, (kind, _) in SCORES.items()]
    cases += [{"name": "dense", "kind": "dense"}, {"name": "pixelfly", "kind": "pixelfly"}]
    return {
        "schema": 1,
        "experiment": "made_up",
        "command": "python -m benchmarks experiments run made_up --data-dir DIR",
        "machine": machine.facts(),
        "config": {
            "title": "Made-up images",
            "note": "Nothing of this was measured.",
            "metric": metric,
            "budgets": [0.2, 0.4],
            "seeds": [0, 1, 2],
            "settings": {"lr": 0.004},
            "cases": cases,
            **config,
        },
        "rows": rows,
    }


def table(result, title):
    (found,) = (t for t in tables(result) if t.title == title)
    return {line[0]: line[1:] for line in found.rows}, found


def test_samples_have_means_spreads_and_pairs():
    one, two = Sample({0: 1.0, 1: 3.0, 2: 8.0}), Sample({1: 1.0, 2: 2.0, 5: 9.0})
    assert one.mean == 4
    assert one.std == pytest.approx(statistics.stdev([1, 3, 8]))
    gap = minus(one, two)
    assert gap.values == {1: 2.0, 2: 6.0}
    assert (gap.mean, gap.error) == (4, pytest.approx(2))
    assert METRICS["accuracy"].change(gap) == "+4.00 ± 2.00"
    assert METRICS["cosine"].spread(Sample({3: 0.5})) == "0.5000"
    assert minus(one, Sample({9: 1.0})) is None
    assert minus(one, None) is None


def test_kinds_table_has_spread_seeds_cost_and_the_best_in_bold():
    lines, found = table(made_up(), "Kinds at equal cost")
    assert found.headers == ["network", "at 20 %", "at 40 %"]
    assert lines["GBLR"] == ["**72.00 ± 2.00** (3; 19.4 %)", "77.00 ± 2.00 (3; 38.8 %)"]
    assert lines["Monarch"] == ["69.00 ± 1.00 (3; 19.4 %)", "**78.00 ± 1.00** (3; 38.8 %)"]
    assert lines["dense"] == ["81.00 ± 1.00 (3; 100 %)"] * 2
    assert "Left out: pixelfly, 20 % (no such matrix)." in found.note
    assert "pixelfly" not in lines
    assert "**72.00" in found.markdown()
    assert "*" not in found.text()


def test_missing_budgets_and_seeds_are_dashes():
    result = made_up()
    result["rows"] = [r for r in result["rows"] if (r["case"], r["budget"]) != ("Monarch", 0.4)]
    result["rows"] = [r for r in result["rows"] if r["case"] != "low-rank" or r["seed"] == 1]
    lines, _ = table(result, "Kinds at equal cost")
    assert lines["Monarch"][1] == "–"
    assert lines["low-rank"][0] == "60.00 (1; 19.4 %)"


def test_diverged_runs_are_named_and_not_averaged():
    result = made_up()
    for own in result["rows"]:
        if (own["case"], own["seed"]) == ("Monarch", 2):
            own["score"] = own["scores"]["corrupted"] = None
    lines, found = table(result, "Kinds at equal cost")
    assert lines["Monarch"][0] == "69.00 ± 1.41 (2; 19.4 %)"
    assert "Monarch, 20 % (diverged: no finite score)" in found.note
    assert "Monarch at 20 %, 40 %: diverged: no finite score." in undone(ExperimentRuns(result), [])


def test_less_is_better_for_perplexity():
    lines, _ = table(made_up("perplexity"), "Kinds at equal cost")
    assert lines["low-rank"][0].startswith("**0.600 ± 0.000**")
    found = table(made_up("perplexity"), "Changes of the method")[1]
    assert "More is worse." in found.note


def test_ablations_are_paired_with_the_method():
    found = table(made_up(), "Changes of the method")[1]
    lines = {line[1]: line[2:] for line in found.rows}
    assert lines["GBLR as it is"] == ["72.00 ± 2.00 (3; 19.4 %)", "–"]
    # Seeds differ by 2 points, but in the same way on both sides.
    assert lines["fixed grid, 4 tiles"][1] == "**-1.90 ± 0.06**"
    assert lines["more steps"][1] == "**+1.05 ± 0.05**"
    result = made_up()
    for own in result["rows"]:
        if own["case"] == "more steps":
            own["score"] += 0.03 * own["seed"]
    lines = {line[1]: line[2:] for line in table(result, "Changes of the method")[1].rows}
    assert lines["more steps"][1] == "+2.55 ± 1.55"


def test_tuning_says_what_was_tried_and_what_is_used():
    found = table(made_up(), "Tuning")[1]
    assert found.rows == [
        ["GBLR", "20 %", "learning rate 0.001", "55.00 (1)", ""],
        ["GBLR", "20 %", "learning rate 0.004", "**58.00 (1)**", "yes"],
    ]


def test_rates_by_rule_stand_beside_the_grid_and_the_dense_rate():
    result = made_up()
    for rate, seed, score in (
        (0.004, 0, 0.5), (0.004, 1, 0.52), (0.016, 0, 0.6), (0.016, 1, 0.62), ("rule", 0, 0.59),
    ):  # fmt: skip
        name = f"Monarch, contents lr {rate}"
        more = {"rates": [0.008, 0.032]} if rate == "rule" else {}
        more["settings"] = {"contents_lr": rate}
        result["rows"].append(row(name, "monarch", "tuning", 0.2, seed, score, **more))
    assert "Tuning" not in [t.title for t in tables(result)]
    found = table(result, "Learning rates of contents")[1]
    assert found.rows == [
        ["GBLR", "20 %", "58.00", "58.00", "1", "–", "–"],
        ["Monarch", "20 %", "51.00 ± 1.41", "61.00 ± 1.41", "4", "59.00", "2, 8"],
    ]


def test_times_storage_and_layers():
    found = table(made_up(), "Time and storage")[1]
    lines = {(line[0], line[1]): line[2:] for line in found.rows}
    assert lines["GBLR", "20 %"] == ["20", "0.4", "0.3", "20 %"]
    assert lines["dense", "100 %"] == ["50", "1", "1", "100 %"]
    lines, _ = table(made_up(), "Learned cost of each layer")
    assert lines == {"0, fc": ["20 %", "20 %"], "1, fc": ["20 %", "40 %"]}
    assert ExperimentRuns(made_up()).layer_costs("vit")[0.2]["0.fc"] == pytest.approx(0.2)


def test_further_scores_have_tables_but_validation_has_not():
    titles = [t.title for t in tables(made_up())]
    assert "Kinds at equal cost: corrupted" in titles
    assert not any("valid" in title for title in titles)


def test_placeholders_become_figures():
    runs = ExperimentRuns(made_up())
    assert fill(runs, "At 20 %, {GBLR@0.2} here.") == "At 20 %, 72.00 ± 2.00 here."
    assert fill(runs, "{GBLR-Monarch@0.2}") == "+3.00 ± 1.00"
    assert fill(runs, "{GBLR-low-rank@0.2}") == "+12.00 ± 1.15"
    assert fill(runs, "{GBLR-dense@0.4}") == "-4.00 ± 0.58"
    assert fill(runs, "{more steps-GBLR@0.2}") == "+1.05 ± 0.05"
    assert fill(runs, "{vit: GBLR@0.2:corrupted}") == "36.00 ± 1.00"


@pytest.mark.parametrize(
    "text",
    [
        "{BLAST@0.2}",
        "{GBLR@0.3}",
        "{GBLR-BLAST@0.2}",
        "{GBLR}",
        "{}",
        "{pixelfly@0.2}",
        "{mixer: GBLR@0.2}",
        "{GBLR@0.2:unknown}",
        "{GBLR@0.2.1}",
    ],
)
def test_unknown_placeholders_are_refused(text):
    with pytest.raises(BenchmarkError, match=re.escape(text) + r" in a text; expected .*GBLR"):
        fill(ExperimentRuns(made_up()), text)


def test_sentences_may_hold_settings_but_no_typed_figures():
    fine = "On CIFAR-10 with ViT-S/4, at 20 % and 3 seeds: {GBLR@0.2}."
    assert sentences(ExperimentRuns(made_up(findings=[fine])), "findings") == [
        "On CIFAR-10 with ViT-S/4, at 20 % and 3 seeds: 72.00 ± 2.00."
    ]
    for typed in ("It gains 1.7 points.", "It reaches 72 %.", "GBLR has {GBLR@0.2}, or 99."):
        for key in ("findings", "negative", "not_tried"):
            with pytest.raises(BenchmarkError, match="no setting of the config; expected"):
                sentences(ExperimentRuns(made_up(**{key: [typed]})), key)


def test_losses_are_counted():
    assert losses(ExperimentRuns(made_up())) == [
        "“more steps” is no worse than GBLR at 20 % (+1.05 ± 0.05).",
        "GBLR is not better than Monarch at 40 % (-1.00 ± 1.00).",
    ]


def test_runs_without_a_method_are_no_changes_of_it():
    result = made_up()
    result["rows"] = [r for r in result["rows"] if (r["group"], r["kind"]) != ("kinds", "gblr")]
    _, found = table(result, "Other runs")
    assert found.headers == ["budget", "network", "accuracy in per cent"]
    assert {len(line) for line in found.rows} == {3}


def test_what_is_not_done_is_said():
    result = made_up()
    planned = page._planned(ExperimentRuns(result))
    assert undone(ExperimentRuns(result), planned) == [
        "pixelfly at 20 %: no such matrix.",
        "5 of 27 runs are still to be made.",
    ]
    result["rows"] += [
        {"case": "pixelfly", "kind": "pixelfly", "group": "kinds", "budget": b, "seed": s,
         "skipped": "no such matrix"} for b in (0.2, 0.4) for s in SEEDS
    ]  # fmt: skip
    runs = ExperimentRuns(result | {"config": result["config"] | {"model": "vit"}})
    assert undone(runs, planned) == ["pixelfly at 20 %, 40 %: no such matrix."]


def test_figures_are_drawn_and_small(tmp_path):
    drawn = figures.write(made_up(), tmp_path / "new")
    assert sorted(drawn) == ["made_up_ablations.png", "made_up_cost.png", "made_up_layers.png"]
    for name in drawn:
        content = (tmp_path / "new" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 40_000
    result = made_up()
    result["rows"] = [r for r in result["rows"] if r["case"] in ("Monarch", "pixelfly")]
    assert list(figures.write(result, tmp_path)) == ["made_up_cost.png"]
    styles = [tuple(style) for style in figures.STYLES.values()]
    assert len({colour for colour, _ in styles}) == len({m for _, m in styles}) == len(styles)


def matrices():
    rows = [
        {"case": case, "kind": kind, "group": "kinds", "matrix": name, "budget": b, "seed": 0,
         "score": score / b, "scores": {"spectral": score}, "relative_cost": b,
         "relative_storage": b, "seconds": 1.0}
        for name in ("kernel, exp(−r/5°)", "inverse")
        for case, kind, score in (("GBLR", "gblr", 0.001), ("BLAST", "blast", 0.002))
        for b in (0.1, 0.2)
    ]  # fmt: skip
    rows.append({"case": "BLAST", "kind": "blast", "group": "kinds", "matrix": "complex",
                 "budget": 0.1, "seed": 0, "skipped": "real matrices only"})  # fmt: skip
    config = {"title": "Matrices", "note": "Made up.", "metric": "error", "seeds": [0],
              "budgets": [0.1, 0.2], "findings": ["{inverse: GBLR-BLAST@0.1}."]}  # fmt: skip
    return made_up() | {"experiment": "matrices", "config": config, "rows": rows}


def test_matrices_have_a_table_and_a_panel_each(tmp_path):
    found = {t.title: t for t in tables(matrices())}
    kernel = found["Kinds at equal cost, kernel, exp(−r/5°)"]
    assert kernel.rows[0] == ["GBLR", "**0.01** (1; 10 %)", "**0.005** (1; 20 %)"]
    assert "Kinds at equal cost, complex" not in found
    assert list(figures.write(matrices(), tmp_path)) == ["matrices_cost.png"]
    assert len(figures.against(ExperimentRuns(matrices())).axes) == 2


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "docs" / "evidence.md")
    (tmp_path / "docs").mkdir()
    folder = tmp_path / "results"
    folder.mkdir()

    def add(result):
        (folder / f"{result['experiment']}.json").write_text(json.dumps(result), encoding="utf-8")

    add(made_up(findings=["Learning gains {GBLR-structure frozen, at random@0.2} points."]))
    add(matrices())
    return folder, add


def test_page_is_written_from_a_folder_of_results(results):
    folder, _ = results
    text = page.write(folder).read_text(encoding="utf-8")
    assert "Written by `python -m benchmarks experiments report`" in text.splitlines()[0]
    for heading in ("# Evidence", "## Fixed kinds at a tenth and more", "### Made-up images",
                    "## Matrices", "### Matrices", "## Run it again"):  # fmt: skip
        assert f"\n{heading}\n" in text
    assert "$ python -m benchmarks experiments run made_up --data-dir DIR\n" in text
    assert "- Learning gains +4.90 ± 0.06 points.\n" in text
    assert "- BLAST, complex at 10 %: real matrices only.\n" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count(" | ") for line in block.splitlines()}) == 1, block
    pictures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert len(pictures) == 4
    assert all((page.PAGE.parent / picture).stat().st_size > 0 for picture in pictures)
    assert str(folder.parent) not in text


def test_every_measured_figure_of_the_page_follows_the_file():
    result = made_up(findings=["Learning gains {GBLR-structure frozen, at random@0.2} points."])
    before = page.render([result], {})
    for own in result["rows"]:
        if own["case"] == "GBLR":
            own["score"] -= 0.3
    after = page.render([result], {})
    assert before.count("72.00 ± 2.00") == 2
    assert "72.00 ± 2.00" not in after
    assert "gains -25.10 ± 0.06 points" in after
    assert "GBLR is not better than Monarch at 20 % (-27.00 ± 1.00)" in after


def test_pages_without_results_or_with_wrong_ones_are_refused(results, tmp_path):
    folder, add = results
    with pytest.raises(BenchmarkError, match="expected results of experiments"):
        page.write(tmp_path)
    add(made_up(negative=["It loses 12.5 points."]))
    with pytest.raises(BenchmarkError, match=r"12\.5 in"):
        page.write(folder)
    assert not page.PAGE.exists()
    for wrong in (
        "{",
        "[]",
        "{}",
        json.dumps(made_up() | {"schema": 9}),
        json.dumps(made_up("luck")),
    ):
        (folder / "made_up.json").write_text(wrong, encoding="utf-8")
        with pytest.raises(BenchmarkError, match=r"made_up\.json is no .* run it again"):
            page.write(folder)


def test_commands_are_those_of_today_whatever_made_the_rows():
    text = page.render([made_up() | {"command": "python -m benchmarks former"}], {})
    assert "$ python -m benchmarks experiments run made_up --data-dir DIR\n" in text
    assert "Run by `python -m benchmarks former`" in text


def test_failed_checks_are_shown():
    result = made_up()
    result["rows"][0]["failures"] = ["cost above the cap"]
    assert "These checks failed:\n\n- cost above the cap" in page.render([result], {})
    assert "These checks failed" not in page.render([made_up()], {})
