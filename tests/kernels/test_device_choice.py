"""The kernel on a device: the one of least time where figures are known, else the dense matrix."""

import json

import numpy as np
import pytest
from cases import block_low_rank, block_sparse, contents, random_gblr
from fake_cupy import properties
from fake_cupy_library import FakeLibrary

from structmat import GBLR, BlockSparse
from structmat.kernels import plan, using
from structmat.kernels.choice.table import KERNELS
from structmat.kernels.cost_model.coefficients import coefficients_file, keep
from structmat.kernels.cost_model.devices import DeviceWork, even_scalars
from structmat.kernels.layouts.panels import RunPattern

#: Measured times of the kernel of runs over the dense ones, on an H200: n runs at random places.
#: Single and double precision, for 1, 4, 16, 64 and 512 columns.
MEASURED = {
    (16384, 1 / 8): [(0.20, 0.17), (0.15, 0.23), (0.46, 0.85), (1.14, 2.7), (1.24, 2.5)],
    (16384, 1 / 4): [(0.33, 0.32), (0.30, 0.44), (0.88, 1.6), (2.1, 5.0), (2.3, 5.5)],
    (4096, 1 / 8): [(0.8, 0.8), (0.7, 0.7), (0.9, 0.9), (1.5, 2.4), (1.8, 2.7)],
}
COLUMNS = (1, 4, 16, 64, 512)


def device(name="NVIDIA H200", compiled=None):
    """A library whose devices have that name."""
    library = FakeLibrary(compiled)
    library.cuda.runtime.getDeviceProperties = lambda number: {"name": name.encode()}
    return library


def runs(n, share, seed=0):
    """Runs of n blocks at random places, at a share of the dense cost."""
    rng = np.random.default_rng(seed)
    start, width = rng.integers(0, n, (2, n)), rng.integers(0, int(share * n) + 1, (2, n))
    return [RunPattern(s, w, n) for s, w in zip(start, width, strict=True)]


def work(patterns, itemsize):
    totals = [int(p.width.sum()) for p in patterns]
    m, n = (p.n for p in patterns)
    even = sum(map(even_scalars, patterns, totals))
    return DeviceWork(m, n, patterns[0].width.size, sum(totals), itemsize, even)


def ratio(patterns, dtype, columns):
    """Expected time of runs over that of the dense matrix, on an H200."""
    counted = work(patterns, np.dtype(dtype).itemsize)
    known = KERNELS.figures(f"NVIDIA H200, {dtype}")
    taken = {
        name: KERNELS[name].on_devices.seconds(counted, columns, known[name])
        for name in ("intervals", "dense")
    }
    return taken["intervals"] / taken["dense"]


# --- Figures. ---


@pytest.mark.parametrize("which", [0, 1], ids=["float32", "float64"])
@pytest.mark.parametrize("case", MEASURED, ids=str)
def test_what_is_chosen_was_measured_to_gain(case, which):
    dtype = ("float32", "float64")[which]
    patterns = runs(*case)
    margin = KERNELS["dense"].on_devices.margin
    for columns, both in zip(COLUMNS, MEASURED[case], strict=True):
        expected, measured = ratio(patterns, dtype, columns), both[which]
        assert 0.8 * measured < expected < 1.9 * measured
        # Other costs scale with the ratio: no cost is chosen at which 1.05 is exceeded.
        assert measured * margin / expected <= 1.05
        if measured < 0.6:
            assert expected < margin
        if measured > 1:
            assert expected > margin


@pytest.mark.parametrize(
    "worse",
    [
        lambda p: RunPattern(np.zeros_like(p.start), p.width, p.n),  # all on the same rows
        lambda p: RunPattern(p.start, np.r_[p.n, p.width[1:] // 16], p.n),  # a long one
        lambda p: RunPattern(np.tile(p.start, 16), np.tile(p.width // 16, 16), p.n),  # short ones
    ],
    ids=["heaped", "one long run", "short runs"],
)
def test_structures_unlike_the_measured_ones_count_as_worse(worse):
    even = runs(4096, 1 / 16)
    assert ratio(even, "float32", 1) < 0.8
    assert ratio([worse(p) for p in even], "float32", 1) > ratio(even, "float32", 1) + 0.05


def test_even_scalars_by_hand(rng):
    def even(start, width, n):
        width = np.array(width)
        return even_scalars(RunPattern(np.array(start), width, n), int(width.sum()))

    assert even([0, 512], [512, 512], 1024) == 1024
    assert even([0, 0], [512, 512], 1024) == pytest.approx(2 * 1024 / 1.5)
    assert even([512, 1000], [512, 48], 1024) == 2 * 1024 / 1.5  # two runs on one row
    assert even([900], [200], 1024) == 1024 / 1.5  # around the edge
    assert even([0], [1024], 1024) == 1024
    assert even([], [], 8) == even([3], [0], 8) == 0
    for _ in range(50):
        n, k = rng.integers(1, 40), rng.integers(1, 9)
        start, width = rng.integers(0, n, k), rng.integers(0, n + 1, k)
        covered = np.zeros(n, int)
        for s, w in zip(start, width, strict=True):
            covered[(s + np.arange(w)) % n] += 1
        total = width.sum()
        worst = max(total, k * min(256, n), k * width.max() / 2, n * covered.max() / 1.5)
        assert even(start, width, n) == pytest.approx(worst if total else 0)


# --- The choice. ---


def large(n=4096, library=None):
    """A matrix for which runs gain with few columns."""
    rng = np.random.default_rng(1)
    start, width = rng.integers(0, n, (2, n)), np.full((2, n), n // 16)
    u, v = np.ones(width[0].sum(), np.float32), np.ones(width[1].sum(), np.float32)
    matrix = GBLR(start[0], width[0], u, start[1], width[1], v, shape=(n, n))
    return matrix.to(library if library is not None else device())


def test_few_columns_run_by_run_and_many_by_the_dense_matrix(user_cache):
    factored = large(8192)._factored
    counts = (1, 4, 17, 512)
    chosen = [factored.choose(columns) for columns in counts]
    assert chosen == ["intervals"] * 2 + ["dense"] * 2
    for columns, name in zip(counts, chosen, strict=True):
        expected = factored.expected(columns)
        assert set(expected) == {"intervals", "dense"}
        worth = expected | {"dense": KERNELS["dense"].on_devices.margin * expected["dense"]}
        assert worth[name] == min(worth.values())
    found = plan(large(8192), 1)
    assert (found.kernel, found.note) == ("intervals", "")
    assert found.seconds == found.expected["intervals"]


CASES = {
    "runs": random_gblr(40, 30, 9, 3),
    "blocks": block_sparse(96, 140, 16, 20, [0, 0, 1, 2, 3, 5], [3, 5, 0, 4, 6, 6]),
    "tiles": block_low_rank([7, 4, 0], [5, 6], {(0, 0): 2, (0, 1): 3, (1, 0): None}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_but_the_dense_matrix_where_times_are_unknown(case, dtype, cuda, user_cache):
    matrix, twin = CASES[case](contents(dtype))
    cupy = device("Imagined 7000", cuda)
    A = matrix.to(cupy)
    for columns in (1, 16, 17, 64, 512):
        found = plan(A, columns)
        assert (found.kernel, found.seconds, found.expected) == ("dense", None, {})
        assert f"no times are known for Imagined 7000, {dtype}" in found.note
        assert "structmat calibrate --device cuda" in str(found)
    X = np.ones((A.shape[1], 17), dtype)
    np.testing.assert_allclose((A @ cupy.asarray(X)).get(), twin @ X, rtol=1e-3, atol=1e-3)
    assert list(A._factored._bound) == ["dense"]


@pytest.mark.parametrize("dtype", ["float16", "complex64"])
def test_a_device_has_figures_for_some_dtypes_alone(dtype, user_cache):
    matrix, _ = CASES["blocks"](contents("float32"))
    A = matrix.astype(dtype).to(device())
    assert plan(A, 3).kernel == "dense"
    assert f"no times are known for NVIDIA H200, {dtype}" in plan(A, 3).note


def test_no_dense_copy_is_made_that_takes_far_more_memory(user_cache):
    n = 100_000
    place = np.arange(0, n // 10, 100)
    sparse = BlockSparse(np.ones((100, 10, 10)), place, place[::-1], shape=(n, n))
    start, width = np.arange(200), np.full(200, 40)
    thin = GBLR(start, width, np.ones(8000), start, width, np.ones(8000), shape=(n, n))
    for name in ("NVIDIA H200", "Imagined 7000"):
        assert plan(sparse.to(device(name)), 64).kernel == "batches"
        assert "which takes little memory" in plan(sparse.to(device(name)), 64).note
        assert plan(thin.to(device(name)), 512).kernel == "intervals"


def test_products_take_the_chosen_kernel(cuda, user_cache):
    """Both ways, on the device that is not the current one."""
    cupy = device(compiled=cuda)
    keep({"dense": [1e6, 1.0, 1.0], "intervals": [0.0, 0.0, 0.0]}, "NVIDIA H200, float32")
    matrix, twin = CASES["runs"](contents("float32"))
    with cupy.cuda.Device(1):
        A = matrix.to(cupy)
    X = np.ones((30, 3), np.float32)
    found = A @ cupy.asarray(X, device=A.device)
    np.testing.assert_allclose(found.get(), twin @ X, rtol=1e-3, atol=1e-3)
    assert list(A._factored._bound) == ["intervals"]
    with using("panels"):
        again = A @ cupy.asarray(X, device=A.device)
    np.testing.assert_allclose(again.get(), found.get(), rtol=1e-3, atol=1e-3)


# --- Measured figures. ---


def test_measured_figures_of_a_device_come_before_the_shipped_ones(user_cache):
    here = large(4096)._factored
    assert here.choose(1) == "intervals"
    keep({"dense": [1.0, 1e-9, 1e-9], "intervals": [9.0, 9.0, 9.0]}, "NVIDIA H200, float32")
    assert here.choose(1) == "dense"
    there = large(4096, device("Imagined 7000"))._factored
    assert there.choose(1) == "dense"
    keep({"dense": [9e9, 9.0, 9.0], "pair": [1.0, 0.0, 0.0]}, "Imagined 7000, float32")
    assert there.choose(1) == "pair"
    assert set(there.expected(1)) == {"pair", "dense"}
    assert there.expected(1)["pair"] == pytest.approx(2e-9)


def test_batches_are_compared_where_they_were_measured(user_cache):
    """Their counts take a layout: without figures nobody asks for it."""
    n = 1024
    A = large(n)
    factored = A._factored
    assert factored.choose(256) == "dense"
    assert "exact batches" not in factored.structure._layouts
    keep(
        {"dense": [6000.0, 2.33e-4, 2.99e-5], "batches": [10.0, 1e-5, 2.99e-5]},
        "NVIDIA H200, float32",
    )
    assert factored.choose(256) == plan(A, 256).kernel == "batches"
    counts = factored.device_work.batches()
    priced = KERNELS["batches"].on_devices
    size = counts.area + 256 * (3 * counts.gathered + 2 * counts.written)
    expected = (counts.starts, 4 * size, 256 * counts.multiplications)
    assert priced.counts(factored.device_work, 256) == expected
    # They read and multiply in turn.
    seconds = priced.seconds(factored.device_work, 256, (0.0, 1e9, 1e9))
    assert seconds == pytest.approx(sum(expected[1:]))
    assert priced.size(factored.device_work) == 4 * counts.area


@pytest.mark.parametrize("figures", [[1.0], None, "fast", [1, 2, float("nan")], {"a": 1}])
def test_broken_figures_of_a_device_are_ignored(figures, user_cache):
    path = coefficients_file()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"places": {"NVIDIA H200, float32": {"dense": figures}}}))
    assert KERNELS.figures("NVIDIA H200, float32")["dense"] == (6000.0, 2.33e-4, 2.99e-5)


def test_places_are_kept_beside_each_other(user_cache):
    shipped = dict(KERNELS.coefficients())
    cpu = {name: [2.0] * len(found) for name, found in shipped.items()}
    keep({"dense": [1.0, 2.0, 3.0]}, "NVIDIA H200, float32")
    keep(cpu)
    keep({"dense": [4.0, 5.0, 6.0]}, "Imagined 7000, float64")
    assert KERNELS.coefficients() == cpu
    assert KERNELS.figures("NVIDIA H200, float32") == {"dense": [1.0, 2.0, 3.0]}
    assert KERNELS.figures("Imagined 7000, float64") == {"dense": [4.0, 5.0, 6.0]}
    assert KERNELS.figures("Imagined 7000, float32") == {}


def test_figures_of_a_number_of_threads(user_cache, monkeypatch):
    shipped = dict(KERNELS.coefficients())
    one, two = ({n: [v] * len(found) for n, found in shipped.items()} for v in (1.0, 2.0))
    keep(two, "cpu, 2 threads")
    assert KERNELS.coefficients() == shipped
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", "2")
    assert KERNELS.coefficients() == two
    keep(one)
    assert KERNELS.coefficients() == two
    monkeypatch.setenv("STRUCTMAT_NUM_THREADS", "3")
    assert KERNELS.coefficients() == one


def test_names_of_devices_are_those_of_their_driver():
    assert properties(1)["name"] == b"Imagined 1"
    matrix, _ = CASES["runs"](contents("float32"))
    cupy = FakeLibrary()
    with cupy.cuda.Device(1):
        A = matrix.to(cupy)
    assert A._factored.place == "Imagined 1, float32"
    assert matrix._factored.place == ""


# --- Torch, whose products are chosen by the number of columns. ---

#: Measured times of Triton's tiles over the dense product on an H200, bfloat16, 8192 columns.
TILES = {(8192, 1 / 8): 0.35, (8192, 1 / 4): 0.54, (4096, 1 / 8): 0.8, (4096, 1 / 4): 0.88}


@pytest.mark.parametrize("case", TILES, ids=str)
def test_expected_times_of_tiles_are_about_the_measured_ones(case):
    known, counted = KERNELS.figures("NVIDIA H200, bfloat16"), work(runs(*case), 2)
    taken = {
        name: KERNELS[name].on_devices.seconds(counted, 8192, known[name])
        for name in ("triton", "dense")
    }
    assert 0.95 < taken["triton"] / taken["dense"] / TILES[case] < 1.25


def test_plans_of_torch_say_what_they_follow(user_cache, monkeypatch):
    matrix, _ = CASES["runs"](contents("float32"))
    on_cpu, elsewhere = matrix.to("torch"), matrix.to("torch").to("meta")
    assert plan(on_cpu, 3).note == ""
    found = plan(elsewhere, 3)
    assert "no times are known for meta, float32: the number of columns decides" in str(found)
    keep({"dense": [1e9, 0.0, 0.0], "pair": [2e9, 0.0, 0.0]}, "meta, float32")
    found = plan(elsewhere, 3)
    assert (found.note, found.expected) == ("", {"pair": 4.0, "dense": 1.0})
