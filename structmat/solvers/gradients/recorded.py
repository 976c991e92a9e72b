"""Factorizations whose contents torch follows."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch._C._functorch import is_batchedtensor

from structmat._array import Array
from structmat._derivatives import settled, uncompiled, unfollowed
from structmat.binding import leaves
from structmat.matrix import StructuredMatrix
from structmat.solvers.factorization import Factorization
from structmat.solvers.gradients.systems import (
    check_functions,
    check_one_matrix,
    is_followed,
    is_index,
    values_of,
)
from structmat.solvers.shifted import multiple


class RecordedFactorization(Factorization):
    """A factorization of values, and the matrix through whose products derivatives flow."""

    def __init__(self, S: StructuredMatrix, values: Factorization) -> None:
        super().__init__(S, values.tol)
        self.inner = self.still = values
        self.method, self.rank = values.method, values.rank

    def _solve(self, b: Array) -> Array:
        return self.inner._solve(b)

    def _solve_adjoint(self, b: Array) -> Array:
        return self.inner._solve_adjoint(b)

    def _logdet(self) -> Any:
        return self.inner._logdet()


@uncompiled
def factorize(
    A: StructuredMatrix, shift: Any, tol: Any, plain: Callable[..., Factorization]
) -> Factorization:
    """A factorization by `plain`, from values, that torch follows where it follows A or `shift`."""
    is_tensor = isinstance(shift, Tensor) and not shift.ndim
    variables = [t for t in leaves(A) if not is_index(t)] + ([shift] if is_tensor else [])
    check_functions(A)
    with unfollowed():
        still = values_of(A)
        number = settled(shift) if is_tensor else shift
        check_one_matrix([is_tensor and is_batchedtensor(number)])
        values = plain(still, number.detach() if is_tensor else number, tol)
    if not is_followed(*variables):
        return values
    S = A if not is_tensor and shift == 0 else A + multiple(A, shift)
    return RecordedFactorization(S, values)
