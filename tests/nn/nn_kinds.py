"""Small networks of every kind, learning or frozen, linear or convolutions."""

import numpy as np
import torch
from torch import nn

from structmat.matrices import BlockLowRank, BlockSparse, Permutation, Product, Sum
from structmat.nn import Config, GaudiWeight, StructuredWeight, convert_, freeze_

KINDS = ("low_rank", "block_sparse", "block_low_rank", "monarch", "pixelfly", "gblr", "frozen gblr",
         "ordered gblr")  # fmt: skip
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
    name = kind.split()[-1]
    if name == "gblr":
        options["learn"] = "gaudi"
    convert_(model, Config(kind=name, budget=0.45, **options), calibration=calibration)
    vary_(model, seed)
    if name != kind:
        freeze_(model)
    if kind.startswith("ordered"):
        order_(model, seed)
    return model.eval()


def order_(model, seed):
    """Put the rows and columns of all weights into other orders."""
    rng = np.random.default_rng(seed)
    for weight in [m for m in model.modules() if isinstance(m, StructuredWeight)]:
        P, Q = (Permutation(rng.permutation(size)) for size in weight.shape)
        weight.__init__(P.to("torch") @ weight.to_matrix() @ Q.to("torch"))


@torch.no_grad()
def vary_(model, seed):
    """Move the structure of all weights, as starts often give one to all seeds."""
    rng = np.random.default_rng(seed)
    for weight in model.modules():
        if isinstance(weight, GaudiWeight):
            weight.sigma = 3.0 + seed
            for location in (weight.structure.row_location, weight.structure.col_location):
                location.copy_(torch.from_numpy(rng.random(location.shape)))
        elif isinstance(weight, StructuredWeight):
            weight.__init__(moved(weight.to_matrix(), rng))


def moved(matrix, rng):
    """The same contents at other places."""
    if isinstance(matrix, Product):
        return Product(*(moved(factor, rng) for factor in matrix.children))
    if isinstance(matrix, Permutation):
        return Permutation(rng.permutation(matrix.shape[0])).to("torch")
    if isinstance(matrix, Sum):
        return Sum(*(moved(term, rng) for term in matrix.children))
    if isinstance(matrix, BlockSparse):
        count, *sides = matrix.blocks.shape
        across = -(-matrix.shape[1] // sides[1])
        cells = across * -(-matrix.shape[0] // sides[0])
        places = np.sort(rng.choice(cells, count, replace=False))
        return BlockSparse(matrix.blocks, *np.divmod(places, across), shape=matrix.shape)
    if isinstance(matrix, BlockLowRank):
        tiles, sizes = matrix.tiles, (matrix.row_sizes, matrix.col_sizes)
        alike = {}
        for i, j in tiles:
            alike.setdefault((sizes[0][i], sizes[1][j]), []).append((i, j))
        there = {}
        for places in alike.values():
            there |= {
                places[k]: tiles[p]
                for k, p in zip(rng.permutation(len(places)), places, strict=True)
            }
        return BlockLowRank(there, row_sizes=sizes[0], col_sizes=sizes[1])
    return matrix
