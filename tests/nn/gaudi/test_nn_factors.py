"""Compiled products by moving runs: `run_row_groups`, and Gaudi layers that use them."""

import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")
from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from structmat.kernels.choice import record  # noqa: E402
from structmat.kernels.cpu.run_cells import run_row_groups  # noqa: E402
from structmat.nn import GaudiWeight, gaudi_mask  # noqa: E402
from structmat.nn.gaudi import factors  # noqa: E402

double = torch.float64

# Row groups.


@st.composite
def any_windows(draw):
    """Cyclic runs on n rows, each within a window of its own, or on the whole circle."""
    n, whole = draw(st.integers(1, 50)), draw(st.booleans())
    window = n if whole else draw(st.integers(0, n))
    runs = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, n - 1))
        width = draw(st.one_of(st.sampled_from([0, window]), st.integers(0, window)))
        slot = start if whole else draw(st.integers(0, window - width))
        runs.append((start, width, slot))
    return n, window, whole, runs


def cells_of(n, window, whole, runs, height):
    start, width, slot = np.array(runs, np.int64).reshape(-1, 3).T.copy()
    total = len(runs) * window
    first = np.arange(len(runs)) * window + slot
    like = np.empty(0, np.int64)
    return total, run_row_groups(start, width, first, n, height, total, whole, like)


def placed(n, groups, columns, total):
    """Places of all entries by the row groups, as a dense array."""
    begin, rows, ptr, column, entries = groups
    found = np.full((n, columns), total)
    for s in range(begin.size):
        for c in range(ptr[s], ptr[s + 1]):
            assert (entries[c] < total).any(), "an empty cell"
            assert (entries[c, rows[s] :] == total).all(), "contents below the group"
            place = found[begin[s] : begin[s] + rows[s], column[c]]
            assert (place == total).all(), "two cells of one column"
            place[:] = entries[c, : rows[s]]
    return found


@given(any_windows(), st.sampled_from([1, 2, 6, 16]))
@example((7, 7, True, [(5, 7, 5), (0, 7, 0), (6, 3, 6), (3, 0, 3)]), 6)
@example((12, 9, False, [(11, 9, 0), (7, 6, 3), (0, 0, 9), (4, 9, 0)]), 6)
@example((12, 12, False, [(5, 12, 0), (6, 12, 0)]), 6)
@example((1, 1, True, [(0, 1, 0)]), 6)
def test_row_groups_of_windows(case, height):
    n, window, whole, runs = case
    total, groups = cells_of(*case, height)
    wanted = np.full((n, len(runs)), total)
    for k, (start, width, slot) in enumerate(runs):
        for i in range(width):
            inside = (slot + i) % n if whole else slot + i
            wanted[(start + i) % n, k] = k * window + inside
    np.testing.assert_array_equal(placed(n, groups, len(runs), total), wanted)
    begin, rows, ptr, column, entries = groups
    assert begin.tolist() == list(range(0, n, height))
    assert (begin + rows).tolist() == [*begin[1:], n]
    assert (ptr[0], ptr[-1]) == (0, len(column))
    assert column.dtype == np.int32
    assert entries.shape == (len(column), height)


# Layers.


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def compiled(monkeypatch):
    """How often compiled kernels were made."""
    made, make = [], factors._compiled
    monkeypatch.setattr(factors, "_compiled", lambda *args: made.append(args) or make(*args))
    return made


def weight_of(shape=(256, 300), num_blocks=40, *, width=0.1, **options):
    """Runs that wrap on either side, one without rows, one without columns, and a whole one."""
    options = {"width_init": width, "dtype": double, "product": "factors"} | options
    weight = GaudiWeight(shape, num_blocks=num_blocks, **options)
    with torch.no_grad():
        structure = weight.structure
        structure.row_width[0] = structure.col_width[1] = 0.0
        structure.row_location[2:4], structure.col_location[3:5] = 0.97, 0.99
        structure.row_location[5], structure.col_location[5] = -0.01, 1.02
        if weight.max_width == weight.shape:
            structure.row_width[6] = structure.col_width[7] = 1.0
    return weight


def truth(weight):
    """Σ_k (u_k ∘ mask_k) (v_k ∘ mask_k)^T under full masks of whole samples."""
    samples, structure, sides = weight.sides(), weight.structure, []
    for name, n, contents, side in zip(
        ("row", "col"), weight.shape, (weight.u, weight.v), samples, strict=True
    ):
        # Whole samples, with the gradients of what was rounded.
        runs = [
            given + (whole / n - given).detach()
            for given, whole in zip(
                (getattr(structure, f"{name}_{part}") for part in ("width", "location")),
                (side.width, side.start),
                strict=True,
            )
        ]
        sigma = weight.sigma if weight.training else math.inf
        sides.append(contents * gaudi_mask(*runs, n, sigma=sigma)[:, None].to(contents))
    return torch.einsum("krm,krn->mn", *sides)


def gradients(y, weight, x):
    """Of one scalar function of y: by name, the operand's included."""
    inputs = {**dict(weight.named_parameters()), "x": x}
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((y * upstream).sum(), list(inputs.values()))
    return dict(zip(inputs, found, strict=True))


def error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def allowed(name, sigma):
    """What margins beside a run leave out: more of a derivative by a run than of a mask."""
    if "structure" in name and sigma >= 100:
        return 0.25
    return 1e-12 if sigma == math.inf else 1e-3


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("sigma", [1.0, 10.0, 100.0, math.inf])
@pytest.mark.parametrize("granularity", [1, 8])
def test_products_and_gradients_on_whole_circles(rank, sigma, granularity, compiled):
    weight = weight_of(rank=rank, sigma=sigma, granularity=granularity)
    x = torch.randn(2, 33, 300, dtype=double, requires_grad=True)
    y, expected = weight(x), x @ truth(weight).T
    assert compiled
    assert error(y, expected) <= (1e-12 if sigma in (1.0, math.inf) else 2e-3)
    wanted = gradients(expected, weight, x)
    found = gradients(y, weight, x)
    assert len(compiled) == 2
    errors = {name: error(found[name], wanted[name]) for name in wanted}
    assert all(e <= allowed(name, sigma) for name, e in errors.items()), errors
    weight.eval()
    assert error(weight(x), x @ truth(weight).T) <= 1e-12


def both(weight, x, monkeypatch):
    """Results and gradients with Numba and without it."""
    results = []
    for present in (record._PRESENT, set()):
        monkeypatch.setattr(record, "_PRESENT", present)
        y = weight(x)
        results.append({"y": y.detach(), **gradients(y, weight, x)})
    return results


@pytest.mark.parametrize("sigma", [10.0, 100.0, math.inf])
@pytest.mark.parametrize("granularity", [1, 8])
@pytest.mark.parametrize("max_width", [48, 88])
@pytest.mark.parametrize("rank", [1, 2])
def test_windows(sigma, granularity, max_width, rank, compiled, monkeypatch):
    """On windows nothing is stored beside them: what panels find there is what there is."""
    options = {"rank": rank, "sigma": sigma, "granularity": granularity}
    weight = weight_of(max_width=max_width, **options)
    assert weight.u.shape == (40, rank, max_width)
    x = torch.randn(65, 300, dtype=double, requires_grad=True)
    ours, panels = both(weight, x, monkeypatch)
    assert len(compiled) == 2
    for name, wanted in panels.items():
        assert error(ours[name], wanted) <= max(1e-9, allowed(name, sigma)), name
    weight.eval()
    monkeypatch.undo()
    dense = torch.from_numpy(weight.to_matrix().to("numpy").to_dense())
    assert error(weight(x), x @ dense.T) <= 1e-12


@pytest.mark.parametrize("tokens", [0, 1, 3, 64, 65, 130])
@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_any_number_of_vectors_without_numba_or_with_it(tokens, dtype, compiled, monkeypatch):
    weight = weight_of(sigma=20.0, dtype=dtype)
    x = torch.randn(tokens, 300, dtype=dtype, requires_grad=True)
    ours, panels = both(weight, x, monkeypatch)
    assert len(compiled) == 2
    for name, wanted in panels.items():
        assert ours[name].dtype == wanted.dtype, name
        assert error(ours[name], wanted) <= (1e-3 if tokens else 0), name


def test_gradients_of_contents_without_that_of_the_operand(compiled):
    weight = weight_of(sigma=10.0)
    x = torch.randn(65, 300, dtype=double)
    results = []
    for operand in (x, x.clone().requires_grad_()):
        y = weight(operand)
        results.append(torch.autograd.grad(y.square().sum(), [weight.u, weight.v]))
    assert len(compiled) == 4
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_gradients_of_expanded_and_transposed_gradients(compiled):
    weight = weight_of(sigma=math.inf)
    x = torch.randn(300, 65, dtype=double).T.requires_grad_()
    for way in (lambda y: y.sum(), lambda y: (y.T @ torch.ones(65, 2, dtype=double)).sum()):
        (found,) = torch.autograd.grad(way(weight(x)), x)
        (wanted,) = torch.autograd.grad(way(x @ truth(weight).T), x)
        assert error(found, wanted) <= 1e-12
    negated = torch.complex(x, x).conj().imag
    assert error(weight(negated), -x @ truth(weight).T) <= 1e-12
    assert compiled


def test_other_types_are_left_to_panels(compiled):
    weight = weight_of(sigma=math.inf, dtype=torch.float32)
    x = torch.randn(33, 300)
    with torch.autocast("cpu", torch.bfloat16):
        y = weight(x)
    assert y.dtype == torch.bfloat16
    assert error(y.float(), x @ truth(weight).T) <= 2e-2
    half = weight.to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert half(x.bfloat16()).dtype == torch.bfloat16
    assert not compiled


@pytest.mark.parametrize("shape", [(255, 400), (400, 255)])
def test_short_axes_are_left_to_panels(shape, compiled):
    weight = weight_of(shape)
    weight(torch.randn(3, shape[1], dtype=double)).sum().backward()
    assert not compiled


def test_a_step_moves_the_row_groups(compiled):
    """Nothing is kept from one product to the next."""
    weight = weight_of(sigma=math.inf)
    optimizer = torch.optim.SGD(weight.parameters(), lr=1e-2)
    x = torch.randn(65, 300, dtype=double)
    for _ in range(3):
        before = weight.structure.row_width.detach().clone()
        y = weight(x)
        assert error(y, x @ truth(weight).T) <= 1e-12
        optimizer.zero_grad()
        y.square().mean().backward()
        optimizer.step()
        assert not torch.equal(before, weight.structure.row_width)


def test_threads_give_the_same_gradients(monkeypatch):
    monkeypatch.setattr("structmat.kernels.cpu.columns.THREAD_MULTIPLICATIONS", 1000)
    weight = weight_of(sigma=10.0)
    x = torch.randn(700, 300, dtype=double, requires_grad=True)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 1, 5, 5, 5):
            torch.set_num_threads(count)
            y = weight(x)
            results.append({"y": y.detach(), **gradients(y, weight, x)})
    finally:
        torch.set_num_threads(before)
    for name, first in results[0].items():
        assert torch.equal(results[1][name], first)
        for result in results[3:]:
            assert torch.equal(results[2][name], result[name]), name
        assert error(results[2][name], first) <= 1e-12
