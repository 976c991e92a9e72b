"""Structure of matrices made of sparse factors: A = R [C^H; I].

GBLR, block-sparse and block-low-rank matrices have this form: a row factor multiplies what
a column factor makes of the operand, the operand itself, or both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from structmat._array import Array, Device, backend_of, computing_on
from structmat.intervals import IntArray
from structmat.kernels.layouts.panels import Pattern

Layout = TypeVar("Layout")
#: Entries that take as long as the start of a block, and as a scalar of a block's contents.
_ENTRIES_TO_START, _ENTRIES_A_SCALAR = 4, 1.5
#: Vectors up to which they are multiplied one by one by the entries of all blocks, and the
#: entries that all blocks then may have for a stored scalar.
MOST_SINGLE_VECTORS, _MOST_ENTRIES_A_SCALAR = 4, 2


def are_entries(height: IntArray, width: IntArray) -> np.ndarray:
    """Tell which rank-one blocks are quicker as single entries than as two vectors.

    Measured with blocks of 1x1 to 10x10: a block takes time to start, and writes its rows.
    """
    return height * width <= _ENTRIES_TO_START + _ENTRIES_A_SCALAR * (height + width)


def are_few_entries(height: IntArray, width: IntArray) -> bool:
    """Tell whether single vectors are quicker by the entries of all rank-one blocks."""
    return bool((height * width).sum() <= _MOST_ENTRIES_A_SCALAR * (height + width).sum())


class FactorStructure:
    """The structure of A = R [C^H; I], and the layouts that kernels make of it.

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

    Attributes
    ----------
    backend : Backend
    library : str
        Name of the array library.
    shape : tuple of int
        ``(m, n)``.
    middle : int
        K; 0 where there is one factor.
    patterns : list of Pattern
        R and, where there is one, C.
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
        self.backend, self.through = backend_of(xp), through or col is None
        self.library = self.backend.name
        m, inner = row.shape
        self.middle = 0 if col is None else col.shape[1]
        self.shape = m, inner if col is None else col.shape[0]
        self.patterns = [row] if col is None else [row, col]
        self._layouts: dict[str, Any] = {}

    def layouts(
        self, form: str, make: Callable[[Pattern, int], Layout], contents: list[Array]
    ) -> list[Layout]:
        """Layouts of all factors in a form, made when they are first asked for by its name.

        `make` lays out a pattern with a number of packed contents; `contents` give this number.
        """
        pairs = zip(self.patterns, contents, strict=True)
        return self.kept(form, lambda: [make(pattern, c.shape[0]) for pattern, c in pairs])

    def kept(self, form: str, make: Callable[[], Layout]) -> Layout:
        """A layout of the whole structure, made when it is first asked for by its name."""
        if form not in self._layouts:
            with computing_on(self.xp, self.device), self.backend.caching(self.xp):
                self._layouts[form] = make()
        found: Layout = self._layouts[form]
        return found

    @contextmanager
    def binding(self) -> Iterator[None]:
        """The context in which kernels are bound: on the device, for products in any stream."""
        if self.backend.current is None:
            yield
            return
        with self.backend.current(self.device), self.backend.caching(self.xp):
            yield

    def on(self, xp: ModuleType, device: Device) -> "FactorStructure":
        """The same structure for contents of another library or device."""
        return FactorStructure(self.row, self.col, xp, device, through=self.through)
