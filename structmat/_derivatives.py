"""Derivatives of every order on torch: transforms at work, and gradients that are recorded.

Fast products come with first derivatives of their own. For all others they follow plain
operations, which torch differentiates by itself: under transforms of `torch.func`, with
forward-mode tangents, and for gradients of gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import checkpoint

Function = TypeVar("Function", bound=Callable[..., Any])

#: Whether this torch was built for CUDA: another one cannot be asked for captures.
_CUDA = torch.backends.cuda.is_built()


def is_transformed(*tensors: Tensor) -> bool:
    """Tell whether a transform of `torch.func` is at work, or a tensor has a forward tangent.

    Examples
    --------
    >>> is_transformed(torch.ones(2))
    False
    >>> torch.func.vmap(lambda x: x * is_transformed(x))(torch.ones(2))
    tensor([1., 1.])
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def is_traced() -> bool:
    """Tell whether operations are written down, to be executed on other tensors later."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_captured() -> bool:
    """Tell whether a graph of CUDA is captured: operations are executed when it is replayed.

    Examples
    --------
    >>> is_captured()
    False
    """
    return _CUDA and torch.cuda.is_current_stream_capturing()


def is_translated() -> bool:
    """Tell whether operations are translated to ONNX, which knows torch's own alone."""
    return is_traced() and torch.onnx.is_in_onnx_export()


def is_plain(*tensors: Tensor) -> bool:
    """Tell whether torch follows nothing: gradients, tracing or counting of operations.

    Examples
    --------
    >>> is_plain(torch.ones(2)), is_plain(torch.ones(2, requires_grad=True))
    (True, False)
    """
    if is_traced() or is_transformed(*tensors) or torch._C._len_torch_dispatch_stack() > 0:
        return False
    recording = torch.is_grad_enabled()
    return not any(
        type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__
        or (recording and t.requires_grad)
        for t in tensors
    )


def is_unfollowed() -> bool:
    """Tell whether nothing follows operations on plain tensors, not even gradients.

    Compilers are not asked for: they see the question itself.

    Examples
    --------
    >>> is_unfollowed(), torch.no_grad()(is_unfollowed)()
    (False, True)
    """
    # Asked at every product of a frozen layer: the quickest questions, the likeliest first.
    return not (
        torch.is_grad_enabled()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


@contextmanager
def lasting() -> Iterator[None]:
    """Make tensors that outlive the modes and transforms of the moment, and serve without them."""
    with torch.inference_mode(False), torch._C._DisableFuncTorch(), _disable_current_modes():
        yield


def uncompiled(function: Function) -> Function:
    """A function that `torch.compile` calls, and does not look into: it decides by values."""

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(function)(*args, **options)
        return function(*args, **options)

    return cast(Function, run)


@contextmanager
def unfollowed() -> Iterator[None]:
    """Compute with values alone: no gradients, and no transform of `torch.func`.

    Tensors made meanwhile may take part in gradients later.
    """
    with torch.inference_mode(False), torch.no_grad(), torch._C._DisableFuncTorch():
        yield


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of a tensor, whose inner values are computed again for gradients, not kept.

    Under transforms, which do not allow that, they are kept.

    Examples
    --------
    >>> recomputed(lambda x: x.sin().cos(), torch.zeros(2))
    tensor([1., 1.])
    """
    if not torch.is_grad_enabled() or is_transformed(x) or is_traced():
        return function(x)
    found: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    return found


def settled(x: Tensor) -> Tensor:
    """A tensor that needs no derivative, without the wrappers of `torch.func` around it.

    A tensor of which every sample has its own stays as it is.
    """
    inner = x
    while not torch.compiler.is_compiling() and _is_wrapped(inner):
        if torch._C._functorch.is_batchedtensor(inner):
            return x
        inner = torch._C._functorch.get_unwrapped(inner)
    return inner


def mean_over_samples(x: Tensor) -> float:
    """A number on the host: that of a tensor without axes, or its mean over all samples."""
    inner = settled(x)
    while _is_wrapped(inner):
        inner = torch._C._functorch.get_unwrapped(inner)
    return float(inner.sum()) / inner.numel()


def _is_wrapped(x: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(x)


def is_recorded(grad: Tensor) -> bool:
    """Tell whether a backward pass needs plain operations, for more gradients or several."""
    return torch.is_grad_enabled() or is_batch_of_gradients(grad) or is_transformed(grad)


def is_batch_of_gradients(grad: Tensor) -> bool:
    """Tell whether a tensor stands for several gradients at once, as of a vectorized Jacobian.

    It is no tensor for a kernel.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.is_legacy_batchedtensor(grad)


def recorded_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor | Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of a function of plain operations, which can be differentiated again.

    None where a gradient is not `needed`, or is zero.
    """
    with torch.enable_grad():
        # Views of their own: a dependence among the arguments is not this function's.
        own = [t.view_as(t) for t in tensors]
        wanted = [t for t, need in zip(own, needed, strict=True) if need]
        found = iter(
            torch.autograd.grad(function(*own), wanted, grad, create_graph=True, allow_unused=True)
        )
        return [next(found) if need else None for need in needed]
