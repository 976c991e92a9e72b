"""Plans of products: the kernel that multiplies by a matrix, and its expected time."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from structmat._array import Array
from structmat.errors import InputError
from structmat.kernels.choice.contexts import using
from structmat.kernels.choice.table import KERNELS

#: Name of the product of kinds that are not made of sparse factors.
DIRECT = "direct"


@dataclass(frozen=True)
class Plan:
    """The kernel for products of a matrix with operands of one width.

    Attributes
    ----------
    kernel : str
        The kernel's name; "direct" for kinds that have one way to multiply, and for sums and
        other products, whose terms choose for themselves.
    columns : int
        Columns of the operand.
    seconds : float or None
        Expected time of one product on one thread; None where no times are known.
    expected : dict of str to float
        Expected time of every kernel that was compared.
    note : str
        A sentence on what the choice follows where no times are known; else empty.
    """

    kernel: str
    columns: int
    seconds: float | None
    expected: dict[str, float]
    _multiply: Callable[[Array], Array] = field(repr=False, compare=False)
    note: str = ""

    def multiply(self, X: Array) -> Array:
        """A @ X by this kernel, with the shapes of `matmat`: (…, n, k) to (…, m, k)."""
        return self._multiply(X)

    def __str__(self) -> str:
        known = KERNELS.get(self.kernel)
        what = "as its kind multiplies" if known is None else known.what
        lines = [f"{self.kernel} ({what}) for {self.columns} columns"]
        for name, seconds in sorted(self.expected.items(), key=lambda item: item[1]):
            lines.append(f"  {name:10}{1e6 * seconds:12.1f} us expected")
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join(lines)


def plan(A: Any, batch: int = 1, *, kernel: str | None = None) -> Plan:
    """Name the kernel that multiplies `A` by an operand, and its expected time.

    Parameters
    ----------
    A : StructuredMatrix
        GBLR, block sparse and block low rank have several kernels, also between permutations of
        rows and columns; others multiply directly.
    batch : int
        Columns of the operand, at least 1.
    kernel : str, optional
        A kernel to use instead of the one that promises the least time: "panels" (BLAS on
        dense panels, any array library), "rows" (SciPy's compressed rows), "vectors" and
        "tiles" (compiled, one vector at a time or many columns at once), "blocks" (compiled,
        block by block, for GBLR), "batches" (batched products of torch), "triton" (matrix
        units of a GPU, on torch), "lines" (few vectors on a GPU, on torch), "intervals" (CUDA,
        by CuPy), "pair" (both factors as dense arrays) or "dense".

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If no kernel has that name, or it does not fit the matrix.
    MissingDependencyError
        If the kernel needs a package that is not installed.

    See Also
    --------
    using : force a kernel for all products in a context.

    Notes
    -----
    Expected times come from counts of each kernel's work and from coefficients of the
    machine: the shipped ones, or those that ``structmat calibrate`` measured. They are known
    for NumPy, for compiled kernels of torch on a CPU, and for CuPy on devices that were
    measured. On others the dense matrix multiplies, unless it takes far more memory than the
    structure, and the plan has a note that says so.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [0], [1], shape=(4, 4))
    >>> plan(A, 8, kernel="panels").multiply(np.eye(4)).sum()
    np.float64(4.0)
    """
    if not isinstance(batch, numbers.Integral) or batch < 1:
        raise InputError(f"batch = {batch!r}; expected a whole number of columns, at least 1")
    batch = int(batch)
    if not (hasattr(A, "kind") and hasattr(A, "matmat")):
        raise InputError(
            f"A is a {type(A).__qualname__}; expected a StructuredMatrix (wrap an array in "
            "structmat.Dense)"
        )
    if kernel is not None:
        KERNELS.check_name(kernel)
    factored = getattr(A, "_factored", None)
    if factored is None:
        if kernel is not None:
            raise InputError(
                f"kernel = {kernel!r} for a matrix of kind {A.kind!r}; expected None: it has "
                "one way to multiply (for the dense product use A.to_dense() @ X)"
            )
        return Plan(DIRECT, batch, None, {}, A.matmat)
    name = factored.choose(batch) if kernel is None else kernel
    factored.bound(name)  # or an error that says why not
    expected = factored.expected(batch)

    def multiply(X: Array) -> Array:
        # Through the matrix, which checks operands: kernels read memory unchecked.
        with using(name):
            return A.matmat(X)

    return Plan(name, batch, expected.get(name), expected, multiply, factored.note(batch))
