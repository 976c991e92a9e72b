"""The table of kernels: defaults, times, and a new kernel as one record."""

import ast
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cases import block_sparse, build, contents, random_gblr
from patterns import PATTERNS

from structmat.errors import InputError
from structmat.kernels import plan, using
from structmat.kernels.choice import calibrate as calibration
from structmat.kernels.choice import record, table
from structmat.kernels.choice.record import Kernel, on
from structmat.kernels.cost_model.coefficients import keep
from structmat.kernels.cost_model.prices import Price
from structmat.kernels.layouts.factors import FactorStructure

KERNELS_FOLDER = Path(table.__file__).parents[1]


# --- Defaults. ---


def structure_on(library, device, patterns=("runs", "runs")):
    """A structure on a library that need not be installed."""
    row, col = (None if name is None else PATTERNS[name] for name in patterns)
    namespace = SimpleNamespace(
        __name__=library, isdtype=lambda dtype, kind: False, inference_mode=nullcontext
    )
    return FactorStructure(row, col, namespace, device)


def contents_of(structure, dtype, size):
    return [SimpleNamespace(dtype=dtype, shape=(size,), itemsize=4) for _ in structure.patterns]


#: Kernel for 1, 16, 17, 63, 64 and 1000 columns with 10,000 scalars, then with 100 of them.
DEFAULTS = {
    ("torch", "cpu", "float32"): (["tiles"] * 6, ["panels"] * 6),
    ("torch", "cpu", "float64"): (["tiles"] * 6, ["panels"] * 6),
    ("torch", "cpu", "complex64"): (["panels"] * 6, ["panels"] * 6),
    ("torch", "cpu", "bfloat16"): (["panels"] * 6, ["panels"] * 6),
    ("torch", "meta", "float32"): (["batches"] * 6, ["batches"] * 6),
    ("torch", "cuda:1", "float32"): (["lines"] * 2 + ["triton"] * 4,) * 2,
    ("torch", "cuda", "bfloat16"): (["lines"] * 2 + ["triton"] * 4,) * 2,
    ("torch", "cuda", "float64"): (["batches"] * 6, ["batches"] * 6),
    ("cupy", "gpu", "float32"): (["intervals"] * 6,) * 2,
    ("cupy", "gpu", "complex128"): (["intervals"] * 6,) * 2,
    ("cupy", "gpu", "float16"): (["batches"] * 6, ["batches"] * 6),
    ("jax", "gpu", "float32"): (["batches"] * 6, ["batches"] * 6),
}


@pytest.fixture
def everything_is_here(monkeypatch):
    monkeypatch.setattr(record, "_PRESENT", {"numba", "triton"})
    monkeypatch.setattr(record, "_IMPORTED", {"numba", "triton"})


@pytest.mark.parametrize("where", DEFAULTS, ids=" ".join)
def test_defaults_where_no_times_are_known(where, everything_is_here):
    library, device, dtype = where
    structure = structure_on(library, device)
    for names, size in zip(DEFAULTS[where], (5000, 50), strict=True):
        given = contents_of(structure, f"{library}.{dtype}", size)
        counts = (1, 16, 17, 63, 64, 1000)
        assert [table.KERNELS.default(structure, given, k).name for k in counts] == names
        # Numbers of columns are told apart at the steps, and nowhere else.
        changes = [
            b for b, old, new in zip(counts[1:], names, names[1:], strict=False) if old != new
        ]
        assert table.KERNELS.default_steps(structure, given) == changes


def test_intervals_are_for_runs_alone(everything_is_here):
    structure = structure_on("cupy", "gpu", ("blocks", None))
    given = contents_of(structure, "float32", 5000)
    assert table.KERNELS.default(structure, given, 1).name == "batches"
    assert table.KERNELS.default_steps(structure, given) == []


@pytest.mark.parametrize("missing", ["numba", "triton"])
def test_defaults_without_a_package(missing, everything_is_here):
    record._PRESENT.discard(missing)
    for device, columns in (("cpu", 1), ("cuda", 64)):
        structure = structure_on("torch", device)
        given = contents_of(structure, "torch.float32", 5000)
        name = table.KERNELS.default(structure, given, columns).name
        there = {"cpu": "numba", "cuda": "triton"}[device] != missing
        assert (name not in ("panels", "batches")) == there


# --- Times. ---

RUNS = random_gblr(150, 130, 60, 3)
BLOCKS = block_sparse(96, 140, 16, 20, [0, 0, 1, 2, 3, 4, 5, 5], [3, 5, 0, 4, 6, 2, 0, 6])
#: Microseconds expected by the shipped coefficients for 1, 3 and 250 columns, kernel by kernel.
TIMES = {
    (RUNS, "float32"): {
        "panels": (7.84128, 8.88987, 138.391),
        "rows": (9.57175, 24.8877, 195.924),
        "vectors": (4.56479, 8.47437, 491.307),
        "tiles": (22.4088, 22.4088, 93.8284),
        "blocks": (19.6505, 19.6505, 147.8732),
        "pair": (1.50528, 2.2055, 82.5418),
        "dense": (1.4976, 2.2737, 93.7872),
    },
    (RUNS, "complex128"): {
        "panels": (20.258, 28.0381, 988.884),
        "rows": (9.57175, 39.4293, 1407.72),
        "vectors": (11.3052, 28.6955, 2176.4),
        "tiles": (41.2411, 41.2411, 777.448),
        "pair": (6.02112, 12.725, 655.415),
        "dense": (5.9904, 13.5408, 745.649),
    },
    (BLOCKS, "float32"): {
        "panels": (13.4328, 13.5706, 30.5927),
        "rows": (5.64312, 10.3315, 62.6876),
        "pair": (1.20422, 1.7644, 66.0334),
        "dense": (1.03219, 1.5671, 64.641),
    },
}
CHOSEN = {
    (RUNS, "float32"): ["dense", "dense", "dense"],
    (RUNS, "complex128"): ["dense", "dense", "pair"],
    (BLOCKS, "float32"): ["dense", "dense", "panels"],
}


@pytest.mark.parametrize("case", TIMES, ids=["runs", "complex runs", "blocks"])
def test_times_by_the_shipped_coefficients(case, everything_is_here):
    make, dtype = case
    matrix, _ = make(contents(dtype))
    plans = [plan(matrix, columns) for columns in (1, 3, 250)]
    assert [p.kernel for p in plans] == CHOSEN[case]
    for name, microseconds in TIMES[case].items():
        found = [1e6 * p.expected[name] for p in plans]
        assert found == pytest.approx(microseconds, rel=1e-5)
    assert all(list(p.expected) == list(TIMES[case]) for p in plans)


# --- One record. ---


class Zeros:
    """Products with nothing."""

    def __init__(self, structure, contents):
        self._shape, self._xp = structure.shape, structure.xp

    def multiply(self, x, *, by_columns):
        return self._xp.zeros((self._shape[0], x.shape[1]))

    def multiply_adjoint(self, y, *, by_columns):
        return self._xp.zeros((self._shape[1], y.shape[1]))


@pytest.fixture
def register(monkeypatch, user_cache):
    """Add a record to the table for one test."""

    def add(seconds=0.0, size=0, **fields):
        price = Price(lambda work: size, lambda work, _, k: (1.0, float(k)), (1e9 * seconds, 0.0))
        fields = {"wants": on("numpy"), "price": price, **fields}
        kernel = Kernel("zeros", "nothing at all", Zeros, **fields)
        monkeypatch.setitem(table.KERNELS, "zeros", kernel)

    return add


built = pytest.mark.parametrize("make", [RUNS, BLOCKS], ids=["runs", "blocks"])


@built
def test_a_new_kernel_is_forced_by_its_name(make, register):
    register(seconds=1e6)
    matrix, _ = make(contents("float64"))
    X, Y = np.ones((matrix.shape[1], 3)), np.ones((matrix.shape[0], 3))
    with using("zeros"):
        assert not (matrix @ X).any()
        assert not matrix.rmatmat(Y).any()
    assert (matrix @ X).any()
    assert not plan(matrix, 3, kernel="zeros").multiply(X).any()


@built
def test_a_new_kernel_is_chosen_where_it_is_cheapest(make, register):
    matrix, _ = make(contents("float64"))
    X = np.ones((matrix.shape[1], 3))
    before = plan(matrix, 3)
    register(seconds=1e6)
    dear = plan(matrix.copy(), 3)
    assert dear.kernel == before.kernel
    assert dear.expected == {**before.expected, "zeros": pytest.approx(1e6)}
    register(seconds=1e-12)
    chosen = plan(matrix.copy(), 3)
    assert (chosen.kernel, chosen.seconds) == ("zeros", pytest.approx(1e-12))
    assert str(chosen).startswith("zeros (nothing at all) for 3 columns")
    assert not (matrix.copy() @ X).any()


@pytest.mark.parametrize(
    "fields",
    [
        {"wants": on("torch")},
        {"wants": on("numpy", dtypes=("float32",))},
        {"package": "no_such_package"},
        {"least_scalars": 10**9},
        {"size": 10**9},
        {"price": None},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_new_kernel_is_not_compared_where_its_record_says_no(fields, register):
    register(**fields)
    matrix, _ = RUNS(contents("float64"))
    assert "zeros" not in plan(matrix, 3).expected
    assert (matrix @ np.ones(matrix.shape[1])).any()


def test_a_new_kernel_may_be_the_default(register):
    matrix, _ = build("gblr")
    x = np.ones((matrix.shape[1], 9))
    strict = matrix.to("array_api_strict")
    to = partial(strict.xp.asarray)
    register(wants=on("array_api_strict"), price=None, default_from=3, default_to=8)
    for columns, zero in ((2, False), (3, True), (8, True), (9, False)):
        y = np.asarray(strict.copy() @ to(x[:, :columns]))
        assert y.any() != zero
    with pytest.raises(InputError, match=r"'zeros'.*contents of array_api_strict, not numpy"):
        plan(matrix, kernel="zeros")


def test_a_new_kernel_is_calibrated(register, monkeypatch):
    monkeypatch.setattr(calibration, "_REPEATS", 1)
    monkeypatch.setattr(calibration, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(calibration, "_COLUMNS", (1, 5))
    register(seconds=1e6)
    measured, errors = calibration.calibrate(sizes=(64,))
    assert "zeros" in errors
    assert measured["zeros"] != [1e15, 0.0]
    keep(measured)
    assert table.KERNELS.coefficients() == measured
    matrix, _ = RUNS(contents("float64"))
    assert plan(matrix, 3).expected["zeros"] < 1


@pytest.mark.parametrize(
    "name", ["choice/table", "choice/factored", "choice/calibrate", "plan", "bound",
             "cost_model/prices", "cost_model/coefficients", "cpu/torch_kernel", "arrays/panels"],
)  # fmt: skip
def test_names_of_kernels_stand_in_their_records_alone(name):
    tree = ast.parse((KERNELS_FOLDER / f"{name}.py").read_text(encoding="utf-8"))

    def is_record(node):
        return isinstance(node, ast.Call) and ast.unparse(node.func) == "Kernel"

    inside = {id(part) for node in filter(is_record, ast.walk(tree)) for part in ast.walk(node)}
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in list(table.KERNELS)
        if id(node) not in inside
    ]
    assert found == []
