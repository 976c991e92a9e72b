"""The abstract source: a matrix that is known by blocks of its entries and is never formed."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._array import Array, DType
from structmat.errors import BackendError, InputError, ShapeError, StructmatError, first_line
from structmat.intervals import IntArray
from structmat.kinds import kind_class, later
from structmat.matrix import StructuredMatrix

#: Most entries of the blocks that products evaluate at once: 32 MiB in double precision.
BLOCK_ENTRIES = 2**22
#: Rows and columns of the blocks that single entries are picked from.
PICK_SIDE = 16


class CompiledKernel(NamedTuple):
    """A named kernel as compiled loops evaluate it: ``kernel_value(code, r2, scale)``."""

    code: int
    #: Points of the rows and of the columns, (m, d) and (n, d), in double precision.
    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    scale: float


class Counter:
    """A number that several threads add to."""

    def __init__(self) -> None:
        self.value, self._lock = 0, threading.Lock()

    def add(self, number: int) -> None:
        """Add a whole number."""
        with self._lock:
            self.value += int(number)


class Source(StructuredMatrix, kind=None):
    """Abstract matrix (m, n) whose entries are evaluated where they are needed.

    A concrete source defines `_evaluate`. `compress` takes it as it is, and so do SciPy's
    solvers: products evaluate blocks of rows, in bounded memory, and keep none.

    Attributes
    ----------
    entries : int
        Number of entries evaluated so far, for blocks and for products.
    symmetric : bool
        True if entry (i, j) equals entry (j, i).
    hermitian : bool
        True if entry (i, j) is the conjugate of entry (j, i).
    """

    symmetric: bool
    #: Whether entries are the conjugates of those that `_evaluate` gives.
    conjugated: bool

    def __init__(
        self,
        shape: tuple[int, int],
        arrays: Mapping[str, Array],
        *,
        dtype: DType | None = None,
        symmetric: bool = False,
        hermitian: bool = False,
        conjugated: bool = False,
    ) -> None:
        super().__init__(shape, arrays)
        self.conjugated = conjugated
        self.dtype = self.dtype if dtype is None else dtype
        is_complex = _array.is_complex(self, self.xp)
        self.symmetric = symmetric or (hermitian and not is_complex)
        self._is_hermitian = hermitian or (symmetric and not is_complex)
        self._counter = Counter()

    # Hooks of a concrete source.

    @property
    @abstractmethod
    def points(self) -> NDArray[np.float64] | None:
        """Points of the rows on the host, (m, d), or None."""

    @property
    @abstractmethod
    def points2(self) -> NDArray[np.float64] | None:
        """Points of the columns on the host, (n, d); `points` itself where they are the same."""

    @property
    @abstractmethod
    def compiled(self) -> CompiledKernel | None:
        """The same entries for compiled loops, which call `count` for those they evaluate."""

    @abstractmethod
    def _evaluate(self, rows: IntArray, cols: IntArray) -> Any:
        """Entries at all pairs of some rows and columns, neither of them empty: (p, q)."""

    # Blocks.

    @property
    def entries(self) -> int:
        """Number of entries evaluated so far."""
        return self._counter.value

    def count(self, entries: int) -> None:
        """Add entries that compiled loops evaluated to `entries`."""
        self._counter.add(entries)

    def counted_by(self, other: "Source") -> Self:
        """The same source, whose evaluations count as those of another one, and the other way."""
        self._counter = other._counter
        return self

    def apart(self) -> Self:
        """The same source, whose evaluations count apart from those of this one."""
        own = type(self).__new__(type(self))
        own.__dict__.update(self.__dict__, _counter=Counter())
        return own

    @_array.on_own_device
    def block(self, rows: IntArray, cols: IntArray) -> Array:
        """Entries at all pairs of some rows and some columns, shape (p, q).

        Parameters
        ----------
        rows, cols : array of int, shapes (p,) and (q,)
            On the host, none of them negative.

        Returns
        -------
        array, shape (p, q)
            In the library and on the device of the source.

        Raises
        ------
        InputError
            If the function of the entries raises, or returns anything but finite numbers.
        ShapeError
            If it returns another shape than (p, q).
        """
        rows, cols = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
        for at, size in ((rows, self.shape[0]), (cols, self.shape[1])):
            if at.ndim != 1 or (at.size and not (at.min() >= 0 and at.max() < size)):
                raise InputError(
                    f"indices {str(at)[:80]}; expected a sequence of integers from 0 to {size - 1}"
                )
        if not (rows.size and cols.size):
            return self.xp.zeros((rows.size, cols.size), dtype=self.dtype, device=self.device)
        self.count(rows.size * cols.size)
        if self.compiled is not None:
            return self._evaluate(rows, cols)
        return self._checked(self._called(rows, cols), rows, cols)

    def _called(self, rows: IntArray, cols: IntArray) -> Any:
        try:
            return self._evaluate(rows, cols)
        except StructmatError:
            raise
        except Exception as error:  # a function of the user's
            reason = first_line(error)
            raise InputError(
                f"the entries at {_places(rows, cols)} cannot be evaluated: the function raised "
                f"{type(error).__name__}: {reason}; expected an array of shape "
                f"{(rows.size, cols.size)}"
            ) from error

    def _checked(self, block: Any, rows: IntArray, cols: IntArray) -> Array:
        """Result of a function, as a block of this source."""
        xp, wanted = self.xp, (rows.size, cols.size)
        if not _array.belongs(block, xp):
            raise BackendError(
                f"the entries at {_places(rows, cols)} are a {type(block).__module__}."
                f"{type(block).__qualname__}; expected an array of {_array.backend_name(xp)}"
            )
        if tuple(block.shape) != wanted:
            raise ShapeError(
                f"the entries at {_places(rows, cols)} have shape {tuple(block.shape)}; expected "
                f"{wanted}: all pairs of {wanted[0]} rows and {wanted[1]} columns"
            )
        if not _array.is_dtype(block.dtype, ("bool", "numeric"), xp) or (
            _array.is_complex(block, xp) and not _array.is_complex(self, xp)
        ):
            raise InputError(
                f"the entries at {_places(rows, cols)} have dtype {block.dtype}; expected "
                f"{self.dtype}, that of the source (give it another dtype)"
            )
        block = block if block.dtype == self.dtype else xp.astype(block, self.dtype)
        if not bool(xp.all(xp.isfinite(block))):
            wrong = np.argwhere(~np.isfinite(_array.to_numpy(block)))[0]
            i, j = int(rows[wrong[0]]), int(cols[wrong[1]])
            value = _array.to_numpy(block)[tuple(wrong)]
            raise InputError(
                f"entry ({i}, {j}) is {value}; expected finite numbers (give the function a value "
                "for such a pair)"
            )
        return _array.conj(block, xp) if self.conjugated else block

    # The contract of a matrix.

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: m n, beside the evaluation of all entries."""
        return self.shape[0] * self.shape[1]

    def _multiply(self, x: Array) -> Array:
        every = np.arange(self.shape[1])
        parts = self._apart(lambda rows, x: self._wide(self.block(rows, every), x) @ x, x, 0)
        return self._joined(parts, (self.shape[0], x.shape[1]), x)

    def _multiply_adjoint(self, y: Array) -> Array:
        every = np.arange(self.shape[0])

        def product(cols: IntArray, y: Array) -> Array:
            return _array.adjoint_times(self._wide(self.block(every, cols), y), y, self.xp)

        parts = self._apart(product, y, 1)
        return self._joined(parts, (self.shape[1], y.shape[1]), y)

    def _dense(self) -> Array:
        every = np.arange(self.shape[1])
        parts = [self.block(rows, every) for rows in self._slices(0)]
        return self._joined(parts, self.shape, None)

    def _hermitian(self) -> bool:
        return self._is_hermitian

    def _adjoint(self) -> StructuredMatrix:
        return kind_class("adjoint")(self)

    def _conjugate(self) -> StructuredMatrix:
        arrays = {name: getattr(self, name) for name in self.data_names}
        static = {**self._static(), "conjugated": not self.conjugated}
        found = self._build(arrays, (), static)
        # Real points know nothing of a complex dtype that was asked for.
        return found if found.dtype == self.dtype else found.astype(self.dtype)

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        xp, found = self.xp, [self.xp.zeros(0, dtype=self.dtype, device=self.device)]
        for first in range(0, rows.size, PICK_SIDE):
            some = slice(first, first + PICK_SIDE)
            block = self.block(rows[some], cols[some])
            at = np.arange(block.shape[0]) * (block.shape[1] + 1)
            at = _array.integers(at, xp, self.device)
            found.append(xp.take(xp.reshape(block, (-1,)), at, axis=0))
        return xp.concat(found)

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        part: StructuredMatrix = later("structmat.sources.views:part")(self, rows, cols)
        return part

    def _apart(
        self, product: Callable[[IntArray, Array], Array], x: Array, axis: int
    ) -> list[Array]:
        """Products by blocks in turn; of several, gradients evaluate each block again."""
        slices = list(self._slices(axis))
        if len(slices) < 2 or not _array.has_gradients(self.xp):
            return [product(at, x) for at in slices]
        from structmat._derivatives import recomputed

        return [recomputed(partial(product, at), x) for at in slices]

    def _slices(self, axis: int) -> Iterator[IntArray]:
        """Positions on an axis, as many at a time as a block may have."""
        size, other = self.shape[axis], self.shape[1 - axis]
        step = max(1, BLOCK_ENTRIES // max(other, 1))
        for first in range(0, size, step):
            yield np.arange(first, min(first + step, size))

    def _wide(self, block: Array, x: Array) -> Array:
        return block if block.dtype == x.dtype else self.xp.astype(block, x.dtype)

    def _joined(self, parts: list[Array], shape: tuple[int, int], like: Array | None) -> Array:
        """Rows that were computed apart; zeros where there are none."""
        if parts and 0 not in shape:
            return parts[0] if len(parts) == 1 else self.xp.concat(parts)
        dtype = self.dtype if like is None else like.dtype
        return self.xp.zeros(shape, dtype=dtype, device=self.device)


def _places(rows: IntArray, cols: IntArray) -> str:
    """Rows and columns of a block, for an error."""
    return f"rows {_span(rows)} and columns {_span(cols)}"


def _span(at: IntArray) -> str:
    return str(at[0]) if at.size == 1 else f"{at.min()} to {at.max()} ({at.size} of them)"


#: Function of host index arrays (p,) and (q,) that returns the block (p, q).
EntryFunction = Callable[[IntArray, IntArray], Any]
