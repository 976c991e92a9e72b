"""`KernelRidge`: kernel ridge regression whose kernel matrix is never formed."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from structmat.sklearn.checks import Real, kernel_matrix, positive
from structmat.sklearn.systems import solved


class KernelRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Kernel ridge regression, as scikit-learn's class of this name, for many points.

    The predictions are k(x, X) w with (K + alpha I) w = y, for the kernel matrix K of the points X
    of `fit`. They are the mean of a Gaussian process whose noise has the variance `alpha`.
    Nothing is subtracted from y.

    Parameters
    ----------
    kernel : str or callable
        As in `structmat.KernelMatrix`: ``"matern32"``, ``"matern52"``, ``"exponential"``,
        ``"gaussian"``, or a positive semidefinite function of points (p, d) and (q, d).
    length : float
        Length of a named kernel, in the units of the points.
    alpha : float
        Shift of the diagonal, positive.
    tol : float
        Norm of the residual over that of y, at most.

    Attributes
    ----------
    dual_coef_ : ndarray, shape (n,) or (n, t)
        Weights w of the points.
    X_fit_ : ndarray, shape (n, d)
        Points of `fit`.
    residual_ : float
        Norm of y - (K + alpha I) w over that of y, measured in 256 rows of K itself.
    method_ : str
        How the system was solved.
    n_features_in_ : int
        Coordinates of a point.

    Raises
    ------
    InputError
        If a parameter is invalid.
    SolveError
        If the residual stays above ten times `tol`.

    Notes
    -----
    Up to 2048 points the matrix is formed. Beyond, 512 pivots (`KernelFeatures`) represent a smooth
    kernel well, and points of many coordinates as well as can be: a few steps of conjugate
    gradients follow, each of which evaluates all n² entries once, in bounded memory. The kernel of
    other points of one to three coordinates is compressed and factored, in O(n log² n).
    `predict` evaluates n entries a point. For parameters that are found by likelihood, see
    `structmat.gp.GaussianProcess`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((500, 2))
    >>> y = np.sin(6 * X[:, 0]) * X[:, 1]
    >>> model = KernelRidge("matern52", length=0.5, alpha=1e-3).fit(X, y)
    >>> model.score(X, y) > 0.99, model.residual_ < 1e-4
    (True, True)
    """

    def __init__(
        self,
        kernel: Any = "matern32",
        *,
        length: float = 1.0,
        alpha: float = 1.0,
        tol: float = 1e-4,
    ) -> None:
        self.kernel = kernel
        self.length = length
        self.alpha = alpha
        self.tol = tol

    def fit(self, X: Any, y: Any) -> Self:
        """Solve for the weights of points X, shape (n, d), and values y, (n,) or (n, t)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        alpha, tol = positive(self.alpha, "alpha"), positive(self.tol, "tol")
        Y = np.asarray(y, np.float64).reshape(len(X), -1)
        found = solved(kernel_matrix(self.kernel, self.length, X), alpha, Y, tol)
        self.dual_coef_ = found.weights.reshape(np.shape(y))
        self.residual_, self.method_ = found.residual, found.method
        self.X_fit_ = X
        return self

    def predict(self, X: Any) -> Real:
        """Predictions at points X, shape (m, d): an array (m,) or (m, t)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        predicted: Real = kernel_matrix(self.kernel, self.length, X, self.X_fit_) @ self.dual_coef_
        return predicted
