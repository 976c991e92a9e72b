"""Compiled loops over the rectangles of a named kernel, approximated or filled in.

Factors by crosses are brought to singular vectors, and their small singular values are dropped.

Import this module where it is used: it imports Numba.
"""

import numpy as np

from structmat.compress.hierarchical.cross_loops import cross, evaluate, inner
from structmat.kernels.cpu.llvm import compiled_sums


@compiled_sums
def orthonormal(F):
    """Make the rows of F orthonormal, twice over, and return R with F_old = R^T F."""
    r = F.shape[0]
    R = np.zeros((r, r))
    for l in range(r):
        before = np.sqrt(inner(F[l], F[l]))
        for _ in range(2):
            for k in range(l):
                z = inner(F[k], F[l])
                R[k, l] += z
                for j in range(F.shape[1]):
                    F[l, j] -= z * F[k, j]
        size = np.sqrt(inner(F[l], F[l]))
        if size <= 1e-15 * before:
            size = 0.0
        R[l, l] = size
        share = 1.0 / size if size > 0.0 else 0.0
        for j in range(F.shape[1]):
            F[l, j] *= share
    return R


@compiled_sums
def recompressed(U, V, bound):
    """Factors in singular vectors, less the smallest ones, whose squares add up to `bound`.

    Returns U^T and V^T, each with the square roots of the singular values, and the values.
    """
    r = U.shape[0]
    if r == 0:
        return U, V, np.zeros(0)
    R, S = orthonormal(U), orthonormal(V)
    left, values, right = np.linalg.svd(np.dot(R, S.T.copy()))
    tail, kept = 0.0, r
    while kept > 0 and tail + values[kept - 1] ** 2 <= bound:
        kept -= 1
        tail += values[kept] ** 2
    root = np.sqrt(values[:kept])
    one, two = np.empty((kept, r)), np.empty((kept, r))
    for l in range(kept):
        for k in range(r):
            one[l, k] = left[k, l] * root[l]
            two[l, k] = right[l, k] * root[l]
    return _times(one, U), _times(two, V), values[:kept].copy()


@compiled_sums
def _times(A, B):
    """A B, for few rows of A."""
    out = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            z, row, target = A[i, k], B[k], out[i]
            for j in range(B.shape[1]):
                target[j] += z * row[j]
    return out


@compiled_sums
def fit_far(code, scale, X, Y, pairs, bounds, copies, seed):
    """Approximate rectangles, (b, 4), each to its squared bound.

    Returns all U^T and V^T one after another, all singular values, the ranks, -1 where the
    rectangle did not come near at less than its own cost, and the entries evaluated.

    `copies` tells that some points are equal.
    """
    sizes = np.zeros(3, np.int64)
    u, v, s = np.empty(1 << 16), np.empty(1 << 16), np.empty(1 << 12)
    ranks = np.empty(len(pairs), np.int64)
    evaluated = 0
    for t in range(len(pairs)):
        a, b, c, d = pairs[t, 0], pairs[t, 1], pairs[t, 2], pairs[t, 3]
        state = np.uint64(seed) + np.uint64(0xD1342543DE82EF95) * np.uint64(a * 31 + c * 17 + b + d)
        # A rank above it takes more than the entries.
        full = ((b - a) * (d - c)) // (b - a + d - c) + 1
        U, V, count, agreed = cross(code, scale, X, Y, a, b, c, d, bounds[t], full, copies, state)
        evaluated += count
        if not agreed:
            ranks[t] = -1
            continue
        U, V, values = recompressed(U, V, 0.25 * bounds[t])
        ranks[t] = values.size
        u = _appended(u, sizes, 0, U.ravel())
        v = _appended(v, sizes, 1, V.ravel())
        s = _appended(s, sizes, 2, values)
    return u[: sizes[0]].copy(), v[: sizes[1]].copy(), s[: sizes[2]].copy(), ranks, evaluated


@compiled_sums
def _appended(buffer, sizes, which, more):
    """A buffer with more numbers in it, itself or a larger one."""
    begin, end = sizes[which], sizes[which] + more.size
    if end > buffer.size:
        larger = np.empty(max(2 * buffer.size, end))
        larger[:begin] = buffer[:begin]
        buffer = larger
    buffer[begin:end] = more
    sizes[which] = end
    return buffer


@compiled_sums
def fill_near(code, scale, X, Y, pairs, triangular, begins, first, last, out):
    """Write the entries of rectangles `first` to `last` to `out`, or their lower triangles."""
    width = 0
    for t in range(first, last):
        width = max(width, pairs[t, 3] - pairs[t, 2])
    row = np.empty(width)
    for t in range(first, last):
        a, b, c, d = pairs[t, 0], pairs[t, 1], pairs[t, 2], pairs[t, 3]
        at = begins[t]
        for i in range(a, b):
            end = i + 1 if triangular[t] else d
            evaluate(code, scale, X, i, Y, c, end, row)
            out[at : at + end - c] = row[: end - c]
            at += end - c


@compiled_sums
def keep_ranks(sizes, old, new, source, target):
    """Copy the first ranks of each rectangle's factor, packed, to another packing."""
    begin, at = 0, 0
    for t in range(old.size):
        count = new[t] * sizes[t]
        target[at : at + count] = source[begin : begin + count]
        at += count
        if old[t] > 0:
            begin += old[t] * sizes[t]
