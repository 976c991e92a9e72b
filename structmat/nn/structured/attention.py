"""`SplitAttention`: `torch.nn.MultiheadAttention` with a layer for each of its projections."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat.errors import InputError, ShapeError


class Projection(nn.Linear):
    """A dense projection of queries, keys or values, a part of `torch.nn.MultiheadAttention`.

    Parameters
    ----------
    in_features, out_features : int
    fan : int
        Sum of the inputs and outputs from which torch draws the initial weight. Where the
        three projections are one parameter, these are all of its outputs.

    Examples
    --------
    >>> Projection(8, 8, fan=32)
    Projection(in_features=8, out_features=8, bias=False)
    """

    def __init__(self, in_features: int, out_features: int, *, fan: int) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.fan = fan


class SplitAttention(nn.Module):
    """Attention of several heads, as `torch.nn.MultiheadAttention`, by layers of any type.

    The layers may be dense or structured, with weights of their own; the biases of queries,
    keys and values stay one parameter, as in torch.

    Parameters
    ----------
    q_proj, k_proj, v_proj : Module
        Layers (…, embed_dim), (…, kdim) and (…, vdim) to (…, embed_dim), without biases.
    out_proj : Module
        Layer (…, embed_dim) to (…, embed_dim).
    num_heads : int
    dropout : float
        Probability that a weight of attention is set to zero in training.
    batch_first, add_zero_attn : bool
        As `torch.nn.MultiheadAttention` takes them.

    Attributes
    ----------
    in_proj_bias : torch.nn.Parameter or None
        Biases of queries, keys and values, (3 embed_dim,).
    bias_k, bias_v : torch.nn.Parameter or None
        One more key and value, (1, 1, embed_dim).

    Examples
    --------
    >>> projections = [nn.Linear(8, 8, bias=False) for _ in range(4)]
    >>> attention = SplitAttention(*projections, num_heads=2)
    >>> x = torch.ones(5, 3, 8)
    >>> y, weights = attention(x, x, x)
    >>> y.shape, weights.shape
    (torch.Size([5, 3, 8]), torch.Size([3, 5, 5]))
    """

    def __init__(
        self,
        q_proj: Any,
        k_proj: Any,
        v_proj: Any,
        out_proj: Any,
        *,
        num_heads: int,
        dropout: float = 0.0,
        batch_first: bool = False,
        add_zero_attn: bool = False,
    ) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = q_proj, k_proj, v_proj, out_proj
        self.embed_dim, self.kdim, self.vdim = (
            int(layer.in_features) for layer in (q_proj, k_proj, v_proj)
        )
        self.num_heads, self.dropout = num_heads, dropout
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        for name in ("in_proj_bias", "bias_k", "bias_v"):
            self.register_parameter(name, None)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.embed_dim // self.num_heads

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """False, so that torch's encoder layers call this module instead of their fast path."""
        return False

    @property
    def in_proj_weight(self) -> Tensor | None:
        """The dense weights of queries, keys and values, (3 embed_dim, embed_dim), to be read.

        None if keys or values have another width, as in torch.
        """
        layers = (self.q_proj, self.k_proj, self.v_proj)
        if not self.kdim == self.vdim == self.embed_dim:
            return None
        return torch.cat([layer.weight for layer in layers]).as_subclass(_Assembled)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention with the arguments and results of `torch.nn.MultiheadAttention`.

        Parameters
        ----------
        query : Tensor
            Shape (L, embed_dim), or (L, N, embed_dim), or (N, L, embed_dim) with `batch_first`.
        key, value : Tensor
            The same of length S, with kdim and vdim features.
        key_padding_mask : Tensor, optional
            Shape (N, S), or (S,): True for a key that is left out, or numbers to add.
        need_weights : bool
            Whether the weights of attention are returned.
        attn_mask : Tensor, optional
            Shape (L, S) or (N num_heads, L, S): True for a pair that is left out, or numbers.
        average_attn_weights : bool
            Whether the weights are averaged over heads.
        is_causal : bool
            Hint that `attn_mask`, which has to be given, is causal.

        Returns
        -------
        output : Tensor
            As `query`.
        weights : Tensor or None
            Shape (N, L, S), or (N, num_heads, L, S).

        Raises
        ------
        ShapeError
            If the shapes of arguments do not meet.
        InputError
            If a tensor is nested, or a mask is missing or of integers.
        """
        self._check(query, key, value)
        if is_causal and attn_mask is None:
            raise InputError(
                "is_causal = True without attn_mask; expected the causal mask with it "
                "(nn.Transformer.generate_square_subsequent_mask makes one)"
            )
        batched, axis = query.dim() == 3, 0 if self.batch_first else 1
        if not batched:
            query, key, value = (x.unsqueeze(axis) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        q, k, v = self._projected(query, key, value)
        if is_causal and key_padding_mask is None and not need_weights:
            attn_mask = None
        mask = self._mask(attn_mask, key_padding_mask, q.dtype, (*q.shape[:3], k.shape[2]))
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            scores = (q * math.sqrt(1 / self.head_dim)) @ k.mT
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout) if dropout else weights
            y = weights @ v
        else:
            causal = is_causal and mask is None
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        y = y if self.batch_first else y.transpose(0, 1)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if batched:
            return y, weights
        return y.squeeze(axis), None if weights is None else weights.squeeze(0)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        if query.is_nested or key.is_nested or value.is_nested:
            raise InputError(
                "query, key or value is a nested tensor; expected padded ones (set "
                "use_nested_tensor = False on the nn.TransformerEncoder)"
            )
        shapes = [tuple(x.shape) for x in (query, key, value)]
        batch_axis = 0 if self.batch_first else 1
        meet = (
            len({len(shape) for shape in shapes}) == 1
            and len(shapes[0]) in (2, 3)
            and shapes[1][:-1] == shapes[2][:-1]
            and (len(shapes[0]) == 2 or shapes[0][batch_axis] == shapes[1][batch_axis])
            and [s[-1] for s in shapes] == [self.embed_dim, self.kdim, self.vdim]
        )
        if not meet:
            where = "(batch, length, features)" if self.batch_first else "(length, batch, features)"
            raise ShapeError(
                f"query, key and value have shapes {shapes}; expected {where} or (length, "
                f"features), with {self.embed_dim}, {self.kdim} and {self.vdim} features, and as "
                "many values as keys"
            )

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values by heads, (N, num_heads, length, head_dim)."""
        results = [self.q_proj(query), self.k_proj(key), self.v_proj(value)]
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
            results = [x + b.to(x.dtype) for x, b in zip(results, biases, strict=True)]
        if not self.batch_first:
            results = [x.transpose(0, 1) for x in results]
        for i, more in ((1, self.bias_k), (2, self.bias_v)):
            x = results[i]
            if more is not None:
                x = torch.cat([x, more.to(x.dtype).expand(x.shape[0], 1, -1)], 1)
            results[i] = F.pad(x, (0, 0, 0, 1)) if self.add_zero_attn else x
        heads = (self.num_heads, self.head_dim)
        return [x.unflatten(-1, heads).transpose(1, 2) for x in results]

    def _mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        dtype: torch.dtype,
        shape: tuple[int, ...],
    ) -> Tensor | None:
        """Both masks as one to add to the scores, which broadcasts to `shape`."""
        batch, heads, queries, keys = shape
        added = (self.bias_k is not None) + self.add_zero_attn
        pairs = (queries, keys - added)
        total = None
        for name, mask, allowed in (
            ("attn_mask", attn_mask, [pairs, (batch * heads, *pairs)]),
            ("key_padding_mask", key_padding_mask, [(batch, keys - added)]),
        ):
            if mask is None:
                continue
            if tuple(mask.shape) not in allowed:
                sizes = " or ".join(map(str, allowed))
                raise ShapeError(f"{name} has shape {tuple(mask.shape)}; expected {sizes}")
            if mask.dtype != torch.bool and not mask.is_floating_point():
                raise InputError(f"{name} has dtype {mask.dtype}; expected bool or floating")
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
            mask = F.pad(mask.to(dtype), (0, added))
            if name == "key_padding_mask":
                mask = mask[:, None, None]
            elif mask.dim() == 3:
                mask = mask.unflatten(0, (batch, heads))
            total = mask if total is None else total + mask
        return total

    def extra_repr(self) -> str:
        """Sizes."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}"


class _Assembled(Tensor):
    """A weight to be read, which keeps torch from its fast path: that would not call our layers.

    Operations give ordinary tensors.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))
