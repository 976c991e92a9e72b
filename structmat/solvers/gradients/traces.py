"""Gradients of a log-determinant: the trace of S^-1 dS, by few solves where structure allows it.

Terms of low rank take one solve for each column of their factors. Diagonal terms beside them take
the diagonal of S^-1, which follows from the same solves. Everything else takes the columns of
S^-H: all of them, or for estimates a fixed number of random combinations of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from structmat.matrices import Diagonal, LowRank, Sum
from structmat.matrices.diagonal import is_multiple
from structmat.matrices.inner_products import unscaled
from structmat.matrix import StructuredMatrix
from structmat.solvers.gradients.solves import solved
from structmat.solvers.gradients.systems import System, check_single, gradients

#: Scalars of the columns that are solved for at once.
SCALARS = 2**22
#: Rows above which gradients are estimated, and the number of random vectors for it.
EXACT_ROWS, PROBES = 8192, 128


def trace_gradients(
    system: System, contents: list[Tensor], needed: list[bool], grad: Tensor, *, exact: bool
) -> list[Tensor | None]:
    """Gradients of log |det S| by the contents of S, times a number `grad`."""
    check_single(grad)
    terms = _Terms.of(system.around(contents))
    if terms is not None:
        return _by_terms(system, contents, needed, grad, terms)
    total: list[Tensor | None] = [None] * len(contents)
    for columns in _columns(system.matrix, exact):
        y = solved(system, columns, contents, adjoint=True)

        def product(columns: Tensor, *own: Tensor) -> Tensor:
            return system.product(own, columns, adjoint=False)

        _, *found = gradients(product, [columns, *contents], [False, *needed], y * grad)
        total = [
            a if b is None else b if a is None else a + b for a, b in zip(total, found, strict=True)
        ]
    return total


class _Terms(NamedTuple):
    """S = diag(d) + sum of U V^H: the tensors of which it is made."""

    diagonals: list[Tensor]
    factors: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, S: StructuredMatrix) -> "_Terms | None":
        """S taken apart; None if it has terms of other kinds, or nothing on its diagonal."""
        diagonals, factors = [], []
        for term in S.children if isinstance(S, Sum) else (S,):
            if isinstance(term, LowRank):
                factors.append((term.U, term.V))
            elif isinstance(term, Diagonal):
                diagonals.append(term.d)
            elif is_multiple(term):
                number = unscaled(term)[1]
                one = torch.ones((), dtype=S.dtype, device=S.device)
                diagonals.append(one if number is None else number)
            else:
                return None
        if not diagonals or bool((_total(diagonals, S) == 0).any()):
            return None
        return cls(diagonals, factors)

    def flat(self) -> list[Tensor]:
        """All tensors in one list."""
        return [*self.diagonals, *(F for pair in self.factors for F in pair)]


def _total(diagonals: list[Tensor], S: StructuredMatrix) -> Tensor:
    zero = torch.zeros(S.shape[0], dtype=S.dtype, device=S.device)
    return sum((d.to(S.dtype) for d in diagonals), zero)


def _by_terms(
    system: System, contents: list[Tensor], needed: list[bool], grad: Tensor, terms: _Terms
) -> list[Tensor | None]:
    """The same for diagonals and thin factors alone: a solve for each column of the factors."""
    S = system.around(contents)
    inverse, cotangents = 1 / _total(terms.diagonals, S), []
    rest = inverse
    for U, V in terms.factors:
        left = solved(system, U.to(S.dtype), contents, adjoint=False)
        right = solved(system, V.to(S.dtype), contents, adjoint=True)
        cotangents += [right, left]
        rest = rest - (left * V.conj()).sum(1) * inverse
    grads = [rest.conj() if d.ndim else rest.sum().conj() for d in terms.diagonals] + cotangents
    flat = terms.flat()
    grads = [
        (g if t.is_complex() else g.real if g.is_complex() else g).to(t.dtype) * grad
        for g, t in zip(grads, flat, strict=True)
    ]

    one = torch.ones((), dtype=S.dtype.to_real(), device=S.device)

    def paired(*own: Tensor) -> Tensor:
        # One number, since torch refuses outputs that are constant, as a shift may be.
        found = _Terms.of(system.around(own))
        assert found is not None
        pairs = zip(grads, found.flat(), strict=True)
        total = sum(((g.conj() * t).real.sum() for g, t in pairs), torch.zeros_like(one))
        return total.to(one.dtype)

    return gradients(paired, contents, needed, one)


def _columns(S: StructuredMatrix, exact: bool) -> Iterator[Tensor]:
    """Blocks of columns E with E E^H = I, or of random ones for which that is so on average."""
    n = S.shape[0]
    count = n if exact and n <= EXACT_ROWS else PROBES
    step = max(1, SCALARS // max(n, 1))
    place = {"dtype": S.dtype, "device": S.device}
    generator = torch.Generator().manual_seed(0)
    for first in range(0, count, step):
        width = min(step, count - first)
        if count == n:
            at = torch.arange(first, first + width, device=S.device)
            yield (torch.arange(n, device=S.device)[:, None] == at).to(S.dtype)
        else:
            signs = torch.randint(0, 2, (n, width), generator=generator) * 2 - 1
            yield signs.to(**place) / PROBES**0.5
