"""`KernelFeatures`: features of points whose inner products are near a kernel."""

import numbers
from typing import Any, Self

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from structmat.compress.entries.pivoted_cholesky import pivoted_cholesky
from structmat.errors import InputError
from structmat.intervals import IntArray
from structmat.sklearn.checks import Real, kernel_matrix


class KernelFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features whose inner products are near a kernel, as scikit-learn's ``Nystroem`` makes them.

    Some of the points, the pivots, represent all others. Each is drawn with a probability
    proportional to what the earlier ones leave of its kernel, so that fewer are needed than of
    points drawn evenly. A linear model on these features is near the kernel's own model.

    Parameters
    ----------
    kernel : str or callable
        As in `structmat.KernelMatrix`: ``"gaussian"``, ``"matern52"``, ``"matern32"``,
        ``"exponential"``, or a positive semidefinite function of points (p, d) and (q, d).
    length : float
        Length of a named kernel, in the units of the points. scikit-learn's ``gamma`` of the
        Gaussian kernel is ``1 / (2 length**2)``.
    n_components : int
        Features, at most; fewer where the kernel matrix has a lower rank.
    random_state : int, RandomState or None
        Chooses the pivots.

    Attributes
    ----------
    components_ : ndarray, shape (k, d)
        The pivots.
    component_indices_ : ndarray, shape (k,)
        Their positions among the points of `fit`.
    normalization_ : ndarray, shape (k, k)
        Upper triangular R, with R^T R the kernel matrix of the pivots.
    error_ : float
        Error of the kernel matrix of the points of `fit`, in the trace norm, over its trace.
    n_features_in_ : int
        Coordinates of a point.

    Raises
    ------
    InputError
        If a parameter is invalid, or the kernel is not positive semidefinite.

    Notes
    -----
    `fit` evaluates n k entries of the kernel and takes about 2 n k² multiplications; it holds
    n k numbers. `transform` evaluates k entries for each point, and takes k² multiplications.

    Source: Chen, Epperly, Tropp & Webber, "Randomly pivoted Cholesky", 2025 (arXiv 2207.06503).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> X = np.random.default_rng(0).standard_normal((200, 2))
    >>> inside = np.hypot(*X.T) < 1
    >>> features = KernelFeatures(n_components=30, random_state=0)
    >>> make_pipeline(features, RidgeClassifier()).fit(X, inside).score(X, inside) > 0.95
    True
    """

    components_: Real
    component_indices_: IntArray
    normalization_: Real
    error_: float

    def __init__(
        self,
        kernel: Any = "gaussian",
        *,
        length: float = 1.0,
        n_components: int = 100,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.length = length
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the pivots among the points X, shape (n, d); y is ignored."""
        points = validate_data(self, X, dtype=np.float64)
        most = self.n_components
        if not (isinstance(most, numbers.Integral) and most > 0):
            raise InputError(f"n_components = {most!r}; expected a positive integer")
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        K = kernel_matrix(self.kernel, self.length, points)
        found = pivoted_cholesky(K, min(int(most), len(points)), rng)
        self.component_indices_ = found.pivots
        self.components_ = points[found.pivots]
        self.normalization_ = np.ascontiguousarray(found.F[:, found.pivots])
        self.error_ = float(found.left.sum() / found.trace) if found.trace else 0.0
        return self

    def transform(self, X: Any) -> Real:
        """Features of points X, shape (n, d): an array (n, k)."""
        check_is_fitted(self)
        points = validate_data(self, X, dtype=np.float64, reset=False)
        block = kernel_matrix(self.kernel, self.length, self.components_, points).to_dense()
        features: Real = solve_triangular(self.normalization_, block, trans="T").T
        return features

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)
