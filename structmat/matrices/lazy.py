"""Combinations that no structure holds exactly: kept as their parts, applied in turn."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from structmat._array import (
    Array,
    adjoint,
    belongs,
    computing_on,
    conj,
    is_complex,
    moved,
    taken,
    to_numpy,
)
from structmat.contract.operand import multiplied
from structmat.errors import ShapeError
from structmat.intervals import IntArray
from structmat.kernels.choice.factored import FactoredMatrix
from structmat.matrices.adjoints import are_adjoint
from structmat.matrices.distributed import entries_by_terms
from structmat.matrices.inner_products import LARGE, norm_of_sum
from structmat.matrices.ordered import OrderedMatrix
from structmat.matrices.permutation import Permutation
from structmat.matrix import StructuredMatrix


class Sum(StructuredMatrix, kind="sum"):
    """A + B + …, each applied to the operand; cost and storage add up.

    The terms are two or more of one shape; sums among them are taken apart.
    """

    def __init__(self, *terms: StructuredMatrix) -> None:
        flat = [t for term in terms for t in (term.children if isinstance(term, Sum) else (term,))]
        if any(term.shape != flat[0].shape for term in flat):
            raise ShapeError(f"terms of shapes {[t.shape for t in flat]}; expected one shape")
        super().__init__(flat[0].shape, {}, tuple(flat))

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: those of all terms."""
        return sum(term.cost for term in self.children)

    def _added(self, apply: Callable[[StructuredMatrix], Array]) -> Array:
        total = apply(self.children[0])
        for term in self.children[1:]:
            total = total + apply(term)
        return total

    def _multiply(self, x: Array) -> Array:
        return self._added(lambda term: multiplied(term, x, adjoint=False))

    def _multiply_adjoint(self, y: Array) -> Array:
        return self._added(lambda term: multiplied(term, y, adjoint=True))

    def _dense(self) -> Array:
        xp, dtype = self.xp, self.dtype
        return self._added(lambda term: xp.astype(term.to_dense(), dtype))

    def _hermitian(self) -> bool:
        """Each term is its own adjoint, or another term is that."""
        left = [term for term in self.children if not term.hermitian]
        while left:
            term = left.pop()
            paired = [i for i, other in enumerate(left) if are_adjoint(term, other)]
            if not paired:
                return False
            del left[paired[0]]
        return True

    def _adjoint(self) -> StructuredMatrix:
        return Sum(*(term.H for term in self.children))

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        scaled = [_scaled_inside(term, scalar, apply) for term in self.children]
        terms = [term for term in scaled if term is not None]
        return Sum(*terms) if len(terms) == len(scaled) else NotImplemented

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        return self._added(lambda term: _in(self, term._entries_at(rows, cols)))

    def _norm(self, ord: Any) -> Any:
        """Norm from inner products of the terms where n products would take long."""
        if ord != "fro" or math.prod(self.shape) <= LARGE:
            return NotImplemented
        found = norm_of_sum(self.children)
        return NotImplemented if found is None else found

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        return Sum(*(_part_in(self, term, rows, cols) for term in self.children))


class Product(StructuredMatrix, kind="product"):
    """A @ B @ …, applied from the right; cost and storage add up.

    The factors are two or more whose sizes meet; products among them are taken apart. A
    permutation at either end is an order of the rows or the columns: entries, parts, norms
    and the dense form are those of the factors between, at other places.
    """

    def __init__(self, *factors: StructuredMatrix) -> None:
        flat = [
            f
            for factor in factors
            for f in (factor.children if isinstance(factor, Product) else (factor,))
        ]
        if any(left.shape[1] != right.shape[0] for left, right in pairwise(flat)):
            raise ShapeError(f"factors of shapes {[f.shape for f in flat]}; expected them to meet")
        super().__init__((flat[0].shape[0], flat[-1].shape[1]), {}, tuple(flat))

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: those of all factors."""
        return sum(factor.cost for factor in self.children)

    def _multiply(self, x: Array) -> Array:
        if (ordered := self._ordered) is not None:
            return ordered.multiply(x)
        for factor in reversed(self.children):
            x = multiplied(factor, x, adjoint=False)
        return x

    def _multiply_adjoint(self, y: Array) -> Array:
        if (ordered := self._ordered) is not None:
            return ordered.multiply_adjoint(y)
        for factor in self.children:
            y = multiplied(factor, y, adjoint=True)
        return y

    @property
    def _ordered(self) -> OrderedMatrix | None:
        found: OrderedMatrix | None = self._kept("between orders", self._between_orders)
        return found

    def _between_orders(self) -> OrderedMatrix | None:
        """The matrix between orders, if it is the only one and made of sparse factors."""
        left, inner, right = split_orders(self) if len(self.children) <= 3 else (None, self, None)
        factored = None if inner is self else getattr(inner, "_factored", None)
        if factored is None:
            return None
        return OrderedMatrix(left, factored, right, self._structural)

    @property
    def _factored(self) -> FactoredMatrix | None:
        """The factors between orders, whose kernel multiplies; None for other products."""
        ordered = self._kept("between orders", self._between_orders)
        return None if ordered is None else ordered.factored

    def _dense(self) -> Array:
        *factors, last = self.children
        order = last._inverse if isinstance(last, Permutation) else None
        dense = (last if order is None else factors.pop()).to_dense()
        for factor in reversed(factors):
            dense = multiplied(factor, dense, adjoint=False)
        dense = dense if order is None else taken(dense, order, self.xp, axis=1)
        return self.xp.astype(dense, self.dtype)

    def _hermitian(self) -> bool:
        """The factors read the same from both ends, but for adjoints."""
        count = len(self.children)
        pairs = zip(self.children[: (count + 1) // 2], reversed(self.children), strict=False)
        return all(are_adjoint(left, right) for left, right in pairs)

    def _adjoint(self) -> StructuredMatrix:
        return Product(*(factor.H for factor in reversed(self.children)))

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> Any:
        """One factor takes the number in: that in the middle of a Hermitian product."""
        at = list(range(len(self.children)))
        if self.hermitian:
            at = [len(at) // 2] if len(at) % 2 else []
        for i in at:
            factor = self.children[i]
            scaled = _scaled_inside(factor, scalar, apply)
            if scaled is not None:
                return Product(*self.children[:i], scaled, *self.children[i + 1 :])
        return NotImplemented

    def _pick(self, rows: IntArray, cols: IntArray) -> Any:
        inner, i, j = _inside(self, rows, cols)
        if inner is not self:
            return _in(self, inner._entries_at(i, j))
        # A diagonal factor at an end is a multiple of each row or column.
        *left, last = self.children
        first, *right = self.children
        if last.kind == "diagonal":
            rest, end, at = left, last, cols
        elif first.kind == "diagonal":
            rest, end, at = right, first, rows
        else:
            return entries_by_terms(self, rows, cols)
        A = rest[0] if len(rest) == 1 else Product(*rest)
        return _in(self, A._entries_at(rows, cols)) * _in(self, end._entries_at(at, at))

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        inner, rows, cols = _inside(self, rows, cols)
        if inner is not self:
            return _part_in(self, inner, rows, cols)
        first, *middle, last = self.children
        first = _part_in(self, first, rows, np.arange(first.shape[1]))
        last = _part_in(self, last, np.arange(last.shape[0]), cols)
        return Product(first, *middle, last)

    def _norm(self, ord: Any) -> Any:
        inner = split_orders(self)[1]
        return NotImplemented if inner is self else inner.norm(ord)


class Scaled(StructuredMatrix, kind="scaled"):
    """alpha A, for matrices that cannot take the number alpha into their contents."""

    data_names = ("alpha",)
    alpha: Array

    def __init__(self, A: StructuredMatrix, alpha: Any) -> None:
        xp = A.xp
        if belongs(alpha, xp):  # passes on its gradient
            alpha = moved(alpha, A.device)
        else:
            # Given to a library as it is, a number may become one of single precision.
            turned = isinstance(alpha, (complex, np.complexfloating))
            dtype = xp.complex128 if turned else xp.float64
            alpha = xp.asarray(alpha, dtype=dtype, device=A.device)
        if alpha.ndim:
            raise ShapeError(f"alpha has shape {tuple(alpha.shape)}; expected a single number")
        # A plain number takes the precision of the matrix it scales.
        turned = is_complex(alpha, xp)
        wide = xp.result_type(A.dtype, xp.complex64) if turned else A.dtype
        if turned and A.neutral:  # which has no precision to take
            wide = alpha.dtype
        with computing_on(xp, A.device):
            alpha = xp.astype(alpha, wide)
        super().__init__(A.shape, {"alpha": alpha}, (A,), neutral=A.neutral and not turned)

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: those of A, and one an entry of the result."""
        return self.children[0].cost + self.shape[0]

    def _multiply(self, x: Array) -> Array:
        y = multiplied(self.children[0], x, adjoint=False)
        return y * self.xp.astype(self.alpha, y.dtype)

    def _multiply_adjoint(self, y: Array) -> Array:
        x = multiplied(self.children[0], y, adjoint=True)
        return x * self.xp.astype(conj(self.alpha, self.xp), x.dtype)

    def _dense(self) -> Array:
        dense = self.xp.astype(self.children[0].to_dense(), self.dtype)
        return dense * self.alpha

    def _scaled(self, scalar: Any, apply: Callable[[Any, Any], Any]) -> StructuredMatrix:
        """One number for two, and none where they cancel."""
        alpha = self.alpha
        if isinstance(scalar, complex) and not is_complex(alpha, self.xp):
            alpha = self.xp.astype(alpha, self.xp.result_type(alpha.dtype, self.xp.complex64))
        alpha = apply(alpha, scalar)
        A = self.children[0]
        records, known = self._backend.records_gradients, self._backend.has_values(alpha)
        # A number that learns is kept, whatever its value now.
        if known and not (records and records(alpha)) and alpha.dtype == A.dtype:
            return A if complex(alpha) == 1 else Scaled(A, alpha)
        return Scaled(A, alpha)

    def _hermitian(self) -> bool:
        if not self.children[0].hermitian:
            return False
        if not is_complex(self.alpha, self.xp):
            return True
        return self._backend.has_values(self.alpha) and complex(self.alpha).imag == 0

    def _adjoint(self) -> StructuredMatrix:
        return Scaled(self.children[0].H, conj(self.alpha, self.xp))

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        return _in(self, self.children[0]._entries_at(rows, cols)) * self.alpha

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        return Scaled(self.children[0]._submatrix(rows, cols), self.alpha)

    def _norm(self, ord: Any) -> float:
        return self.children[0].norm(ord) * abs(complex(self.alpha))


class Adjoint(StructuredMatrix, kind="adjoint"):
    """A^H, for structures whose adjoint has another form."""

    def __init__(self, A: StructuredMatrix) -> None:
        super().__init__((A.shape[1], A.shape[0]), {}, (A,))

    @property
    def cost(self) -> int:
        """Multiplications of one matvec: those of A."""
        return self.children[0].cost

    def _multiply(self, x: Array) -> Array:
        return multiplied(self.children[0], x, adjoint=True)

    def _multiply_adjoint(self, y: Array) -> Array:
        return multiplied(self.children[0], y, adjoint=False)

    def _dense(self) -> Array:
        return adjoint(self.children[0].to_dense(), self.xp)

    def _hermitian(self) -> bool:
        return self.children[0].hermitian

    def _adjoint(self) -> StructuredMatrix:
        return self.children[0]

    def _pick(self, rows: IntArray, cols: IntArray) -> Array:
        return conj(self.children[0]._entries_at(cols, rows), self.xp)

    def _part(self, rows: IntArray, cols: IntArray) -> StructuredMatrix:
        return self.children[0]._submatrix(cols, rows).H

    def _norm(self, ord: Any) -> float:
        turned = {1: math.inf, math.inf: 1}
        return self.children[0].norm(turned.get(ord, ord))


def split_orders(
    A: StructuredMatrix,
) -> tuple[Permutation | None, StructuredMatrix, Permutation | None]:
    """The order of the rows of a matrix, the matrix inside, and the order of its columns.

    A permutation at an end of a product is an order; None stands for no order, and a matrix
    without orders is its own inside.

    Examples
    --------
    >>> A = Product(Permutation([1, 0]), Product(Permutation([0, 1]), Permutation([1, 0])))
    >>> left, inner, right = split_orders(A)
    >>> left is A.children[0], inner is A.children[1], right is A.children[2]
    (True, True, True)
    """
    if not isinstance(A, Product):
        return None, A, None
    left = right = None
    inner = list(A.children)
    if isinstance(inner[0], Permutation):
        left = inner.pop(0)
    if isinstance(inner[-1], Permutation) and len(inner) > 1:
        right = inner.pop()
    if len(inner) == len(A.children):
        return None, A, None
    return left, inner[0] if len(inner) == 1 else Product(*inner), right


def _inside(
    A: StructuredMatrix, rows: IntArray, cols: IntArray
) -> tuple[StructuredMatrix, IntArray, IntArray]:
    """The matrix inside the orders of A, with places of A as places in it."""
    left, inner, right = split_orders(A)
    rows = rows if left is None else to_numpy(left.p)[rows]
    cols = cols if right is None else to_numpy(right._inverse)[cols]
    return inner, rows, cols


def _scaled_inside(
    A: StructuredMatrix, scalar: Any, apply: Callable[[Any, Any], Any]
) -> StructuredMatrix | None:
    """A with a number in its contents; None where that would take multiplications of its own."""
    scaled = A._scale(scalar, apply)
    return None if isinstance(scaled, Scaled) and not isinstance(A, Scaled) else scaled


def _in(A: StructuredMatrix, entries: Array) -> Array:
    """Entries of a part of A in the dtype of A."""
    return A.xp.astype(entries, A.dtype)


def _part_in(
    A: StructuredMatrix, child: StructuredMatrix, rows: IntArray, cols: IntArray
) -> StructuredMatrix:
    """A part of a child; that of a neutral one is not neutral, so it takes the dtype of A."""
    part: StructuredMatrix = child._submatrix(rows, cols)
    return part.astype(A.dtype) if child.neutral and not part.neutral else part
