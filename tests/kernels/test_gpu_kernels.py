"""CUDA kernels for interval factors, without a GPU: emulated thread by thread, and compiled."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from fake_cupy import KERNELS, SOURCE
from hypothesis import given, settings
from hypothesis import strategies as st

from structmat.errors import BackendError, InputError, ShapeError
from structmat.intervals import offsets, positions, run_mask
from structmat.kernels.cuda import intervals as gpu
from structmat.kernels.cuda.intervals import CudaIntervals, tile_pieces

DTYPES = tuple(gpu.SCALARS)
# Runs by name: start, width, n.
RUNS = {
    "mixed": ([0, 3, 97, 50, 0, 100], [7, 98, 30, 0, 101, 1], 101),
    "full and wrapping": ([0, 1, 64, 127], [128, 128, 128, 128], 128),
    "all on one row": ([40] * 9, [1] * 9, 41),
    "one long run": ([1200], [1300], 1301),
    "long runs that wrap": ([2000, 5, 1025], [2003, 1, 1979], 2003),
    "short runs": (list(range(40)), [1, 2, 3, 4, 5] * 8, 43),
    "one row": ([0, 0, 0], [1, 0, 1], 1),
    "one run, all of its circle": ([5], [7], 7),
    "more pieces a warp than lanes": ([7 * k % 40 for k in range(1100)], [5] * 1100, 40),
    "nothing but empty runs": ([0, 0], [0, 0], 5),
    "no runs": ([], [], 6),
    "no rows": ([0, 0], [0, 0], 0),
}


@pytest.fixture(params=[None, 1], ids=["as on a device", "as on a tiny device"])
def device_size(request, monkeypatch):
    """How many warps and blocks keep the device busy; a tiny one has larger tiles."""
    if request.param is not None:
        monkeypatch.setattr(gpu, "BUSY_WARPS", request.param)
        monkeypatch.setattr(gpu, "BUSY_BLOCKS", request.param)


def draw(rng, dtype, *shape):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def dense(start, width, n, contents):
    """The factor entry by entry, in double precision."""
    S = np.zeros((n, len(width)), np.result_type(contents.dtype, np.float64))
    S[positions(start, width, n), np.repeat(np.arange(len(width)), width)] = contents
    return S


def factor(cuda, runs, dtype, rng):
    start, width = (np.array(values, np.int64) for values in runs[:2])
    contents = draw(rng, dtype, width.sum())
    S = CudaIntervals(start, width, runs[2], cuda.asarray(contents), cuda)
    return S, dense(start, width, runs[2], contents)


def assert_close(found, expected):
    assert found.shape == expected.shape
    scale = 1 + np.sqrt(max(expected.shape, default=1)) * 10
    np.testing.assert_allclose(found, expected, atol=scale * np.finfo(found.dtype).eps * 30)


def check(cuda, S, twin, k, rng):
    """Both products against the twin, with threads in either order."""
    z, y = (cuda.asarray(draw(rng, S._contents.dtype, size, k)) for size in S.shape[::-1])
    results = []
    for cuda.backwards in (False, True):
        results.append((S.matmat(z), S.matmat(z, by_columns=True), S.rmatmat(y)))
        cuda.check_guards()
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    by_rows, by_columns, adjoint = results[0]
    np.testing.assert_array_equal(by_rows, by_columns)
    assert by_rows.flags.c_contiguous
    assert by_columns.flags.f_contiguous
    assert by_rows.dtype == adjoint.dtype == z.dtype
    assert_close(by_rows, twin @ z.astype(twin.dtype))
    assert_close(adjoint, twin.conj().T @ y.astype(twin.dtype))


@pytest.mark.usefixtures("device_size")
@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_products_are_those_of_the_dense_factor(cuda, runs, dtype, rng):
    S, twin = factor(cuda, runs, dtype, rng)
    check(cuda, S, twin, 3, rng)


@pytest.mark.parametrize("k", [0, 1, 5, 8, 16, 17])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_any_number_of_columns(cuda, dtype, k, rng):
    S, twin = factor(cuda, RUNS["mixed"], dtype, rng)
    check(cuda, S, twin, k, rng)


@st.composite
def structures(draw):
    n = draw(st.integers(1, 300))
    run = st.tuples(st.integers(0, n - 1), st.sampled_from([0, 1, n]) | st.integers(0, n))
    runs = draw(st.lists(run, max_size=70))
    return [s for s, _ in runs], [w for _, w in runs], n


@settings(max_examples=25)
@given(runs=structures(), dtype=st.sampled_from(DTYPES), k=st.integers(0, 9), seed=st.integers(0))
def test_products_on_any_runs(cuda, runs, dtype, k, seed):
    rng = np.random.default_rng(seed)
    S, twin = factor(cuda, runs, dtype, rng)
    check(cuda, S, twin, k, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_chosen_somewhere(cuda, dtype, rng, monkeypatch):
    cuda.launched.clear()
    monkeypatch.setattr(gpu, "BUSY_WARPS", 16)
    for k in (1, 2, 4, 8):
        S, twin = factor(cuda, RUNS["full and wrapping"], dtype, rng)
        for blocks in (1, 2, 4):
            monkeypatch.setattr(gpu, "BUSY_BLOCKS", blocks)
            check(cuda, S, twin, k, rng)
        check(cuda, *factor(cuda, RUNS["short runs"], dtype, rng), k, rng)
        check(cuda, *factor(cuda, ([3], [1030], 1031), dtype, rng), k, rng)
    of_this_dtype = {name for name in KERNELS if f"<{gpu.SCALARS[dtype]}, " in name}
    assert {name for name, _ in cuda.launched} == of_this_dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_on_its_runs(cuda, bad, rng):
    S, _ = factor(cuda, RUNS["mixed"], "float64", rng)
    mask = run_mask(*(np.array(v) for v in RUNS["mixed"][:2]), RUNS["mixed"][2]).T
    z, y = np.ones((6, 2)), np.ones((101, 2))
    z[2, 1] = y[97, 0] = bad
    found = S.matmat(cuda.asarray(z))
    assert np.isfinite(found[:, 0]).all()
    np.testing.assert_array_equal(np.isfinite(found[:, 1]), ~mask[:, 2])
    found = S.rmatmat(cuda.asarray(y))
    assert np.isfinite(found[:, 1]).all()
    np.testing.assert_array_equal(np.isfinite(found[:, 0]), ~mask[97])

    S._contents[0] = bad  # row 0 of run 0
    found = S.matmat(cuda.asarray(np.ones((6, 1))))
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(found[:, 0])), [0])
    found = S.rmatmat(cuda.asarray(np.ones((101, 1))))
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(found[:, 0])), [0])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.copy().T,
        lambda x: x[:, ::-1],
        lambda x: x[:, :1].repeat(5, axis=1)[:, ::2],
        lambda x: np.broadcast_to(x[:, :1], x.shape, subok=True),
        lambda x: x.repeat(2, axis=0)[::-2],
    ],
    ids=["by columns", "columns backwards", "every other column", "one column", "rows backwards"],
)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_any_strides(cuda, view, dtype, rng):
    S, twin = factor(cuda, RUNS["mixed"], dtype, rng)
    for product, matrix in ((S.matmat, twin), (S.rmatmat, twin.conj().T)):
        x = view(cuda.asarray(draw(rng, dtype, matrix.shape[1], 3)))
        before = x.copy()
        assert_close(product(x), matrix @ x.astype(twin.dtype))
        np.testing.assert_array_equal(x, before)


def test_complex_views_between_two_numbers_are_copied(cuda, rng):
    S, twin = factor(cuda, RUNS["mixed"], "complex128", rng)
    parts = cuda.asarray(draw(rng, "float64", 13))[1:]
    z = parts.view("complex128")[:, None]
    assert z.data.ptr % 16 == 8
    assert_close(S.matmat(z), twin @ z)


def test_contents_may_have_strides(cuda, rng):
    contents = cuda.asarray(draw(rng, "float32", 14))[::-2]
    S = CudaIntervals([3], [7], 9, contents, cuda)
    twin = dense(np.array([3]), np.array([7]), 9, contents)
    check(cuda, S, twin, 1, rng)


def test_kernels_are_taken_by_their_size(cuda, rng):
    """What the launch of a large product would be: tiles fill the device, warps the tiles."""
    S, _ = factor(cuda, ([0], [1], 2**14), "float32", rng)
    cuda.launched.clear()
    S.matmat(cuda.asarray(np.ones((1, 1), np.float32)))
    S.matmat(cuda.asarray(np.ones((1, 8), np.float32)))
    assert cuda.launched == [("matmat<float, 1, 4>", 128), ("matmat<float, 8, 1>", 512)]


@pytest.mark.parametrize("tile", [1, 32, 128])
@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_pieces_hold_every_packed_entry_once(runs, tile):
    start, width, n = np.array(runs[0], np.int64), np.array(runs[1], np.int64), runs[2]
    begin, pieces = tile_pieces(start, width, n, tile)
    assert begin[-1] == len(pieces)
    assert len(begin) == -(-n // tile) + 1
    base = pieces[:, :2].copy().view(np.int64).ravel()
    found = []
    for t in range(len(begin) - 1):
        for (_, _, run, span), origin in zip(
            pieces[begin[t] : begin[t + 1]], base[begin[t] : begin[t + 1]], strict=True
        ):
            rows = np.arange(span & 0xFFFF, span >> 16)
            found += [(origin + r, run, t * tile + r) for r in rows]
    entry = np.arange(width.sum())
    run = np.repeat(np.arange(len(width)), width)
    expected = np.stack([entry, run, positions(start, width, n)], axis=1)
    np.testing.assert_array_equal(np.array(sorted(found)).reshape(-1, 3), expected)


def test_places_in_the_contents_have_64_bits():
    width = np.full(3, 2**31 - 2**12)
    begin, pieces = tile_pieces(np.zeros(3, np.int64), width, 2**31 - 2**12, 2**14)
    base = pieces[:, :2].copy().view(np.int64).ravel()
    np.testing.assert_array_equal(base[begin[1] : begin[2]], offsets(width)[:-1] + 2**14)


def test_refusals(cuda, monkeypatch):
    contents = cuda.asarray(np.ones(3, np.float32))
    S = CudaIntervals([0, 1], [2, 1], 4, contents, cuda)
    with pytest.raises(ShapeError, match=r"operand of shape \(4, 2\); expected \(2, k\)"):
        S.matmat(cuda.asarray(np.ones((4, 2), np.float32)))
    with pytest.raises(ShapeError, match=r"operand of shape \(4,\); expected \(4, k\)"):
        S.rmatmat(cuda.asarray(np.ones(4, np.float32)))
    with pytest.raises(InputError, match="operand of dtype float64; expected float32"):
        S.matmat(cuda.asarray(np.ones((2, 1))))
    with pytest.raises(ShapeError, match=r"shape \(3,\); expected \(4,\), the sum of the widths"):
        CudaIntervals([0, 1], [2, 2], 4, contents, cuda)
    with pytest.raises(InputError, match=r"width\[0\] = 5; expected 0 to 4"):
        CudaIntervals([0], [5], 4, contents, cuda)
    with pytest.raises(InputError, match=r"dtype float16; expected one of float32, float64"):
        CudaIntervals([0], [3], 4, cuda.asarray(np.ones(3, np.float16)), cuda)
    with pytest.raises(BackendError, match="arrays of numpy; expected CuPy's"):
        CudaIntervals([0], [3], 4, np.ones(3))
    with pytest.raises(InputError, match=r"expected at most 2147479552 rows and runs"):
        CudaIntervals([0], [3], 2**31 - 2**12 + 1, contents, cuda)
    with cuda.cuda.Device(1):
        elsewhere = cuda.asarray(np.ones((2, 1), np.float32))
    with pytest.raises(BackendError, match="operand on device <CUDA Device 1>; expected <CUDA"):
        S.matmat(elsewhere)
    here = cuda.asarray(np.ones((2, 1), np.float32))
    wide = np.broadcast_to(here[:, :1], (2, 2**31), subok=True)
    with pytest.raises(InputError, match="operand of 2147483648 columns; expected at most"):
        S.matmat(wide)
    monkeypatch.setattr(gpu, "MOST_BLOCKS", 2)
    with pytest.raises(InputError, match=r"takes 3 blocks of threads; expected at most 2"):
        S.matmat(cuda.asarray(np.ones((2, 17), np.float32)))


@pytest.mark.parametrize("architecture", [pytest.param("sm_80", marks=pytest.mark.slow), "sm_90"])
def test_every_kernel_compiles_without_spills(architecture, tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc, CUDA's compiler; there is none")
    pointers = "".join(f"(void*)&{name}, " for name in KERNELS)
    source = tmp_path / "all.cu"
    source.write_text(f'#include "{SOURCE}"\nvoid* kernels[] = {{{pointers}}};\n')
    command = ["nvcc", "-std=c++17", f"-arch={architecture}", "-cubin", "-Werror", "all-warnings"]
    command += ["-Xptxas", "-v", "-o", str(tmp_path / "all.cubin"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    spills = re.findall(r"(\d+) bytes spill stores", result.stderr)
    registers = [int(r) for r in re.findall(r"Used (\d+) registers", result.stderr)]
    assert spills == ["0"] * len(KERNELS)
    assert len(registers) == len(KERNELS)
    # 64 registers let 1024 threads live on a multiprocessor, 128 half as many.
    assert max(registers) <= 128
