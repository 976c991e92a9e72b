"""The kernel matrix that ships with the package."""

from importlib.resources import files

import numpy as np
import pytest

from structmat.demo import earthquake_kernel, kd_order
from structmat.errors import InputError, ShapeError


def test_kernel_is_symmetric_positive_definite():
    kernel = earthquake_kernel()
    assert kernel.shape == (768, 768)
    assert kernel.dtype == np.float64
    np.testing.assert_array_equal(kernel, kernel.T)
    np.testing.assert_array_equal(np.diag(kernel), 1.0)
    np.linalg.cholesky(kernel)


def test_all_distinct_points_give_a_positive_definite_kernel():
    np.linalg.cholesky(earthquake_kernel(1706))


def test_kernel_agrees_with_distances_computed_one_by_one():
    with (files("structmat") / "_data" / "earthquakes.npz").open("rb") as stream:
        catalogue = np.load(stream)
        lon, lat = np.radians(catalogue["longitude"]), np.radians(catalogue["latitude"])
        radius = 6371.0 - catalogue["depth"]
    kernel = earthquake_kernel(20, length_scale=500.0, order=False)
    for i, j in [(0, 1), (3, 17), (19, 8)]:
        # Law of cosines in the plane through both points and the Earth's centre.
        angle = np.sin(lat[i]) * np.sin(lat[j])
        angle += np.cos(lat[i]) * np.cos(lat[j]) * np.cos(lon[i] - lon[j])
        distance = np.sqrt(radius[i] ** 2 + radius[j] ** 2 - 2 * radius[i] * radius[j] * angle)
        np.testing.assert_allclose(kernel[i, j], np.exp(-distance / 500.0), rtol=1e-9)


def test_kernel_is_deterministic_and_the_order_only_permutes_it():
    ordered, plain = earthquake_kernel(300), earthquake_kernel(300, order=False)
    np.testing.assert_array_equal(ordered, earthquake_kernel(300))
    assert not np.array_equal(ordered, plain)
    np.testing.assert_array_equal(np.sort(ordered, axis=None), np.sort(plain, axis=None))


def test_order_moves_the_energy_to_the_diagonal():
    distance = np.abs(np.subtract.outer(np.arange(768), np.arange(768)))
    ordered, plain = earthquake_kernel(), earthquake_kernel(order=False)
    assert (ordered * distance).sum() < 0.5 * (plain * distance).sum()


@pytest.mark.parametrize("shape", [(0, 2), (1, 3), (2, 1), (57, 2), (8, 0)])
def test_kd_order_is_a_permutation(shape):
    points = np.random.default_rng(0).standard_normal(shape)
    before = points.copy()
    order = kd_order(points)
    np.testing.assert_array_equal(np.sort(order), np.arange(shape[0]))
    np.testing.assert_array_equal(points, before)


def test_kd_order_sorts_points_on_a_line():
    points = np.random.default_rng(1).standard_normal((33, 1))
    assert (np.diff(points[kd_order(points), 0]) > 0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_the_smallest_kernels(n):
    np.testing.assert_array_equal(earthquake_kernel(n), np.ones((n, n)))


@pytest.mark.parametrize("n", [-1, 1707])
def test_too_many_points_are_refused(n):
    with pytest.raises(InputError, match=rf"n = {n}; expected 0 to 1706"):
        earthquake_kernel(n)


@pytest.mark.parametrize("scale", [0.0, -3.0, np.inf, np.nan])
def test_a_scale_that_is_no_length_is_refused(scale):
    with pytest.raises(InputError, match="length_scale"):
        earthquake_kernel(8, length_scale=scale)


def test_points_that_cannot_be_ordered_are_refused():
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        kd_order(np.zeros(3))
    with pytest.raises(InputError, match="NaN"):
        kd_order([[np.nan, 0.0]])
    with pytest.raises(InputError, match="complex128; expected real coordinates"):
        kd_order(np.ones((2, 2), complex))
