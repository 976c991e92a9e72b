"""Woodbury: a base that is factorized, plus a product of thin factors, S = B + U V^H.

The inverse is ``B^-1 - B^-1 U C^-1 V^H B^-1`` with the capacitance ``C = I + V^H B^-1 U`` of as
many rows as the rank, and the determinant is that of B times that of C. One solve tests each
result; where it is not good enough, orthogonal factors and a diagonal without small entries
follow.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from structmat._array import Array, DType, adjoint, adjoint_times, identity, to_numpy
from structmat.errors import SolveError
from structmat.matrices import Diagonal, LowRank, Sum
from structmat.matrix import StructuredMatrix
from structmat.solvers.choice import direct, is_small
from structmat.solvers.condition import Probe, probe, singular
from structmat.solvers.direct.lapack import factored
from structmat.solvers.direct.terms import Terms, terms_of
from structmat.solvers.direct.thin import balanced, split_diagonal
from structmat.solvers.factorization import Factorization
from structmat.solvers.shifted import number_of, shifted
from structmat.solvers.verify import LIMIT, double, verified


class _Trusted(NamedTuple):
    """A bound of the condition number that makes a test superfluous, and what a test may show."""

    known: float
    test: Probe


#: In single and in double precision. Rounding times the bound that is known leaves each step of
#: refinement four or eight digits.
_SINGLE = _Trusted(1e3, Probe(1e5, 1e-4))
_DOUBLE = _Trusted(5e7, Probe(LIMIT, 1e-10))


class WoodburyFactorization(Factorization):
    """A factorization of the base, thin factors, and factors of the capacitance.

    `bound` is an upper bound of the condition number, where the base is a positive multiple of the
    identity and U U^H is added; else infinity.
    """

    method = "woodbury"

    def __init__(
        self, S: StructuredMatrix, base: Factorization, low_rank: LowRank, dtype: DType, tol: float
    ) -> None:
        super().__init__(S, tol)
        self.base, self.rank, xp = base, low_rank.rank, S.xp
        self.U = xp.astype(low_rank.U, dtype, copy=False)
        same = low_rank.U is low_rank.V
        self.V = self.U if same else xp.astype(low_rank.V, dtype, copy=False)
        # B^-1 U is `scale` times `solved`, which is U itself for a multiple of the identity.
        number = number_of(base.matrix)
        self.scale = 1.0 if number is None else 1.0 / number
        self.solved = self.U
        if number is None:
            self.solved = xp.astype(base.unmeasured(self.U), dtype, copy=False)
        inner = self.scale * (adjoint(self.V, xp) @ self.solved)
        hermitian = base.matrix.hermitian and (same or bool(xp.all(self.U == self.V)))
        self.bound = float("inf")
        if hermitian and number is not None and number.real > 0:
            self.bound = 1.0 + float(to_numpy(xp.linalg.trace(inner)).real)
        self.capacitance = factored(
            identity(self.V.shape[1], dtype, xp, self.device) + inner,
            xp,
            hermitian=hermitian,
            name=f"the capacitance matrix of rank {self.rank}",
        )

    def _solve(self, b: Array) -> Array:
        xp = self.xp
        y = xp.astype(self.base.unmeasured(b), self.U.dtype, copy=False)
        inner = self.capacitance.solve(adjoint_times(self.V, y, xp))
        return y - self.solved @ (self.scale * inner)

    def _solve_adjoint(self, b: Array) -> Array:
        xp = self.xp
        b = xp.astype(b, self.U.dtype, copy=False)
        scale = self.scale.conjugate()
        inner = self.capacitance.solve_adjoint(scale * adjoint_times(self.solved, b, xp))
        return self.base.unmeasured(b - self.V @ inner, adjoint=True)

    def _logdet(self) -> Any:
        base = self.base._logdet()
        return base if base is NotImplemented else base.times(self.capacitance.logdet())


def factorize(A: StructuredMatrix, shift: complex, tol: float) -> Any:
    """Factorization of a sum with terms of low rank, or of low rank with a shift."""
    terms = terms_of(A, shift)
    base, base_shift, low_rank = terms
    if low_rank is None:
        whole = base is A or isinstance(base, Sum)
        return NotImplemented if whole else direct(base, base_shift, tol)
    if _is_wide(low_rank) or not A.shape[0]:
        return NotImplemented
    S = shifted(A, shift)
    if base.kind == "scaled" and complex(base.alpha) == 0:
        raise SolveError(
            f"{S!r} has a rank of {low_rank.rank} at most, so it is singular; expected a shift, or "
            "structmat.lstsq for a least-squares solution"
        )
    return _first_trusted(S, terms, tol)


def _is_wide(low_rank: LowRank) -> bool:
    """True where thin factors are no thinner than the matrix: dense factors take less."""
    return 2 * low_rank.rank >= max(low_rank.shape[0], 1)


def _first_trusted(S: StructuredMatrix, terms: Terms, tol: float) -> Any:
    """The first of the ways that passes its test, or else one that refinement makes good.

    A base of small error, such as a hierarchical one, leaves an error that refinement removes.
    NotImplemented if there is none. A sum may be regular where its base is singular, so that is no
    refusal.
    """
    wide = double(S.dtype, S.xp)
    error: SolveError | None = None
    refined: Any = NotImplemented
    known: Any = None
    base: Any = None
    for way in _ways(S, terms, wide):
        if way.base is not known:
            known, base = way.base, _factorized(way.base, way.shift, tol)
        if base is NotImplemented:
            continue
        try:
            F = WoodburyFactorization(S, base, way.low_rank, way.dtype, tol)
        except SolveError as refused:
            error = None if is_small(S) else refused
            continue
        bounds = _DOUBLE if way.dtype == wide else _SINGLE
        if F.bound < bounds.known and way.low_rank is terms.low_rank:
            return F
        found = probe(F)
        if found.condition < bounds.test.condition and found.error < bounds.test.error:
            return F
        error = None if found.condition < LIMIT else singular(F, found.condition)
        if error is None and refined is NotImplemented and _is_refined(F):
            refined = F
    if error is not None:
        raise error
    return refined


def _factorized(base: StructuredMatrix, shift: complex, tol: float) -> Any:
    """A factorization of the base; NotImplemented also where it is singular."""
    try:
        return direct(base, shift, tol)
    except SolveError:
        return NotImplemented


def _is_refined(F: Factorization) -> bool:
    """Tell whether refinement brings a solution below the tolerance."""
    b = F.xp.ones((F.shape[0], 1), dtype=F.dtype, device=F.device)
    try:
        return verified(F, b, adjoint=False, exact=True).backward_error <= F.tol
    except SolveError:
        return False


class Way(NamedTuple):
    """A base with a shift, and thin factors in a dtype."""

    base: StructuredMatrix
    shift: complex
    low_rank: LowRank
    dtype: DType


def _ways(S: StructuredMatrix, terms: Terms, wide: DType) -> Iterator[Way]:
    """Ways to write S, from the cheapest to the most stable."""
    base, shift, low_rank = terms
    assert low_rank is not None
    yield Way(base, shift, low_rank, S.dtype)
    if wide != S.dtype:
        yield Way(base, shift, low_rank, wide)
    if isinstance(base, Diagonal):
        d, small = split_diagonal(shifted(base, shift).diagonal(), S.xp)
        base, shift = Diagonal(d), 0.0
        low_rank = low_rank if small is None else low_rank + small
    if not _is_wide(low_rank):
        yield Way(base, shift, balanced(low_rank, wide), wide)
