"""The abstract preconditioner: a matrix near the inverse of another one, for Krylov methods."""

from abc import ABC, abstractmethod

from structmat._array import Array


class Preconditioner(ABC):
    """Abstract matrix M near S^-1 that columns (n, k) are multiplied with.

    Attributes
    ----------
    name : str
        Name as the method of a factorization has it.
    definite : bool
        Whether M is hermitian and positive definite.
    """

    name: str
    definite: bool

    @abstractmethod
    def multiply(self, r: Array) -> Array:
        """M r for columns r (n, k)."""

    @abstractmethod
    def multiply_adjoint(self, r: Array) -> Array:
        """M^H r for columns r (n, k)."""


class Halves(Preconditioner):
    """Abstract preconditioner M = G^H G for a hermitian positive definite S: G S G^H is near I."""

    definite = True
    #: Logarithm of |det G|.
    log_half: float

    @abstractmethod
    def half(self, r: Array) -> Array:
        """G r for columns r (n, k)."""

    @abstractmethod
    def half_adjoint(self, r: Array) -> Array:
        """G^H r for columns r (n, k)."""

    def multiply(self, r: Array) -> Array:
        """M r for columns r (n, k)."""
        return self.half_adjoint(self.half(r))

    def multiply_adjoint(self, r: Array) -> Array:
        """M^H r, which is M r."""
        return self.multiply(r)


class Unpreconditioned(Halves):
    """The identity."""

    name, log_half = "", 0.0

    def half(self, r: Array) -> Array:
        """The columns themselves."""
        return r

    def half_adjoint(self, r: Array) -> Array:
        """The columns themselves."""
        return r
