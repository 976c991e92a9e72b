"""Operands of every dtype and layout: the right result to its precision, or a refusal."""

from itertools import product

import numpy as np
import pytest
import scipy.sparse
from cases import DTYPES, SOURCES
from cells import BOUND, STRUCTURES, Exact, contents, excess
from exact import sizes, wide

from structmat._array import to_numpy
from structmat.errors import StructmatError
from structmat.kinds import all_kinds

#: One structure of each kind, and those whose kernels copy operands in other ways.
NAMES = [
    "low_rank", "block_sparse-ragged", "block_low_rank-dense-tiles", "monarch-padded", "gblr",
    "gblr-prime", "gblr-no-rows", "hierarchical-symmetric", "dense", "dense-empty", "permutation",
    "identity", "diagonal", "sum", "product", "scaled", "scaled-product", "adjoint",
    "kronecker", "grid", "operator",
    "mirrored", "hermitian_low_rank",
]  # fmt: skip
THINNED = [
    pytest.param(41, id="thinned"),
    pytest.param(1, id="whole", marks=pytest.mark.slow),
]
NUMBERS = [
    "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G",
    ">i4", ">f4", ">f8", ">c16",
]  # fmt: skip
#: No numbers, or numbers that no product should take for ordinary ones.
STRANGE = ["O", "U3", "S3", "M8[s]", "m8[s]", "V8"]


def _padded(x):
    """Every second row and third column of a larger array, whose rest is far away."""
    big = np.full((2 * x.shape[0] + 1, 3 * x.shape[1] + 2), 77).astype(x.dtype)
    view = big[1::2, 1::3][: x.shape[0], : x.shape[1]]
    view[...] = x
    return view


def _unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


class Labelled(np.ndarray):
    """A subclass as libraries make them."""


LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "strided": _padded,
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "unaligned": _unaligned,
    "read-only": _read_only,
    "one column repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "no columns": lambda x: x[:, :0],
    "vector": lambda x: x[:, 0],
    "batch": lambda x: np.stack([x, x[:, ::-1]]),
    "batch of none": lambda x: np.empty((0, *x.shape), x.dtype),
    "batch by columns": lambda x: np.stack([x, x], axis=2).transpose(2, 0, 1),
    "lists": lambda x: x.tolist(),
    "subclass": lambda x: x.view(Labelled),
    "matrix": np.matrix,
    "masked": lambda x: np.ma.masked_array(x, np.arange(x.size).reshape(x.shape) % 2),
    "memory map": lambda x: x.view(np.memmap),
    "csr": lambda x: scipy.sparse.csr_array(x),
    "csc": lambda x: scipy.sparse.csc_matrix(x),
    "coo": lambda x: scipy.sparse.coo_array(x),
    "bsr": lambda x: scipy.sparse.bsr_array(x),
    "dia": lambda x: scipy.sparse.dia_array(x),
}
DOORS = {
    "@": (1, lambda A, x: A @ x),
    "dot": (1, lambda A, x: A.dot(x)),
    "matmat": (1, lambda A, x: A.matvec(x) if np.ndim(x) == 1 else A.matmat(x)),
    "rmatmat": (0, lambda A, x: A.rmatvec(x) if np.ndim(x) == 1 else A.rmatmat(x)),
}


def exact_operand(x):
    """An operand in long double, or None where it has no plain value."""
    if scipy.sparse.issparse(x):
        x = x.toarray()
    if np.ma.is_masked(x):
        return None
    x = np.asarray(x)
    return x if x.dtype.kind in "biufc" else None


def check(exact, A, door, x, name):
    """One product: 1 if it is right, 0 if it was refused."""
    multiply = DOORS[door][1]
    known = exact_operand(x)
    before = None if known is None else known.copy()
    try:
        found = multiply(A, x)
    except StructmatError:
        if known is not None:
            raise
        return 0
    assert known is not None, f"{name}: {type(found)} from what has no plain value"
    if hasattr(found, "to_dense"):  # a product with a sparse matrix may stay an operator
        found = found.to_dense()
    found = to_numpy(found)
    D, T = exact.dense, exact.terms
    if door == "rmatmat":
        D, T = D.conj().T, T.T
    expected, terms = D @ wide(known), T @ sizes(known)
    assert found.shape == expected.shape, name
    own = known.dtype if known.dtype.kind in "fc" else A.dtype
    inexact = own if A.neutral else np.result_type(A.dtype, own)
    assert np.finfo(found.dtype).eps <= np.finfo(inexact).eps, f"{name}: {found.dtype}"
    assert excess(found, expected, terms, np.finfo(found.dtype).eps) <= BOUND, name
    np.testing.assert_array_equal(exact_operand(x), before, err_msg=name)
    return 1


def operand(n, number, layout):
    """A small whole-numbered operand of a dtype in a layout, (n, 3) before it."""
    rng = np.random.default_rng(7)
    low = 0 if np.dtype(number).kind in "bu" else -3
    x = rng.integers(low, 2 if number == "?" else 4, (n, 3)).astype(number)
    return LAYOUTS[layout](x)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("step", THINNED)
@pytest.mark.parametrize("name", NAMES)
def test_operands_are_taken_or_refused(name, step, record_property):
    count = refused = 0
    table = list(product(DTYPES, NUMBERS, LAYOUTS, DOORS))[len(name) % step :: step]
    matrices = {}
    for dtype, number, layout, door in table:
        if dtype not in matrices:
            A = STRUCTURES[name](contents(dtype, "integers", 1))[0]
            matrices[dtype] = A, Exact(A)
        A, exact = matrices[dtype]
        try:
            x = operand(A.shape[DOORS[door][0]], number, layout)
        except (TypeError, ValueError):
            continue  # SciPy has no such sparse matrix
        taken = check(exact, A, door, x, f"{name} {dtype} {number} {layout} {door}")
        count, refused = count + 1, refused + (not taken)
    record_property("cells", count)
    record_property("refused", refused)
    assert refused < count


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", NAMES)
def test_what_holds_no_numbers_is_refused(name, strange):
    A = STRUCTURES[name](contents("float64", "integers", 1))[0]
    x = np.zeros((A.shape[1], 2), strange)
    for door in ("@", "dot", "matmat"):
        with pytest.raises(StructmatError, match="operand"):
            DOORS[door][1](A, x)


TENSORS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T.contiguous().T,
    "strided": lambda x: x.repeat_interleave(2, 0)[::2],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "conjugate view": lambda x: x.conj(),
    "negative view": lambda x: x.conj().imag if x.is_complex() else x,
    "no columns": lambda x: x[:, :0],
    "vector": lambda x: x[:, 0],
    "batch": lambda x: x.expand(2, *x.shape),
    "inference": lambda x: x,
    "gradient": lambda x: x.clone().requires_grad_() if x.is_floating_point() else x,
}
TENSOR_NUMBERS = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
    "float64", "complex64", "complex128",
]  # fmt: skip


@pytest.mark.parametrize("step", THINNED)
@pytest.mark.parametrize("name", NAMES)
def test_tensors_are_taken(name, step, record_property):
    torch = pytest.importorskip("torch")
    count = 0
    for dtype in DTYPES:
        A = STRUCTURES[name](contents(dtype, "integers", 1))[0]
        exact, A = Exact(A), A.to("torch")
        pairs = list(product(TENSOR_NUMBERS, TENSORS, DOORS))[len(name) % step :: step]
        for number, layout, door in pairs:
            n = A.shape[DOORS[door][0]]
            low = 0 if number in ("bool", "uint8") else -3
            values = np.random.default_rng(7).integers(low, 2 if number == "bool" else 4, (n, 3))
            context = torch.inference_mode(layout == "inference")
            with context:
                x = TENSORS[layout](torch.asarray(values).to(getattr(torch, number)))
                found = DOORS[door][1](A, x)
            title = f"{name} {dtype} {number} {layout} {door}"
            known = to_numpy(x.detach())
            D, T = (exact.dense.conj().T, exact.terms.T) if door == "rmatmat" else (
                exact.dense, exact.terms
            )  # fmt: skip
            inexact = x.is_floating_point() or x.is_complex()
            wanted = torch.promote_types(A.dtype, x.dtype) if inexact else A.dtype
            wanted = x.dtype if A.neutral and inexact else wanted
            assert torch.finfo(found.dtype).eps <= torch.finfo(wanted).eps, title
            eps = torch.finfo(found.dtype).eps
            ratio = excess(to_numpy(found.detach()), D @ wide(known), T @ sizes(known), eps)
            assert ratio <= BOUND, title
            count += 1
    record_property("cells", count)


def test_every_kind_is_multiplied():
    kinds = {kind.name for kind in all_kinds() if kind.matrix is not None} - SOURCES
    assert {name.split("-")[0] for name in NAMES} == kinds
    assert {name.split("-")[0] for name in STRUCTURES} >= kinds


@pytest.mark.parametrize("name", NAMES)
def test_a_column_stays_a_column(name):
    """As SciPy takes it, where a batch of vectors would have the same number of entries."""
    A = STRUCTURES[name](contents("float64", "integers", 1))[0]
    D = A.to_dense()
    for product_of, M in ((A.matvec, D), (A.rmatvec, D.conj().T)):
        x = np.arange(M.shape[1])[:, None]
        np.testing.assert_allclose(product_of(x), M @ x, rtol=0, atol=1e-9)
