"""Foreign functions on a matrix: the value of the dense form, or a StructmatError.

The table is made from the public functions of the namespaces themselves, so functions of a
later NumPy or SciPy are in it. Each is called in several forms. Forms that fail on the dense
array as well are no cells.
"""

import contextlib
import inspect
import io
import re
import types
import warnings

import cases
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

import structmat
from structmat._array import namespace_named, to_numpy
from structmat.errors import StructmatError

numpy_xp = namespace_named("numpy")
NAMESPACES = {
    "numpy": np,
    "numpy.linalg": np.linalg,
    "scipy.linalg": scipy.linalg,
    "scipy.sparse": scipy.sparse,
    "scipy.sparse.linalg": scipy.sparse.linalg,
}
#: Functions that take no matrix: files, text, settings, and those without one answer.
LEFT_OUT = {
    "save", "savez", "savez_compressed", "savetxt", "save_npz", "load", "loadtxt", "load_npz",
    "genfromtxt", "fromfile", "info", "test", "show_config", "show_runtime", "set_printoptions",
    "printoptions", "seterr", "seterrcall", "setbufsize", "errstate", "get_include",
    "empty", "empty_like", "ndarray", "memmap", "frombuffer", "vectorize", "frompyfunc",
    "piecewise",
    "apply_along_axis", "apply_over_axes", "nditer", "nested_iters", "broadcast", "ndenumerate",
    "flatiter", "from_dlpack", "asanyarray_chkfinite", "random", "random_array", "rand",
    "typename", "base_repr", "binary_repr", "format_float_positional", "format_float_scientific",
    "array_repr", "array_str", "array2string", "shares_memory", "may_share_memory",
    "use_solver", "seed", "interpolative", "clarkson_woodruff_transform", "svds", "lobpcg",
    # Helpers of SciPy for arrays; bmat returns None for all but arrays and lists.
    "find_best_blas_type", "bmat", "get_lapack_funcs", "get_blas_funcs",
    # They start from random vectors, and refuse matrices as small as these (see test_scipy).
    "eigs", "eigsh", "onenormest",
    # These tell by the type of their argument, and a matrix is an operator and no array.
    "isscalar", "iterable", "issparse", "isspmatrix", "aslinearoperator", "LinearOperator",
    "isdtype", "isfortran", "require", "object_", "void", "bytes_", "str_",
}  # fmt: skip
#: SciPy combines its own operators with the identity, and then takes them for arrays.
FORM_LEFT_OUT = {("expm_multiply", "f(A, A)")}
SQUARE = {
    "low_rank": cases.low_rank(4, 4, 4),
    "block_sparse": cases.block_sparse(4, 4, 2, 2, [0, 0, 1], [0, 1, 1]),
    "block_low_rank": cases.block_low_rank([1, 3], [2, 2], {(0, 0): 1, (1, 0): None, (1, 1): 2}),
    "monarch": cases.monarch((2, 2, 2), (2, 2, 2)),
    "gblr": cases.random_gblr(4, 4, 7, 3),
    "hierarchical": cases.hierarchical(
        (4, 4), [[0, 2, 0, 2, -1], [2, 2, 0, 2, 1], [2, 2, 2, 2, -1]], symmetric=True
    ),
    "dense": cases.dense(4, 4),
    "permutation": cases.permutation([2, 0, 3, 1]),
    "identity": cases.identity(4),
    "diagonal": cases.diagonal(4),
    "sum": cases.combined(lambda a, b: a + b, cases.low_rank(4, 4, 3), cases.diagonal(4)),
    "product": cases.combined(
        lambda a, b: a @ b, cases.permutation([1, 0, 2, 3]), cases.monarch((2, 2, 2), (2, 2, 2))
    ),
    "scaled": cases.combined(lambda a: 2.5 * a, cases.permutation([1, 0, 3, 2])),
    "adjoint": cases.combined(lambda a: a.conj().T, cases.monarch((2, 2, 2), (2, 2, 2))),
    "kronecker": cases.kronecker(cases.identity(2), cases.dense(2, 2)),
    "grid": cases.grid([1, 3], [1, 3], {(0, 0): cases.dense(1, 1), (1, 1): cases.identity(3)}),
    "operator": cases.operator(4, 4),
    "mirrored": cases.mirrored(cases.monarch((2, 2, 2), (2, 2, 2))),
    "hermitian_low_rank": cases.hermitian_low_rank(4, 2),
}
FORMS = {
    "f(A)": lambda A, x: (A,),
    "f(A, A)": lambda A, x: (A, A),
    "f(A, x)": lambda A, x: (A, x),
    "f(x, A)": lambda A, x: (x, A),
    "f(X, A)": lambda A, x: (np.outer(x, x) + np.eye(4), A),
    "f(A, 2)": lambda A, x: (A, 2),
    "f([A, A])": lambda A, x: ([A, A],),
    "f([[A, A]])": lambda A, x: ([[A, A]],),
    "f((A, x[None]))": lambda A, x: ((A, x[None]),),
    "f(A, 1, x)": lambda A, x: (A, 1, x),
    "f(1, x, A)": lambda A, x: (1, x, A),
}


#: On other libraries. SciPy's solvers take NumPy contents, as the guide says: A.to("numpy").
FOREIGN_FORMS = ("f(A)", "f(A, x)", "f([A, A])", "f([[A, A]])")
FOREIGN_LEFT_OUT = {"lil_array", "lil_matrix", "spdiags"}  # they ask for a dtype of NumPy


def functions(backend="numpy"):
    """(namespace, name) of all public callables that may take a matrix."""
    for space, module in NAMESPACES.items():
        if backend != "numpy" and space == "scipy.sparse.linalg":
            continue
        for name in sorted(vars(module)):
            value = getattr(module, name)
            scalar_type = isinstance(value, type) and not issubclass(value, np.ndarray)
            sparse = scalar_type and issubclass(value, scipy.sparse.sparray | scipy.sparse.spmatrix)
            if name.startswith("_") or name in LEFT_OUT or isinstance(value, types.ModuleType):
                continue
            if backend != "numpy" and name in FOREIGN_LEFT_OUT:
                continue
            if callable(value) and (not scalar_type or sparse):
                yield space, name


def plain(result):
    """A result with every matrix, tensor and sparse array in it as a NumPy array."""
    if isinstance(result, tuple | list):
        return [plain(item) for item in result]
    if isinstance(result, structmat.StructuredMatrix) or scipy.sparse.issparse(result):
        return result.toarray()
    if isinstance(result, scipy.sparse.linalg.LinearOperator):
        return result.matmat(np.eye(result.shape[1]))
    if hasattr(result, "__array_namespace__") and not isinstance(result, np.ndarray | np.generic):
        return to_numpy(result)
    if type(result).__module__ == "torch":
        return to_numpy(result)
    return result


def same(got, expected):
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(same(g, e) for g, e in zip(got, expected, strict=True))
        )
    if isinstance(expected, np.ndarray | np.generic | float | complex | int):
        got, expected = np.asarray(got), np.asarray(expected)
        if got.dtype == object or got.shape != expected.shape:
            return False
        if expected.dtype.kind in "fc":
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
            # Krylov methods stop at their own tolerance.
            return np.allclose(got, expected, rtol=1e-7, atol=1e-7 * scale, equal_nan=True)
        return bool((got == expected).all())
    if expected is None or isinstance(expected, str | bool):
        return got == expected
    return type(got) is type(expected)  # a factorization, a function


@contextlib.contextmanager
def quiet():
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def outcome(function, arguments):
    with quiet():
        try:
            return "value", plain(function(*arguments))
        except StructmatError as error:
            return "refused", str(error)
        except Exception as error:  # any error of a foreign function, to be judged by the caller
            return "error", error


def wrong_cells(A, space, name):
    """Cells of one function that are neither right nor refused with a remedy."""
    function, wrong = getattr(NAMESPACES[space], name), []
    D, x, count = A.toarray(), np.arange(1.0, 5.0), 0
    for form, arguments in FORMS.items():
        if (name, form) in FORM_LEFT_OUT or (A.xp is not numpy_xp and form not in FOREIGN_FORMS):
            continue
        dense = outcome(function, arguments(D.copy(), x.copy()))
        if dense[0] != "value":
            continue
        count += 1
        got = outcome(function, arguments(A, x.copy()))
        if got[0] == "error" or (got[0] == "value" and not same(got[1], dense[1])):
            wrong.append(f"{space}.{name} as {form}: {got[0]} {got[1]!r:.200}")
        if got[0] == "refused" and not re.search("expected|move one", got[1]):
            wrong.append(f"{space}.{name} as {form} names no remedy: {got[1]}")
    return wrong, count


def table(kinds, chosen, backend):
    wrong, count = [], 0
    for kind in kinds:
        A = SQUARE[kind](cases.contents("float64", 5))[0].to(backend)
        assert A.kind == kind
        for space, name in chosen:
            some, cells = wrong_cells(A, space, name)
            wrong += [f"{kind} on {backend}: {cell}" for cell in some]
            count += cells
    assert not wrong, f"{len(wrong)} wrong cells:\n" + "\n".join(wrong)
    return count


def test_the_table_has_every_kind():
    kinds = {kind.name for kind in structmat.kinds.all_kinds() if kind.matrix}
    assert set(SQUARE) == kinds - cases.SOURCES


def test_functions_on_one_kind():
    """Every function, on GBLR; and each kind and library on a few functions."""
    assert table(["gblr"], list(functions()), "numpy") > 700


KNOWN = [
    ("numpy", name)
    for name in (
        "kron", "dot", "matmul", "block", "hstack", "asarray", "allclose", "trace", "diagonal",
        "exp", "add", "multiply", "sum", "shape", "result_type", "einsum", "fill_diagonal",
    )
] + [
    ("numpy.linalg", "solve"), ("numpy.linalg", "norm"), ("scipy.linalg", "expm"),
    ("scipy.linalg", "block_diag"), ("scipy.sparse", "block_array"), ("scipy.sparse", "kron"),
    ("scipy.sparse.linalg", "expm"),
]  # fmt: skip


@pytest.mark.parametrize("kind", SQUARE)
def test_functions_on_every_kind_and_library(kind, backend):
    table([kind], [cell for cell in KNOWN if cell in set(functions(backend))], backend)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SQUARE)
def test_all_functions_on_every_kind_and_library(kind, backend):
    table([kind], list(functions(backend)), backend)


def first_by_name(function):
    """Call with the first argument by its name, or None where NumPy does not allow it."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except (ValueError, StopIteration):  # no signature, or no argument
        return None
    if first.kind is not first.POSITIONAL_OR_KEYWORD:
        return None
    return lambda A: function(**{first.name: A})


def test_functions_take_a_matrix_by_name():
    A, D = square()
    calls = {cell: first_by_name(getattr(NAMESPACES[cell[0]], cell[1])) for cell in functions()}
    wrong, count = [], 0
    for cell, call in calls.items():
        dense = outcome(call, (D.copy(),)) if call else ("error", None)
        if dense[0] == "value":
            count += 1
            got = outcome(call, (A,))
            if got[0] == "error" or (got[0] == "value" and not same(got[1], dense[1])):
                wrong.append(f"{cell}: {got}")
    assert not wrong
    assert count > 100


# Python's own protocols, and the other side of operators.


def square(backend="numpy", kind="gblr"):
    A = SQUARE[kind](cases.contents("float64", 5))[0].to(backend)
    return A, A.toarray()


REFUSED = {
    "bool": bool,
    "len": len,
    "abs": abs,
    "round": round,
    "float": float,
    "int": int,
    "complex": complex,
    "//": lambda A: A // 2,
    "%": lambda A: A % 2,
    "r%": lambda A: 2 % A,
    "divmod": lambda A: divmod(A, 2),
    "&": lambda A: A & A,
    "|": lambda A: A | A,
    "^": lambda A: A ^ A,
    "~": lambda A: ~A,
    "<<": lambda A: A << 1,
    "<": lambda A: A < 1,
    ">=": lambda A: A >= A,
    "==": lambda A: A.copy() == A,
    "!=": lambda A: A.copy() != A,
    "in": lambda A: 1.0 in A,
    "+ 1": lambda A: A + 1,
    "1 -": lambda A: 1 - A,
    "X +": lambda A: A.toarray() + A,
    "X -": lambda A: A.toarray() - A,
    "X *": lambda A: A.toarray() * A,
    "1 /": lambda A: 1 / A,
    "/ A": lambda A: A / A,
    "/ X": lambda A: A / A.toarray(),
    "2 **": lambda A: 2**A,
    "assignment": lambda A: A.__setitem__((0, 0), 1.0),
    "ravel": lambda A: A.ravel(),
    "sum": lambda A: A.sum(),
    "out": lambda A: np.add(1.0, np.eye(4), out=A),
    "out by place": lambda A: np.fix(np.eye(4), A),
    "masked": lambda A: A @ np.ma.masked_less(np.arange(4.0), 1),
    "masked left": lambda A: np.ma.masked_less(np.arange(4.0), 1) @ A,
    "no copy": lambda A: np.array(A, copy=False),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["gblr", "product", "identity"])
def test_python_is_refused_with_the_remedy(kind, name, backend):
    A = square(backend, kind)[0]
    with pytest.raises(StructmatError, match=r"expected|move one"):
        REFUSED[name](A)


RIGHT = {
    "list": (list, list),
    "2 *": (lambda A: np.float64(2) * A, lambda D: 2 * D),
    "array(2) *": (lambda A: np.asarray(2.0) * A, lambda D: 2 * D),
    "/ 2": (lambda A: A / np.float64(2), lambda D: D / 2),
    "sum of two": (lambda A: sum([A, A]), lambda D: D + D),
    "**": (lambda A: A**2, lambda D: D @ D),
    "negative": (np.negative, np.negative),
    "unary +": (lambda A: +A, lambda D: D),
    "array": (np.array, np.array),
    "f4": (lambda A: np.asarray(A, dtype="f4"), lambda D: D.astype("f4")),
    "pair": (lambda A: np.array([A, A]), lambda D: np.array([D, D])),
}


@pytest.mark.parametrize("name", RIGHT)
def test_python_is_right(name, backend):
    A, D = square(backend)
    ours, numpys = RIGHT[name]
    assert same(plain(ours(A)), plain(numpys(D)))


def test_in_place_products_from_the_left():
    A, D = square()
    x = np.arange(4.0)
    y = x.copy()
    y @= A
    np.testing.assert_allclose(y, x @ D)
    B = A
    B *= 2
    assert B is not A
    np.testing.assert_allclose(B.toarray(), 2 * D)


def test_matrices_are_keys_and_compare_with_what_is_no_matrix():
    A = square()[0]
    assert {A: 1}[A] == 1
    assert A == A
    assert A not in (None, "A")


SPARSE = {
    "csr": scipy.sparse.random_array((4, 4), density=0.5, rng=3, format="csr"),
    "csr matrix": scipy.sparse.csr_matrix(np.triu(np.ones((4, 4)))),
    "coo": scipy.sparse.coo_array(([1.0, 2.0, 3.0], ([0, 0, 2], [1, 1, 3])), shape=(4, 4)),
    "bsr": scipy.sparse.bsr_array(np.kron(np.eye(2), np.ones((2, 2))), blocksize=(2, 2)),
    "dia": scipy.sparse.diags_array([1.0, 2.0, 0.0, 4.0]),
    "eye": scipy.sparse.eye_array(4, dtype=int),
    "bool": scipy.sparse.eye_array(4, k=1, dtype=bool, format="csc"),
    "empty": scipy.sparse.csr_array((4, 4)),
    "complex eye": scipy.sparse.eye_array(4, dtype=complex),
}


@pytest.mark.parametrize("side", SPARSE)
@pytest.mark.parametrize("kind", SQUARE)
def test_sparse_terms_stay_in_the_house(kind, side):
    (A, D), S = square(kind=kind), SPARSE[side]
    E = S.toarray() * 1.0
    sums = [(A + S, D + E), (S + A, D + E), (A - S, D - E), (S - A, E - D)]
    for got, expected in (*sums, (S @ A, E @ D), (A @ S, D @ E)):
        assert isinstance(got, structmat.StructuredMatrix)
        np.testing.assert_allclose(got.toarray(), expected, atol=1e-12)
        assert got.dtype == expected.dtype
        assert got.cost <= 2 * (A.cost + S.nnz) + 16


def test_sparse_terms_cost_their_entries_and_are_saved(tmp_path):
    A, D = square()
    S = SPARSE["csr"]
    B = A + S
    assert B.cost == A.cost + S.nnz
    assert (A @ scipy.sparse.eye_array(4)) is A
    assert (A + scipy.sparse.eye_array(4)).children[1].kind == "identity"
    structmat.save(tmp_path / "b.npz", B)
    np.testing.assert_allclose(structmat.load(tmp_path / "b.npz").toarray(), D + S.toarray())
    np.testing.assert_allclose(B.to("array_api_strict").toarray(), D + S.toarray())
    assert S.nnz == scipy.sparse.random_array((4, 4), density=0.5, rng=3).nnz


@pytest.mark.parametrize("kind", SQUARE)
def test_operators_of_scipy_on_either_side(kind):
    A, D = square(kind=kind)
    X = np.arange(16.0).reshape(4, 4)
    K = scipy.sparse.linalg.aslinearoperator(X)
    for got, expected in ((K - A, X - D), (A - K, D - X), (K @ A, X @ D), (A @ K, D @ X)):
        np.testing.assert_allclose(got @ np.eye(4), expected)
    with quiet():  # NumPy warns of its matrices
        M = np.matrix(X)
        np.testing.assert_allclose(np.asarray(M * A), X @ D)
        np.testing.assert_allclose(np.asarray(M @ A), X @ D)


def test_batches_of_a_large_matrix_need_no_dense_form():
    n = 10**5
    A, X = structmat.LowRank(np.ones((n, 1)), np.arange(n)[:, None]), np.ones((2, 1, n), "f4")
    for got in (X @ A, np.matmul(X, A), np.dot(X, A)):
        np.testing.assert_allclose(got[1, 0], float(n) * np.arange(n))
    np.testing.assert_allclose((A @ X.reshape(2, n, 1))[0, :, 0], n * (n - 1) / 2)
    np.testing.assert_allclose(np.matmul(A, X.reshape(2, n, 1))[1, :, 0], n * (n - 1) / 2)
    assert (X @ structmat.Permutation(np.arange(n)[::-1])).dtype == np.float32


def test_large_dense_forms_are_made_by_name_alone():
    A = structmat.Identity(10**6)
    for function in (np.asarray, np.exp, np.sum, scipy.linalg.inv):
        with pytest.raises(structmat.InputError, match=r"10000.*to_dense"):
            function(A)
    assert np.shape(A) == (10**6, 10**6)
    assert np.trace(A) == 10**6
    assert np.linalg.norm(A) == 1000
    assert (scipy.sparse.eye_array(10**6) @ A).kind == "identity"


@pytest.mark.parametrize(
    "call",
    [
        lambda A: np.add(A, None),
        lambda A: np.add("a", A),
        lambda A: np.matmul(A, 2.0),
        lambda A: np.arange(like=A),
    ],
    ids=["None", "text", "scalar", "no arguments"],
)
def test_calls_that_numpy_refuses_are_refused_in_its_words(call):
    A, D = square()
    with pytest.raises((TypeError, ValueError)) as expected:
        call(D)
    with pytest.raises(expected.type, match=re.escape(str(expected.value))):
        call(A)


# torch's functions on a matrix with tensors.


def written(X, A):
    X[:] = A
    return X


def nested(torch, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: it calls nested tensors a prototype
        return torch.nested.nested_tensor([x, x[:2]])


TORCH = {
    "matmul": lambda torch, A, x: torch.matmul(A, x),
    "mv": lambda torch, A, x: torch.mv(A, x),
    "linear": lambda torch, A, x: torch.nn.functional.linear(x, A),
    "norm": lambda torch, A, x: torch.linalg.norm(A),
    "exp": lambda torch, A, x: torch.exp(A),
    "kron": lambda torch, A, x: torch.kron(A, A),
    "stack": lambda torch, A, x: torch.stack([A, A]),
    "svdvals": lambda torch, A, x: torch.linalg.svdvals(A),
    "mul": lambda torch, A, x: torch.mul(x, A),
    "add": lambda torch, A, x: torch.add(A, x),
    "mm": lambda torch, A, x: x[None].mm(A),
    "add_": lambda torch, A, x: torch.ones(4, 4, dtype=x.dtype).add_(A),
    "x @ A": lambda torch, A, x: x @ A,
    "batch @ A": lambda torch, A, x: torch.stack([x, 2 * x]).reshape(2, 1, 4) @ A,
    "x.matmul": lambda torch, A, x: x.matmul(A),
    "X.pow": lambda torch, A, x: torch.ones(4, 4).pow(A),
    "X.addcmul": lambda torch, A, x: torch.ones(4, 4).addcmul(A, A),
    "X[:] =": lambda torch, A, x: written(torch.zeros(4, 4, dtype=x.dtype), A),
    "matrix_norm": lambda torch, A, x: torch.linalg.matrix_norm(input=A),
    "2 *": lambda torch, A, x: torch.asarray(2.0) * A,
    "transpose": lambda torch, A, x: torch.transpose(A, 0, 1),
    "einsum": lambda torch, A, x: torch.einsum("ij,j->i", A, x),
}
TORCH_REFUSED = {
    "asarray": lambda torch, A, x: torch.asarray(A),
    "tensor": lambda torch, A, x: torch.tensor(A),
    "x + A": lambda torch, A, x: x + A,
    "x - A": lambda torch, A, x: x - A,
    "x == A": lambda torch, A, x: x == A,
    "X.mul": lambda torch, A, x: A.to_dense().mul(A),
    "X.add": lambda torch, A, x: A.to_dense().add(A),
    "X.sub": lambda torch, A, x: A.to_dense().sub(A),
    "X.eq": lambda torch, A, x: A.to_dense().eq(A),
    "X &": lambda torch, A, x: (A.to_dense() > 0) & A,
    "other library": lambda torch, A, x: torch.matmul(A.to("numpy"), x),
    "A @ nested": lambda torch, A, x: A @ nested(torch, x),
    "nested @ A": lambda torch, A, x: nested(torch, x) @ A,
    "A * nested": lambda torch, A, x: A * nested(torch, x),
    "nested * A of NumPy": lambda torch, A, x: nested(torch, x) * A.to("numpy"),
    "nested * A": lambda torch, A, x: nested(torch, x) * A,
}


@pytest.mark.parametrize("kind", ["gblr", "monarch", "product", "diagonal"])
@pytest.mark.parametrize("name", TORCH)
def test_torch_functions_are_right(name, kind):
    torch = pytest.importorskip("torch")
    A, D = square("torch", kind)
    x = torch.arange(1.0, 5.0, dtype=torch.float64)
    assert same(plain(TORCH[name](torch, A, x)), plain(TORCH[name](torch, torch.asarray(D), x)))


@pytest.mark.parametrize("name", TORCH_REFUSED)
def test_torch_functions_are_refused(name):
    torch = pytest.importorskip("torch")
    x = torch.arange(1.0, 5.0, dtype=torch.float64)
    with pytest.raises(StructmatError, match=r"expected|move one"):
        TORCH_REFUSED[name](torch, square("torch")[0], x)


def test_torch_gradients_pass_through_the_dense_form():
    torch = pytest.importorskip("torch")
    d = torch.ones(3, dtype=torch.float64, requires_grad=True)
    torch.exp(structmat.Diagonal(d)).sum().backward()
    torch.testing.assert_close(d.grad, torch.exp(d.detach()))


def test_multiples_by_a_variable_have_its_gradient():
    torch = pytest.importorskip("torch")
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for A in (structmat.Identity(3), structmat.Permutation([1, 2, 0]), structmat.Diagonal([1.0])):
        for B in (factor * A.to("torch"), 3 * (A.to("torch") * factor) / 3):
            (gradient,) = torch.autograd.grad(B.to_dense().sum(), factor)
            assert gradient == A.toarray().sum()


def test_copies_have_their_gradient():
    torch = pytest.importorskip("torch")
    d = torch.ones(3, dtype=torch.float64, requires_grad=True)
    one = structmat.Identity(3, like=d)
    for y in (structmat.Diagonal(d).copy().d, one @ d, one.H @ d):
        (gradient,) = torch.autograd.grad((3 * y).sum(), d)
        assert gradient.tolist() == [3, 3, 3]
        assert y.data_ptr() != d.data_ptr()
