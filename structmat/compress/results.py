"""Results of `compress` and of `compare`."""

from dataclasses import dataclass

from structmat.matrix import StructuredMatrix


@dataclass(frozen=True)
class CompressionResult:
    """A structured approximation, with its measured error and its cost.

    Attributes
    ----------
    matrix : StructuredMatrix
        In the array library and on the device of the input.
    kind : str
        Its structure.
    error : float
        Measured relative error, ``||A - B||_F / ||A||_F``; 0 for a zero matrix.
    cost : int
        Multiplications of one matvec.
    storage : int
        Stored scalars.
    baseline_error : float
        Relative error of the truncated singular value decomposition at the same cost:
        of rank ``cap // (m + n)``, where cap is the budget's or else `cost`.
    seconds : float
        Time that the fit took, without measuring it.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> result = structmat.compress(np.eye(8), "block_sparse", budget=0.5)
    >>> result.kind, result.error, result.matrix.cost == result.cost
    ('block_sparse', 0.0, True)
    """

    matrix: StructuredMatrix
    kind: str
    error: float
    cost: int
    storage: int
    baseline_error: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """One row of `compare`.

    Attributes
    ----------
    kind : str
        The structure.
    matrix : StructuredMatrix or None
        None if no matrix of the kind is that cheap.
    cost, storage : int
        Multiplications of one matvec, and stored scalars.
    error : float
        Measured relative error; NaN without a matrix.
    seconds : float
        Time that the fit took.
    note : str
        Reason for a missing matrix; otherwise empty.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> rows = structmat.compare(np.eye(4), budget=0.25)
    >>> [row.kind for row in rows if row.matrix is None]
    ['monarch']
    """

    kind: str
    matrix: StructuredMatrix | None
    cost: int
    storage: int
    error: float
    seconds: float
    note: str = ""
