"""Products of a matrix between orders of its rows and columns, at no gather where a kernel can."""

from collections.abc import Callable
from typing import Any, cast

from structmat._array import Array, to_numpy
from structmat.kernels.bound import BoundKernel, DirectKernel, ListingKernel
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.matrices.permutation import Permutation


class OrderedMatrix:
    """A matrix of sparse factors with orders of its rows and columns around it.

    Kernels that can put rows and columns elsewhere take the orders in; for others the operand and
    the result are gathered. `keep` makes the places in these orders once for all contents, by
    a name.
    """

    def __init__(
        self,
        left: Permutation | None,
        factored: FactoredMatrix,
        right: Permutation | None,
        keep: Callable[[str, Callable[[], Any]], Any],
    ) -> None:
        self._left, self._factored, self._right, self._keep = left, factored, right, keep
        self._lengths = tuple(P.shape[0] for P in (left, right) if P is not None)
        self._moved: dict[ListingKernel, BoundKernel] = {}

    def multiply(self, x: Array) -> Array:
        """A x: (n, k) to (m, k)."""
        if (kernel := self._listed(x)) is not None:
            return kernel.multiply(x, by_columns=self._factored.by_columns(x))
        x = x if self._right is None else self._right._multiply(x)
        y = self._factored.multiply(x, self._lengths)
        return y if self._left is None else self._left._multiply(y)

    def multiply_adjoint(self, y: Array) -> Array:
        """A^H y: (m, k) to (n, k)."""
        if (kernel := self._listed(y)) is not None:
            return kernel.multiply_adjoint(y, by_columns=self._factored.by_columns(y))
        y = y if self._left is None else self._left._multiply_adjoint(y)
        x = self._factored.multiply_adjoint(y, self._lengths)
        return x if self._right is None else self._right._multiply_adjoint(x)

    def _listed(self, x: Array) -> BoundKernel | None:
        """The kernel for an operand, orders included; None if it lists no places."""
        listing = self._factored.listing(x, self._lengths)
        return None if listing is None else self._in_place_of(listing)

    def direct(self, columns: int) -> DirectKernel | None:
        """The kernel on NumPy for plain tensors on the CPU; None if they go another way."""
        bound: Any = self._factored.bound_to(columns, self._lengths)
        if not getattr(bound, "lists_places", False):
            return None
        kernel: Any = self._in_place_of(bound)
        return cast(DirectKernel, kernel.direct(columns))

    def _in_place_of(self, listing: ListingKernel) -> BoundKernel:
        """The kernel, once, with the orders in its places."""
        if listing not in self._moved:
            index = listing.index
            places = self._keep(type(index).__name__, lambda: self._in_orders(index))
            self._moved[listing] = listing.listed(places)
        return self._moved[listing]

    def _in_orders(self, index: Any) -> Any:
        left, right = self._left, self._right
        rows = None if left is None else to_numpy(left._inverse)
        return index.in_orders(rows, None if right is None else to_numpy(right.p))

    @property
    def factored(self) -> FactoredMatrix:
        """The matrix between the orders."""
        return self._factored


class Between:
    """A product on NumPy between orders, of a kernel that does not take them in."""

    def __init__(self, left: Permutation | None, inner: Any, right: Permutation | None) -> None:
        self._left, self._inner, self._right = left, inner, right

    def multiply(self, x: Array) -> Array:
        """A x: (n, k) to (m, k)."""
        x = x if self._right is None else self._right._multiply(x)
        y = self._inner.multiply(x)
        return y if self._left is None else self._left._multiply(y)

    def multiply_adjoint(self, y: Array) -> Array:
        """A^H y: (m, k) to (n, k)."""
        y = y if self._left is None else self._left._multiply_adjoint(y)
        x = self._inner.multiply_adjoint(y)
        return x if self._right is None else self._right._multiply_adjoint(x)
