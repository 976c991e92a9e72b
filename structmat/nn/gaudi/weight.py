"""Gaudi-GBLR weights: GBLR matrices whose block widths and locations are learned."""

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.errors import InputError
from structmat.matrices import GBLR
from structmat.nn.gaudi import conversion, products, routes, state
from structmat.nn.gaudi.circles import Circles
from structmat.nn.gaudi.initial_weight import WHOLE_CIRCLE_SCALARS, initial_weight, whole_number
from structmat.nn.gaudi.masks import check_sigma
from structmat.nn.gaudi.side import Side, mask_dtype, sides_of
from structmat.nn.gaudi.structure import (
    GaudiStructure,
    Runs,
)
from structmat.nn.sharded import is_sharded, whole
from structmat.nn.structured import devices
from structmat.nn.structured.parameters import register
from structmat.nn.structured.products import autocast_dtype, check_inputs
from structmat.nn.structured.state import Structure, StructuredModule


class GaudiWeight(StructuredModule):
    """A trainable GBLR matrix (m, n): Σ_k (u_k ∘ mask_k) (v_k ∘ mask_k)^T.

    In training, masks are Gaudi masks of sharpness `sigma`, rounded to whole samples
    with straight-through gradients. In evaluation they are hard boxcars: the matrix that
    `to_matrix` returns and `cost` counts.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``: outputs and inputs.
    num_blocks : int, optional
        K, with the rules by name; min(m, n) by default. Strips and the grid take the number
        from the budget.
    rank : int, optional
        Rank r of each block; 1 for strips. By default 1, or for a grid on a large matrix
        the least rank that keeps K r within four times its smaller side.
    granularity : int
        Widths and locations are multiples of this many samples (an axis that is no
        multiple keeps its end).
    sigma : float
        Sharpness of the masks in training; `SigmaSchedule` changes it.
    budget : float
        Cost at the start, as a fraction of m n, for strips and the grid.
    width_init : str or float
        "strips", a run of the inputs for each output, or "grid", of tiles that cover
        the matrix; both begin at the budget. Or the rules "splr", "lr" (with a share:
        "splr0.3"), "uniform", "beta", "zero", or a fraction of the axis.
    location_init : str or float
        "uniform", "linspace" or a fraction, for the rules by name.
    content_init : str or callable
        "normal", or "svd" for the singular pairs of a dense initial weight. A function that
        fills a dense weight in place means "svd" of that weight.
    min_width, max_width : int, optional
        Bounds on widths in samples, for both sides. Contents are stored on windows of
        `max_width` samples; by default whole circles while that is small, or three
        times the widest initial run and at least eight grains.
    learn_widths, learn_locations : bool
        Whether they are trained.
    straight_through : bool
        False keeps widths and locations real in training; masks then ring.
    product : str
        "assembled", "factors", or "auto" for the one estimated to take less time.
    generator : torch.Generator, optional
        For random choices.

    Notes
    -----
    Multiplications of a training step with T vectors: about 3 T m n + 3 K r m n
    assembled, 3 T r Σ widths by factors. Kept for the backward pass: the operand and
    the weight, or the operand and the T K r coefficients; coefficients of more than 1.5
    times the contents are computed again instead.

    Gaussian-Dirichlet masks: Lee & Kim, arXiv 2310.18882, sections 4 and 5.

    Examples
    --------
    >>> import torch
    >>> weight = GaudiWeight((8, 16), budget=0.75)
    >>> weight.num_blocks, weight.cost
    (8, 96)
    >>> weight(torch.ones(5, 16)).shape
    torch.Size([5, 8])
    """

    #: Name of the structure.
    kind = "gblr"
    #: Vectors for one example; a weight whose vectors were counted has it of its own.
    positions = 1
    # Class attributes, as pickles of version 0.1.0 name neither.
    #: Whether the next backward pass adds the gradient of the dense weight to `weight_grad`.
    record_weight_grad = False
    weight_grad: Tensor | None = None
    #: What products on a device need beside the parameters; None on a CPU.
    _circles: Circles | None = None

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        num_blocks: int | None = None,
        rank: int | None = None,
        granularity: int = 1,
        sigma: float = math.inf,
        budget: float = 0.25,
        width_init: str | float = "strips",
        location_init: str | float = "uniform",
        content_init: str | Callable[[Tensor], object] = "normal",
        min_width: int = 0,
        max_width: int | None = None,
        learn_widths: bool = True,
        learn_locations: bool = True,
        straight_through: bool = True,
        product: str = "auto",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        m, n = (whole_number(s, "shape", 1) for s in shape)
        self.shape = m, n
        if not 0 < budget < math.inf:
            raise InputError(f"budget = {budget!r}; expected a share of m n above 0")
        check_sigma(sigma)
        if product not in products.PRODUCTS:
            raise InputError(f"product = {product!r}; expected one of {products.PRODUCTS}")
        self.sigma, self.straight_through, self.product = sigma, straight_through, product
        self.granularity = whole_number(granularity, "granularity", 1)
        self.min_width = whole_number(min_width, "min_width", 0)
        #: Vectors that the weight multiplies for one example; costs of models count by it.
        self.rank, self.max_width, runs, u, v = initial_weight(
            self.shape,
            num_blocks=num_blocks,
            rank=rank,
            granularity=granularity,
            budget=budget,
            width_init=width_init,
            location_init=location_init,
            content_init=content_init,
            min_width=min_width,
            max_width=max_width,
            generator=generator,
        )
        if not straight_through and self.max_width != self.shape:
            raise InputError(
                f"straight_through = False with contents limited to {self.max_width} samples; "
                f"expected whole circles (max_width={max(self.shape)})"
            )
        self.structure = GaudiStructure(
            runs, learn_widths=learn_widths, learn_locations=learn_locations
        )
        register(self, "u", u)
        register(self, "v", v)
        self.to(device=device, dtype=dtype)

    @classmethod
    def from_matrix(cls, matrix: GBLR, **options: Any) -> "GaudiWeight":
        """A trainable weight that begins as a given GBLR matrix.

        Parameters
        ----------
        matrix : GBLR
            From any library; its blocks and contents are copied.
        **options
            Those of the constructor, except for blocks and initial values.

        Examples
        --------
        >>> import numpy as np
        >>> from structmat import GBLR
        >>> A = GBLR([3], [2], [1.0, 2.0], [1], [2], [1.0, 10.0], shape=(4, 3))
        >>> GaudiWeight.from_matrix(A).dense().sum().item()
        33.0
        """
        widest = int(max([1, *matrix.row_width, *matrix.col_width]))
        if matrix.num_blocks * sum(matrix.shape) > WHOLE_CIRCLE_SCALARS:
            options = {"max_width": 2 * widest, **options}
        matrix = matrix.to("torch")
        if matrix.u.is_complex():
            raise InputError(f"the matrix is {matrix.dtype}; expected real contents")
        options = {"dtype": matrix.dtype, "device": matrix.device, **options}
        weight = cls(matrix.shape, num_blocks=matrix.num_blocks, width_init="zero", **options)
        conversion.check_fits(
            matrix, rank=weight.rank, min_width=weight.min_width, granularity=weight.granularity
        )
        conversion.unpack_(matrix, weight.u, weight.v, weight.structure)
        return weight

    @property
    def sigma(self) -> float:
        """Sharpness of the masks in training."""
        return self._sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self._sigma = sigma
        if self._circles is not None:
            self._circles.sharpen("sigma", sigma)
        else:
            self._sharpness = torch.tensor(sigma, dtype=torch.float64, device="cpu")

    def _constants(self) -> Circles | None:
        """Constants of products on the device where the contents are now; None on a CPU.

        Loaders may have put parameters on another device by assignment.
        """
        known, own = self._circles, self.u
        if known is None:
            stale = devices.is_apart(own.device)
        else:
            stale = known.device != own.device or known.dtype != mask_dtype(own.dtype)
        if stale:
            self._lay_out()
        return self._circles

    def _lay_out(self) -> None:
        """Make what follows from the settings, on the device of the contents."""
        self._circles = None
        if devices.is_apart(self.u.device):
            sizes = self.shape, self.max_width, self.granularity, self.min_width
            self._circles = Circles(*sizes, self.u, self.structure.row_width.dtype)
            self._circles.sharpen("sharp", math.inf)
            self._circles.sharpen("sigma", self.sigma)
        else:
            self._sharpness = torch.tensor(self.sigma, dtype=torch.float64, device="cpu")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._lay_out()
        return self

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_sharpness"}
        return {**kept, "_circles": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        sigma = state.pop("sigma", None)  # of version 0.1.0
        super().__setstate__(state)
        self.sigma = state["_sigma"] if sigma is None else sigma
        self._lay_out()

    @property
    def num_blocks(self) -> int:
        """Number of blocks K, those of width zero included."""
        return self.structure.row_width.shape[0]

    @torch.no_grad()
    def sides(self) -> tuple[Side, Side]:
        """Rows and columns of all blocks in whole samples, under the masks of the mode.

        Sharded widths and locations are gathered: call it on every process.
        """
        return self._sides(Runs(*[whole(getattr(self.structure, name)) for name in Runs._fields]))

    def _sides(self, runs: Runs) -> tuple[Side, Side]:
        sigma = self.sigma if self.training else math.inf
        return sides_of(runs, self._sizes, sigma, pinned=self.structure.is_pinned)

    @property
    def _sizes(self) -> list[int]:
        return [*self.shape, *self.max_width, self.granularity, self.min_width]

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Vectors (…, n) to (…, m), plus a bias (m,) if there is one."""
        check_inputs(x, self.shape, self)
        if x.dtype != self.u.dtype and autocast_dtype(x) is None:
            raise InputError(
                f"input of {x.dtype} for a weight of {self.u.dtype}; expected one dtype (move the "
                "layer with .to(dtype), cast the input, or use torch.autocast)"
            )
        return routes.multiply(self, x, bias)

    def multiplies(self, count: int) -> bool:
        """Tell whether `count` vectors are better multiplied by factors than by a dense weight."""
        return routes.multiplies(self, count)

    def dense(self) -> Tensor:
        """The weight (m, n) as the present mode multiplies by it, with gradients."""
        return routes.dense(self)

    @property
    def cost(self) -> int:
        """Multiplications for one vector in evaluation: rank times the widths of live blocks.

        These are the published count, to which the rules of Gaudi layers hold. The packed matrix
        costs one less for each block one sample wide on a side.

        Sharded widths are gathered: ask for it on every process.
        """
        rows, cols = self.sides()
        alive = (rows.width > 0) & (cols.width > 0)
        return self.rank * int(((rows.width + cols.width) * alive).sum())

    @property
    def fan_in(self) -> float:
        """Multiplications for each output, on average."""
        return self.cost / self.shape[0]

    @property
    def storage(self) -> int:
        """Scalars that `to_matrix` stores; the weight itself keeps contents off the runs too."""
        return self.cost

    def to_matrix(self) -> GBLR:
        """The matrix of evaluation, packed: hard boxcars, blocks without a side left out."""
        return conversion.pack(self.u, self.v, *self.sides())

    def _describe(self) -> Structure:
        return state.described(self)

    def _take_structure(self, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        state.take_(self, entry, arrays)
        self._lay_out()

    def _take_older(self, found: dict[str, Any], prefix: str) -> bool:
        return False

    def refresh(self) -> None:
        """Nothing is computed before it is used."""

    def extra_repr(self) -> str:
        """Sizes, as `torch.nn.Linear` prints its own."""
        m, n = self.shape
        sizes = f"{m}x{n}, num_blocks={self.num_blocks}, rank={self.rank}"
        width = self.structure.row_width
        # Printed on one process alone, a sharded cost would wait for the others for ever.
        if is_sharded(width) or width.is_meta:
            return sizes
        return f"{sizes}, cost={self.cost / (m * n):.3g}"
