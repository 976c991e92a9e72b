"""Estimators in scikit-learn's pipelines agree with its own, and with the dense kernel."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra sklearn)")

from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge as DenseRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from structmat import Entries
from structmat.compress.entries.pivoted_cholesky import pivoted_cholesky
from structmat.errors import InputError, SolveError
from structmat.sklearn import KernelFeatures, KernelRidge, systems


def rng():
    return np.random.default_rng(5)


def rbf(length):
    return {"kernel": "rbf", "gamma": 1 / (2 * length**2)}


@pytest.mark.slow
@parametrize_with_checks([KernelFeatures(n_components=10), KernelRidge()])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_features_of_all_points_are_the_kernel():
    X = rng().random((40, 2))
    F = KernelFeatures(length=0.3, n_components=40).fit_transform(X)
    np.testing.assert_allclose(F @ F.T, rbf_kernel(X, gamma=1 / 0.18), atol=1e-9)


def test_pivots_are_exact_and_new_points_projected():
    X, new = rng().random((300, 3)), rng().random((50, 3))
    model = KernelFeatures("matern32", length=0.5, n_components=30, random_state=1).fit(X)
    pivots, F = model.components_, model.transform(model.components_)
    assert np.array_equal(pivots, X[model.component_indices_])
    K, across = (_matern(p, pivots, 0.5) for p in (pivots, new))
    np.testing.assert_allclose(F @ F.T, K, atol=1e-10)
    np.testing.assert_allclose(model.transform(new) @ F.T, across, atol=1e-8)


def _matern(X, Y, length):
    t = 3**0.5 * np.linalg.norm(X[:, None] - Y, axis=2) / length
    return (1 + t) * np.exp(-t)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_the_error_is_that_of_the_trace(n, k, seed):
    X = np.random.default_rng(seed).standard_normal((n, 2))
    model = KernelFeatures(n_components=k, random_state=seed).fit(X)
    F = model.transform(X)
    assert model.error_ == pytest.approx(1 - np.square(F).sum() / n, abs=1e-9)
    left = np.linalg.eigvalsh(rbf_kernel(X, gamma=0.5) - F @ F.T)
    assert left.min() > -1e-9


def test_fewer_features_than_of_points_drawn_evenly():
    """Half of the points lie in one place, where one pivot is enough."""
    X = np.concatenate([rng().normal(0, 1e-3, (300, 2)), 4 * rng().random((300, 2))])
    K, errors = rbf_kernel(X, gamma=2), []
    for kind in (KernelFeatures(length=0.5), Nystroem(gamma=2)):
        kind.set_params(n_components=40)
        found = [clone(kind).set_params(random_state=s).fit_transform(X) for s in range(5)]
        errors.append(np.mean([np.linalg.norm(K - F @ F.T) for F in found]))
    assert errors[0] < 0.8 * errors[1]


def test_points_that_coincide_give_fewer_features():
    X = np.repeat(rng().random((3, 2)), 10, axis=0)
    model = KernelFeatures(n_components=20).fit(X)
    assert model.transform(X).shape == (30, 3)
    assert list(model.get_feature_names_out()) == [f"kernelfeatures{i}" for i in range(3)]


@pytest.mark.parametrize("outputs", [(), (3,)])
def test_few_points_are_scikit_learn_s_regression(outputs):
    X, y, new = rng().random((200, 4)), rng().standard_normal((200, *outputs)), rng().random((9, 4))
    own = KernelRidge("gaussian", length=0.7, alpha=0.01).fit(X, y)
    other = DenseRidge(alpha=0.01, **rbf(0.7)).fit(X, y)
    assert own.dual_coef_.shape == y.shape
    np.testing.assert_allclose(own.predict(new), other.predict(new), atol=1e-8)


@pytest.mark.parametrize(
    ("kernel", "dimensions", "method"),
    [
        ("exponential", 2, "hierarchical"),
        ("gaussian", 2, "conjugate gradients"),
        ("exponential", 5, "conjugate gradients"),
    ],
)
def test_many_points_are_solved_to_the_tolerance(kernel, dimensions, method):
    X = rng().random((2300, dimensions))
    y = np.sin(5 * X[:, :2])
    model = KernelRidge(kernel, length=0.4, alpha=0.1, tol=1e-6).fit(X, y)
    assert method in model.method_
    r = np.linalg.norm(X[:, None] - X, axis=2) / 0.4
    K = np.exp(-r) if kernel == "exponential" else np.exp(-(r**2) / 2)
    left = y - K @ model.dual_coef_ - 0.1 * model.dual_coef_
    assert (np.linalg.norm(left, axis=0) <= 3e-6 * np.linalg.norm(y, axis=0)).all()
    assert model.residual_ == pytest.approx(
        (np.linalg.norm(left, axis=0) / np.linalg.norm(y, axis=0)).max(), rel=0.7
    )
    np.testing.assert_allclose(model.predict(X[:50]), K[:50] @ model.dual_coef_, atol=1e-9)


def test_a_residual_that_stays_is_an_error(monkeypatch):
    monkeypatch.setattr(systems, "STEPS", 2)
    X = rng().random((2200, 5))
    message = r"residual is .* at alpha = 1e-06, by conj.*, 2 steps.* larger alpha"
    with pytest.raises(SolveError, match=message):
        KernelRidge("exponential", alpha=1e-6).fit(X, X[:, 0])


def test_habits_of_scikit_learn():
    X, y = rng().random((120, 2)), rng().standard_normal(120)
    pipeline = make_pipeline(KernelFeatures(n_components=15, random_state=3), Ridge())
    search = GridSearchCV(pipeline, {"kernelfeatures__length": [0.2, 1.0]}, cv=3).fit(X, y)
    again = pickle.loads(pickle.dumps(search))
    assert np.array_equal(again.predict(X), search.predict(X))
    ridge = GridSearchCV(KernelRidge(), {"alpha": [0.1, 1.0]}, cv=3, n_jobs=1).fit(X, y)
    assert np.array_equal(clone(ridge.best_estimator_).fit(X, y).predict(X), ridge.predict(X))
    assert KernelRidge().fit(X.astype(np.float32), y).predict(X).dtype == np.float64
    with pytest.raises(NotFittedError):
        KernelRidge().predict(X)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (KernelFeatures("round"), "kernel = 'round'; expected one of"),
        (KernelFeatures(length=0), "length = 0; expected a positive number"),
        (KernelFeatures(n_components=0.5), "n_components = 0.5; expected a positive integer"),
        (KernelFeatures(lambda x, y: x @ y.T - 1), "expected a positive semidefinite kernel"),
        (KernelRidge(alpha=-1.0), "alpha = -1.0; expected a positive number"),
        (KernelRidge(tol=None), "tol = None; expected a positive number"),
    ],
)
def test_bad_parameters_are_refused(estimator, expected):
    with pytest.raises(InputError, match=expected):
        estimator.fit(rng().random((20, 2)), rng().random(20))


def test_structmat_does_not_load_scikit_learn():
    code = "import structmat, sys; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_rest_that_is_rounding_alone_ends_the_choice():
    # What the diagonal promises, larger blocks do not have.
    K = Entries(lambda i, j: (i[:, None] == j) * float(i.size <= 16), (40, 40))
    assert pivoted_cholesky(K, 5, np.random.default_rng(0)).pivots.size == 0
