"""Every kind under FSDP2: trained, saved and loaded again, in the processes that there are."""

import numpy as np
import torch
from nn_kinds import converted, dense, inputs
from torch import distributed, nn

import structmat
from structmat.nn import GaudiLinear, StructuredLinear, load_model, save_model

#: Weights without contents.
EMPTY = {
    "low_rank": lambda: structmat.LowRank(np.zeros((8, 0)), np.zeros((8, 0))),
    "block_sparse": lambda: structmat.BlockSparse(np.ones((0, 2, 2)), [], [], shape=(8, 8)),
    "gblr": lambda: structmat.GBLR([], [], [], [], [], [], shape=(8, 8)),
    "block_low_rank": lambda: structmat.BlockLowRank({}, row_sizes=[8], col_sizes=[8]),
}


def sharded(model):
    from torch.distributed.fsdp import fully_shard

    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def train(model, x):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return optimizer


@torch.no_grad()
def difference(a, b, x):
    return float((a.eval()(x) - b.eval()(x)).abs().max())


def errors(kind, layer, folder):
    """Largest differences of outputs: of training, and of every way to save and load again."""
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        set_model_state_dict,
    )

    x, found = inputs(layer), {}
    expected, model = (converted(kind, layer, "scratch") for _ in range(2))
    train(expected, x)
    train(sharded(model), x)
    found["training"] = difference(expected, model, x)
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=f"{folder}/{kind}-{layer}")
    other = sharded(converted(kind, layer, "scratch", seed=1))
    state = get_model_state_dict(other)
    dcp.load({"model": state}, checkpoint_id=f"{folder}/{kind}-{layer}")
    set_model_state_dict(other, state)
    found["DCP"] = difference(model, other, x)
    whole = StateDictOptions(full_state_dict=True)
    full = get_model_state_dict(model, options=whole)
    plain = converted(kind, layer, "scratch", seed=2)
    plain.load_state_dict(full)
    found["full"] = difference(expected, plain, x)
    sent = sharded(converted(kind, layer, "scratch", seed=3))
    state = full if distributed.get_rank() == 0 else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(sent, state, options=options)
    found["sent"] = difference(model, sent, x)
    file = f"{folder}/{kind}-{layer}-{distributed.get_rank()}.safetensors"
    save_model(file, model)
    found["save_model"] = difference(expected, load_model(file, dense(layer, 4)), x)
    return found


def empty_layer(kind):
    if kind == "learning":
        return GaudiLinear(8, 8, num_blocks=0, width_init="uniform")
    return StructuredLinear(EMPTY[kind](), torch.ones(8)).float()


def train_beside(layer):
    """Train layers beside an empty one, and gather states of model and optimizer."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    torch.manual_seed(0)
    model = sharded(nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 8)))
    optimizer = train(model, torch.ones(2, 8))
    return get_state_dict(model, optimizer)[0]
