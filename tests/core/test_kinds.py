"""Records of kinds: entered once, completed once, looked up when used."""

import subprocess
import sys
from functools import cached_property

import numpy as np
import pytest

import structmat
from structmat import Kind, LowRank, Permutation, StructuredMatrix, binding, register, rule
from structmat.compress import monarch as monarch_fit
from structmat.errors import BudgetError, InputError, KindError
from structmat.kinds import (
    BUILT_IN,
    all_kinds,
    find_fit,
    fitted_kinds,
    kind_class,
    kind_record,
)
from structmat.testing import check_matrix

pytestmark = pytest.mark.usefixtures("own_kinds")


def mean(A, goal, *, rng, progress):
    m, n = A.shape
    return LowRank(np.full((m, 1), A.mean()), np.ones((n, 1)))


def define(name):
    """A class with a kind of its own: the zero matrix."""

    class Zero(StructuredMatrix, kind=name):
        static_names = ("shape",)
        data_names = ("none",)
        cost = 0

        def __init__(self, none, *, shape):
            super().__init__(shape, {"none": none})

        def _multiply(self, x):
            return self.xp.zeros((self.shape[0], x.shape[1]), dtype=x.dtype)

        def _multiply_adjoint(self, y):
            return self.xp.zeros((self.shape[1], y.shape[1]), dtype=y.dtype)

        def _dense(self):
            return self.xp.zeros(self.shape, dtype=self.dtype)

        def _adjoint(self):
            return Zero(self.none, shape=self.shape[::-1])

    return Zero


def test_records_of_structmat_name_what_is_there():
    for record in BUILT_IN:
        if record.matrix is not None:
            assert kind_class(record.name).kind == record.name
        for implicit in (False, True):
            named = record.fit_implicit if implicit else record.fit
            fit = find_fit(record.name, implicit=implicit)
            assert (fit is None) == (named is None)
            assert fit is None or callable(fit)
    kinds = ("low_rank", "block_sparse", "block_low_rank", "monarch", "gblr", "hierarchical")
    assert fitted_kinds() == kinds
    assert fitted_kinds(implicit=True) == tuple(kind for kind in kinds if kind != "block_sparse")


def test_a_fit_is_imported_when_it_is_used():
    program = (
        "import structmat.kinds as kinds\n"
        "kinds.register(kinds.Kind('late', fit='late_fit:fit'))\n"
        "assert 'late' in kinds.fitted_kinds()\n"
        "try:\n    kinds.find_fit('late')\n"
        "except ModuleNotFoundError as missing:\n    print(missing.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "late_fit", done.stderr


def test_a_class_statement_enters_a_record():
    Zero = define("zero_matrix")
    assert kind_class("zero_matrix") is Zero
    assert kind_record("zero_matrix").label == "zero matrix"
    assert all_kinds()[-1].name == "zero_matrix"
    assert "zero_matrix" not in fitted_kinds()
    with pytest.raises(KindError, match=r"'zero_matrix' is taken by .*Zero; choose another"):
        define("zero_matrix")
    for name, owner in (("gblr", "GBLR"), ("pixelfly", "a recipe")):
        with pytest.raises(KindError, match=f"'{name}' is taken by {owner}"):
            define(name)


def test_a_record_is_completed_once():
    Zero = define("zero")
    register(Kind("zero", "nothing", "#000000", fit=mean))
    record = kind_record("zero")
    assert (record.label, record.colour, record.matrix) == ("nothing", "#000000", Zero)
    assert find_fit("zero") is mean
    assert [kind.name for kind in all_kinds()].count("zero") == 1
    with pytest.raises(KindError, match="'zero' is registered already; choose another name"):
        register(Kind("zero", fit=mean))
    for name in ("low_rank", "permutation", "pixelfly"):
        with pytest.raises(KindError, match=f"'{name}' is registered already"):
            register(Kind(name, fit=mean))
        assert find_fit(name) is not mean


def test_the_class_may_come_after_the_record():
    register(Kind("zero", fit=mean))
    Zero = define("zero")
    assert kind_class("zero") is Zero
    assert find_fit("zero") is mean


def test_a_record_takes_its_own_class_alone():
    for name in ("zero", "second", "third"):
        Zero = define(name)
        given = {"zero": Zero, "second": f"{__name__}:{Zero.__qualname__}", "third": None}[name]
        register(Kind(name, matrix=given, fit=mean))
        assert kind_class(name) is Zero
    define("another")
    for name in ("other", "another"):
        with pytest.raises(KindError, match=f"LowRank.* for the kind '{name}'; expected the class"):
            register(Kind(name, matrix=LowRank, fit=mean))
        assert name not in fitted_kinds()


def test_a_class_may_be_imported_late(tmp_path):
    (tmp_path / "heavy.py").write_text(
        "import structmat\n"
        "class Zero(structmat.StructuredMatrix, kind='late_zero'):\n"
        "    cost = _multiply = _multiply_adjoint = _dense = _adjoint = None\n"
    )
    program = (
        "import structmat, structmat.kinds, sys\n"
        "structmat.register(structmat.Kind('late_zero', matrix='heavy:Zero'))\n"
        "assert 'heavy' not in sys.modules\n"
        "assert structmat.kinds.kind_class('late_zero').__name__ == 'Zero'\n"
        "assert structmat.kinds.kind_record('late_zero').matrix is sys.modules['heavy'].Zero\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_a_recipe_has_no_class():
    register(Kind("mean", fit=mean))
    assert structmat.compress(np.ones((3, 4)), "mean", tol=1e-9).matrix.kind == "low_rank"
    with pytest.raises(KindError, match="unknown kind 'mean'"):
        structmat.convert(Permutation([0]), "mean")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kind(""), "name = ''"),
        (lambda: Kind(7), "name = 7"),
        (lambda: Kind("x", fit_implicit=mean), "fit_implicit without fit"),
        (lambda: register("gblr"), "register got a str; expected a structmat.Kind"),
        (lambda: rule("subtract", "gblr", "gblr"), "'subtract'; expected one of add, matmul"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_pair_has_one_rule():
    P = Permutation([1, 0])

    @rule("add", "permutation", "*")
    def general(a, b):
        return NotImplemented

    @rule("add", "permutation", "permutation")
    def special(a, b):
        return structmat.Dense(a.to_dense() + b.to_dense())

    assert (P + P).kind == "dense"
    assert (P + LowRank(np.ones((2, 1)), np.ones((2, 1)))).kind == "sum"
    for pair in (("permutation", "permutation"), ("gblr", "gblr")):
        with pytest.raises(KindError, match=f"has a rule for '{pair[0]}' and '{pair[1]}'"):
            rule("add", *pair)(special)


def raises(error):
    def fit(A, goal, *, rng, progress):
        raise error

    return fit


def returns(matrix):
    return lambda A, goal, *, rng, progress: matrix


RETURNED = "InputError: the fit of 'wrong' returned"
WRONG_FITS = {
    "value": (raises(ValueError("no luck")), ValueError, "ValueError: no luck"),
    "memory": (raises(MemoryError("too large")), MemoryError, "MemoryError: too large"),
    "budget": (raises(BudgetError("costs 9")), BudgetError, "costs 9"),
    "tolerance": (raises(structmat.ToleranceError("far")), InputError, "ToleranceError: far"),
    "array": (returns(np.eye(4)), InputError, f"{RETURNED} a ndarray; expected a S"),
    "shape": (returns(Permutation([0])), InputError, f"{RETURNED} <1x1"),
    "cost": (returns(structmat.Dense(np.eye(4))), BudgetError, "'wrong' costs 16, above the cap"),
}


@pytest.mark.parametrize("name", WRONG_FITS)
def test_a_fit_that_fails_leaves_a_note_in_compare(name):
    fit, error, note = WRONG_FITS[name]
    register(Kind("wrong", fit=fit))
    rows = structmat.compare(np.eye(4), budget=0.75, rng=0)
    assert [row.kind for row in rows] == [*fitted_kinds()[:-1], "wrong"]
    assert [row.matrix is None for row in rows] == [False] * 6 + [True]
    assert rows[-1].note.startswith(note)
    with pytest.raises(error) as failure:
        structmat.compress(np.eye(4), "wrong", budget=0.75)
    assert str(failure.value) in rows[-1].note


def test_a_matrix_that_cannot_multiply_leaves_a_note():
    Zero = define("zero")
    Zero._multiply = raises(ArithmeticError("broken product"))
    register(Kind("zero", fit=lambda A, goal, **_: Zero(np.zeros(0), shape=A.shape)))
    row = structmat.compare(np.eye(4), budget=0.75, rng=0)[-1]
    assert row.matrix is None
    assert row.note.startswith("TypeError: ")


def test_a_fault_of_a_built_in_fit_is_not_hidden(monkeypatch):
    monkeypatch.setattr(monarch_fit, "fit", raises(ValueError("a fault")))
    with pytest.raises(ValueError, match="a fault"):
        structmat.compare(np.eye(4), budget=0.75)


def test_a_file_of_an_unknown_kind_asks_for_its_module(tmp_path):
    Zero = define("zero")
    structmat.save(tmp_path / "zero.npz", Zero(np.zeros(0), shape=(2, 2)))
    program = f"import structmat; structmat.load({str(tmp_path / 'zero.npz')!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "unknown kind 'zero'" in done.stderr
    assert "import the module that defines it" in done.stderr


def test_the_import_of_a_fit_is_no_time_of_the_fit(tmp_path, monkeypatch):
    for name in ("slow_a", "slow_b", "slow_c"):
        code = "import time\ntime.sleep(1)\nfrom structmat.compress.low_rank import fit\n"
        (tmp_path / f"{name}.py").write_text(code)
        register(Kind(name, fit=f"{name}:fit"))
    monkeypatch.syspath_prepend(tmp_path)
    A = np.eye(4)
    results = [
        structmat.compress(A, "slow_a", budget=0.5),
        structmat.compress(A, "slow_b", tol=0.9),
        structmat.compare(A, budget=0.5)[-1],
    ]
    assert [result.kind for result in results] == ["slow_a", "slow_b", "slow_c"]
    assert max(result.seconds for result in results) < 0.5


def test_a_kind_may_remember_by_cached_property():
    class Turned(StructuredMatrix, kind="turned"):
        data_names = ("a",)
        cost = 4

        def __init__(self, a):
            super().__init__(a.shape, {"a": a})

        @cached_property
        def _twice(self):
            return self.a + self.a

        def _multiply(self, x):
            return self._twice @ x

        def _multiply_adjoint(self, y):
            return self._twice.T @ y

        def _dense(self):
            return self._twice

        def _adjoint(self):
            return Turned(self.a.T)

    A = Turned(np.eye(2))
    np.testing.assert_array_equal(A @ np.ones(2), [2, 2])
    B = binding.bind(A, [3 * np.eye(2)], remember=True)
    np.testing.assert_array_equal(B @ np.ones(2), [6, 6])


def test_the_check_of_a_kind_names_what_is_wrong():
    class Wrong(StructuredMatrix, kind="wrong"):
        data_names = ("a",)
        cost = 4

        def __init__(self, a):
            super().__init__(a.shape, {"a": a})

        def _multiply(self, x):
            return self.a @ x

        def _multiply_adjoint(self, y):
            return self.a @ y

        def _dense(self):
            return self.a

        def _adjoint(self):
            return Wrong(self.a.T)

    with pytest.raises(AssertionError, match=r"2x2 Wrong.*: rmatvec of an operand of shape"):
        check_matrix(Wrong(np.array([[1.0, 2.0], [3.0, 4.0]])))
