"""A matrix that torch follows, with the solver of its values, and gradients through products."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_functorch_wrapped_tensor

from structmat._derivatives import (
    is_batch_of_gradients,
    is_transformed,
    recorded_gradients,
    settled,
)
from structmat.binding import bind, construct, leaves
from structmat.contract.operand import multiplied
from structmat.errors import BackendError
from structmat.matrix import StructuredMatrix
from structmat.sources.source import Source


@dataclass(frozen=True)
class System:
    """S x = b, with S as torch follows it and a factorization of its values.

    Parameters
    ----------
    matrix : StructuredMatrix
        S, around contents that torch may follow.
    values : Factorization
        Factorization of S around contents that nothing follows.
    places : tuple of int
        Numbers of the contents that torch follows, as `binding.leaves` counts them.
    """

    matrix: StructuredMatrix
    values: Any
    places: tuple[int, ...]

    @property
    def contents(self) -> list[Tensor]:
        """The contents that torch follows."""
        every = leaves(self.matrix)
        return [every[i] for i in self.places]

    def around(self, contents: Sequence[Tensor]) -> StructuredMatrix:
        """S around other tensors in place of those that torch follows."""
        every = leaves(self.matrix)
        for i, tensor in zip(self.places, contents, strict=True):
            every[i] = tensor
        return bind(self.matrix, every, remember=False)

    def product(self, contents: Sequence[Tensor], x: Tensor, *, adjoint: bool) -> Tensor:
        """S x or S^H x around other contents."""
        return multiplied(self.around(contents), x, adjoint=adjoint)


def followed_places(A: StructuredMatrix) -> tuple[int, ...]:
    """Numbers of the contents that torch follows."""
    return tuple(i for i, t in enumerate(leaves(A)) if not is_index(t) and is_followed(t))


def system_of(F: Any) -> System:
    """The system of a factorization on torch, with those contents that torch follows now."""
    if F.still is None:
        return System(F.matrix, F, ())
    return System(F.matrix, F.still, followed_places(F.matrix))


def is_index(t: Tensor) -> bool:
    """Tell whether a content is an index, which has no derivative."""
    return not (t.is_floating_point() or t.is_complex())


def values_of(A: StructuredMatrix) -> StructuredMatrix:
    """The matrix around contents that nothing follows; batches of matrices are refused."""
    contents = [settled(t) for t in leaves(A)]
    check_one_matrix([is_batchedtensor(t) for t in contents])
    return construct(A, [t.detach() for t in contents])


def is_followed(*tensors: Tensor) -> bool:
    """Tell whether torch follows one of some tensors, for gradients or under a transform.

    Examples
    --------
    >>> is_followed(torch.ones(2)), is_followed(torch.ones(2, requires_grad=True))
    (False, True)
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return True
    return is_transformed(*tensors)


def check_single(grad: Tensor) -> None:
    """Refuse a tensor that stands for several gradients at once, which no solver takes."""
    if is_batch_of_gradients(grad):
        raise BackendError(
            "a batch of gradients (is_grads_batched or vectorize=True) reaches a solve; expected "
            "one gradient at a time, or torch.func.jacrev and torch.func.vmap"
        )


def check_one_matrix(batched: Sequence[bool]) -> None:
    """Refuse contents that differ between the samples of a batch."""
    if any(batched):
        raise BackendError(
            "torch.func.vmap over the contents of a matrix reaches a solve; expected one matrix "
            "for all samples (loop over the matrices, and batch right-hand sides)"
        )


def check_functions(A: StructuredMatrix) -> None:
    """Refuse sources whose function has parameters of its own that torch follows."""
    for child in A.children:
        check_functions(child)
    if _has_function(A) and 0 not in A.shape:
        at = np.zeros(1, np.int64)
        entry = values_of(A).block(at, at)
        if entry.requires_grad or is_functorch_wrapped_tensor(entry) or _has_tangent(entry):
            raise BackendError(
                f"the function of the entries of {A!r} depends on tensors that need gradients, "
                "which no solve can see; expected parameters that are contents (a named kernel "
                "with its length, or a Dense matrix), or torch.no_grad()"
            )


def _has_function(A: StructuredMatrix) -> bool:
    """Tell whether entries come from a function of the user's."""
    return isinstance(A, Source) and not isinstance(getattr(A, "kernel", None), str)


def _has_tangent(t: Tensor) -> bool:
    return not torch._C._are_functorch_transforms_active() and is_transformed(t)


def by_columns(solve: Callable[[Tensor], Tensor], b: Tensor, axis: int) -> tuple[Tensor, int]:
    """Solutions for a batch of columns (n, k), which lies along an axis, and the axis of theirs."""
    batch = b.movedim(axis, -1)
    x = solve(batch.flatten(1))
    return x.unflatten(1, batch.shape[1:]), 2


def gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor | Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of a function of plain operations, recorded if torch records at this moment."""
    if not any(needed):
        return [None] * len(tensors)
    if _is_nested():
        found = _transformed_gradients(function, tensors, needed, grad)
    elif torch.is_grad_enabled() or is_transformed(*tensors):
        return recorded_gradients(function, tensors, needed, grad)
    else:
        with torch.enable_grad():
            own = [t.detach().requires_grad_(need) for t, need in zip(tensors, needed, strict=True)]
            wanted = [t for t, need in zip(own, needed, strict=True) if need]
            found = torch.autograd.grad(function(*own), wanted, grad, allow_unused=True)
    rest = iter(found)
    return [next(rest) if need else None for need in needed]


def _is_nested() -> bool:
    """Tell whether a transform of `torch.func` is at work, inside of which others may nest."""
    return torch._C._are_functorch_transforms_active()


def _transformed_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor | Sequence[Tensor],
) -> Sequence[Tensor]:
    """Gradients by those tensors that need them, by a transform inside of others."""

    def partial(*wanted: Tensor) -> Tensor | Sequence[Tensor]:
        rest = iter(wanted)
        return function(*(next(rest) if n else t for t, n in zip(tensors, needed, strict=True)))

    _, pull = torch.func.vjp(partial, *(t for t, n in zip(tensors, needed, strict=True) if n))
    found: Sequence[Tensor] = pull(grad)
    return found


def tangent(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> Tensor:
    """Derivative of a function along tangents; None for one that is zero."""
    along = [
        torch.zeros_like(t) if d is None else d for t, d in zip(tensors, tangents, strict=True)
    ]
    if _is_nested():
        found: Tensor = torch.func.jvp(function, tuple(tensors), tuple(along))[1]
        return found
    # Levels of forward mode do not nest. The gradients are linear in the cotangent.
    with torch.enable_grad():
        zero = torch.zeros_like(function(*tensors)).requires_grad_()
        pulled = recorded_gradients(function, tensors, [True] * len(tensors), zero)
        there = [(p, d) for p, d in zip(pulled, along, strict=True) if p is not None]
        outputs, grads = zip(*there, strict=True)
        return torch.autograd.grad(outputs, zero, grads, create_graph=True)[0]
