"""Fits of weights on the inputs that they multiply.

For the inputs X of a layer, collected over a few batches, ‖(W - Ŵ) X‖_F is the error of
its outputs. It depends on X through the Gram matrix G = X X^T alone, as tr(Δ G Δ^T) with
Δ = W - Ŵ.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from structmat import binding
from structmat.errors import InputError
from structmat.matrices import LowRank
from structmat.matrix import StructuredMatrix
from structmat.nn.models.trace import forward_hooks, run_in_evaluation

Vectors = Callable[[nn.Module, Tensor], Tensor]
#: Quasi-Newton steps on the contents, and the number of past steps that L-BFGS keeps.
LBFGS_STEPS, LBFGS_HISTORY = 100, 20


def collect_grams(
    model: nn.Module, layers: Mapping[nn.Module, Vectors], batches: Iterable[Any]
) -> dict[nn.Module, Tensor]:
    """Sum the Gram matrix (n, n) of each layer's inputs over all batches.

    Parameters
    ----------
    model : Module
    layers : mapping of Module to callable
        Function for each layer that reads its input as vectors (T, n).
    batches : iterable
        Inputs of the model.

    Examples
    --------
    >>> layer = nn.Linear(2, 3)
    >>> grams = collect_grams(nn.Sequential(layer), {layer: lambda _, x: x}, [torch.ones(5, 2)])
    >>> grams[layer].tolist()
    [[5.0, 5.0], [5.0, 5.0]]
    """
    grams: dict[nn.Module, Tensor] = {}

    def add(module: nn.Module, x: Tensor, _output: Tensor) -> None:
        vectors = layers[module](module, x)
        # A sum of many squares needs single precision at least.
        vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
        gram = vectors.T @ vectors
        grams[module] = grams[module] + gram if module in grams else gram

    with forward_hooks(layers, add):
        for batch in batches:
            run_in_evaluation(model, batch)
    if len(grams) < len(layers):
        raise InputError(
            f"calibration reached {len(grams)} of {len(layers)} layers; expected all (give at "
            "least one batch that runs the whole model, or leave layers out with filter_fn)"
        )
    for gram in grams.values():
        if not torch.isfinite(gram).all():
            raise InputError("calibration gave infinite or NaN activations; expected finite ones")
    return grams


def squared_error(difference: Tensor, gram: Tensor | None) -> float:
    """Squared Frobenius norm of Δ X, or of Δ itself without a Gram matrix.

    Examples
    --------
    >>> squared_error(torch.eye(2), None), squared_error(torch.eye(2), 3 * torch.eye(2))
    (2.0, 6.0)
    """
    difference = difference.double()
    weighed = difference if gram is None else difference @ gram.to(difference)
    return max(0.0, float((weighed * difference).sum()))


def output_energies(W: Tensor, gram: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared singular values of W X in falling order, and its left singular vectors.

    Examples
    --------
    >>> output_energies(torch.diag(torch.tensor([1.0, 3.0])), None)[0].tolist()
    [9.0, 1.0]
    """
    W = W.double()
    product = W @ W.T if gram is None else W @ gram.to(W) @ W.T
    energies, U = torch.linalg.eigh(product)
    return energies.flip(0).clamp(min=0), U.flip(1)


def fit_low_rank(W: Tensor, gram: Tensor, rank: int) -> LowRank:
    """Best approximation U U^T W of the given rank on these inputs.

    U holds the leading left singular vectors of W X: of all matrices of that rank,
    U U^T W X is nearest to W X (Eckart & Young).

    Examples
    --------
    >>> W, gram = torch.eye(3), torch.diag(torch.tensor([1.0, 9.0, 4.0]))
    >>> fit_low_rank(W, gram, 1).to_dense().diag().round().abs().tolist()
    [0.0, 1.0, 0.0]
    """
    _, U = output_energies(W, gram)
    U = U[:, :rank]
    V = W.double().T @ U
    # Training needs factors of equal size.
    root = V.norm(dim=0).clamp(min=torch.finfo(V.dtype).tiny).sqrt()
    return LowRank((U * root).to(W.dtype), (V / root).to(W.dtype))


def refine(
    matrices: Sequence[StructuredMatrix], W: Tensor, gram: Tensor, *, dim: int = 0
) -> list[StructuredMatrix]:
    """Lower the error on these inputs by other contents; structures stay.

    Parameters
    ----------
    matrices : sequence of StructuredMatrix
        Matrices of any kind on torch, which side by side along `dim` approximate W.
    W : Tensor, shape (m, n)
    gram : Tensor, shape (n, n)
    dim : int
        0 for row blocks, 1 for column blocks.

    Notes
    -----
    L-BFGS in double precision on all contents at once. The error never rises.

    Examples
    --------
    >>> from structmat import LowRank
    >>> W, gram = torch.eye(2), torch.diag(torch.tensor([100.0, 1.0]))
    >>> A = LowRank(torch.tensor([[0.1], [1.0]]), torch.tensor([[0.1], [1.0]]))
    >>> [B] = refine([A], W, gram)
    >>> B.to_dense().round().abs().tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    target, gram = W.double(), gram.double()
    size = squared_error(target, gram)
    trial = [
        binding.construct(matrix, [_variable(leaf) for leaf in binding.leaves(matrix)])
        for matrix in matrices
    ]
    contents = [leaf for matrix in trial for leaf in binding.leaves(matrix) if leaf.requires_grad]
    if not contents or not size:
        return list(matrices)

    def loss() -> Tensor:
        difference = torch.cat([matrix.to_dense() for matrix in trial], dim) - target
        return ((difference @ gram) * difference).sum() / size

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer = torch.optim.LBFGS(
        contents, max_iter=LBFGS_STEPS, history_size=LBFGS_HISTORY, line_search_fn="strong_wolfe"
    )
    before = float(loss().detach())
    optimizer.step(closure)
    with torch.no_grad():
        if not float(loss()) < before:
            return list(matrices)
    return [
        binding.construct(old, [leaf.detach() for leaf in binding.leaves(matrix)]).astype(old.dtype)
        for matrix, old in zip(trial, matrices, strict=True)
    ]


def _variable(leaf: Tensor) -> Tensor:
    if not leaf.is_floating_point():
        return leaf
    return leaf.detach().double().clone(memory_format=torch.contiguous_format).requires_grad_()
