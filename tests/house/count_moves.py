"""Moves between files while the library runs: how often a reader turns to another file.

    python tests/house/count_moves.py            one line for each walk
    python tests/house/count_moves.py freeze_    the files of a walk, in order of entry

A move is a call into a file of structmat that is not the file of the call before. Calls
into other packages are left out.
"""

import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import structmat
from structmat.nn import (
    Anneal,
    Config,
    convert_,
    freeze_,
    load_model,
    save_model,
)

PACKAGE = Path(structmat.__file__).parent
CONFIG = Config(budget=0.3)


class Count(NamedTuple):
    """Moves between files, distinct functions, and files in the order of their first call."""

    moves: int
    functions: int
    files: list[str]


def count(run: Callable[[], object]) -> Count:
    """Run something, and count its calls inside structmat."""
    calls = []
    inside = f"{PACKAGE}/"

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(inside):
            calls.append((code.co_filename, code.co_qualname))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    files = [file for file, _ in calls]
    moves = sum(a != b for a, b in pairwise(files))
    names = [str(Path(file).relative_to(PACKAGE)) for file in dict.fromkeys(files)]
    return Count(moves, len(set(calls)), names)


def matvec():
    """Multiply a vector, for the third time."""
    rng = np.random.default_rng(0)
    A = structmat.compress(rng.standard_normal((48, 48)), "gblr", budget=0.3, rng=0).matrix
    x = np.ones(48)
    A @ x, A @ x
    return lambda: A @ x


def compress():
    """Compress a dense matrix to GBLR."""
    A = np.random.default_rng(0).standard_normal((48, 48))
    return lambda: structmat.compress(A, "gblr", budget=0.3, rng=0)


def convert():
    """Convert a network of two layers."""
    model = _dense()
    return lambda: convert_(model, CONFIG, generator=_generator())


def forward():
    """Run the converted network forward, for the second time."""
    model, x = _converted(), torch.ones(8, 64)
    model(x)
    return lambda: model(x)


def step():
    """Take the training step after which the structure of blocks is final."""
    return _training(_converted())


def freeze():
    """Freeze the trained network."""
    model = _converted()
    _training(model)()
    return lambda: freeze_(model)


def load():
    """Load the frozen network from its file."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "model.safetensors"
    model, fresh = _converted(), _dense()
    freeze_(model)
    save_model(path, model)
    return lambda: (folder, load_model(path, fresh))  # the folder lives as long


def _training(model):
    """The last step of a short training, with a projection onto blocks after it."""
    x, optimizer = torch.ones(8, 64), torch.optim.Adam(model.parameters(), lr=1e-3)
    rule = Anneal(model, optimizer, budget=0.3, total_steps=4, begin=0.0, end=0.5, every=0.25)

    def once(_rule=rule):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    once()
    return once


WALKS = {
    "matvec": matvec,
    "compress": compress,
    "convert_": convert,
    "forward": forward,
    "step": step,
    "freeze_": freeze,
    "load_model": load,
}


def _dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


def _generator():
    return torch.Generator().manual_seed(0)


def _converted():
    model = _dense()
    convert_(model, CONFIG, generator=_generator())
    return model


def main(names: list[str]) -> None:
    """Print a line for each walk, or the files of the walks that are named."""
    for name in names or WALKS:
        found = count(WALKS[name]())
        print(
            f"{name:12}{found.moves:6} moves{found.functions:6} functions{len(found.files):6} files"
        )
        if names:
            print(*(f"    {file}" for file in found.files), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
