"""Checks of the contract of a structured matrix, for tests of classes of your own."""

import math
import pickle
from typing import Any

import numpy as np

from structmat import _array
from structmat._array import Array
from structmat.errors import InputError
from structmat.matrix import StructuredMatrix

__all__ = ["check_matrix"]


def check_matrix(A: StructuredMatrix, dense: Array | None = None, *, seed: int = 0) -> None:
    """Check the contract of a structured matrix; raise AssertionError where it breaks.

    Products against the dense matrix, with vectors, columns, batches and empty
    operands; the adjoint identity <A x, y> = <x, A^H y>; `T`, `H` and `conj`; dtype and
    device of results; cost and storage; pickling; and that operands stay as they are.

    Parameters
    ----------
    A : StructuredMatrix, shape (m, n)
        The matrix to check, on any array library.
    dense : array, shape (m, n), optional
        The same matrix, built independently; ``A.to_dense()`` by default.
    seed : int
        Seed of the random operands.

    Raises
    ------
    AssertionError
        If a check fails; the message names the check and the error.

    Examples
    --------
    >>> import numpy as np, structmat
    >>> structmat.testing.check_matrix(structmat.LowRank(np.eye(3), np.eye(3)), np.eye(3))
    """
    if not isinstance(A, StructuredMatrix):
        raise InputError(f"A is a {type(A).__qualname__}; expected a StructuredMatrix")
    check = _Check(A, seed)
    D = _array.to_numpy(A.to_dense() if dense is None else dense)
    check.products(D)
    check.adjoint_identity()
    for what, matrix, expected in (
        ("the matrix", A, D),
        ("T", A.T, D.T),
        ("H", A.H, D.conj().T),
        ("conj", A.conj(), D.conj()),
        ("A * 2", A * 2, 2 * D),
        ("a pickled copy", pickle.loads(pickle.dumps(A)), D),
        ("a copy", A.copy(), D),
    ):
        found = matrix.to_dense()
        check.same(f"to_dense of {what}", found, expected)
        check.alike(f"to_dense of {what}", found, A.dtype)
        check.that(matrix.dtype == A.dtype, f"{what} has dtype {matrix.dtype}, not {A.dtype}")
    check.that(A.cost >= 0 and A.storage >= 0, f"cost {A.cost} and storage {A.storage}")
    check.that(isinstance(A.cost, int), f"cost is a {type(A.cost).__name__}, expected int")


class _Check:
    """Comparisons for one matrix, in its library and to its precision."""

    def __init__(self, A: StructuredMatrix, seed: int) -> None:
        self.A, self.rng = A, np.random.default_rng(seed)
        inexact = _array.is_inexact(A.dtype, A.xp)
        self.dtype = _array.host_dtype(A.dtype, A.xp) if inexact else np.float64
        # Rounding errors of sums of max(m, n) products, in any order.
        self.tolerance = 50 * math.sqrt(sum(A.shape) + 1) * float(np.finfo(self.dtype).eps)

    def that(self, holds: Any, what: str) -> None:
        if not holds:
            raise AssertionError(f"{self.A!r}: {what}")

    def same(self, what: str, got: Array, expected: Any) -> None:
        expected = np.asarray(_array.to_numpy(expected) if hasattr(expected, "dtype") else expected)
        got = _array.to_numpy(got)
        self.that(got.shape == expected.shape, f"{what}: {got.shape}, expected {expected.shape}")
        if not expected.size:
            return
        scale = float(np.abs(expected).max()) * max(1.0, math.sqrt(sum(self.A.shape)))
        error = float(np.abs(got - expected).max())
        self.that(
            error <= self.tolerance * max(scale, np.finfo(self.dtype).tiny),
            f"{what} is off by {error:.3g}, more than {self.tolerance * scale:.3g}",
        )

    def alike(self, what: str, got: Array, dtype: Any) -> None:
        self.that(got.dtype == dtype, f"{what} has dtype {got.dtype}, not {dtype}")
        device = _array.device(got)
        self.that(device == self.A.device, f"{what} is on {device}, not {self.A.device}")

    def operand(self, *shape: int) -> np.ndarray:
        x = self.rng.standard_normal(shape)
        if np.issubdtype(self.dtype, np.complexfloating):
            x = x + 1j * self.rng.standard_normal(shape)
        return x.astype(self.dtype)

    def products(self, D: np.ndarray) -> None:
        m, n = self.A.shape
        for name, matrix, size in (("", D, n), ("r", D.conj().T, m)):
            for batch in ((), (3,), (2, 0), (2, 3)):
                x, X = self.operand(*batch, size), self.operand(*batch, size, 2)
                self._product(f"{name}matvec", x, (matrix @ x[..., None])[..., 0])
                self._product(f"{name}matmat", X, matrix @ X)
            self._product(f"{name}matmat", X := self.operand(size, 0), matrix @ X)

    def _product(self, name: str, x: np.ndarray, expected: np.ndarray) -> None:
        operand = self._placed(x.copy())
        got = getattr(self.A, name)(operand)
        what = f"{name} of an operand of shape {x.shape}"
        self.same(what, got, expected)
        self.alike(what, got, operand.dtype)
        self.that(bool((_array.to_numpy(operand) == x).all()), f"{what} changed its operand")

    def adjoint_identity(self) -> None:
        m, n = self.A.shape
        x, y = self.operand(n), self.operand(m)
        left = np.vdot(y, _array.to_numpy(self.A.matvec(self._placed(x))))
        right = np.vdot(_array.to_numpy(self.A.rmatvec(self._placed(y))), x)
        size = float(np.linalg.norm(_array.to_numpy(self.A.to_dense())))
        scale = float(np.linalg.norm(x) * np.linalg.norm(y)) * size
        self.that(
            abs(complex(left) - complex(right))
            <= self.tolerance * max(scale, np.finfo(self.dtype).tiny),
            f"<A x, y> = {left} but <x, A^H y> = {right}",
        )

    def _placed(self, x: np.ndarray) -> Array:
        return _array.from_numpy(x, self.A.xp, self.A.device)
