"""Least squares as a function of torch: solves with the pseudoinverse and its adjoint.

For the solution x = A^+ b of least norm, its residual r = b - A x and a gradient g of x, let
w = A^+H g, z = A^+ w, q = A^+H x and p = g - A^H w. The gradient of b is w, and that of A is
-w x^H + r z^H + q p^H (Golub & Pereyra 1973, SIAM J. Numer. Anal. 10), for matrices near A of the
same rank. It takes three solves, and torch's own derivative of the product A [x z p].
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from structmat._array import DType
from structmat._derivatives import uncompiled, unfollowed
from structmat.matrix import StructuredMatrix
from structmat.solvers.gradients.systems import (
    System,
    by_columns,
    check_functions,
    check_one_matrix,
    check_single,
    followed_places,
    gradients,
    is_followed,
    values_of,
)
from structmat.solvers.least_squares import Pseudoinverse


class RecordedPseudoinverse:
    """The pseudoinverse of a matrix on torch as a factor of products, which torch follows."""

    @uncompiled
    def __init__(self, A: StructuredMatrix, tol: float | None) -> None:
        self.shape, self.dtype, self.neutral = A.shape[::-1], A.dtype, A.neutral
        self.xp, self.device = A.xp, A.device
        check_functions(A)
        with unfollowed():
            both = _Both(values_of(A), tol)
        self.system = System(A, both, followed_places(A))

    def _wider(self, dtype: DType) -> "RecordedPseudoinverse":
        return self

    @uncompiled
    def _multiply(self, b: Tensor) -> Tensor:
        check_single(b)
        contents = self.system.contents
        if is_followed(b, *contents):
            return _solved(self.system, b, contents, adjoint=False)
        return self.system.values.solve(b, adjoint=False)


class _Both:
    """Pseudoinverses of a matrix and of its adjoint, around values that nothing follows."""

    def __init__(self, A: StructuredMatrix, tol: float | None) -> None:
        self.A, self.tol = A, tol
        self.inverse = Pseudoinverse(A, tol)

    @cached_property
    def adjoint(self) -> Pseudoinverse:
        """That of the adjoint, which gradients alone take."""
        with unfollowed():
            return Pseudoinverse(self.A.H, self.tol)

    def solve(self, b: Tensor, *, adjoint: bool) -> Tensor:
        """A^+ b or A^+H b for columns b (m, k)."""
        found: Tensor = (self.adjoint if adjoint else self.inverse)._multiply(b)
        return found


def _solved(system: System, b: Tensor, contents: list[Tensor], *, adjoint: bool) -> Tensor:
    check_single(b)
    x: Tensor = _LeastSquares.apply(system, adjoint, b, *contents)
    return x


class _LeastSquares(torch.autograd.Function):
    """A^+ b or A^+H b, as a function of b and of the contents of A."""

    @staticmethod
    def forward(system: System, adjoint: bool, b: Tensor, *contents: Tensor) -> Tensor:
        found: Tensor = system.values.solve(b.detach(), adjoint=adjoint)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.system, ctx.adjoint, b, *contents = inputs
        ctx.save_for_backward(b, output, *contents)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        b, x, *contents = ctx.saved_tensors
        system, adjoint, needed = ctx.system, ctx.adjoint, ctx.needs_input_grad[3:]
        w = _solved(system, g, contents, adjoint=not adjoint)
        if not any(needed):
            return None, None, w, *(None for _ in needed)
        z = _solved(system, w, contents, adjoint=adjoint)
        q = _solved(system, x, contents, adjoint=not adjoint)
        r = b - system.product(contents, x, adjoint=adjoint)
        p = g - system.product(contents, w, adjoint=not adjoint)

        def product(columns: Tensor, *own: Tensor) -> Tensor:
            return system.product(own, columns, adjoint=adjoint)

        columns, grads = torch.cat([x, z, p], 1), torch.cat([-w, r, q], 1)
        _, *found = gradients(product, [columns, *contents], [False, *needed], grads)
        return None, None, w if ctx.needs_input_grad[2] else None, *found

    @staticmethod
    def vmap(
        info: Any,
        dims: tuple[Any, ...],
        system: System,
        adjoint: bool,
        b: Tensor,
        *contents: Tensor,
    ) -> Any:
        _, _, axis, *others = dims
        check_one_matrix([at is not None for at in others])
        return by_columns(lambda b: _LeastSquares.apply(system, adjoint, b, *contents), b, axis)
