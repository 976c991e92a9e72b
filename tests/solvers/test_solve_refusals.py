"""Contents that overflow, operators that give NaN and tensors without values are named as such."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import structmat
from structmat import Dense, LowRank
from structmat.errors import BackendError, InputError, SolveError
from structmat.matrices import Sum

N = 6


def spoiled(n=N, bad=np.nan):
    """The identity as an operator, but for one entry of its products."""

    def multiply(x):
        y = np.array(x, float)
        y[n // 2] *= bad
        return y

    return LinearOperator((n, n), matvec=multiply, rmatvec=multiply, dtype=float)


def overflowing(n=N):
    return LowRank(np.full((n, 1), 1e200), np.full((n, 1), 1e200))


CALLS = {
    "factorize": lambda A: structmat.factorize(A),
    "shift": lambda A: structmat.factorize(A, shift=1.0),
    "lstsq": lambda A: structmat.lstsq(A, np.ones(A.shape[0])),
    "logdet": lambda A: structmat.logdet(A, shift=1.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("A", [spoiled(), spoiled(bad=np.inf), spoiled(3000), overflowing()])
def test_products_that_are_not_finite_are_named(call, A, capfd):
    with pytest.raises(InputError, match=r"products with .* have a NaN or an infinity"):
        call(A)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("call", [structmat.factorize, CALLS["lstsq"]])
def test_dense_forms_that_overflow_are_named(call, capfd):
    half = Dense(1e308 * np.eye(N))
    A = Sum(half, half)
    with np.errstate(all="ignore"), pytest.raises(InputError, match=r"the entries of .* a NaN"):
        call(A)
    assert not capfd.readouterr().err


def test_iterations_with_contents_that_overflow_are_named(monkeypatch):
    monkeypatch.setattr("structmat.solvers.front.direct", lambda *given: NotImplemented)
    with pytest.raises(SolveError, match=r"products with .* a NaN or an infinity"):
        structmat.solve(overflowing(), np.ones(N))


class TestMeta:
    torch = None

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    def matrices(self):
        F = self.torch.ones(4, 4, device="meta")
        return [Dense(F), LowRank(F, F), structmat.Identity(4, like=F), Dense(F) + LowRank(F, F)]

    @pytest.mark.parametrize(
        "call",
        [
            structmat.factorize,
            structmat.logdet,
            lambda A: structmat.factorize(A, shift=1.0),
            lambda A: structmat.lstsq(A, A.xp.ones(4, device="meta")),
            lambda A: structmat.recompress(A, tol=1e-3),
            lambda A: structmat.compress(A, tol=1e-3),
            lambda A: A.to("numpy"),
            lambda A: A.toarray(),
        ],
    )
    def test_contents_without_values_are_refused(self, call):
        for A in self.matrices():
            with pytest.raises(BackendError, match=r"meta device, .*; expected a device"):
                call(A)

    def test_arrays_without_values_are_refused(self):
        with pytest.raises(BackendError, match="meta device"):
            structmat.compress(self.torch.ones(3, 3, device="meta"), tol=1e-3)

    @pytest.mark.parametrize(
        "call",
        [
            structmat.solve,
            structmat.lstsq,
            lambda A, b: structmat.factorize(A).matvec(b),
            lambda A, b: structmat.factorize(A).solve_adjoint(b),
        ],
    )
    def test_right_hand_sides_elsewhere_are_refused(self, call):
        b = self.torch.ones(3, device="meta")
        with pytest.raises(BackendError, match="side is on meta, the matrix on cpu"):
            call(Dense(self.torch.eye(3)), b)
