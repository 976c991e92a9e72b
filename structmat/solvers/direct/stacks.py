"""Factors of many small arrays of one size, solved together."""

from collections.abc import Callable
from types import ModuleType

import numpy as np

from structmat._array import Array, device, from_numpy, to_numpy
from structmat._array import adjoint as _adjoint
from structmat.solvers.direct.lapack import Factors, balancing, factored
from structmat.solvers.elimination.pivots import sign_and_log
from structmat.solvers.results import LogDeterminant

#: Larger arrays are factored, and solved with, one by one.
SIDE = 32
#: Inverses are used above this reciprocal condition number.
_SAFE = 1e-9


class Stack:
    """Solves with arrays (c, p, p), one for each of c parts of columns, in double precision.

    Small ones by their inverses in one batch; larger ones, and those with large condition
    numbers, each by its factors.
    """

    def __init__(
        self, blocks: Array, xp: ModuleType, *, hermitian: bool, name: Callable[[int], str]
    ) -> None:
        self.shape = blocks.shape
        self.inverse: Array | None = None
        self.factors: list[Factors] = []
        self._log: LogDeterminant | None = None
        with np.errstate(all="ignore"):
            if blocks.shape[1] > SIDE or not self._inverted(blocks, xp):
                self.factors = [
                    factored(blocks[i, :, :], xp, hermitian=hermitian, name=name(i))
                    for i in range(blocks.shape[0])
                ]

    def _inverted(self, blocks: Array, xp: ModuleType) -> bool:
        """True if the inverses are near enough to serve; they are kept then."""
        scales = balancing(blocks, xp)
        if not all(np.isfinite(scale).all() for scale in scales):
            return False
        left, right = (from_numpy(scale, xp, device(blocks)) for scale in scales)
        scaled = left[:, :, None] * blocks * right[:, None, :]
        try:
            inverse = xp.linalg.inv(scaled)
        except (np.linalg.LinAlgError, RuntimeError):  # torch has an error of its own
            return False
        sizes = [xp.max(xp.sum(xp.abs(M), axis=1), axis=1) for M in (scaled, inverse)]
        worst = float(xp.max(sizes[0] * sizes[1]))
        if not worst * _SAFE < 1:
            return False
        self.inverse = right[:, :, None] * inverse * left[:, None, :]
        signs, logs = xp.linalg.slogdet(scaled)
        powers = sum(float(np.log2(scale.astype(np.float64)).sum()) for scale in scales)
        sign, _ = sign_and_log(to_numpy(signs))
        logabs = float(to_numpy(logs).astype(np.float64).sum()) - powers * float(np.log(2.0))
        self._log = LogDeterminant(sign, logabs)
        return True

    def solve_all(self, b: Array, xp: ModuleType, *, adjoint: bool) -> Array:
        """Solutions of each system, or of each with the adjoint, for b (c, p, k)."""
        if self.inverse is not None:
            inverse = _adjoint(self.inverse, xp) if adjoint else self.inverse
            wide = xp.result_type(inverse.dtype, b.dtype)
            return xp.astype(inverse, wide, copy=False) @ xp.astype(b, wide, copy=False)
        parts = [b[i, :, :] for i in range(b.shape[0])]
        pairs = zip(self.factors, parts, strict=True)
        return xp.stack([F.solve_adjoint(x) if adjoint else F.solve(x) for F, x in pairs])

    def logdet(self) -> LogDeterminant:
        """Log-determinant of the block-diagonal matrix of all arrays."""
        found = self._log or LogDeterminant(1.0, 0.0)
        for factors in self.factors:
            found = found.times(factors.logdet())
        return found
