"""Structured matrices whose contents lie one after another in a flat tensor."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat import binding
from structmat.matrix import StructuredMatrix
from structmat.nn.structured import products


class FlatMatrix:
    """Structure of a matrix around contents that begin a longer tensor.

    Parameters
    ----------
    matrix : StructuredMatrix
        On NumPy; its contents are left behind.
    like : Tensor
        Device and dtype of the contents to come.

    Attributes
    ----------
    size : int
        Number of contents.
    times : Times
        Estimated times of products.

    Examples
    --------
    >>> import structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> contents = torch.arange(8.0)
    >>> FlatMatrix(A, contents).around(contents).to_dense()
    tensor([[0., 0.],
            [3., 4.],
            [6., 8.]])
    """

    def __init__(self, matrix: StructuredMatrix, like: Tensor) -> None:
        # The device may be a default of the caller, such as meta.
        with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
            zero = torch.zeros((), dtype=like.dtype, device=like.device)
            blank = matrix.to("torch")
            # Integers have values on the meta device too.
            device = "cpu" if like.is_meta else like.device
            arrays = [
                zero.expand(leaf.shape) if leaf.is_floating_point() else leaf.to(device)
                for leaf in binding.leaves(blank)
            ]
            self._blank = binding.bind(blank, arrays, dtype=like.dtype, remember=False)
            self.size = sum(a.numel() for a in arrays if a.is_floating_point())
            self.times = products.prepare(self.around(zero.expand(self.size)))

    def _arrays(self, flat: Tensor) -> list[Tensor]:
        arrays, begin = [], 0
        for own in binding.leaves(self._blank):
            if own.is_floating_point():
                arrays.append(flat[begin : begin + own.numel()].view(own.shape))
                begin += own.numel()
            else:
                arrays.append(own.to(flat.device))
        return arrays

    def around(self, flat: Tensor) -> StructuredMatrix:
        """The matrix of flat contents, which it shares; nothing is checked."""
        return binding.bind(self._blank, self._arrays(flat), dtype=flat.dtype, remember=False)

    def copied(self, flat: Tensor) -> StructuredMatrix:
        """The matrix of a copy of flat contents."""
        return binding.construct(self._blank, [array.clone() for array in self._arrays(flat)])


def flat_contents(matrix: StructuredMatrix) -> NDArray:
    """All real contents of a matrix on NumPy in one array, in the order of `FlatMatrix`."""
    arrays = [np.asarray(array) for array in binding.leaves(matrix)]
    floating = [array.ravel() for array in arrays if array.dtype.kind == "f"]
    return np.concatenate(floating) if floating else np.zeros(0, matrix.dtype)


def filled(matrix: StructuredMatrix, flat: NDArray) -> StructuredMatrix:
    """A matrix on NumPy with other contents, those that begin a flat array."""
    arrays, begin = [], 0
    for own in map(np.asarray, binding.leaves(matrix)):
        if own.dtype.kind == "f":
            arrays.append(flat[begin : begin + own.size].reshape(own.shape))
            begin += own.size
        else:
            arrays.append(own)
    return binding.construct(matrix, arrays)
