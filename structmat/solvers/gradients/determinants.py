"""Log-determinants as functions of torch."""

from typing import Any

import torch
from torch import Tensor

from structmat._derivatives import uncompiled, unfollowed
from structmat.solvers.gradients.systems import System, check_one_matrix, is_followed, system_of
from structmat.solvers.gradients.traces import trace_gradients
from structmat.solvers.results import LogDeterminant


@uncompiled
def log_determinant(F: Any, rng: Any) -> LogDeterminant:
    """A log-determinant whose logarithm is a tensor, which torch follows where it follows F."""
    system = system_of(F)
    with unfollowed():
        found: LogDeterminant = F._determinant(rng)
    real = system.values.matrix.dtype.to_real()
    value = torch.tensor(float(found.logabsdet), dtype=real, device=F.matrix.device)
    contents = system.contents
    if contents and is_followed(*contents):
        value = _LogDet.apply(system, found.error == 0, value, *contents)
    return found._replace(logabsdet=value)


class _LogDet(torch.autograd.Function):
    """Logarithm of the absolute value of the determinant, as a function of the contents of S."""

    @staticmethod
    def forward(system: System, exact: bool, value: Tensor, *contents: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.system, ctx.exact, _value, *contents = inputs
        ctx.save_for_backward(*contents)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        contents, needed = list(ctx.saved_tensors), list(ctx.needs_input_grad[3:])
        found = trace_gradients(ctx.system, contents, needed, grad, exact=ctx.exact)
        return None, None, None, *found

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> Any:
        check_one_matrix([True])
