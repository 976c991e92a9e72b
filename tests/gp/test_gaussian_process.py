"""Gaussian processes against dense formulas: likelihoods, gradients, predictions, refusals."""

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import minimize

from structmat import InputError, KernelMatrix, OperationError, ShapeError, SolveError, compress
from structmat.gp import GaussianProcess, LogLikelihood, choice, forms, predictions, search
from structmat.gp.correlation import KERNELS
from structmat.gp.starts import bounds_of, random_start, some_points

N = 600
THETA = np.log([0.2, 1.5, 0.3])


@pytest.fixture(scope="module")
def data():
    """Points of which some coincide, and a draw from a process of THETA at them."""
    rng = np.random.default_rng(0)
    X = rng.random((N, 2))
    X[-5:] = X[:5]
    return X, drawn(X, "matern32")


@pytest.fixture
def compressed(monkeypatch):
    monkeypatch.setattr(choice, "DENSE_POINTS", 100)


def drawn(X, kernel):
    """A draw from a process of THETA."""
    z = np.random.default_rng(1).standard_normal(len(X))
    return np.linalg.cholesky(covariance(X, kernel, THETA)) @ z


def covariance(X, kernel, theta):
    length, amplitude, noise = np.exp(theta)
    return amplitude**2 * KernelMatrix(X, kernel, length=length).to_dense() + noise**2 * np.eye(
        len(X)
    )


def density(theta, X, y, kernel):
    factor = np.linalg.cholesky(covariance(X, kernel, theta))
    white = np.linalg.solve(factor, y)
    return scipy.stats.norm.logpdf(white).sum() - np.log(np.diag(factor)).sum()


def differences(theta, *given, h=1e-4):
    steps = h * np.eye(3)
    return [(density(theta + s, *given) - density(theta - s, *given)) / (2 * h) for s in steps]


def fixed(X, y, kernel="matern32", theta=THETA, **given):
    length, amplitude, noise = np.exp(theta)
    process = GaussianProcess(kernel, length=length, amplitude=amplitude, noise=noise, **given)
    return process.fit(X, y, optimize=False)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_likelihood_is_the_normal_density_with_its_gradient(data, kernel):
    X, y = data[0][:80], data[1][:80]
    found = fixed(X, y, kernel).log_marginal_likelihood(eval_gradient=True)
    assert float(found) == pytest.approx(density(THETA, X, y, kernel), rel=1e-10)
    np.testing.assert_allclose(found.gradient, differences(THETA, X, y, kernel), rtol=1e-5)
    assert found.error == 0.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.usefixtures("compressed")
def test_a_compressed_likelihood_is_right_to_its_error(data, kernel):
    X, y = data[0], drawn(data[0], kernel)
    process = fixed(X, y, kernel)
    found = process.log_marginal_likelihood(eval_gradient=True)
    assert process.method == "hierarchical"
    assert 0 < found.error < 0.5
    assert abs(found.value - density(THETA, X, y, kernel)) < 3 * found.error
    # Under other values gradients have standard deviations of 9 and more.
    np.testing.assert_allclose(found.gradient, differences(THETA, X, y, kernel), atol=0.3)


@pytest.mark.usefixtures("compressed")
def test_a_smaller_tolerance_leaves_a_smaller_error(data):
    coarse, fine = (fixed(*data, tol=tol).log_marginal_likelihood() for tol in (None, 1e-9))
    assert fine.error < 0.9 * coarse.error
    assert abs(fine.value - density(THETA, *data, "matern32")) < 3 * fine.error


@pytest.mark.usefixtures("compressed")
def test_what_the_compression_misses_is_in_the_error(data, monkeypatch):
    X, y = data
    rough = compress(KernelMatrix(X, "matern32", length=0.2), "hierarchical", tol=1e-3).matrix
    monkeypatch.setattr(forms, "compressed", lambda K, shift, tol: (rough, rough.norm()))
    found = fixed(X, y).log_marginal_likelihood()
    away = abs(found.value - density(THETA, X, y, "matern32"))
    assert 0.02 < away < 3 * found.error


@pytest.mark.usefixtures("compressed")
def test_traces_are_estimated_where_factors_would_be_too_large(data, monkeypatch):
    X, y = data
    monkeypatch.setattr(forms, "factorize_with", lambda *_, **__: NotImplemented)
    R = fixed(X, y)._condition().correlation
    assert "conjugate gradients" in R.method
    dense = forms.DenseForm(X, "matern32", 0.2, 0.2)
    for found, exact in (
        (R.inverse_trace(), dense.inverse_trace()),
        (R.slope(y)[1], dense.slope(y)[1]),
    ):
        assert 0 < found.error < 0.1 * abs(exact.value)
        assert abs(found.value - exact.value) < 4 * found.error


@pytest.mark.parametrize("many", [False, True])
def test_a_fit_is_the_maximum_of_the_likelihood(data, many, monkeypatch):
    if many:
        monkeypatch.setattr(choice, "DENSE_POINTS", 200)
        monkeypatch.setattr("structmat.gp.starts.FIRST_POINTS", 200)
    process = GaussianProcess(length=1.0).fit(*data)
    best = minimize(lambda theta: -density(theta, *data, "matern32"), THETA, tol=1e-3)
    theta = np.log(list(process.parameters.values()))
    assert density(theta, *data, "matern32") > -best.fun - 0.01
    assert process.evaluations <= (10 if many else 40)
    assert process.method == ("hierarchical" if many else "cholesky")
    # A tenth of a standard error, and less.
    np.testing.assert_allclose(theta, best.x, atol=0.02)
    gradient = process.log_marginal_likelihood(eval_gradient=True).gradient
    assert np.abs(gradient).max() < 1.0


@pytest.mark.parametrize("many", [False, True])
def test_predictions_are_conditional_means_and_deviations(data, many, monkeypatch):
    X, y = data
    if many:
        monkeypatch.setattr(choice, "DENSE_POINTS", 100)
        monkeypatch.setattr(predictions, "AT_ONCE", 7 * N)
    process, (new, _) = fixed(X, y, tol=1e-9), np.split(np.random.default_rng(1).random((60, 2)), 2)
    mean, std = process.predict(new, return_std=True)
    both = covariance(np.concatenate([X, new]), "matern32", THETA)
    across = both[:N, N:]
    known = np.linalg.solve(both[:N, :N], np.column_stack([y, across]))
    np.testing.assert_allclose(mean, across.T @ known[:, 0], atol=1e-5)
    noisy = np.sqrt(np.diag(both)[N:] - np.sum(across * known[:, 1:], axis=0))
    np.testing.assert_allclose(np.hypot(std, process.parameters["noise"]), noisy, atol=1e-6)
    np.testing.assert_array_equal(process.predict(new), mean)


def test_a_deviation_at_a_point_without_noise_is_zero():
    X = np.arange(3.0)[:, None]
    process = GaussianProcess("exponential", noise=1e-9).fit(X, [1.0, 2.0, 0.0], optimize=False)
    mean, std = process.predict(X, return_std=True)
    np.testing.assert_allclose(mean, [1.0, 2.0, 0.0], atol=1e-6)
    assert np.isfinite(std).all()
    assert std.max() < 1e-6


def test_theta_takes_the_place_of_the_parameters(data):
    X, y = data[0][:50], data[1][:50]
    process = fixed(X, y)
    other = process.log_marginal_likelihood(THETA + 0.1)
    assert other.value == pytest.approx(density(THETA + 0.1, X, y, "matern32"), rel=1e-10)
    assert other.gradient is None
    assert process.parameters == pytest.approx(
        dict(zip(("length", "amplitude", "noise"), np.exp(THETA), strict=True))
    )


def test_restarts_find_a_better_maximum_and_repeat(data):
    X, y = data[0][:120], data[1][:120]
    # From so short a length nothing but noise is seen.
    begin = {"length": 1e-4, "noise": 0.1}
    once = GaussianProcess(**begin).fit(X, y)
    more, again = (GaussianProcess(**begin).fit(X, y, restarts=3, rng=5) for _ in range(2))
    assert float(more.log_marginal_likelihood()) > float(once.log_marginal_likelihood()) + 1
    assert more.parameters == again.parameters


def test_progress_goes_up_to_one_at_most(data):
    seen = []
    GaussianProcess().fit(data[0][:40], data[1][:40], progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[-1] <= 1


def test_a_trial_that_is_refused_counts_as_worse_than_all_others(data):
    X, y = data[0][:40], data[1][:40]

    def made(length, ratio):
        if length > 1:
            raise SolveError("refused")
        return choice.correlation(X, "matern32", length, ratio, tol=None, client=None)

    objective = search.Objective(made, y, lambda _: None, 9)
    with pytest.raises(SolveError, match="refused"):
        objective(np.log([2.0, 0.5]))
    values = [objective(np.log([length, 0.5]))[0] for length in (0.1, 0.5)]
    assert objective(np.log([2.0, 0.5]))[0] > max(values)


def test_a_likelihood_largest_at_a_bound_is_told():
    X = np.random.default_rng(0).random((60, 1))
    with pytest.warns(UserWarning, match="at a bound"):
        GaussianProcess().fit(X, 3 * X[:, 0] - 1)


def test_first_points_are_some_near_and_some_far():
    points = np.random.default_rng(0).random((5000, 2))
    at = some_points(points, np.random.default_rng(0))
    assert at.size == np.unique(at).size == 1024
    apart = np.sort(np.linalg.norm(points[at][:, None] - points[at], axis=-1), axis=1)[:, 1]
    # Points alone at random are about 1 / (2 sqrt(1024)) apart.
    assert np.median(apart) < 0.8 / (2 * 1024**0.5)
    least, most = bounds_of(points).T
    start = random_start(points, np.random.default_rng(0))
    assert (least < start).all()
    assert (start < most).all()


def test_a_matrix_that_is_not_definite_is_refused(data, monkeypatch):
    X, y = data
    with pytest.raises(SolveError, match="not positive definite to rounding; expected more noise"):
        fixed(X[-60:], y[-60:], "gaussian", np.log([50.0, 1.0, 1e-9]))
    monkeypatch.setattr(choice, "DENSE_POINTS", 100)
    rough = compress(KernelMatrix(X, "matern32", length=0.2), "hierarchical", tol=0.05).matrix
    monkeypatch.setattr(forms, "compressed", lambda K, shift, tol: (rough, rough.norm()))
    with pytest.raises(SolveError, match="should be positive definite; expected a compression"):
        fixed(X, y, theta=np.log([0.2, 1.0, 1e-3]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kernel": "inverse"}, "kernel = 'inverse'; expected one of exponential, matern32"),
        ({"kernel": np.exp}, "expected one of exponential"),
        ({"length": 0.0}, "length = 0.0; expected a positive number"),
        ({"noise": np.nan}, "noise = nan; expected a positive number"),
        ({"amplitude": "large"}, "amplitude = 'large'; expected a positive number"),
        ({"tol": -1.0}, "tol = -1.0; expected a positive number"),
    ],
)
def test_arguments_of_a_process_are_checked(given, message):
    with pytest.raises(InputError, match=message):
        GaussianProcess(**given)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (np.zeros(3), np.ones(3), ShapeError, r"X of shape \(3,\)"),
        (np.zeros((3, 1)), np.ones(4), ShapeError, r"3 points and y of shape \(4,\)"),
        (np.zeros((0, 1)), np.ones(0), ShapeError, "0 points"),
        (np.full((3, 1), np.inf), np.ones(3), InputError, "expected finite coordinates"),
        (np.zeros((3, 1)), [1.0, np.nan, 1.0], InputError, "no finite real numbers"),
        (np.zeros((3, 1)), [1j, 1.0, 1.0], InputError, "no finite real numbers"),
        (np.zeros((3, 1)), np.zeros(3), InputError, "zero everywhere"),
    ],
)
def test_points_and_values_are_checked(X, y, error, message):
    with pytest.raises(error, match=message):
        GaussianProcess().fit(X, y)


def test_calls_in_the_wrong_order_or_shape_are_refused(data):
    process = GaussianProcess()
    for call in (process.log_marginal_likelihood, lambda: process.predict([[0.0]])):
        with pytest.raises(OperationError, match="no values yet; expected a call of fit"):
            call()
    process = fixed(data[0][:9], data[1][:9])
    with pytest.raises(ShapeError, match="X has 3 coordinates; expected 2"):
        process.predict(np.zeros((4, 3)))
    for theta in ([0.0, 0.0], [0.0, 0.0, np.inf]):
        with pytest.raises(InputError, match="expected three finite numbers"):
            process.log_marginal_likelihood(theta)
    with pytest.raises(InputError, match="restarts = -1; expected an integer"):
        process.fit(*data, restarts=-1)
    assert repr(process) == "GaussianProcess('matern32', length=0.2, amplitude=1.5, noise=0.3)"
    assert float(LogLikelihood(1.0, 0.5)) == 1.0
