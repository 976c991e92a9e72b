"""One gate for arrays: whatever a function is given, the right value or a refusal with a remedy.

A table of inputs times the functions that take arrays. An input with a twin is the plain
NumPy array of its values: a function computes with it as with the twin, or refuses. An
input without a twin is refused.
"""

import array
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import structmat
from structmat.demo import kd_order
from structmat.errors import StructmatError

torch = pytest.importorskip("torch")

B = np.array([[3.0, 0, 1, 0, -2], [0, 2, 0, 0, 1], [1, 0, 0, 4, 0], [0, -1, 2, 0, 3]])
SQUARE = B[:, :4]
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
LAYOUTS = ("coo", "csr", "csc")
#: Dtypes of torch for which NumPy has none that is as wide, by whether their values can be read.
NARROW = {
    "float8_e4m3fn": True, "float8_e5m2": True, "float8_e4m3fnuz": True, "float8_e5m2fnuz": True,
    "bfloat16": True, "complex32": True, "int4": False, "uint4": False, "uint1": False,
    "bits8": False, "float4_e2m1fn_x2": False,
}  # fmt: skip


def memory_map(folder):
    np.save(folder / "map.npy", B)
    return np.load(folder / "map.npy", mmap_mode="r")


def read_only():
    copy = B.copy()
    copy.flags.writeable = False
    return copy


def unaligned():
    return np.frombuffer(b"x" + B.tobytes(), np.uint8)[1:].view(float).reshape(B.shape)


def records():
    return np.zeros(B.shape, [("a", float)])


def narrow(name):
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"this torch has no {name}")
    if NARROW[name]:
        return torch.tensor(B).to(dtype)
    return torch.zeros(B.shape, dtype=torch.uint8).view(dtype)


class Table:
    """A data frame as far as it looks like an array."""

    shape, ndim, dtype = B.shape, 2, None

    def __array__(self, dtype=None, copy=None):
        return B


# Input to its twin; None for an input that no function reads.
NUMPY = {
    "list": (lambda: B.tolist(), B),
    "tuple": (lambda: tuple(map(tuple, B)), B),
    "list of arrays": (lambda: list(B), B),
    "matrix": (lambda: np.matrix(B), B),
    "read-only": (read_only, B),
    "unaligned": (unaligned, B),
    "no strides": (lambda: np.broadcast_to(B[:1], B.shape), np.repeat(B[:1], 4, axis=0)),
    "negative strides": (lambda: B[::-1, ::-1], B[::-1, ::-1].copy()),
    "by columns": (lambda: np.asfortranarray(B), B),
    **{f"dtype {d}": (lambda d=d: B.astype(d), B) for d in (">f8", ">f4", ">c16", ">i4", "f2")},
    **{f"dtype {d}": (lambda d=d: B.astype(d), B) for d in ("g", "G", "i1", "<i8", "F")},
    "unsigned": (lambda: np.abs(B).astype("u8"), np.abs(B)),
    "nothing masked": (lambda: np.ma.array(B), B),
    "no rows": (lambda: B[:0], B[:0]),
    "no columns": (lambda: B[:, :0], B[:, :0]),
    "one row": (lambda: B[:1], B[:1]),
    "one column": (lambda: B[:, :1], B[:, :1]),
    "vector": (lambda: B[0], None),
    "cube": (lambda: B[None], None),
    "number": (lambda: np.array(3.0), None),
    "masked": (lambda: np.ma.masked_greater(B, 2), None),
    "masked rows": (lambda: list(np.ma.masked_greater(B, 2)), None),
    "objects": (lambda: B.astype(object), None),
    "text": (lambda: B.astype(str), None),
    "bytes": (lambda: B.astype("S"), None),
    "dates": (lambda: B.astype("M8[s]"), None),
    "durations": (lambda: B.astype("m8[s]"), None),
    "structured": (records, None),
    "records": (lambda: records().view(np.recarray), None),
    "void": (lambda: np.zeros(B.shape, "V8"), None),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], None),
    "mixed": (lambda: [B, 3.0], None),
    "holes": (lambda: [[None, 1.0]], None),
    "words": (lambda: [["a"]], None),
    "fractions": (lambda: [[Fraction(1, 2)]], None),
    "large integers": (lambda: [[2**70]], None),
    "list of sparse": (lambda: [scipy.sparse.eye_array(2)], None),
    "dict": (dict, None),
    "generator": (lambda: (row for row in B), None),
    "none": (lambda: None, None),
    "word": (lambda: "A", None),
    "module": (lambda: np, None),
    "type": (lambda: np.ndarray, None),
    "array.array": (lambda: array.array("d", [1.0, 2.0]), None),
}
TABLES = {"table": (Table, B), "operator": (lambda: aslinearoperator(B), B)}
SPARSE = {
    **{f"array {f}": (lambda f=f: scipy.sparse.coo_array(B).asformat(f), B) for f in FORMATS},
    **{f"matrix {f}": (lambda f=f: scipy.sparse.coo_matrix(B).asformat(f), B) for f in FORMATS},
    "int8": (lambda: scipy.sparse.csr_array(B.astype(np.int8)), B),
    "vector": (lambda: scipy.sparse.coo_array(B[0]), None),
    "cube": (lambda: scipy.sparse.coo_array(B.reshape(2, 2, 5)), None),
}
TORCH = {
    **{f"sparse {f}": (lambda f=f: torch.tensor(B).to_sparse(layout=getattr(torch, f"sparse_{f}")),
                       B) for f in LAYOUTS},
    "sparse bsr": (lambda: torch.tensor(SQUARE).to_sparse_bsr((2, 2)), SQUARE),
    "sparse bsc": (lambda: torch.tensor(SQUARE).to_sparse_bsc((2, 2)), SQUARE),
    "sparse with dense rows": (lambda: torch.tensor(B).to_sparse(1), B),
    "sparse cube": (lambda: torch.tensor(B[None]).to_sparse(), None),
    "sparse with gradient": (lambda: torch.tensor(B).to_sparse().requires_grad_(), B),
    **{name: (lambda name=name: narrow(name), B if read else None)
       for name, read in NARROW.items()},
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]), None),
    "jagged": (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)],
                                                  layout=torch.jagged), None),
    "quantized": (lambda: torch.quantize_per_tensor(torch.tensor(B).float(), 0.1, 0, torch.qint8),
                  None),
    "with gradient": (lambda: torch.tensor(B, requires_grad=True), B),
    "inside a graph": (lambda: torch.tensor(B, requires_grad=True) * 1, B),
    "list of tensors with gradient": (lambda: list(torch.tensor(B, requires_grad=True)), None),
    "conjugate": (lambda: torch.tensor(B + 1j * B).conj(), B - 1j * B),
    "negative": (lambda: torch.tensor(B + 1j * B).conj().imag, -B),
    "expanded": (lambda: torch.tensor(B[:1]).expand(4, 5), np.repeat(B[:1], 4, axis=0)),
    "vector": (lambda: torch.tensor(B[0]), None),
}  # fmt: skip
INPUTS = {
    f"{library}: {name}": case
    for library, cases in (("numpy", NUMPY), ("others", TABLES), ("scipy", SPARSE),
                           ("torch", TORCH))
    for name, case in cases.items()
}  # fmt: skip


def dense(matrix):
    """Values of a result on the host."""
    values = matrix
    if isinstance(matrix, structmat.StructuredMatrix):
        values = matrix.to_dense()
    elif isinstance(matrix, LinearOperator):
        values = matrix @ np.eye(matrix.shape[1])
    if isinstance(values, torch.Tensor):
        values = values.detach().to(torch.complex128 if values.is_complex() else torch.float64)
        values = values.resolve_conj().resolve_neg().numpy()
    return np.asarray(values)


def outcome(run, given):
    """Value of a function, or the exception that it raised."""
    try:
        return run(given), None
    except Exception as error:
        return None, error


FUNCTIONS = {
    "compress": lambda x: structmat.compress(x, "low_rank", tol=1e-3, rng=0).matrix,
    "compare": lambda x: structmat.compare(x, budget=1.0, rng=0)[0].matrix,
    "Dense": structmat.Dense,
    "LowRank": lambda x: structmat.LowRank(x, torch.ones(1, 1) if torch.is_tensor(x) else [[1.0]]),
    "BlockLowRank": lambda x: structmat.BlockLowRank({(0, 0): x}, row_sizes=[4], col_sizes=[5]),
    "from_masked": lambda x: structmat.GBLR.from_masked(x, x, [0] * 4, [5] * 4, [0] * 4, [5] * 4),
    "Monarch": lambda x: structmat.Monarch(x, x),
    "BlockSparse": lambda x: structmat.BlockSparse(x, [0], [0], shape=(4, 5)),
    "GBLR": lambda x: structmat.GBLR([0], [4], x, [0], [5], x, shape=(4, 5)),
    "Permutation": structmat.Permutation,
    "product": lambda x: structmat.LowRank(np.ones((3, 1)), np.ones((4, 1))) @ x,
    "blocks' product": lambda x: structmat.GBLR(
        [0], [3], np.ones(3), [0], [4], np.ones(4), shape=(3, 4)
    ).matmat(x),
    "product from the left": lambda x: x @ structmat.Dense(np.eye(5)[:, :3]),
    "product of tensors": lambda x: structmat.Dense(torch.eye(4, dtype=torch.float64)).matmat(x),
    "kd_order": kd_order,
    "runs": lambda x: structmat.GBLR(x, [1], [1.0], [0], [1], [1.0], shape=(4, 5)),
}
#: Functions of the thinned table.
USUAL = ("GBLR", "Permutation", "blocks' product", "product of tensors")


def table():
    for name in INPUTS:
        for function in FUNCTIONS:
            # The first jagged tensor of a process takes seconds.
            often = function in USUAL and "jagged" not in name
            slow = () if often else pytest.mark.slow
            yield pytest.param(name, function, marks=slow, id=f"{name}, {function}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "function"), list(table()))
def test_the_value_of_plain_numbers_or_a_refusal(name, function):
    make, twin = INPUTS[name]
    given, run = make(), FUNCTIONS[function]
    found, refusal = outcome(run, given)
    if refusal is not None:
        # Python itself refuses an operand that neither side knows.
        python = type(refusal) is TypeError and "unsupported operand" in str(refusal)
        words = "expected" in str(refusal) or "move one" in str(refusal)
        assert python or (isinstance(refusal, StructmatError) and words), repr(refusal)
        return
    if twin is None:
        # These are no matrices, but contents and operands all the same.
        assert name.split()[-1] in ("vector", "cube"), "a value of an input that has none"
        return
    if isinstance(given, torch.Tensor) and "tensors" in function:
        twin = torch.tensor(twin)
    np.testing.assert_allclose(dense(found), dense(run(twin)), rtol=1e-5, atol=1e-5)


READ = [name for name, (_, twin) in INPUTS.items() if twin is not None]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_compress_reads_what_has_values(name):
    make, twin = INPUTS[name]
    if name in ("others: table", "numpy: dtype g", "numpy: dtype G"):
        with pytest.raises(structmat.InputError, match=r"numpy\.asarray|astype\(float\)"):
            structmat.compress(make(), "low_rank", tol=1e-3)
        return
    given = make()
    matrix = structmat.compress(given, "low_rank", tol=1e-3, rng=0).matrix
    np.testing.assert_allclose(dense(matrix), twin, rtol=1e-2, atol=1e-2)
    assert isinstance(matrix.to_dense(), type(given)) or not isinstance(given, torch.Tensor)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [n for n, (_, twin) in INPUTS.items() if twin is None and "jagged" not in n]
)
@pytest.mark.parametrize("function", ["compress", "Dense"])
def test_no_matrix_is_made_of_what_is_none(name, function):
    with pytest.raises(StructmatError, match="expected"):
        FUNCTIONS[function](INPUTS[name][0]())


def test_a_memory_map_is_read(tmp_path):
    for function in ("compress", "Dense"):
        found = FUNCTIONS[function](memory_map(tmp_path))
        np.testing.assert_allclose(dense(found), B, atol=1e-5)


def test_contents_without_values_keep_their_shape():
    """Networks are built on the meta device before their weights are loaded."""
    empty = torch.tensor(B, device="meta")
    assert structmat.Dense(empty).shape == B.shape
    with pytest.raises(structmat.BackendError, match="meta device, which holds no values"):
        structmat.compress(empty, "low_rank", tol=0.1)


@pytest.mark.filterwarnings("ignore")  # some of torch's layouts are in beta, it says
@pytest.mark.parametrize("name", [n for n in READ if "scipy" in n or "torch: sparse" in n])
def test_large_sparse_inputs_stay_sparse(name, monkeypatch):
    monkeypatch.setattr(import_module("structmat.compress.source"), "DENSE_ENTRIES", 0)
    given, twin = INPUTS[name][0](), INPUTS[name][1]
    with monkeypatch.context() as without:
        # A hybrid tensor takes a step through its dense rows.
        for method in ("toarray", "todense", *(("to_dense",) if "rows" not in name else ())):
            if hasattr(given, method):
                without.setattr(type(given), method, None)
        matrix = structmat.compress(given, "low_rank", tol=1e-3, rng=0).matrix
    np.testing.assert_allclose(dense(matrix), twin, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_array, torch.tensor])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite(make, value):
    given = B.copy()
    given[2, 1] = value
    with pytest.raises(structmat.InputError, match=r"entry \(2, 1\) is -?(nan|inf); expected"):
        structmat.compress(make(given), "low_rank", tol=0.1)
    if make is not scipy.sparse.csr_array:
        np.testing.assert_array_equal(dense(structmat.Dense(make(given))), given)
