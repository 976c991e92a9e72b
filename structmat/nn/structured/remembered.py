"""Matrices kept around contents, and the marks by which changed contents are seen."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from structmat._derivatives import is_unfollowed
from structmat.kernels.bound import DirectKernel
from structmat.kernels.choice.contexts import are_entered
from structmat.matrix import StructuredMatrix

#: Bytes of a tensor that are compared one by one, at most: in about 5 µs.
_BYTES_COMPARED = 2**17
#: Words of eight bytes that are compared out of larger tensors.
_WORDS_SAMPLED = 64
#: Numbers of vectors for which the way of a product is kept.
_MOST_WAYS = 64
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


#: Ways of a product: by the dense weight, by operations of torch, by a compiled kernel.
Way = Literal["dense", "operations"] | DirectKernel


class Words:
    """Words of a tensor on the CPU, which show writes that torch does not count.

    Tensors up to 128 KiB are compared as they are, and of larger ones a sample. Every write to
    the whole tensor shows.

    Attributes
    ----------
    complete : bool
        Whether all words are compared: no other sign of a change counts then.
    """

    def __init__(self, tensor: Tensor) -> None:
        plain = tensor.detach()
        # By DLPack, as `numpy()` would forbid to resize the storage, which sharding does.
        words = np.from_dlpack(plain.view(_INTEGERS[plain.element_size()]))
        order = np.argsort([-step for step in words.strides], kind="stable")
        words = np.atleast_1d(words.transpose(order))
        self.complete = words.nbytes <= _BYTES_COMPARED
        #: The words where they lie, if all are compared and lie one after another.
        self.memory: memoryview | None = None
        tail = words[:0]
        if words.flags.c_contiguous:
            data = words.reshape(-1).view(np.uint8)
            self.memory = memoryview(data.data) if self.complete else None
            even = data.size // 8 * 8
            words, tail = data[:even].view(np.int64), data[even:]
        step = 1 if self.complete else -(-words.shape[0] // _WORDS_SAMPLED)
        self._parts = words[::step], tail
        # An array of bytes is compared with memory where it lies, without a copy.
        self.known: bytes | bytearray | memoryview = bytearray(self._read())

    def same(self) -> bool:
        """Tell whether no change shows; the memory has to be there still."""
        return self.known == self._read()

    def _read(self) -> bytes | memoryview:
        if self.memory is not None:
            return self.memory
        return b"".join(part.tobytes() for part in self._parts)


class Mark(NamedTuple):
    """Tensor as it was: version, address, strides, gradient and, on a CPU, its words.

    Fused optimizers change parameters without a new version; the gradient that they follow
    is another, or has another version. A strong reference to the tensor, unlike a weak one,
    lets `torch.utils.swap_tensors` change it.
    """

    tensor: Tensor
    version: int
    address: int
    strides: tuple[int, ...]
    gradient: Tensor | None
    gradient_version: int
    words: Words | None

    @classmethod
    def of(cls, tensor: Tensor) -> "Mark":
        """Mark a tensor as it is."""
        version, address, grad = tensor._version, tensor.data_ptr(), _gradient(tensor)
        words = Words(tensor) if tensor.device.type == "cpu" else None
        seen = 0 if grad is None else grad._version
        return cls(tensor, version, address, tensor.stride(), grad, seen, words)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is the marked one and shows no change."""
        return tensor is self.tensor and self.stays()

    def stays(self) -> bool:
        """Tell whether the marked tensor shows no change."""
        tensor, words = self.tensor, self.words
        # The address first: sharding frees the memory that the words stand in.
        if tensor._version != self.version or tensor.data_ptr() != self.address:
            return False
        if tensor.stride() != self.strides:
            return False
        if words is not None and not words.same():
            return False
        if words is not None and words.complete:
            return True
        grad = _gradient(tensor)
        return grad is self.gradient and (grad is None or grad._version == self.gradient_version)


def _gradient(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None  # torch warns of others


Place = tuple[dict[str, Any], str, str, Any]


def places_of(module: nn.Module) -> Iterator[Place]:
    """Places of the tensors of a module, and of the modules on the way to them.

    To look at the places is quicker than to list the tensors.
    """
    for kind in ("_parameters", "_buffers"):
        for name, tensor in vars(module)[kind].items():
            if tensor is not None:
                yield vars(module), kind, name, tensor
    for name, child in module._modules.items():
        below = [] if child is None else list(places_of(child))
        if below:
            yield vars(module), "_modules", name, child
            yield from below


class Remembered:
    """A matrix around contents, with marks of the tensors they came from.

    `module` is the one that has the tensors in their places, and `own` tells that they have the
    dtype of the matrix.
    """

    def __init__(
        self,
        matrix: StructuredMatrix,
        dtype: torch.dtype | None,
        marks: list[Mark],
        module: nn.Module | None,
        *,
        own: bool,
    ) -> None:
        self.matrix, self.dtype, self._marks = matrix, dtype, marks
        known = module if own and matrix.device.type == "cpu" else None
        self._state = None if known is None else vars(known)
        self._places = [] if known is None else list(places_of(known))
        # What is compared at every product stands apart: the rest takes longer.
        self._compared = [
            (m.tensor, m.version, m.address, m.strides, m.words.known, m.words.memory)
            for m in marks
            if m.words is not None and m.words.memory is not None
        ]
        self._others = [m for m in marks if m.words is None or m.words.memory is None]
        self._ways: dict[tuple[int, int], Way] = {}
        self._bias: tuple[Tensor, tuple[Any, ...], NDArray] | None = None

    @classmethod
    def of(
        cls,
        tensors: list[Tensor],
        dtype: torch.dtype | None,
        make: Callable[[], StructuredMatrix],
        module: nn.Module | None = None,
    ) -> "Remembered | None":
        """A new matrix, or None if changes of the contents would go unseen.

        `module` is the one that has the tensors in their places.
        """
        try:
            marks = [Mark.of(tensor) for tensor in tensors]
        # Tensors of inference mode, inside a transform such as vmap, or of other memory.
        except (RuntimeError, BufferError, TypeError):
            return None
        own = all(t.dtype == dtype for t in tensors if t.is_floating_point())
        with torch.inference_mode(False), torch.no_grad():
            return cls(make(), dtype, marks, module, own=own)

    def holds(self, tensors: list[Tensor], dtype: torch.dtype | None) -> bool:
        """Tell whether the contents are unchanged."""
        return (
            dtype == self.dtype
            and len(tensors) == len(self._marks)
            and all(map(Mark.holds, self._marks, tensors))
        )

    def serves(self, x: Tensor, module: nn.Module) -> bool:
        """Tell whether plain vectors (…, n) on a CPU meet unchanged contents, and nothing follows.

        `module` is the one that remembers. Compilers are not asked for.
        """
        # A shallow copy of the module is another one.
        if vars(module) is not self._state or type(x) is not Tensor or x.dtype is not self.dtype:
            return False
        if x.layout is not torch.strided or x.is_nested:
            return False
        if not x.is_cpu or not is_unfollowed() or torch.is_autocast_enabled("cpu"):
            return False
        for state, kind, name, value in self._places:
            if state[kind].get(name) is not value:
                return False
        for tensor, version, address, strides, known, memory in self._compared:
            # As `Mark.stays` does.
            if tensor._version != version or tensor.data_ptr() != address or known != memory:
                return False
            if tensor.stride() != strides:
                return False
        return all(map(Mark.stays, self._others))

    def way(self, count: int, choose: Callable[[], Way]) -> Way:
        """The way in which a number of vectors is multiplied, chosen once.

        A forced kernel is no choice.
        """
        if are_entered():
            return choose()
        key = count, torch.get_num_threads()
        found = self._ways.get(key)
        if found is None:
            if len(self._ways) >= _MOST_WAYS:
                self._ways.clear()
            found = self._ways[key] = choose()
        return found

    def bias_on_numpy(self, bias: Tensor) -> NDArray | None:
        """A plain bias (m,) as an array that shares its memory, made once; None for others.

        Compiled loops read m numbers in a row, as they lie: other tensors are to be added by torch.
        """
        at, known = (bias.data_ptr(), bias.shape, bias.stride()), self._bias
        if known is None or known[0] is not bias or known[1] != at:
            if bias.shape != self.matrix.shape[:1] or not bias.is_contiguous() or bias.is_neg():
                return None
            # By DLPack, as `numpy()` would forbid to resize the storage.
            self._bias = known = bias, at, np.from_dlpack(bias.detach())
        return known[2]
