"""Triton's kernels for lines under its interpreter, on a CPU.

`test_kernels_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1:
Triton reads it when it is imported. bfloat16 is left to GPUs, since the interpreter gets
it wrong.
"""

import numpy as np
import pytest
import torch
from patterns import PATTERNS, dense, draw, random_runs, runs, total

from structmat.kernels.layouts.lines import lines_of, run_lines
from structmat.kernels.triton import line_kernels, lines
from structmat.kernels.triton.lines import LineFactor

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def vectors(rng, count, size, dtype, order="rows"):
    """Random vectors amid NaN, one after another or interleaved."""
    around = torch.full((count + 3, size + 2), torch.nan, dtype=dtype)
    around = around if order == "rows" else around.T.contiguous().T
    inside = around[1 : 1 + count, 1 : 1 + size]
    inside.copy_(torch.from_numpy(rng.standard_normal((count, size))))
    return inside


def both(factor, contents, scale, x, z):
    """Sums along the lines and across them."""
    sizes = factor.sizes(along=True)[1:]
    along = line_kernels.dot(x, contents, scale, factor.parts, sizes, x.dtype)
    return along, line_kernels.add(z, contents, scale, factor.parts, sizes, x.dtype)


def check(found, truth, dtype):
    assert found.shape == truth.shape
    assert found.dtype == dtype
    worst = truth.abs().max() if truth.numel() else 1
    assert ((found - truth).abs() <= TOLERANCE[dtype] * (1 + worst)).all()


def check_pattern(rng, pattern, dtype, count, order="rows"):
    contents = torch.from_numpy(draw(pattern, "float64")).to(dtype)
    twin = torch.from_numpy(dense(pattern, contents.double().numpy()))
    layout, by_columns = lines_of(pattern, total(pattern))
    twin = twin if by_columns else twin.T  # positions on the lines, then lines
    x, z = (vectors(rng, count, size, dtype, order) for size in twin.shape)
    # What lies around the contents is no part of a result.
    around = contents.new_full((8,), torch.nan)
    given = torch.cat([around, contents, around])[8:-8]
    along, across = both(LineFactor(layout, "cpu"), given, None, x, z)
    check(along, x.double() @ twin, dtype)
    check(across, z.double() @ twin.T, dtype)


@pytest.mark.parametrize("name", PATTERNS)
def test_products_of_every_pattern(rng, name):
    check_pattern(rng, PATTERNS[name], torch.float32, 1)


@dtypes
@pytest.mark.parametrize("name", ["runs-full", "blocks-ragged", "stacked"])
def test_several_vectors(rng, name, dtype):
    check_pattern(rng, PATTERNS[name], dtype, 3)


@dtypes
@pytest.mark.parametrize(
    ("count", "order"),
    [(0, "rows"), (1, "columns"), (2, "columns"), (16, "rows"), (17, "rows")],
)
def test_numbers_of_vectors(rng, dtype, count, order):
    check_pattern(rng, PATTERNS["runs-around"], dtype, count, order)


@pytest.mark.parametrize("count", [1, 3])
def test_wide_reads(rng, count):
    pattern = runs([0, 8, 48, 56], [16, 64, 24, 0], 64)
    layout, _ = lines_of(pattern, total(pattern))
    assert layout.grain == 8
    assert lines_of(PATTERNS["runs"], total(PATTERNS["runs"]))[0].grain == 1
    check_pattern(rng, pattern, torch.float32, count)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("last", [64, 67, 71])
def test_wide_reads_that_begin_before_a_piece(rng, monkeypatch, count, last):
    monkeypatch.setattr(line_kernels, "_LEAST_SHIFTED", 2)
    check_pattern(rng, runs([3, 90, 0, 11], [5, 60, 1, last], 97), torch.float32, count)


@pytest.mark.parametrize("count", [1, 5])
def test_shares_of_the_pieces(rng, monkeypatch, count):
    monkeypatch.setattr(line_kernels, "_LEAST_PIECES", 20)
    assert line_kernels.add_shares(4, 4 * 50) == 2
    check_pattern(rng, random_runs(97, 150, 97, seed=3), torch.float32, count)


@pytest.mark.parametrize("count", [1, 3])
def test_lines_of_several_pieces_and_their_scale(rng, count):
    start, width = np.array([5, 0, 18, 7, 3]), np.array([9, 0, 6, 20, 1])
    of = np.array([2, 1, 2, 0, 2])
    contents = torch.from_numpy(rng.standard_normal(36)).float()
    scale = torch.from_numpy(rng.standard_normal(5)).float()
    twin, at = torch.zeros(20, 4, dtype=torch.float64), 0
    for k in range(5):
        for i in range(width[k]):
            twin[(start[k] + i) % 20, of[k]] += float(contents[at] * scale[k])
            at += 1
    factor = LineFactor(run_lines(start, width, 20, line=of, lines=4), "cpu")
    x, z = vectors(rng, count, 20, torch.float32), vectors(rng, count, 4, torch.float32)
    along, across = both(factor, contents, scale, x, z)
    check(along, x.double() @ twin, torch.float32)
    check(across, z.double() @ twin.T, torch.float32)


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of the interpreter
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_with_its_vector(rng, bad):
    pattern = PATTERNS["runs-around"]
    contents = torch.from_numpy(draw(pattern, "float32"))
    layout, _ = lines_of(pattern, total(pattern))
    x, z = vectors(rng, 3, 67, torch.float32), vectors(rng, 3, 20, torch.float32)
    x[1, 4] = z[1, 4] = bad
    for y in both(LineFactor(layout, "cpu"), contents, None, x, z):
        assert y[[0, 2]].isfinite().all()
        assert not y[1].isfinite().all()
        # Single vectors keep it to the lines that hold it.
    single = both(LineFactor(layout, "cpu"), contents, None, x[1:2], z[1:2])
    twin = torch.from_numpy(dense(pattern, contents.numpy()))
    for y, touched in zip(single, (twin[4] != 0, twin[:, 4] != 0), strict=True):
        assert torch.equal(~y[0].isfinite(), touched)


def test_the_operator_reaches_the_kernels(rng, monkeypatch):
    from structmat import GBLR

    pattern = PATTERNS["runs-prime"]
    runs, u = (pattern.start, pattern.width), draw(pattern, "float32")
    A = GBLR(*runs, u, *runs, u, shape=(97, 97)).to("torch")
    bound = lines.torch_lines(A._factored.structure, A._factored.contents)
    x = torch.from_numpy(rng.standard_normal((97, 2))).float().requires_grad_()

    def outcome():
        y = bound.multiply(x)
        return y, *torch.autograd.grad(y.square().sum(), x), bound.multiply_adjoint(x)

    plain, launched = outcome(), []
    for name in ("dot", "add"):
        kernel = getattr(line_kernels, name)
        monkeypatch.setattr(
            line_kernels, name, lambda *args, k=kernel, n=name: (launched.append(n), k(*args))[1]
        )
    monkeypatch.setattr(lines, "uses_triton", lambda x: True)
    for found, truth in zip(outcome(), plain, strict=True):
        assert (found - truth).abs().max() <= 1e-5 * truth.abs().max()
    assert launched == ["dot", "add"] * 3
