"""Approximations of a matrix by other packages that are installed."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.micro.peer_products import load
from benchmarks.results import Skip

#: Iterations of PALM4MSA: with more, the error falls little and the time grows.
ITERATION_COUNT = 50


@dataclass(frozen=True)
class Fitted:
    """Approximation: dense form, multiplications of a matvec, and seconds to find it."""

    dense: NDArray
    cost: int
    seconds: float


Fit = Callable[[NDArray, int, int], Fitted]


def truncated_svd(A: NDArray, cap: int, seed: int) -> Fitted:
    """scikit-learn's TruncatedSVD, randomized, of the rank that the cap allows."""
    decomposition = load("sklearn.decomposition", "scikit-learn")
    rank = cap // sum(A.shape)
    if not 1 <= rank < min(A.shape):
        raise Skip(f"rank {rank}; TruncatedSVD takes 1 to {min(A.shape) - 1}")
    model = decomposition.TruncatedSVD(rank, random_state=seed)
    begin = time.perf_counter()
    left = model.fit_transform(A)
    seconds = time.perf_counter() - begin
    return Fitted(left @ model.components_, rank * sum(A.shape), seconds)


def palm4msa(A: NDArray, cap: int, _seed: int) -> Fitted:
    """FAµST's PALM4MSA: a product of two sparse factors, half of the cap each."""
    fact = load("pyfaust.fact", "pyfaust")
    params = load("pyfaust.factparams", "pyfaust")
    (m, n), half = A.shape, cap // 2
    constraints = params.ConstraintList("sp", half, m, n, "sp", half, n, n)
    settings = params.ParamsPalm4MSA(constraints, params.StoppingCriterion(num_its=ITERATION_COUNT))
    begin = time.perf_counter()
    faust = fact.palm4msa(A, settings, backend=2020)
    seconds = time.perf_counter() - begin
    return Fitted(faust.toarray(), int(faust.nnz_sum()), seconds)


def butterfly(A: NDArray, cap: int, _seed: int) -> Fitted:
    """FAµST's butterfly factorization, whose cost is fixed by the size."""
    fact = load("pyfaust.fact", "pyfaust")
    m, n = A.shape
    if m != n or n & (n - 1):
        raise Skip(f"a {m}×{n} matrix; butterfly takes square ones whose size is a power of two")
    if 2 * n * int(math.log2(n)) > cap:
        raise Skip("a butterfly factorization costs more than the budget")
    begin = time.perf_counter()
    faust = fact.butterfly(A, type="bbtree")
    seconds = time.perf_counter() - begin
    return Fitted(faust.toarray(), int(faust.nnz_sum()), seconds)


def kronecker_sparse(A: NDArray, cap: int, _seed: int) -> Fitted:
    """Factors of lazylinop's ksd, two of them: Monarch with the best sizes and rank."""
    lazy = load("lazylinop.butterfly", "lazylinop")
    m, n = A.shape
    chains = list(_chains(m, n, cap))
    if not chains:
        raise Skip("no chain of two Kronecker-sparse factors fits the budget")
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True):
        found = [lazy.ksd(A, lazy.Chain(chain)) for chain in chains]
        dense = [operator.toarray() for operator in found]
    best = min(range(len(found)), key=lambda i: float(np.linalg.norm(dense[i] - A)))
    seconds = time.perf_counter() - begin
    cost = sum(math.prod(values.shape) for values in found[best].ks_values)
    return Fitted(dense[best], cost, seconds)


def _chains(m: int, n: int, cap: int) -> Iterator[tuple[Any, ...]]:
    """Chains of two patterns for powers of two that divide the shape, of the largest rank."""
    for p in _powers(m):
        for q in _powers(n):
            rank = min(cap // (m * q + n * (m // p)), p, n // q)
            if rank >= 1:
                yield (1, p, q * rank, m // p), (q, rank * (m // p), n // q, 1)


def _powers(n: int) -> list[int]:
    return [2**i for i in range(1, n.bit_length()) if n % 2**i == 0 and 2**i < n]


#: Every peer by the name it has in tables.
METHODS: dict[str, Fit] = {
    "scikit-learn TruncatedSVD": truncated_svd,
    "pyfaust palm4msa": palm4msa,
    "pyfaust butterfly": butterfly,
    "lazylinop ksd": kronecker_sparse,
}
