"""Results of `compress` and of `compare`; both print as a table."""

import math
from dataclasses import dataclass

from structmat._html import SMALL, blocks_svg
from structmat._markup import amount
from structmat._table import Table
from structmat.compress.estimate import Estimate
from structmat.matrix import StructuredMatrix

#: Columns of the tables, and the unit of two of them; in full on a page, which is wider.
HEAD, UNITS = ("kind", "cost", "storage", "error", "seconds"), "cost and storage: shares of m n"
_IN_FULL = "cost: multiplications of one matvec; storage: scalars; shares of m n"


@dataclass(frozen=True, repr=False)
class CompressionResult:
    """A structured approximation, with its measured error and its cost.

    It prints as a table; a notebook shows the picture of the blocks beside it.

    Attributes
    ----------
    matrix : StructuredMatrix
        In the array library and on the device of the input.
    kind : str
        Its structure.
    error : float
        Relative error, ``||A - B||_F / ||A||_F``; 0 for a zero matrix. It is measured, or
        estimated where `estimate` has a confidence below 1.
    cost : int
        Multiplications of one matvec.
    storage : int
        Stored scalars.
    baseline_error : float
        Relative error of the truncated singular value decomposition at the same cost:
        of rank ``cap // (m + n)``, where cap is the budget's or else `cost`. NaN for an operator
        whose products so far do not tell it.
    seconds : float
        Time that the fit took, without measuring it.
    estimate : Estimate
        The error with the bound that meets the tolerance, the probability of the bound, and
        the number of products that it comes from.
    products : int
        Columns that an operator multiplied in all, on both sides; 0 for an array.
    entries : int
        Entries of a source that were evaluated in all, for fit and estimate; 0 for an array.
    ordered : bool
        Whether rows and columns were put in the order of a k-d tree of the points. The matrix
        has these orders as permutations, or as its own.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> result = structmat.compress(np.eye(8), "block_sparse", budget=0.5)
    >>> result.kind, result.error, result.matrix.cost == result.cost
    ('block_sparse', 0.0, True)
    """

    matrix: StructuredMatrix
    kind: str
    error: float
    cost: int
    storage: int
    baseline_error: float
    seconds: float
    estimate: Estimate
    products: int = 0
    entries: int = 0
    ordered: bool = False

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table(full=True).html([blocks_svg(self.matrix)])

    def _table(self, *, full: bool = False) -> Table:
        m, n = self.matrix.shape
        notes = [f"{m}x{n}, {self.matrix.dtype}; {_IN_FULL if full else UNITS}"]
        if not math.isnan(self.baseline_error):
            notes.append(f"truncated SVD at equal cost: error {self.baseline_error:.3g}")
        if self.estimate.confidence < 1:
            notes.append(f"error {self.estimate}")
        if self.products:
            notes.append(f"{self.products} products in all")
        if self.entries:
            share = self.entries / max(m * n, 1)
            notes.append(f"{self.entries} entries evaluated, {100 * share:.3g} % of m n")
        if self.ordered:
            notes.append("rows and columns in the order of a k-d tree of the points")
        row = _figures(self.kind, self.matrix, self.error, self.seconds, full=full)
        return Table(HEAD, [row], notes)


@dataclass(frozen=True)
class Comparison:
    """One row of `compare`.

    Attributes
    ----------
    kind : str
        The structure.
    matrix : StructuredMatrix or None
        None if no matrix of the kind keeps to the budget or meets the tolerance.
    cost, storage : int
        Multiplications of one matvec, and stored scalars.
    error : float
        Measured relative error; NaN without a matrix.
    seconds : float
        Time that the fit took.
    note : str
        Reason for a missing matrix; otherwise empty.
    estimate : Estimate or None
        As in `CompressionResult`; None without a matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> rows = structmat.compare(np.eye(4), budget=0.25)
    >>> [row.kind for row in rows if row.matrix is None]
    ['monarch']
    """

    kind: str
    matrix: StructuredMatrix | None
    cost: int
    storage: int
    error: float
    seconds: float
    note: str = ""
    estimate: Estimate | None = None

    def _repr_html_(self) -> str:
        return ComparisonTable((self,))._repr_html_()


class ComparisonTable(tuple[Comparison, ...]):
    """Rows of `compare`: a tuple that prints as a table.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> rows = structmat.compare(np.eye(8), budget=0.5, rng=0)
    >>> str(rows).splitlines()[0]
    'kind              cost  storage  error  seconds'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return Table(HEAD, [shown(row) for row in self], [UNITS]).text()

    def _repr_html_(self) -> str:
        matrices = (row.matrix for row in self)
        pictures = ["" if B is None else blocks_svg(B, side=SMALL) for B in matrices]
        return Table(HEAD, [shown(row, full=True) for row in self], [_IN_FULL]).html(pictures)


def shown(row: Comparison, *, full: bool = False) -> list[str]:
    """Cells of a row of `compare`: its figures, or the reason why there are none.

    Cost and storage are shares, or in full numbers with their shares.
    """
    if row.matrix is None:
        # A third party's message may have several lines.
        return [row.kind, f"none: {' '.join(row.note.split())}"]
    return _figures(row.kind, row.matrix, row.error, row.seconds, full=full)


def _figures(
    kind: str, matrix: StructuredMatrix, error: float, seconds: float, *, full: bool
) -> list[str]:
    """Cells of a table, in the order of `HEAD`."""
    dense = math.prod(matrix.shape)
    if full:
        sizes = [amount(count, dense, of="") for count in (matrix.cost, matrix.storage)]
    else:
        sizes = [f"{share:.4f}" for share in (matrix.relative_cost, matrix.relative_storage)]
    return [kind, *sizes, f"{error:.3g}", f"{seconds:.2f}"]
