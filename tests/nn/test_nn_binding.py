"""The contract between matrices and the modules that hold their contents."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES, build

import structmat
import structmat.nn
from structmat import StructuredMatrix, binding

FOLDER = Path(structmat.nn.__file__).parent
CLASSES = {base for cls in StructuredMatrix.__subclasses__() for base in cls.__mro__}
CLASSES = [cls for cls in CLASSES if cls.__module__.startswith("structmat.")]
PRIVATE = {name for cls in CLASSES for name in vars(cls) if name[0] == "_" and name[1] != "_"}
PRIVATE |= {name for name in vars(structmat.Dense(np.eye(2))) if name[0] == "_"}


def reaches(source):
    """Private members of matrices that are read or written on anything but `self`."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [n.attr for n in found if n.attr in PRIVATE and ast.unparse(n.value) != "self"]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda p: p.stem)
def test_modules_use_no_private_member_of_a_matrix(path):
    assert reaches(path.read_text(encoding="utf-8")) == []


def test_such_a_reach_is_found():
    assert {"_memory", "_structure", "_kept", "_multiply", "_build", "_static"} <= PRIVATE
    found = reaches("matrix._multiply(x), self._kept, matrix.children[0]._memory")
    assert sorted(found) == ["_memory", "_multiply"]


@pytest.mark.parametrize("remember", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_matrix_around_other_contents(name, remember):
    A, dense = build(name)
    A = A.to("torch")
    doubled = [2 * a if a.is_floating_point() else a for a in binding.leaves(A)]
    B, C = binding.bind(A, doubled, remember=remember), binding.construct(A, doubled)
    assert binding.remembers(B) is remember
    assert (type(B), B.shape, B.dtype, B.cost) == (type(A), A.shape, A.dtype, A.cost)
    x, y = torch.ones(A.shape[1], 3).double(), torch.ones(A.shape[0], 3).double()
    torch.testing.assert_close(binding.multiply(B, x), C @ x)
    torch.testing.assert_close(binding.multiply(B, y, adjoint=True), C.H @ y)
    torch.testing.assert_close(B.to_dense(), C.to_dense())
    made = [binding.kept(B, "dense", lambda: [B.to_dense()]) for _ in range(2)]
    assert (made[0] is made[1]) is remember
    np.testing.assert_allclose(A.to_dense().numpy(), dense)
