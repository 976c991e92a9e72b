"""Experiments: files that say what to run, runs that go on, rows that are kept."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.experiments import cases, config, runner, side_by_side, tasks, training
from benchmarks.results import BenchmarkError, Skip
from structmat.errors import InputError
from structmat.learn.tasks import is_inner
from structmat.nn import GaudiWeight

DIGITS = {
    "title": "digits",
    "note": "",
    "metric": "accuracy",
    "data": "digits",
    "model": "mlp",
    "size": {"width": 32},
    "examples": 512,
    "held_out": 200,
    "budgets": [0.2],
    "seeds": [0],
    "kinds": ["dense", "low_rank", "gblr"],
    "settings": {"epochs": 2, "batch": 128, "lr": 2e-3},
}
CONFIGS = sorted(file.stem for file in config.CONFIGS.glob("*.toml"))


def experiment(**changes):
    return config.parse("test", {**DIGITS, **changes})


def places(folder, data=None):
    return runner.Places(data=data, results=folder / "results", states=folder / "states")


def rows_of(path):
    return json.loads(path.read_text())["rows"]


def silent(text, done, total):
    pass


def job(case, budget=0.2, seed=0):
    case = config.Case(**{"name": "case", "kind": "low_rank", **case})
    return config.Job(case=case, budget=budget, seed=seed)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_that_is_shipped_is_sound(name):
    found = config.load(name)
    names = [job.name for job in found.jobs()]
    assert len(names) == len(set(names))
    assert found.task != "train" or len(names) > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metric": "beauty"}, "metric = 'beauty'"),
        ({"kinds": ["toeplitz"]}, "a kind = 'toeplitz'"),
        ({"cases": [{"name": "a"}]}, r"no \['kind'\]"),
        ({"cases": [{"name": "a", "kind": "gblr", "lr": 1}]}, r"has \['lr'\]"),
        ({"cases": [{"name": "a", "kind": "gblr", "rule": "x"}]}, "rule = 'x'"),
        ({"cases": [{"name": "GBLR", "kind": "gblr"}]}, "two cases"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(changes, complaint):
    with pytest.raises(BenchmarkError, match=complaint):
        experiment(**changes)


def test_tuning_is_made_of_the_kinds_and_has_budgets_and_seeds_of_its_own():
    found = experiment(seeds=[0, 1], tuning={"budgets": [0.1], "seeds": [7], "lr": [1e-3, 4e-3]})
    tuned = [job for job in found.jobs() if job.case.group == "tuning"]
    assert {job.seed for job in tuned} == {7}
    assert {job.budget for job in tuned} == {0.1, 1.0}
    assert [job.case.settings["lr"] for job in tuned if job.case.kind == "gblr"] == [1e-3, 4e-3]


def test_the_digits_compare_kinds_and_ways_to_learn(tmp_path):
    raw = dict(config.load("digits").raw)
    wanted = (
        "GBLR by Gaudi masks",
        "low rank at the learned cost of each layer",
        "Gaudi masks: splr start at 50 % width, published settings",
    )
    raw["cases"] = [entry for entry in raw["cases"] if entry["name"] in wanted]
    raw["settings"] = {**raw["settings"], "epochs": 1}
    raw |= {"kinds": ["dense", "pixelfly", "gblr"], "seeds": [0]}
    rows = rows_of(runner.run(config.parse("digits", raw), places(tmp_path), silent))
    learned = [row for row in rows if row["case"] == "GBLR"]
    assert len(learned) == 2
    assert {row["case"] for row in rows} == {"dense", "pixelfly", "GBLR", *wanted}
    assert all("score" in row for row in rows if row["case"] != "pixelfly")
    skipped = [(row["case"], row["budget"]) for row in rows if "skipped" in row]
    assert skipped == [("pixelfly", 0.05)]
    assert all(row["relative_cost"] <= row["budget"] for row in rows if "skipped" not in row)


def test_a_share_of_the_sides_may_be_given_in_place_of_the_budget():
    made = tasks.read_tasks(experiment(size={"width": 64}), None)
    model, example = made.task.model(), made.task.example()
    layers = cases.dense_layers(model, example)
    convert = {"start_rule": "equal", "width": 0.25, "learn_widths": False}
    cases.convert(model, example, job({"kind": "gblr", "convert": convert}, budget=0.9), None)
    # 64 blocks of 16 + 16 samples in a matrix of 64x64
    total = cases.totals(cases.layer_costs(model, layers))["relative_cost"]
    assert total == pytest.approx(0.5)


def test_rates_of_contents_are_tuned_where_there_are_contents():
    tuning = {"budgets": [0.1], "seeds": [0], "lr": [1e-3], "contents_lr": [4e-3, "rule"]}
    found = experiment(kinds=["dense", "low_rank", "alds", "blast"], tuning=tuning)
    names = [job.case.name for job in found.jobs() if job.case.group == "tuning"]
    low = ["low rank, contents lr 0.004", "low rank, contents lr rule"]
    assert names == ["dense, lr 0.001", *low, "BLAST, lr 0.001"]


def test_rates_by_rule_stand_in_the_row(tmp_path):
    tuning = {"budgets": [0.2], "seeds": [0], "contents_lr": [1e-2, "rule"]}
    found = experiment(kinds=["block_sparse"], tuning=tuning)
    only = ["block sparse, contents lr 0.01", "block sparse, contents lr rule"]
    given, ruled = rows_of(runner.run(found, places(tmp_path), silent, only=only))
    assert "rates" not in given
    lr = found.raw["settings"]["lr"]
    assert ruled["rates"] == [pytest.approx(lr * 32**0.5, rel=1e-3)]


def test_cases_that_build_on_others_come_after_them():
    like = {"name": "shares", "kind": "low_rank", "like": "GBLR", "group": "ablations"}
    order = [job.case.name for job in experiment(cases=[like]).jobs()]
    assert order.index("shares") > order.index("GBLR")


def test_a_run_goes_on_where_it_stopped_and_makes_nothing_twice(tmp_path):
    found = experiment()
    path = runner.run(found, places(tmp_path), silent, only=["dense"])
    assert [row["case"] for row in rows_of(path)] == ["dense"]
    first = rows_of(path)[0]
    path = runner.run(found, places(tmp_path), silent)
    rows = rows_of(path)
    assert [row["case"] for row in rows] == ["dense", "low rank", "GBLR"]
    assert rows[0] == first
    assert all(row["relative_cost"] <= 0.2 for row in rows[1:])
    asked = []
    runner.run(found, places(tmp_path), lambda *step: asked.append(step))
    assert asked == []


def test_published_rows_stand_without_their_states(tmp_path):
    found = experiment(kinds=["low_rank"])
    path = runner.run(found, places(tmp_path), silent)
    before = rows_of(path)
    elsewhere = runner.Places(data=None, results=path.parent, states=tmp_path / "other")
    asked = []
    runner.run(found, elsewhere, lambda *step: asked.append(step))
    assert asked == []
    assert rows_of(path) == before


def test_a_changed_recipe_makes_rows_out_of_date(tmp_path):
    runner.run(experiment(kinds=["low_rank"]), places(tmp_path), silent)
    settings = {**DIGITS["settings"], "lr": 1e-3}
    path = runner.run(experiment(kinds=["low_rank"], settings=settings), places(tmp_path), silent)
    assert len(rows_of(path)) == 1
    runner.collect(experiment(kinds=["low_rank"]), places(tmp_path))
    assert len(rows_of(path)) == 1  # those of the first recipe are still there


def test_parts_share_the_runs_between_them(tmp_path):
    found = experiment(kinds=["dense", "low_rank"], budgets=[0.2, 0.3])
    parts = [runner.run(found, places(tmp_path / str(i)), silent, part=(i, 2)) for i in (1, 2)]
    names = [[(row["case"], row["budget"]) for row in rows_of(path)] for path in parts]
    assert sorted(names[0] + names[1]) == [("dense", 1.0), ("low rank", 0.2), ("low rank", 0.3)]


LIKE = {"name": "shares", "kind": "low_rank", "like": "GBLR", "group": "ablations"}
CUT = {"name": "cut", "kind": "low_rank", "convert": {"start": "weights"}, "group": "ablations"}
AGAIN = {"name": "again", "kind": "low_rank", "structure": "shares", "group": "ablations"}


def test_runs_at_once_wait_for_those_that_they_build_on():
    found = experiment(cases=[AGAIN, LIKE, CUT])
    waves = [[job.case.name for job in wave] for wave in side_by_side.waves(list(found.jobs()))]
    assert waves == [["dense", "low rank", "GBLR"], ["cut", "shares"], ["again"]]


def at_once(tmp_path, **changes):
    """Rows of runs one after another, and of the same at once."""
    found, paths = experiment(kinds=["dense", "low_rank"], cases=[CUT], **changes), []
    for count in (1, 2):
        here = replace(places(tmp_path / str(count)), at_once=count)
        paths.append(runner.run(found, here, silent))
    timed = ("train_seconds", "inference_seconds", "inference_over_dense")
    return [[{k: v for k, v in r.items() if k not in timed} for r in rows_of(p)] for p in paths]


def test_runs_at_once_give_the_same_rows(tmp_path, monkeypatch):
    def here(count, work):
        return ThreadPoolExecutor(1, initializer=side_by_side.begin, initargs=(work,))

    monkeypatch.setattr(side_by_side, "pool", here)
    one_by_one, both = at_once(tmp_path, budgets=[0.05, 0.2])
    assert both == one_by_one
    assert {row["case"] for row in both} == {"dense", "low rank", "cut"}
    monkeypatch.setitem(CUT, "convert", {"start": "nowhere"})
    with pytest.raises(InputError, match="start = 'nowhere'"):
        at_once(tmp_path / "broken")


@pytest.mark.slow
def test_processes_share_a_device(tmp_path):
    one_by_one, both = at_once(tmp_path)
    assert both == one_by_one


def test_every_network_can_be_read_again(tmp_path):
    from structmat.nn import load_model

    found = experiment(kinds=["gblr"])
    path = runner.run(found, places(tmp_path), silent)
    made = tasks.read_tasks(found, None)
    file = next((tmp_path / "states" / "test").glob("*.safetensors"))
    model = load_model(file, made.task.model()).eval()
    assert not any(isinstance(m, GaudiWeight) for m in model.modules())
    assert made.task.score(model) == pytest.approx(rows_of(path)[0]["score"], abs=1e-4)


def test_tuning_sees_no_test_images(tmp_path, monkeypatch):
    found = experiment(kinds=["low_rank"], tuning={"budgets": [0.2], "seeds": [0], "lr": [1e-3]})
    made = tasks.read_tasks(found, None)
    assert len(made.valid._data.test_y) == 200
    assert len(made.task._data.train_y) == 512
    path = runner.run(found, places(tmp_path), silent, only=["low rank, lr 0.001"])
    assert rows_of(path)[0]["scores"] == {}
    # A share of the 200 held-out images.
    assert (rows_of(path)[0]["score"] * 200) % 1 == pytest.approx(0, abs=1e-6)


def test_more_examples_than_there_are_is_refused():
    with pytest.raises(BenchmarkError, match="at most 1057"):
        tasks.read_tasks(experiment(examples=1200), None)


def test_unknown_cases_are_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="expected among dense"):
        runner.run(experiment(), places(tmp_path), silent, only=["Dense"])


def test_layers_at_the_cost_of_other_layers():
    made = tasks.read_tasks(experiment(), None)
    shares = {"layers.0": 0.5, "layers.1": 0.01}
    row = {"case": "GBLR", "budget": 0.2, "seed": 0}
    row["layers"] = [{"name": n, "relative_cost": c} for n, c in shares.items()]
    like = job({"like": "GBLR"})
    found = cases.shares_of(like, [row], None, made.task.example())
    assert found == shares
    model = made.task.model()
    layers = cases.dense_layers(model, made.task.example())
    cases.convert(model, made.task.example(), like, found)
    costs = {r["name"]: r["relative_cost"] for r in cases.layer_costs(model, layers)}
    assert 0.45 < costs["layers.0"] <= 0.5
    assert costs["layers.1"] == 0  # too little for any rank
    with pytest.raises(BenchmarkError, match="run it first"):
        cases.shares_of(job({"like": "Monarch"}), [row], None, made.task.example())


def test_alds_takes_its_ranks_from_the_trained_network():
    made = tasks.read_tasks(experiment(), None)
    example, dense = made.task.example(), made.task.model()
    with torch.no_grad():  # of rank one: it needs no more
        dense.layers[1].weight.copy_(torch.outer(torch.ones(32), torch.ones(32)))
    like = job({"like": "alds"}, budget=0.4)
    shares = cases.shares_of(like, [], dense, example)
    assert shares["layers.1"] < shares["layers.0"]
    with pytest.raises(BenchmarkError, match="run the case 'dense' first"):
        cases.shares_of(like, [], None, example)


def test_totals_weigh_by_size_and_positions():
    rows = [
        {"relative_cost": 1.0, "relative_storage": 1.0, "size": 10, "positions": 1},
        {"relative_cost": 0.0, "relative_storage": 0.5, "size": 10, "positions": 3},
    ]
    assert cases.totals(rows) == {"relative_cost": 0.25, "relative_storage": 0.75}


@pytest.mark.parametrize("start", ["equal", "splr", "lr"])
def test_published_starts_cost_what_the_budget_says(start):
    made = tasks.read_tasks(experiment(size={"width": 64}), None)
    model, example = made.task.model(), made.task.example()
    layers = cases.dense_layers(model, example)
    case = {"kind": "gblr", "convert": {"start_rule": start, "learn_widths": False}}
    cases.convert(model, example, job(case, budget=0.25), None)
    total = cases.totals(cases.layer_costs(model, layers))["relative_cost"]
    assert total == pytest.approx(0.25, rel=0.1)


def test_a_kind_without_such_a_matrix_is_skipped(tmp_path):
    path = runner.run(experiment(kinds=["low_rank"], budgets=[1e-3]), places(tmp_path), silent)
    assert "expected at least" in rows_of(path)[0]["skipped"]
    model = tasks.read_tasks(experiment(), None).task.model()
    with pytest.raises(Skip):
        cases.convert(model, torch.zeros(1, 1, 8, 8), job({}, budget=1e-3), None)


def test_the_command_line(tmp_path, capsys):
    file = tmp_path / "tiny.toml"
    lines = [f"{k} = {json.dumps(v)}" for k, v in DIGITS.items() if not isinstance(v, dict)]
    text = "\n".join([*lines, "size = { width = 32 }", "[settings]", "epochs = 1", "batch = 256"])
    file.write_text(text.replace('["dense", "low_rank", "gblr"]', '["dense", "low_rank"]'))
    options = ["experiments", "--output", str(tmp_path)]
    assert main([*options, "run", str(file), "--states", str(tmp_path / "states")]) == 0
    assert "wrote tiny.json" in capsys.readouterr().out
    assert main([*options, "table", "tiny"]) == 0
    assert "low rank" in capsys.readouterr().out
    assert main([*options, "plot", "tiny", "--to", str(tmp_path / "plots")]) == 0
    assert list((tmp_path / "plots").glob("*.png"))
    assert main([*options, "table", "other"]) == 2
    assert "other: no result" in capsys.readouterr().err
    assert main(["experiments", "run", "nothing"]) == 2
    assert "expected one of" in capsys.readouterr().err
    device = ["--states", str(tmp_path / "others"), "--device", "abacus"]
    assert main(["experiments", "--output", str(tmp_path / "b"), "run", str(file), *device]) == 2
    assert "--device abacus does not work here" in capsys.readouterr().err
    elsewhere = ["run", "matrices", "--states", str(tmp_path / "m"), "--device", "cuda"]
    assert main(["experiments", "--output", str(tmp_path / "c"), *elsewhere]) == 2
    assert "measured on the CPU alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cuda", marks=pytest.mark.gpu),
        pytest.param("cpu", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_compiled_trainings_in_bfloat16_learn(tmp_path, device):
    # After two epochs, eight steps, a dense network may be at chance in any precision.
    settings = {"epochs": 12, "batch": 128, "precision": "bfloat16", "compiled": True, "lr": 4e-3}
    here = replace(places(tmp_path), device=device)
    found = experiment(settings=settings, kinds=["dense", "block_sparse", "monarch", "gblr"])
    for row in rows_of(runner.run(found, here, silent)):
        assert row["device"] == device
        assert row["score"] > 0.3
        assert row["inference_seconds"] > 0


def test_inner_layers_are_what_is_counted():
    made = tasks.read_tasks(experiment(), None)
    model = made.task.model()
    layers = cases.dense_layers(model, made.task.example())
    assert set(layers) == {name for name, m in model.named_modules() if is_inner(name, m)}
    assert layers["layers.0"] == (math.prod(model.layers[0].weight.shape), 1)


def test_text_is_scored_on_two_texts(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        (folder / f"classics_{part}.txt").write_bytes(b"the cat sat on the mat. \n" * 40)
    (folder / "wikitext2_test.txt").write_bytes(b"a dog stood on a log. \n" * 40)
    raw = {
        **{k: v for k, v in DIGITS.items() if k not in ("held_out",)},
        "metric": "perplexity",
        "data": "text",
        "model": "gpt",
        "size": {"dim": 16, "depth": 1, "heads": 2},
        "examples": 1000,
        "context": 16,
        "steps": 2,
        "scored": 256,
        "kinds": ["low_rank"],
        "budgets": [0.5],
    }
    path = runner.run(config.parse("text", raw), places(tmp_path, Path(tmp_path)), silent)
    row = rows_of(path)[0]
    assert set(row["scores"]) == {"wikitext2"}
    assert row["score"] > 1


def test_fine_tuning_begins_with_the_trained_dense_network(tmp_path):
    settings = {"epochs": 4, "batch": 32, "lr": 1e-2}
    runner.run(experiment(kinds=["dense"], settings=settings), places(tmp_path), silent)
    begin = {"convert": {"start": "weights"}, "settings": {"lr": 0.0}}
    chosen = dict.fromkeys(("dense", "alds", "low_rank", "gblr"), begin)
    kinds = ["dense", "alds", "low_rank", "gblr"]
    fitted = {"name": "calibrated", "kind": "low_rank", "calibrated": True, "budgets": [0.3]}
    plain = {"name": "plain", "kind": "low_rank", "budgets": [0.3]}
    more = [{**case, **begin} for case in (plain, fitted)]
    raw = {**DIGITS, "kinds": kinds, "chosen": chosen, "begin": "test", "budgets": [0.6]}
    path = runner.run(config.parse("finetune", raw | {"cases": more}), places(tmp_path), silent)
    scores = {row["case"]: row["score"] for row in rows_of(path)}
    # Nothing was learned.
    assert [row["scores"] for row in rows_of(path)] == [
        {training.AS_CUT: score} for score in scores.values()
    ]
    dense = rows_of(tmp_path / "results" / "test.json")[0]["score"]
    assert scores.pop("dense") == pytest.approx(dense)
    assert scores.pop("calibrated") > scores.pop("plain")
    assert all(0.6 * dense < score <= 1 for score in scores.values())


def test_fine_tuning_without_the_dense_network_says_what_to_run(tmp_path):
    chosen = {"low_rank": {"convert": {"start": "weights"}}}
    raw = {**DIGITS, "kinds": ["low_rank"], "chosen": chosen, "begin": "nothing"}
    with pytest.raises(BenchmarkError, match="run 'nothing' first"):
        runner.run(config.parse("finetune", raw), places(tmp_path), silent)


def test_a_run_that_is_interrupted_resumes_after_its_last_epoch(tmp_path, monkeypatch):
    from structmat.learn import train as training

    found, epochs, real = experiment(kinds=["gblr"]), [], training._epoch

    def epoch(*arguments):
        epochs.append(arguments[6])
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "_epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        runner.run(found, places(tmp_path), silent)
    path = runner.run(found, places(tmp_path), silent)
    assert epochs == [0, 1, 1]
    resumed = rows_of(path)[0]
    assert resumed["train_seconds"] is None
    whole = runner.run(found, places(tmp_path / "whole"), silent)
    assert resumed["score"] == rows_of(whole)[0]["score"]
    assert resumed["history"] == rows_of(whole)[0]["history"]


def test_a_state_of_another_training_is_thrown_away(tmp_path):
    found = experiment(kinds=["low_rank"])
    folder = tmp_path / "states" / "test"
    folder.mkdir(parents=True)
    (folder / "kinds-low-rank-0.2-0.state").write_bytes(b"of an older version")
    row = rows_of(runner.run(found, places(tmp_path), silent))[0]
    assert row["score"] > 0.1
    assert row["train_seconds"] is not None
