"""Factors of sparse matrices: banded ones by LAPACK, others by SuperLU."""

from typing import Any

from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from structmat.solvers.direct.simple import parity
from structmat.solvers.elimination.pivots import of_cholesky, of_lu, sign_and_log
from structmat.solvers.elimination.sparse_form import banded_form, bandwidths


class BandedLU:
    """P^T L U of a banded matrix, with row interchanges inside the band."""

    name = "banded LU"

    def __init__(self, form: Any) -> None:
        self.below, self.above = bandwidths(form)
        band = banded_form(form, self.below, self.above, spare=self.below)
        (gbtrf,) = get_lapack_funcs(("gbtrf",), (band,))
        self.factor, self.pivots, info = gbtrf(band, self.below, self.above, overwrite_ab=True)
        if info > 0:
            raise SingularColumn(int(info) - 1)

    def _solve(self, b: NDArray, trans: int) -> NDArray:
        (gbtrs,) = get_lapack_funcs(("gbtrs",), (self.factor,))
        x, _ = gbtrs(self.factor, self.below, self.above, b, self.pivots, trans=trans)
        return x

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b."""
        return self._solve(b, 0)

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b."""
        return self._solve(b, 2)

    @property
    def cost(self) -> int:
        """Multiplications of one solve."""
        return int(self.factor.size)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        return of_lu(self.factor[self.below + self.above], self.pivots)


class BandedCholesky:
    """L L^H of a hermitian, positive definite banded matrix."""

    name = "banded Cholesky"

    def __init__(self, form: Any) -> None:
        below, _ = bandwidths(form)
        entries = form.tocoo()
        kept = entries.row >= entries.col
        places = entries.row[kept], entries.col[kept]
        lower = csc_array((entries.data[kept], places), shape=form.shape)
        band = banded_form(lower, below, 0, spare=0)
        (pbtrf,) = get_lapack_funcs(("pbtrf",), (band,))
        self.factor, info = pbtrf(band, lower=True, overwrite_ab=True)
        if info > 0:
            raise SingularColumn(int(info) - 1)

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b."""
        (pbtrs,) = get_lapack_funcs(("pbtrs",), (self.factor,))
        x, _ = pbtrs(self.factor, b, lower=True)
        return x

    solve_adjoint = solve

    @property
    def cost(self) -> int:
        """Multiplications of one solve."""
        return 2 * int(self.factor.size)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        return of_cholesky(self.factor[0])


class SparseLU:
    """P_r^T L U P_c^T by SuperLU, whose order of the columns keeps the fill low."""

    name = "sparse LU"

    def __init__(self, form: Any) -> None:
        self.form = csc_array(form)
        try:
            self.factor = splu(self.form)
        except RuntimeError as error:  # SuperLU's word for a pivot of zero
            if "singular" not in str(error):
                raise
            raise SingularColumn(None) from None

    def solve(self, b: NDArray) -> NDArray:
        """S^-1 b."""
        return self.factor.solve(b)

    def solve_adjoint(self, b: NDArray) -> NDArray:
        """S^-H b."""
        return self.factor.solve(b, trans="H")

    @property
    def cost(self) -> int:
        """Multiplications of one solve."""
        return int(self.factor.nnz)

    def __reduce__(self) -> Any:
        # SuperLU's factors do not pickle; they are found again.
        return SparseLU, (self.form,)

    def log_determinant(self) -> tuple[Any, float]:
        """Sign and logarithm of the determinant."""
        sign, log = sign_and_log(self.factor.U.diagonal())
        turns = parity(self.factor.perm_r) * parity(self.factor.perm_c)
        return sign * turns, log


class SingularColumn(Exception):
    """A pivot of zero, or one that is not positive where a definite matrix is asked for."""

    def __init__(self, column: int | None) -> None:
        super().__init__(column)
        self.column = column
