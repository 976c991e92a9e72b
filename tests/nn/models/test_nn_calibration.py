"""Errors and fits on the inputs that layers meet, against naive products with them."""

import math

import pytest
import torch
from torch import nn

import structmat
from structmat.errors import InputError
from structmat.matrices import Permutation
from structmat.nn.models.layer_types import layer_type
from structmat.nn.models.trace import batches_of, collect_grams, count_vectors
from structmat.nn.starts.fits import fit_grid, fit_kind
from structmat.nn.starts.kinds import network_kinds
from structmat.nn.starts.on_inputs import fit_low_rank, refine, squared_error


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def anisotropic(count, n):
    """Vectors whose directions differ in size by a hundred."""
    basis, _ = torch.linalg.qr(torch.randn(n, n))
    return torch.randn(count, n) * torch.logspace(0, -2, n) @ basis


def output_error(W, approximation, X):
    return ((W - approximation) @ X.T).norm().item()


@pytest.mark.parametrize("kind", [kind for kind in network_kinds() if kind != "low_rank"])
def test_refined_contents_are_strictly_better_on_their_inputs(kind):
    W, X = torch.randn(32, 48) + 1.0, anisotropic(200, 48)
    matrix = fit_kind(kind, W, math.floor(0.3 * W.numel()))
    [refined] = refine([matrix], W, X.T @ X)
    before, after = (output_error(W, A.to_dense(), X) for A in (matrix, refined))
    assert after < 0.95 * before
    assert refined.kind == matrix.kind
    assert refined.cost == matrix.cost
    assert refined.dtype == matrix.dtype


def test_blocks_with_contents_of_any_size_are_refined():
    """Descent along a gradient stops at once where one content of a block dwarfs the other."""
    W, X = torch.randn(12, 20) + 1.0, anisotropic(100, 20)
    matrix, gram = fit_kind("gblr", W, 72), X.T @ X
    sizes = [1e-7 ** (-1) ** torch.arange(matrix.num_blocks) for _ in range(2)]
    widths = (matrix.row_width, matrix.col_width)
    scales = [s.repeat_interleave(torch.from_numpy(w)) for s, w in zip(sizes, widths, strict=True)]
    other = structmat.GBLR(
        *(matrix.row_start, matrix.row_width, matrix.u * scales[0]),
        *(matrix.col_start, matrix.col_width, matrix.v / scales[1]),
        shape=matrix.shape,
    )
    errors = [output_error(W, refine([A], W, gram)[0].to_dense(), X) for A in (matrix, other)]
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


def test_no_low_rank_matrix_is_better_than_the_closed_form():
    W, X = torch.randn(20, 30), anisotropic(100, 30)
    best = fit_low_rank(W, X.T @ X, 5)
    bound = torch.linalg.svdvals(W @ X.T)[5:].norm().item()
    assert output_error(W, best.to_dense(), X) == pytest.approx(bound, rel=1e-4)
    plain = fit_kind("low_rank", W, 5 * 50)
    assert plain.cost == best.cost
    assert bound < 0.95 * output_error(W, plain.to_dense(), X)
    [refined] = refine([plain], W, X.T @ X)
    assert output_error(W, refined.to_dense(), X) < 1.05 * bound


def test_taps_are_refined_together():
    """Each tap makes up for what the others miss, which none does alone."""
    W, X = torch.randn(16, 48), anisotropic(300, 48)
    gram, pieces = X.T @ X, W.chunk(3, 1)
    matrices = [fit_grid(piece, 128) for piece in pieces]
    together = torch.cat([A.to_dense() for A in refine(matrices, W, gram, dim=1)], 1)
    parts = [gram[k : k + 16, k : k + 16] for k in (0, 16, 32)]
    alone = torch.cat(
        [
            refine([A], piece, part)[0].to_dense()
            for A, piece, part in zip(matrices, pieces, parts, strict=True)
        ],
        1,
    )
    assert output_error(W, together, X) < 0.95 * output_error(W, alone, X)


def test_what_cannot_be_refined_stays():
    W, gram = torch.eye(4), torch.eye(4)
    exact = fit_kind("low_rank", W, 32)
    assert refine([exact], torch.zeros(4, 4), gram)[0] is exact
    still = Permutation([0, 1, 2, 3]).to("torch")
    assert refine([still], 2 * W, gram) == [still]
    nothing = fit_kind("gblr", W, 1)
    assert refine([nothing], W, gram) == [nothing]


def test_squared_errors_are_those_of_outputs():
    W, X = torch.randn(5, 7), torch.randn(11, 7)
    naive = (W @ X.T).square().sum().item()
    assert squared_error(W, X.T @ X) == pytest.approx(naive, rel=1e-4)
    assert squared_error(W, None) == pytest.approx(W.square().sum().item(), rel=1e-6)


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 1), "stride": 2, "padding": 1},
    {"kernel_size": (2, 4), "padding": "same", "dilation": (1, 2)},
    {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
]


@pytest.mark.parametrize("by_taps", [False, True])
@pytest.mark.parametrize("settings", CONVOLUTIONS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_patches_are_what_the_kernel_multiplies(settings, by_taps):
    layer = nn.Conv2d(3, 5, bias=False, **settings)
    kind, images = layer_type(layer), torch.randn(2, 3, 7, 8)
    y = kind.vectors(layer, images, by_taps) @ kind.matrix(layer, by_taps).T
    expected = layer(images).movedim(1, -1).reshape(-1, 5)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_grams_sum_over_batches_and_calls_in_evaluation():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop = nn.Linear(4, 4, bias=False), nn.Dropout(0.5)

        def forward(self, x, *, scale=1.0):
            return self.layer(self.drop(self.layer(scale * x)))

    model = Twice()
    batches = [(torch.randn(3, 2, 4),), {"x": torch.randn(5, 4), "scale": 2.0}]
    grams = collect_grams(model, {model.layer: lambda _, x: x.reshape(-1, 4)}, batches)
    first = torch.cat([batches[0][0].reshape(-1, 4), 2 * batches[1]["x"]])
    vectors = torch.cat([first, first @ model.layer.weight.T])
    torch.testing.assert_close(grams[model.layer], vectors.T @ vectors, rtol=1e-4, atol=1e-4)
    assert model.training
    assert model.drop.training
    assert not model.layer._forward_hooks


def test_positions_are_vectors_an_example():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.pooled, self.conv = (
                nn.Linear(4, 6),
                nn.Linear(6, 2),
                nn.Conv2d(3, 8, 3),
            )
            self.idle = nn.Linear(2, 2)

        def forward(self, x, images):
            return self.pooled(self.token(self.token(x)[..., :4]).mean(1)), self.conv(images)

    model = Tokens()
    layers = {model.token: 6, model.pooled: 2, model.conv: 8, model.idle: 2}
    example = {"x": torch.randn(5, 9, 4), "images": torch.randn(5, 3, 6, 7)}
    counts = count_vectors(model, layers, example)
    assert counts == {model.token: 18, model.pooled: 1, model.conv: 20, model.idle: 0}


@pytest.mark.parametrize("example", [3, (), {"n": 2}, torch.tensor(1.0), torch.zeros(0, 4), [1]])
def test_examples_without_a_tensor_are_refused(example):
    with pytest.raises(InputError, match="example input of"):
        count_vectors(nn.Sequential(nn.Linear(4, 4)), {}, example)


def test_calibrations_that_are_none_are_refused():
    with pytest.raises(InputError, match="calibration is a int"):
        batches_of(3)
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(InputError, match="reached 0 of 1 layers"):
        collect_grams(model, {model[0]: lambda _, x: x}, [])
    with pytest.raises(InputError, match="NaN activations"):
        collect_grams(model, {model[0]: lambda _, x: x}, [torch.full((1, 4), math.nan)])


def test_hooks_go_and_modes_return_when_the_model_fails():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    model[1].eval()
    with pytest.raises(RuntimeError):
        count_vectors(model, {model[0]: 4}, torch.zeros(2, 5))
    assert not model[0]._forward_hooks
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
