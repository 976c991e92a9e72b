"""Compiled loops over rectangles of a matrix, each of a rank or dense, with one vector or many.

A loop goes through some rectangles and adds to an array of rows from `low` on. `forwards` adds
a rectangle times the operand, `backwards` its adjoint; a symmetric matrix takes both.

Serial, without the interpreter's lock; `structmat.kernels.cpu.rectangles` shares rectangles out
among threads.
"""

import numpy as np

from structmat.kernels.cpu.llvm import compiled_sums
from structmat.kernels.layouts.rectangles import DENSE


@compiled_sums
def add_vector(table, begins, contents, triangular, first, last, forwards, backwards, x, y, low):
    """Add the products of rectangles `first` to `last` with the vector x to y.

    Parameters
    ----------
    table : array of int, shape (b, 5)
    begins : tuple of array of int
        First entries in u, in v and among dense ones.
    contents : tuple of array
        u, v and dense entries.
    triangular : array of bool, shape (b,)
        Rectangles that hold a lower triangle.
    """
    u, v, dense = contents
    for b in range(first, last):
        top, p, left, q, rank = table[b, 0], table[b, 1], table[b, 2], table[b, 3], table[b, 4]
        if rank != DENSE:
            for l in range(rank):
                a, c = begins[0][b] + l * p, begins[1][b] + l * q
                up, vq = u[a : a + p], v[c : c + q]
                if forwards:
                    z = _dot(vq, x[left : left + q])
                    _add(z, up, y[top - low : top - low + p])
                if backwards:
                    z = _dot(up, x[top : top + p])
                    _add(z, vq, y[left - low : left - low + q])
            continue
        a = begins[2][b]
        if triangular[b]:
            xs, ys = x[top : top + p], y[top - low : top - low + p]
            for i in range(p):
                row = dense[a : a + i]
                ys[i] += _sum(row, xs[:i]) + dense[a + i].real * xs[i]
                _add_conj(xs[i], row, ys[:i])
                a += i + 1
            continue
        for i in range(p):
            row = dense[a : a + q]
            if forwards:
                y[top - low + i] += _sum(row, x[left : left + q])
            if backwards:
                _add_conj(x[top + i], row, y[left - low : left - low + q])
            a += q


@compiled_sums
def _dot(a, x):
    """The sum of conj(a) x."""
    total = a[:1].sum() * 0
    for j in range(a.size):
        total += np.conj(a[j]) * x[j]
    return total


@compiled_sums
def _sum(a, x):
    """The sum of a x."""
    total = a[:1].sum() * 0
    for j in range(a.size):
        total += a[j] * x[j]
    return total


@compiled_sums
def _add(z, a, y):
    """Add z a to y."""
    for i in range(a.size):
        y[i] += z * a[i]


@compiled_sums
def _add_conj(z, a, y):
    """Add z conj(a) to y."""
    for i in range(a.size):
        y[i] += z * np.conj(a[i])


@compiled_sums
def add_columns(table, begins, contents, triangular, first, last, forwards, backwards, x, y, low):
    """Add the products of rectangles with the columns of x, (n, k), to y; the rest as above."""
    u, v, dense = contents
    k = x.shape[1]
    z = np.empty(k, x.dtype)
    for b in range(first, last):
        top, p, left, q, rank = table[b, 0], table[b, 1], table[b, 2], table[b, 3], table[b, 4]
        if rank != DENSE:
            for l in range(rank):
                a, c = begins[0][b] + l * p, begins[1][b] + l * q
                if forwards:
                    z[:] = 0
                    for j in range(q):
                        _add(np.conj(v[c + j]), x[left + j], z)
                    for i in range(p):
                        _add(u[a + i], z, y[top - low + i])
                if backwards:
                    z[:] = 0
                    for i in range(p):
                        _add(np.conj(u[a + i]), x[top + i], z)
                    for j in range(q):
                        _add(v[c + j], z, y[left - low + j])
            continue
        a = begins[2][b]
        for i in range(p):
            width = i if triangular[b] else q
            for j in range(width):
                if forwards:
                    _add(dense[a + j], x[left + j], y[top - low + i])
                if backwards:
                    _add(np.conj(dense[a + j]), x[top + i], y[left - low + j])
            a += width
            if triangular[b]:
                _add(dense[a].real, x[top + i], y[top - low + i])
                a += 1
