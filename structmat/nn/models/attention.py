"""`torch.nn.MultiheadAttention` in a model, split into layers for its projections and merged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import skip_init

from structmat.nn.models.carry import KEPT, bind_, carry_attributes_, share_
from structmat.nn.models.layer_types import STRUCTURED
from structmat.nn.models.modules import module_names, obstacles, put_module
from structmat.nn.structured.attention import Projection, SplitAttention

Attention = nn.MultiheadAttention
#: Weights of queries, keys and values, as torch names them where they are apart.
_WEIGHTS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_BIASES = ("in_proj_bias", "bias_k", "bias_v")
#: Settings that torch's attention and the split one have in common, except for dropout.
SETTINGS = ("num_heads", "batch_first", "add_zero_attn")
#: One parameter for each part of a parameter, so that attentions that share it go on doing so.
_Parts = dict[tuple[nn.Parameter, int], nn.Parameter]


@contextmanager
def split_attentions(model: nn.Module) -> Iterator[dict[nn.Module, str]]:
    """Split the attentions of a model while the context lasts, or for ever if one is converted.

    At the end, attentions without structured layers are what they were. The context gives
    the attentions that cannot be split, with the reason.
    """
    names = {m: where for m, where in module_names(model).items() if type(m) is Attention}
    left = _left(model, names)
    parts: _Parts = {}
    pairs = {old: split(old, parts) for old in names if old not in left}
    for old, new in pairs.items():
        _put(model, names[old], new)
    try:
        yield left
    finally:
        for old, new in pairs.items():
            if any(isinstance(module, STRUCTURED) for module in new.children()):
                _own_memory_(new)
                bind_(old, new)
                bind_(old.out_proj, new.out_proj)
            else:
                _put(model, names[old], old)


def _put(model: nn.Module, names: Sequence[str], module: nn.Module) -> None:
    for name in names:
        put_module(model, name, module)


def _left(model: nn.Module, attentions: dict[Any, list[str]]) -> dict[nn.Module, str]:
    """Find the attentions that cannot be split, with the reason."""
    left = obstacles(model, dict.fromkeys(attentions, KEPT))
    if model in attentions:
        left[model] = "it is the model itself, which cannot be replaced (wrap it in nn.Sequential)"
    holders: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            holders.setdefault(id(parameter), []).append(module)
    for attention in attentions:
        weight = attention.in_proj_weight
        if weight is not None and type(weight) is not nn.Parameter:
            left.setdefault(attention, f"its in_proj_weight is a {type(weight).__qualname__}")
    found = True
    while found:
        found = False
        for attention in attentions.keys() - left.keys():
            weight = attention.in_proj_weight
            others = [] if weight is None else holders[id(weight)]
            if any(other not in attentions or other in left for other in others):
                left[attention] = "its in_proj_weight is shared with a module that stays"
                found = True
    return left


def split(attention: Any, parts: _Parts) -> SplitAttention:
    """Make a split attention around the weights of torch's, with its attachments."""
    size = attention.embed_dim
    packed = attention.in_proj_weight
    if packed is None:
        weights = [getattr(attention, name) for name in _WEIGHTS]
    else:
        weights = [_part(packed, i, size, parts) for i in range(3)]
    layers = []
    for weight in weights:
        fan = sum(weight.shape) if packed is None else sum(packed.shape)
        layers.append(_dense(Projection, weight, None, fan=fan))
    out = attention.out_proj
    layers.append(_dense(nn.Linear, out.weight, out.bias))
    share_(out, layers[-1])
    settings = {name: getattr(attention, name) for name in SETTINGS}
    new = SplitAttention(*layers, dropout=attention.dropout, **settings)
    for name in _BIASES:
        setattr(new, name, getattr(attention, name))
    new.train(attention.training)
    share_(attention, new)
    return new


def _part(packed: nn.Parameter, i: int, size: int, parts: _Parts) -> nn.Parameter:
    key = packed, i
    if key not in parts:
        rows = packed.detach()[i * size : (i + 1) * size]
        parts[key] = nn.Parameter(rows, requires_grad=packed.requires_grad)
        carry_attributes_([packed], [parts[key]])
    return parts[key]


def _dense(kind: type[nn.Linear], weight: Any, bias: Any, **options: Any) -> nn.Linear:
    with torch.device("meta"):
        layer = kind(weight.shape[1], weight.shape[0], **options)
    layer.weight, layer.bias = weight, bias
    return layer


def _own_memory_(attention: SplitAttention) -> None:
    """Copy the weights of dense projections, which are views of the weight of all."""
    for layer in attention.children():
        if isinstance(layer, Projection):
            layer.weight.data = layer.weight.detach().clone()


def blank_attention(*, embed_dim: int, kdim: int, vdim: int, biases: Any, **settings: Any) -> Any:
    """Make a split attention of dense layers, of the given sizes and without values."""
    inputs = (embed_dim, kdim, vdim)
    outputs = embed_dim if set(inputs) != {embed_dim} else 3 * embed_dim
    with torch.device("meta"):
        layers: list[Any] = [Projection(n, embed_dim, fan=n + outputs) for n in inputs]
        layers.append(nn.Linear(embed_dim, embed_dim, bias="out_proj.bias" in biases))
    new = SplitAttention(*layers, **settings).to_empty(device="cpu")
    shapes = {"in_proj_bias": (3 * embed_dim,)}
    for name in _BIASES:
        if name in biases:
            setattr(new, name, nn.Parameter(torch.zeros(shapes.get(name, (1, 1, embed_dim)))))
    return new


def attention_settings(attention: SplitAttention) -> dict[str, Any]:
    """Arguments with which `blank_attention` makes an attention like this one."""
    names = ("embed_dim", "kdim", "vdim", *SETTINGS)
    biases = [name for name in _BIASES if getattr(attention, name) is not None]
    if attention.out_proj.bias is not None:
        biases.append("out_proj.bias")
    return {name: getattr(attention, name) for name in names} | {"biases": biases}


def projections(attention: SplitAttention) -> list[Any]:
    """Layers of the weights that torch has as one parameter; of none if it has them apart."""
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    same = attention.embed_dim == attention.kdim == attention.vdim
    return layers if same else []


def merged(attention: Any, packed: dict[tuple[int, ...], nn.Parameter]) -> nn.Module:
    """Make torch's attention of a split one whose layers are dense.

    `packed` has the weight of all three projections by their own weights, which attentions
    may share.
    """
    layers = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights, out = [layer.weight for layer in layers], attention.out_proj
    new = skip_init(
        nn.MultiheadAttention,
        attention.embed_dim,
        attention.num_heads,
        dropout=attention.dropout,
        add_zero_attn=attention.add_zero_attn,
        kdim=attention.kdim,
        vdim=attention.vdim,
        batch_first=attention.batch_first,
        device=out.weight.device,
        dtype=out.weight.dtype,
    )
    for name in _BIASES:
        setattr(new, name, getattr(attention, name))
    new.out_proj.weight, new.out_proj.bias = out.weight, out.bias
    share_(out, new.out_proj)
    bind_(out, new.out_proj)
    if new.in_proj_weight is None:
        for name, weight in zip(_WEIGHTS, weights, strict=True):
            setattr(new, name, weight)
        return new
    key = tuple(map(id, weights))
    if key not in packed:
        whole = torch.cat([weight.detach() for weight in weights])
        packed[key] = nn.Parameter(whole, requires_grad=weights[0].requires_grad)
        carry_attributes_(weights, [packed[key]])
    new.in_proj_weight = packed[key]
    return new
