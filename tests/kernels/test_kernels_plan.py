"""Which kernel multiplies, what forces another, and the figures that the choice follows."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, DTYPES, block_low_rank, block_sparse, build, contents, random_gblr

from structmat import GBLR, BlockSparse, Permutation
from structmat._array import from_numpy, to_numpy
from structmat.cli import main
from structmat.errors import (
    InputError,
    MissingDependencyError,
    SaveError,
    ShapeError,
    StructmatError,
)
from structmat.kernels import Plan, plan, using
from structmat.kernels.choice import calibrate as calibration
from structmat.kernels.choice import contexts, record, table
from structmat.kernels.choice.calibrate import calibrate
from structmat.kernels.cost_model.coefficients import coefficients_file, forget, keep
from structmat.kernels.cost_model.prices import DENSE_MARGIN, Work
from structmat.kernels.cpu.row_groups import RowGroups
from structmat.kernels.layouts.panels import RunPattern

FACTORED = [name for name in CASES if name.startswith(("gblr", "block_"))]
ORDERED = ["product-ordered", "product-ordered-blocks"]
DIRECT = [name for name in CASES if name not in (*FACTORED, *ORDERED)]
ON_NUMPY = ["panels", "rows", "vectors", "tiles", "blocks", "pair", "dense"]


def fitting(matrix):
    """Kernels on NumPy that fit a matrix: blocks are listed for real runs alone."""
    runs = matrix.kind == "gblr" and matrix.dtype.kind == "f"
    return [kernel for kernel in ON_NUMPY if runs or kernel != "blocks"]


PRICES = {name: kernel.price for name, kernel in table.KERNELS.items() if kernel.price}
SHIPPED = {name: price.coefficients for name, price in PRICES.items()}

# Large enough for every kernel to be compared.
LARGE = {
    "runs": random_gblr(150, 130, 60, 3),
    "blocks": block_sparse(
        96, 140, 16, 20, [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5],
        [3, 5, 0, 4, 6, 2, 6, 0, 1, 5, 2, 4, 0, 3, 6],
    ),
    "tiles": block_low_rank(
        [70, 41, 0, 33], [50, 60], {(0, 0): 20, (0, 1): 9, (1, 0): 12, (1, 1): 11, (3, 1): 0}
    ),
    "tiles-some-dense": block_low_rank(
        [70, 41, 33], [50, 60], {(0, 0): None, (0, 1): 9, (1, 0): 12, (2, 1): None}
    ),
}  # fmt: skip


@cache
def made(name, dtype):
    return LARGE[name](contents(dtype)) if name in LARGE else build(name, dtype)


def case(name, dtype="float64"):
    """A matrix that has not multiplied yet, and its dense twin."""
    matrix, twin = made(name, dtype)
    return matrix.copy(), twin


def operands(matrix, dtype, k):
    c = contents(dtype, 5)
    return c(matrix.shape[1], k), c(matrix.shape[0], k)


def agree(found, expected):
    tolerance = 1e-3 if expected.dtype in (np.float32, np.complex64) else 1e-10
    np.testing.assert_allclose(to_numpy(found), expected, rtol=tolerance, atol=tolerance)


def check_products(matrix, twin, to=np.asarray):
    X, Y = operands(matrix, twin.dtype, 21)
    agree(matrix @ to(X), twin @ X)
    agree(matrix.H @ to(Y), twin.conj().T @ Y)
    agree(matrix.rmatmat(to(Y)), twin.conj().T @ Y)
    agree(matrix @ to(X[:, 0].copy()), twin @ X[:, 0])
    agree(matrix.rmatvec(to(Y[:, 0].copy())), twin.conj().T @ Y[:, 0])


@pytest.fixture
def favoured(monkeypatch):
    """Let a kernel be expected to take no time at all."""

    def favour(kernel):
        told = {n: [0.0 if n == kernel else 1e6] * len(SHIPPED[n]) for n in SHIPPED}
        monkeypatch.setattr(table.KERNELS, "coefficients", lambda: told)

    return favour


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(record, "_PRESENT", set())


# --- The plan. ---


@pytest.mark.parametrize("batch", [1, 5, np.int64(64)])
@pytest.mark.parametrize("name", DIRECT)
def test_kinds_with_one_way_to_multiply(name, batch):
    matrix, twin = case(name)
    chosen = plan(matrix, batch)
    assert (chosen.kernel, chosen.columns, chosen.seconds) == ("direct", batch, None)
    assert chosen.expected == {}
    X, _ = operands(matrix, "float64", int(batch))
    agree(chosen.multiply(X), twin @ X)
    assert "direct" in str(chosen)
    with pytest.raises(InputError, match=rf"'tiles'.*{matrix.kind!r}.*A\.to_dense\(\) @ X"):
        plan(matrix, batch, kernel="tiles")


@pytest.mark.parametrize("batch", [1, 16, 250])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", LARGE)
def test_the_kernel_of_least_expected_time_is_chosen(name, dtype, batch):
    matrix, twin = case(name, dtype)
    chosen = plan(matrix, batch)
    assert isinstance(chosen, Plan)
    assert list(chosen.expected) == fitting(matrix)
    assert all(np.isfinite(t) and t > 0 for t in chosen.expected.values())
    assert chosen.seconds == chosen.expected[chosen.kernel]
    worth = chosen.expected | {"dense": DENSE_MARGIN * chosen.expected["dense"]}
    assert worth[chosen.kernel] == min(worth.values())
    X, _ = operands(matrix, dtype, batch)
    agree(chosen.multiply(X), twin @ X)
    head, *lines = str(chosen).splitlines()
    assert head.startswith(chosen.kernel)
    assert str(batch) in head
    named = [line.split()[0] for line in lines]
    assert named == sorted(chosen.expected, key=chosen.expected.get)


@pytest.mark.parametrize(
    ("name", "kernel"), [(n, k) for n in LARGE for k in ON_NUMPY if k != "blocks" or n == "runs"]
)
def test_products_follow_the_choice(name, kernel, favoured):
    favoured(kernel)
    matrix, twin = case(name)
    assert plan(matrix, 9).kernel == kernel
    used = []
    make = matrix._factored.bound(kernel)
    for product in ("multiply", "multiply_adjoint"):
        real = getattr(make, product)

        def watched(x, *, by_columns, real=real):
            used.append(x.shape)
            return real(x, by_columns=by_columns)

        setattr(make, product, watched)
    X, Y = operands(matrix, "float64", 9)
    agree(matrix @ X, twin @ X)
    agree(matrix.rmatmat(Y), twin.T @ Y)
    assert used == [X.shape, Y.shape]


def test_the_choice_is_made_for_each_number_of_columns(monkeypatch):
    # One kernel takes long to start, the other for every column.
    told = {n: [1e9] * len(SHIPPED[n]) for n in SHIPPED}
    told["vectors"] = [1.0, 1000.0, 0, 0, 0, 0]
    told["dense"] = [1e4, *[0.0] * 7]
    monkeypatch.setattr(table.KERNELS, "coefficients", lambda: told)
    matrix, twin = case("runs")
    counts, kernels = (1, 8, 9, 11, 1000), ["vectors"] * 2 + ["dense"] * 3
    assert [plan(matrix, k).kernel for k in counts] == kernels  # dense with a little grace
    for k in (1, 70, 1):
        X, _ = operands(matrix, "float64", k)
        agree(matrix @ X, twin @ X)
    assert set(matrix._factored._bound) >= {"vectors", "dense"}


@pytest.mark.parametrize("batch", [0, -1, 1.5, "8", None])
def test_a_batch_is_a_whole_number_of_columns(batch):
    with pytest.raises(InputError, match=r"batch = .*expected a whole number.*at least 1"):
        plan(build("gblr")[0], batch)


# --- Kernels by name. ---


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", [*FACTORED, *LARGE])
def test_every_kernel_multiplies_as_the_dense_matrix(name, dtype, backend):
    matrix, twin = case(name, dtype)
    matrix = matrix.to(backend)
    to = partial(from_numpy, xp=matrix.xp)
    kernels = matrix._factored.kernels
    assert {"panels", "batches", "pair"} <= set(kernels)
    if backend == "numpy":
        assert [kernel for kernel in kernels if kernel != "batches"] == fitting(matrix)
    check_products(matrix, twin, to)
    for kernel in kernels:
        with using(kernel):
            check_products(matrix, twin, to)
        forced = plan(matrix, 3, kernel=kernel)
        assert forced.kernel == kernel
        X, _ = operands(matrix, dtype, 3)
        agree(forced.multiply(to(X)), twin @ X)


@pytest.mark.parametrize("kernel", ON_NUMPY)
def test_a_plan_takes_the_operands_that_the_matrix_takes(kernel, rng):
    matrix, _ = case("runs" if kernel == "blocks" else "tiles", "float32")
    forced = plan(matrix, 4, kernel=kernel)
    n = matrix.shape[1]
    wide = rng.standard_normal((n, 4))
    for X in (wide, wide.astype("float32"), wide + 1j, wide.astype(int), [[1, 2]] * n):
        found = forced.multiply(X)
        expected = matrix.matmat(X)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
        assert found.dtype == expected.dtype
    with pytest.raises(ShapeError, match=str(n)):
        forced.multiply(wide[:-1])
    with pytest.raises(ShapeError, match=str(n)):
        forced.multiply(wide[:, 0])


@pytest.mark.parametrize("kernel", ON_NUMPY)
def test_kernels_take_operands_as_they_lie(kernel, rng):
    for name in ["runs"] if kernel == "blocks" else LARGE:
        matrix, twin = case(name)
        n = matrix.shape[1]
        wide, long = rng.standard_normal((2 * n, 60)), rng.standard_normal(2 * n)
        with using(kernel):
            for X in (wide[::2, ::3], wide[n - 1 :: -1], wide[:n, ::-1], wide[:n].copy("F")):
                agree(matrix @ X, twin @ X)
            for x in (long[::2], long[:n][::-1], wide[:n, 7], np.broadcast_to(2.5, n)):
                agree(matrix @ x, twin @ x)
            X = rng.standard_normal((3, n, 4))
            agree(matrix.matmat(X), twin @ X)


@pytest.mark.parametrize("kernel", ["rowss", "", "direct", "numba", None, 3])
def test_no_kernel_of_that_name(kernel):
    matrix, _ = build("gblr")
    known = rf"kernel = .*expected one of {', '.join(table.KERNELS)}$"
    with pytest.raises(InputError, match=known), using(kernel):
        pytest.fail("the context was entered")
    if kernel is not None:
        with pytest.raises(InputError, match=known):
            plan(matrix, kernel=kernel)
        with pytest.raises(InputError, match=known):
            plan(build("low_rank")[0], kernel=kernel)


def test_kernels_that_do_not_fit_say_what_would():
    matrix, _ = build("gblr")
    other = matrix.to("array_api_strict")
    with pytest.raises(InputError, match=r"'rows'.*contents of numpy.*choose one of panels"):
        plan(other, kernel="rows")
    with pytest.raises(InputError, match=r"'vectors'.*contents of numpy.*choose one of panels"):
        plan(other, kernel="vectors")
    with pytest.raises(InputError, match=r"'intervals'.*contents of cupy.*choose one of panels"):
        plan(matrix, kernel="intervals")
    with pytest.raises(InputError, match=r"'intervals'.*a GBLR matrix"):
        plan(build("block_sparse")[0], kernel="intervals")
    with using("intervals"), pytest.raises(InputError, match="'intervals' does not fit"):
        matrix @ np.ones(matrix.shape[1])
    assert plan(matrix).kernel in ON_NUMPY


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
def test_other_dtypes_go_without_compiled_kernels(dtype):
    matrix, twin = LARGE["blocks"](contents(dtype))
    assert matrix._factored.kernels == ["panels", "batches", "pair", "dense"]
    check_products(matrix, twin)
    with pytest.raises(InputError, match=r"'tiles'.*contents of float32, float64"):
        plan(matrix, kernel="tiles")


@pytest.mark.parametrize("name", LARGE)
def test_everything_works_without_numba(name, without_numba):
    matrix, twin = case(name)
    check_products(matrix, twin)
    for batch in (1, 16, 512):
        assert list(plan(matrix, batch).expected) == ["panels", "rows", "pair", "dense"]
    for kernel in ("vectors", "tiles"):
        missing = rf"'{kernel}' needs numba.*pip install 'structmat\[fast\]'"
        with pytest.raises(MissingDependencyError, match=missing):
            plan(matrix, kernel=kernel)
        with using(kernel), pytest.raises(MissingDependencyError, match=missing):
            matrix @ np.ones(matrix.shape[1])
        with pytest.raises(MissingDependencyError, match=missing):
            plan(matrix, kernel=kernel)
    with using("dense"):
        check_products(matrix, twin)


def test_numba_is_neither_needed_nor_loaded_for_small_matrices():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from structmat import BlockSparse\n"
        "from structmat.kernels import plan\n"
        "A = BlockSparse(np.ones((9, 40, 40)), range(9), range(9), shape=(360, 360))\n"
        "assert (A @ np.ones((360, 70)) == 40).all()\n"
        "print('tiles' in plan(A, 70).expected)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
    small, _ = build("gblr-prime")
    assert small.storage < table.LEAST_COMPILED_SCALARS
    assert list(plan(small, 70).expected) == ["panels", "rows", "pair", "dense"]


# --- Forcing. ---


def kernel_used(matrix):
    """The kernel of a product: the only one that makes anything for a fresh matrix."""
    fresh = matrix.copy()
    fresh @ np.ones(fresh.shape[1])
    (bound,) = fresh._factored._bound
    return bound


def test_contexts_nest_and_end():
    matrix, _ = build("gblr")
    usual = kernel_used(matrix)
    with using("vectors"):
        assert kernel_used(matrix) == "vectors"
        with using("pair"):
            assert kernel_used(matrix) == "pair"
            with using("vectors"):
                assert kernel_used(matrix) == "vectors"
            assert kernel_used(matrix) == "pair"
        assert kernel_used(matrix) == "vectors"
    assert kernel_used(matrix) == usual
    with pytest.raises(ZeroDivisionError), using("pair"), using("vectors"):
        raise ZeroDivisionError
    assert kernel_used(matrix) == usual
    assert contexts.entered == 0, "tracers would look for a forced kernel for ever"
    with using("pair"):
        with pytest.raises(InputError), using("no such kernel"):
            pass
        assert kernel_used(matrix) == "pair"
    assert kernel_used(matrix) == usual


def test_contexts_hold_for_sums_and_products():
    a, b = build("gblr")[0], build("block_low_rank")[0]
    both = a + b
    with using("rows"):
        both @ np.ones((5, 3))
    for matrix in (a, b):
        assert list(matrix._factored._bound) == ["rows"]


def test_contexts_are_local_to_threads_and_tasks():
    matrix, _ = build("gblr")
    usual, found = kernel_used(matrix), []
    assert usual != "pair"
    inside, done = threading.Event(), threading.Event()

    def force():
        with using("pair"):
            inside.set()
            done.wait(20)
            found.append(kernel_used(matrix))

    thread = threading.Thread(target=force)
    thread.start()
    assert inside.wait(20)
    assert kernel_used(matrix) == usual
    with using("vectors"):
        assert kernel_used(matrix) == "vectors"
    done.set()
    thread.join()
    assert found == ["pair"]

    async def task(kernel):
        with using(kernel):
            await asyncio.sleep(0)
            return kernel_used(matrix)

    async def tasks():
        return await asyncio.gather(*map(task, ["pair", "vectors", "rows"]))

    assert asyncio.run(tasks()) == ["pair", "vectors", "rows"]
    assert kernel_used(matrix) == usual


# --- Work and memory. ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LARGE)
def test_work_is_counted_as_it_is(name, dtype):
    matrix, _ = case(name, dtype)
    work, patterns = matrix._factored.work, matrix._factored.structure.patterns
    itemsize = np.dtype(dtype).itemsize
    planes = 2 if dtype.startswith("complex") else 1
    height = 64 // (itemsize // planes)
    totals = [c.size for c in matrix._factored.contents]
    cells = {
        h: sum(len(RowGroups.of(p, h, t).column) for p, t in zip(patterns, totals, strict=True))
        for h in (6, height)
    }
    layouts = [p.layout() for p in patterns]
    areas = [e.size for layout in layouts for e in layout.entries]
    widths = [p.width for p in patterns if isinstance(p, RunPattern)]
    sizes = list(zip(*widths, strict=True)) if len(widths) == 2 else []
    large = [p + q for p, q in sizes if p * q > 4 + 1.5 * (p + q)]
    assert work == Work(
        *matrix.shape,
        0 if name == "blocks" else patterns[1].shape[1],
        matrix.storage,
        itemsize,
        planes,
        sum(-(-p.shape[0] // height) for p in patterns),
        6 * cells[6],
        cells[height],
        len(areas),
        sum(areas),
        sum(p * q for p, q in sizes if p * q <= 4 + 1.5 * (p + q)),
        len(large),
        sum(large),
        sum(p * q for p, q in sizes) * (sum(p * q for p, q in sizes) <= 2 * sum(map(sum, sizes))),
    )


@pytest.mark.parametrize("kernel", ["dense", "pair"])
def test_no_copy_is_made_that_takes_far_more_memory(kernel, favoured):
    favoured(kernel)
    n, rng = 100_000, np.random.default_rng(0)
    place = np.arange(0, n // 10, 100)
    sparse = BlockSparse(np.ones((100, 10, 10)), place, place[::-1], shape=(n, n))
    runs = GBLR(
        rng.integers(0, n, 200), np.full(200, 40), np.ones(8000),
        rng.integers(0, n, 200), np.full(200, 40), np.ones(8000), shape=(n, n),
    )  # fmt: skip
    for matrix in (sparse, runs):
        for batch in (1, 64, 512):
            chosen = plan(matrix, batch)
            assert chosen.kernel not in ("dense", "pair")
            assert {"dense", "pair"}.isdisjoint(chosen.expected)


@pytest.mark.parametrize(("side", "there"), [(320, True), (3200, False)])
def test_a_dense_copy_has_its_limits(side, there, favoured):
    favoured("dense")
    matrix = BlockSparse(np.ones((40, 16, 16)), [0] * 20 + [1] * 20, [*range(20)] * 2,
                         shape=(side, side))  # fmt: skip
    assert ("dense" in plan(matrix, 8).expected) == there


# --- Figures. ---


@pytest.mark.parametrize("kernel", PRICES)
@pytest.mark.parametrize("columns", [0, 1, 5, 512])
def test_there_is_a_figure_for_all_that_is_counted(kernel, columns):
    for name in LARGE:
        counts = PRICES[kernel].counts(case(name)[0]._factored.work, columns)
        assert len(counts) == len(SHIPPED[kernel])
        assert all(count >= 0 for count in counts)


def test_seconds_are_counts_times_figures(monkeypatch):
    work = case("runs")[0]._factored.work
    told = {n: [float(i + 1) for i in range(len(SHIPPED[n]))] for n in SHIPPED}
    monkeypatch.setattr(table.KERNELS, "coefficients", lambda: told)
    for kernel, price in PRICES.items():
        expected = np.dot(price.counts(work, 7), told[kernel]) * 1e-9
        assert case("runs")[0]._factored.expected(7)[kernel] == pytest.approx(expected)


def told(value=1.0, **other):
    return {**{name: [value] * len(SHIPPED[name]) for name in SHIPPED}, **other}


BROKEN = {
    "empty": b"",
    "cut short": json.dumps({"figures": told()}).encode()[:-20],
    "not text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "nothing in it": b"{}",
    "no kernel in it": b'{"figures": {}}',
    "a kernel too few": {n: x for n, x in told().items() if n != "tiles"},
    "a figure too few": told(tiles=[1.0]),
    "a figure too many": told(tiles=[1.0] * 20),
    "no figures": told(tiles=None),
    "words": told(tiles=["fast"] * 7),
    "no numbers": told(float("nan")),
    "without end": told(float("inf")),
    "below zero": told(-1.0),
    "too large": told(10**400),
    "deeper than can be read": b"[" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_that_do_not_hold_figures_are_ignored(what, user_cache):
    path = coefficients_file()
    path.parent.mkdir(parents=True)
    text = BROKEN[what]
    path.write_bytes(text if isinstance(text, bytes) else json.dumps({"figures": text}).encode())
    assert table.KERNELS.coefficients() == SHIPPED
    matrix, twin = case("runs")
    check_products(matrix, twin)
    assert plan(matrix, 8).seconds > 0


def test_a_folder_in_the_place_of_the_file_is_ignored(user_cache):
    coefficients_file().mkdir(parents=True)
    assert table.KERNELS.coefficients() == SHIPPED


def test_kept_figures_are_used_here_and_by_later_processes(user_cache, monkeypatch):
    assert table.KERNELS.coefficients() == SHIPPED
    measured = told(1e6, pair=[0.0] * len(SHIPPED["pair"]))
    path = keep(measured)
    assert path == coefficients_file()
    assert path.is_relative_to(user_cache)
    assert table.KERNELS.coefficients() == measured
    assert plan(case("runs")[0], 8).kernel == "pair"
    code = (
        "from structmat.kernels.choice.table import KERNELS; print(KERNELS.coefficients()['pair'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == measured["pair"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    path.unlink()
    forget()
    assert table.KERNELS.coefficients() == SHIPPED


def test_figures_are_kept_whole_or_not_at_all(user_cache, monkeypatch):
    keep(told(2.0))
    before = coefficients_file().read_bytes()

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    for owner, step in ((Path, "write_text"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, fails)
            with pytest.raises(SaveError, match="No space left"):
                keep(told(3.0))
        assert coefficients_file().read_bytes() == before
        assert len(list(coefficients_file().parent.iterdir())) == 1
        assert table.KERNELS.coefficients() == told(2.0)


def test_figures_that_cannot_be_kept_say_where(user_cache, monkeypatch):
    (user_cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(user_cache / "file"))
    with pytest.raises(SaveError, match=r"cannot write .*file.*choose a folder"):
        keep(told())


def test_figures_lie_in_the_users_cache(user_cache, monkeypatch):
    assert coefficients_file().parent == user_cache / "structmat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(user_cache / "home"))
    assert coefficients_file().parent == user_cache / "home" / ".cache" / "structmat"


# --- Calibration. ---


@pytest.fixture
def quick(monkeypatch):
    """A calibration that takes no time worth mentioning."""
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(calibration, "_COLUMNS", (1, 5))
    return partial(calibrate, sizes=(64,))


def test_calibration_measures_every_kernel(quick, user_cache):
    said = []
    measured, errors = quick(progress=said.append)
    assert list(measured) == list(PRICES) == list(errors)
    for name, found in measured.items():
        assert len(found) == len(SHIPPED[name])
        assert all(np.isfinite(x) and x >= 0 for x in found)
        assert any(found)
        assert errors[name] >= 0
    assert said == sorted(said)
    assert said[-1] == 1
    assert len(said) >= 6
    assert not list(user_cache.iterdir()), "measuring keeps nothing by itself"
    keep(measured)
    assert table.KERNELS.coefficients() == measured


def test_kernels_that_are_not_here_keep_their_figures(quick, user_cache, without_numba):
    keep(told(3.0))
    measured, errors = quick()
    assert set(errors) == {"dense", "pair", "panels", "rows"}
    assert measured["tiles"] == [3.0] * len(SHIPPED["tiles"])
    assert measured["panels"] != [3.0] * len(SHIPPED["panels"])


def test_figures_are_found_from_times(rng):
    figures = [1500.0, 0.25, 0.0, 3.0]
    features = [tuple(row) for row in rng.uniform(1, 1e4, (40, 4))]
    samples = [(f, 1e-9 * float(np.dot(f, figures))) for f in features]
    found, error = calibration._fitted(samples)
    np.testing.assert_allclose(found, figures, rtol=2e-3, atol=1e-6)
    assert error < 1e-9
    _, error = calibration._fitted([(f, t * (1 + 0.2 * (-1) ** i)) for i, (f, t) in
                                    enumerate(samples)])  # fmt: skip
    assert 0.1 < error < 0.3


def test_times_are_those_of_the_call(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: clock[0])
    durations = iter([9.0, *[0.001] * 30])  # the first call prepares

    def call():
        clock[0] += next(durations)

    assert calibration.seconds(call) == pytest.approx(0.001)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_calibrate_on_the_command_line(words, quick, user_cache, capsys, monkeypatch):
    layers = {"cpu": {"figures": [1.0] * 12, "error": 0.25}}
    monkeypatch.setattr("structmat.cli._calibrate._layers", {"cpu": layers}.__getitem__)
    monkeypatch.setattr("structmat.cli._calibrate.calibrate", quick)
    assert main(["calibrate", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = coefficients_file()
    kept = json.loads(path.read_text())["figures"]
    assert table.KERNELS.coefficients() == kept
    assert str(path) in out
    if words:
        report = json.loads(out)
        assert report["file"] == str(path)
        assert report["figures"] == kept
        assert set(report["errors"]) == set(PRICES)
        assert report["layers"] == layers
    else:
        assert "25 %" in out
        assert all(name in out for name in PRICES)
        assert "delete the file" in out


def test_calibrate_says_where_it_cannot_keep_figures(quick, user_cache, capsys, monkeypatch):
    monkeypatch.setattr("structmat.cli._calibrate.calibrate", quick)
    (user_cache / "structmat").write_text("a file in the folder's place")
    assert main(["calibrate"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("structmat: cannot write")


def test_the_suite_leaves_the_users_cache_alone():
    home = Path.home() / ".cache" / "structmat"
    assert home not in coefficients_file().parents
    assert "structmat-tests-" in str(coefficients_file())
    assert issubclass(SaveError, StructmatError)


def test_a_long_matrix_is_written_out_from_its_short_side():
    B = BlockSparse(np.ones((10, 1, 20_000)), [0] * 10, range(10), shape=(1, 200_000))
    with using("dense"):
        np.testing.assert_allclose(B @ np.ones(200_000), [200_000])
        assert B.rmatvec(np.ones(1)).shape == (200_000,)


def test_dense_copies_are_for_what_blas_multiplies():
    matrix, _ = case("runs", "float32")
    assert set(plan(matrix.astype("float16")).expected) <= {"panels"}


@pytest.mark.parametrize("thing", [3, "a", np.ones((3, 3))])
def test_what_is_no_matrix_has_no_plan(thing):
    with pytest.raises(InputError, match=r"expected a StructuredMatrix.*Dense"):
        plan(thing)


def test_a_name_is_a_text():
    with pytest.raises(InputError, match="expected one of"):
        plan(case("runs")[0], kernel=["a"])


def test_a_package_that_does_not_import_counts_as_absent(monkeypatch):
    def refuse(name):
        raise ImportError("needs an older NumPy")

    matrix, twin = case("runs")
    monkeypatch.setattr(record, "_PRESENT", {"numba"})
    monkeypatch.setattr(record, "_IMPORTED", set())
    monkeypatch.setattr(record.importlib, "import_module", refuse)
    x = np.ones((matrix.shape[1], 9))
    with pytest.warns(RuntimeWarning, match="older NumPy"):
        assert not record.imports("numba")
    np.testing.assert_allclose(matrix @ x, twin @ x)
    assert not {"vectors", "tiles"} & set(plan(matrix, 9).expected)
    with pytest.raises(MissingDependencyError, match="fast"):
        plan(matrix, 9, kernel="tiles")


def test_orders_around_a_matrix_leave_its_plan(rng, user_cache):
    """Frozen layers whose orders were learned."""
    matrix = BlockSparse(rng.standard_normal((6, 16, 16)), range(6), range(6), shape=(96, 96))
    rows, cols = (Permutation(rng.permutation(96)) for _ in range(2))
    inside, X = plan(matrix, 64), rng.standard_normal((96, 64))
    for ordered in (rows @ matrix @ cols, rows @ matrix, matrix @ cols):
        found = plan(ordered, 64)
        assert (found.kernel, found.seconds) == (inside.kernel, inside.seconds)
        np.testing.assert_allclose(found.multiply(X), ordered.to_dense() @ X, atol=1e-12)
    assert plan(matrix @ matrix, 64).kernel == "direct"
