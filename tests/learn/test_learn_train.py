"""Training, its interruption and its end; the experiment and the command around it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from structmat.cli import main
from structmat.errors import FileFormatError, InputError, SaveError, TrainingError
from structmat.learn import _midway, _state
from structmat.learn import train as train_module
from structmat.learn._machine import processor
from structmat.learn._measure import totals
from structmat.learn._standardised import Standardised
from structmat.learn.data import Text, load_data
from structmat.learn.experiment import Experiment
from structmat.learn.settings import default_settings
from structmat.learn.tasks import ImageTask, TextTask, is_inner, make_task
from structmat.learn.train import Settings, train
from structmat.nn import Config, StructuredLinear, convert_, cost, load_model

SHORT = Settings(epochs=3, batch=256, anneal={"every": 0.25})
#: A single projection, from dense to the budget.
ONCE = {"every": 1.0}
#: Few large blocks in the given order: these networks have many layers.
COARSELY = {**ONCE, "orders": False, "charge": 64.0}
GAUDI = Settings(epochs=3, batch=256, structure="gaudi", oversize=2.0, revive_every=4)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task():
    return make_task(load_data("digits"), "mlp", "small", 256)


def learning(task, seed=0, **config):
    torch.manual_seed(seed)
    model, generator = task.model(), torch.Generator().manual_seed(seed)
    convert_(model, Config(budget=0.1, **config), is_inner, generator=generator)
    return model


def grid(task, seed=0):
    return learning(task, seed, learn="gaudi", oversize=2.0, options={"width_init": "grid"})


def values(model):
    return {name: p.clone() for name, p in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Interrupt(Exception):
    pass


def stopping_after(epochs):
    def progress(done, _all, _loss):
        if done == epochs:
            raise Interrupt

    return progress


@pytest.mark.parametrize(
    ("make", "settings"), [(learning, SHORT), (grid, GAUDI)], ids=["anneal", "gaudi"]
)
def test_a_resumed_training_ends_bit_identical(task, tmp_path, make, settings):
    whole = make(task)
    uninterrupted = train(task, whole, settings, budget=0.1)
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupt):
        train(task, make(task), settings, budget=0.1, state=path, progress=stopping_after(2))
    torch.manual_seed(12345)  # whatever else happened in between
    again = make(task, seed=0)
    resumed = train(task, again, settings, budget=0.1, state=path, resume=True)
    assert same(values(whole), values(again))
    assert resumed.history == uninterrupted.history
    # Once more: nothing is left to do, and nothing changes.
    done = make(task)
    once_more = train(task, done, settings, budget=0.1, state=path, resume=True)
    assert once_more.history == resumed.history
    assert same(values(done), values(again))


def test_without_resume_a_training_starts_anew(task, tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupt):
        train(task, learning(task), SHORT, budget=0.1, state=path, progress=stopping_after(1))
    model = learning(task)
    assert [r["epoch"] for r in train(task, model, SHORT, budget=0.1, state=path).history] == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 1e-4}, "lr"),
        ({"epochs": 5}, "epochs"),
        ({"sigma": (1.0, 100.0)}, "sigma"),
        ({"structure": "gaudi"}, "structure"),
        ({"anneal": {"charge": 3.0}}, "anneal"),
    ],
)
def test_the_state_of_another_training_is_refused(task, tmp_path, change, named):
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupt):
        train(task, learning(task), SHORT, budget=0.1, state=path, progress=stopping_after(1))
    with pytest.raises(FileFormatError, match=f"other {named}"):
        train(task, learning(task), replace(SHORT, **change), budget=0.1, state=path, resume=True)
    with pytest.raises(FileFormatError, match=r"does not fit|other"):
        train(task, grid(task), SHORT, budget=0.1, state=path, resume=True)


def test_the_state_of_other_data_is_refused(task, tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupt):
        train(
            task, task.model(), SHORT, state=path, progress=stopping_after(1), about={"data": "a"}
        )
    with pytest.raises(FileFormatError, match="other data"):
        train(task, task.model(), SHORT, state=path, resume=True, about={"data": "b"})


@pytest.mark.parametrize("damage", [b"", b"\x10\0\0\0\0\0\0\0{}", b"no safetensors at all"])
def test_a_damaged_state_is_refused(task, tmp_path, damage):
    path = tmp_path / "state.safetensors"
    path.write_bytes(damage)
    with pytest.raises(FileFormatError, match="without --resume"):
        train(task, learning(task), SHORT, budget=0.1, state=path, resume=True)


def test_values_of_an_optimizer_that_are_no_tensors_are_kept(tmp_path):
    path = tmp_path / "state.safetensors"
    model = torch.nn.Linear(3, 2)
    optimizer, again = (torch.optim.SGD(model.parameters(), momentum=0.5) for _ in range(2))
    optimizer.state[model.bias] = {"momentum_buffer": torch.ones(2), "pace": 0.25}
    _state.save(path, model, optimizer, (), {}, 1, {})
    _state.load(path, model, again, (), {})
    kept = again.state[model.bias]
    assert (kept["pace"], kept["momentum_buffer"].tolist()) == (0.25, [1, 1])


def test_moments_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.5)
    optimizer.state[model.bias] = {"momentum_buffer": torch.ones(4)}
    _state.save(path, model, optimizer, (), {}, 1, {})
    with pytest.raises(FileFormatError, match=r"momentum_buffer of parameter 1 has shape \(4,\)"):
        _state.load(path, model, optimizer, (), {})


def test_a_full_disk_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"old")
    model = torch.nn.Linear(3, 2)

    def full(*_, **__):
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(SaveError, match=r"No space left.*choose a folder with room enough"):
        _state.save(path, model, torch.optim.SGD(model.parameters()), (), {}, 1, {})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_no_number_stops_with_step_and_layer(task, tmp_path):
    path = tmp_path / "state.safetensors"

    class Breaking:
        def __getattr__(self, name):
            return getattr(task, name)

        def batches(self, seed, epoch):
            for i, (x, y) in enumerate(task.batches(seed, epoch)):
                yield (x * math.nan if (epoch, i) == (1, 2) else x), y

    model = learning(task)
    with pytest.raises(TrainingError, match=r"nan at step 7 \(epoch 2\).*layers\.0"):
        train(Breaking(), model, SHORT, budget=0.1, state=path)
    kept = learning(task)
    history = train(task, kept, SHORT, budget=0.1, state=path, resume=True).history
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert all(p.isfinite().all() for p in kept.parameters())


def test_history_tells_the_course_of_the_structure(task):
    history = train(task, grid(task), GAUDI, budget=0.1).history
    assert [record["step"] for record in history] == [5, 10, 15]
    assert history[-1]["cost"] <= 0.1 < history[0]["cost"]
    assert [record["sigma"] for record in history] == sorted(r["sigma"] for r in history)
    history = train(task, learning(task), SHORT, budget=0.1).history
    assert history[0]["cost"] == 1
    assert history[1]["cost"] == history[2]["cost"] <= 0.1
    assert all(record["sigma"] is None for record in history)
    dense = train(task, task.model(), SHORT).history
    assert all(record["sigma"] is record["cost"] is None for record in dense)


@pytest.mark.parametrize(("name", "value"), [("structure", "magic"), ("precision", "float16")])
def test_settings_of_other_values_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} = '{value}'; expected"):
        Settings(**{name: value})


def test_rules_of_a_callers_own_follow_the_training(task):
    steps = []

    def rules(model, optimizer, total):
        steps.append(total)
        return []

    train(task, task.model(), replace(SHORT, epochs=1), rules=rules)
    assert len(steps) == 1
    assert steps[0] > 0


def test_text_takes_the_gpt_alone():
    data = Text.__new__(Text)
    with pytest.raises(InputError, match="model = 'mlp' for text; expected 'gpt'"):
        make_task(data, "mlp", "small", 8)


@pytest.mark.parametrize("lines", ["model name\t: Some CPU\n", "", None])
def test_the_processor_has_a_name_everywhere(tmp_path, monkeypatch, lines):
    facts = tmp_path / "cpuinfo"
    if lines is not None:
        facts.write_text(lines)
    monkeypatch.setattr("structmat.learn._machine.CPU_FACTS", facts)
    name = processor()
    assert name == "Some CPU" if lines else name


def test_the_learning_rate_rises_and_falls():
    rates = [train_module._rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
    assert max(train_module._rate(step, 390, 0.05) for step in range(390)) == 1.0


@pytest.mark.parametrize("kind", ["gblr", "low_rank"])
def test_contents_may_learn_at_a_rate_of_their_own(task, kind):
    torch.manual_seed(0)
    model = task.model()
    convert_(model, Config(kind=kind, budget=0.3, learn=kind == "gblr" and "gaudi"), is_inner)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(task, model, Settings(epochs=1, batch=128, contents_lr=0.0))
    contents = {n for n, _ in model.named_parameters() if n.endswith((".u", ".v", ".U", ".V"))}
    assert contents
    for name, p in model.named_parameters():
        if "structure" not in name:
            assert torch.equal(p, before[name]) == (name in contents), name


def test_an_experiment_writes_what_it_says(task, tmp_path):
    outcome = Experiment(
        task=task,
        facts={"data": "digits", "model": "mlp", "size": "small", "note": ""},
        kinds=["dense", "gblr_fixed", "gblr"],
        budget=0.1,
        seeds=[0, 1],
        settings=SHORT,
        folder=tmp_path,
    ).run()
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["runs"] == json.loads(json.dumps(outcome.results["runs"]))
    assert [(r["kind"], r["seed"]) for r in results["runs"]] == [
        (kind, seed) for seed in (0, 1) for kind in ("dense", "gblr_fixed", "gblr")
    ]
    for run in results["runs"]:
        assert run["dense_cost"] == 64 * 256 + 256 * 256
        wanted = 1.0 if run["kind"] == "dense" else 0.1
        assert 0.9 * wanted <= run["relative_cost"] <= wanted
        assert sum(layer["cost"] for layer in run["layers"]) == run["cost"]
        assert run["inference_seconds"] > 0
        assert run["relative_inference"] > 0
        assert 0.1 < run["train_metric"] <= 1
    assert results["frozen"]["same_predictions"]
    assert results["frozen"]["largest_difference"] == 0
    model = load_model(tmp_path / "model.safetensors", task.model()).eval()
    assert isinstance(model.layers[0], StructuredLinear)
    assert cost(model).structured.cost == results["runs"][2]["cost"]
    assert task.score(model) == results["runs"][2]["metric"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "layers.0" in page
    assert page.count("Entries in use of layers.") == 2  # dense, half-way, blocks


def test_blocks_at_random_places_stay_there(task, tmp_path):
    experiment = Experiment(
        task=task, facts={}, kinds=["gblr_fixed"], budget=0.1, seeds=[0], settings=SHORT,
        folder=tmp_path,
    )  # fmt: skip
    torch.manual_seed(0)
    start, generator = task.model(), torch.Generator().manual_seed(0)
    convert_(start, Config(budget=0.1, learn=False), is_inner, generator=generator)
    model, record = experiment._one("gblr_fixed", 0, None)
    for before, after in zip(start.layers, model.layers, strict=True):
        first, last = before.to_matrix().to("numpy"), after.to_matrix().to("numpy")
        assert np.array_equal(first.coverage(), last.coverage())
        assert not np.array_equal(first.to_dense(), last.to_dense())
    assert record["train_metric"] != record["metric"]


def test_supports_of_older_experiments_are_refused_until_they_are_deleted(tmp_path):
    """They had no header; the report goes without them."""
    path = tmp_path / "gblr-0-midway.safetensors"
    safetensors.torch.save_file({"fc": torch.ones(3, 2, dtype=torch.bool)}, path)
    with pytest.raises(FileFormatError, match="delete it, and the report goes without"):
        _midway.read_supports(path)
    path.unlink()
    assert _midway.read_supports(path) == {}


def test_an_experiment_names_the_settings_that_matter(task, tmp_path):
    for settings in (SHORT, GAUDI):
        experiment = Experiment(
            task=task, facts={"data": "digits"}, kinds=["gblr"], budget=0.1, seeds=[0],
            settings=replace(settings, epochs=1), folder=tmp_path,
        )  # fmt: skip
        results = experiment.run().results
        (first,) = results["runs"][0]["history"]
        by_masks = settings is GAUDI
        assert results["task"]["structure"] == ("gaudi" if by_masks else "anneal")
        for name in ("sigma", "structure_lr", "ramp", "oversize", "revive_every"):
            assert (name in results["task"]) == by_masks
        assert ("anneal" in results["task"]) != by_masks
        assert (first["sigma"] is not None) == by_masks
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert ("The larger σ" in page) == by_masks
        model = load_model(tmp_path / "model.safetensors", task.model())
        assert (model.layers[1].to_matrix().kind == "gblr") or not by_masks


def test_learn_by_gaudi_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--epochs", "1", "--seeds", "1", "--kinds", "low_rank,gblr", "--structure-lr", "0.01"]
    assert main(["learn", "--size", "small", *words, "--structure", "gaudi", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["task"]["oversize"] == 2.0
    assert figures["task"]["structure_lr"] == 0.01
    assert "--structure gaudi --structure-lr 0.01" in figures["command"]


def test_learn_prints_a_table_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kinds = ["--size", "small", "--kinds", "low_rank,gblr_fixed,gblr"]
    words = ["learn", "--epochs", "1", "--seeds", "1", *kinds, "-o", "out"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "those of gblr_fixed stay at random places" in shown.out
    assert shown.out.splitlines()[2].split()[1:4] == ["accuracy", "on", "training"]
    assert "predicts the same" in shown.out
    assert "seed 0" in shown.err
    assert main([*words, "--resume", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["files"]["report"] == "out/report.html"
    assert figures["command"].startswith("structmat learn --data noisy-digits")
    assert str(tmp_path) not in json.dumps(figures)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kinds", "gblr,magic"], "expected some of"),
        (["--kinds", ","], "expected some of"),
        (["--model", "gpt"], "gpt"),
        (["--data", "cifar10"], "expected"),
        (["--data", "text", "--data-dir", "nowhere"], "nowhere"),
        (["--data", "text", "--data-dir", "nowhere", "--size", "full"], "nowhere"),
        (["--data", "text", "--data-dir", ".", "--model", "mlp"], "expected"),
        (["--kinds", "dense,low_rank,monarch", "--budget", "0.0001"], "expected at least"),
        (["--structure-lr", "0.01"], "expected none (or --structure gaudi)"),
        (["--kinds", "low_rank,gblr", "--tile", "8"], "expected block_sparse or block_low_rank"),
        (["--kinds", "block_sparse", "--group", "8"], "expected gblr among them (or no --group)"),
        (["--kinds", "gblr", "--group", "8", "--structure", "gaudi"], "expected learn=True"),
        (["--device", "abacus"], "--device abacus does not work here"),
        (["-o", "no/such/folder"], "cannot write"),
        (["-o", "a-file"], "is a file"),
    ],
)
def test_learn_refuses(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    assert main(["learn", "--epochs", "1", "--seeds", "1", *words]) == 1
    assert message in capsys.readouterr().err


def test_kinds_without_a_network_so_cheap_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kinds = ["--kinds", "low_rank,gblr_fixed,gblr", "--size", "small", "--data", "digits"]
    assert main(["learn", "--epochs", "1", "--seeds", "1", "--budget", "0.01", *kinds]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert [row[1:] for row in rows if row[:1] in (["low_rank"], ["gblr_fixed"])] == [
        ["–", "–", "needs", "a", "larger", "budget"]
    ] * 2
    assert "raise --budget" in shown
    results = json.loads((tmp_path / "structmat_learn/results.json").read_text(encoding="utf-8"))
    assert {run["kind"] for run in results["runs"]} == {"gblr"}
    assert list(results["left_out"]) == ["low_rank", "gblr_fixed"]
    assert "163 multiplications" in results["left_out"]["low_rank"]
    page = (tmp_path / "structmat_learn/report.html").read_text(encoding="utf-8")
    assert "GBLR, fixed: layer" in page


@pytest.mark.parametrize(
    "words", [["--budget", "0"], ["--seeds", "0"], ["--lr", "-1"], ["--model", "x"]]
)
def test_learn_refuses_words(words):
    with pytest.raises(SystemExit):
        main(["learn", *words])


def test_batches_depend_on_seed_and_epoch_alone(task):
    def first(seed, epoch):
        return next(iter(task.batches(seed, epoch)))[1]

    assert torch.equal(first(0, 3), first(0, 3))
    assert not torch.equal(first(0, 3), first(0, 4))
    assert not torch.equal(first(0, 3), first(1, 3))
    seen = torch.cat([y for _, y in task.batches(0, 0)])
    assert torch.equal(
        seen.sort().values, torch.from_numpy(load_data("digits").train_y).sort().values
    )


def test_augmentation_moves_and_flips_whole_images():
    x = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8) + 1
    images = Standardised(load_data("digits"), "train", "cpu")
    first, second = images.moves([60, 40], torch.Generator().manual_seed(0))
    many = x.repeat(50, 1, 1, 1)
    moved = torch.cat([first(many[:60]), second(many[60:])])
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    views = [
        [v, v.flip(-1)]
        for i in range(3)
        for j in range(3)
        for v in [padded[:, :, i : i + 8, j : j + 8]]
    ]
    places = set()
    for k, image in enumerate(moved):
        found = [i for i, pair in enumerate(views) for v in pair if torch.equal(image, v[k % 2])]
        assert found, "no shifted or flipped copy"
        places.update(found)
    assert len(places) == 9


@pytest.mark.parametrize("kind", ["images", "text"])
def test_batches_go_to_the_device(kind):
    part = np.tile(np.arange(97, 123, dtype=np.uint8), 40)
    if kind == "images":
        task = ImageTask(load_data("digits"), "mlp", "small", batch=64, augment=True, device="meta")
    else:
        text = Text("abc", part, part, part, "")
        task = TextTask(text, "gpt", "small", batch=2, steps=1, device="meta")
    for batches in (task.batches(0, 0), task.test_batches()):
        x, y = next(iter(batches))
        assert x.is_meta
        assert y.is_meta
    assert not task.example().is_meta


@pytest.mark.parametrize("learned", [True, False])
def test_bfloat16_multiplies_in_bfloat16_and_keeps_parameters(task, learned):
    losses = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = learning(task) if learned else task.model()
        seen = set()
        model.head.register_forward_hook(lambda m, x, y, seen=seen: seen.add(y.dtype))
        trained = train(
            task, model, replace(SHORT, precision=precision), budget=0.1 if learned else None
        )
        losses[precision] = trained.history[-1]["loss"]
        assert seen == {getattr(torch, precision)}
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    with pytest.raises(InputError, match="precision = 'half'"):
        Settings(precision="half")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, as it compiles
def test_compiled_training_learns_the_same(task):
    scores = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        model = learning(task)
        train(task, model, replace(SHORT, compiled=compiled), budget=0.1)
        scores[compiled] = values(model)
    assert scores[True].keys() == scores[False].keys()
    for name, value in scores[True].items():
        torch.testing.assert_close(value, scores[False][name], rtol=1e-3, atol=1e-4)


def test_a_training_is_compiled_where_that_is_asked_for(task, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    model = task.model()
    train(task, model, replace(SHORT, epochs=1, compiled=True))
    assert compiled == [model]
    train(task, model, replace(SHORT, epochs=1))
    assert compiled == [model]


def test_what_is_not_finite_is_named_by_the_model_itself(task, monkeypatch):
    monkeypatch.setattr(torch, "compile", torch.nn.Sequential)
    model = task.model()
    with torch.no_grad():
        model.layers[1].weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"the output of layer 'layers\.1' is not finite"):
        train(task, model, replace(SHORT, compiled=True, precision="bfloat16"))


def test_training_examples_are_scored_as_they_are():
    images = load_data("digits")
    task = ImageTask(images, "mlp", "small", batch=64, augment=True)
    batches = list(task.train_batches())
    assert sum(len(y) for _, y in batches) == task.sizes[1]
    assert np.array_equal(batches[0][0].numpy(), images.standardise(images.train_x[:512]))
    part = np.tile(np.arange(97, 123, dtype=np.uint8), 40)
    text = TextTask(Text("abc", part, part, part[:600], ""), "gpt", "small", batch=4)
    assert [x.shape for x, _ in text.train_batches()] == [x.shape for x, _ in text.test_batches()]


def test_text_is_scored_by_perplexity():
    rng = np.random.default_rng(0)
    part = rng.integers(97, 101, 3000).astype(np.uint8)
    data = Text("four letters", part, part, part, "")
    task = TextTask(data, "gpt", "small", batch=8, steps=2)
    model = task.model()
    score = task.score(model)
    assert 200 < score < 320  # at first, about any of 256 bytes
    x, y = next(task.batches(0, 0))
    assert torch.equal(x[:, 1:], y[:, :-1])
    train(task, model, Settings(epochs=2, batch=8, lr=1e-3))
    assert task.score(model) < 0.7 * score
    with pytest.raises(InputError, match="context"):
        TextTask(Text("short", part[:50], part, part, ""), "gpt", "small", batch=8)
    with pytest.raises(InputError, match="gpt"):
        make_task(data, "mlp", "small", 8)
    assert make_task(data, "gpt", "small", 8).metric == task.metric


# Sixteen layers are searched for blocks in each of the slow ones.
SLOW_MODELS = [pytest.param(name, marks=pytest.mark.slow) for name in ("mixer", "vit")]


@pytest.mark.parametrize("model", ["resnet", *SLOW_MODELS])
def test_every_image_model_learns_its_structure(model, tmp_path):
    data = load_data("digits")
    few = replace(data, train_x=data.train_x[:64], train_y=data.train_y[:64])
    few = replace(few, test_x=data.test_x[:32], test_y=data.test_y[:32])
    task = ImageTask(few, model, "small", batch=32, augment=True)
    settings = replace(default_settings("digits", model), epochs=1, batch=32, anneal=COARSELY)
    outcome = Experiment(
        task=task, facts={"data": "digits"}, kinds=["gblr"], budget=0.03, seeds=[0],
        settings=settings, folder=tmp_path,
    ).run()  # fmt: skip
    assert outcome.results["frozen"]["same_predictions"]
    assert outcome.results["runs"][0]["relative_cost"] <= 0.03
    run = outcome.results["runs"][0]
    assert any(layer["positions"] > 1 for layer in run["layers"])
    assert 0.015 < run["relative_storage"] <= 0.06


def test_the_gpt_learns_its_structure(tmp_path):
    part = np.tile(np.arange(97, 123, dtype=np.uint8), 40)
    size = {"dim": 64, "depth": 1, "heads": 2}
    task = TextTask(Text("abc", part, part, part, ""), "gpt", size, batch=2, steps=3)
    settings = replace(default_settings("text", "gpt"), epochs=1, batch=2, anneal=COARSELY)
    outcome = Experiment(
        task=task, facts={"data": "text"}, kinds=["gblr"], budget=0.03, seeds=[0],
        settings=settings, folder=tmp_path,
    ).run()  # fmt: skip
    assert outcome.results["frozen"]["same_predictions"]
    assert outcome.results["runs"][0]["relative_cost"] <= 0.03


def test_totals_of_no_layers():
    assert totals([])["relative_cost"] == 0
