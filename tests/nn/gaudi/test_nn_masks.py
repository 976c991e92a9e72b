"""Gaudi masks against the Fourier formula, and the constants of Theorem 3 and Corollary 4."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from structmat import InputError, ShapeError
from structmat.nn import gaudi_mask
from structmat.nn.gaudi import side as side_module
from structmat.nn.gaudi.mask_tables import mask_table
from structmat.nn.gaudi.side import Side

SIZES = (1, 2, 3, 7, 8, 64, 769)
SIGMAS = (1, 3.7, 100, math.inf)
sizes = pytest.mark.parametrize("n", SIZES)
sigmas = pytest.mark.parametrize("sigma", SIGMAS)
modes = pytest.mark.parametrize("straight_through", [True, False])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def signed(n):
    """Every frequency of n samples once, with its sign; -n/2 for the Nyquist bin."""
    return torch.arange(n, dtype=torch.float64) - n // 2


def gauss(n, sigma):
    return torch.exp(-(signed(n) ** 2) / (2 * sigma**2))


def oracle(w, l, n, sigma):
    """The formula itself, by a full complex sum; w and l in samples, real, (K,)."""
    k, j = signed(n), torch.arange(n, dtype=torch.float64)
    w, l = w[:, None], l[:, None]
    size = w * torch.sinc(k * w / n) / torch.sinc(k / n) * gauss(n, sigma)
    spectrum = size * torch.exp(1j * math.pi * k * (1 - w) / n - 2j * math.pi * k * l / n)
    mask = spectrum @ torch.exp(2j * math.pi * k[:, None] * j / n) / n
    if n % 2:
        assert mask.imag.abs().max() < 1e-10
    return mask.real


def whole(n, count=8):
    """Whole widths, 0 and n among them, and locations, some off the circle."""
    g = torch.Generator().manual_seed(n)
    w = torch.randint(0, n + 1, (count,), generator=g)
    w[0], w[1] = 0, n
    l = torch.randint(-2 * n, 2 * n, (count,), generator=g)
    return w.double(), l.double()


def near(n, *values):
    """Fractions of n that round to the given whole numbers, ready to be differentiated."""
    g = torch.Generator().manual_seed(n + 1)
    off = [0.98 * torch.rand(v.shape, generator=g, dtype=torch.float64) - 0.49 for v in values]
    return [((v + o) / n).requires_grad_() for v, o in zip(values, off, strict=True)]


def boxcar(w, l, n):
    return ((torch.arange(n) - l[:, None]) % n < w[:, None]).double()


def same(actual, expected, relative):
    assert (actual - expected).norm() <= relative * max(1.0, expected.norm().item())


@sizes
@sigmas
def test_straight_through_is_the_formula_at_the_rounded_point(n, sigma):
    """The table's masks and slopes are those of the formula where widths are whole."""
    w, l = whole(n)
    width, location = near(n, w, l)
    mask = gaudi_mask(width, location, n, sigma=sigma)
    point = [w.requires_grad_(), l.requires_grad_()]
    expected = oracle(*point, n, sigma)
    assert (mask - expected).abs().max() < 1e-12
    assert (mask.sum(1) - w).abs().max() < 1e-11
    upstream = torch.randn(mask.shape, dtype=torch.float64)
    actual = torch.autograd.grad((upstream * mask).sum(), [width, location])
    wanted = torch.autograd.grad((upstream * expected).sum(), point)
    for a, b in zip(actual, wanted, strict=True):
        same(a, n * b, 1e-10)


@sizes
@sigmas
def test_real_valued_masks_are_the_formula_between_the_samples(n, sigma):
    width, location = torch.rand(2, 6, dtype=torch.float64)
    location = 4 * location - 2
    mask = gaudi_mask(width, location, n, sigma=sigma, straight_through=False)
    assert (mask - oracle(width * n, location * n, n, sigma)).abs().max() < 1e-12
    assert (mask.sum(1) - width * n).abs().max() < 1e-11


@sizes
@sigmas
def test_both_modes_meet_at_whole_samples(n, sigma):
    w, l = whole(n)
    masks, slopes = [], []
    for straight_through in (True, False):
        point = [(w / n).clone().requires_grad_(), (l / n).clone().requires_grad_()]
        mask = gaudi_mask(*point, n, sigma=sigma, straight_through=straight_through)
        upstream = torch.cos(torch.arange(mask.numel(), dtype=torch.float64)).view_as(mask)
        masks.append(mask)
        slopes.append(torch.autograd.grad((upstream * mask).sum(), point))
    same(*masks, 1e-12)
    for pair in zip(*slopes, strict=True):
        same(*pair, 1e-10)


@sizes
@sigmas
def test_slopes_against_central_differences(n, sigma):
    w, l = whole(n)
    point, h = [(v / n).requires_grad_() for v in (w, l)], 1e-4
    mask = gaudi_mask(*point, n, sigma=sigma)
    upstream = torch.randn(mask.shape, dtype=torch.float64)
    slopes = torch.autograd.grad((upstream * mask).sum(), point)
    for slope, (by_w, by_l) in zip(slopes, [(h, 0), (0, h)], strict=True):
        rise = oracle(w + by_w, l + by_l, n, sigma) - oracle(w - by_w, l - by_l, n, sigma)
        same(slope / n, (upstream * rise).sum(1) / (2 * h), 1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 64])
@sigmas
def test_gradcheck_of_real_valued_masks(n, sigma):
    width = (0.05 + 0.9 * torch.rand(3, dtype=torch.float64)).requires_grad_()
    location = (3 * torch.rand(3, dtype=torch.float64) - 1).requires_grad_()
    assert gradcheck(
        lambda w, l: gaudi_mask(w, l, n, sigma=sigma, straight_through=False), (width, location)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@sizes
def test_boxcars_are_exact(n, dtype):
    w, l = whole(n)
    width, location = (w / n).to(dtype), (l / n).to(dtype)
    mask = gaudi_mask(width, location, n)
    assert mask.dtype == dtype
    w, l = torch.round(width.float() * n), torch.round(location.float() * n)
    assert torch.equal(mask.double(), boxcar(w, l, n))


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01), (torch.float16, 2e-3)]
)
@modes
def test_precision_of_values_and_gradients(dtype, error, straight_through):
    n = 64
    w, l = whole(n)
    results = []
    for kind in (torch.float64, dtype):  # multiples of 1/64 are exact in each of them
        point = [(v / n).to(kind).requires_grad_() for v in (w, l % n)]
        mask = gaudi_mask(*point, n, sigma=5.0, straight_through=straight_through)
        assert mask.dtype == kind
        mask[:, ::3].sum().backward()
        assert all(p.grad.dtype == kind for p in point)
        results.append([mask.detach(), *(p.grad for p in point)])
    for reference, result in zip(*results, strict=True):
        assert (reference - result.double()).norm() <= error * reference.norm()


@modes
@sigmas
def test_widths_are_clipped_and_locations_wrap(sigma, straight_through):
    def mask(w, l):
        w, l = torch.tensor([w], dtype=torch.float64), torch.tensor([l], dtype=torch.float64)
        return gaudi_mask(w, l, 12, sigma=sigma, straight_through=straight_through)

    same(mask(-0.7, 0.25), mask(0.0, 0.25), 1e-13)
    same(mask(1.8, 0.25), mask(1.0, 0.25), 1e-13)
    for turns in (-3, -1, 1, 5):
        same(mask(0.5, 0.25 + turns), mask(0.5, 0.25), 1e-11)


def test_halves_round_to_even_as_torch_rounds():
    width = torch.tensor([0.5, 1.5, 2.5, 3.5]) / 8
    assert gaudi_mask(width, torch.zeros(4), 8).sum(1).tolist() == [0, 2, 2, 4]


def test_straight_through_learns_beyond_its_bounds():
    """A clipped width still has the slope at its bound: it can come back."""
    width = torch.tensor([-0.3, 1.2], dtype=torch.float64, requires_grad=True)
    at = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for w in (width, at):
        gaudi_mask(w, torch.tensor([0.1, 0.4]).double(), 10, sigma=2.0)[:, 3].sum().backward()
    assert torch.equal(width.grad, at.grad)
    assert (width.grad != 0).all()


def slopes_by_width(width, location, n, sigma, straight_through):
    """∂m/∂w in units of samples, all n entries at once: one mask for each of them."""
    w = torch.full((n,), width, dtype=torch.float64, requires_grad=True)
    l = torch.full((n,), location, dtype=torch.float64)
    mask = gaudi_mask(w, l, n, sigma=sigma, straight_through=straight_through)
    (slope,) = torch.autograd.grad(mask.diagonal().sum(), w)
    return slope / n


fractions = st.floats(0, 1)
sharpness = st.floats(0.05, 1e4) | st.just(math.inf)


@given(n=st.integers(1, 40), sigma=sharpness, w=fractions, l=fractions, straight=st.booleans())
def test_theorem_3_the_slope_by_width_has_one_norm(n, sigma, w, l, straight):
    """‖∂m/∂w‖² = (1/n) Σ G_k² / sinc²(k/n), whatever w and l.

    For even n the two signs of the Nyquist frequency share one bin, whose value is
    G sin(π w / 2) sin(π w / 2 + π l). Its derivative is G (π / 2) sin(π (w + l)), so that bin
    adds a share sin²(π (w + l)) of its term: from none, at whole samples, to all of it.
    """
    k, g = signed(n), gauss(n, sigma)
    terms = (g / torch.sinc(k / n)) ** 2 / n
    inner = k.abs() < n / 2
    regular = float(terms[inner].sum())
    nyquist = float(terms[~inner].sum())
    turn = math.sin(math.pi * (w * n + l * n)) if not straight else 0.0
    square = float(slopes_by_width(w, l, n, sigma, straight).square().sum())
    assert square == pytest.approx(regular + nyquist * turn**2, rel=1e-9, abs=1e-12)
    low = float((g[inner] ** 2).sum()) / n
    assert low >= 1 / n
    assert low * (1 - 1e-9) <= square
    assert square <= math.pi**2 / 4 * float((g**2).sum()) / n * (1 + 1e-9)


@given(n=st.integers(1, 40), sigma=sharpness, l=fractions, straight=st.booleans())
def test_corollary_4_a_width_of_zero_can_grow(n, sigma, l, straight):
    slope = slopes_by_width(0.0, l, n, sigma, straight)
    assert slope.isfinite().all()
    assert slope.norm() >= (1 - 1e-9) / math.sqrt(n)


@sizes
@sigmas
@modes
def test_gradients_are_finite_everywhere(n, sigma, straight_through):
    edge = torch.tensor([0.0, 1.0, 0.5, 1e-300], dtype=torch.float64, requires_grad=True)
    place = torch.tensor([0.0, 1.0, 0.25, 0.1], dtype=torch.float64, requires_grad=True)
    gaudi_mask(edge, place, n, sigma=sigma, straight_through=straight_through)[
        :, 0
    ].sum().backward()
    assert edge.grad.isfinite().all()
    assert place.grad.isfinite().all()


def test_a_mask_blurs_its_boxcar():
    """Standard deviation n / (2 π σ) of the blur, which the tiles of a product count on."""
    n, sigma = 400, 10.0
    mask = gaudi_mask(torch.tensor([1 / n]).double(), torch.tensor([0.5]).double(), n, sigma=sigma)
    offset = torch.arange(n).double() - 200
    assert (mask[0] * offset**2).sum().sqrt() == pytest.approx(n / (2 * math.pi * sigma), rel=1e-6)
    at = torch.zeros(1, dtype=torch.int64)
    assert Side(n, at, at, n, sigma=sigma).blur == pytest.approx(n / (2 * math.pi * sigma))


def test_a_table_made_in_inference_mode_serves_training():
    mask_table.cache_clear()
    width, location = torch.tensor([0.5]), torch.tensor([0.0])
    with torch.inference_mode():
        gaudi_mask(width, location, 10, sigma=3.0)
    width.requires_grad_()
    gaudi_mask(width, location, 10, sigma=3.0)[0, 2].backward()
    assert width.grad != 0


@modes
def test_no_masks_at_all(straight_through):
    none = torch.zeros(0, requires_grad=True)
    mask = gaudi_mask(none, none, 5, straight_through=straight_through)
    assert mask.shape == (0, 5)
    mask.sum().backward()
    assert none.grad.shape == (0,)


@pytest.mark.parametrize("sigma", [0, 0.0, -1.0, math.nan, -math.inf])
@modes
def test_refuses_what_is_no_sharpness(sigma, straight_through):
    half = torch.tensor([0.5])
    with pytest.raises(InputError, match=r"sigma = .*expected a number above 0"):
        gaudi_mask(half, half, 4, sigma=sigma, straight_through=straight_through)


@pytest.mark.parametrize("n", [0, -3, 2.5, "4", None])
def test_refuses_what_is_no_number_of_samples(n):
    half = torch.tensor([0.5])
    with pytest.raises(InputError, match=r"n = .*whole number of at least 1"):
        gaudi_mask(half, half, n)


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((), ()), ((2, 2), (2, 2)), ((2,), (2, 1))])
def test_refuses_shapes_that_do_not_meet(shapes):
    width, location = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ShapeError, match="one entry a mask"):
        gaudi_mask(width, location, 4)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_refuses_widths_that_are_not_real_numbers(dtype):
    """Whole fractions would silently give masks cut to whole numbers."""
    width = torch.ones(1, dtype=dtype)
    with pytest.raises(InputError, match="width"):
        gaudi_mask(width, torch.zeros(1), 4, sigma=1.0)


@sizes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_windows_are_those_that_torch_copies(n, dtype, monkeypatch):
    pytest.importorskip("numba")
    start = torch.randint(-n, 2 * n, (9,))
    for window in {n, (n + 1) // 2}:
        side = Side(n, start, torch.randint(window + 1, (9,)), window, sigma=3.7)
        grad = torch.randn(9, 2 * window, dtype=dtype)[:, ::2]
        found = side.mask(dtype), *side.mask_gradients(grad)
        with monkeypatch.context() as plain:
            plain.setattr(side_module, "_is_compiled", lambda *_: False)
            expected = side.mask(dtype), *side.mask_gradients(grad)
        assert torch.equal(found[0], expected[0])
        for a, b in zip(found[1:], expected[1:], strict=True):
            exact = 1e-4 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(a, b, rtol=0, atol=exact * n)
    # Where something follows, torch has its own operations.
    assert side_module._is_compiled(grad, start)
    assert not side_module._is_compiled(grad.requires_grad_(), start)
