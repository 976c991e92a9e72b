"""Any structured matrix as a module, with its contents as trainable parameters."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structmat.errors import InputError, ShapeError
from structmat.kernels.cost_model.layers import Times
from structmat.matrix import StructuredMatrix
from structmat.nn.sharded import whole
from structmat.nn.structured.parameters import (
    Arrays,
    Children,
    Contents,
    Remembered,
    emptied,
    floating_dtype,
    on_torch,
    tensors_of,
    walk,
)
from structmat.nn.structured.speed import CHUNK, count_operations, dense_is_quicker


class StructuredWeight(nn.Module):
    """Any structured matrix (m, n) as a module, with its contents as parameters.

    Products run through the structure or through the assembled dense weight, whichever
    promises less time for the number of vectors; results and gradients are the same.

    Parameters
    ----------
    matrix : StructuredMatrix
        Of any kind, sums and products included, with real contents from any array
        library. Contents are copied.

    Attributes
    ----------
    contents : torch.nn.Module
        Content arrays as parameters, by name: ``contents.u``, and ``contents.0.U`` in
        the first term of a sum. Integer arrays, as of a permutation, are buffers.
    times : Times
        What products take, by the model in `_speed`.
    positions : int
        How many vectors of one example the weight multiplies; 1 until someone sets it.

    Raises
    ------
    InputError
        If `matrix` is no structured matrix, is complex, or holds arrays beside its
        contents, which would not follow them.

    Notes
    -----
    While no gradient is recorded, what is computed from the contents is remembered: the
    filled panels, the dense weight. It is made anew once a parameter was changed or
    replaced or an optimizer took a step, and dropped when the mode changes, a gradient
    is recorded or the module moves. Only a change by hand through ``parameter.data``
    goes unseen, as torch does not count it; change parameters under `torch.no_grad`.

    Examples
    --------
    >>> import numpy as np, structmat, torch
    >>> weight = StructuredWeight(structmat.LowRank(np.ones((6, 1)), np.ones((4, 1))))
    >>> weight.kind, weight.shape, weight.cost, list(weight.state_dict())
    ('low_rank', (6, 4), 10, ['contents.U', 'contents.V'])
    >>> weight.float()(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 6])
    """

    def __init__(self, matrix: StructuredMatrix) -> None:
        super().__init__()
        matrix = on_torch(matrix)
        self.contents = Contents(matrix)
        self._template = walk(matrix, self.contents, emptied)
        self._remembered: Remembered | None = None
        self.positions = 1
        self._prepare()

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs: (m, n)."""
        return self._template.shape

    @property
    def kind(self) -> str:
        """Name of the structure."""
        return self._template.kind

    @property
    def cost(self) -> int:
        """Multiplications for one vector."""
        return self._template.cost

    @property
    def storage(self) -> int:
        """Stored scalars."""
        return self._template.storage

    def extra_repr(self) -> str:
        """Shape, kind and relative cost."""
        return f"{self.shape}, kind={self.kind!r}, relative_cost={self._template.relative_cost:.4g}"

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Vectors (…, n) to (…, m), plus a bias (m,) if there is one.

        Raises
        ------
        ShapeError
            If the last axis is not n.
        InputError
            If the dtype is another than that of the contents, without autocast.
        """
        m, n = self.shape
        if x.ndim == 0 or x.shape[-1] != n:
            raise ShapeError(
                f"input has shape {tuple(x.shape)}; expected (…, {n}) for a weight of {m}x{n}"
            )
        dtype = autocast_dtype(x)
        if dtype is None:
            return self._affine(x, bias, self.bound(x.dtype))
        with torch.autocast(x.device.type, enabled=False):
            return self._affine(x.to(dtype), bias, self.bound(dtype, cast=True))

    def _affine(self, x: Tensor, bias: Tensor | None, matrix: StructuredMatrix) -> Tensor:
        if bias is not None and bias.dtype != x.dtype:
            bias = bias.to(x.dtype)
        count, assembly = math.prod(x.shape[:-1]), self.assembly(matrix)
        if dense_is_quicker(self.times, count, assembly=assembly, device=x.device.type):
            return F.linear(x, self.dense_of(matrix).to(x.dtype), bias)
        return self._through(x, count, bias, matrix)

    def _through(
        self, x: Tensor, count: int, bias: Tensor | None, matrix: StructuredMatrix
    ) -> Tensor:
        """Vectors (…, n), `count` of them, to (…, m) by the structure."""
        (m, n), shape = self.shape, (*x.shape[:-1], self.shape[0])
        x = x.reshape(count, n)
        if torch.is_grad_enabled() or matrix._memory is None:
            y = matrix._multiply(x.T).T.contiguous()
            # As F.linear does: what a layer returns may be written to, so it is no view.
            return torch.ops.aten._unsafe_view(y, shape) if bias is None else y.view(shape) + bias
        out, size = x.new_empty(shape), CHUNK * torch.get_num_threads()
        for part, target in zip(x.split(size), out.view(count, m).split(size), strict=True):
            y = matrix._multiply(part.T).T
            target.copy_(y) if bias is None else torch.add(y, bias, out=target)
        return out

    def dense(self) -> Tensor:
        """The weight as a dense tensor, (m, n): differentiable, and only to be read."""
        return self.dense_of(self.bound())

    def dense_of(self, matrix: StructuredMatrix) -> Tensor:
        """The dense weight of what `bound` returned."""
        # A remembered matrix needs no further look at gradients.
        if matrix._memory and "dense" in matrix._memory:
            return matrix._memory["dense"]
        with _without_autocast(matrix.device.type):
            return matrix._kept("dense", lambda: matrix.to_dense().contiguous())

    def assembly(self, matrix: StructuredMatrix) -> int:
        """Vectors that the structure multiplies before the dense weight of `matrix` is there."""
        return min(self.shape) if matrix._memory is None else 0

    def to_matrix(self) -> StructuredMatrix:
        """The matrix with a copy of the present contents, on torch."""

        def built(template: StructuredMatrix, arrays: Arrays, children: Children) -> Any:
            copies = {name: whole(array).clone() for name, array in arrays.items()}
            return type(template)._build(copies, children, template._static())

        return walk(self._template, self.contents, built)

    def bound(self, dtype: torch.dtype | None = None, *, cast: bool = False) -> StructuredMatrix:
        """The matrix around the present contents.

        Parameters
        ----------
        dtype : torch.dtype, optional
            What the contents have to be.
        cast : bool
            Cast them to `dtype` instead of refusing another.
        """
        tensors = tensors_of(self.contents)
        own = floating_dtype(tensors)
        if own is not None and dtype not in (None, own) and not cast:
            raise InputError(
                f"input has dtype {dtype} and the weight {own}; expected one dtype "
                "(move the layer with .to(dtype), or cast the input)"
            )
        dtype = dtype if cast else own
        if torch.compiler.is_compiling():
            return self._around(dtype, remember=False)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            self._forget()
            return self._around(dtype, remember=False)
        remembered = self._remembered
        if remembered is None or not remembered.holds(tensors, dtype):
            remembered = Remembered.of(tensors, dtype, lambda: self._around(dtype, remember=True))
            self._remembered = remembered
        return self._around(dtype, remember=False) if remembered is None else remembered.matrix

    def _around(self, dtype: torch.dtype | None, *, remember: bool) -> StructuredMatrix:
        def change(array: Tensor) -> Tensor:
            array = array.detach() if remember else array
            return array.to(dtype) if array.is_floating_point() else array

        def bind(template: StructuredMatrix, arrays: Arrays, children: Children) -> Any:
            arrays = {name: change(array) for name, array in arrays.items()}
            return template._with_contents(arrays, children, dtype=dtype, remember=remember)

        return walk(self._template, self.contents, bind)

    def _prepare(self) -> None:
        """Compute what depends on structure alone, before anything traces a product."""

        def stand_in(empty: Tensor, array: Tensor) -> Tensor:
            # Not the contents themselves: they may be sharded, or not be there yet.
            if array.is_floating_point() or empty.is_meta:
                return torch.zeros((), dtype=array.dtype, device=array.device).expand(empty.shape)
            return empty.to(array.device)

        def bind(template: StructuredMatrix, arrays: Arrays, children: Children) -> Any:
            empty = {name: stand_in(getattr(template, name), a) for name, a in arrays.items()}
            return template._with_contents(empty, children, dtype=dtype, remember=True)

        dtype = floating_dtype(tensors_of(self.contents))
        with torch.inference_mode(False), torch.no_grad():
            matrix = walk(self._template, self.contents, bind)
            for multiply, size in zip(
                (matrix._multiply_adjoint, matrix._multiply), self.shape, strict=True
            ):
                multiply(torch.zeros(size, 1, dtype=matrix.dtype, device=matrix.device))
            self.times = Times.of(count_operations(matrix), self.shape, matrix.device.type)

    def _forget(self) -> None:
        if self._remembered is not None:
            self._remembered = None

    def train(self, mode: bool = True) -> "StructuredWeight":
        """Set the mode; what was remembered of the parameters is dropped."""
        self._forget()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._forget()
        self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_remembered": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype in which autocast would multiply by `x`, if it would change it at all."""
    device = x.device.type
    if x.is_meta or x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)
