"""BLAST matrices, the successor that Gaudi-GBLR's authors compare it with.

Lee, Kwon, Qu and Kim, "BLAST: Block-Level Adaptive Structured Matrices for Efficient Deep
Neural Network Inference", NeurIPS 2024, arXiv 2410.21262. A weight W (m, n) is cut into
b x b blocks W_ij = U_i diag(s_ij) V_j^T: U_i (m/b, r) is shared along a block row,
V_j (n/b, r) along a block column, and s_ij (r,) is the block's own. All s_ij = 1 is low
rank, s_ij = 0 off the diagonal block diagonal.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.models._replacing import check_linear, check_start
from benchmarks.models.blast_fit import factorise, product
from benchmarks.results import BenchmarkError
from structmat.nn.models.modules import replace_

__all__ = ["BlastLinear", "blast_blocks", "blast_rank", "convert_to_blast_"]

Filter = Callable[[str, nn.Module], bool]


class BlastLinear(nn.Module):
    """A linear layer y = x W^T + bias whose weight W is a BLAST matrix.

    Parameters
    ----------
    in_features, out_features : int
        n and m.
    blocks : int
        b; has to divide both.
    rank : int
        r, the same for all blocks.
    bias : bool
        Whether there is one; it starts as that of `torch.nn.Linear`.
    generator : torch.Generator, optional
        For the random start: all normal, s of variance 1 and U and V such that the mean
        squared entry of W is 1/(3n) on average, as `torch.nn.Linear` draws it.

    Attributes
    ----------
    U, V, s : torch.nn.Parameter
        (b, m/b, r), (b, n/b, r) and (b, b, r); ``s[i, j]`` belongs to block row i.

    Raises
    ------
    BenchmarkError
        If the blocks do not divide both sides, or a number is not positive.

    Examples
    --------
    >>> layer = BlastLinear(12, 8, blocks=2, rank=3)
    >>> layer(torch.zeros(5, 12)).shape, layer.cost
    (torch.Size([5, 8]), 72)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        blocks: int,
        rank: int,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_blocks((out_features, in_features), blocks)
        if rank < 1:
            raise BenchmarkError(f"rank = {rank}; expected at least 1 (see blast_rank)")
        self.in_features, self.out_features = in_features, out_features
        self.blocks, self.rank = blocks, rank

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        # An entry is a sum of r products u s v.
        spread = (3 * in_features * rank) ** -0.25
        self.U = nn.Parameter(spread * normal(blocks, out_features // blocks, rank))
        self.V = nn.Parameter(spread * normal(blocks, in_features // blocks, rank))
        self.s = nn.Parameter(normal(blocks, blocks, rank))
        self.bias = None
        if bias:
            draws = torch.rand(out_features, generator=generator)
            self.bias = nn.Parameter((2 * draws - 1) / math.sqrt(in_features))

    @classmethod
    def from_weight(
        cls,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        blocks: int,
        rank: int,
        steps: int = 300,
        delta: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> "BlastLinear":
        """The layer whose matrix approximates a dense weight, by the published compression.

        See `factorise` for the method; `steps` and `delta` are the published ones.

        Raises
        ------
        BenchmarkError
            If the weight is not finite or constant, or does not fit the blocks.

        Examples
        --------
        >>> layer = BlastLinear.from_weight(torch.eye(8), blocks=4, rank=8)
        >>> torch.allclose(layer.dense(), torch.eye(8), atol=1e-4)
        True
        """
        m, n = weight.shape
        layer = cls(n, m, blocks=blocks, rank=rank, bias=bias is not None, generator=generator)
        layer.to(weight.device, weight.dtype)
        factors = factorise(weight.detach(), blocks, rank, steps, delta, generator)
        with torch.no_grad():
            for parameter, factor in zip((layer.U, layer.V, layer.s), factors, strict=True):
                parameter.copy_(factor)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        return layer

    @property
    def cost(self) -> int:
        """Multiplications for one vector, r (m + n + b²); there are as many parameters in W."""
        return self.rank * (self.out_features + self.in_features + self.blocks**2)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, n) to (…, m): z_j = V_j^T x_j, t_i = Σ_j s_ij ∘ z_j, y_i = U_i t_i."""
        flat = x.reshape(-1, self.in_features)
        z = torch.bmm(flat.T.unflatten(0, (self.blocks, -1)).mT, self.V)
        t = (self.s.unsqueeze(2) * z).sum(1)
        y = torch.bmm(t, self.U.mT).transpose(0, 1).reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dense(self) -> Tensor:
        """The dense weight W, (m, n); differentiable."""
        return product(self.U, self.V, self.s)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"blocks={self.blocks}, rank={self.rank}, bias={self.bias is not None}"
        )


def blast_blocks(shape: tuple[int, int], blocks: int) -> int:
    """The greatest number of blocks, at most `blocks`, that divides both sides.

    Examples
    --------
    >>> blast_blocks((64, 48), 6), blast_blocks((128, 384), 4), blast_blocks((7, 5), 4)
    (4, 4, 1)
    """
    both = math.gcd(*shape)
    return max(b for b in range(1, max(1, blocks) + 1) if both % b == 0)


def blast_rank(shape: tuple[int, int], cap: int, blocks: int) -> int:
    """The greatest rank with which a BLAST matrix costs at most `cap` multiplications.

    Raises
    ------
    BenchmarkError
        If even rank 1 costs more, or the blocks do not divide both sides.

    Examples
    --------
    >>> blast_rank((8, 12), 75, 2)
    3
    """
    _check_blocks(shape, blocks)
    m, n = shape
    least = m + n + blocks**2
    if cap < least:
        raise BenchmarkError(
            f"cap = {cap} for a BLAST matrix of {m}x{n} in {blocks}x{blocks} blocks; expected at "
            f"least {least}, the cost of rank 1 (raise the budget, or take fewer blocks)"
        )
    return cap // least


def convert_to_blast_(
    model: nn.Module,
    budget: float,
    filter_fn: Filter,
    *,
    blocks: int,
    start: str = "scratch",
    generator: torch.Generator | None = None,
) -> dict[str, BlastLinear]:
    """Replace linear layers by BLAST layers, in place, each at most at budget · m n.

    Parameters
    ----------
    model : Module
    budget : float
        Multiplications as a fraction of the dense ones, the same for every layer.
    filter_fn : callable
        ``filter_fn(name, module)`` says which linear layers and convolutions to convert.
    blocks : int
        Blocks a side; where they do not divide both sides, the greatest lesser number
        that does.
    start : str
        "scratch" draws random factors, "weights" compresses the present weight.
    generator : torch.Generator, optional

    Returns
    -------
    dict
        The new layers by name. Biases stay as they are.

    Raises
    ------
    BenchmarkError
        If a layer is no plain `nn.Linear`, or the budget too small for it, or none is chosen.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    >>> new = convert_to_blast_(model, 0.25, lambda name, _: name == "0", blocks=4)
    >>> new["0"].cost, model[0] is new["0"]
    (128, True)
    """
    check_start(start)
    chosen = {
        name: check_linear(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and filter_fn(name, module)
    }
    if not chosen:
        raise BenchmarkError("filter_fn chooses no layer; expected at least one nn.Linear")
    new = {
        name: _blast_layer(name, layer, budget, blocks, start, generator)
        for name, layer in chosen.items()
    }
    replace_(model, {layer: new[name] for name, layer in chosen.items()})
    return new


def _blast_layer(
    name: str,
    layer: nn.Linear,
    budget: float,
    blocks: int,
    start: str,
    generator: torch.Generator | None,
) -> BlastLinear:
    m, n = layer.weight.shape
    sizes = {"blocks": blast_blocks((m, n), blocks)}
    try:
        sizes["rank"] = blast_rank((m, n), math.floor(budget * m * n), **sizes)
    except BenchmarkError as reason:
        raise BenchmarkError(f"layer {name!r}: {reason}") from None
    if start == "weights":
        return BlastLinear.from_weight(layer.weight, layer.bias, **sizes, generator=generator)
    new = BlastLinear(n, m, **sizes, bias=layer.bias is not None, generator=generator)
    new.to(layer.weight.device, layer.weight.dtype)
    if layer.bias is not None:
        new.bias = nn.Parameter(layer.bias.detach().clone())
    return new


def _check_blocks(shape: tuple[int, int], blocks: int) -> None:
    m, n = shape
    if blocks < 1 or m < 1 or n < 1 or m % blocks or n % blocks:
        raise BenchmarkError(
            f"{blocks} blocks a side for a matrix of {m}x{n}; expected a positive number that "
            "divides both sides (see blast_blocks)"
        )
