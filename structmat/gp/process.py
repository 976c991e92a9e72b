"""`GaussianProcess`: parameters fitted to values at points, predictions at new ones."""

import math
import numbers
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from structmat._checks import host_array
from structmat._progress import Progress, reporting
from structmat.errors import InputError, OperationError, ShapeError
from structmat.gp import predictions
from structmat.gp.choice import correlation
from structmat.gp.correlation import KERNELS, Correlation, Real
from structmat.gp.likelihood import LogLikelihood, Terms
from structmat.gp.search import maximised
from structmat.sources.kernel_checks import checked_points
from structmat.sources.kernel_matrix import KernelMatrix

#: Names of the parameters, in the order of theta.
NAMES = ("length", "amplitude", "noise")


class GaussianProcess:
    """A Gaussian process of mean zero, for up to some 100 000 points in few dimensions.

    Values are y = f(x) + noise, where f has the covariance
    ``amplitude**2 k(|x - x'| / length)`` and the noise is independent, with the standard deviation
    `noise`. Nothing is taken from y: subtract its mean before, and add it to predictions after.

    Parameters
    ----------
    kernel : str
        Kernel k: ``"exponential"``, ``"matern32"``, ``"matern52"`` or ``"gaussian"``, as in
        `structmat.KernelMatrix`.
    length : float
        Length, in the units of the points. It is one for all coordinates: divide the columns of X
        first where they need different ones.
    amplitude, noise : float
        Standard deviations, in the units of y. `fit` starts with the ratio of both, and with
        `length`; without a search all three are used as they are.
    tol : float, optional
        Relative error of the compressed matrix, in the Frobenius norm, at most. It is smaller where
        the noise asks for it: at most a share of noise**2.
    client : dask.distributed.Client, optional
        Workers on which the matrix is built and multiplied, for more than 2048 points.

    Attributes
    ----------
    parameters : dict
        Length, amplitude and noise, as `fit` left them.
    method : str
        How systems with the matrix of the last fit are solved.
    evaluations : int
        Evaluations of the likelihood at all points during the last fit.

    Raises
    ------
    InputError
        If a parameter is no positive number, or the kernel is unknown.

    Notes
    -----
    Up to 2048 points everything is dense. Beyond, the kernel matrix is compressed and factorized by
    recursion over halves: O(n log² n) for points in few dimensions. Gradients come from the same
    factors, with exact traces. For 33 109 points in the plane and Matérn 3/2, one likelihood takes
    about 6 s of one core, and 10 s with its gradient.

    Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1
    and section 5.4.1.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((200, 1))
    >>> y = np.sin(6 * X[:, 0]) + 0.1 * rng.standard_normal(200)
    >>> gp = GaussianProcess("matern52").fit(X, y)
    >>> mean, std = gp.predict(np.array([[0.5]]), return_std=True)
    >>> bool(abs(mean[0] - np.sin(3.0)) < 3 * std[0])
    True
    >>> 0.08 < gp.parameters["noise"] < 0.12
    True
    """

    def __init__(
        self,
        kernel: str = "matern32",
        *,
        length: float = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.1,
        tol: float | None = None,
        client: Any = None,
    ) -> None:
        if kernel not in KERNELS:
            raise InputError(f"kernel = {kernel!r}; expected one of {', '.join(KERNELS)}")
        given = dict(zip(NAMES, (length, amplitude, noise), strict=True))
        for name, value in [*given.items(), *([("tol", tol)] if tol is not None else [])]:
            if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
                raise InputError(f"{name} = {value!r}; expected a positive number")
        self.kernel, self.tol, self.client = kernel, tol, client
        self.parameters = {name: float(value) for name, value in given.items()}
        self.evaluations = 0
        self._points: Real | None = None
        self._values: Real | None = None
        self._terms: Terms | None = None

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        optimize: bool = True,
        restarts: int = 0,
        rng: Any = None,
        progress: Progress | bool | None = None,
    ) -> Self:
        """Take points and values, and the parameters of the largest marginal likelihood.

        Parameters
        ----------
        X : array, shape (n, d)
            Points.
        y : array, shape (n,)
            Values, with their mean subtracted.
        optimize : bool
            Whether to search for parameters; else those given at the beginning are kept.
        restarts : int
            Searches from random parameters besides that from the given ones. They take place on at
            most 1024 of the points; the best of them continues on all.
        rng : None, int or numpy.random.Generator
            For these points and starts: by default the same each time.
        progress : bool or callable, optional
            By default a bar on a terminal, once the work has taken three seconds. True shows it at
            once, False never; a function is called with the share of the work done.

        Returns
        -------
        GaussianProcess
            Itself.

        Raises
        ------
        SolveError
            If the matrix is not positive definite, to rounding or because the error of its
            compression is larger than the noise.
        InputError
            If points or values are not finite, or all values are zero.
        ShapeError
            If there are not as many values as points.

        Notes
        -----
        Searches are by L-BFGS-B, over the logarithms of length and of noise over amplitude; the
        best amplitude for these is known. They end at a thirtieth of a standard error as some
        of the points tell it. Points that fill a region more densely tell little more of length and
        amplitude, so that in truth it may be a larger part. Where the likelihood is largest at a
        bound, a warning says so.
        """
        points, values = _checked(X, y)
        if not (isinstance(restarts, numbers.Integral) and restarts >= 0):
            raise InputError(f"restarts = {restarts!r}; expected an integer of at least 0")
        self._points, self._values, self._terms = points, values, None
        if not optimize:
            self.evaluations = 0
            self._condition()
            return self
        start = np.log([self.parameters["length"], self._ratio])
        generator = np.random.default_rng(0 if rng is None else rng)
        with reporting(progress, "fitting a process") as report:
            found = maximised(
                points, values, self._maker, start, restarts=int(restarts), rng=generator,
                report=report,
            )  # fmt: skip
        length, ratio = map(float, np.exp(found.theta))
        amplitude = found.terms.best_amplitude
        self.parameters = {"length": length, "amplitude": amplitude, "noise": ratio * amplitude}
        self._terms, self.evaluations = found.terms, found.evaluations
        return self

    def predict(
        self, X: Any, return_std: bool = False, *, progress: Progress | bool | None = None
    ) -> Any:
        """The mean of f at new points, and on request its standard deviation.

        Parameters
        ----------
        X : array, shape (m, d)
        return_std : bool
            Whether the standard deviations of f come, too. That of a new noisy value y is
            ``numpy.hypot(std, gp.parameters["noise"])``.
        progress : bool or callable, optional
            As in `fit`.

        Returns
        -------
        ndarray of float64, shape (m,), or two of them
            Means, or means and standard deviations of f.

        Raises
        ------
        OperationError
            If nothing was fitted.

        Notes
        -----
        Means take m n evaluations of the kernel. Standard deviations take a solve for each point,
        some at a time: 64 MiB of right-hand sides.
        """
        terms, points = self._condition(), self._points
        new = _points(X)
        if points is None or new.shape[1] != points.shape[1]:
            expected = None if points is None else points.shape[1]
            raise ShapeError(
                f"X has {new.shape[1]} coordinates; expected {expected}, as in the fit"
            )
        cross = KernelMatrix(new, self.kernel, points, length=self.parameters["length"])
        mean = predictions.means(cross, terms.x)
        if not return_std:
            return mean
        with reporting(progress, "predicting") as report:
            variance = predictions.variances(cross, terms.correlation, report)
        return mean, self.parameters["amplitude"] * np.sqrt(variance)

    def log_marginal_likelihood(
        self, theta: Any = None, eval_gradient: bool = False
    ) -> LogLikelihood:
        """The log marginal likelihood of the values of the fit, with its error.

        Parameters
        ----------
        theta : array, shape (3,), optional
            Logarithms of length, amplitude and noise; by default those of `parameters`.
        eval_gradient : bool
            Whether the gradient by theta comes, too.

        Returns
        -------
        LogLikelihood
            ``float()`` of it is its value.

        Raises
        ------
        SolveError
            As in `fit`.
        OperationError
            If there are no points and values: call `fit` first.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.array([[0.0], [1.0], [3.0]])
        >>> gp = GaussianProcess().fit(X, [1.0, 0.5, -1.0], optimize=False)
        >>> found = gp.log_marginal_likelihood(eval_gradient=True)
        >>> round(found.value, 4), found.error, found.gradient.shape
        (-3.6706, 0.0, (3,))
        """
        if theta is None:
            terms, amplitude = self._condition(), self.parameters["amplitude"]
        else:
            length, amplitude, noise = np.exp(_theta(theta)).tolist()
            points, values = self._given()
            ratio = noise / amplitude
            terms = Terms(self._maker(points)(length, ratio), ratio, values)
        gradient = terms.gradient(amplitude) if eval_gradient else None
        return LogLikelihood(terms.value(amplitude), terms.error(amplitude), gradient)

    @property
    def method(self) -> str:
        """The way in which systems with the matrix of the last fit are solved."""
        return self._condition().correlation.method

    @property
    def _ratio(self) -> float:
        return self.parameters["noise"] / self.parameters["amplitude"]

    def _maker(self, points: Real) -> Any:
        """The function of length and ratio that makes the correlation matrix of some points."""
        return partial(_made, points, self.kernel, self.tol, self.client)

    def _given(self) -> tuple[Real, Real]:
        if self._points is None or self._values is None:
            raise OperationError("the process has no values yet; expected a call of fit before")
        return self._points, self._values

    def _condition(self) -> Terms:
        """The terms of the values under the parameters."""
        points, values = self._given()
        if self._terms is None:
            ratio = self._ratio
            R = self._maker(points)(self.parameters["length"], ratio)
            self._terms = Terms(R, ratio, values)
        return self._terms

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters.items())
        return f"GaussianProcess({self.kernel!r}, {shown})"


def _made(
    points: Real, kernel: str, tol: float | None, client: Any, length: float, ratio: float
) -> Correlation:
    return correlation(points, kernel, length, ratio, tol=tol, client=client)


def _points(X: Any) -> Real:
    found: Real = np.ascontiguousarray(checked_points(host_array(X, "X"), "X"), np.float64)
    return found


def _checked(X: Any, y: Any) -> tuple[Real, Real]:
    """Points and values, in double precision."""
    points, values = _points(X), host_array(y, "y")
    if values.shape != (len(points),) or not values.size:
        raise ShapeError(
            f"{len(points)} points and y of shape {values.shape}; expected one value a point, "
            f"shape ({max(len(points), 1)},)"
        )
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise InputError(
            f"y of dtype {values.dtype} has entries that are no finite real numbers; expected "
            "those alone (find them with numpy.isfinite)"
        )
    values = values.astype(np.float64)
    if not values.any():
        raise InputError("y is zero everywhere; expected values that differ from their mean")
    return points, values


def _theta(theta: Any) -> NDArray[np.float64]:
    found = host_array(theta, "theta")
    if found.shape != (3,) or found.dtype.kind not in "fi" or not np.isfinite(found).all():
        raise InputError(
            f"theta = {theta!r}; expected three finite numbers, the logarithms of "
            f"{', '.join(NAMES)}"
        )
    return found.astype(np.float64)
