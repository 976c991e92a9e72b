"""Matrices kept around contents, and the marks by which changed contents are seen."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat.matrix import StructuredMatrix

#: Words of eight bytes that are compared one by one, at most: 4 KiB.
_WORDS_COMPARED = 512
#: Words that are compared out of larger tensors.
_WORDS_SAMPLED = 64
#: Words that are summed at each look, at most: 128 KiB, read in about 3 µs.
_WORDS_SUMMED = 2**14
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Words:
    """Words of a tensor on the CPU, which show writes that torch does not count.

    Small tensors are compared as they are. Of larger ones, a sample is compared and the sum
    of all words; of the largest, the sample alone. Every write to the whole tensor shows.
    """

    def __init__(self, tensor: Tensor) -> None:
        plain = tensor.detach()
        # By DLPack, as `numpy()` would forbid to resize the storage, which sharding does.
        words = np.from_dlpack(plain.view(_INTEGERS[plain.element_size()]))
        order = np.argsort([-step for step in words.strides], kind="stable")
        words = np.atleast_1d(words.transpose(order))
        tail = words[:0]
        if words.flags.c_contiguous:
            words = words.reshape(-1)
            even = words.nbytes // 8 * 8 // words.itemsize
            words, tail = words[:even].view(np.int64), words[even:]
        self._spots, self._summed = [words, tail], words[:0]
        if words.size > _WORDS_COMPARED:
            self._summed = words if words.nbytes <= 8 * _WORDS_SUMMED else words[:0]
            self._spots = [words[:: -(-words.shape[0] // _WORDS_SAMPLED)], tail]
        self._known = self._read()

    def _read(self) -> tuple[bytes, bytes, int]:
        sample, tail = self._spots
        total = int(np.add.reduce(self._summed, axis=None)) if self._summed.size else 0
        return sample.tobytes(), tail.tobytes() if tail.size else b"", total

    def same(self) -> bool:
        """Tell whether no change shows; the memory has to be there still."""
        return self._read() == self._known


class Mark(NamedTuple):
    """Tensor as it was: version, address, gradient and, on a CPU, its words.

    Fused optimizers change parameters without a new version; the gradient that they follow
    is another, or has another version. A strong reference to the tensor, unlike a weak one,
    lets `torch.utils.swap_tensors` change it.
    """

    tensor: Tensor
    version: int
    address: int
    gradient: Tensor | None
    gradient_version: int
    words: Words | None

    @classmethod
    def of(cls, tensor: Tensor) -> "Mark":
        """Mark a tensor as it is."""
        version, address, grad = tensor._version, tensor.data_ptr(), _gradient(tensor)
        words = Words(tensor) if tensor.device.type == "cpu" else None
        return cls(tensor, version, address, grad, 0 if grad is None else grad._version, words)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is the marked one and shows no change."""
        if tensor is not self.tensor or tensor._version != self.version:
            return False
        grad = _gradient(tensor)
        if grad is not self.gradient or (
            grad is not None and grad._version != self.gradient_version
        ):
            return False
        # The address first: sharding frees the memory that the words stand in.
        return tensor.data_ptr() == self.address and (self.words is None or self.words.same())


def _gradient(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None  # torch warns of others


class Remembered(NamedTuple):
    """A matrix around contents, with marks of the tensors they came from."""

    matrix: StructuredMatrix
    dtype: torch.dtype | None
    marks: list[Mark]

    @classmethod
    def of(
        cls,
        tensors: list[Tensor],
        dtype: torch.dtype | None,
        make: Callable[[], StructuredMatrix],
    ) -> "Remembered | None":
        """A new matrix, or None if changes of the contents would go unseen."""
        try:
            marks = [Mark.of(tensor) for tensor in tensors]
        # Tensors of inference mode, inside a transform such as vmap, or of other memory.
        except (RuntimeError, BufferError, TypeError):
            return None
        with torch.inference_mode(False), torch.no_grad():
            return cls(make(), dtype, marks)

    def holds(self, tensors: list[Tensor], dtype: torch.dtype | None) -> bool:
        """Tell whether the contents are unchanged."""
        return (
            dtype == self.dtype
            and len(tensors) == len(self.marks)
            and all(map(Mark.holds, self.marks, tensors))
        )
