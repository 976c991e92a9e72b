"""`AnnealWeight`: a dense weight that comes down to a structure while it is trained."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from structmat.errors import InputError, KindError
from structmat.matrices import Dense
from structmat.matrix import StructuredMatrix
from structmat.nn.anneal import state
from structmat.nn.anneal.flat import FlatMatrix, filled, flat_contents
from structmat.nn.anneal.projected import Projected, in_order, packed
from structmat.nn.anneal.sides import check_sides, least_cost
from structmat.nn.sharded import whole, write_
from structmat.nn.structured import devices, products
from structmat.nn.structured.parameters import register
from structmat.nn.structured.products import affine, autocast_dtype, check_dtype, check_inputs
from structmat.nn.structured.state import Structure, StructuredModule

#: Kinds whose structure is learned.
LEARNED_KINDS = ("gblr", "block_sparse", "block_low_rank", "low_rank")
#: Gains that a mask of one byte an entry holds.
_NARROW_GAINS = range(1, 128)


class AnnealWeight(StructuredModule):
    """A trainable weight (m, n) that begins dense and ends as a structured matrix.

    The rule `structmat.nn.Anneal` projects the weight onto structures of falling cost. Between
    projections the entries on the support of the structure are trained, as in a dense layer:
    y = (W ∘ S) x. The last projection leaves a structure of low-rank blocks as their contents:
    these are trained from then on, and products run through the structure.

    Parameters
    ----------
    weight : tensor (m, n)
        Initial values; they are copied.
    cap : int
        Multiplications for one vector that the learned structure may have; at most those of
        the dense weight count.
    kind : str
        Kind of the learned structure: "gblr", "block_sparse", "block_low_rank" or "low_rank".
    tile : int, optional
        Rows and columns of the tiles of "block_sparse" and "block_low_rank"; by default chosen
        by the cap.
    group : int, optional
        Outputs that share their windows of inputs, for "gblr".

    Attributes
    ----------
    weight : torch.nn.Parameter (m, n)
        Dense values, of which those off the support do not count. Once `is_factored`, its
        first entries, row after row, are the contents of the blocks, and the others do not
        count: it is one parameter throughout, so that optimizers and wrappers keep it. A
        buffer if it is empty.
    projected : Projected
        The present structure.
    is_factored : bool
        Whether the contents of blocks are trained, and not the entries of the support.
    gain : float
        Number by which the parameter is multiplied: the weight is ``gain * weight`` on the
        support.
    positions : int
        Number of vectors that the weight multiplies for one example; 1 until it is set on
        the instance.

    Raises
    ------
    KindError
        If the structure of this kind is not learned.
    InputError
        If `cap` is negative, `tile` or `group` is no integer of at least 1 or belongs to another
        kind, or the weight is no real matrix.

    Notes
    -----
    A training step costs as much as that of a dense layer, 6 m n multiplications a vector, and
    one pass over the weight; as much as that of the structure, once it is factored. Memory: the
    weight, and as much again for the support.

    Examples
    --------
    >>> import torch
    >>> weight = AnnealWeight(torch.ones(8, 16), cap=32)
    >>> weight.cost, weight(torch.ones(5, 16)).shape
    (128, torch.Size([5, 8]))
    """

    # Of the class, so that a weight whose vectors were counted has it of its own.
    positions = 1
    # Pickles of earlier versions have neither.
    tile: int | None = None
    group: int | None = None

    def __init__(
        self,
        weight: Tensor,
        cap: int,
        *,
        kind: str = "gblr",
        tile: int | None = None,
        group: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in LEARNED_KINDS:
            raise KindError(f"kind {kind!r}; expected one of {', '.join(LEARNED_KINDS)}")
        check_sides(kind, tile, group)
        if weight.ndim != 2 or not weight.is_floating_point():
            raise InputError(
                f"weight has shape {tuple(weight.shape)} and dtype {weight.dtype}; expected a "
                "real matrix (m, n)"
            )
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 0:  # type: ignore[redundant-expr]
            raise InputError(f"cap = {cap!r}; expected a number of multiplications, at least 0")
        m, n = weight.shape
        self.shape, self.cap, self.kind = (m, n), min(cap, m * n), kind
        self.tile, self.group = (None if s is None else int(s) for s in (tile, group))
        self.state_size = state.size_bound(self.shape, self.cap, kind, tile)
        register(self, "weight", weight.detach().clone(memory_format=torch.contiguous_format))
        self.follow(Projected.whole(self.shape))

    def follow(self, projected: Projected, *, factored: bool = False, gain: float = 1.0) -> None:
        """Read the present values of the parameter as another structure lays them out."""
        self.projected, self.is_factored, self.gain = projected, factored, gain
        self._lay_out()

    def _lay_out(self) -> None:
        """Make what follows from the structure, on the device of the weight."""
        projected, own = self.projected, self.weight
        # No buffers, which wrappers of distributed training would send with every step.
        self._blocks: FlatMatrix | None = None
        self._mask: Tensor | None = None
        if self.is_factored and projected.matrix is not None:
            ordered = in_order(projected.matrix, projected.row_order, projected.col_order)
            self._blocks = FlatMatrix(ordered, own)
        elif not projected.support.all():
            # With values on the meta device too: what fills the weight there may not tell.
            device = "cpu" if own.is_meta else own.device
            # One byte an entry on a device. A CPU multiplies more slowly by other dtypes.
            narrow = devices.is_apart(own.device) and self.gain in _NARROW_GAINS
            dtype = torch.int8 if narrow else own.dtype
            mask = torch.tensor(projected.support, dtype=dtype, device=device)
            self._mask = mask * (int(self.gain) if narrow else self.gain)

    @torch.no_grad()
    def take_(self, projected: Projected, *, factored: bool = False, gain: float = 1.0) -> None:
        """Take a structure: put the weight on it, and train its contents from now on.

        Parameters
        ----------
        projected : Projected
        factored : bool
            Train the contents of ``projected.matrix``, if there is one, and not the entries
            of the support.
        gain : float
            Number by which the parameter is multiplied from now on. The weight is the same
            with each: steps of an optimizer move it by as much more.
        """
        like = {"dtype": self.weight.dtype, "device": self.weight.device}
        if projected.matrix is None:
            values = self.values() * torch.tensor(projected.support, device=like["device"])
        elif factored:
            flat = torch.from_numpy(flat_contents(projected.matrix))
            values = torch.zeros(self.shape, **like)
            values.view(-1)[: len(flat)] = flat.to(**like)
        else:
            matrix = in_order(projected.matrix, projected.row_order, projected.col_order)
            values = torch.tensor(matrix.to_dense(), **like)
        write_(self.weight, values / gain)
        self.follow(projected, factored=factored and projected.matrix is not None, gain=gain)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Vectors (…, n) to (…, m), plus a bias (m,) if there is one.

        Raises
        ------
        ShapeError
            If the last axis is not n.
        InputError
            If the dtype differs from that of the weight, without autocast.
        """
        check_inputs(x, self.shape, self)
        dtype = autocast_dtype(x)
        if dtype is None:
            check_dtype(x.dtype, self.weight.dtype)
        if self._blocks is None:
            return F.linear(x, self.dense(), bias)
        if dtype is None:
            matrix = self._blocks.around(self._contents(self.weight))
            return affine(matrix, x, bias, self._blocks.times)
        with torch.autocast(x.device.type, enabled=False):
            matrix = self._blocks.around(self._contents(self.weight).to(dtype))
            return affine(matrix, x.to(dtype), bias, self._blocks.times)

    def dense(self) -> Tensor:
        """The weight (m, n) that vectors are multiplied by, with gradients."""
        if self._blocks is not None:
            return products.dense(self._blocks.around(self._contents(self.weight)))
        if self._mask is None:
            return self.weight
        # The weight may have been moved or cast by what calls no method of modules.
        dtype = self.weight.dtype if self._mask.is_floating_point() else self._mask.dtype
        return self.weight * self._mask.to(self.weight.device, dtype)

    def _contents(self, known: Tensor) -> Tensor:
        """Contents of the blocks, which begin the parameter of these values."""
        assert self._blocks is not None
        return self.gain * known.flatten()[: self._blocks.size]

    @torch.no_grad()
    def values(self) -> Tensor:
        """A copy of the dense weight (m, n), gathered from all processes."""
        known = whole(self.weight)
        if self._blocks is not None:
            return products.dense(self._blocks.around(self._contents(known))).clone()
        return known.clone() if self._mask is None else known * self._mask.to(known)

    def present(self) -> Projected:
        """The present structure, with the contents of the present blocks."""
        matrix = self.projected.matrix
        if matrix is None or not self.is_factored:
            return self.projected
        known = self._contents(whole(self.weight)).float().cpu().numpy()
        return replace(self.projected, matrix=filled(matrix, known))

    @property
    def cost(self) -> int:
        """Multiplications for one vector of the structure that the last projection left."""
        return self.projected.cost

    @property
    def least(self) -> int:
        """Multiplications of the smallest structure with anything in it."""
        return least_cost(self.kind, self.shape, self.tile, self.group)

    @property
    def storage(self) -> int:
        """Scalars of that structure, with the orders of its rows and columns."""
        return self.projected.storage

    @property
    def fan_in(self) -> int:
        """Live entries in a row when training begins: all, so that rates stay when it resumes."""
        return self.shape[1]

    @torch.no_grad()
    def to_matrix(self) -> StructuredMatrix:
        """The matrix that vectors are multiplied by, on torch: exactly, in its structure."""
        if self._blocks is not None:
            return self._blocks.copied(self._contents(whole(self.weight)))
        values = self.values()
        if self._mask is None:
            return Dense(values)
        found = packed(values.double().cpu().numpy(), self.projected)
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
        self._lay_out()
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
