"""Advice before a conversion: kind, start and budget for each layer, from a few batches."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from structmat._progress import Progress, part, reporting
from structmat.errors import BudgetError, InputError
from structmat.nn.advice.advice import Advice
from structmat.nn.advice.observe import Loss, Seen, mean_loss, observe, undisturbed
from structmat.nn.advice.outlook import Outlook
from structmat.nn.models.attention import split_attentions
from structmat.nn.models.config import Config
from structmat.nn.models.cost import linear_layers
from structmat.nn.models.layer_types import layer_shape
from structmat.nn.models.modules import check_module
from structmat.nn.models.targets import Filter, Target, check_weights, find_targets
from structmat.nn.models.trace import batches_of, forward_hooks

#: Share of the progress of the runs that gather inputs.
_GATHERING = 0.1


def advise(
    model: nn.Module,
    batches: Any,
    loss: Loss | None = None,
    *,
    budgets: Sequence[float] | float = (0.01, 0.02, 0.05, 0.1),
    filter_fn: Filter | None = None,
    progress: Progress | bool | None = None,
) -> Advice:
    """Compare kinds and budgets for each layer of a model before any conversion.

    Parameters
    ----------
    model : Module
        Trained or fresh, with layers that `convert_` takes. It runs in evaluation mode without
        gradients, and is not changed.
    batches : batch or iterable of batches
        Inputs of the model, as `calibration` of `convert_`: a tensor, a tuple of arguments or
        a mapping of keywords each. With a loss, anything that the loss takes; a few hundred
        examples are enough.
    loss : callable, optional
        ``loss(model, batch)`` runs the model and returns one number, such as
        ``lambda model, batch: cross_entropy(model(batch[0]), batch[1])``. Kinds are compared
        by how far they raise it; without a loss there are errors of all kinds, and no choice.
    budgets : float or sequence of float
        Costs as fractions of those of the dense layers.
    filter_fn : callable, optional
        ``filter_fn(name, module)`` selects layers, as in `convert_`.
    progress : bool or callable, optional
        As in `convert_`.

    Returns
    -------
    Advice
        Print it for a table. `Advice.conversions` has the arguments of `convert_`.

    Raises
    ------
    BudgetError
        If a budget is not in (0, 1], or there is none.
    InputError
        If there is no batch, or the batches do not reach a layer; if there is no layer to
        convert; if weights or inputs are NaN or infinite; if the loss is not one number.

    See Also
    --------
    convert_ : with start="weights" and the batches as calibration, errors are no larger.

    Notes
    -----
    Every kind is fitted to every weight at every budget by a quick search, and its contents to
    the inputs of the layer on the batches; convolutions count as one matrix of all taps. Errors
    and losses are those of these fits, before any further training.

    Each layer's kind of least loss, with it alone replaced, came within a point of the best kind
    for all layers after a short training, on three networks; the kind of least error stayed ten
    points below. Kinds of equal error keep different outputs, so errors compare budgets of one
    kind and not kinds.

    `LayerAdvice.start` compares each weight with random ones, on the same inputs. Weights that
    no kind keeps better than random ones are as good as fresh: advice on their kind would be
    chance, and they take "gblr", learned. Where inputs vary in one or two directions, random
    weights differ much, and a fresh weight may pass for a trained one.

    The gain of learning over a fixed structure is not foretold. The gradients of fresh networks
    order the gains that were measured no better than the budget alone does: learning gains at 1
    and 2 %, gains or loses at 5 %, and does not gain at 10 %.

    About 3 s a layer of 256 x 256 on one core for four budgets. The time grows with the square of
    the inputs, up to layers of about 1000 x 1000; in larger ones contents stay as they are.

    Examples
    --------
    >>> import torch
    >>> from structmat.nn import convert_
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> advice = advise(model, torch.randn(100, 32), budgets=[0.1])
    >>> [(row.name, row.start, row.idle_inputs) for row in advice.rows]
    [('0', 'scratch', 0)]
    >>> [(config, chosen)] = advice.conversions(0.1)
    >>> report = convert_(model, config, chosen)
    """
    chosen = _checked(budgets)
    if loss is not None and not callable(loss):
        raise InputError(f"loss = {loss!r}; expected a function loss(model, batch), or None")
    check_module(model)
    given = list(batches_of(batches))
    if not given:
        raise InputError("batches holds none; expected at least one")
    with (
        split_attentions(model) as unsplit,
        reporting(progress, "advising") as report,
        undisturbed(model),
    ):
        found = find_targets(model, Config(budget=chosen[0]), filter_fn, unsplit)
        check_weights(found.targets, needed=True)
        seen, shares = _watched(model, found.targets, given, loss, part(report, 0.0, _GATHERING))
        present = None if loss is None else mean_loss(model, given, loss)
        outlook = Outlook(model, found.targets, seen, shares, given, loss, present, chosen)
        rows, losses = outlook.rows(part(report, _GATHERING, 1.0))
    return Advice(tuple(rows), present, losses, tuple(found.skipped))


def _checked(budgets: Sequence[float] | float) -> tuple[float, ...]:
    """Budgets in rising order, each once."""
    given: Any = [budgets] if isinstance(budgets, numbers.Real) else budgets
    found = tuple(sorted({Config(budget=budget).budget for budget in given}))
    if not found:
        raise BudgetError("budgets is empty; expected at least one, such as 0.02")
    return found


def _watched(
    model: nn.Module,
    targets: Sequence[Target],
    batches: Sequence[Any],
    loss: Loss | None,
    progress: Progress,
) -> tuple[list[Seen], list[float]]:
    """Inputs of each target on the batches, and its part of all multiplications."""
    layers = linear_layers(model)
    work = dict.fromkeys(layers, 0)

    def count(module: nn.Module, _input: Tensor, output: Tensor) -> None:
        outputs, *rest = layer_shape(module)
        work[module] += output.numel() // outputs * math.prod((outputs, *rest))

    with forward_hooks(layers, count):
        seen = observe(model, targets, batches, loss, progress)
    whole = sum(work.values())
    return seen, [sum(work[module] for module in target.modules) / whole for target in targets]
