"""Products by Monarch matrices, in the array API alone: two batched products."""

from types import ModuleType

from structmat._array import Array, conj


def monarch_matmat(
    left: Array, right: Array, x: Array, xp: ModuleType, *, by_columns: bool = False
) -> Array:
    """Multiply by a Monarch matrix, on padded operands: (k p, c) to (l s, c), by columns if asked.

    `left` has shape (l, s, r), `right` (k, q, p), with k q = l r. The middle index
    t = a l + j, a < r, belongs to block j of `left`; the output index is i l + j.
    """
    (l, s, r), (k, _, p), c = left.shape, right.shape, x.shape[1]
    middle = xp.reshape(right @ xp.reshape(x, (k, p, c)), (r, l, c))
    if by_columns:
        out = xp.permute_dims(middle, (1, 2, 0)) @ xp.matrix_transpose(left)
        return xp.matrix_transpose(xp.reshape(xp.permute_dims(out, (1, 2, 0)), (c, s * l)))
    out = left @ xp.permute_dims(middle, (1, 0, 2))
    return xp.reshape(xp.permute_dims(out, (1, 0, 2)), (s * l, c))


def monarch_rmatmat(left: Array, right: Array, y: Array, xp: ModuleType) -> Array:
    """Adjoint of `monarch_matmat`: (l s, c) to (k p, c)."""
    (l, s, _), (k, q, p), c = left.shape, right.shape, y.shape[1]
    y = xp.permute_dims(xp.reshape(conj(y, xp), (s, l, c)), (1, 0, 2))
    middle = xp.permute_dims(xp.matrix_transpose(left) @ y, (1, 0, 2))
    out = xp.matrix_transpose(right) @ xp.reshape(middle, (k, q, c))
    return conj(xp.reshape(out, (k * p, c)), xp)
