"""Solves as functions of torch: one solve with the adjoint for all derivatives.

For S x = b and a gradient g of x, the gradient of b is y = S^-H g. Contents have the gradient of
the product S x with a fixed x, for the gradient -y. All of it can be differentiated again.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from structmat._derivatives import uncompiled
from structmat.solvers.gradients.systems import (
    System,
    by_columns,
    check_one_matrix,
    check_single,
    gradients,
    is_followed,
    system_of,
    tangent,
)
from structmat.solvers.results import Solution
from structmat.solvers.verify import verified


@dataclass(frozen=True)
class Call:
    """One solve: with S or with its adjoint, and where its measured errors go."""

    system: System
    adjoint: bool
    exact: bool = False
    found: list[Solution] = field(default_factory=list)

    def turned(self) -> "Call":
        """A solve with the adjoint."""
        return Call(self.system, not self.adjoint)


@uncompiled
def solution(F: Any, b: Tensor, *, adjoint: bool, exact: bool) -> Solution:
    """The measured solution for columns b (n, k), which torch follows where it follows F or b."""
    check_single(b)
    system = system_of(F)
    contents = system.contents
    if not is_followed(b, *contents):
        return verified(system.values, b, adjoint=adjoint, exact=exact)
    call = Call(system, adjoint, exact)
    x = _Solve.apply(call, b, *contents)
    return replace(call.found[-1], x=x)


def solved(system: System, b: Tensor, contents: list[Tensor], *, adjoint: bool) -> Tensor:
    """S^-1 b or S^-H b around the contents of a function of torch, which follows both."""
    check_single(b)
    x: Tensor = _Solve.apply(Call(system, adjoint), b, *contents)
    return x


class _Solve(torch.autograd.Function):
    """S^-1 b, as a function of b and of the contents of S."""

    @staticmethod
    def forward(call: Call, b: Tensor, *contents: Tensor) -> Tensor:
        found = verified(call.system.values, b.detach(), adjoint=call.adjoint, exact=call.exact)
        call.found.append(replace(found, x=None))
        x: Tensor = found.x
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.call, _b, *contents = inputs
        ctx.save_for_backward(output, *contents)
        ctx.save_for_forward(output, *contents)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *contents = ctx.saved_tensors
        call, needed = ctx.call, ctx.needs_input_grad[2:]
        y = solved(call.system, grad, contents, adjoint=not call.adjoint)

        def product(x: Tensor, *own: Tensor) -> Tensor:
            return call.system.product(own, x, adjoint=call.adjoint)

        _, *by_contents = gradients(product, [x, *contents], [False, *needed], -y)
        return None, y if ctx.needs_input_grad[1] else None, *by_contents

    @staticmethod
    def jvp(ctx: Any, _call: None, b: Tensor | None, *tangents: Tensor | None) -> Tensor:
        x, *contents = ctx.saved_tensors
        call = ctx.call
        right = torch.zeros_like(x) if b is None else b
        if any(t is not None for t in tangents):

            def product(*own: Tensor) -> Tensor:
                return call.system.product(own, x, adjoint=call.adjoint)

            right = right - tangent(product, contents, tangents)
        return solved(call.system, right, contents, adjoint=call.adjoint)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], call: Call, b: Tensor, *contents: Tensor) -> Any:
        _, axis, *others = dims
        check_one_matrix([at is not None for at in others])
        return by_columns(lambda b: _Solve.apply(call, b, *contents), b, axis)
