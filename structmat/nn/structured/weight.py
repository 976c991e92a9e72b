"""`StructuredWeight`: a matrix of any kind as a module, with trainable contents."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat import binding
from structmat._derivatives import is_captured, is_traced, is_transformed
from structmat.matrices import Dense, split_orders
from structmat.matrix import StructuredMatrix
from structmat.nn.sharded import whole
from structmat.nn.structured import products
from structmat.nn.structured.expected import Expected
from structmat.nn.structured.parameters import (
    Contents,
    floating_dtype,
    leaves_of,
    on_torch,
    stand_ins,
    tensors_of,
    without_integers,
)
from structmat.nn.structured.placed import forget_placement
from structmat.nn.structured.products import (
    affine,
    affine_of_frozen,
    autocast_dtype,
    check_dtype,
    check_inputs,
)
from structmat.nn.structured.remembered import Remembered
from structmat.nn.structured.speed import place_of_products
from structmat.nn.structured.state import Structure, StructuredModule
from structmat.nn.structured.structure import described, older_integers, taken


class StructuredWeight(StructuredModule):
    """Any structured matrix (m, n) as a module, with its contents as parameters.

    Products run through the structure or through the assembled dense weight, whichever
    is estimated to take less time; results and gradients are the same.

    Parameters
    ----------
    matrix : StructuredMatrix
        Of any kind, sums and products included, with real contents from any array
        library. Contents are copied.

    Attributes
    ----------
    contents : torch.nn.Module
        Content arrays as parameters, by name: ``contents.u``, and ``contents.0.U`` in
        the first term of a sum. Empty arrays are buffers.
    times : Times
        Estimated times of products, by the model in `speed`.
    device : torch.device
        Where products run.
    place : str
        The device and the dtype of products, as figures name them.
    positions : int
        Number of vectors that the weight multiplies for one example; 1 until it is set on
        the instance.

    Raises
    ------
    InputError
        If `matrix` is no structured matrix, is complex, or holds arrays beside its
        contents, as they would not follow changes of the contents.

    Notes
    -----
    While no gradient is recorded, results that are computed from the contents are
    remembered: filled panels, the dense weight. They are computed again once a parameter
    was changed or replaced, and dropped when the mode changes, a gradient is recorded or the
    module moves. Torch counts most changes, but not those through ``parameter.data``, shared
    memory or DLPack. On a CPU the contents themselves are looked at before each product:
    all words of a tensor up to 128 KiB, and a sample of larger ones. So every write to a whole
    tensor is seen, and a write to a few entries of a large one may not be. On other devices
    nothing is read. After such writes there, and after writes to few entries, call `refresh`, or
    ``model.eval()`` for all layers.

    The state dict has the structure as well: shapes, runs, places, permutations, as one
    tensor of bytes under ``_extra_state``. `load_state_dict` takes over a structure whose
    contents have the present shapes, and refuses another.

    Examples
    --------
    >>> import numpy as np, structmat, torch
    >>> weight = StructuredWeight(structmat.LowRank(np.ones((6, 1)), np.ones((4, 1))))
    >>> weight.kind, weight.shape, weight.cost, list(weight.state_dict())
    ('low_rank', (6, 4), 10, ['_extra_state', 'contents.U', 'contents.V'])
    >>> weight.float()(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 6])
    """

    # Of the class, so that a weight whose vectors were counted has it of its own.
    positions = 1

    def __init__(self, matrix: StructuredMatrix) -> None:
        super().__init__()
        matrix = on_torch(matrix)
        self.contents = Contents(matrix)
        self._template = binding.bind(matrix, stand_ins(matrix, self.contents), remember=False)
        self._remembered: Remembered | None = None
        #: What captured graphs read, for as long as they may be replayed.
        self._in_graphs: list[Remembered] = []
        self._prepare()

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs: (m, n)."""
        return self._template.shape

    @property
    def kind(self) -> str:
        """Name of the structure; for a matrix in other orders, that of the matrix inside."""
        return split_orders(self._template)[1].kind

    @property
    def cost(self) -> int:
        """Multiplications for one vector."""
        return self._template.cost

    @property
    def storage(self) -> int:
        """Stored scalars."""
        return self._template.storage

    def expected(self, count: int) -> Expected | None:
        """Expected seconds of a product with `count` vectors; None without figures of the device.

        Examples
        --------
        >>> import numpy as np, structmat
        >>> weight = StructuredWeight(structmat.LowRank(np.ones((600, 1)), np.ones((400, 1))))
        >>> expected = weight.float().expected(1000)
        >>> expected.structure < expected.dense, expected.takes_dense
        (True, False)
        """
        return Expected.of(self.times, count, self.device)

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
            If the dtype differs from that of the contents, without autocast.
        """
        if (known := self._serving(x)) is not None:
            return affine_of_frozen(known, x, bias, self.times)
        check_inputs(x, self._template.shape, self)
        dtype = autocast_dtype(x)
        if dtype is None:
            matrix = self.bound(x.dtype)
            # The first product goes the way of all that follow, to the same bits.
            if (known := self._serving(x)) is not None:
                return affine_of_frozen(known, x, bias, self.times)
            return affine(matrix, x, bias, self.times)
        with torch.autocast(x.device.type, enabled=False):
            return affine(self.bound(dtype, cast=True), x.to(dtype), bias, self.times)

    def _serving(self, x: Tensor) -> Remembered | None:
        """Remembered contents, if they serve vectors as they are."""
        known = None if torch.compiler.is_compiling() else self._remembered
        return known if known is not None and known.serves(x, self) else None

    def dense(self) -> Tensor:
        """The weight as a dense tensor, (m, n): differentiable, and only to be read."""
        found = self.dense_of(self.bound())
        # Frameworks that initialise layers through `weight` must not reach the contents.
        return found.clone() if isinstance(self._template, Dense) else found

    def dense_of(self, matrix: StructuredMatrix) -> Tensor:
        """The dense weight of a matrix that `bound` returned."""
        return products.dense(matrix)

    def assembly(self, matrix: StructuredMatrix) -> int:
        """Number of products by the structure that assemble the dense weight of `matrix`."""
        return products.assembly(matrix)

    def to_matrix(self) -> StructuredMatrix:
        """The matrix with a copy of the present contents, on torch."""
        contents = leaves_of(self._template, self.contents)
        return binding.construct(self._template, [whole(array).clone() for array in contents])

    def bound(self, dtype: torch.dtype | None = None, *, cast: bool = False) -> StructuredMatrix:
        """The matrix around the present contents.

        Parameters
        ----------
        dtype : torch.dtype, optional
            Required dtype of the contents.
        cast : bool
            Cast contents of another dtype instead of refusing them.
        """
        tensors = tensors_of(self.contents)
        if len(tensors) < self._count:  # replicas, among others, have plain attributes instead
            tensors = leaves_of(self._template, self.contents)
        own = floating_dtype(tensors)
        if not cast:
            check_dtype(dtype, own)
        dtype = dtype if cast else own
        if is_traced() or is_transformed(*tensors):
            return self._around(dtype, remember=False)
        if any(t.is_meta for t in tensors):
            arrays = leaves_of(self._template, self.contents)
            if not any(a.is_meta for a in arrays):  # loaders brought the contents for this call
                return self._bound_to(arrays, dtype, remember=False)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            self.refresh()
            return self._around(dtype, remember=False)
        remembered = self._remembered
        if is_captured():
            return self._captured(remembered, tensors, dtype)
        if remembered is None or not remembered.holds(tensors, dtype):
            around = partial(self._around, dtype, remember=True)
            remembered = Remembered.of(tensors, dtype, around, self)
            self._remembered = remembered
            if remembered is not None and not any(t.requires_grad for t in tensors):
                forget_placement(remembered.matrix)
        return self._around(dtype, remember=False) if remembered is None else remembered.matrix

    def _captured(
        self, remembered: Remembered | None, tensors: list[Tensor], dtype: torch.dtype | None
    ) -> StructuredMatrix:
        """The matrix while a graph of CUDA is captured, which reads its memory in each replay."""
        if remembered is None or not remembered.holds(tensors, dtype):
            return self._around(dtype, remember=False)
        if not any(remembered is one for one in self._in_graphs):
            self._in_graphs.append(remembered)
        return remembered.matrix

    def _around(self, dtype: torch.dtype | None, *, remember: bool) -> StructuredMatrix:
        arrays = leaves_of(self._template, self.contents)
        return self._bound_to(arrays, dtype, remember=remember)

    def _bound_to(
        self, arrays: list[Tensor], dtype: torch.dtype | None, *, remember: bool
    ) -> StructuredMatrix:
        if remember:
            arrays = [array.detach() for array in arrays]
        arrays = [array.to(dtype) if array.is_floating_point() else array for array in arrays]
        return binding.bind(self._template, arrays, dtype=dtype, remember=remember)

    def _prepare(self) -> None:
        """Compute the results that depend on structure alone, before a product is traced."""
        with torch.inference_mode(False), torch.no_grad():
            zeros = stand_ins(self._template, self.contents)
            self._count = sum(array.is_floating_point() for array in zeros)
            dtype = floating_dtype(zeros)
            matrix = binding.bind(self._template, zeros, dtype=dtype, remember=True)
            self.times = products.prepare(matrix)
            self.device, self.place = matrix.device, place_of_products(matrix)

    def refresh(self) -> None:
        """Drop remembered results, after a change of the contents that torch did not count."""
        if self._remembered is not None:
            self._remembered = None

    def _describe(self) -> Structure:
        return described(self._template)

    def _take_structure(self, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        self._follow(taken(self._template, entry, arrays))

    def _take_older(self, found: dict[str, Any], prefix: str) -> bool:
        entry, arrays = described(self._template)
        integers = older_integers(self._template, found, f"{prefix}contents.")
        if integers:
            self._follow(taken(self._template, entry, arrays | integers))
        return not arrays.keys() - integers.keys()

    def _follow(self, matrix: StructuredMatrix) -> None:
        """Lay the present contents out as another matrix does."""
        self._template = binding.bind(matrix, stand_ins(matrix, self.contents), remember=False)
        self.refresh()
        self._prepare()

    def train(self, mode: bool = True) -> "StructuredWeight":
        """Set the mode, and drop remembered results."""
        self.refresh()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.refresh()  # torch can swap no tensor that is referred to
        super()._apply(fn, recurse)
        moved = [_moved(array, fn) for array in binding.leaves(self._template)]
        self._template = binding.bind(self._template, moved, remember=False)
        self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_remembered": None, "_in_graphs": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_in_graphs": [], **state})
        without_integers(self.contents)
        self._prepare()


def _moved(array: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """An integer array on the device of its change, with its values: even `to_empty` keeps them."""
    device = torch.device("meta") if array.is_floating_point() else fn(array).device
    return array if device.type == "meta" else array.to(device)
