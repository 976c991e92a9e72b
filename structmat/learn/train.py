"""Training of a network with structured layers, resumable after each epoch."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from structmat.learn import _state
from structmat.learn._losses import Losses
from structmat.learn.settings import Settings
from structmat.learn.tasks import Task
from structmat.nn import (
    Anneal,
    AnnealWeight,
    BudgetProjection,
    GaudiWeight,
    SigmaSchedule,
    parameter_groups,
)
from structmat.nn.training.step_hook import Rule

__all__ = ["Settings", "Trained", "train"]

Rules = Callable[[nn.Module, torch.optim.Optimizer, int], list[Rule]]


@dataclass
class Trained:
    """History and time of a training.

    Attributes
    ----------
    history : list of dict
        For each epoch: step, epoch, loss (mean), cost (relative) where layers learn their
        structure, and sigma where it has a schedule.
    seconds : float
        Seconds of the training, over all sessions.

    Examples
    --------
    >>> Trained().history
    []
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def train(
    task: Task,
    model: nn.Module,
    settings: Settings,
    *,
    budget: float | None = None,
    rules: Rules | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    state: Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Train a model in place.

    Parameters
    ----------
    task : Task
    model : torch.nn.Module
        Dense or converted, on the device of the task's batches. Layers that learn their
        structure are brought under the budget.
    settings : Settings
    budget : float, optional
        Budget of the learned layers together, as `Anneal` takes it.
    rules : callable, optional
        ``rules(model, optimizer, total_steps)`` makes the rules after each step, in place of
        those that learn the structure.
    seed : int
        Seed of the order of the examples.
    about : mapping, optional
        Further facts that a state has to agree in before it is resumed: data, model, kind.
    state : Path, optional
        File that keeps everything after each epoch.
    resume : bool
        Go on from that file if it is there. The result is that of a training without
        interruption, bit for bit on the CPU.
    progress : callable, optional
        Called with the epochs done, all epochs, and the last loss.

    Returns
    -------
    Trained

    Raises
    ------
    TrainingError
        If the loss is NaN or infinite; the state of the last good epoch stays. On a device apart
        from the host, losses are read a few times an epoch, so that no step waits for them.
    FileFormatError
        If the file is damaged, or belongs to another training.

    Examples
    --------
    >>> import torch
    >>> from structmat.learn.data import load_data
    >>> from structmat.learn.tasks import make_task
    >>> task = make_task(load_data("digits"), "mlp", "small", 256)
    >>> model = task.model()
    >>> trained = train(task, model, Settings(epochs=1, batch=256))
    >>> trained.history[0]["step"], task.score(model) > 0.2
    (5, True)
    """
    total = settings.epochs * task.steps_per_epoch
    optimizer = torch.optim.AdamW(
        parameter_groups(
            model,
            lr=settings.lr,
            structure_lr=settings.structure_lr,
            contents_lr=settings.contents_lr,
            weight_decay=settings.weight_decay,
            structure_betas=settings.structure_betas,
        ),
        fused=True,  # one pass over each parameter: with many small ones, half the step's time
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    if rules is None:
        followers = _rules(model, optimizer, settings, budget, total)
    else:
        followers = rules(model, optimizer, total)
    trained, run = Trained(), {**asdict(settings), "seed": seed, "budget": budget, **(about or {})}
    first, network = 0, model
    if settings.compiled:
        torch.compiler.reset()  # all networks of a class share a limited number of graphs
        network = torch.compile(model)
    if resume and state is not None and state.exists():
        first, kept = _state.load(state, model, optimizer, followers, run)
        trained = Trained(kept["history"], kept["seconds"])
    for epoch in range(first, settings.epochs):
        begin = time.perf_counter()
        losses = _epoch(task, model, network, optimizer, settings, seed, epoch, total).read()
        trained.history.append(_record(losses, epoch, task.steps_per_epoch, followers))
        trained.seconds += time.perf_counter() - begin
        if state is not None:
            kept = {"history": trained.history, "seconds": trained.seconds}
            _state.save(state, model, optimizer, followers, run, epoch + 1, kept)
        if progress is not None:
            progress(epoch + 1, settings.epochs, losses[-1])
    for rule in followers:
        rule.remove()
    model.eval()
    return trained


def _rules(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    budget: float | None,
    total: int,
) -> list[Rule]:
    """Rules that learn the structure of the model's layers under the budget."""
    rules: list[Rule] = []
    if budget is None:
        return rules
    modules = list(model.modules())
    if any(isinstance(m, AnnealWeight) for m in modules):
        rules.append(Anneal(model, optimizer, budget, total, **settings.anneal))
    if any(isinstance(m, GaudiWeight) for m in modules):
        ramp, every = settings.ramp, settings.revive_every
        rules.append(
            BudgetProjection(model, optimizer, budget, total, ramp=ramp, revive_every=every)
        )
        start, stop = settings.sigma
        rules.append(SigmaSchedule(model, optimizer, total, start=start, stop=stop))
    return rules


def _epoch(
    task: Task,
    model: nn.Module,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    seed: int,
    epoch: int,
    total: int,
) -> Losses:
    """Train one epoch of a model by its network, compiled or itself; the losses come back."""
    model.train()
    losses, narrow = Losses(model, epoch, task.steps_per_epoch), settings.precision == "bfloat16"
    for i, batch in enumerate(task.batches(seed, epoch)):
        step = epoch * task.steps_per_epoch + i
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _rate(step, total, settings.warmup)
        kind = batch[0].device.type
        with torch.autocast(kind, torch.bfloat16) if narrow else nullcontext():
            loss = task.loss(network, batch)
            losses.add(loss, batch[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def _rate(step: int, total: int, warmup: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine to zero."""
    rise = warmup * total
    if step < rise:
        return min(1.0, (step + 1) / rise)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


def _record(losses: list[float], epoch: int, steps: int, rules: list[Rule]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "step": (epoch + 1) * steps,
        "epoch": epoch + 1,
        "loss": sum(losses) / len(losses),
        "sigma": None,
        "cost": None,
    }
    for rule in rules:
        if isinstance(rule, SigmaSchedule):
            record["sigma"] = rule.sigma
        if isinstance(rule, Anneal | BudgetProjection):
            record["cost"] = rule.relative_cost
    return record
