"""`import structmat` stays light: NumPy, SciPy and array-api-compat, nothing optional."""

import subprocess
import sys

import pytest

OPTIONAL = [
    "array_api_strict",
    "cupy",
    "dask",
    "distributed",
    "hypothesis",
    "lightning",
    "llvmlite",
    "matplotlib",
    "numba",
    "pytest",
    "safetensors",
    "sklearn",
    "torch",
    "tqdm",
    "transformers",
    "triton",
]


def loaded_by(statement):
    """Top-level packages in `sys.modules` of a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import structmat",
        "import structmat.plot",
        "import structmat.testing",
        "import structmat.demo",
        "import structmat.cli",
        "import structmat.learn",
    ],
)
def test_importing_loads_nothing_optional(statement):
    loaded = loaded_by(statement)
    assert "structmat" in loaded
    assert loaded.isdisjoint(OPTIONAL)


def test_using_numpy_matrices_loads_no_other_array_library():
    loaded = loaded_by(
        "import numpy, structmat\n"
        "A = structmat.LowRank(numpy.ones((4, 1)), numpy.ones((3, 1)))\n"
        "A @ numpy.ones(3), (A + A).to_dense(), structmat.convert(A, 'gblr').to_dense()"
    )
    assert loaded.isdisjoint({"array_api_strict", "cupy", "torch"})


def test_the_check_sees_a_package_that_is_loaded():
    assert "tqdm" in loaded_by("import structmat, tqdm")
