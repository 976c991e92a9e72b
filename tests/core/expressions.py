"""Random expressions of matrices, each with its dense twin and bounds that follow from its parts.

An `Expression` holds a matrix, the dense array that it should be, the sums of the sizes of all
terms of its entries (by which rounding errors are measured), the dtype that it should have (None
for a matrix that has no precision of its own), the least precision of any step, an honest bound
of the cost, and whether a dense array or an operator is among its leaves.
"""

from dataclasses import dataclass
from typing import Any

import cases
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

import structmat
from structmat.matrices import ForeignOperator

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


@dataclass
class Expression:
    matrix: Any
    dense: np.ndarray
    sizes: np.ndarray
    dtype: Any
    eps: float
    cost: int
    fills: bool
    text: str

    @property
    def shape(self):
        return self.dense.shape


def result_type(*parts):
    own = [part.dtype for part in parts if part.dtype is not None]
    return np.result_type(*own) if own else None


class Draw:
    """A source of choices: small shapes, leaves, and the nodes above them."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def size(self, most=7):
        return int(self.rng.integers(1, most + 1)) if self.rng.random() < 0.97 else 0

    def contents(self, dtype):
        return cases.contents(dtype, int(self.rng.integers(2**31)))

    def parts_of(self, n, most=3):
        """A whole number as a sum of a few."""
        cuts = np.sort(self.rng.integers(0, n + 1, int(self.rng.integers(0, most))))
        return np.diff([0, *cuts, n]).tolist()

    # Leaves.

    def leaf(self, shape):
        m, n = shape
        names = ["low_rank", "block_sparse", "block_low_rank", "gblr", "hierarchical", "dense"]
        names += ["monarch", "sparse", "operator", "entries", "kernel"]
        if m == n:
            names += ["permutation", "identity", "diagonal", "symmetric"]
            names += ["hermitian_low_rank", "mirrored"]
        name = self.pick(names)
        dtype = self.pick(DTYPES)
        matrix, dense, sizes = self._built(name, m, n, dtype)
        if name == "sparse":
            matrix, dense, sizes = self._sparse(m, n, dtype)
        neutral = name in ("permutation", "identity") or (
            name == "sparse" and m == n == 0 and np.dtype(dtype).kind != "c"
        )
        if name == "kernel":
            dtype = matrix.dtype  # of real points
        if name == "block_low_rank":
            dtype = matrix.dtype  # one without tiles has no dtype of its own
            dense = dense if dtype.kind == "c" else dense.real
        cost = m * n if name == "sparse" else matrix.cost
        dense = dense.real if neutral else dense
        dense = dense.astype(np.result_type(dense, np.float64))
        return Expression(
            matrix, dense, sizes, None if neutral else np.dtype(dtype),
            0.0 if neutral else float(np.finfo(dtype).eps), cost,
            name in ("dense", "operator", "entries", "kernel"), f"{name}{shape}",
        )  # fmt: skip

    def _built(self, name, m, n, dtype):
        rng = self.rng
        if name == "sparse":
            return None, None, None
        c = self.contents(dtype)
        if name == "kernel":
            points = [rng.random((size, 2)).astype(dtype(0).real.dtype) for size in (m, n)]
            K = structmat.KernelMatrix(points[0], "exponential", points[1])
            r = np.linalg.norm(points[0][:, None] - points[1].astype(float), axis=2)
            return K, np.exp(-r), np.ones((m, n))
        if name == "entries":
            D = c(m, n)
            return structmat.Entries(lambda i, j: D[np.ix_(i, j)], (m, n), dtype), D, np.abs(D)
        build = {
            "low_rank": lambda: cases.low_rank(m, n, int(rng.integers(0, 4))),
            "block_sparse": lambda: self._block_sparse(m, n),
            "block_low_rank": lambda: self._block_low_rank(m, n),
            "gblr": lambda: self._gblr(m, n),
            "hierarchical": lambda: self._hierarchical(m, n),
            "symmetric": lambda: self._symmetric(n),
            "dense": lambda: cases.dense(m, n),
            "monarch": lambda: self._monarch(m, n),
            "operator": lambda: cases.operator(m, n),
            "permutation": lambda: cases.permutation(rng.permutation(n).tolist()),
            "identity": lambda: cases.identity(n),
            "diagonal": lambda: cases.diagonal(n),
            "hermitian_low_rank": lambda: cases.hermitian_low_rank(n, int(rng.integers(0, 3))),
            "mirrored": lambda: cases.mirrored(self._gblr(n, n)),
        }[name]()
        state = rng.bit_generator.state
        drawn = []

        def recorded(*shape):
            drawn.append(c(*shape))
            return drawn[-1]

        matrix, dense = build(recorded)
        rng.bit_generator.state = state
        again = iter(drawn)
        _, sizes = build(lambda *shape: np.abs(next(again)))
        return matrix, dense, np.abs(sizes)

    def _sparse(self, m, n, dtype):
        S = self.contents(dtype)(m, n) * (self.rng.random((m, n)) < 0.3)
        make = self.pick([
            scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array,
            scipy.sparse.dia_array, scipy.sparse.csr_matrix,
        ])  # fmt: skip
        return make(S), S, np.abs(S)

    def _block_sparse(self, m, n):
        p, q = (int(self.rng.integers(1, 4)) for _ in range(2))
        high, wide = -(-m // p), -(-n // q)
        on = np.flatnonzero(self.rng.random(high * wide) < 0.6)
        rows, cols = np.divmod(on, max(wide, 1))
        return cases.block_sparse(m, n, p, q, rows.tolist(), cols.tolist())

    def _block_low_rank(self, m, n):
        rows, cols = self.parts_of(m), self.parts_of(n)
        ranks = {
            (i, j): self.pick([None, 0, 1, 2])
            for i in range(len(rows))
            for j in range(len(cols))
            if self.rng.random() < 0.7
        }
        return cases.block_low_rank(rows, cols, ranks)

    def _gblr(self, m, n):
        k = int(self.rng.integers(0, 5)) if m and n else 0
        return cases.gblr(
            m, n, self.rng.integers(0, max(m, 1), k), self.rng.integers(0, m + 1, k),
            self.rng.integers(0, max(n, 1), k), self.rng.integers(0, n + 1, k),
        )  # fmt: skip

    def _hierarchical(self, m, n):
        blocks, top = [], 0
        for p in self.parts_of(m):
            left = 0
            for q in self.parts_of(n):
                if p and q and self.rng.random() < 0.8:
                    blocks.append([top, p, left, q, self.pick([-1, 0, 1, 2])])
                left += q
            top += p
        orders = [self.rng.permutation(size) for size in (m, n)]
        return cases.hierarchical((m, n), blocks, row_order=orders[0], col_order=orders[1])

    def _symmetric(self, n):
        h, order = n // 2, self.rng.permutation(n)
        blocks = [[0, h, 0, h, -1], [h, n - h, h, n - h, -1], [h, n - h, 0, h, 1]]
        blocks = [block for block in blocks if block[1] and block[3]]
        return cases.hierarchical((n, n), blocks, row_order=order, col_order=order, symmetric=True)

    def _monarch(self, m, n):
        l, k = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4))
        s, p = max(-(-m // l), 1), max(-(-n // k), 1)
        q = l * int(self.rng.integers(1, 3))
        return cases.monarch((l, s, k * q // l), (k, q, p), (m, n))

    # Nodes.

    def expression(self, shape, depth):
        """An expression of a shape, of at most this depth."""
        if depth == 0 or self.rng.random() < 0.15:
            return self.matrix(self.leaf(shape))
        nodes = [
            self.added, self.subtracted, self.multiplied, self.multiplied, self.scaled, self.turned,
            self.cut, self.joined, self.mixed, self.real, self.batched,
        ]  # fmt: skip
        m, n = shape
        if m == n:
            nodes += [self.powered, self.joined_diagonally]
        if m > 1 or n > 1:
            nodes.append(self.kronecker)
        return self.pick(nodes)(shape, depth - 1)

    def matrix(self, e):
        """A leaf as a structured matrix: sparse ones are terms by themselves elsewhere."""
        if not isinstance(e.matrix, structmat.StructuredMatrix):
            e.matrix = structmat.block([[e.matrix]])
        return e

    def pair(self, shape, other, depth):
        """Two expressions, of which one may be a sparse matrix or an operator of SciPy's."""
        a, b = self.expression(shape, depth), self.expression(other, depth)
        outside = self.leaf(other if (first := self.rng.random() < 0.5) else shape)
        if self.rng.random() < 0.25 and scipy.sparse.issparse(outside.matrix):
            return (a, outside) if first else (outside, b)
        if self.rng.random() < 0.1 and isinstance(outside.matrix, ForeignOperator) and first:
            outside.matrix = outside.matrix.operator
            return a, outside
        return a, b

    def added(self, shape, depth):
        a, b = self.pair(shape, shape, depth)
        dense, sizes = a.dense + b.dense, a.sizes + b.sizes
        found = self.combined(a.matrix + b.matrix, dense, sizes, "+", a, b)
        if found.matrix.kind == "scaled":
            found.cost += shape[0]  # twice the identity
        return found

    def subtracted(self, shape, depth):
        a, b = self.pair(shape, shape, depth)
        dense, sizes = a.dense - b.dense, a.sizes + b.sizes
        found = self.combined(a.matrix - b.matrix, dense, sizes, "-", a, b)
        found.cost += sum(shape)
        return found

    def multiplied(self, shape, depth):
        k = self.size()
        a, b = self.pair((shape[0], k), (k, shape[1]), depth)
        return self.combined(a.matrix @ b.matrix, a.dense @ b.dense, a.sizes @ b.sizes, "@", a, b)

    def mixed(self, shape, depth):
        """SciPy's operator on the left of a matrix gives one of SciPy's, which comes back."""
        a, b = self.leaf(shape), self.expression(shape, depth)
        c = self.expression(shape, depth)
        if a.dtype is None or not shape[0] * shape[1]:
            return self.added(shape, depth)
        outer = aslinearoperator(a.dense.astype(a.dtype)) - b.matrix
        a.fills, a.cost = True, shape[0] * shape[1]
        inner = self.combined(None, a.dense - b.dense, a.sizes + b.sizes, "-", a, b)
        inner.cost += sum(shape)
        return self.combined(
            c.matrix + outer, c.dense + inner.dense, c.sizes + inner.sizes, "+", c, inner
        )

    def scaled(self, shape, depth):
        a = self.expression(shape, depth)
        factor = self.pick([2, -0.5, 1.5 - 0.5j, np.float64(3), np.int8(-2)])
        result, dense = self.pick([
            (lambda: factor * a.matrix, lambda: factor * a.dense),
            (lambda: a.matrix / factor, lambda: a.dense / factor),
            (lambda: -a.matrix, lambda: -a.dense),
        ])  # fmt: skip
        expected = dense()
        sizes = a.sizes * max(abs(complex(factor)), 2.0)
        found = self.combined(result(), expected, sizes, f"scaled {factor}", a)
        if a.dtype is not None and np.iscomplexobj(expected) and a.dtype.kind == "f":
            found.dtype = np.result_type(a.dtype, np.complex64)
        if a.dtype is None and np.iscomplexobj(expected):
            found.dtype = np.dtype(np.complex128)
        found.cost += shape[0] + shape[1]
        return found

    def turned(self, shape, depth):
        name = self.pick(["H", "T", "conj", "copy", "wide"])
        a = self.expression(shape if name not in ("H", "T") else shape[::-1], depth)
        if name in ("H", "T"):
            dense = a.dense.conj().T if name == "H" else a.dense.T
            return self.combined(getattr(a.matrix, name), dense, a.sizes.T, name, a)
        if name == "wide":
            found = self.combined(a.matrix.astype("complex128"), a.dense, a.sizes, name, a)
            found.dtype = None if a.dtype is None else np.dtype(np.complex128)
            return found
        dense = a.dense.conj() if name == "conj" else a.dense
        return self.combined(getattr(a.matrix, name)(), dense, a.sizes, name, a)

    def real(self, shape, depth):
        a, name = self.expression(shape, depth), self.pick(["real", "imag"])
        found = self.combined(getattr(a.matrix, name), getattr(a.dense, name), a.sizes, name, a)
        found.cost = 8 * (a.cost + sum(shape))
        if a.dtype is None and not found.matrix.neutral:
            found.dtype = np.dtype(np.float64)  # the zero matrix
        if a.dtype is not None:
            # That of operators, sources and long products is a lazy mean.
            real = np.result_type(np.zeros(0, a.dtype).real)
            found.dtype = real if found.matrix.dtype == real else a.dtype
            assert found.dtype == real or a.fills or "product" in kinds_in(a.matrix), a.text
        return found

    def powered(self, shape, depth):
        a, k = self.expression(shape, depth), self.pick([0, 1, 2, 3])
        dense, sizes = np.eye(*shape), np.eye(*shape)
        for _ in range(k):
            dense, sizes = dense @ a.dense, sizes @ a.sizes
        found = self.combined(a.matrix**k, dense, sizes, f"**{k}", a)
        found.cost = max(k, 1) * a.cost + (shape[0] * shape[1] if a.fills else 0)
        found.dtype = None if k == 0 else a.dtype
        return found

    def cut(self, shape, depth):
        (m, rows), (n, cols) = self.key(shape[0]), self.key(shape[1])
        if not (isinstance(rows, slice) or isinstance(cols, slice)):
            n, cols = shape[1], slice(None)
        larger, key = (m, n), (rows, cols)
        if isinstance(cols, slice) and cols == slice(None) and self.rng.random() < 0.5:
            key = rows
        a = self.expression(larger, depth)
        found = self.combined(a.matrix[key], a.dense[key], a.sizes[key], f"[{key}]", a)
        found.cost += nodes_in(a.matrix) * (sum(larger) + sum(shape))
        if not found.matrix.neutral and a.dtype is None:
            found.dtype = np.dtype(np.float64)  # a part of a permutation is a matrix of ones
        return found

    def key(self, size):
        """A number of positions, and an index that keeps this many of them in an axis."""
        n = size + int(self.rng.integers(0, 4))
        mask = np.zeros(n, bool)
        mask[self.rng.permutation(n)[:size]] = True
        some = [(n, mask), (n, np.flatnonzero(mask)), (n, self.rng.permutation(n)[:size])]
        if n:
            some.append((n, self.rng.integers(-n, n, size).tolist()))
        return self.pick([
            (n, slice(0, size)), (n, slice(n - size, None)), (size, slice(None, None, -1)),
            (2 * size, slice(None, None, 2)), (2 * size, slice(-1, None, -2)),
            (size, slice(None)), *some,
        ])  # fmt: skip

    def joined(self, shape, depth):
        heights, widths = self.parts_of(shape[0]), self.parts_of(shape[1])
        blocks = [[self.expression((p, q), depth) for q in widths] for p in heights]
        flat = [e for row in blocks for e in row]
        empty = [[self.rng.random() < 0.2 for _ in widths] for _ in heights]
        for i in range(len(heights)):
            empty[i][i % len(widths)] = False
        for j in range(len(widths)):
            empty[j % len(heights)][j] = False
        names = [[None if gone else e.matrix for e, gone in zip(*row, strict=True)]
                 for row in zip(blocks, empty, strict=True)]  # fmt: skip
        kept = [[0.0 if gone else 1.0 for gone in row] for row in empty]

        def whole(name):
            return np.block([
                [getattr(e, name) if k else np.zeros(e.shape) for e, k in zip(*row, strict=True)]
                for row in zip(blocks, kept, strict=True)
            ]).reshape(shape)  # fmt: skip

        flat = [e for row, gone in zip(blocks, empty, strict=True)
                for e, g in zip(row, gone, strict=True) if not g]  # fmt: skip
        return self.combined(structmat.block(names), whole("dense"), whole("sizes"), "block", *flat)

    def joined_diagonally(self, shape, depth):
        parts = [self.expression((p, p), depth) for p in self.parts_of(shape[0])]

        def whole(name):
            result, at = np.zeros(shape, complex), 0
            for e in parts:
                result[at : at + e.shape[0], at : at + e.shape[0]] = getattr(e, name)
                at += e.shape[0]
            return result

        dense, sizes = whole("dense"), whole("sizes").real
        dense = dense if any(np.iscomplexobj(e.dense) for e in parts) else dense.real
        return self.combined(
            structmat.block_diag(*(e.matrix for e in parts)), dense, sizes, "block_diag", *parts
        )

    def kronecker(self, shape, depth):
        inner = [self.pick([d for d in range(1, n + 1) if n % d == 0] or [0]) for n in shape]
        outer = [n // d if d else 1 for n, d in zip(shape, inner, strict=True)]
        a, b = self.expression(tuple(outer), depth), self.expression(tuple(inner), depth)
        dense, sizes = (np.kron(getattr(a, n), getattr(b, n)) for n in ("dense", "sizes"))
        found = self.combined(structmat.kron(a.matrix, b.matrix), dense, sizes, "kron", a, b)
        found.cost = outer[1] * b.cost + inner[0] * a.cost
        return found

    def batched(self, shape, depth):
        parts = [self.expression(shape, depth) for _ in range(2)]
        S = structmat.stack([e.matrix for e in parts])
        a = parts[0]
        X = np.ones((shape[1], 2))
        got, expected = S @ X, np.stack([e.dense @ X for e in parts])
        scale = np.stack([e.sizes @ X for e in parts])
        eps = max(np.finfo(S.dtype).eps, *(e.eps for e in parts))
        assert (np.abs(got - expected) <= 500 * eps * (scale + 1e-30)).all(), "stack"
        return self.combined(S[0], a.dense, a.sizes, "stack", a)

    def combined(self, matrix, dense, sizes, what, *parts):
        cost = sum(e.cost for e in parts)
        if matrix is not None and (what == "@" or what.startswith("**")):
            # A low-rank factor leaves its rank, and a dense one all entries.
            found = matrix
            if found.kind == "low_rank":
                cost = max(cost, found.rank * sum(found.shape))
        if any(e.fills for e in parts):
            cost = max(cost, sum(e.cost for e in parts), dense.size)
        return Expression(
            matrix, dense, sizes, result_type(*parts), max([0.0, *(e.eps for e in parts)]), cost,
            any(e.fills for e in parts), f"{what}({', '.join(e.text for e in parts)})",
        )  # fmt: skip


def kinds_in(A):
    """Kinds of a matrix and of all below it."""
    return {A.kind}.union(*(kinds_in(child) for child in A.children))


def nodes_in(A):
    """Number of a matrix and all below it."""
    return 1 + sum(map(nodes_in, A.children))
