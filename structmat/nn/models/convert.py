"""Conversion of whole models: structured layers instead of dense ones, under one budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from structmat._progress import Progress, part, reporting
from structmat.errors import InputError
from structmat.nn.models.attention import split_attentions
from structmat.nn.models.builder import Builder, ConvertedWeight
from structmat.nn.models.changed import announce
from structmat.nn.models.config import Config
from structmat.nn.models.cost import layer_rows, linear_layers, structured_row
from structmat.nn.models.layer_types import layer_shape
from structmat.nn.models.modules import check_replaceable, replace_
from structmat.nn.models.report import ConversionReport, LayerReport, SkippedLayer
from structmat.nn.models.targets import Filter, Selection, Target, check_weights, find_targets
from structmat.nn.models.trace import batches_of, collect_grams, count_vectors

#: Share of the progress that runs of the model on a calibration take.
_RUNNING = 0.05


def convert_(
    model: nn.Module,
    config: Config,
    filter_fn: Filter | None = None,
    *,
    example: Any = None,
    calibration: Any = None,
    dry_run: bool = False,
    generator: torch.Generator | None = None,
    progress: Progress | bool | None = None,
) -> ConversionReport:
    """Replace linear layers and convolutions by structured ones, in place, under one budget.

    Parameters
    ----------
    model : Module
        Exact `torch.nn.Linear`, `torch.nn.Conv2d` without groups and Hugging Face's Conv1D
        are converted, and the projections of `torch.nn.MultiheadAttention`, which become
        layers of their own (``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``). Dtype,
        device, mode, biases, hooks and attributes stay; layers that share a weight share
        the new one. Make the optimizer afterwards, since the weights are new.
    config : Config
    filter_fn : callable, optional
        ``filter_fn(name, module)`` selects modules with a weight matrix. A selected module
        that cannot be converted is an error, except for layers that are too small. An
        attention that is selected without any of its projections stands for all of them.
        By default every layer that can be is converted.
    example : tensor, tuple of arguments or mapping of keywords, optional
        Input for one run in evaluation mode. It counts how many vectors each layer
        multiplies for one example, which weighs the layer's cost; the first dimension of
        its first tensor counts the examples. Without it every layer counts once, and
        totals are those of one vector.
    calibration : batch or iterable of batches, optional
        Inputs of the model, for start="weights". Errors are then those of the layers'
        outputs on these inputs, ‖(W - Ŵ) X‖_F, and contents are fitted to them.
    dry_run : bool
        Report the conversion without changing the model.
    generator : torch.Generator, optional
        Source of random choices.
    progress : bool or callable, optional
        By default a bar on a terminal, once the work has taken three seconds, and silence
        elsewhere. True shows the bar at once, False never; a function is called with the
        fraction of the work done, 0 to 1.

    Returns
    -------
    ConversionReport
        Print it for a table.

    Raises
    ------
    BudgetError
        If a layer, which the message names, has no matrix of the kind that is so cheap.
    InputError
        If there is nothing to convert, or a selected module cannot be converted.

    Notes
    -----
    The cap is exact, for all converted layers together: Σ positions · cost ≤
    budget · Σ positions · m n. Layers that learn their structure start at
    `Config.oversize` times the cap. All new layers are made before the first one is
    replaced, so an error leaves the model unchanged.

    Expected time on one core, for layers of 512 x 512 and 512 x 256 at a budget of 0.2: about
    45 s to GBLR from weights, and 20 s more with a calibration, to which the contents are
    fitted then; below a second from scratch.

    From weights, kind "gblr" is the nearest of several fits: the search of `structmat.compress`,
    fits of the kinds that GBLR contains, and projections onto row runs and rank-one blocks, for
    which rows and columns may be reordered. With a calibration, projections weigh each input by
    its mean square.

    shares="error" minimises the total squared relative error under the cap, Σ ‖W - Ŵ‖² /
    ‖W‖² over all layers (of W X with a calibration). Low rank takes the singular values of
    the whole network in the order of the error that they remove per multiplication. Other
    kinds follow the convex hull of a few trial fits.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    >>> print(convert_(model, Config(kind="low_rank", budget=0.25)))
    layer  shape   kind      positions  multiplications  relative  scalars  error
    0      128x64  low_rank          1            1,920    23.44%    1,920      -
    converted: 1,920 of 8,192 multiplications a vector (23.44%), 1,920 of 8,192 scalars (23.44%)
    with the rest: 3,200 of 9,472 multiplications a vector (33.78%), 3,200 of 9,472 scalars (33.78%)
    (the converted ones had 86.49% of the multiplications of all linear layers and convolutions)
    skipped:
      2: a matrix of 10x128, smaller than min_features = 16
    (without an example every layer counts as one vector)
    >>> model[0](torch.zeros(3, 64)).shape
    torch.Size([3, 128])
    """
    if not isinstance(config, Config):
        raise InputError(f"config is a {type(config).__qualname__}; expected a Config")
    if calibration is not None and config.start != "weights":
        raise InputError(
            "calibration with start = 'scratch'; expected none, as there is nothing to fit (or "
            "start='weights')"
        )
    check_replaceable(model)
    with split_attentions(model) as unsplit, reporting(progress, "converting") as report:
        return _convert(
            model,
            config,
            find_targets(model, config, filter_fn, unsplit),
            _inputs(example, calibration),
            explicit=filter_fn is not None,
            dry_run=dry_run,
            generator=generator,
            progress=report,
        )


def _convert(
    model: nn.Module,
    config: Config,
    found: Selection,
    inputs: tuple[Any, Sequence[Any] | None],
    *,
    explicit: bool,
    dry_run: bool,
    generator: torch.Generator | None,
    progress: Progress,
) -> ConversionReport:
    example, batches = inputs
    names, counts = linear_layers(model), None
    if example is not None:
        counts = count_vectors(model, {m: layer_shape(m)[0] for m in names}, example)
        found = _counted(found, counts, explicit=explicit)
    notes = _notes(config, example)
    running = 0.0 if batches is None else _RUNNING
    builder = _builder(model, config, found, batches, generator, part(progress, 0.0, running))
    # Trial fits take about as long as the final ones, each.
    building = running + (1 - running) * builder.trials / (builder.trials + 1)
    caps = builder.caps(part(progress, running, building))
    targets, skipped = found.targets, tuple(found.skipped)
    taken = {module for target in targets for module in target.modules}
    rest = layer_rows({m: n for m, n in names.items() if m not in taken}, counts)
    if dry_run:
        costs = [builder.planned(i, caps[i]) for i in range(len(targets))]
        rows = [_planned_row(target, config, c) for target, c in zip(targets, costs, strict=True)]
        return ConversionReport(tuple(rows), skipped, notes, True, tuple(rest))
    made = []
    for i, target_caps in enumerate(caps):
        share = builder.part_of(part(progress, building, 1.0), i)
        made.append(builder.build(i, target_caps, share))
    pairs = list(zip(targets, made, strict=True))
    replace_(model, {m: t.type.build(m, new.weights) for t, new in pairs for m in t.modules})
    announce(model)
    rows = [_converted_row(target, config, new) for target, new in pairs]
    return ConversionReport(tuple(rows), skipped, notes, rest=tuple(rest))


def _notes(config: Config, example: Any) -> tuple[str, ...]:
    notes = []
    if config.method == "anneal":
        notes.append(f"begun dense; Anneal brings the multiplications down to {config.budget:.2%}")
    if config.oversize > 1:
        notes.append(
            f"begun at {config.start_budget:.2%}, or what is set in options; BudgetProjection "
            f"brings the multiplications down to {config.budget:.2%}"
        )
    if example is None:
        notes.append("without an example every layer counts as one vector")
    return tuple(notes)


def _inputs(example: Any, calibration: Any) -> tuple[Any, Sequence[Any] | None]:
    """Example (by default the first calibration batch), and all calibration batches."""
    if calibration is None:
        return example, None
    batches = list(batches_of(calibration))
    if not batches:
        raise InputError("calibration holds no batches; expected at least one")
    return (batches[0] if example is None else example), batches


def _counted(found: Selection, counts: Mapping[nn.Module, int], *, explicit: bool) -> Selection:
    """Set each target's vectors for one example, and skip the layers that it never runs."""
    targets, skipped = [], list(found.skipped)
    for target in found.targets:
        target.vectors_per_example = sum(counts[module] for module in target.modules)
        target.counted = True
        if target.vectors_per_example:
            targets.append(target)
        else:
            skipped.append(SkippedLayer(target.names[0], "the example never runs it as a module"))
    if not targets or (explicit and len(targets) < len(found.targets)):
        idle = [skip.name for skip in skipped[len(found.skipped) :]]
        raise InputError(
            f"the example never runs {idle}; expected an input that reaches every layer to convert "
            "(leave them out with filter_fn, or give another example)"
        )
    return Selection(targets, skipped)


def _builder(
    model: nn.Module,
    config: Config,
    found: Selection,
    batches: Sequence[Any] | None,
    generator: torch.Generator | None,
    progress: Progress,
) -> Builder:
    grams: list[torch.Tensor | None] = [None] * len(found.targets)
    check_weights(found.targets, needed=config.start == "weights")
    if batches is not None:
        grams = list(_target_grams(model, config, found.targets, batches, progress))
    seeds = torch.randint(2**31, (len(found.targets),), generator=generator).tolist()
    return Builder(config, found.targets, grams, seeds, generator)


def _target_grams(
    model: nn.Module,
    config: Config,
    targets: list[Target],
    batches: Sequence[Any],
    progress: Progress,
) -> list[torch.Tensor]:
    """Gram matrix of the inputs of each weight, summed over the layers that share it."""
    by_taps = config.conv == "taps"

    def reader(target: Target) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
        return lambda module, x: target.type.vectors(module, x, by_taps)

    layers = {module: reader(target) for target in targets for module in target.modules}
    grams = collect_grams(model, layers, batches, progress)
    return [sum(grams[module] for module in target.modules) for target in targets]


def _planned_row(target: Target, config: Config, planned: int) -> LayerReport:
    return LayerReport(
        target.names[0],
        config.kind,
        layer_shape(target.modules[0]),
        target.vectors_per_example,
        planned,
        planned,
        shared_with=tuple(target.names[1:]),
        counted=target.counted,
    )


def _converted_row(target: Target, config: Config, new: ConvertedWeight) -> LayerReport:
    shape = layer_shape(target.modules[0])
    row = structured_row(new.weights, shape, target.names, error=new.error)
    return replace(row, kind=config.kind)
