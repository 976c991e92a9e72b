"""Random systems: a backward error within ten tolerances or an error, never a wrong answer."""

from collections import Counter
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from systems import CHANGES, CONTENTS, DTYPES, KINDS, SHIFTS, SIZES, system, truth

from structmat import Dense, InputError, SolveError, StructmatError, factorize
from structmat.solvers import choice
from structmat.solvers.direct import banded, tiles
from structmat.solvers.elimination import sparse_plan

#: Small systems as large ones: only dense matrices are formed, and structure always pays.
STRUCTURE = (
    (choice, "is_small", lambda A: isinstance(A, Dense)),
    (tiles, "is_small", lambda A: isinstance(A, Dense)),
    (tiles, "SHORTEST", 0),
    (banded, "SPARSE", 1),
    (sparse_plan, "SHARE", np.inf),
    (sparse_plan, "_work_of_parts", lambda S: np.inf),
)
#: Condition from which a matrix is singular in double precision, whatever its scales.
SINGULAR = 1e18
#: Rounding errors of the determinant, as multiples of those of the terms of S.
ROUNDINGS = 1000
OUTCOMES = Counter()

SYSTEMS = st.builds(
    dict,
    dtype=st.sampled_from(DTYPES),
    n=st.sampled_from(SIZES),
    contents=st.sampled_from(CONTENTS),
    change=st.sampled_from(CHANGES),
    shift=st.sampled_from(SHIFTS),
    seed=st.integers(0, 2**32 - 1),
)


def check(kind, choices, *, structure):
    """One system: solves, adjoint solves and the determinant, against long double."""
    found = system(kind, **choices)
    with ExitStack() as stack:
        if structure:
            for room, name, value in STRUCTURE:
                stack.enter_context(patch.object(room, name, value))
        if overflows(found):
            stack.enter_context(np.errstate(all="ignore"))
        return outcome(found, choices["seed"], structure=structure)


def is_good(found):
    """True for a matrix whose singular values and terms are of similar sizes."""
    largest = np.abs(found.terms).max(initial=0) or 1
    values = np.linalg.svd((found.S / largest).astype(np.complex128), compute_uv=False)
    return not values.size or values[-1] > (1e-3 if found.single else 1e-8)


def overflows(found):
    """Products of contents that leave the range of their precision, or nearly so; NumPy warns."""
    peak = np.abs(found.terms).max(initial=0) or 1
    return not 1e-25 < peak < 1e25 if found.single else not 1e-250 < peak < 1e250


def outcome(found, seed, *, structure):
    A, S, n = found.A, found.S, found.S.shape[0]
    with np.errstate(all="ignore"):
        finite = np.isfinite(S.astype(np.complex128)).all()
    if not finite:
        with pytest.raises(StructmatError):
            factorize(A, shift=found.shift).solve(np.ones(n))
        return "not finite"
    true = truth(found)
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((n, (0, 1, 1, 2, 3, 20)[seed % 6])).astype(A.dtype)
    if seed % 5 == 0 and A.dtype.kind != "c":
        b = b + 1j * b[:, ::-1]
    # Norms of sources are sums of squares, which may overflow: that is refused as well.
    refusal = InputError if squares_overflow(found) else SolveError
    try:
        F = factorize(A, shift=found.shift)
        x, y = F.solve(b), F.solve_adjoint(b)
    except refusal:
        # By products alone not all systems are solved; by dense factors the good ones are.
        if not structure and not overflows(found) and is_good(found):
            raise
        return "refused"
    assert true.condition < SINGULAR or not b.size
    assert x.shape == y.shape == b.shape
    assert x.dtype == (np.result_type(F.dtype, b.dtype) if not F.neutral else b.dtype)
    check_solution(found, x, b, S)
    check_solution(found, y, b, S.conj().T)
    again = factorize(A, shift=found.shift)
    assert np.array_equal(again.solve(b), x)
    try:
        logdet = F.logdet()
    except SolveError:
        return F.method + ", no determinant"
    assert again.logdet() == logdet
    eps = np.finfo(np.float32 if found.single else np.float64).eps
    far = 10 * logdet.error + ROUNDINGS * eps * (true.sensitivity + n + abs(true.logabs))
    far += 0.1 * found.tol * (n + abs(true.logabs))
    if far < 0.5:
        assert abs(logdet.logabsdet - true.logabs) <= far
        assert abs(logdet.sign - true.sign) <= far
    return F.method


def squares_overflow(found):
    peak = np.abs(found.terms).max(initial=0) or 1
    return not 1e-120 < peak < 1e120


def check_solution(found, x, b, S):
    """The backward error of every column, with rounding errors of the terms of S allowed."""
    with np.errstate(all="ignore"):
        x, b = x.astype(np.clongdouble), b.astype(np.clongdouble)
        assert np.isfinite(x).all()
        left = norms(b - S @ x)
        scale = np.abs(S).max(initial=0) or np.longdouble(1)
        norm = scale * np.linalg.norm((S / scale).astype(np.complex128), 2) if S.size else 0
        terms = np.sqrt((found.terms**2).sum())
    assert (
        left <= 10.01 * found.tol * (norm * norms(x) + norms(b)) + 1e-14 * terms * norms(x)
    ).all()


def norms(x):
    return np.sqrt((np.abs(x) ** 2).sum(axis=0))


@pytest.mark.parametrize("structure", [False, True], ids=["small", "as large"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, derandomize=True, database=None)
@given(choices=SYSTEMS)
def test_systems_are_solved_or_refused(kind, structure, choices):
    check(kind, choices, structure=structure)


#: Systems that were answered wrongly, or refused by a foreign error, at some time.
ONCE = {
    "no rows are no singular matrix": ("gblr", "float32", 0, "normal", "none", "none", 0, False),
    "a rank that single precision rounds away": (
        "low rank", "float32", 13, "normal", "none", "none", 720304063, False,
    ),
    "complex numbers for an order": (
        "permutation", "float64", 11, "whole numbers", "none", "negative", 908030930, False,
    ),
    "an inverse that underflows": (
        "low rank diagonal", "float64", 6, "huge", "none", "eigenvalue", 3129995824, True,
    ),
    "a singular base below low rank": (
        "low rank band", "float32", 17, "whole numbers", "none", "none", 2971292152, False,
    ),
    "a solution as long as singular matrices make it": (
        "uneven tiles", "float64", 9, "normal", "hermitian", "none", 1050886636, True,
    ),
    "squares of a large definite block": (
        "block sparse", "float32", 1, "huge", "scaled columns", "large", 389451226, True,
    ),
    "Ritz values that overflow": (
        "product", "float64", 3, "huge", "hermitian", "one", 87674459, True,
    ),
    "a determinant whose squares vanish": (
        "low rank diagonal", "float64", 5, "tiny", "definite", "small", 66297570, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ONCE)
def test_systems_that_went_wrong_once(case):
    kind, *choices, structure = ONCE[case]
    names = ("dtype", "n", "contents", "change", "shift", "seed")
    check(kind, dict(zip(names, choices, strict=True)), structure=structure)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=420, derandomize=True, database=None, phases=[Phase.generate])
@given(choices=SYSTEMS, structure=st.booleans())
def test_ten_thousand_systems_are_solved_or_refused(kind, structure, choices):
    OUTCOMES[check(kind, choices, structure=structure)] += 1
