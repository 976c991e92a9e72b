"""Small networks of every kind, learning or frozen, linear or convolutions."""

import torch
from torch import nn

from structmat.nn import Config, convert_, freeze_

KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly", "gblr", "frozen gblr")
LAYERS = ("linear", "convolution", "taps")
STARTS = ("scratch", "weights", "calibrated")


def dense(layer, seed):
    torch.manual_seed(seed)
    if layer == "linear":
        return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16)).eval()
    return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1)).eval()


def inputs(layer, count=5):
    generator = torch.Generator().manual_seed(7)
    shape = (count, 24) if layer == "linear" else (count, 16, 5, 5)
    return torch.randn(*shape, generator=generator)


def converted(kind, layer="linear", start="weights", seed=0):
    """A network of this kind, whose structure and contents follow from the seed."""
    model = dense(layer, seed)
    options = {"conv": "taps" if layer == "taps" else "matrix", "start": "weights"}
    if start == "scratch":
        options["start"] = "scratch"
    calibration = inputs(layer, 64) if start == "calibrated" else None
    name = kind.removeprefix("frozen ")
    convert_(model, Config(kind=name, budget=0.45, **options), calibration=calibration)
    if name != kind:
        freeze_(model)
    return model.eval()
