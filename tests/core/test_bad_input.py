"""Refusals: the kind of error, and a message with value, expectation and remedy."""

import copy
import pickle
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator, lsqr

import structmat
from structmat._checks import check_runs
from structmat.errors import (
    BackendError,
    ConversionError,
    InputError,
    KindError,
    MissingDependencyError,
    ShapeError,
    StructmatError,
)

EYE = np.eye(3)


def rows(*values):
    return np.ones(values)


def low_rank(m=4, n=3, r=2):
    return structmat.LowRank(rows(m, r), rows(n, r))


def gblr(**changes):
    given = {
        "row_start": [0, 3], "row_width": [2, 3], "u": np.ones(5),
        "col_start": [1, 2], "col_width": [1, 2], "v": np.ones(3), "shape": (4, 3), **changes,
    }  # fmt: skip
    return structmat.GBLR(**given)


def from_masked(**changes):
    given = {
        "U": rows(2, 4), "V": rows(2, 3), "row_start": [0, 3], "row_width": [2, 3],
        "col_start": [1, 2], "col_width": [1, 2], **changes,
    }  # fmt: skip
    return structmat.GBLR.from_masked(**given)


def block_sparse(**changes):
    given = {
        "blocks": rows(3, 2, 2), "rows": [0, 0, 1], "cols": [0, 1, 0], "shape": (4, 3), **changes,
    }  # fmt: skip
    return structmat.BlockSparse(**given)


def block_low_rank(tiles=None, **changes):
    if tiles is None:
        tiles = {(0, 0): (rows(2, 1), rows(3, 1)), (1, 0): rows(2, 3)}
    given = {"row_sizes": [2, 2], "col_sizes": [3], **changes}
    return structmat.BlockLowRank(tiles, **given)


def monarch(L=None, R=None, **changes):
    L = rows(2, 2, 2) if L is None else L
    R = rows(2, 2, 2) if R is None else R
    return structmat.Monarch(L, R, **{"shape": (4, 3), **changes})


def permutation():
    return structmat.Permutation([2, 0, 3, 1])


def adjoint():
    return structmat.Monarch(rows(1, 3, 4), rows(2, 2, 2)).H


MATRICES = {
    "low_rank": low_rank,
    "gblr": gblr,
    "block_sparse": block_sparse,
    "block_low_rank": block_low_rank,
    "monarch": monarch,
    "dense": lambda: structmat.Dense(rows(4, 3)),
    "sum": lambda: monarch() + gblr(),
    "product": lambda: permutation() @ monarch(),
    "scaled": lambda: 2 * (permutation() @ adjoint()),
    "adjoint": adjoint,
}


def refused(error, action, *fragments):
    """The action raises this error, a StructmatError, with these words in its message."""
    with pytest.raises(error) as caught:
        action()
    assert isinstance(caught.value, StructmatError)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    return message


def table(cases):
    """Parameters from {name: (error, action, fragment, …)}."""
    return pytest.mark.parametrize("case", [pytest.param(c, id=n) for n, c in cases.items()])


def test_the_errors_are_also_the_usual_ones():
    for error, usual in (
        (InputError, ValueError),
        (ShapeError, ValueError),
        (KindError, ValueError),
        (ConversionError, ValueError),
        (BackendError, TypeError),
        (MissingDependencyError, ImportError),
        (structmat.SaveError, OSError),
        (structmat.FileFormatError, ValueError),
        (structmat.BudgetError, ValueError),
        (structmat.ToleranceError, ValueError),
    ):
        assert issubclass(error, usual)
        assert issubclass(error, StructmatError)


@pytest.mark.parametrize("name", MATRICES)
def test_the_good_ones_are_good(name):
    assert MATRICES[name]().shape == (4, 3)
    assert MATRICES[name]().kind == name


# Constructors.


@table({
    "ranks": (ShapeError, lambda: structmat.LowRank(rows(4, 2), rows(3, 1)), "(4, 2)", "(3, 1)",
              "same rank"),
    "vector": (InputError, lambda: structmat.LowRank(rows(4), rows(3, 1)), "U", "(4,)",
               "expected 2 dimensions"),
    "cube": (InputError, lambda: structmat.LowRank(rows(4, 1), rows(3, 1, 1)), "V", "(3, 1, 1)",
             "expected 2 dimensions"),
    "number": (InputError, lambda: structmat.LowRank(3.0, rows(3, 1)), "U", "()"),
    "objects": (InputError, lambda: structmat.LowRank(rows(4, 1).astype(object), rows(3, 1)), "U",
                "Python objects", "expected real or complex numbers"),
    "text": (InputError, lambda: structmat.LowRank([["a"]], rows(3, 1)), "U",
             "expected real or complex numbers"),
    "bool": (InputError, lambda: structmat.LowRank(rows(4, 1) > 0, rows(3, 1)), "U", "bool",
             "expected real or complex numbers"),
    "dates": (InputError, lambda: structmat.LowRank(np.zeros((4, 1), "M8[s]"), rows(3, 1)), "U",
              "datetime64", "expected real or complex numbers"),
    "ragged": (InputError, lambda: structmat.LowRank([[1.0], [1.0, 2.0]], rows(3, 1)), "U",
               "expected"),
    "a word": (BackendError, lambda: structmat.LowRank("ab", rows(3, 1)), "str",
               "expected arrays of one library", "numpy.asarray"),
    "nothing": (BackendError, lambda: structmat.LowRank(None, rows(3, 1)), "NoneType",
                "expected arrays of one library"),
    "sparse": (BackendError, lambda: structmat.LowRank(scipy.sparse.eye_array(3), rows(3, 3)),
               "expected arrays of one library"),
})  # fmt: skip
def test_low_rank(case):
    refused(*case)


@table({
    "vector": (InputError, lambda: structmat.Dense(np.ones(3)), "A", "(3,)", "2 dimensions"),
    "cube": (InputError, lambda: structmat.Dense(rows(1, 2, 3)), "A", "(1, 2, 3)"),
    "objects": (InputError, lambda: structmat.Dense(EYE.astype(object)), "A", "Python objects"),
    "word": (BackendError, lambda: structmat.Dense("matrix"), "str"),
})  # fmt: skip
def test_dense(case):
    refused(*case)


@table({
    "negative width": (InputError, lambda: gblr(row_width=[2, -3]), "row_width[1] = -3",
                       "expected 0 to 4"),
    "oversized width": (InputError, lambda: gblr(col_width=[1, 4]), "col_width[1] = 4",
                        "expected 0 to 3", "length of that axis"),
    "start past the end": (InputError, lambda: gblr(row_start=[0, 4]), "row_start[1] = 4",
                           "expected 0 to 3", "modulo 4"),
    "start before zero": (InputError, lambda: gblr(col_start=[-1, 2]), "col_start[0] = -1",
                          "expected 0 to 2", "modulo 3"),
    "float widths": (InputError, lambda: gblr(row_width=[2.0, 3.0]), "row_width", "float64",
                     "expected integers", "round"),
    "float starts": (InputError, lambda: gblr(col_start=[1.5, 2]), "col_start", "float64",
                     "expected integers"),
    "nan widths": (InputError, lambda: gblr(row_width=[np.nan, 3]), "row_width", "integers"),
    "bool widths": (InputError, lambda: gblr(row_width=[True, True]), "row_width", "bool"),
    "text widths": (InputError, lambda: gblr(row_width=["a", "b"]), "row_width", "integers"),
    "ragged widths": (InputError, lambda: gblr(row_width=[[1], [1, 2]]), "row_width"),
    "square of starts": (ShapeError, lambda: gblr(row_start=[[0, 3]]), "row_start", "(1, 2)",
                         "shape (n,)"),
    "one start": (ShapeError, lambda: gblr(row_start=[0]), "1 entries in row_start",
                  "2 in row_width", "one start and one width a block"),
    "one more row run": (ShapeError, lambda: gblr(row_start=[0, 3, 1], row_width=[2, 2, 1]),
                         "3 runs of rows and 2 of columns", "one of each a block"),
    "u too long": (ShapeError, lambda: gblr(u=np.ones(6)), "u holds 6", "expected 5",
                   "GBLR.from_masked"),
    "v too short": (ShapeError, lambda: gblr(v=np.ones(2)), "v holds 2", "expected 3",
                    "GBLR.from_masked"),
    "u full-length": (InputError, lambda: gblr(u=rows(2, 4)), "u", "(2, 4)", "1 dimension"),
    "objects": (InputError, lambda: gblr(u=np.ones(5, object)), "u", "Python objects"),
    "negative shape": (ShapeError, lambda: gblr(shape=(-4, 3)), "(-4, 3)", "at least 0"),
    "float shape": (InputError, lambda: gblr(shape=(4.5, 3)), "4.5", "expected"),
    "short shape": (InputError, lambda: gblr(shape=(4,)), "(4,)", "expected"),
    "long shape": (InputError, lambda: gblr(shape=(4, 3, 2)), "(4, 3, 2)", "expected"),
    "no shape": (InputError, lambda: gblr(shape=None), "None", "expected"),
    "one number as shape": (InputError, lambda: gblr(shape=4), "4", "expected"),
    "text as shape": (InputError, lambda: gblr(shape="ab"), "ab", "expected"),
})  # fmt: skip
def test_gblr(case):
    refused(*case)


@table({
    "blocks": (ShapeError, lambda: from_masked(U=rows(3, 4)), "U holds 3 blocks, V 2",
               "one number of blocks"),
    "vector": (InputError, lambda: from_masked(V=rows(3)), "V", "(3,)", "2 dimensions"),
    "width": (InputError, lambda: from_masked(row_width=[2, 5]), "row_width[1] = 5", "0 to 4"),
    "start": (InputError, lambda: from_masked(col_start=[1, 3]), "col_start[1] = 3", "modulo 3"),
    "runs": (ShapeError, lambda: from_masked(row_start=[0], row_width=[1]), "the runs 1 and 2"),
    "floats": (InputError, lambda: from_masked(row_width=[2.0, 3.0]), "row_width", "integers"),
})  # fmt: skip
def test_gblr_from_masked(case):
    refused(*case)


@table({
    "one row": (ShapeError, lambda: block_sparse(rows=[0]), "3 blocks", "(1,)", "(3,)"),
    "one column more": (ShapeError, lambda: block_sparse(cols=[0, 1, 0, 1]), "3 blocks", "(4,)"),
    "off the bottom": (InputError, lambda: block_sparse(rows=[0, 0, 2]), "block 2 is at (2, 0)",
                       "2x2 grid"),
    "off the right": (InputError, lambda: block_sparse(cols=[0, 2, 0]), "block 1 is at (0, 2)",
                      "2x2 grid"),
    "negative": (InputError, lambda: block_sparse(rows=[-1, 0, 1]), "block 0 is at (-1, 0)",
                 "2x2 grid"),
    "overlapping": (InputError, lambda: block_sparse(cols=[1, 1, 0]), "blocks 0 and 1 overlap",
                    "(0, 1)", "add them"),
    "unsorted rows": (InputError, lambda: block_sparse(rows=[1, 0, 1], cols=[0, 1, 1]),
                      "block 1 at (0, 1) comes after block 0 at (1, 0)", "sorted", "lexsort"),
    "unsorted columns": (InputError, lambda: block_sparse(cols=[1, 0, 0]), "block 1 at (0, 0)",
                         "lexsort"),
    "float rows": (InputError, lambda: block_sparse(rows=[0.5, 0.5, 1.0]), "rows", "float64",
                   "integers"),
    "text rows": (InputError, lambda: block_sparse(rows=["a", "b", "c"]), "rows", "integers"),
    "blocks of no height": (ShapeError, lambda: block_sparse(blocks=rows(3, 0, 2)), "0x2",
                            "at least 1x1"),
    "flat blocks": (InputError, lambda: block_sparse(blocks=rows(3, 4)), "blocks", "(3, 4)",
                    "3 dimensions"),
    "objects": (InputError, lambda: block_sparse(blocks=rows(3, 2, 2).astype(object)), "blocks",
                "Python objects"),
    "negative shape": (ShapeError, lambda: block_sparse(shape=(4, -3)), "(4, -3)", "at least 0"),
    "float shape": (InputError, lambda: block_sparse(shape=(4.5, 3)), "4.5", "expected"),
    "short shape": (InputError, lambda: block_sparse(shape=(4,)), "(4,)", "expected"),
    "long shape": (InputError, lambda: block_sparse(shape=(4, 3, 2)), "(4, 3, 2)", "expected"),
    "no shape": (InputError, lambda: block_sparse(shape=None), "None", "expected"),
})  # fmt: skip
def test_block_sparse(case):
    refused(*case)


@table({
    "tile below": (InputError, lambda: block_low_rank({(2, 0): rows(2, 3)}), "tile (2, 0)",
                   "rows 0 to 1", "columns 0 to 0"),
    "tile before": (InputError, lambda: block_low_rank({(0, -1): rows(2, 3)}), "tile (0, -1)",
                    "off the grid"),
    "dense tile of another size": (ShapeError, lambda: block_low_rank({(0, 0): rows(3, 2)}),
                                   "tile (0, 0)", "(3, 2)", "expected (2, 3)"),
    "U too long": (ShapeError, lambda: block_low_rank({(0, 0): (rows(4, 1), rows(3, 1))}),
                   "tile (0, 0)", "(4, 1)", "expected (2, r) and (3, r)"),
    "V too short": (ShapeError, lambda: block_low_rank({(0, 0): (rows(2, 1), rows(2, 1))}),
                    "(2, 1)", "expected (2, r) and (3, r)"),
    "ranks": (ShapeError, lambda: block_low_rank({(0, 0): (rows(2, 2), rows(3, 1))}), "(2, 2)",
              "(3, 1)", "one rank r"),
    "three factors": (InputError, lambda: block_low_rank(
        {(0, 0): (rows(2, 1), rows(3, 1), rows(3, 1))}), "tile (0, 0)", "expected"),
    "one factor": (InputError, lambda: block_low_rank({(0, 0): (rows(2, 1),)}), "tile (0, 0)",
                   "expected"),
    "objects": (InputError, lambda: block_low_rank({(0, 0): rows(2, 3).astype(object)}),
                "tile (0, 0)", "Python objects"),
    "vector": (InputError, lambda: block_low_rank({(0, 0): np.ones(6)}), "tile (0, 0)", "(6,)"),
    "place a number": (InputError, lambda: block_low_rank({0: rows(2, 3)}), "0", "expected"),
    "place of three": (InputError, lambda: block_low_rank({(0, 0, 0): rows(2, 3)}), "(0, 0, 0)",
                       "expected"),
    "place between": (InputError, lambda: block_low_rank({(0.5, 0): rows(2, 3)}), "(0.5, 0)",
                      "expected"),
    "tiles in a list": (InputError, lambda: block_low_rank([rows(2, 3)]), "tiles", "expected"),
    "negative size": (InputError, lambda: block_low_rank(row_sizes=[2, -2]), "row_sizes", "-2",
                      "at least 0"),
    "float sizes": (InputError, lambda: block_low_rank(col_sizes=[3.0]), "col_sizes",
                    "integers"),
    "one number as sizes": (InputError, lambda: block_low_rank(row_sizes=4), "row_sizes = 4",
                            "sequence of integers"),
    "ragged sizes": (InputError, lambda: block_low_rank(row_sizes=[[1], [1, 2]]), "row_sizes"),
})  # fmt: skip
def test_block_low_rank(case):
    refused(*case)


@table({
    "factors that do not meet": (ShapeError, lambda: monarch(R=rows(2, 3, 2)), "(2, 2, 2)",
                                 "(2, 3, 2)", "l r = k q", "4 is not 6"),
    "flat": (InputError, lambda: monarch(L=rows(2, 2)), "L", "(2, 2)", "3 dimensions"),
    "objects": (InputError, lambda: monarch(R=rows(2, 2, 2).astype(object)), "R", "Python objects"),
    "too tall": (ShapeError, lambda: monarch(shape=(5, 4)), "(5, 4)", "at most (4, 4)"),
    "too wide": (ShapeError, lambda: monarch(shape=(4, 5)), "(4, 5)", "at most (4, 4)"),
    "negative": (ShapeError, lambda: monarch(shape=(-1, 4)), "(-1, 4)"),
    "float shape": (InputError, lambda: monarch(shape=(3.5, 4)), "3.5", "expected"),
    "short shape": (InputError, lambda: monarch(shape=(4,)), "(4,)", "expected"),
    "one number as shape": (InputError, lambda: monarch(shape=4), "4", "expected"),
})  # fmt: skip
def test_monarch(case):
    refused(*case)


@table({
    "twice": (InputError, lambda: structmat.Permutation([0, 0, 1]), "no permutation",
              "each of 0 to 2 exactly once"),
    "from one": (InputError, lambda: structmat.Permutation([1, 2, 3]), "each of 0 to 2"),
    "negative": (InputError, lambda: structmat.Permutation([0, -1]), "each of 0 to 1"),
    "floats": (InputError, lambda: structmat.Permutation([0.0, 1.0]), "float64",
               "expected integers"),
    "bools": (InputError, lambda: structmat.Permutation([True, False]), "bool", "integers"),
    "square": (InputError, lambda: structmat.Permutation([[0, 1]]), "(1, 2)", "shape (n,)"),
    "ragged": (InputError, lambda: structmat.Permutation([[0], [0, 1]]), "p", "ragged"),
    "objects": (InputError, lambda: structmat.Permutation(np.array([0, 1], object)), "object",
                "integers"),
    "word": (BackendError, lambda: structmat.Permutation("ab"), "str", "expected arrays"),
    "number": (BackendError, lambda: structmat.Permutation(5), "int", "expected arrays"),
})  # fmt: skip
def test_permutation(case):
    refused(*case)


def new_kind(*bases, kind="new", lacking=()):
    hooks = ("cost", "_multiply", "_multiply_adjoint", "_dense", "_adjoint", "_static", "_build")
    return type("New", bases, dict.fromkeys(set(hooks) - set(lacking)), kind=kind)


@table({
    "taken": (KindError, lambda: new_kind(structmat.StructuredMatrix, kind="gblr"),
              "'gblr' is taken by GBLR", "choose another name"),
    "a final class": (InputError, lambda: new_kind(structmat.GBLR), "New", "GBLR",
                      "expected StructuredMatrix alone"),
    "incomplete": (InputError, lambda: new_kind(structmat.StructuredMatrix, lacking=["_dense"]),
                   "New lacks _dense", "expected a definition"),
})  # fmt: skip
def test_new_kinds(case):
    refused(*case)


# Libraries that meet.


def torch_ones(*shape):
    torch = pytest.importorskip("torch")
    return torch.ones(*shape, dtype=torch.float64)


def strict_ones(*shape):
    strict = pytest.importorskip("array_api_strict")
    return strict.ones(shape)


MIXED = {
    "LowRank": lambda ones: structmat.LowRank(rows(4, 1), ones(3, 1)),
    "LowRank from a list": lambda ones: structmat.LowRank([[1.0]], ones(3, 1)),
    "GBLR": lambda ones: gblr(u=ones(5)),
    "GBLR.from_masked": lambda ones: from_masked(V=ones(2, 3)),
    "Monarch": lambda ones: monarch(R=ones(2, 2, 2)),
    "one tile": lambda ones: block_low_rank({(0, 0): (rows(2, 1), ones(3, 1))}),
    "two tiles": lambda ones: block_low_rank({(0, 0): rows(2, 3), (1, 0): ones(2, 3)}),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("ones", [torch_ones, strict_ones])
def test_contents_of_two_libraries_are_refused(name, ones):
    other = "torch" if ones is torch_ones else "array_api_strict"
    refused(BackendError, lambda: MIXED[name](ones), "numpy.ndarray", other, "one library",
            "numpy.asarray")  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("backend", ["torch", "array_api_strict"])
def test_matrices_and_operands_of_two_libraries_are_refused(name, backend):
    pytest.importorskip(backend)
    A = MATRICES[name]()
    B = A.to(backend)
    for action in (lambda: A + B, lambda: B + A, lambda: A - B, lambda: A @ B.H, lambda: B.H @ A):
        refused(BackendError, action, "numpy", backend, "one library and device", ".to(")
    ones = torch_ones if backend == "torch" else strict_ones
    for operation in ("matvec", "matmat", "rmatvec", "rmatmat"):
        size = A.shape[operation[0] != "r"]
        mine = rows(size, 2) if operation.endswith("mat") else rows(size)
        yours = ones(*mine.shape)
        action = partial(getattr(A, operation), yours)
        refused(BackendError, action, backend, "numpy", "A.to(")
        action = partial(getattr(B, operation), mine)
        refused(BackendError, action, "numpy.ndarray", backend, "A.to(")
    refused(BackendError, lambda: A @ ones(3), backend, "A.to(")
    refused(BackendError, lambda: B @ rows(3), "numpy.ndarray", "A.to(")
    refused(BackendError, lambda: rows(4) @ B, "numpy.ndarray", "A.to(")
    refused(BackendError, lambda: B @ [1.0, 2.0, 3.0], "list", "A.to(")


def test_scipy_solvers_refuse_matrices_of_other_libraries():
    pytest.importorskip("torch")
    A = structmat.Dense(EYE).to("torch")
    refused(BackendError, lambda: lsqr(A, np.ones(3)), "numpy.ndarray", "torch", "A.to(")


def test_mixing_with_scipy_keeps_the_shape_check():
    P = aslinearoperator(EYE)
    refused(ShapeError, lambda: low_rank() + P, "4x3 + 3x3", "equal shapes")
    refused(ShapeError, lambda: low_rank(3, 4) @ P, "3x4 @ 3x3", "inner sizes")


# Products.


@pytest.mark.parametrize("name", MATRICES)
def test_operands_of_the_wrong_shape_are_refused(name):
    A = MATRICES[name]()
    wrong = {
        "matvec": [(4,), (2, 4), (0,), (3, 2), (1, 4), ()],
        "rmatvec": [(3,), (2, 3), (5,), ()],
        "matmat": [(3,), (4, 2), (2, 4, 2), (2, 3), ()],
        "rmatmat": [(4,), (3, 2), (2, 3, 4), ()],
    }
    for operation, shapes in wrong.items():
        size = A.shape[operation[0] != "r"]
        wanted = f"(…, {size}, k)" if operation.endswith("mat") else f"(…, {size})"
        other = operation[:-3] + ("vec" if operation.endswith("mat") else "mat")
        for shape in shapes:
            action = partial(getattr(A, operation), np.ones(shape))
            refused(ShapeError, action, f"{operation} of a 4x3", str(shape), wanted, f"use {other}")
    for action in (
        lambda: A @ np.ones(4),
        lambda: A @ np.ones((4, 2)),
        lambda: A.dot(np.ones(4)),
        lambda: A * np.ones(4),
        lambda: A(np.ones(4)),
        lambda: np.ones(3) @ A,
        lambda: np.ones((2, 3)) @ A,
        lambda: A.matmat(scipy.sparse.eye_array(4)),
        lambda: A @ [1.0, 2.0],
    ):
        refused(ShapeError, action, "expected (…, ")
    for action in (
        lambda: A @ scipy.sparse.eye_array(4),
        lambda: scipy.sparse.eye_array(3) @ A,
    ):
        refused(ShapeError, action, "expected inner sizes to agree")


@pytest.mark.parametrize("name", MATRICES)
def test_operands_that_are_no_numbers_are_refused(name):
    A = MATRICES[name]()
    for x in (np.ones(3, object), ["a", "b", "c"], "abc", None, np.zeros(3, "M8[s]")):
        refused(InputError, lambda x=x: A @ x, "dtype", "expected numbers")
        refused(InputError, lambda x=x: A.matvec(x), "dtype", "expected numbers")


@pytest.mark.parametrize("operation", ["matvec", "rmatmat", "dot", "rdot", "__matmul__"])
def test_ragged_operands_are_refused(operation):
    refused(InputError, lambda: getattr(low_rank(), operation)([[1.0], [1.0, 2.0]]), "expected")


@pytest.mark.parametrize("first", MATRICES)
@pytest.mark.parametrize("second", ["low_rank", "monarch", "dense", "sum"])
def test_matrices_that_do_not_meet_are_refused(first, second):
    A, B = MATRICES[first](), MATRICES[second]()
    refused(ShapeError, lambda: A @ B, "4x3 @ 4x3", "inner sizes", "transposed?")
    refused(ShapeError, lambda: A + B.H, "4x3 + 3x4", "equal shapes", "transposed?")
    refused(ShapeError, lambda: A - B.H, "4x3", "3x4", "equal shapes", "transposed?")


@pytest.mark.parametrize("scalar", [3, 2.5, 1j, np.float32(2), np.array(2.0), True])
def test_matmul_with_a_number_is_refused(scalar):
    refused(InputError, lambda: low_rank() @ scalar, repr(scalar), "use * instead")
    if not isinstance(scalar, (np.generic, np.ndarray)):
        refused(InputError, lambda: scalar @ low_rank(), repr(scalar), "use * instead")


@pytest.mark.parametrize("zero", [0, 0.0, 0j, np.float32(0), np.array(0.0)])
def test_division_by_zero_is_refused(zero):
    refused(InputError, lambda: low_rank() / zero, "division by 0", "other than zero")


@pytest.mark.parametrize("wrong", ["2", None, np.ones(3), [2], low_rank()])
def test_division_by_what_is_no_number_is_refused(wrong):
    refused(InputError, lambda: low_rank() / wrong, "division by", "expected a number")


@pytest.mark.parametrize("power", [-1, 1.5, "2", None, 2j])
def test_powers_other_than_whole_positive_ones_are_refused(power):
    A = structmat.Dense(EYE)
    refused(InputError, lambda: A**power, "3x3", repr(power), "whole power of at least 0")


def test_powers_of_rectangular_matrices_are_refused():
    refused(InputError, lambda: low_rank() ** 2, "4x3", "power 2", "square matrix")


@pytest.mark.parametrize("other", [1, "a", None])
def test_addition_of_what_is_no_operator_is_the_usual_type_error(other):
    for action in (
        lambda: low_rank() + other,
        lambda: low_rank() - other,
        lambda: other + low_rank(),
        lambda: other - low_rank(),
    ):
        with pytest.raises(TypeError):
            action()


# Changing library, device, dtype and kind.


@pytest.mark.parametrize("name", ["low_rank", "scaled"])
@pytest.mark.parametrize("target", ["nonexistent", "cuda:0", "", 5])
def test_unknown_libraries_and_devices_are_refused(name, target):
    refused(StructmatError, lambda: MATRICES[name]().to(target), repr(target), "expected")


def test_a_module_that_is_no_array_library_is_refused():
    refused(StructmatError, lambda: low_rank().to(copy), "copy", "expected")


def test_a_device_that_torch_has_not_is_refused():
    pytest.importorskip("torch")
    A = low_rank().to("torch")
    refused(StructmatError, lambda: A.to("nonexistent"), "nonexistent", "expected")
    refused(StructmatError, lambda: A.to("warp:0"), "warp:0", "expected")


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_a_library_that_is_not_installed_is_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"array_api_compat.{library}", raising=False)
    refused(MissingDependencyError, lambda: low_rank().to(library), repr(library), "not installed",
            "install it")  # fmt: skip


@pytest.mark.parametrize("name", ["low_rank", "scaled"])
@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        ("int32", "int32"),
        (np.int64, "int64"),
        (bool, "bool"),
        (object, "object"),
        ("float99", "float99"),
        ("", "''"),
        (5, "5"),
        ("linalg", "linalg"),
        ([], "[]"),
    ],
)
def test_dtypes_that_are_not_floating_are_refused(name, dtype, shown):
    refused(InputError, lambda: MATRICES[name]().astype(dtype), shown,
            "real or complex floating", "float32")  # fmt: skip


def test_dtypes_of_another_library_are_refused():
    torch = pytest.importorskip("torch")
    refused(InputError, lambda: low_rank().astype(torch.float32), "torch.float32", "expected")
    A = low_rank().to("torch")
    refused(InputError, lambda: A.astype(np.float32), "float32", "expected")
    refused(InputError, lambda: A.astype(torch.int32), "torch.int32", "expected")
    refused(InputError, lambda: A.astype("int32"), "int32", "expected")


@pytest.mark.parametrize("name", MATRICES)
def test_a_complex_matrix_is_not_made_real(name):
    A = MATRICES[name]().astype("complex64")
    refused(InputError, lambda: A.astype("float64"), "complex64", "float64", "imaginary part",
            "complex dtype")  # fmt: skip


@pytest.mark.parametrize("kind", ["mystery", "GBLR", "", None, 5, ["gblr"]])
def test_unknown_kinds_list_the_known(kind):
    for action in (
        lambda: structmat.convert(low_rank(), kind),
        lambda: low_rank().to_kind(kind),
        lambda: structmat.compress(EYE, kind, budget=0.5),
        lambda: structmat.compress(EYE, kind, tol=0.5),
    ):
        message = refused(KindError, action, repr(kind))
        for known in ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr"):
            assert known in message


@pytest.mark.parametrize("wrong", [EYE, None, "gblr", 5])
def test_only_structured_matrices_are_converted(wrong):
    refused(InputError, lambda: structmat.convert(wrong, "gblr"), type(wrong).__name__,
            "expected a StructuredMatrix")  # fmt: skip


@pytest.mark.parametrize("kind", ["permutation", "block_sparse"])
def test_a_conversion_that_is_not_exact_names_compress(kind):
    refused(ConversionError, lambda: low_rank().to_kind(kind), kind, "exact",
            f"structmat.compress(A, '{kind}'")  # fmt: skip


def test_only_cupy_matrices_become_cupyx_operators():
    refused(BackendError, lambda: low_rank().to_cupyx(), "numpy", "expected cupy", "A.to('cupy')")


# Interpolation and checks.


@pytest.mark.parametrize(
    "alpha", [-0.1, 1.1, -1, 2, np.nan, np.inf, -np.inf, "half", None, 1j, np.ones(2), [0.5]]
)
def test_weights_outside_zero_to_one_are_refused(alpha):
    A = gblr()
    refused(InputError, lambda: structmat.interpolate(A, A, alpha), f"alpha = {alpha!r}",
            "from 0 to 1")  # fmt: skip


@pytest.mark.parametrize("alpha", [np.float32(0.5), np.float64(0.5), np.int64(1), np.array(0.5)])
def test_weights_of_numpy_are_numbers_too(alpha):
    A = gblr()
    assert structmat.interpolate(A, A, alpha).cost == A.cost


@table({
    "path": (InputError, lambda: structmat.interpolate(gblr(), gblr(), 0.5, path="round"),
             "path = 'round'", "'linear' or 'geodesic'"),
    "no path": (InputError, lambda: structmat.interpolate(gblr(), gblr(), 0.5, path=None),
                "path = None", "'linear' or 'geodesic'"),
    "match": (InputError, lambda: structmat.interpolate(gblr(), gblr(), 0.5, match="best"),
              "match = 'best'", "None or 'assignment'"),
    "shape": (ShapeError, lambda: structmat.interpolate(gblr(), low_rank(3, 4), 0.5), "(4, 3)",
              "(3, 4)", "one shape"),
    "array": (InputError, lambda: structmat.interpolate(rows(4, 3), gblr(), 0.5), "A", "ndarray",
              "expected a StructuredMatrix"),
    "nothing": (InputError, lambda: structmat.interpolate(gblr(), None, 0.5), "B", "NoneType",
                "expected a StructuredMatrix"),
    "no GBLR form": (ConversionError,
                     lambda: structmat.interpolate(gblr(), gblr() + monarch(), 0.5), "gblr",
                     "structmat.compress"),
    "reordered": (ConversionError, lambda: structmat.interpolate(monarch(), gblr(), 0.5), "A",
                  "in different orders", "structmat.compress(P.H @ B @ Q.H, 'gblr'"),
})  # fmt: skip
def test_interpolate(case):
    refused(*case)


def test_interpolation_between_libraries_is_refused():
    pytest.importorskip("torch")
    refused(BackendError, lambda: structmat.interpolate(gblr(), gblr().to("torch"), 0.5), "numpy",
            "torch", "one library and device", ".to(")  # fmt: skip


@pytest.mark.parametrize("wrong", [EYE, None, "gblr", aslinearoperator(EYE)])
def test_check_matrix_takes_structured_matrices(wrong):
    refused(InputError, lambda: structmat.testing.check_matrix(wrong), type(wrong).__name__,
            "expected a StructuredMatrix")  # fmt: skip


# Nothing that was given is changed.


def frozen(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays


def test_constructors_neither_change_nor_need_to_write_their_arrays():
    U, V = frozen(rows(4, 2), rows(3, 2))
    starts, widths, u, v = frozen(np.array([3, 2]), np.array([2, 0]), np.ones(2), np.ones(2))
    blocks, place = frozen(rows(1, 2, 2), np.array([0]))
    L, R = frozen(rows(2, 2, 2), rows(2, 2, 2))
    (p,) = frozen(np.array([1, 0, 2]))
    for A in (
        structmat.LowRank(U, V),
        structmat.GBLR(starts, widths, u, starts, widths, v, shape=(4, 4)),
        structmat.GBLR.from_masked(U.T, V.T, *frozen(*([np.array([0, 1])] * 4))),
        structmat.BlockSparse(blocks, place, place, shape=(3, 3)),
        structmat.BlockLowRank({(0, 0): (U, V)}, row_sizes=[4], col_sizes=[3]),
        structmat.Monarch(L, R),
        structmat.Permutation(p),
        structmat.Dense(U),
    ):
        structmat.testing.check_matrix(A)
    np.testing.assert_array_equal(starts, [3, 2])
    np.testing.assert_array_equal(widths, [2, 0])


@pytest.mark.parametrize(
    ("start", "width", "message"),
    [
        ([0, 0, 0], [3, -1, 9], "run_width[1] = -1"),
        ([0, 0, 0], [8, 9, -1], "run_width[1] = 9"),
        ([7, 8, -1], [1, 1, 1], "run_start[1] = 8"),
        ([7, -1, 8], [1, 1, 1], "run_start[1] = -1"),
    ],
)
def test_the_first_run_off_the_circle_is_named(start, width, message):
    refused(InputError, lambda: check_runs(start, width, 8), message)


def test_only_empty_runs_lose_their_start():
    start, width = check_runs([3, 9, 5, 7], [2, 0, 1, 8], 8)
    assert (start.tolist(), width.tolist()) == ([3, 0, 5, 7], [2, 0, 1, 8])


def test_two_devices_of_a_library_do_not_meet():
    array_api_strict = pytest.importorskip("array_api_strict")
    device = array_api_strict.Device("device1")
    one, other = (array_api_strict.ones((2, 1), device=d) for d in (None, device))
    refused(BackendError, lambda: structmat.LowRank(one, other), "device1", "move them first")
    A, B = structmat.LowRank(one, one), structmat.LowRank(other, other)
    for action in (lambda: A + B, lambda: A @ B):
        refused(BackendError, action, "device1", "one library and device", ".to(")


def test_runs_that_a_caller_changes_later_do_not_change_the_matrix():
    row_start, row_width = np.array([0, 3]), np.array([2, 3])
    A = gblr(row_start=row_start, row_width=row_width)
    row_start[:], row_width[:] = 1, 1
    np.testing.assert_array_equal(A.to_dense(), gblr().to_dense())
    place = np.array([0, 0, 1])
    B = block_sparse(rows=place)
    place[:] = 0
    np.testing.assert_array_equal(B.to_dense(), block_sparse().to_dense())
    sizes = np.array([2, 2])
    C = block_low_rank(row_sizes=sizes)
    sizes[:] = 1
    np.testing.assert_array_equal(C.to_dense(), block_low_rank().to_dense())


def test_tiles_stay_as_they_are():
    tiles = {(0, 0): (rows(2, 1), rows(3, 1)), (1, 0): rows(2, 3)}
    before = copy.deepcopy(tiles)
    A = block_low_rank(tiles)
    A = 2 * (A + A).H
    structmat.convert(A, "gblr")
    assert tiles.keys() == before.keys()
    np.testing.assert_array_equal(tiles[1, 0], before[1, 0])
    for mine, yours in zip(tiles[0, 0], before[0, 0], strict=True):
        np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("name", MATRICES)
def test_operations_leave_matrices_and_operands_alone(name):
    A, other = MATRICES[name](), low_rank()
    before, theirs = pickle.dumps(A), pickle.dumps(other)
    x, X, y = frozen(np.arange(3.0), rows(2, 3, 2), np.arange(4.0))
    for operation in (
        lambda: A @ x,
        lambda: A @ X,
        lambda: A.rmatvec(y),
        lambda: y @ A,
        lambda: A + other,
        lambda: other - A,
        lambda: A @ other.H,
        lambda: -A / 3,
        lambda: 1j * A,
        lambda: A.H.T.conj(),
        lambda: A.astype("complex64"),
        lambda: A.copy(),
        lambda: A.to("array_api_strict").to("numpy"),
        lambda: structmat.compress(A, "low_rank", tol=0.1),
    ):
        operation()
        assert pickle.dumps(A) == before
        assert pickle.dumps(other) == theirs


@pytest.mark.parametrize("name", MATRICES)
def test_a_copy_shares_nothing(name):
    A = MATRICES[name]()
    B = A.copy()
    for mine, yours in zip(A._leaves(), B._leaves(), strict=True):
        assert not np.shares_memory(mine, yours)
