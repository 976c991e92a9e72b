"""Matrices made of sparse factors: A = R [C^H; I], and their products by any kernel.

GBLR, block sparse and block low rank all have this form: a row factor times what a column
factor makes of the operand, times the operand itself, or times both. `Factors` is what
such a matrix owes to its structure alone; `Factored` holds contents too and multiplies by
the kernel that promises the least time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from types import ModuleType
from typing import Any

from structmat._array import (
    Array,
    Device,
    backend_of,
    is_numpy,
    namespace_named,
    stored_by_columns,
    to_numpy,
)
from structmat.kernels.arrays.panels import PanelPlan
from structmat.kernels.choice import table as ways
from structmat.kernels.cost_model import Work, seconds
from structmat.kernels.layouts.panels import Pattern

_forced: ContextVar[str | None] = ContextVar("structmat kernel", default=None)
# How many contexts force a kernel: tracers follow a number, not a context variable. It is only
# looked at to spare products outside the look-up.
_forcing = 0


@contextmanager
def using(kernel: str) -> Iterator[None]:
    """Multiply by one kernel, whatever its expected time, as long as the context lasts.

    It holds for products of GBLR, block-sparse and block-low-rank matrices in the present
    thread or task, their sums and products included; other kinds have one way to multiply.

    Parameters
    ----------
    kernel : str
        One of "panels", "rows", "vectors", "tiles", "triton", "intervals", "pair" and
        "dense"; see `plan`, which says what each of them is.

    Raises
    ------
    InputError
        If there is no such kernel, or, from a product, if it does not fit the matrix.
    MissingDependencyError
        From a product, if the kernel needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [0], [1], shape=(4, 4))
    >>> with using("dense"):
    ...     A @ np.ones(4)
    array([2., 2., 0., 0.])
    """
    global _forcing
    ways.check_name(kernel)
    token = _forced.set(kernel)
    _forcing += 1
    try:
        yield
    finally:
        _forcing -= 1
        _forced.reset(token)


#: The dense product is preferred unless another kernel promises to be this much quicker.
DENSE_MARGIN = 0.88


class Factors:
    """The structure of A = R [C^H; I]; contents fill it.

    Parameters
    ----------
    row : Pattern
        R, shape (m, K), (m, n) or (m, K + n).
    col : Pattern or None
        C, shape (n, K); None where R multiplies the operand alone.
    xp : namespace
    device : device
    through : bool
        Whether the operand is part of what R multiplies.
    """

    def __init__(
        self,
        row: Pattern,
        col: Pattern | None,
        xp: ModuleType,
        device: Device,
        *,
        through: bool = False,
    ) -> None:
        self.row, self.col, self.xp, self.device = row, col, xp, device
        self.through = through or col is None
        m, inner = row.shape
        self.middle = 0 if col is None else col.shape[1]
        self.shape = m, inner if col is None else col.shape[0]
        self.patterns = [row] if col is None else [row, col]
        self._made: dict[str, list[Any]] = {}

    def panel_plans(self) -> list[PanelPlan]:
        """Layouts of the panels of both factors; made once."""

        def make(pattern: Pattern) -> PanelPlan:
            return PanelPlan(pattern.layout, pattern.shape, self.xp, self.device)

        return self._once("panels", lambda: [make(p) for p in self.patterns])

    def _once(self, name: str, make: Callable[[], list[Any]]) -> list[Any]:
        """What `make` returns of both patterns, made when it is first asked for."""
        if name not in self._made:
            with backend_of(self.xp).caching():
                self._made[name] = make()
        return self._made[name]

    def fill(self, row: Array, col: Array | None = None) -> "Factored":
        """The matrix with these packed contents of both factors."""
        factored = Factored(self, [row] if col is None else [row, col])
        if not is_numpy(self.xp):
            # Now, while what is kept may be made: a transform may ask for panels later.
            self.panel_plans()
            factored.way(ways.usual(factored, 1))
        return factored

    def strip_indices(self, totals: list[int]) -> list[Any]:
        """The strips of both factors on torch, for so many packed contents; made once."""
        from structmat.kernels.cpu.torch_op import StripIndex

        pairs = zip(self.patterns, totals, strict=True)
        return self._once("strips", lambda: [StripIndex(p, total) for p, total in pairs])

    def work(self, contents: list[Array]) -> Work:
        """What products have to do, counted from the structure."""
        planes = 2 if ways.is_complex(contents[0]) else 1
        itemsize = ways.itemsize(contents[0])
        height = max(64 * planes // itemsize, 1)
        patterns = self.patterns
        outlines = [p.outline() for p in patterns]
        return Work(
            *self.shape,
            self.middle,
            sum(c.shape[0] for c in contents),
            itemsize,
            planes,
            sum(-(-p.shape[0] // height) for p in patterns),
            sum(p.cells(6) for p in patterns) * 6,
            sum(p.cells(height) for p in patterns),
            sum(count for count, _ in outlines),
            sum(area for _, area in outlines),
        )

    def tile_matrices(self, totals: list[int]) -> list[Any]:
        """The tiles of both factors on torch, for so many packed contents; made once."""
        from structmat.kernels.triton.factor import tile_matrix

        pairs = zip(self.patterns, totals, strict=True)
        return self._once("tiles", lambda: [tile_matrix(p, t, self.device) for p, t in pairs])


class Factored:
    """A = R [C^H; I] ready to multiply.

    Parameters
    ----------
    factors : Factors
    contents : list of array
        Packed contents of R and, where there is one, of C.
    """

    def __init__(self, factors: Factors, contents: list[Array]) -> None:
        self.factors, self.shape, self.contents = factors, factors.shape, contents
        self._made: dict[str, Any] = {}
        self._chosen: dict[int, Any] = {}

    @cached_property
    def work(self) -> Work:
        """What products have to do."""
        return self.factors.work(self.contents)

    @cached_property
    def kernels(self) -> list[str]:
        """Kernels that fit, and whose packages are here."""
        return ways.fitting(self)

    def expected(self, columns: int) -> dict[str, float]:
        """Seconds that each kernel is expected to take; empty where nothing says."""
        if not ways.is_modelled(self):
            return {}
        worth = ways.worth_having(self)
        return {name: seconds(name, self.work, columns) for name in worth}

    def choose(self, columns: int) -> str:
        """The kernel that promises the least time for so many columns."""
        expected = self.expected(columns)
        if expected:
            weights = {"dense": DENSE_MARGIN}
            ranked = sorted(expected, key=lambda name: weights.get(name, 1.0) * expected[name])
            return next(name for name in ranked if ways.imports(name))
        return ways.usual(self, columns)

    def way(self, kernel: str) -> Any:
        """What multiplies by a kernel; errors say why it cannot."""
        if kernel not in self._made:
            self._made[kernel] = ways.make(self, kernel)
        return self._made[kernel]

    def on_numpy(self) -> "Factored":
        """The same matrix on NumPy; contents on the CPU are shared."""
        factors, xp = self.factors, namespace_named("numpy")
        patterns = factors.row, factors.col
        same = Factors(*patterns, xp, "cpu", through=factors.through)
        return Factored(same, [to_numpy(c) for c in self.contents])

    def multiply(self, x: Array) -> Array:
        """A x: (n, k) to (m, k)."""
        return self._way_for(x).multiply(x, by_columns=self._by_columns(x))

    def multiply_adjoint(self, y: Array) -> Array:
        """A^H y: (m, k) to (n, k)."""
        return self._way_for(y).multiply_adjoint(y, by_columns=self._by_columns(y))

    def _by_columns(self, x: Array) -> bool:
        return x.shape[1] > 1 and stored_by_columns(x, self.factors.xp)

    def _way_for(self, x: Array) -> Any:
        if _forcing and (forced := _forced.get()) is not None:
            return self.way(forced)
        columns = ways.counted(self, x.shape[1])
        way = self._chosen.get(columns)
        if way is None:
            way = self._chosen[columns] = self.way(self.choose(columns))
        return way
