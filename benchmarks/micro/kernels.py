"""Products by every kernel that fits a matrix, by the kernel's name."""

import structmat
from benchmarks.micro.structures import Product
from structmat.kernels import plan

#: Seconds above which a kernel is left out, if the chosen one should take at most half.
SLOW_SECONDS = 0.03
#: Entries above which no dense copy is made: it would only repeat the dense product.
DENSE_ENTRY_LIMIT = 2**24


def forced(matrix: structmat.StructuredMatrix, columns: int) -> dict[str, Product]:
    """Products by each kernel that the choice compares, except slow ones.

    Kernels that the choice leaves out take far more memory, or more time to prepare.
    """
    expected = plan(matrix, columns).expected
    limit = max(SLOW_SECONDS, 2 * min(expected.values(), default=0.0))
    wanted = [name for name, seconds in expected.items() if seconds <= limit]
    if matrix.shape[0] * matrix.shape[1] > DENSE_ENTRY_LIMIT:
        wanted = [name for name in wanted if name != "dense"]
    return {name: _by(matrix, columns, name) for name in wanted}


def _by(matrix: structmat.StructuredMatrix, columns: int, kernel: str) -> Product:
    multiply = plan(matrix, columns, kernel=kernel).multiply
    return lambda x: multiply(x.reshape(len(x), -1))
