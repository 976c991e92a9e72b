"""Judgement of advice: what gradients foretell of learning, and fits of trained weights.

The gain of learning is that of GBLR learned over GBLR whose strips stay. Beside it stands what
the gradients of the fresh network say: the share of their effect on the outputs of a layer that
row runs of the same cost leave undone.

A trained network has its layers replaced by quick fits of each kind, as `structmat.nn.advise`
makes them: their errors, the loss that they leave, and the accuracy after a little training.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.experiments.advice_networks import NETWORKS, Network
from benchmarks.experiments.config import KINDS, Report
from benchmarks.results import BenchmarkError, Row, short
from structmat.errors import BudgetError
from structmat.learn.tasks import ImageTask, is_inner
from structmat.learn.train import train
from structmat.nn import Config, StructuredLinear, StructuredWeight, convert_
from structmat.nn.advice.trials import KINDS as TRIED
from structmat.nn.advice.trials import quick_fits
from structmat.nn.anneal.gblr import RUN_CHARGE
from structmat.nn.models.modules import put_module
from structmat.nn.models.trace import collect_grams
from structmat.project.runs import project_runs

#: Batches that gradients and inputs are taken from.
BATCHES = 16
#: Share of the training that follows on a replacement.
FINE = 8
#: Case in which each layer has the kind that raises the loss least when it alone is replaced.
MIXED = "by layer"
#: Ridge of a fit to inputs, over their mean variance.
RIDGE = 1e-6
FloatArray = NDArray[np.float64]


def run(config: dict[str, Any], data_dir: Path, done: list[Row], report: Report) -> Iterator[Row]:
    """Train the networks, and yield a row for each training and each replacement.

    Parameters
    ----------
    config : dict
        "gains" and "weights": budgets by the names of networks; "seeds".
    data_dir : Path
    done : list of dict
        Rows of an earlier run, which are not made again.
    report : callable
        ``report(what, done, total)`` before each row that is made.

    Yields
    ------
    dict
        Rows of the groups "gains" and "weights", with "score" for the accuracy on the test set.

    Raises
    ------
    BenchmarkError
        If the config names an unknown network.
    """
    heads = list(_heads(config))
    finished = {_key(row) for row in done}
    tasks: dict[str, ImageTask] = {}
    trained: dict[tuple[str, int], nn.Module] = {}
    for count, head in enumerate(heads):
        if _key(head) in finished:
            continue
        name, seed = head["matrix"], head["seed"]
        if name not in tasks:
            tasks[name] = NETWORKS[name].task(data_dir)
        network, task = NETWORKS[name], tasks[name]
        report(f"{name}: {head['case']} at {head['budget']:g}", count, len(heads))
        try:
            if head["group"] == "gains":
                yield head | _gain(network, task, head)
                continue
            if (name, seed) not in trained:
                trained[name, seed] = _trained(network, task, None, head)
            yield head | _replaced(network, task, trained[name, seed], head)
        except BudgetError as reason:
            yield head | {"skipped": str(reason)}


def _heads(config: Mapping[str, Any]) -> Iterator[Row]:
    """Identities of all rows."""
    unknown = [n for key in ("gains", "weights") for n in config[key] if n not in NETWORKS]
    if unknown:
        raise BenchmarkError(f"network {unknown[0]!r}; expected among {', '.join(NETWORKS)}")
    for seed in config["seeds"]:
        for name, budgets in config["gains"].items():
            head = {"group": "gains", "matrix": name, "seed": seed}
            yield {**head, "case": "dense", "kind": "dense", "budget": 1.0}
            for budget in budgets:
                yield {**head, "case": "frozen", "kind": "gblr", "budget": budget}
                yield {**head, "case": "learned", "kind": "gblr", "budget": budget}
        for name, budgets in config["weights"].items():
            for budget in budgets:
                for kind in (*config["kinds"], MIXED):
                    head = {"group": "weights", "matrix": name, "seed": seed, "budget": budget}
                    yield {**head, "case": KINDS.get(kind, kind), "kind": kind}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("group", "matrix", "case", "budget", "seed"))


def _gain(network: Network, task: ImageTask, head: Row) -> Row:
    """Accuracies of one training, and for a learned one what its gradients said before."""
    learn = {"dense": None, "frozen": False, "learned": True}[head["case"]]
    row: Row = {}
    if learn:
        torch.manual_seed(head["seed"])
        row["unserved"] = short(_unserved(task, task.model(), head["budget"], head["seed"]))
    model = _trained(network, task, learn, head)
    train_score = task.score(model, task.train_batches())
    return row | {"score": short(task.score(model)), "train_score": short(train_score)}


def _trained(network: Network, task: ImageTask, learn: bool | None, head: Row) -> nn.Module:
    """The trained network: dense for None, or with fixed or learned GBLR layers."""
    torch.manual_seed(head["seed"])
    model, budget = task.model(), head["budget"]
    if learn is not None:
        generator = torch.Generator().manual_seed(head["seed"])
        config = Config(kind="gblr", budget=budget, learn=learn)
        convert_(model, config, is_inner, example=task.example(), generator=generator)
    budget = budget if learn else None
    train(task, model, network.settings, budget=budget, seed=head["seed"])
    return model.eval()


def _replaced(network: Network, task: ImageTask, dense: nn.Module, head: Row) -> Row:
    """Errors, loss and accuracy with all inner layers fitted, and accuracy after some training."""
    model = copy.deepcopy(dense)
    batches = _batches(task, head["seed"])
    layers = {name: m for name, m in model.named_modules() if is_inner(name, m)}
    readers = dict.fromkeys(layers.values(), lambda layer, x: x.reshape(-1, layer.in_features))
    grams = collect_grams(model, readers, [x for x, _ in batches])
    errors = []
    for name, layer in layers.items():
        W = layer.weight.detach()
        cap = math.floor(head["budget"] * W.numel())
        kinds = TRIED if head["kind"] == MIXED else [head["kind"]]
        fits = quick_fits(W, cap, grams[layer], kinds)
        if not fits:
            raise BudgetError(f"no matrix of {W.shape[0]}x{W.shape[1]} is so cheap")
        made = {
            k: StructuredLinear(StructuredWeight(f.matrix), layer.bias) for k, f in fits.items()
        }

        def rise(kind: str, name: str = name, made: dict[str, nn.Module] = made) -> float:
            alone = copy.deepcopy(dense)
            put_module(alone, name, made[kind])
            return _mean_loss(task, alone, batches)

        kind = min(fits, key=rise) if len(fits) > 1 else next(iter(fits))
        errors.append(fits[kind].error)
        put_module(model, name, made[kind])
    before, loss = task.score(model), _mean_loss(task, model, batches)
    settings = network.settings
    epochs = max(1, network.epochs // FINE)
    changed = {"epochs": epochs, "lr": settings.lr / 2, "contents_lr": None}
    train(task, model.train(), type(settings)(**(vars(settings) | changed)), seed=1)
    return {
        "dense_score": short(task.score(dense)),
        "error": short(float(np.mean(errors))),
        "loss": short(loss),
        "dense_loss": short(_mean_loss(task, dense, batches)),
        "score_before": short(before),
        "score": short(task.score(model.eval())),
    }


def _batches(task: ImageTask, seed: int) -> list[tuple[Tensor, Tensor]]:
    found = [batch for epoch in range(2) for batch in task.batches(seed, epoch)]
    return found[:BATCHES]


def _mean_loss(task: ImageTask, model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        return float(np.mean([float(task.loss(model.eval(), batch)) for batch in batches]))


def _unserved(task: ImageTask, model: nn.Module, budget: float, seed: int) -> float:
    """Mean over the layers of the share of the gradient's effect that runs leave undone.

    Runs are chosen and fitted to the outputs of a step along the mean gradient of half of the
    batches, and the gradient of the other half judges them.
    """
    layers = {name: m for name, m in model.named_modules() if is_inner(name, m)}
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    halves = {name: [torch.zeros_like(m.weight) for _ in range(2)] for name, m in layers.items()}
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _layer, args, _out, name=name: inputs[name].append(
                args[0].detach().flatten(0, -2)
            )
        )
    for k, batch in enumerate(_batches(task, seed)):
        model.zero_grad()
        task.loss(model, batch).backward()
        for name, layer in layers.items():
            halves[name][k % 2] += layer.weight.grad
    shares = []
    for name in layers:
        X = torch.cat(inputs[name]).double().numpy()
        covariance = np.cov(X, rowvar=False, bias=True)
        one, other = (half.double().numpy() for half in halves[name])
        cap = math.floor(budget * one.size)
        shares += [_left(one, other, covariance, cap), _left(other, one, covariance, cap)]
    return float(np.mean(shares))


def _left(gradient: FloatArray, judge: FloatArray, covariance: FloatArray, cap: int) -> float:
    """Share of the effect that both gradients agree on and runs of the first one lack."""
    sizes = np.sqrt(covariance.diagonal())
    kept, _ = project_runs((gradient * sizes) ** 2, cap, charge=RUN_CHARGE)
    fitted, wanted = np.zeros_like(gradient), gradient @ covariance
    ridge = RIDGE * covariance.diagonal().mean()
    for i, row in enumerate(kept):
        at = np.flatnonzero(row)
        normal = covariance[np.ix_(at, at)] + ridge * np.eye(len(at))
        fitted[i, at] = np.linalg.solve(normal, wanted[i, at])
    effect = judge @ covariance
    return float(1 - (fitted * effect).sum() / (gradient * effect).sum())
