"""Gaudi-GBLR weights: GBLR matrices whose block widths and locations are learned."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat._derivatives import is_traced
from structmat.errors import InputError
from structmat.matrices import GBLR
from structmat.nn.gaudi import conversion, products, state
from structmat.nn.gaudi.circles import Circles, masked
from structmat.nn.gaudi.initial_weight import WHOLE_CIRCLE_SCALARS, initial_weight, whole_number
from structmat.nn.gaudi.masks import check_sigma
from structmat.nn.gaudi.operators import gaudi
from structmat.nn.gaudi.plain import smooth_mask
from structmat.nn.gaudi.side import Side, mask_dtype, sides_of
from structmat.nn.gaudi.structure import (
    GaudiStructure,
    Runs,
)
from structmat.nn.sharded import is_sharded, whole
from structmat.nn.structured import devices
from structmat.nn.structured.parameters import register
from structmat.nn.structured.products import autocast_dtype, check_inputs, without_autocast
from structmat.nn.structured.state import Structure, StructuredModule

#: Sharpness of the masks of evaluation.
_SHARP = torch.tensor(math.inf, dtype=torch.float64)


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
        self._sharpness = torch.tensor(sigma, dtype=torch.float64, device="cpu")
        if self._circles is not None:
            self._circles.sharpen("sigma", sigma)

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
        if self._is_real_valued:
            y = nn.functional.linear(x, self.dense())
        elif (there := self._constants()) is not None:
            left, right = self._masked(there, products.product_dtype(x))
            y = products.multiply_masked(x, left, right, there.device_name, self.product, bias)
            bias = None
        else:
            y = self._by_runs(x)
        if self.record_weight_grad and y.requires_grad:
            y.register_hook(lambda grad: self._record_from(grad, x))
        return y if bias is None else y + bias.to(y.dtype)

    def _by_runs(self, x: Tensor) -> Tensor:
        if torch.compiler.is_dynamo_compiling():
            return self._as_operator(x.to(products.product_dtype(x)))
        runs = self.structure()
        return products.multiply(x, self.u, self.v, runs, *self._sides(runs), self.product)

    def _as_operator(self, x: Tensor | None) -> Tensor:
        """Vectors (…, n) to (…, m), or the weight, as one operation for a compiler on a CPU."""
        sigma = self._sharpness if self.training else _SHARP
        rest = sigma, self._sizes, self.structure.is_pinned, self.product
        y: Tensor = gaudi(x, self.u, self.v, torch.stack(self.structure()), *rest)
        return y

    def _masked(self, circles: Circles, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Contents under the masks of the mode, on a device."""
        runs = self.structure()
        name = "sigma" if self.training else "sharp"
        pinned = self.structure.is_pinned
        sides = partial(self._sides, runs)
        return masked(circles, name, sides, self.u, self.v, runs, pinned=pinned, dtype=dtype)

    @property
    def _is_real_valued(self) -> bool:
        return self.training and not self.straight_through

    def _record_from(self, grad: Tensor, x: Tensor) -> None:
        m, n = self.shape
        self._record(grad.reshape(-1, m).T.float() @ x.detach().reshape(-1, n).float())

    @torch.no_grad()
    def _record(self, part: Tensor) -> None:
        """Add to the recorded gradient of the dense weight."""
        # A step that was skipped for its infinite gradients leaves them here.
        old = self.weight_grad
        if old is not None:
            part = part + torch.where(old.isfinite().all(), old, 0)
        self.weight_grad = part

    def multiplies(self, count: int) -> bool:
        """Tell whether `count` vectors are better multiplied by factors than by a dense weight."""
        if self._is_real_valued or is_traced():
            return False
        if (there := self._constants()) is not None:
            terms = self.num_blocks * self.rank
            facts = (there.device_name, self.u.dtype, count, self.shape, terms, self.product)
            return not products.assembles_on_device(*facts)
        rows, cols = self.sides()
        work = products.step_cost(count, rows, cols, self.u, self.u.dtype)
        return not products.assembles(work, self.product)

    def dense(self) -> Tensor:
        """The weight (m, n) as the present mode multiplies by it, with gradients."""
        if self._is_real_valued:
            return self._between_samples(self.structure())
        if (there := self._constants()) is not None:
            with without_autocast(self.u.device.type):
                left, right = self._masked(there, self.u.dtype)
                weight = left.T @ right
        else:
            weight = self._dense_by_runs()
        if self.record_weight_grad and weight.requires_grad:
            weight.register_hook(lambda grad: self._record(grad.float()))
        return weight

    def _dense_by_runs(self) -> Tensor:
        if torch.compiler.is_dynamo_compiling():
            return self._as_operator(None)
        runs = self.structure()
        return products.weight_of(self.u, self.v, runs, *self._sides(runs))

    def _between_samples(self, runs: Runs) -> Tensor:
        m, n = self.shape
        row = smooth_mask(runs.row_width.clamp(0, 1) * m, runs.row_location * m, m, self.sigma)
        col = smooth_mask(runs.col_width.clamp(0, 1) * n, runs.col_location * n, n, self.sigma)
        left = (self.u * row[:, None].to(self.u)).flatten(0, 1)
        return left.T @ (self.v * col[:, None].to(self.v)).flatten(0, 1)

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
