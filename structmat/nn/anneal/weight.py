"""`AnnealWeight`: a dense weight that comes down to a structure while it is trained."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from structmat import binding
from structmat.errors import InputError, KindError, ShapeError
from structmat.matrices import Dense
from structmat.matrix import StructuredMatrix
from structmat.nn.anneal import state
from structmat.nn.anneal.assembly import Assembly, assembly_of, flat_contents
from structmat.nn.anneal.projected import Projected, in_order, packed
from structmat.nn.sharded import whole, write_
from structmat.nn.structured.parameters import register
from structmat.nn.structured.state import Structure, StructuredModule

#: Kinds whose structure is learned.
LEARNED_KINDS = ("gblr", "block_sparse", "block_low_rank", "low_rank")


class AnnealWeight(StructuredModule):
    """A trainable weight (m, n) that begins dense and ends as a structured matrix.

    The rule `structmat.nn.Anneal` projects the weight onto structures of falling cost. Between
    projections the entries on the support of the structure are trained, as in a dense layer:
    y = (W ∘ S) x. Once the cost has reached the budget, a structure of low-rank blocks is
    trained by the contents of its blocks instead.

    Parameters
    ----------
    weight : tensor (m, n)
        Initial values; they are copied.
    cap : int
        Multiplications for one vector that the learned structure may have.
    kind : str
        Kind of the learned structure: "gblr", "block_sparse", "block_low_rank" or "low_rank".

    Attributes
    ----------
    weight : torch.nn.Parameter (m, n)
        Dense values; those off the support do not count.
    contents : torch.nn.Parameter (cap,)
        Contents of the blocks, once they are trained; zeros before. A buffer if `cap` is 0.
    support : tensor of bool (m, n)
    projected : Projected
        The present structure.
    is_factored : bool
        Whether the contents of blocks are trained, and not the entries of the support.
    positions : int
        Number of vectors that the weight multiplies for one example; 1 until it is set on
        the instance.

    Raises
    ------
    KindError
        If the structure of this kind is not learned.
    InputError
        If `cap` is negative, or the weight is no real matrix.

    Notes
    -----
    A training step costs as much as that of a dense layer, 6 m n multiplications a vector, and
    one pass over the weight. Memory: the weight, `cap` scalars, and a byte an entry.

    Examples
    --------
    >>> import torch
    >>> weight = AnnealWeight(torch.ones(8, 16), cap=32)
    >>> weight.cost, weight(torch.ones(5, 16)).shape
    (128, torch.Size([5, 8]))
    """

    # Of the class, so that a weight whose vectors were counted has it of its own.
    positions = 1

    def __init__(self, weight: Tensor, cap: int, *, kind: str = "gblr") -> None:
        super().__init__()
        if kind not in LEARNED_KINDS:
            raise KindError(f"kind {kind!r}; expected one of {', '.join(LEARNED_KINDS)}")
        if weight.ndim != 2 or not weight.is_floating_point():
            raise InputError(
                f"weight has shape {tuple(weight.shape)} and dtype {weight.dtype}; expected a "
                "real matrix (m, n)"
            )
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 0:  # type: ignore[redundant-expr]
            raise InputError(f"cap = {cap!r}; expected a number of multiplications, at least 0")
        m, n = weight.shape
        self.shape, self.cap, self.kind, self.is_factored = (m, n), cap, kind, False
        register(self, "weight", weight.detach().clone(memory_format=torch.contiguous_format))
        register(self, "contents", weight.detach().new_zeros(cap))
        self.projected = Projected.whole(self.shape)
        self._lay_out()

    def _lay_out(self) -> None:
        """Make the tensors that follow from the structure, on the device of the weight."""
        self._template: StructuredMatrix | None = None
        self._is_whole = bool(self.projected.support.all())
        device = self.weight.device
        assembly = None
        if self.is_factored and self.projected.matrix is not None:
            assembly = assembly_of(self.projected.matrix, *self.projected.order)
            self._template = self.projected.matrix.to("torch")
        none = torch.zeros(0, dtype=torch.int64)
        parts = (none, none, none) if assembly is None else (*vars(assembly).values(),)
        self._assembles = assembly is not None
        support = torch.from_numpy(self.projected.support)
        for name, tensor in zip(
            ("support", "_left", "_right", "_at"), (support, *parts), strict=True
        ):
            self.register_buffer(name, tensor.to(device), persistent=False)

    @torch.no_grad()
    def take_(self, projected: Projected, *, factored: bool = False) -> None:
        """Take a structure: put the weight on it, and train its contents from now on.

        Parameters
        ----------
        projected : Projected
        factored : bool
            Train the contents of ``projected.matrix``, if there is one, and not the entries
            of the support.
        """
        self.projected, self.is_factored = projected, factored and projected.matrix is not None
        if projected.matrix is None:
            values = whole(self.weight) * torch.from_numpy(projected.support).to(self.weight.device)
        else:
            matrix = in_order(projected.matrix, projected.row_order, projected.col_order)
            values = torch.from_numpy(np.ascontiguousarray(matrix.to_dense()))
        write_(self.weight, values.to(self.weight.device, self.weight.dtype))
        if self.is_factored and projected.matrix is not None:
            flat = torch.from_numpy(flat_contents(projected.matrix))
            values = torch.zeros(self.cap, dtype=self.weight.dtype)
            values[: len(flat)] = flat
            write_(self.contents, values.to(self.weight.device))
        self._lay_out()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Vectors (…, n) to (…, m), plus a bias (m,) if there is one.

        Raises
        ------
        ShapeError
            If the last axis is not n.
        InputError
            If the dtype differs from that of the weight, without autocast.
        """
        m, n = self.shape
        if x.ndim == 0 or x.shape[-1] != n:
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected (…, {n}) for a weight of {m}x{n}"
            )
        if x.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputError(
                f"input of {x.dtype} for a weight of {self.weight.dtype}; expected one dtype "
                "(move the layer with .to(dtype), cast the input, or use torch.autocast)"
            )
        return F.linear(x, self.dense(), bias)

    def dense(self) -> Tensor:
        """The weight (m, n) that vectors are multiplied by, with gradients."""
        if self.is_factored:
            weight, other = self._assembled(), self.weight
        else:
            weight, other = self.weight, self.contents
            if not self._is_whole:
                weight = weight * self.support
        # Wrappers of distributed training wait for the gradients of all parameters.
        return weight + other.flatten()[:0].sum()

    def _assembled(self) -> Tensor:
        if self._assembles:
            return Assembly(self._left, self._right, self._at)(self.contents, self.shape)
        assert self._template is not None
        arrays, begin = [], 0
        for leaf in binding.leaves(self._template):
            arrays.append(self.contents[begin : begin + leaf.numel()].view(leaf.shape))
            begin += leaf.numel()
        matrix = binding.bind(self._template, arrays, dtype=self.contents.dtype, remember=False)
        rows, cols = self.projected.row_order, self.projected.col_order
        dense: Tensor = in_order(matrix, rows, cols).to_dense()
        return dense

    @property
    def cost(self) -> int:
        """Multiplications for one vector of the structure that the last projection left."""
        return self.projected.cost

    @property
    def storage(self) -> int:
        """Scalars of that structure, with the orders of its rows and columns."""
        projected = self.projected
        orders = (projected.row_order, projected.col_order)
        return projected.cost + sum(len(order) for order in orders if order is not None)

    @property
    def fan_in(self) -> float:
        """Mean number of live entries in a row."""
        return float(self.projected.support.sum()) / max(self.shape[0], 1)

    @torch.no_grad()
    def to_matrix(self) -> StructuredMatrix:
        """The matrix that vectors are multiplied by, on torch: exactly, in its structure."""
        projected = self.projected
        if self.is_factored and projected.matrix is not None:
            known = whole(self.contents)
            arrays, begin = [], 0
            for leaf in binding.leaves(projected.matrix.to("torch")):
                arrays.append(known[begin : begin + leaf.numel()].view(leaf.shape).clone())
                begin += leaf.numel()
            matrix = binding.construct(projected.matrix.to("torch"), arrays)
            return in_order(matrix, projected.row_order, projected.col_order)
        values = whole(self.weight)
        if projected.support.all():
            return Dense(values.clone())
        host = values.double().cpu().numpy()
        found = packed(host, projected)
        return found.to("torch").astype(values.dtype).to(values.device)

    def _describe(self) -> Structure:
        return state.described(self)

    def _take_structure(self, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        state.take_(self, entry, arrays)

    def _take_older(self, found: dict[str, Any], prefix: str) -> bool:
        return False

    def refresh(self) -> None:
        """Nothing is computed before it is used."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._lay_out()  # also after `to_empty`
        return self

    def extra_repr(self) -> str:
        """Shape, kind and relative cost."""
        m, n = self.shape
        text = f"{m}x{n}, kind={self.kind!r}, cap={self.cap}"
        return f"{text}, relative_cost={self.cost / max(1, m * n):.3g}"


def initial_weight(
    shape: tuple[int, int], variance: float, generator: torch.Generator | None
) -> Tensor:
    """Small uniform weight (m, n) of a variance."""
    bound = math.sqrt(3 * variance)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
