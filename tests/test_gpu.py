"""What only a GPU can show; the contract suite adds CuPy to its libraries by itself."""

import pytest
from cases import CASES, build

from structmat.testing import check_matrix

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", CASES)
def test_contract_on_cupy(name):
    import cupy

    matrix, twin = build(name, "complex128")
    check_matrix(matrix.to("cupy"), cupy.asarray(twin))


def test_solver_of_cupy_takes_a_matrix():
    import cupy
    from cupyx.scipy.sparse.linalg import cg

    A, _ = build("low_rank")
    B = (A.H @ A).to("cupy")
    b = cupy.ones(5)
    shifted = B + B._build({n: getattr(B, n) for n in B.data_names}, (), {})
    x, info = cg(shifted.to_cupyx(), shifted @ b)
    assert info == 0
    assert float(cupy.linalg.norm(shifted @ x - shifted @ b)) < 1e-4
