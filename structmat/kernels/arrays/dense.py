"""Factors and matrices as dense arrays, zeros included."""

from collections.abc import Callable
from functools import cached_property
from types import ModuleType

from structmat._array import Array, adjoint, adjoint_times, identity, is_numpy, product
from structmat.kernels.bound import Orders
from structmat.kernels.layouts.factors import FactorStructure


class DenseFactor:
    """A dense array S, (m, n), as a factor or as a matrix of its own.

    `make` gives the array, of the library `xp`: at once, or on NumPy when it is first needed,
    so that a matrix in other orders is the only one that is written out.
    """

    index = Orders()

    def __init__(self, make: Callable[[], Array], xp: ModuleType) -> None:
        self._make, self._xp, self._orders = make, xp, is_numpy(xp)
        if not self._orders:
            _ = self._dense  # now, while layouts may be kept

    @cached_property
    def _dense(self) -> Array:
        return self._make()

    def lists(self, x: Array) -> bool:
        """Tell whether rows and columns can be put elsewhere."""
        return self._orders

    def listed(self, index: Orders) -> "DenseFactor":
        """The same array with its rows and columns at other places."""
        return DenseFactor(lambda: index.moved(self._make()), self._xp)

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        """S z: (n, k) to (m, k)."""
        if z.shape[1] == 1:  # BLAS has a product of its own for a vector
            return (self._dense @ z[:, 0])[:, None]
        return product(self._dense, z, self._xp, by_columns=by_columns)

    def rmatmat(self, y: Array) -> Array:
        """S^H y: (m, k) to (n, k)."""
        return adjoint_times(self._dense, y, self._xp)

    def multiply(self, x: Array, *, by_columns: bool) -> Array:
        """The same as `matmat`, for the matrix."""
        return self.matmat(x, by_columns=by_columns)

    def multiply_adjoint(self, y: Array, *, by_columns: bool) -> Array:
        """The same as `rmatmat`, for the matrix."""
        return self.rmatmat(y)


def written_out(
    times: Callable[[Array], Array],
    adjoint_times: Callable[[Array], Array],
    shape: tuple[int, int],
    structure: FactorStructure,
    contents: Array,
) -> DenseFactor:
    """A matrix (m, n) as a dense array, from its product with the smaller identity.

    `times` and `adjoint_times` multiply by it; `contents` give the dtype.
    """
    xp, (m, n) = structure.xp, shape

    def make() -> Array:
        unit = identity(min(m, n), contents.dtype, xp, structure.device)
        return times(unit) if n <= m else adjoint(adjoint_times(unit), xp)

    return DenseFactor(make, xp)
