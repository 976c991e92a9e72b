"""Gaudi-GBLR weights: GBLR matrices whose block widths and locations are learned."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from structmat.errors import InputError, ShapeError
from structmat.intervals import positions
from structmat.kernels.cost_model.layers import StepCost
from structmat.matrices import GBLR
from structmat.nn.gaudi import initial_runs as starts
from structmat.nn.gaudi.factors import factor_product
from structmat.nn.gaudi.initial_runs import Runs
from structmat.nn.gaudi.initial_weight import (
    WHOLE_CIRCLES,
    first_contents,
    first_runs,
    whole_number,
    windows,
)
from structmat.nn.gaudi.masks import check_sigma, mask_table, spectral_mask
from structmat.nn.gaudi.products import step_cost, weight_of
from structmat.nn.gaudi.samples import whole_locations, whole_widths
from structmat.nn.gaudi.side import Axis
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.sharded import is_sharded, whole

PRODUCTS = ("auto", "assembled", "factors")


class GaudiWeight(nn.Module):
    """A trainable GBLR matrix (m, n): Σ_k (u_k ∘ mask_k) (v_k ∘ mask_k)^T.

    In training, masks are Gaudi masks of sharpness `sigma`, rounded to whole samples
    with straight-through gradients. In evaluation they are hard boxcars, so that what
    is evaluated is what `to_matrix` returns and what `cost` counts.

    Parameters
    ----------
    shape : tuple of int
        ``(m, n)``: outputs and inputs.
    num_blocks : int, optional
        K, with the rules by name; min(m, n) by default. What begins at a cost has as many
        as that takes.
    rank : int, optional
        Rank of each block, r; strips have 1 alone. By default 1, or for a grid on a large
        matrix what keeps K r within four times its smaller side.
    granularity : int
        Widths and locations are multiples of this many samples (an axis that is no
        multiple keeps its end).
    sigma : float
        Sharpness of the masks in training; `SigmaSchedule` changes it.
    budget : float
        Cost at the start, as a fraction of m n, for strips and the grid.
    width_init : str or float
        "strips", a window of the inputs for each output, or "grid", of tiles that cover
        the matrix; both begin at the budget. Or the rules "splr", "lr" (with a share:
        "splr0.3"), "uniform", "beta", "zero", or a fraction of the axis.
    location_init : str or float
        "uniform", "linspace" or a fraction, for the rules that begin at no given cost.
    content_init : str or callable
        "normal", or "svd" for the singular pairs of a dense initial weight; a function
        that fills a dense weight in place stands for "svd" with that weight.
    min_width, max_width : int, optional
        Bounds on widths in samples, for both sides. Contents are stored on windows of
        `max_width` samples; by default whole circles while that is small, or three
        times the widest initial run and at least eight grains.
    learn_widths, learn_locations : bool
        Whether they are trained.
    straight_through : bool
        False keeps widths and locations real in training; masks then ring.
    product : str
        "assembled", "factors", or "auto" for what promises less time.
    generator : torch.Generator, optional
        For random choices.

    Notes
    -----
    Multiplications of a training step with T vectors: about 3 T m n + 3 K r m n
    assembled, 3 T r Σ widths by factors. Kept for the backward pass: the operand and
    the weight, or the operand and the T K r coefficients, which are computed again where
    they are more than 1.5 times the contents.

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

    # Class attributes, as pickles of version 0.1.0 name neither.
    #: Whether the next backward pass adds the gradient of the dense weight to `weight_grad`.
    record_weight_grad = False
    weight_grad: Tensor | None = None

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
        self.granularity = whole_number(granularity, "granularity", 1)
        if rank is None:
            rank = 1
            if width_init == "grid":
                rank = starts.grid_rank(self.shape, budget * m * n, granularity=granularity)
        self.rank = whole_number(rank, "rank", 1)
        self.sigma, self.straight_through = sigma, straight_through
        check_sigma(sigma)
        if product not in PRODUCTS:
            raise InputError(f"product = {product!r}; expected one of {PRODUCTS}")
        self.product = product
        #: Vectors that it multiplies for one example; `cost` of a model weighs by it.
        self.positions = 1
        self.min_width = whole_number(min_width, "min_width", 0)
        runs = first_runs(
            self.shape,
            num_blocks=num_blocks,
            rank=self.rank,
            granularity=self.granularity,
            budget=budget,
            width_init=width_init,
            location_init=location_init,
            generator=generator,
        )
        self.max_width: tuple[int, int] = windows(
            self.shape,
            runs,
            rank=self.rank,
            granularity=self.granularity,
            min_width=self.min_width,
            max_width=max_width,
        )
        if not straight_through and self.max_width != self.shape:
            raise InputError(
                f"straight_through = False with contents limited to {self.max_width} samples; "
                f"expected whole circles (max_width={max(self.shape)})"
            )
        u, v = first_contents(
            self.shape,
            runs,
            rank=self.rank,
            lengths=self.max_width,
            rule=content_init,
            generator=generator,
        )
        self.structure = GaudiStructure(
            runs, learn_widths=learn_widths, learn_locations=learn_locations
        )
        self.u, self.v = nn.Parameter(u), nn.Parameter(v)
        self.to(device=device, dtype=dtype)

    @classmethod
    def from_matrix(cls, matrix: GBLR, **options: Any) -> "GaudiWeight":
        """A trainable weight that begins as a given GBLR matrix.

        Parameters
        ----------
        matrix : GBLR
            From any library; its blocks and contents are copied.
        **options
            As the constructor takes them, but for those that say where to begin.

        Examples
        --------
        >>> import numpy as np
        >>> from structmat import GBLR
        >>> A = GBLR([3], [2], [1.0, 2.0], [1], [2], [1.0, 10.0], shape=(4, 3))
        >>> GaudiWeight.from_matrix(A).dense().sum().item()
        33.0
        """
        widest = int(max([1, *matrix.row_width, *matrix.col_width]))
        if matrix.num_blocks * sum(matrix.shape) > WHOLE_CIRCLES:
            options = {"max_width": 2 * widest, **options}
        matrix = matrix.to("torch")
        if matrix.u.is_complex():
            raise InputError(f"the matrix is {matrix.dtype}; expected real contents")
        options = {"dtype": matrix.dtype, "device": matrix.device, **options}
        weight = cls(matrix.shape, num_blocks=matrix.num_blocks, width_init="zero", **options)
        weight._check_holds(matrix)
        weight._take(matrix)
        return weight

    def _check_holds(self, matrix: GBLR) -> None:
        if self.rank != 1:
            raise InputError(f"rank = {self.rank} from a GBLR matrix; expected 1, as it has")
        widths = [w for w in (*matrix.row_width, *matrix.col_width) if w]
        if widths and min(widths) < self.min_width:
            raise InputError(
                f"min_width = {self.min_width}, but the matrix has a run of {min(widths)}; "
                "expected at most that"
            )
        g = self.granularity
        (m, n), places = self.shape, (matrix.row_start, matrix.col_start)
        partial = (matrix.row_width % m, matrix.col_width % n)  # a full width is always held
        if any((array % g).any() for array in (*places, *partial)):
            raise InputError(
                f"granularity = {g}, but the matrix has runs between its multiples; expected "
                "granularity=1"
            )

    @torch.no_grad()
    def _take(self, matrix: GBLR) -> None:
        (m, n), structure = self.shape, self.structure
        sides = (
            ("row", m, self.u, matrix.row_start, matrix.row_width, matrix.u),
            ("col", n, self.v, matrix.col_start, matrix.col_width, matrix.v),
        )
        for name, size, contents, start, width, packed in sides:
            window = contents.shape[-1]
            if width.max(initial=0) > window:
                raise InputError(
                    f"max_width = {window} below a {name} width of {width.max()}; expected at "
                    "least that"
                )
            contents.zero_()
            block = torch.from_numpy(np.repeat(np.arange(len(width)), width))
            slot = torch.from_numpy(positions(start % window, width, window))
            contents[block, 0, slot] = packed.to(contents)
            getattr(structure, f"{name}_width").copy_(torch.from_numpy(width / size))
            getattr(structure, f"{name}_location").copy_(torch.from_numpy(start / size))

    @property
    def num_blocks(self) -> int:
        """Number of blocks K, those of width zero included."""
        return self.structure.row_width.shape[0]

    def _samples(self, runs: Runs) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Whole widths and locations of rows and of columns; locations may be off the circle."""
        return (
            self._rounded(runs.row_width, runs.row_location, 0),
            self._rounded(runs.col_width, runs.col_location, 1),
        )

    def _rounded(self, width: Tensor, location: Tensor, side: int) -> tuple[Tensor, Tensor]:
        n, g, limit = self.shape[side], self.granularity, self.max_width[side]
        least = min(self.min_width, limit)
        return whole_widths(width, n, g, least, limit), whole_locations(location, n, g)

    def _axes(self, runs: Runs, sigma: float) -> tuple[Axis, Axis]:
        axes = []
        for n, limit, (width, location) in zip(
            self.shape, self.max_width, self._samples(runs), strict=True
        ):
            table = mask_table(n, sigma, _mask_dtype(self.u.dtype), self.u.device)
            axes.append(Axis(n, location, width, limit, table))
        return axes[0], axes[1]

    @property
    def _sharpness(self) -> float:
        return self.sigma if self.training else math.inf

    # Which tiles are multiplied depends on the widths of the moment: nothing to compile.
    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """Vectors (…, n) to (…, m)."""
        n = self.shape[1]
        if x.ndim == 0 or x.shape[-1] != n:
            raise ShapeError(f"input of shape {tuple(x.shape)}; expected (…, {n})")
        if x.dtype != self.u.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputError(
                f"input of {x.dtype} for a weight of {self.u.dtype}; expected one dtype (move the "
                "layer with .to(dtype), cast the input, or use torch.autocast)"
            )
        y = self._product(x)
        if self.record_weight_grad and y.requires_grad:
            y.register_hook(lambda grad: self._record_from(grad, x))
        return y

    def _product(self, x: Tensor) -> Tensor:
        m, n = self.shape
        if self.training and not self.straight_through:
            return nn.functional.linear(x, self.dense())
        runs = self.structure()
        rows, cols = self._axes(runs, self._sharpness)
        work = step_cost(math.prod(x.shape[:-1]), rows, cols, self.u, _product_dtype(x))
        if self._assembles(work):
            return nn.functional.linear(x, self._weight(runs, rows, cols, work))
        vectors = x.reshape(math.prod(x.shape[:-1]), n).to(_product_dtype(x))
        y = factor_product(vectors, self.u, self.v, runs, rows, cols)
        return y.reshape(*x.shape[:-1], m)

    def _record_from(self, grad: Tensor, x: Tensor) -> None:
        m, n = self.shape
        self._record(grad.reshape(-1, m).T.float() @ x.detach().reshape(-1, n).float())

    @torch.no_grad()
    def _record(self, part: Tensor) -> None:
        """Add to the recorded gradient of the dense weight."""
        # A step that was skipped for its infinite gradients leaves them here.
        old = self.weight_grad
        self.weight_grad = old + part if old is not None and bool(old.isfinite().all()) else part

    def multiplies(self, count: int) -> bool:
        """Whether `count` vectors are better multiplied by factors than by a dense weight."""
        if self.training and not self.straight_through:
            return False
        rows, cols = self._axes(self._whole_runs(), self._sharpness)
        return not self._assembles(step_cost(count, rows, cols, self.u, self.u.dtype))

    def _assembles(self, work: StepCost) -> bool:
        if self.product != "auto":
            return self.product == "assembled"
        return work.factors > min(work.assembled, work.by_identity)

    def _weight(self, runs: Runs, rows: Axis, cols: Axis, work: StepCost) -> Tensor:
        assembled = work.assembled <= work.by_identity
        return weight_of(self.u, self.v, runs, rows, cols, assembled=assembled)

    @torch.compiler.disable
    def dense(self) -> Tensor:
        """The weight (m, n) as the present mode multiplies by it, with gradients."""
        runs = self.structure()
        if self.training and not self.straight_through:
            return self._real_valued(runs)
        rows, cols = self._axes(runs, self._sharpness)
        weight = self._weight(runs, rows, cols, step_cost(0, rows, cols, self.u, self.u.dtype))
        if self.record_weight_grad and weight.requires_grad:
            weight.register_hook(lambda grad: self._record(grad.float()))
        return weight

    def _real_valued(self, runs: Runs) -> Tensor:
        m, n = self.shape
        row = spectral_mask(runs.row_width.clamp(0, 1) * m, runs.row_location * m, m, self.sigma)
        col = spectral_mask(runs.col_width.clamp(0, 1) * n, runs.col_location * n, n, self.sigma)
        left = (self.u * row[:, None].to(self.u)).flatten(0, 1)
        return left.T @ (self.v * col[:, None].to(self.v)).flatten(0, 1)

    @property
    def cost(self) -> int:
        """Multiplications for one vector in evaluation: rank times the widths of live blocks.

        Sharded widths are gathered: ask for it on every process.
        """
        with torch.no_grad():
            (row, _), (col, _) = self._samples(self._whole_runs())
            alive = (row > 0) & (col > 0)
            return self.rank * int(((row + col) * alive).sum())

    @property
    def storage(self) -> int:
        """Scalars that `to_matrix` stores; here, contents off the runs are kept as well."""
        return self.cost

    def _whole_runs(self) -> Runs:
        return Runs(*(whole(getattr(self.structure, name)) for name in Runs._fields))

    @torch.no_grad()
    def to_matrix(self) -> GBLR:
        """The matrix of evaluation, packed: hard boxcars, blocks without a side left out."""
        (rw, rl), (cw, cl) = self._samples(self._whole_runs())
        alive = (rw > 0) & (cw > 0)
        sides = []
        for contents, width, location, size in (
            (self.u, rw, rl, self.shape[0]),
            (self.v, cw, cl, self.shape[1]),
        ):
            window = contents.shape[-1]
            w = width[alive].cpu().numpy().repeat(self.rank)
            l = location[alive].cpu().numpy().repeat(self.rank)
            at = np.repeat(np.arange(len(w)) * window, w) + positions(l % window, w, window)
            flat = whole(contents)[alive].reshape(-1)
            sides.append((l % size, w, flat[torch.from_numpy(at).to(flat.device)].clone()))
        return GBLR(*sides[0], *sides[1], shape=self.shape)

    def extra_repr(self) -> str:
        """Sizes, as `torch.nn.Linear` prints its own."""
        m, n = self.shape
        sizes = f"{m}x{n}, num_blocks={self.num_blocks}, rank={self.rank}"
        width = self.structure.row_width
        # Whoever prints on one process would wait for ever for the others' widths.
        if is_sharded(width) or width.is_meta:
            return sizes
        return f"{sizes}, cost={self.cost / (m * n):.3g}"


def _mask_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product would run in here: autocast's dtype, or the operand's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
