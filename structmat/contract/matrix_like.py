"""`MatrixLike`: an operator with a dense form, and what Python's operators do with it.

Operators that act on entries, or that would write into the dense form, are refused with the
remedy.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from scipy.sparse.linalg import LinearOperator

from structmat import _array
from structmat._array import Array
from structmat.errors import OperationError


def _refusal(what: str, remedy: str) -> Callable[..., NoReturn]:
    """Method that refuses an operation and says what to do."""

    def refuse(self: Any, *others: Any) -> NoReturn:
        raise OperationError(f"{what} a {self._size()} {type(self).__name__}; {remedy}")

    return refuse


def _entrywise(what: str) -> Callable[..., NoReturn]:
    return _refusal(f"{what} of", "expected an array: it acts on entries, which A.to_dense() has")


class MatrixLike(LinearOperator):
    """Abstract operator with a dense form, which Python's own operators may be given."""

    shape: tuple[int, int]
    xp: Any

    @abstractmethod
    def to_dense(self) -> Array:
        """The matrix as an array of shape (m, n)."""

    def _size(self) -> str:
        return f"{self.shape[0]}x{self.shape[1]}"

    def toarray(self) -> np.ndarray:
        """The matrix as a NumPy array of shape (m, n), whichever library holds the contents.

        Examples
        --------
        >>> import structmat
        >>> structmat.Permutation([1, 0]).toarray()
        array([[0., 1.],
               [1., 0.]])
        """
        return _array.to_numpy(self.to_dense())

    def __bool__(self) -> bool:
        raise OperationError(
            f"truth of a {self._size()} {type(self).__name__}; expected a question about it: "
            "A is None, A.norm() > 0"
        )

    def __eq__(self, other: object) -> bool:
        if other is self or not (isinstance(other, MatrixLike) or hasattr(other, "shape")):
            return other is self
        raise OperationError(
            f"== of a {self._size()} {type(self).__name__}; expected arrays: compare by "
            "numpy.array_equal(A, B), or by (A - B).norm()"
        )

    __hash__ = object.__hash__

    __len__ = _refusal("length of", "expected A.shape[0], or an array: A.to_dense()")

    def __iter__(self) -> Iterator[Array]:
        """Rows of the dense form."""
        dense = self.to_dense()
        return (dense[i, ...] for i in range(self.shape[0]))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or not hasattr(np.ndarray, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise OperationError(
                f"{name} of a {type(self).__name__}; expected an array: A.to_dense() or "
                f"A.toarray(), which has {name} in NumPy"
            )

    __contains__ = __reversed__ = _entrywise("search")
    __float__ = __int__ = __complex__ = __index__ = _refusal(
        "a number from", "expected an entry: A[i, j]"
    )
    __abs__, __round__ = _entrywise("abs"), _entrywise("round")
    __floor__, __ceil__, __trunc__ = map(_entrywise, ("floor", "ceil", "trunc"))
    __lt__, __le__, __gt__, __ge__ = map(_entrywise, ("<", "<=", ">", ">="))
    __floordiv__ = __rfloordiv__ = _entrywise("//")
    __mod__ = __rmod__ = _entrywise("%")
    __divmod__ = __rdivmod__ = _entrywise("divmod")
    __and__ = __rand__ = _entrywise("&")
    __or__ = __ror__ = _entrywise("|")
    __xor__ = __rxor__ = _entrywise("^")
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _entrywise("shift")
    __invert__ = _entrywise("~")
    __rpow__ = _refusal("a power whose exponent is", "expected scipy.linalg.expm(A.to_dense())")
    __rtruediv__ = _refusal(
        "division by", "expected a solution: numpy.linalg.solve, or scipy.sparse.linalg.gmres"
    )
    __setitem__ = __delitem__ = _refusal(
        "assignment to entries of", "expected another matrix: contents do not change"
    )
