"""A compression on workers gives the matrix of one machine."""

import numpy as np
import pytest

from structmat import Entries, InputError, KernelMatrix, compress
from structmat.distributed import DistributedMatrix, building


@pytest.fixture
def source(points):
    return KernelMatrix(points, "exponential", length=0.2)


def same(result, other):
    """Compare everything but times; the matrices entry by entry."""
    assert isinstance(result.matrix, DistributedMatrix)
    assert result.matrix.source is not None
    np.testing.assert_array_equal(result.matrix.gather().to_dense(), other.matrix.to_dense())
    for name in ("kind", "cost", "storage", "ordered"):
        assert getattr(result, name) == getattr(other, name)
    assert result.error == pytest.approx(other.error, rel=1e-9)
    # A look at some rectangles says how to divide them.
    assert other.entries < result.entries <= 2 * other.entries


@pytest.mark.parametrize(
    "options", [{"tol": 1e-5}, {"budget": 0.5}, {"tol": 1e-3, "symmetric": True}]
)
def test_a_symmetric_source(source, client, options):
    local = compress(source, "hierarchical", rng=3, **options)
    same(compress(source, "hierarchical", rng=3, client=client, **options), local)


def test_two_sets_of_points(points, client, monkeypatch):
    source = KernelMatrix(points, "matern32", points[:600] + 0.01, length=0.2)
    local = compress(source, "hierarchical", tol=1e-5, rng=3)
    same(compress(source, "hierarchical", tol=1e-5, rng=3, client=client), local)


def test_the_number_of_shares_does_not_matter(source, client, monkeypatch):
    monkeypatch.setattr(building, "SHARES_PER_THREAD", 1)
    few = compress(source, "hierarchical", tol=1e-5, rng=3, client=client)
    monkeypatch.setattr(building, "SHARES_PER_THREAD", 40)
    many = compress(source, "hierarchical", tol=1e-5, rng=3, client=client)
    assert len(few.matrix.parts) < len(many.matrix.parts)
    np.testing.assert_array_equal(few.matrix.gather().to_dense(), many.matrix.gather().to_dense())


def test_a_function_of_entries(points, client):
    source = Entries(
        lambda i, j: 1 / (1 + np.abs(points[i, None, 0] - points[None, j, 0])), (900, 900),
        points=points, symmetric=True,
    )  # fmt: skip
    local = compress(source, "hierarchical", tol=1e-4, rng=3)
    same(compress(source, "hierarchical", tol=1e-4, rng=3, client=client), local)


def test_a_function_that_raises_on_a_worker(points, client):
    def entries(i, j):
        if i.size > 1:
            raise ZeroDivisionError("no entry there")
        return np.ones((i.size, j.size))

    with pytest.raises(InputError, match="ZeroDivisionError: no entry there"):
        compress(Entries(entries, (900, 900)), "hierarchical", tol=1e-4, client=client)


def test_small_and_empty_sources_stay_on_workers(client):
    for n in (0, 1, 5):
        source = KernelMatrix(np.arange(float(n))[:, None], "gaussian")
        result = compress(source, "hierarchical", tol=1e-3, client=client)
        np.testing.assert_allclose(result.matrix.gather().to_dense(), source.to_dense(), atol=1e-2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda K, client: {"A": K.to_dense(), "client": client}, "expected a source"),
        (lambda K, client: {"A": K, "client": 3}, "expected a distributed.Client"),
        (lambda K, client: {"A": K, "folder": "x"}, "folder = 'x' without client"),
        (lambda K, client: {"A": K, "client": client, "kind": "gblr"}, "kind 'gblr' with client"),
    ],
)  # fmt: skip
def test_refusals(source, client, given, message):
    options = {"kind": "hierarchical", **given(source, client)}
    with pytest.raises(InputError, match=message):
        compress(options.pop("A"), options.pop("kind"), tol=1e-3, **options)
