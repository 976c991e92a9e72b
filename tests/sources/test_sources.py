"""Sources: entries and products against formed matrices, and refusals."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, cg, eigsh

import structmat
from structmat import BackendError, Entries, Identity, InputError, KernelMatrix, ShapeError
from structmat.sources import source as source_module
from structmat.sources.named_kernels import NAMES, SLOPES
from structmat.sources.views import on_host, reordered

POINTS = np.random.default_rng(0).random((23, 2))
OTHERS = np.random.default_rng(1).random((17, 2))


def distance(X, Y):
    return np.linalg.norm(X[:, None] - Y[None], axis=-1)


def inverse(s):
    return np.where(s > 0, 1 / np.where(s > 0, s, 1), 0)


VALUES = {
    "exponential": lambda s, k: np.exp(-s),
    "matern32": lambda s, k: (1 + 3**0.5 * s) * np.exp(-(3**0.5) * s),
    "matern52": lambda s, k: (1 + 5**0.5 * s + 5 * s**2 / 3) * np.exp(-(5**0.5) * s),
    "gaussian": lambda s, k: np.exp(-(s**2) / 2),
    "inverse": lambda s, k: inverse(s),
    "helmholtz": lambda s, k: inverse(s) * np.exp(1j * k * s),
}


def wave(X, Y):
    """Complex and not symmetric."""
    return np.exp(1j * (X @ np.array([[1.0, 2.0], [0.0, 3.0]]) @ Y.T))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("others", [None, OTHERS], ids=["one set", "two sets"])
def test_a_named_kernel_is_a_matrix(name, others):
    K = KernelMatrix(POINTS, name, others, length=0.3, wavenumber=0.7)
    s = distance(POINTS, POINTS if others is None else others) / 0.3
    structmat.testing.check_matrix(K, VALUES[name](s, 0.7))
    assert K.symmetric == (others is None)
    assert K.hermitian == (others is None and name != "helmholtz")


@pytest.mark.parametrize("name", SLOPES)
def test_a_slope_is_the_derivative_by_the_logarithm_of_the_length(name):
    h = 1e-5
    above, below = (VALUES[name](distance(POINTS, POINTS) / 0.3 * np.exp(s), 1) for s in (-h, h))
    K = KernelMatrix(POINTS, SLOPES[name], length=0.3)
    structmat.testing.check_matrix(K, K.toarray())
    np.testing.assert_allclose(K.toarray(), (above - below) / (2 * h), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries_give_the_values_of_arrays(name, library):
    array = pytest.importorskip(library).asarray
    dense = KernelMatrix(POINTS, name, length=0.3).toarray()
    K = KernelMatrix(array(POINTS), name, length=0.3)
    structmat.testing.check_matrix(K, array(dense))
    np.testing.assert_allclose(on_host(K).toarray(), dense, rtol=1e-14)


def test_values_do_not_depend_on_compilation(monkeypatch):
    names = [*NAMES, *SLOPES.values()]
    compiled = [KernelMatrix(POINTS, name, length=0.3).toarray() for name in names]
    monkeypatch.setattr("structmat.sources.kernel_matrix.HAS_NUMBA", False)
    for name, dense in zip(names, compiled, strict=True):
        plain = KernelMatrix(POINTS, name, length=0.3).toarray()
        np.testing.assert_allclose(plain, dense, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("length", [1e-300, 1e-160, 1e-8, 1e8, 1e300])
@pytest.mark.parametrize("has_numba", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_tiny_and_huge_lengths_give_limits(monkeypatch, name, has_numba, length):
    monkeypatch.setattr("structmat.sources.kernel_matrix.HAS_NUMBA", has_numba)
    if name == "helmholtz" and length < 1e-150:
        with pytest.raises(InputError, match=r"expected at most 1e\+12.*the phase"):
            KernelMatrix(POINTS, name, length=length)
        return
    dense = KernelMatrix(POINTS, name, length=length, wavenumber=1e-9).toarray()
    assert np.isfinite(dense).all()
    if name not in ("inverse", "helmholtz"):
        limit = np.eye(23) if length < 1 else np.ones((23, 23))
        np.testing.assert_allclose(dense, limit, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_lengths_and_points(name):
    X = torch.tensor(POINTS[:6], requires_grad=True)
    length = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(6, dtype=torch.float64)

    def total(X, length):
        K = KernelMatrix(X, name, length=length)
        part = K.block(np.arange(3), np.arange(5))
        return (K @ ones).abs().sum() + part.abs().sum()

    assert torch.autograd.gradcheck(total, (X, length))


def test_gradients_reach_parameters_of_a_function():
    rate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    X = torch.tensor(POINTS)
    K = KernelMatrix(X, lambda A, B: torch.exp(-rate * torch.cdist(A, B)))
    A = K + 0.1 * Identity(23, like=X)
    (grad,) = torch.autograd.grad((A @ torch.ones(23, dtype=torch.float64)).sum(), rate)
    s = distance(POINTS, POINTS)
    np.testing.assert_allclose(float(grad), -(s * np.exp(-2 * s)).sum())


def test_a_function_keeps_its_dtype_and_symmetry():
    K = KernelMatrix(POINTS, wave)
    structmat.testing.check_matrix(K, wave(POINTS, POINTS))
    assert (K.dtype, K.symmetric) == (np.complex128, False)
    assert KernelMatrix(POINTS, lambda X, Y: X @ Y.T).symmetric
    assert not KernelMatrix(POINTS, lambda X, Y: X @ Y.T, OTHERS).symmetric
    single = KernelMatrix(POINTS.astype(np.float32), "matern32")
    assert single.dtype == single.block([0], [1]).dtype == np.float32
    whole = KernelMatrix(POINTS, lambda X, Y: (distance(X, Y) < 0.5).astype(int))
    assert (whole @ np.ones(23)).dtype == np.float64


def hilbert(i, j):
    return 1 / (1 + i[:, None] + j)


WAVE = wave(POINTS, OTHERS)


def of_array(i, j):
    return WAVE[np.ix_(i, j)]


def of_tensor(i, j):
    return torch.tensor(of_array(i, j))


@pytest.mark.parametrize("shape", [(5, 7), (1, 3), (4, 1)])
def test_entries_are_a_matrix(shape):
    E = Entries(hilbert, shape)
    structmat.testing.check_matrix(E, hilbert(np.arange(shape[0]), np.arange(shape[1])))


def test_entries_of_any_library():
    structmat.testing.check_matrix(Entries(of_array, WAVE.shape), WAVE)
    E = Entries(of_tensor, WAVE.shape)
    structmat.testing.check_matrix(E, torch.tensor(WAVE))
    np.testing.assert_array_equal(on_host(E).toarray(), WAVE)
    np.testing.assert_array_equal(Entries(of_array, WAVE.shape).to("torch").toarray(), WAVE)
    assert Entries(hilbert, (3, 3), np.float32).toarray().dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_empty_sources(shape):
    E = Entries(lambda i, j: np.ones((len(i), len(j))), shape)
    assert (E @ np.ones(shape[1])).tolist() == [0.0] * shape[0]
    K = KernelMatrix(np.zeros((shape[0], 2)), "gaussian", np.zeros((shape[1], 2)))
    assert K.toarray().shape == shape


def test_products_evaluate_blocks_of_bounded_size(monkeypatch):
    monkeypatch.setattr(source_module, "BLOCK_ENTRIES", 40)
    sizes = []

    def function(i, j):
        sizes.append(len(i) * len(j))
        return 1.0 + i[:, None] - j

    E = Entries(function, (23, 17))
    dense = 1.0 + np.arange(23)[:, None] - np.arange(17)
    np.testing.assert_allclose(E @ np.ones((17, 3)), dense @ np.ones((17, 3)))
    np.testing.assert_allclose(E.H @ np.ones(23), dense.T @ np.ones(23))
    np.testing.assert_array_equal(E.toarray(), dense)
    assert max(sizes) <= 40
    assert E.entries == sum(sizes) == 3 * 23 * 17 + 1


def test_entries_are_counted():
    K = KernelMatrix(POINTS, "gaussian")
    K.block(np.arange(3), np.arange(4))
    view = reordered(K, np.arange(23)[::-1], np.arange(23)[::-1])
    view.block(np.arange(2), np.arange(2))
    assert K.entries == view.entries == 16
    np.testing.assert_array_equal(view.toarray(), K.toarray()[::-1, ::-1])


def test_solvers_and_algebra_take_a_source():
    K = KernelMatrix(POINTS, "matern32", length=0.1)
    dense = K.toarray()
    A = K + 0.1 * Identity(23)
    b = np.ones(23)
    x, info = cg(A, b, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose((dense + 0.1 * np.eye(23)) @ x, b, atol=1e-8)
    np.testing.assert_allclose(eigsh(K, 2)[0], np.linalg.eigvalsh(dense)[-2:])
    np.testing.assert_allclose((aslinearoperator(dense) + K) @ b, 2 * dense @ b)
    np.testing.assert_allclose(
        (K @ structmat.LowRank(dense, dense)).to_dense(), dense**1 @ dense @ dense
    )
    np.testing.assert_allclose(K.diagonal(), np.ones(23))
    np.testing.assert_allclose((2 * K - K.T).norm(), np.linalg.norm(dense))
    C = KernelMatrix(POINTS, wave) + KernelMatrix(POINTS, "helmholtz")
    np.testing.assert_allclose(C.conj().to_dense(), C.to_dense().conj())


def test_a_named_kernel_is_saved_and_a_function_is_not(tmp_path):
    K = KernelMatrix(POINTS, "helmholtz", length=0.3, wavenumber=2.0)
    structmat.save(tmp_path / "k.npz", K)
    np.testing.assert_array_equal(structmat.load(tmp_path / "k.npz").toarray(), K.toarray())
    with pytest.raises(InputError, match=r"function.*expected a matrix of arrays"):
        structmat.save(tmp_path / "f.npz", KernelMatrix(POINTS, wave) + Identity(23))
    assert not (tmp_path / "f.npz").exists()


TWICE = np.concatenate([POINTS, POINTS[3:4]])


@pytest.mark.parametrize("name", ["inverse", "helmholtz"])
def test_coincident_points_of_singular_kernels(name):
    assert not KernelMatrix(POINTS, name).diagonal().any()
    with pytest.raises(InputError, match=r"points 3 and 23 coincide.*drop one"):
        KernelMatrix(TWICE, name)
    with pytest.raises(InputError, match=r"point 0 and 3 of points2 coincide.*points2 out"):
        KernelMatrix(POINTS[3:4], name, POINTS)
    assert np.isfinite(KernelMatrix(OTHERS, name, TWICE).toarray()).all()
    np.testing.assert_allclose(KernelMatrix(TWICE, "matern52").toarray()[3, 23], 1.0)


def returns(value):
    return lambda X, Y: value


REFUSED = {
    "a line": (lambda: KernelMatrix(np.zeros(3), "gaussian"), ShapeError, r"points\[:, None\]"),
    "NaN": (
        lambda: KernelMatrix([[0.0, 1.0], [np.nan, 1.0]], "gaussian"), InputError,
        r"point 1 is \[nan, 1.0\]",
    ),
    "complex points": (lambda: KernelMatrix(POINTS * 1j, "gaussian"), InputError, "real coord"),
    "dimensions": (
        lambda: KernelMatrix(POINTS, "gaussian", np.zeros((3, 3))), ShapeError, "expected as many",
    ),
    "libraries": (
        lambda: KernelMatrix(POINTS, "gaussian", torch.zeros(3, 2)), BackendError, "one library",
    ),
    "name": (lambda: KernelMatrix(POINTS, "matern"), InputError, "expected one of exponential"),
    "length 0": (lambda: KernelMatrix(POINTS, "gaussian", length=0), InputError, "positive"),
    "length NaN": (
        lambda: KernelMatrix(POINTS, "gaussian", length=np.nan), InputError, "positive, finite",
    ),
    "length text": (lambda: KernelMatrix(POINTS, "gaussian", length="a"), InputError, "positive"),
    "overflow": (
        lambda: KernelMatrix(POINTS * 1e100, "gaussian", length=1e-300), InputError, "overflow",
    ),
    "length of a function": (
        lambda: KernelMatrix(POINTS, wave, length=2.0), InputError, "parameters of its own",
    ),
    "symmetric sets": (
        lambda: KernelMatrix(POINTS, wave, OTHERS, symmetric=True), InputError, "left out",
    ),
    "raises": (lambda: KernelMatrix(POINTS, lambda X, Y: X @ Y), InputError, "raised ValueError"),
    "shape": (
        lambda: KernelMatrix(POINTS, lambda X, Y: X), ShapeError,
        r"\(23, 2\).*\(23, 23\): all pairs",
    ),
    "no array": (lambda: KernelMatrix(POINTS, returns("a")), InputError, "raised AttributeError"),
    "tensor": (
        lambda: KernelMatrix(POINTS, returns(torch.zeros(23, 23))), ShapeError, "array of numpy",
    ),
    "no function": (lambda: Entries(np.eye(2), (2, 2)), InputError, "compress takes it as it is"),
    "single entries": (
        lambda: Entries(lambda i, j: i + j, (2, 2)), ShapeError, "all pairs, not single ones",
    ),
    "first entry": (
        lambda: Entries(lambda i, j: 1 / 0, (2, 2)), InputError, "ZeroDivisionError for row 0",
    ),
    "first NaN": (
        lambda: Entries(lambda i, j: np.full((1, 1), np.nan), (2, 2)), InputError,
        r"\(0, 0\) is nan",
    ),
    "not square": (
        lambda: Entries(lambda i, j: np.ones((1, 1)), (2, 3), symmetric=True), ShapeError,
        r"\(n, n\)",
    ),
    "points of rows": (
        lambda: Entries(lambda i, j: np.ones((1, 1)), (2, 3), points=POINTS[:2]), ShapeError,
        "expected points2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_sources_are_refused(case):
    make, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        make()


def late(change):
    """A function that is right for its first entry and wrong at row 3, column 2."""

    def function(i, j):
        block = np.add.outer(i, 2.0 * j)
        return change(block, np.equal.outer(i, np.full(1, 3)) & (j == 2)) if len(i) > 1 else block

    return Entries(function, (5, 4))


def with_nan(block, at):
    return np.where(at, np.nan, block)


LATE = {
    "NaN": (with_nan, InputError, r"entry \(3, 2\) is nan"),
    "complex": (lambda b, at: b * 1j, InputError, "complex128; expected float64"),
    "objects": (lambda b, at: b.astype(object), InputError, "dtype object"),
    "shape": (lambda b, at: b[1:], ShapeError, r"rows 0 to 4 \(5 of them\)"),
    "raises": (lambda b, at: b[:, 9], InputError, "raised IndexError"),
}


@pytest.mark.parametrize("case", LATE)
def test_what_goes_wrong_later_names_its_place(case):
    change, error, words = LATE[case]
    with pytest.raises(error, match=words):
        late(change) @ np.ones(4)


@pytest.mark.parametrize("rows", [[23], [-1], [[0]], 0])
def test_blocks_off_the_matrix_are_refused(rows):
    with pytest.raises(InputError, match="expected a sequence of integers from 0 to 22"):
        KernelMatrix(POINTS, "gaussian").block(rows, [0])


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.ones((9, 3)), np.zeros((4, 0))])
def test_one_point_and_equal_points(points):
    K = KernelMatrix(points, "exponential")
    np.testing.assert_array_equal(K.toarray(), np.ones((len(points),) * 2))
