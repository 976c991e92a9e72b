"""Factors and matrices as dense arrays, zeros included."""

from collections.abc import Callable

from structmat._array import Array, adjoint, adjoint_times, identity, namespace, product
from structmat.kernels.layouts.factors import FactorStructure


class DenseFactor:
    """A dense array S, (m, n), as a factor or as a matrix of its own."""

    def __init__(self, dense: Array) -> None:
        self._dense, self._xp = dense, namespace(dense)

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
    unit = identity(min(m, n), contents.dtype, xp, structure.device)
    return DenseFactor(times(unit) if n <= m else adjoint(adjoint_times(unit), xp))
