"""Lemmas behind Theorem 3 and Corollary 4, as docs/paper/masks.md states and proves them."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from structmat.nn import gaudi_mask

sizes = st.integers(1, 24)
odd_sizes = st.integers(0, 12).map(lambda k: 2 * k + 1)
fractions = st.floats(0, 1)
sharpness = st.floats(0.05, 1e3) | st.just(math.inf)


def frequencies(n):
    """Frequencies 0 to n/2 of a real signal."""
    return torch.arange(n // 2 + 1, dtype=torch.float64)


def decay(n, sigma):
    return torch.exp(-((frequencies(n) / sigma) ** 2) / 2)


def mask_of(w, l, n, sigma):
    """Mask of a real width and location in samples: (n,)."""
    w, l = (torch.tensor([x / n], dtype=torch.float64) for x in (w, l))
    return gaudi_mask(w, l, n, sigma=sigma, straight_through=False)[0]


def slopes(w, l, n, sigma):
    """Derivatives of a mask by width and location, all in samples: twice (n,)."""
    point = [torch.full((n,), x / n, dtype=torch.float64, requires_grad=True) for x in (w, l)]
    mask = gaudi_mask(*point, n, sigma=sigma, straight_through=False)
    return [g / n for g in torch.autograd.grad(mask.diagonal().sum(), point)]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@given(n=sizes, w=st.integers(0, 24), l=st.integers(-30, 30))
def test_lemma_a_spectrum_of_a_boxcar(n, w, l):
    w = min(w, n)
    boxcar = ((torch.arange(n) - l) % n < w).double()
    k = frequencies(n) * math.pi / n
    ratio = torch.where(k > 0, torch.sin(k * w) / torch.sin(k), w)
    close(torch.fft.rfft(boxcar), torch.polar(torch.ones_like(k), k * (1 - w - 2 * l)) * ratio)
    close(mask_of(w, l, n, math.inf), boxcar)


@given(n=sizes, w=st.integers(0, 24), l=st.integers(0, 23), sigma=sharpness)
def test_lemma_b_a_gaudi_mask_is_a_blurred_boxcar(n, w, l, sigma):
    """Cyclic convolution with g, by its sum, and as a difference of prefix sums of g."""
    w = min(w, n)
    blur = torch.fft.irfft(decay(n, sigma).to(torch.complex128), n)
    close(blur.sum(), torch.tensor(1.0).double())
    boxcar = ((torch.arange(n) - l) % n < w).double()
    place = (torch.arange(n)[:, None] - torch.arange(n)) % n
    mask = mask_of(w, l, n, sigma)
    close(mask, blur[place] @ boxcar)
    close(mask.sum(), torch.tensor(float(w)).double())
    turns = torch.cat([torch.zeros(1).double(), blur.repeat(4).cumsum(0)]) - 2  # P(t) at t + 2 n
    j = torch.arange(n) - l % n + 2 * n
    close(mask, turns[j + 1] - turns[j + 1 - w])


@given(n=sizes, w=fractions, l=fractions, sigma=sharpness)
def test_lemma_c_both_slopes_are_shifts_of_one_vector(n, w, l, sigma):
    """Its spectrum is G_k exp(iπk/n) / sinc(k/n) at the trailing edge, for any real w and l."""
    w, l = w * n, l * n
    k = frequencies(n)

    def edge(place):
        angle = math.pi * k / n - 2 * math.pi * k * place / n
        return torch.fft.irfft(torch.polar(decay(n, sigma) / torch.sinc(k / n), angle), n)

    by_width, by_location = slopes(w, l, n, sigma)
    close(by_width, edge(l + w))
    close(by_location, edge(l + w) - edge(l))


@given(x=st.floats(-0.5, 0.5))
def test_lemma_d_sinc_up_to_one_half(x):
    value = float(torch.sinc(torch.tensor(x, dtype=torch.float64)))
    assert 2 / math.pi * (1 - 1e-12) <= value <= 1


@given(n=odd_sizes, w=fractions, l=fractions, sigma=sharpness)
def test_theorem_3_the_slope_by_location(n, w, l, sigma):
    """‖∂m/∂l‖² = (4/n) Σ G_k² sin²(πkw/n) / sinc²(k/n), and no entry of a slope exceeds π."""
    by_width, by_location = slopes(w * n, l * n, n, sigma)
    k = torch.arange(n, dtype=torch.float64) - n // 2
    g = torch.exp(-((k / sigma) ** 2) / 2)
    terms = (g * torch.sin(math.pi * k * w) / torch.sinc(k / n)) ** 2
    close(by_location.square().sum(), 4 / n * terms.sum())
    assert by_width.abs().max() <= math.pi / 2 * float(g.sum()) / n + 1e-9
    assert by_location.abs().max() <= math.pi * float(g.sum()) / n + 1e-9
