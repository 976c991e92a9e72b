"""Compiled kernels against dense products: layouts, tails, memory, NaN, threads, forks."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patterns import PATTERNS, any_pattern, dense, draw, random_runs, stacked, total

pytest.importorskip("numba")

from structmat._array import namespace
from structmat.errors import InputError
from structmat.kernels.bound import Chain
from structmat.kernels.cpu import columns as cpu_panels
from structmat.kernels.cpu import crew, llvm, row_groups, threads, vector_steps
from structmat.kernels.cpu import vectors as cpu
from structmat.kernels.cpu.column_loops import ROWS, collect_columns, column_group, spread_columns
from structmat.kernels.cpu.copies import load_columns, store_columns
from structmat.kernels.cpu.llvm import VECTOR_BYTES
from structmat.kernels.cpu.row_groups import RowGroups, aligned
from structmat.kernels.cpu.vector_loops import register_rows
from structmat.kernels.cpu.vector_steps import multiply_vectors
from structmat.kernels.cpu.vectors import (
    TileFactor,
    TileProduct,
    VectorFactor,
    VectorProduct,
    factor_of,
    tile_product,
    vector_product,
)
from structmat.kernels.layouts.factors import FactorStructure

REAL, DTYPES = ("float32", "float64"), ("float32", "float64", "complex64", "complex128")
HERE = Path(__file__).parent


def operand(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def check(found, matrix, x):
    """A product against the one in double; sums may be off by their terms' sizes."""
    wide = np.result_type(matrix.dtype, np.float64)
    exact = matrix.astype(wide) @ x.astype(wide)
    terms = abs(matrix).astype(float) @ abs(x).astype(float)
    assert (found.shape, found.dtype) == (exact.shape, x.dtype)
    bound = 8 * np.finfo(x.dtype).eps * np.sqrt(matrix.shape[1] + 1) * terms
    assert (abs(found - exact) <= bound).all()


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    array = np.frombuffer(memory, x.dtype, offset=1).reshape(x.shape)
    array[...] = x
    assert not array.flags.aligned or not x.size
    return array


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def sliced(x, steps=(3, 2)):
    """Every third row and second column of an array of NaN."""
    rows, columns = (abs(step) * n + 5 for step, n in zip(steps, x.shape, strict=True))
    big = np.full((rows, columns), np.nan, x.dtype)
    view = big[2 : 2 + abs(steps[0]) * x.shape[0] : abs(steps[0])]
    view = view[:, 1 : 1 + abs(steps[1]) * x.shape[1] : abs(steps[1])]
    view = view[:: np.sign(steps[0]), :: np.sign(steps[1])]
    view[...] = x
    return view


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "sliced": sliced,
    "rows of more": lambda x: sliced(x, (1, 1)),
    "columns of more": lambda x: sliced(x.T, (1, 1)).T,
    "every second row": lambda x: sliced(x, (2, 1)),
    "every second number of columns": lambda x: sliced(x.T, (1, 2)).T,
    "backwards": lambda x: sliced(x, (-1, -1)),
    "columns backwards": lambda x: sliced(x, (2, -1)),
    "columns upside down": lambda x: sliced(x.T, (1, -1)).T,
    "read-only": read_only,
    "unaligned": unaligned,
    "unaligned columns": lambda x: unaligned(x.T).T,
}


@pytest.mark.parametrize("kind", [VectorFactor, TileFactor])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PATTERNS)
def test_factors_against_dense(name, dtype, kind, rng):
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    S, factor = dense(pattern, contents), factor_of(kind, pattern, contents)
    adjoint = S.conj().T
    assert factor.matmat(np.zeros((S.shape[1], 0), dtype)).shape == (S.shape[0], 0)
    for k in (1, 3, 40):
        z, y = operand(rng, (S.shape[1], k), dtype), operand(rng, (S.shape[0], k), dtype)
        given = z.copy()
        for layout in LAYOUTS.values():
            check(factor.matmat(layout(z)), S, z)
            check(factor.rmatmat(layout(y)), adjoint, y)
        np.testing.assert_array_equal(z, given)
        left, right = np.sum(y.conj() * factor.matmat(z)), np.sum(factor.rmatmat(y).conj() * z)
        scale = np.sum(abs(y) * (abs(S) @ abs(z))) + 1e-30
        assert abs(left - right) <= 64 * np.finfo(dtype).eps * scale


@given(any_pattern, st.sampled_from(DTYPES), st.integers(1, 70), st.integers(0, 2**32))
def test_any_factor_against_dense(pattern, dtype, k, seed):
    contents, rng = draw(pattern, dtype, seed), np.random.default_rng(seed)
    S = dense(pattern, contents)
    for kind in (VectorFactor, TileFactor):
        factor = factor_of(kind, pattern, contents)
        z, y = operand(rng, (S.shape[1], k), dtype), operand(rng, (S.shape[0], k), dtype)
        check(factor.matmat(z), S, z)
        check(factor.rmatmat(y), S.conj().T, y)


@pytest.mark.parametrize("dtype", REAL)
def test_every_number_of_columns(dtype, rng):
    pattern = random_runs(61, 47, 40)
    contents = draw(pattern, dtype)
    S, factor = dense(pattern, contents), TileFactor(pattern, contents)
    for k in range(131):
        z, y = operand(rng, (47, k), dtype), operand(rng, (61, k), dtype)
        for by_columns in (False, True):
            found = factor.matmat(z, by_columns=by_columns)
            assert found.flags.f_contiguous if by_columns else found.flags.c_contiguous
            check(found, S, z)
        check(factor.rmatmat(y), S.T, y)
        check(factor.matmat(np.asfortranarray(z)), S, z)
        check(factor.rmatmat(np.asfortranarray(y)), S.T, y)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("columns", [*range(1, 40), 63, 64, 65, 1000])
def test_panels_are_as_narrow_as_they_can_be(columns, dtype):
    vectors, width = column_group(columns, np.dtype(dtype))
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    widest = column_group(10**6, np.dtype(dtype))[0]
    assert width == vectors * lanes
    assert width >= columns or vectors == widest
    assert vectors == 1 or width // 2 < columns


def products(dtype, kind=TileProduct):
    """Products of two factors, each with its dense twin: R C^T, and R [C^T; I]."""
    factor = {TileProduct: TileFactor, VectorProduct: VectorFactor}[kind]
    C = random_runs(83, 29, 50, seed=1)
    R = random_runs(70, 29, 50, seed=2)
    wide = stacked([40, 30], [(0, range(29)), (1, [0, 5]), (1, range(40, 112))], 29 + 83)
    for row, through in ((R, False), (wide, True)):
        u, v = draw(row, dtype, 3), draw(C, dtype, 4)
        made = kind(factor(row, u), factor(C, v), through=through)
        A = dense(row, u)
        passed = A[:, 29:] if through else np.zeros((70, 83), dtype)
        yield made, A[:, :29] @ dense(C, v).T + passed


@pytest.mark.parametrize("kind", [TileProduct, VectorProduct])
@pytest.mark.parametrize("dtype", REAL)
def test_both_factors_at_once(dtype, kind, rng):
    for product, A in products(dtype, kind):
        for k in (1, 15, 40, 64, 131):
            x, y = operand(rng, (83, k), dtype), operand(rng, (70, k), dtype)
            for layout in LAYOUTS.values():
                for by_columns in (False, True):
                    in_columns = by_columns or kind is VectorProduct
                    found = product.multiply(layout(x), by_columns=by_columns)
                    assert found.flags.f_contiguous if in_columns else found.flags.c_contiguous
                    np.testing.assert_allclose(found, A @ x, rtol=1e-4, atol=1e-4)
                    found = product.multiply_adjoint(layout(y), by_columns=by_columns)
                    assert found.flags.f_contiguous if in_columns else found.flags.c_contiguous
                    np.testing.assert_allclose(found, A.T @ y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [tile_product, vector_product])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_only_real_factors_go_together(dtype, make):
    together = TileProduct if make is tile_product else VectorProduct
    pattern, xp = PATTERNS["runs"], namespace(np.zeros(0))
    contents = draw(pattern, dtype)
    S = dense(pattern, contents)
    for col, A in ((None, S), (pattern, S @ S.conj().T)):
        structure = FactorStructure(pattern, col, xp, "cpu")
        made = make(structure, [contents] * len(structure.patterns))
        assert type(made) is (together if dtype == "float32" else Chain)
        x = np.ones((A.shape[1], 3), dtype)
        np.testing.assert_allclose(made.multiply(x, by_columns=False), A @ x, rtol=1e-4, atol=1e-4)


# --- What may be written and read. ---


def poison(shape, dtype, margin=67):
    """An aligned array of NaN in the middle of a longer one of sevens, and that one."""
    size = int(np.prod(shape))
    memory = aligned((size + 2 * margin * 16,), dtype)
    memory[:] = 7
    inner = memory[margin * 16 : margin * 16 + size].reshape(shape)
    inner[...] = np.nan
    return inner, memory


def untouched(memory, inner):
    """Whether all that lies around an array from `poison` is as it was."""
    before = (inner.ctypes.data - memory.ctypes.data) // memory.itemsize
    around = np.delete(memory, slice(before, before + inner.size))
    return (around == 7).all()


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("layout", [n for n in LAYOUTS if not n.startswith("unaligned")])
def test_copies_write_their_places_and_no_others(layout, dtype, rng):
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    for rows in (0, 1, lanes - 1, lanes, 2 * lanes + 3):
        for columns in (1, lanes - 1, lanes, 3 * lanes + 1, 4 * lanes):
            x = LAYOUTS[layout](operand(rng, (rows, columns), dtype))
            panel, memory = poison((rows + 2, 4 * lanes), dtype)
            load_columns(x.ctypes.data, *x.strides, rows, columns, panel, lanes)
            assert untouched(memory, panel)
            np.testing.assert_array_equal(panel[:rows, :columns], x)
            assert not panel[rows:].any()
            assert not panel[:, columns:].any()
            if not x.flags.writeable:
                continue
            base = x
            while base.base is not None:
                base = base.base
            base[...] = 7
            panel[...] = operand(rng, panel.shape, dtype)
            store_columns(panel, x.ctypes.data, *x.strides, rows, columns, lanes)
            np.testing.assert_array_equal(x, panel[:rows, :columns])
            x[...] = 7
            assert (base == 7).all()


@pytest.mark.parametrize("vectors", [4, 2, 1])
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", PATTERNS)
def test_panel_kernels_write_their_places_and_no_others(name, dtype, vectors, rng):
    width = vectors * VECTOR_BYTES // np.dtype(dtype).itemsize
    if vectors > column_group(10**6, np.dtype(dtype))[0]:
        pytest.skip("more registers than a panel takes on this processor")
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    S, groups = dense(pattern, contents), RowGroups.of(pattern, ROWS, contents.size)
    arrays = groups.begin, groups.rows, groups.ptr, groups.column, groups.filled(contents)
    middle, around_middle = poison((S.shape[1] + 1, width), dtype)
    wide, around_outer = poison((S.shape[0], width + 3), dtype)
    outer = wide[:, 1 : width + 1]
    place = outer.ctypes.data, outer.strides[0], vectors

    middle[:-1] = z = operand(rng, (S.shape[1], width), dtype)
    spread_columns(*arrays, middle, *place)
    check(outer, S, z)
    np.testing.assert_array_equal(middle[:-1], z)
    assert np.isnan(wide[:, [0, -2, -1]]).all()

    outer[...] = y = operand(rng, (S.shape[0], width), dtype)
    middle[...] = np.nan
    collect_columns(*arrays, middle, *place)
    check(middle[:-1], S.T, y)
    np.testing.assert_array_equal(outer, y)
    assert untouched(around_middle, middle)
    assert untouched(around_outer, wide)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", PATTERNS)
def test_vector_kernels_write_their_results_and_nothing_else(name, dtype, rng):
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    S, factor = dense(pattern, contents), VectorFactor(pattern, contents)
    for k in (1, 3):
        for steps, T in (((0, factor.spread.address), S), ((factor.collect.address, 0), S.T)):
            x = operand(rng, (k, T.shape[1]), dtype)
            out, memory = poison((k, T.shape[0]), dtype)
            multiply_vectors(0, 1, *steps, 0, 0, x, out)
            check(out.T, T, x.T)
            assert untouched(memory, out)


def run_alone(*words, timeout=60, **environment):
    """A program in a process of its own."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE), **environment},
        check=False,
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guards pages by Linux's mprotect")
@pytest.mark.parametrize("pairs", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_nothing_is_read_or_written_outside(pairs):
    """Both sides and both precisions by default, and all pairs of them in the slow set."""
    result = run_alone("guarded_pages.py", pairs)
    assert result.stdout == "all products stayed inside\n", result.stderr
    # The last thing that it does is to step over a guard on purpose.
    assert result.returncode == -signal.SIGSEGV


class Poisoned:
    """NumPy, but that new arrays hold NaN."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PATTERNS)
def test_no_result_depends_on_what_memory_held(name, dtype, rng, monkeypatch):
    monkeypatch.setattr(cpu, "np", Poisoned())
    monkeypatch.setattr(cpu_panels, "np", Poisoned())
    for module in (row_groups, cpu_panels):
        monkeypatch.setattr(module, "aligned", lambda shape, dtype: poison(shape, dtype)[0])
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    S = dense(pattern, contents)
    for kind in (VectorFactor, TileFactor):
        factor = factor_of(kind, pattern, contents)
        for k in (1, 70):
            z, y = operand(rng, (S.shape[1], k), dtype), operand(rng, (S.shape[0], k), dtype)
            check(factor.matmat(z), S, z)
            check(factor.rmatmat(y), S.conj().T, y)


# --- NaN and infinity. ---


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("kind", [VectorFactor, TileFactor])
@pytest.mark.parametrize("name", [n for n in PATTERNS if total(PATTERNS[n])])
def test_a_number_that_is_none_reaches_what_it_meets_and_neighbours(name, kind, dtype, value):
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    contents[::5] = 0  # stored all the same
    S, factor = dense(pattern, contents), kind(pattern, contents)
    stored = dense(pattern, np.ones(contents.size, bool))
    height = ROWS if kind is TileFactor else register_rows(np.dtype(dtype))
    groups = RowGroups.of(pattern, height, contents.size)
    group = np.repeat(np.arange(groups.rows.size), groups.rows)
    i, j = np.argwhere(stored)[stored.sum() // 2]
    for bad, product, met in (
        (j, factor.matmat, stored[:, j]),
        (i, factor.rmatmat, stored[i]),
    ):
        x = np.ones((S.shape[1] if product == factor.matmat else S.shape[0], 70), dtype)
        x[bad, 68] = value
        found = ~np.isfinite(product(x))
        assert found[met, 68].all()
        assert not np.delete(found, 68, axis=1).any()
        # Only zeros of the same cells multiply it besides.
        forward = product == factor.matmat
        near = np.isin(group, group[met]) if forward else stored[group == group[i]].any(axis=0)
        assert not found[~near, 68].any()


@pytest.mark.parametrize("kind", [VectorFactor, TileFactor])
@pytest.mark.parametrize("name", [n for n in PATTERNS if total(PATTERNS[n])])
def test_a_number_in_the_contents_that_is_none_stays_in_its_row_and_column(name, kind):
    pattern = PATTERNS[name]
    at = np.flatnonzero(dense(pattern, np.arange(1, total(pattern) + 1)).ravel())[0]
    position = dense(pattern, np.arange(1, total(pattern) + 1)).ravel()[at] - 1
    contents = draw(pattern, "float32")
    contents[position] = np.nan
    factor = kind(pattern, contents)
    i, j = np.divmod(at, pattern.shape[1])
    for n, row, product in ((1, i, factor.matmat), (0, j, factor.rmatmat)):
        found = np.isnan(product(np.ones((pattern.shape[n], 20), np.float32)))
        assert found[row].all()
        assert not np.delete(found, row, axis=0).any()


def test_no_panel_hands_its_numbers_on_to_the_next(rng):
    for product, A in products("float32"):
        for factor, x in ((product.multiply, A.shape[1]), (product.multiply_adjoint, A.shape[0])):
            x = operand(rng, (x, 200), "float32")
            clean = factor(x)
            x[:, :64] = np.nan
            np.testing.assert_array_equal(factor(x)[:, 64:], clean[:, 64:])


# --- Threads. ---


@pytest.fixture
def eager(monkeypatch):
    """Threads for the smallest products; the numbers of parts that work was cut into."""
    parts = []

    def counted(work, count, threads_):
        parts.append(min(count, threads_))
        threads.shared_out(work, count, threads_)

    def helped(threads_):
        parts.append(threads_)
        return crew.board_for(threads_)

    monkeypatch.setattr(cpu_panels, "THREAD_MULTIPLICATIONS", 10)
    monkeypatch.setattr(cpu_panels, "shared_out", counted)
    for name, least in (("THREAD_BYTES", 10), ("_PIECE_BYTES", 100)):
        monkeypatch.setattr(cpu, name, least)
    monkeypatch.setattr(cpu, "board_for", helped)
    return parts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in PATTERNS if total(PATTERNS[n])])
def test_results_do_not_depend_on_threads(name, dtype, rng, eager, monkeypatch):
    pattern = PATTERNS[name]
    contents = draw(pattern, dtype)
    z, y = (operand(rng, (n, 330), dtype) for n in pattern.shape[::-1])
    for kind, k in ((VectorFactor, 2), (TileFactor, 330)):
        results = []
        for count in (1, 1, 2, 3):
            monkeypatch.setenv("STRUCTMAT_NUM_THREADS", str(count))
            factor = factor_of(kind, pattern, contents)
            results.append((factor.matmat(z[:, :k]), factor.rmatmat(y[:, :k])))
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)
    assert {1, 3} <= set(eager)


@pytest.mark.parametrize("dtype", REAL)
def test_products_with_helpers_have_the_same_bits(dtype, rng, eager):
    for product, A in products(dtype, VectorProduct):
        x, y = operand(rng, (83, 2), dtype), operand(rng, (70, 2), dtype)
        results = []
        for product.threads in (1, 2, 5, 2, 1) * 20:
            results.append((product.multiply(x), product.multiply_adjoint(y)))
        np.testing.assert_allclose(results[0][0], A @ x, rtol=1e-4, atol=1e-4)
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)
    assert set(eager) == {1, 2, 5}


def test_a_helper_does_what_the_calling_thread_leaves(eager):
    """The task is posted, and the thread that posts it only looks on."""
    pattern = random_runs(61, 47, 40)
    step = VectorFactor(pattern, contents := np.ones(total(pattern))).collect
    y, z = aligned((64,), float), aligned((47,), float)
    y[:] = 1
    task = aligned((64,), np.int64)
    board, threads_ = crew.board_for(2)
    assert threads_ == 2
    for pause in (0, 0.1, 0):  # a helper that watches, then one that sleeps
        time.sleep(pause)
        task[:], z[:] = 0, np.nan
        task[:7] = 8, step.address, 0, y.ctypes.data, z.ctypes.data, 0, 2
        vector_steps._open_task(board, task.ctypes.data, 2)
        deadline = time.monotonic() + 30
        while task[vector_steps._DONE] < step._arrays[-1][4] and time.monotonic() < deadline:
            time.sleep(1e-3)
        vector_steps._close_task(board)
        np.testing.assert_allclose(z, dense(pattern, contents).sum(0))


def test_nothing_is_spread_before_all_is_collected():
    """One piece is taken, and not finished: the thread waits for it."""
    pattern = random_runs(61, 47, 40)
    factor = VectorFactor(pattern, contents := np.ones(total(pattern)))
    collect, spread = factor.collect, factor.spread
    y, z, out = (aligned((64,), float) for _ in range(3))
    task, next_piece = aligned((64,), np.int64), vector_steps._NEXT
    addresses = [array.ctypes.data for array in (y, z, out)]
    for taken in (0, collect._arrays[-1][4]):
        task[:], y[:], z[:], out[:] = 0, 1, np.nan, np.nan
        task[:7] = 8, collect.address, spread.address, *addresses, 1
        task[next_piece] = taken
        if not taken:  # the first call compiles
            vector_steps._take_part(1.0, task.ctypes.data, 0)
            assert not np.isnan(out[:61]).any()
    part = threading.Thread(target=vector_steps._take_part, args=(1.0, task.ctypes.data, 0))
    part.start()
    part.join(0.05)
    assert part.is_alive()
    assert np.isnan(out).all()
    z[:47] = dense(pattern, contents).sum(0)
    task[vector_steps._DONE] = task[next_piece]
    part.join(30)
    np.testing.assert_allclose(out[:61], dense(pattern, contents) @ z[:47])


@pytest.mark.parametrize("count", [1, 3, 8])
def test_gradients_are_right_and_the_same_each_time(count, rng, eager):
    for product, A in products("float32"):
        product.threads = count
        x, grad = operand(rng, (83, 700), "float32"), operand(rng, (70, 700), "float32")
        first = cpu_panels.gradients(product, x, grad, contents=True, operand=True)
        np.testing.assert_allclose(first[0], A.T @ grad, rtol=1e-3, atol=1e-3)
        for _ in range(20):
            again = cpu_panels.gradients(product, x, grad, contents=True, operand=True)
            for a, b in zip(first, again, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 97])
@pytest.mark.parametrize("parts", [1, 2, 3, 8, 200])
def test_work_is_shared_out_once_and_evenly(count, parts):
    done, own = [], threading.get_ident()
    by_others = []

    def work(first, last):
        done.append((first, last))
        by_others.append(threading.get_ident() != own)

    threads.shared_out(work, count, parts)
    assert sorted(i for first, last in done for i in range(first, last)) == list(range(count))
    assert len(done) == max(min(parts, count), 1)
    sizes = [last - first for first, last in done]
    assert max(sizes) - min(sizes) <= 1
    assert by_others.count(False) == 1


@pytest.mark.parametrize("broken", [0, 4])
def test_an_error_in_any_part_is_raised_when_all_have_ended(broken):
    ended = []

    def work(first, last):
        if first == broken:
            raise MemoryError("no room")
        ended.append(first)

    with pytest.raises(MemoryError, match="no room"):
        threads.shared_out(work, 6, 3)
    assert len(ended) == 2


@pytest.fixture
def wishes(monkeypatch):
    """Set or remove what the environment wishes for."""

    def set_to(own, general):
        for name, wish in (("STRUCTMAT_NUM_THREADS", own), ("OMP_NUM_THREADS", general)):
            if wish is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, wish)

    return set_to


@pytest.mark.parametrize(
    ("own", "general", "expected"),
    [("3", "2", 3), (None, "2", 2), ("", "5", 5), (None, "4,2", 4), (None, " 7 ,x", 7)],
)
def test_number_of_threads(own, general, expected, wishes):
    wishes(own, general)
    assert threads.num_threads() == expected


@pytest.mark.parametrize("own", ["0", "-1", "two", "²", "1.5", " "])
def test_a_wish_that_is_no_number_is_refused(own, wishes):
    wishes(own, "2")
    with pytest.raises(InputError, match=r"STRUCTMAT_NUM_THREADS = .*at least 1.*unset"):
        threads.num_threads()


@pytest.mark.parametrize("general", [None, "", "0", "-1", "two", "²", "1.5"])
def test_number_of_threads_by_default(general, wishes, monkeypatch):
    wishes(None, general)
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    assert threads.num_threads() == len(here)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert threads.num_threads() == os.cpu_count()


def test_work_is_done_while_the_interpreter_ends():
    """A thread that outlives the main one still multiplies, with fewer threads."""
    script = """
import threading, time
from structmat.kernels.cpu.threads import shared_out
done = []
def late():
    threading.main_thread().join()
    shared_out(lambda a, b: done.append(range(a, b)), 9, 3)
    print(sorted(i for part in done for i in part))
threading.Thread(target=late).start()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == str(list(range(9))), run.stderr


MANY = """
import sys, threading
import numpy as np
from patterns import dense, draw, random_runs
barrier, wrong = threading.Barrier(6), []
pattern = random_runs(300, 200, 250)
contents = draw(pattern, "float64")
S = dense(pattern, contents)
X = np.random.default_rng(0).standard_normal((200, 700))
Y = np.random.default_rng(0).standard_normal((300, 700))
shared = []

def multiply(number):
    barrier.wait()
    from structmat.kernels.cpu import vectors as cpu
    from structmat.kernels.cpu import columns as cpu_panels
    cpu.THREAD_BYTES = cpu_panels.THREAD_MULTIPLICATIONS = 1000
    with lock:
        if not shared:
            shared.append([kind(pattern, contents) for kind in (cpu.TileFactor, cpu.VectorFactor)])
    for repeat in range(5):
        for factor, k in zip(shared[0], (700, 3)):
            if not np.allclose(factor.matmat(X[:, :k]), S @ X[:, :k]):
                wrong.append(number)
            if not np.allclose(factor.rmatmat(Y[:, :k]), S.T @ Y[:, :k]):
                wrong.append(number)
    ended.append(number)

lock, ended = threading.Lock(), []
sys.setswitchinterval(1e-5)
workers = [threading.Thread(target=multiply, args=(i,)) for i in range(6)]
[w.start() for w in workers]
[w.join() for w in workers]
print(len(ended), wrong)
"""


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_many_threads_multiply_at_once_from_the_first_product_on(compiled, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)} if compiled else {}
    result = run_alone("-c", MANY, STRUCTMAT_NUM_THREADS="3", **cache)
    assert result.stdout == "6 []\n", result.stderr


FORK = """
import multiprocessing, os, warnings
import numpy as np
from patterns import dense, draw, random_runs
from structmat.errors import InputError
from structmat.kernels.cpu import vectors as cpu
from structmat.kernels.cpu import columns as cpu_panels
from structmat.kernels.cpu import llvm, threads
warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads, from Python 3.12 on
cpu.THREAD_BYTES = cpu_panels.THREAD_MULTIPLICATIONS = 1000
pattern = random_runs(300, 200, 250)
contents = draw(pattern, "float64")
S, X = dense(pattern, contents), np.random.default_rng(0).standard_normal((200, 700))
used = []
share, cpu_panels.shared_out = threads.shared_out, lambda *a: (used.append(a[2]), share(*a))
factors = [kind(pattern, contents) for kind in (cpu.TileFactor, cpu.VectorFactor)]

def right():
    wide = [np.allclose(factors[0].matmat(X), S @ X), used[-1] == 3]
    return all([*wide, np.allclose(factors[1].matmat(X[:, :2]), S @ X[:, :2])])

assert right()
child = os.fork()
if child == 0:
    os._exit(0 if right() else 1)
print(os.waitpid(child, 0)[1], right())
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    print(pool.apply(right), pool.apply(right), right())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_child_multiplies_with_threads_of_its_own():
    result = run_alone("-c", FORK, STRUCTMAT_NUM_THREADS="3")
    assert result.stdout == "0 True\nTrue True True\n", result.stderr


def test_kernels_compile_where_nothing_can_be_kept():
    """Numba keeps no code of functions without a file."""
    names = {}
    exec("def twice(x):\n    return 2 * x", names)
    assert llvm.compiled(names["twice"])(4) == 8
