"""Mutants: small faults in chosen functions, made by Cosmic Ray, and the tests that notice them.

Each fault is put into a copy of the tree, and the tests named beside the function run on it.
"""

import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.machine import facts, version
from benchmarks.reliability.suites import ROOT, SCHEMA
from benchmarks.results import BenchmarkError, Row

#: Reasons why mutants that survive change no result, by function and change.
EQUIVALENT = Path(__file__).with_name("equivalent.json")
#: Faults that are made: other ones of Cosmic Ray repeat these or break annotations.
OPERATORS = (
    "NumberReplacer", "AddNot", "ZeroIterationForLoop", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not", "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Add",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul",
    "ReplaceBinaryOperator_Mod_Add", "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_Lt_Gt",
    "ReplaceComparisonOperator_Gt_Lt", "ReplaceComparisonOperator_LtE_GtE",
    "ReplaceComparisonOperator_GtE_LtE", "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
)  # fmt: skip
#: Seconds after which a mutant counts as one that never ends.
LIMIT = 300


@dataclass(frozen=True)
class Subject:
    """A function, the file that holds it, and the tests that should notice its faults."""

    file: str
    function: str
    tests: tuple[str, ...]


CONTRACT = ("tests/core/test_contract.py", "tests/core/test_bad_input.py")
TILES = ("tests/kernels/test_kernels_tiles.py",)
PRODUCTS = (*CONTRACT, "tests/reliability/test_operands.py")
SUBJECTS = (
    Subject("structmat/_checks.py", "check_runs", CONTRACT),
    Subject("structmat/_operand.py", "vector_product", PRODUCTS),
    Subject("structmat/_operand.py", "matrix_product", PRODUCTS),
    Subject("structmat/_operand.py", "multiplied", PRODUCTS),
    Subject("structmat/_operators.py", "_pair", (*CONTRACT, "tests/core/test_scipy.py")),
    Subject("structmat/matrix.py", "_scale", CONTRACT),
    Subject("structmat/matrices/monarch.py", "_multiply", CONTRACT),
    Subject("structmat/intervals.py", "entry_index", CONTRACT),
    Subject("structmat/intervals.py", "best_runs", ("tests/core/test_intervals.py",)),
    Subject(
        "structmat/kernels/layouts/tiles.py",
        "tile_layout",
        ("tests/kernels/test_kernels_tiles.py",),
    ),
    Subject("structmat/interpolate.py", "_between", ("tests/core/test_interpolate.py",)),
    Subject("structmat/convert.py", "_block_low_rank_to_gblr", ("tests/core/test_convert.py",)),
    Subject("structmat/io.py", "_restore", ("tests/core/test_io.py",)),
    Subject("structmat/compress/low_rank.py", "_fit", ("tests/compress/test_compress.py",)),
    Subject("structmat/nn/training/projection.py", "projected", ("tests/nn/training",)),
    Subject("structmat/nn/training/step_hook.py", "_is_skipped", ("tests/nn/training",)),
    Subject("structmat/nn/models/split_budget.py", "split_budget", ("tests/nn/models",)),
    Subject("structmat/nn/gaudi/side.py", "gradients", ("tests/nn/gaudi",)),
    Subject("structmat/nn/gaudi/conversion.py", "pack", ("tests/nn/gaudi",)),
    Subject("structmat/nn/structured/parameters.py", "holds", ("tests/nn/structured",)),
)


def run() -> Row:
    """Put every fault into every subject; one row for each function."""
    begin = time.perf_counter()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            copies.put(copy_tree(Path(folder) / str(number)))
        with ThreadPoolExecutor(workers) as pool:
            rows = [_row(subject, copies, pool) for subject in SUBJECTS]
    return {
        "schema": SCHEMA,
        "suite": "mutants",
        "command": "python -m benchmarks reliability mutants",
        "seconds": round(time.perf_counter() - begin),
        "machine": {**facts(), "cosmic-ray": version("cosmic-ray")},
        "rows": rows,
    }


def copy_tree(target: Path) -> Path:
    """Copy of what the tests need."""
    for name in ("structmat", "tests", "benchmarks", "docs", "pyproject.toml", "README.md"):
        source, place = ROOT / name, target / name
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    return target


def _row(subject: Subject, copies: "SimpleQueue[Path]", pool: ThreadPoolExecutor) -> Row:
    if not _passes(subject, copies):
        raise BenchmarkError(f"the tests of {subject.function} fail without any fault")
    mutants = list(mutants_of(subject))
    known = json.loads(EQUIVALENT.read_text(encoding="utf-8")).get(subject.function, {})
    noticed = list(pool.map(lambda mutant: not _passes(subject, copies, mutant), mutants))
    left = [code for code, seen in zip(mutants, noticed, strict=True) if not seen]
    changes = [change_of(ROOT / subject.file, code) for code in left]
    print(f"{subject.function}: {sum(noticed)} of {len(mutants)} noticed", flush=True)
    return {
        "function": f"{subject.file}: {subject.function}",
        "mutants": len(mutants),
        "noticed": sum(noticed),
        "survivors": [{"change": c, "reason": known.get(c)} for c in changes],
    }


def mutants_of(subject: Subject) -> Iterator[str]:
    """Each faulty text of the subject's file."""
    try:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator
    except ImportError:
        raise BenchmarkError(
            "cosmic-ray is not installed; install it with pip install cosmic-ray"
        ) from None
    path = ROOT / subject.file
    code = path.read_text(encoding="utf-8")
    for spec in _specs(path):
        if spec.definition_name == subject.function:
            operator = get_operator(spec.operator_name)(**spec.operator_args)
            mutated = mutate_code(code, operator, spec.occurrence)
            if mutated is not None and _has_fault(code, mutated):
                yield mutated


def _has_fault(code: str, mutated: str) -> bool:
    """Tell whether a change is valid and touches more than texts."""
    try:
        return _without_texts(code) != _without_texts(mutated)
    except SyntaxError:
        return False


def _without_texts(code: str) -> str:
    class Blank(ast.NodeTransformer):
        def visit_JoinedStr(self, _: ast.JoinedStr) -> ast.Constant:
            return ast.Constant("")

    return ast.dump(Blank().visit(ast.parse(code)))


def _specs(path: Path) -> Iterator[Any]:
    """Places in a file at which Cosmic Ray can make a fault."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB

    with tempfile.TemporaryDirectory() as folder:
        database = WorkDB(str(Path(folder) / "work.sqlite"), WorkDB.Mode.create)
        init([path], database, {})
        for item in database.work_items:
            for spec in item.mutations:
                if spec.operator_name.removeprefix("core/") in OPERATORS:
                    yield spec
        database.close()


def _passes(subject: Subject, copies: "SimpleQueue[Path]", mutant: str | None = None) -> bool:
    """Run the subject's tests in a free copy of the tree, with a faulty text in its place."""
    tree = copies.get()
    place = tree / subject.file
    original = place.read_text(encoding="utf-8")
    try:
        place.write_text(original if mutant is None else mutant, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--hypothesis-profile=ci",
             "-p", "no:cacheprovider", *subject.tests],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True,
            timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    finally:
        place.write_text(original, encoding="utf-8")
        copies.put(tree)
    return done.returncode == 0


def change_of(path: Path, mutated: str) -> str:
    """The lines of a file that a fault changes: before, and after an arrow."""
    original = path.read_text(encoding="utf-8").splitlines()
    lines = difflib.unified_diff(original, mutated.splitlines(), n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    before = " ".join(line[1:].strip() for line in changed if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in changed if line.startswith("+"))
    return f"{before} → {after}"
