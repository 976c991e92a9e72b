"""Part "decoding": one token of a small GPT after another, against the dense network."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.session import Session, agree
from benchmarks.gpu.ways import WAYS, clock, host, over_dense
from benchmarks.micro.timing import interleaved
from structmat.learn.models import build_model
from structmat.nn import Config, convert_, freeze_, to_dense_

#: Relative error of logits in single precision, through all layers.
LOGIT_ERROR = 2e-3
#: Tokens of the sequence on which decoding is compared with the whole network.
CHECKED_TOKENS = 4


@dataclass(frozen=True)
class DecodingPlan:
    """Size of the network, sequences at a time, cost of layers, ways, and seconds for each."""

    size: Mapping[str, Any]
    context: int
    batches: Sequence[int]
    cost: float
    seconds: float
    least: int


FULL = DecodingPlan(
    size={"dim": 2048, "depth": 2, "heads": 16},
    context=256,
    batches=(1, 16),
    cost=0.25,
    seconds=0.5,
    least=5,
)
TINY = DecodingPlan(
    size={"dim": 32, "depth": 1, "heads": 2}, context=8, batches=(1,), cost=0.25,
    seconds=0.0, least=1,
)  # fmt: skip


class Decoder(nn.Module):
    """A GPT that takes one token of each sequence, and keeps keys and values of those before.

    The place of the token is a tensor, and all shapes stay, so that one graph serves all steps.
    """

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()
        self.model = model
        context, dim = model.positions.shape
        heads = model.blocks[0].attention.heads
        shape = (len(model.blocks), 2, batch, heads, context, dim // heads)
        self.register_buffer("kept", torch.zeros(shape).to(model.positions))

    def forward(self, token: Tensor, place: Tensor) -> Tensor:
        """Tokens (B,) at one place (1,) to logits (B, vocabulary)."""
        model = self.model
        x = model.tokens(token) + model.positions[place]
        seen = torch.arange(len(model.positions), device=x.device) <= place
        for block, (keys, values) in zip(model.blocks, self.kept, strict=True):
            attention = block.attention
            parts = attention.qkv(block.norm1(x)).unflatten(-1, (3, attention.heads, -1))
            q, k, v = (part.unsqueeze(2) for part in parts.unbind(1))
            keys.index_copy_(2, place, k)
            values.index_copy_(2, place, v)
            y = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen[None])
            x = x + attention.proj(y.flatten(1))
            x = x + block.mlp(block.norm2(x))
        return F.linear(model.norm(x), model.tokens.weight)


def run(session: Session) -> None:
    """Check every network, and time one token in each way."""
    plan = TINY if session.tiny else FULL
    models = {}
    for name, make in networks(plan).items():
        model = session.attempt(name, partial(_checked, session, make))
        if model is not None:
            models[name] = model.to(torch.bfloat16)
    for batch in plan.batches:
        session.case(f"{batch} sequences", partial(_time, session, plan, models, batch))


def networks(plan: DecodingPlan) -> dict[str, Callable[[], nn.Module]]:
    """Makers of networks by the name of their layers, the dense ones first."""
    dense = partial(build_model, "gpt", size=plan.size, context=plan.context)

    def frozen(kind: str) -> nn.Module:
        model = dense()
        convert_(model, Config(budget=plan.cost, kind=kind, learn=False))
        freeze_(model)
        return model

    return {
        "dense": dense,
        "tiles": partial(frozen, "block_sparse"),
        "runs": partial(frozen, "gblr"),
    }


@torch.no_grad()
def _checked(session: Session, make: Callable[[], nn.Module]) -> nn.Module:
    """Network in evaluation whose decoder gives the logits of the dense network as a whole."""
    torch.manual_seed(0)
    model = make().to(session.device).eval()
    twin = copy.deepcopy(model)
    if any(hasattr(layer, "matrix") for layer in twin.modules()):
        to_dense_(twin)
    tokens = torch.arange(CHECKED_TOKENS, device=session.device)[None]
    decoder = Decoder(model, 1)
    found = [decoder(tokens[:, k], tokens[0, k : k + 1]) for k in range(CHECKED_TOKENS)]
    agree("the logits", host(torch.stack(found, 1)), host(twin(tokens)), LOGIT_ERROR)
    return model


@torch.no_grad()
def _time(
    session: Session, plan: DecodingPlan, models: Mapping[str, nn.Module], batch: int
) -> None:
    token = torch.zeros(batch, dtype=torch.int64, device=session.device)
    place = torch.full((1,), plan.context // 2, device=session.device)
    decoders = {name: Decoder(model, batch) for name, model in models.items()}
    ways = ["eager", "graph", *["compiled"] * (batch == 1 and not session.tiny)]
    for way in ways:
        calls = session.attempts(
            {
                name: (
                    f"{name}, {batch} sequences, {way}",
                    partial(WAYS[way], decoder, lambda one: one(token, place), session.device),
                )
                for name, decoder in decoders.items()
            }
        )
        timing = interleaved(
            calls, seconds=plan.seconds, least=plan.least, clock=clock(session.device)
        )
        for name in [name for name in calls if name != "dense"]:
            session.add(
                {
                    "layers": name,
                    "way": way,
                    "batch": batch,
                    "budget": plan.cost,
                    **over_dense(timing, name),
                }
            )
