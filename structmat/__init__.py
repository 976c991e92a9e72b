"""Structured matrices as operators.

Six structures behind one SciPy-style interface, exact conversions between them,
compression by budget or tolerance, and interpolation; `structmat.nn` learns them inside
neural networks with PyTorch.

>>> import numpy as np
>>> import structmat
>>> x = np.linspace(0, 1, 64)
>>> K = np.exp(-np.abs(x[:, None] - x) / 0.1)
>>> result = structmat.compress(K, "gblr", budget=0.5, rng=0)
>>> A = result.matrix
>>> A.cost <= 0.5 * K.size, result.error <= result.baseline_error
(True, True)
>>> y = A @ x
"""

from structmat import plot, testing
from structmat._moved import keep_old_homes
from structmat.algebra import MatrixStack, block, block_diag, concatenate, kron, stack
from structmat.compress import Comparison, CompressionResult, compare, compress, recompress
from structmat.convert import convert
from structmat.errors import (
    BackendError,
    BudgetError,
    ConversionError,
    FileFormatError,
    InputError,
    KindError,
    MissingDependencyError,
    OperationError,
    SaveError,
    ShapeError,
    SolveError,
    StructmatError,
    ToleranceError,
    TrainingError,
)
from structmat.interpolate import interpolate
from structmat.io import load, save
from structmat.kinds import Kind, register, rule
from structmat.matrices import (
    GBLR,
    BlockLowRank,
    BlockSparse,
    Dense,
    Diagonal,
    Hierarchical,
    Identity,
    LowRank,
    Monarch,
    Permutation,
)
from structmat.matrix import StructuredMatrix
from structmat.solvers import (
    Factorization,
    LogDeterminant,
    Solution,
    factorize,
    logdet,
    lstsq,
    solve,
)
from structmat.sources import Entries, KernelMatrix, ordering

__version__ = "0.1.0"

keep_old_homes()

__all__ = [
    "GBLR",
    "BackendError",
    "BlockLowRank",
    "BlockSparse",
    "BudgetError",
    "Comparison",
    "CompressionResult",
    "ConversionError",
    "Dense",
    "Diagonal",
    "Entries",
    "Factorization",
    "FileFormatError",
    "Hierarchical",
    "Identity",
    "InputError",
    "KernelMatrix",
    "Kind",
    "KindError",
    "LogDeterminant",
    "LowRank",
    "MatrixStack",
    "MissingDependencyError",
    "Monarch",
    "OperationError",
    "Permutation",
    "SaveError",
    "ShapeError",
    "Solution",
    "SolveError",
    "StructmatError",
    "StructuredMatrix",
    "ToleranceError",
    "TrainingError",
    "block",
    "block_diag",
    "compare",
    "compress",
    "concatenate",
    "convert",
    "factorize",
    "interpolate",
    "kron",
    "load",
    "logdet",
    "lstsq",
    "ordering",
    "plot",
    "recompress",
    "register",
    "rule",
    "save",
    "solve",
    "stack",
    "testing",
]
