"""Factorizations whose contents torch follows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from structmat._array import Array
from structmat._derivatives import settled, uncompiled, unfollowed
from structmat.binding import construct, leaves
from structmat.matrix import StructuredMatrix
from structmat.solvers.factorization import Factorization
from structmat.solvers.gradients.systems import check_one_matrix, is_followed
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
    contents = leaves(A)
    followed = [t for t in contents if not _is_index(t)]
    if isinstance(shift, Tensor) and not shift.ndim and is_followed(shift):
        followed.append(shift)
    check_one_matrix([_is_batch(t) for t in followed])
    with unfollowed():
        still = construct(A, [settled(t).detach() for t in contents])
        number = settled(shift).detach() if isinstance(shift, Tensor) else shift
        values = plain(still, number, tol)
    if not is_followed(*followed):
        return values
    S = A if not isinstance(shift, Tensor) and shift == 0 else A + multiple(A, shift)
    return RecordedFactorization(S, values)


def _is_index(t: Tensor) -> bool:
    return not (t.is_floating_point() or t.is_complex())


def _is_batch(t: Tensor) -> bool:
    return bool(torch._C._functorch.is_batchedtensor(settled(t)))
