"""`structmat learn`: structured networks side by side, on real data."""

import argparse
import math
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from structmat.cli._common import (
    Report,
    add_command,
    check_output,
    number,
    share,
    whole_number,
)
from structmat.cli._learn_text import FIXED, outcome_text
from structmat.cli._training_bar import training_bar
from structmat.errors import InputError, MissingDependencyError
from structmat.kinds import BUILT_IN

_DATA = ("noisy-digits", "digits", "fashion-mnist", "cifar10", "cifar100", "text")
#: Those that come with scikit-learn.
_SHIPPED = _DATA[:2]
_MODELS = ("mlp", "mixer", "vit", "resnet", "gpt")
#: Hierarchical matrices are for many points, and no layer's weight.
_LATER = ("gblr", "hierarchical")
#: Kinds that are compared by default: those of structmat, as each takes minutes.
#: GBLR is last, after the same layers with blocks that stay at random places.
_KINDS = (
    "dense",
    *(kind.name for kind in BUILT_IN if kind.fit is not None and kind.name not in _LATER),
    FIXED,
    "gblr",
)

_EXAMPLES = """\
  structmat learn
      trains networks of all kinds on digits in noise; the digits ship with scikit-learn
  structmat learn --kinds dense,low_rank,gblr --seeds 1 --budget 0.05 -o mine
      compares three kinds at one budget, and writes figures, a page and a model to mine
  structmat learn --data cifar10 --data-dir data --model vit --device auto --resume
      goes on where a run on the best device here was stopped

The share that is done, and the time to go, stand on standard error.
"""


def add_learn(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "train structured networks side by side on real data"
    learn = add_command(commands, "learn", common, what, _EXAMPLES)
    learn.add_argument(
        "--data", choices=_DATA, default=_DATA[0], help="data set (default: %(default)s)"
    )
    learn.add_argument("--data-dir", help="folder with the data; the digits need none")
    learn.add_argument("--model", choices=_MODELS, help="network (default: mlp, for text gpt)")
    learn.add_argument(
        "--size",
        choices=("small", "full"),
        help="size of the network (default: full for digits and mlp, small for others)",
    )
    learn.add_argument(
        "--budget",
        type=share,
        default=0.01,
        help="multiplications as a share of the dense layers' (default: %(default)s)",
    )
    learn.add_argument(
        "--kinds",
        default=",".join(_KINDS),
        # With spaces, at which lines may break.
        help=f"structures to compare, separated by commas (default: {', '.join(_KINDS)}, where "
        "gblr is learned and the others are fixed; also pixelfly, and kinds of other packages)",
    )
    learn.add_argument(
        "--seeds", type=_up_to(10_000), default=5, help="number of seeds, from 0 (default: 5)"
    )
    learn.add_argument(
        "--epochs", type=_up_to(10**6), help="passes through the data; 250 steps each for text"
    )
    learn.add_argument("--batch", type=_up_to(2**24), help="examples a step")
    learn.add_argument("--lr", type=_rate, help="learning rate of the weights")
    learn.add_argument(
        "--structure",
        choices=("anneal", "gaudi"),
        default="anneal",
        help="way to learn GBLR: anneal comes down from dense weights by projections, gaudi "
        "follows gradients through Gaudi masks (default: %(default)s)",
    )
    learn.add_argument(
        "--structure-lr",
        type=_rate,
        help="learning rate of widths and locations, for --structure gaudi",
    )
    learn.add_argument(
        "--tile",
        type=_up_to(2**20),
        help="rows and columns of each tile of the kinds block_sparse and block_low_rank, such as "
        "16 for the matrix units of a GPU (default: the budget decides)",
    )
    learn.add_argument(
        "--group",
        type=_up_to(2**20),
        help="outputs that share their windows of inputs in GBLR layers (default: none do)",
    )
    learn.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where to train: cpu, cuda, one of several such as cuda:1, or auto, the best there is "
        "(default: %(default)s)",
    )
    learn.add_argument(
        "--limit", type=_up_to(2**62), help="bytes of the training text to read (for text)"
    )
    learn.add_argument(
        "--threads",
        type=_up_to(1024),
        help="threads of torch (default: 1 for digits and small networks, torch's own number for "
        "full ones)",
    )
    learn.add_argument("--resume", action="store_true", help="continue the last run")
    learn.add_argument(
        "-o", "--output", default="structmat_learn", help="folder to write (default: %(default)s)"
    )
    learn.set_defaults(run=_learn)


def _up_to(most: int) -> Callable[[str], int]:
    return lambda text: whole_number(text, 1, most)


def _rate(text: str) -> float:
    return number(text, "a learning rate above 0", lambda x: 0 < x < math.inf)


def _learn(options: argparse.Namespace) -> Report:
    _refuse_several()
    try:
        import torch

        from structmat.learn.data import load_data
        from structmat.learn.devices import training_device
        from structmat.learn.experiment import Experiment
        from structmat.learn.settings import default_settings
        from structmat.learn.tasks import make_task
        from structmat.nn.anneal.sides import GROUPED_KINDS, TILED_KINDS
        from structmat.nn.starts.kinds import network_kinds
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"{missing.name} is not installed; install what learning needs with "
            "pip install 'structmat[learn]'"
        ) from None
    kinds = list(dict.fromkeys(k.strip() for k in options.kinds.split(",") if k.strip()))
    known = ("dense", *network_kinds(), FIXED)
    if not kinds or not set(kinds) <= set(known):
        raise InputError(f"--kinds {options.kinds!r}; expected some of {', '.join(known)}")
    _check_sides(options, kinds, {"tile": TILED_KINDS, "group": GROUPED_KINDS})
    options.device = training_device(options.device)
    folder = _folder(options.output)
    model = options.model or ("gpt" if options.data == "text" else "mlp")
    is_default = options.data in _SHIPPED and model == "mlp"
    options.size = options.size or ("full" if is_default else "small")
    if options.threads or options.size == "small" or options.data in _SHIPPED:
        torch.set_num_threads(options.threads or 1)
    settings = _changed(default_settings(options.data, model), options)
    data = load_data(options.data, options.data_dir, limit=options.limit)
    task = make_task(data, model, options.size, settings.batch, device=options.device)
    experiment = Experiment(
        task=task,
        facts={
            "data": options.data,
            "limit": options.limit,
            "model": model,
            "size": options.size,
            "threads": torch.get_num_threads(),
            "note": data.note,
        },
        kinds=kinds,
        budget=options.budget,
        seeds=range(options.seeds),
        settings=settings,
        tile=options.tile,
        group=options.group,
        folder=folder,
        resume=options.resume,
        command=shlex.join(["structmat", *_words(options)]),
    )
    with training_bar() as progress:
        outcome = experiment.run(progress)
    figures = {**outcome.results, "files": outcome.files}
    return Report(outcome_text(outcome.results, outcome.files), figures)


def _refuse_several() -> None:
    """Refuse to be one of several processes, which would all write the same files."""
    count = os.environ.get("WORLD_SIZE", "1")  # set by torchrun and other launchers
    if count.isdecimal() and int(count) > 1:
        raise InputError(
            f"structmat learn was started in {count} processes (WORLD_SIZE), each of which would "
            "train the same networks and write the same files; expected one (start it without "
            "torchrun; the page 'Train on many devices' of the guide has a script for several)"
        )


def _check_sides(
    options: argparse.Namespace, kinds: list[str], known: dict[str, tuple[str, ...]]
) -> None:
    """Refuse a side that none of the kinds has."""
    for name, having in known.items():
        size = getattr(options, name)
        if size is not None and not {*having} & {kind.removesuffix("_fixed") for kind in kinds}:
            raise InputError(
                f"--{name} {size} with --kinds {','.join(kinds)}; expected {' or '.join(having)} "
                f"among them (or no --{name})"
            )


def _folder(path: str) -> Path:
    """Make the folder now rather than fail after the work."""
    folder = Path(path)
    if os.path.isfile(path):
        raise InputError(f"--output {path!r} is a file; expected a folder to write to")
    if not os.path.isdir(path):  # which takes any name
        check_output(path)
        folder.mkdir()
    check_output(str(folder / "results.json"))
    return folder


def _changed(settings: Any, options: argparse.Namespace) -> Any:
    given = {
        "epochs": options.epochs,
        "batch": options.batch,
        "lr": options.lr,
        "structure_lr": options.structure_lr,
    }
    if options.structure == "gaudi":
        # Widths learn by shrinking, so they begin at twice the budget.
        given |= {"structure": "gaudi", "oversize": 2.0}
    elif options.structure_lr is not None:
        raise InputError(
            f"--structure-lr {options.structure_lr:g} where structure has no learning rate; "
            "expected none (or --structure gaudi)"
        )
    return replace(settings, **{k: v for k, v in given.items() if v is not None})


def _words(options: argparse.Namespace) -> list[str]:
    """Arguments that repeat the experiment, without folders."""
    words = ["learn", "--data", options.data]
    names = ("model", "size", "budget", "kinds", "seeds", "epochs", "batch", "lr")
    for name in (*names, "structure", "structure_lr", "tile", "group", "limit", "device"):
        value = getattr(options, name)
        if value is not None and (name, value) != ("device", "cpu"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
