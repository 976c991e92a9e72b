"""Layers refuse what is no dense tensor of values, before and after they are frozen."""

import pytest
import torch
from torch import nn

from structmat.errors import InputError
from structmat.nn import Config, convert_, freeze_

LAYERS = {
    "low_rank": {"kind": "low_rank", "learn": False},
    "block_sparse": {"kind": "block_sparse", "learn": False},
    "monarch": {"kind": "monarch", "learn": False},
    "frozen gblr": {"learn": True},
    "gblr": {"learn": True},
    "gaudi": {"learn": "gaudi"},
}
INPUTS = {
    "sparse_coo": lambda x: x.to_sparse(),
    "sparse_csr": lambda x: x.to_sparse_csr(),
    "mkldnn": lambda x: x.to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "jagged": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    "meta device": lambda x: x.to("meta"),
    "list": lambda x: x.tolist(),
    "ndarray": lambda x: x.numpy(),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_dense_tensor_of_values_is_refused(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16))
    convert_(model, Config(budget=0.5, min_features=1, **LAYERS[name]))
    if name.startswith("frozen"):
        freeze_(model)
    model.eval()
    x = torch.randn(3, 20)
    with torch.no_grad():
        for _ in range(2):  # the second time by what the layer remembers
            y = model(x)
            for what, make in INPUTS.items():
                said = "nested" if what == "jagged" else what
                with pytest.raises(InputError, match=rf"input is .*{said}.*; expected .* \("):
                    model[0](make(x))
        assert torch.equal(model(x), y)


@pytest.mark.parametrize("make", [INPUTS[name] for name in ("sparse_coo", "mkldnn", "list")])
def test_convolutions_refuse_it_too(make):
    model = nn.Sequential(nn.Conv2d(16, 16, 3))
    convert_(model, Config(budget=0.5, min_features=1, learn=False, kind="low_rank"))
    with pytest.raises(InputError, match=r"input is a .*tensor"):
        model[0](make(torch.randn(1, 16, 8, 8)))
