"""Matrices known by their products: operators of any library, checked at each product."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat import _array
from structmat._checks import host_array
from structmat.compress.inner import residual_by_products, sparse_entries
from structmat.errors import BackendError, InputError, ShapeError, ToleranceError
from structmat.project.svd import gaussian

#: A structured or sparse matrix with more entries is compressed through its products.
DENSE_ENTRIES = 2**26
#: Random vectors that an operator multiplies first: they start every fit.
SAMPLE = 8
#: Roundings that two sides of an equation may differ by, which proves nothing.
ROUNDINGS = 10
#: Relative difference beyond which a matrix is not what its user calls symmetric.
SAID = 1e-2
#: Exceptions with which operators of SciPy and of others say that a product is missing.
MISSING = (NotImplementedError, TypeError, AttributeError)

Product = Callable[[NDArray], Any]


class Products:
    """An operator whose results are checked at each product, and its columns counted.

    Parameters
    ----------
    operator : object
        With ``shape``, and `matmat`, ``@`` or `matvec`. Its adjoint is `rmatmat`, `rmatvec`,
        ``H`` or ``T``; without one, products show whether the matrix is its own adjoint.
    symmetric : bool, optional
        True for a matrix that equals its transpose or its adjoint, which then needs no
        products of its own. By default an adjoint is used where there is one.
    rng : numpy.random.Generator, optional
        Draws the first random vectors.
    """

    def __init__(
        self,
        operator: Any,
        symmetric: bool | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        shape = tuple(operator.shape)
        if len(shape) != 2:
            raise ShapeError(f"an operator of shape {shape}; expected two dimensions (m, n)")
        self._operator, self._symmetric = operator, symmetric
        self._rng = np.random.default_rng(0) if rng is None else rng
        #: Draws the vectors of estimates, which no fit sees.
        self.probing = self._rng.spawn(1)[0]
        self._times = _forward(operator)
        self._adjoint: tuple[str, Product] | None = None
        self._sample: tuple[NDArray, NDArray] | None = None
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        #: Columns multiplied so far, by the matrix or by its adjoint.
        self.products = 0
        self.dtype = working_dtype(self._given_dtype())
        #: Number of products beyond which a fit gives up, since another one has succeeded.
        self.patience = math.inf
        #: Largest entry of any result so far.
        self.largest = 0.0
        #: All entries of a sparse matrix, in double precision; None of other operators.
        self.sparse = sparse_entries(operator)
        #: Frobenius norm, once it is measured.
        self.size: float | None = None
        #: Results that fits leave for one another, by name.
        self.kept: dict[str, Any] = {}
        if symmetric and self.shape[0] != self.shape[1]:
            raise InputError(
                f"symmetric = True for an operator of shape {self.shape}; expected a square one "
                "(leave symmetric out)"
            )

    def _given_dtype(self) -> np.dtype:
        given = getattr(self._operator, "dtype", None)
        if given is not None:
            try:
                return np.dtype(given)
            except TypeError:
                pass  # a dtype of another library, which a product shows
        self.products += 1
        return _as_array(self._times(np.zeros((self.shape[1], 1)))).dtype

    def residual(self, factors: tuple[Any, Any] | None) -> float | None:
        """Norm of the difference to U V^H by inner products; None if entries must tell."""
        if factors is None or self.size is None:
            return None
        return residual_by_products(self, self.size, factors)

    def sample(self) -> tuple[NDArray, NDArray]:
        """A few Gaussian vectors X (n, k), and A @ X: drawn once."""
        if self._sample is None:
            X = gaussian(self._rng, (self.shape[1], SAMPLE), self.dtype)
            self._sample = X, self.matmat(X)
        return self._sample

    def check_symmetry(self) -> None:
        """Refuse a matrix that is said to be symmetric, and is not."""
        if self._symmetric:
            self._mirrored(None)

    @contextmanager
    def limited(self, products: float) -> Iterator[None]:
        """Let a fit take some products more, and then give up."""
        before = self.patience
        self.patience = min(before, self.products + products)
        try:
            yield
        finally:
            self.patience = before

    def spend(self, products: int) -> None:
        """Give up a fit that is to take more products than it may."""
        if self.products + products > self.patience:
            raise ToleranceError(
                f"more than {self.patience:.0f} products are needed; allow more, or another kind"
            )

    @property
    def hermitian(self) -> bool:
        """True if A = A^H, by products with random vectors."""
        if self.shape[0] != self.shape[1] or self._symmetric is False:
            return False
        X, Y = self.sample()
        return _asymmetry(X.conj().T @ Y, conjugate=True) <= self._doubt(X, Y)

    def _doubt(self, X: NDArray, Y: NDArray) -> float:
        """Difference of X^H A X and its adjoint that proves nothing."""
        scale = float(np.linalg.norm(X)) * float(np.linalg.norm(Y))
        doubt = self._eps * scale
        if self._symmetric:
            doubt = max(doubt, SAID * float(np.linalg.norm(X.conj().T @ Y)))
        return doubt

    def matmat(self, X: NDArray) -> NDArray:
        """A @ X, shape (m, k)."""
        return self._checked("matmat", self._times, X, self.shape[0])

    def rmatmat(self, X: NDArray) -> NDArray:
        """A^H @ X, shape (n, k)."""
        if self._adjoint is None:
            given = None if self._symmetric else _backward(self._operator, self.dtype)
            if given is not None:
                try:
                    Y = self._checked("rmatmat", given, X, self.shape[1])
                except MISSING as reason:
                    self._adjoint = "matmat", self._mirrored(reason)
                else:
                    self._check_adjoint(X, Y)
                    self._adjoint = "rmatmat", given
                    return Y
            else:
                self._adjoint = "matmat", self._mirrored(None)
        return self._checked(*self._adjoint, X, self.shape[1])

    def _check_adjoint(self, Z: NDArray, W: NDArray) -> None:
        """Refuse W = A^H Z that does not belong to the products with the matrix itself."""
        X, Y = self.sample()
        one, other = Z.conj().T @ Y, W.conj().T @ X
        norms = float(np.linalg.norm(Z)) * float(np.linalg.norm(Y))
        norms += float(np.linalg.norm(W)) * float(np.linalg.norm(X))
        doubt = SAID * float(np.linalg.norm(one)) + self._eps * norms
        if float(np.linalg.norm(one - other)) > doubt:
            raise InputError(
                f"rmatmat of {type(self._operator).__name__} is not the adjoint of its products: "
                "<A x, z> and <x, A^H z> differ for random vectors; expected rmatvec(z) = "
                "A.conj().T @ z (mend it, or leave it out for a symmetric matrix)"
            )

    @property
    def _eps(self) -> float:
        return ROUNDINGS * float(np.finfo(self.dtype).eps)

    def _mirrored(self, reason: Exception | None) -> Product:
        """The product itself as that of the adjoint, if the two agree on random vectors."""
        if self.hermitian:
            return self._times
        if self.shape[0] == self.shape[1] and self._symmetric is not False:
            X, Y = self.sample()
            if _asymmetry(X.T @ Y, conjugate=False) <= self._doubt(X, Y):
                return lambda Z: np.conj(_as_array(self._times(Z.conj())))
        name, type_ = f"{self.shape[0]}x{self.shape[1]}", type(self._operator).__name__
        if self._symmetric:
            raise InputError(
                f"symmetric = True, but products with random vectors show that the {name} {type_} "
                "differs from its transpose and from its adjoint; expected a symmetric or "
                "Hermitian matrix (leave symmetric out, and give rmatvec or rmatmat)"
            )
        raise InputError(
            f"rmatmat of {type_} failed; expected products with the matrix and with its adjoint, "
            f"as the {name} matrix is not symmetric (give rmatvec or rmatmat)"
        ) from reason

    def _checked(self, name: str, product: Product, X: NDArray, rows: int) -> NDArray:
        if not X.shape[1]:
            return np.zeros((rows, 0), self.dtype)
        Y = _as_array(product(X))
        if Y.shape != (rows, X.shape[1]):
            raise ShapeError(
                f"{name} of a {self.shape[0]}x{self.shape[1]} operator gave shape {Y.shape}; "
                f"expected {(rows, X.shape[1])}"
            )
        if not np.isfinite(Y).all():
            raise InputError(f"{name} gave NaN or infinity; expected finite numbers")
        if np.iscomplexobj(Y) and self.dtype.kind != "c":
            raise InputError(
                f"{name} of an operator of dtype {self.dtype} gave {Y.dtype}; expected real "
                "numbers (give the operator a complex dtype)"
            )
        self.products += X.shape[1]
        self.largest = max(self.largest, float(np.abs(Y).max(initial=0.0)))
        return Y.astype(self.dtype, copy=False)


def is_operator(A: Any) -> bool:
    """True for an object with a shape and a product, which is no table of numbers."""
    multiplies = hasattr(A, "__matmul__") and not hasattr(A, "__array__")
    return np.iterable(getattr(A, "shape", None)) and (
        multiplies or any(hasattr(A, name) for name in ("matmat", "matvec"))
    )


def working_dtype(dtype: np.dtype) -> np.dtype:
    """Dtype in which a matrix is compressed: float32, float64, complex64 or complex128."""
    if dtype.char in "fdFD":
        return np.dtype(dtype.char)
    if dtype.kind in "iu":
        return np.dtype(np.float64)
    if dtype == np.float16:
        return np.dtype(np.float32)
    raise InputError(
        f"a matrix of dtype {dtype}; expected real or complex numbers of single or double "
        "precision, or integers (convert it with A.astype(float))"
    )


def _forward(operator: Any) -> Product:
    """Product with a matrix (n, k): at once where the operator can, or column by column."""
    if hasattr(operator, "matmat"):
        product: Product = operator.matmat
        return product
    if hasattr(operator, "__matmul__"):
        return lambda X: operator @ X
    if hasattr(operator, "matvec"):
        return _by_columns(operator.matvec)
    raise InputError(
        f"an operator of type {type(operator).__qualname__} without products; expected matmat, "
        "matvec or @ (wrap a function in scipy.sparse.linalg.LinearOperator)"
    )


def _backward(operator: Any, dtype: np.dtype) -> Product | None:
    """Product of the adjoint with a matrix (m, k); None where the operator has none."""
    if hasattr(operator, "rmatmat"):
        product: Product = operator.rmatmat
        return product
    if hasattr(operator, "rmatvec"):
        return _by_columns(operator.rmatvec)
    for name in ("H", "T"):
        turned = getattr(operator, name, None)
        if turned is not None and is_operator(turned):
            times = _forward(turned)
            if name == "T" and dtype.kind == "c":
                return lambda X: np.conj(_as_array(times(X.conj())))
            return times
    return None


def _by_columns(product: Product) -> Product:
    def columns(X: NDArray) -> NDArray:
        parts = [_as_array(product(np.ascontiguousarray(x))).reshape(-1) for x in X.T]
        if len({part.size for part in parts}) > 1:
            raise ShapeError(
                f"products of single vectors gave {sorted({part.size for part in parts})} numbers; "
                "expected as many each time"
            )
        return np.stack(parts, axis=1)

    return columns


def _as_array(Y: Any) -> NDArray:
    """A result as a NumPy array, of whichever library it is."""
    if isinstance(Y, np.ndarray):
        return Y
    try:
        _array.namespace(Y)
    except BackendError:
        return host_array(Y, "a product of the operator")
    return _array.to_numpy(Y)


def _asymmetry(G: NDArray, *, conjugate: bool) -> float:
    return float(np.linalg.norm(G - (G.conj().T if conjugate else G.T)))
