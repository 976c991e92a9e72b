"""Mutants: small faults in chosen functions, and the tests that notice them."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import facts, version
from benchmarks.reliability.faults import change_of, faulty_texts
from benchmarks.reliability.suites import ROOT, SCHEMA
from benchmarks.results import BenchmarkError, Row

#: Reasons why mutants that survive change no result, by function and change.
EQUIVALENT = Path(__file__).with_name("equivalent.json")


@dataclass(frozen=True)
class Subject:
    """A function, the file that holds it, and the tests that should notice its faults."""

    file: str
    function: str
    #: Arguments of pytest.
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """File and function, as results name them."""
        return f"{self.file}: {self.function}"

    @property
    def module(self) -> str:
        """Module of the file."""
        return self.file.removesuffix(".py").replace("/", ".")


CONTRACT = ("tests/core/test_contract.py",)
OPERANDS = (
    "tests/reliability/test_operands.py",
    "tests/core/test_bad_input.py",
    "tests/core/test_inputs.py::test_the_value_of_plain_numbers_or_a_refusal",
    "tests/core/test_scipy.py::test_identity_operator_of_scipy_mixes_in",
)
KERNELS = "tests/kernels/test_kernels_"
COMPRESS = ("tests/compress/test_contained.py",)
STATE = ("tests/nn/structured/test_nn_state_bytes.py",)
SUBJECTS = (
    Subject("structmat/_checks.py", "check_runs", OPERANDS),
    Subject("structmat/contract/operand.py", "as_operand", OPERANDS),
    Subject("structmat/contract/operand.py", "vector_product", OPERANDS),
    Subject("structmat/contract/operand.py", "matrix_product", OPERANDS),
    Subject("structmat/contract/operand.py", "multiplied", OPERANDS),
    Subject("structmat/contract/operators.py", "Operators._pair", OPERANDS),
    Subject("structmat/contract/parts.py", "Parts._scale", CONTRACT),
    Subject("structmat/matrices/gblr.py", "GBLR._pick", ("tests/core/test_entries.py",)),
    Subject("structmat/matrices/monarch.py", "Monarch._multiply", CONTRACT),
    Subject("structmat/matrices/block_low_rank.py", "_packed", CONTRACT),
    Subject("structmat/kernels/arrays/monarch.py", "monarch_matmat", CONTRACT),
    Subject("structmat/intervals.py", "entry_index", ("tests/core/test_entries.py",)),
    Subject("structmat/intervals.py", "best_runs", ("tests/core/test_intervals.py",)),
    Subject("structmat/kernels/layouts/tiles.py", "tile_layout", (f"{KERNELS}tiles.py",)),
    Subject("structmat/convert.py", "_block_low_rank_to_gblr", ("tests/core/test_convert.py",)),
    Subject("structmat/convert.py", "_tile_blocks", ("tests/core/test_convert.py",)),
    Subject("structmat/interpolate.py", "_between", ("tests/core/test_interpolate.py",)),
    Subject("structmat/io.py", "restore", ("tests/core/test_io.py",)),
    Subject("structmat/io.py", "_restore", ("tests/core/test_io.py",)),
    Subject("structmat/compress/low_rank.py", "_fit", COMPRESS),
    Subject("structmat/compress/contained.py", "Fits.best", COMPRESS),
    Subject("structmat/compress/contained.py", "Fits.within", COMPRESS),
    Subject("structmat/compress/contained.py", "Fits._run", COMPRESS),
    Subject("structmat/compress/contained.py", "is_nearer", COMPRESS),
    Subject(
        "structmat/nn/training/projection.py",
        "projected",
        ("tests/nn/training/test_nn_budget_projection.py",),
    ),
    Subject(
        "structmat/nn/training/step_hook.py",
        "StepHook._after_step",
        ("tests/nn/training/test_nn_optimizers.py", "tests/nn/training/test_nn_rules.py"),
    ),
    Subject(
        "structmat/nn/models/split_budget.py",
        "split_budget",
        ("tests/nn/models/test_nn_split_budget.py",),
    ),
    Subject(
        "structmat/nn/gaudi/side.py",
        "Side.gradients",
        ("tests/nn/gaudi/test_nn_masks.py", "tests/nn/gaudi/test_nn_factors.py"),
    ),
    Subject("structmat/nn/gaudi/conversion.py", "pack", ("tests/nn/gaudi/test_nn_gaudi.py",)),
    Subject(
        "structmat/nn/structured/remembered.py",
        "Mark.holds",
        ("tests/nn/structured/test_nn_remembered.py",),
    ),
    Subject("structmat/nn/structured/state.py", "encode", STATE),
    Subject("structmat/nn/structured/state.py", "decode", STATE),
)


def run() -> Row:
    """Put every fault into every subject; one row for each function."""
    begin = time.perf_counter()
    together = [[s for s in SUBJECTS if s.tests == tests] for tests in {s.tests for s in SUBJECTS}]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [row for rows in pool.map(rows_of, together) for row in rows]
    order = [subject.name for subject in SUBJECTS]
    return {
        "schema": SCHEMA,
        "suite": "mutants",
        "command": "python -m benchmarks reliability mutants",
        "seconds": round(time.perf_counter() - begin),
        "machine": {**facts(), "cosmic-ray": version("cosmic-ray")},
        "rows": sorted(rows, key=lambda row: order.index(row["function"])),
    }


def rows_of(subjects: Sequence[Subject]) -> list[Row]:
    """Put every fault into functions with the same tests; count those that the tests notice."""
    texts = {s.name: faulty_texts(ROOT / s.file, s.function) for s in subjects}
    job = {f"{s.module}: {s.function}": texts[s.name] for s in subjects}
    found = noticed(job, subjects[0].tests)
    return [_row(s, texts[s.name], found[f"{s.module}: {s.function}"]) for s in subjects]


def _row(subject: Subject, texts: list[str], found: Row) -> Row:
    seen = found["noticed"]
    print(f"{subject.name}: {sum(seen)} of {len(texts)} noticed", flush=True)
    code = (ROOT / subject.file).read_text(encoding="utf-8")
    left = [change_of(code, t) for t, is_seen in zip(texts, seen, strict=True) if not is_seen]
    return {
        "function": subject.name,
        "tests": found["tests"],
        "mutants": len(texts),
        "noticed": sum(seen),
        "survivors": [{"change": change} for change in left],
    }


def reason(function: str, change: str) -> str | None:
    """Reason why a mutant survives, if one is given."""
    known: dict[str, dict[str, str]] = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return known.get(function, {}).get(change)


def noticed(job: dict[str, list[str]], tests: tuple[str, ...], root: Path = ROOT) -> dict[str, Row]:
    """The number of tests that reach each function, and whether they notice its faulty texts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "job.json"
        place.write_text(json.dumps(job), encoding="utf-8")
        path = os.pathsep.join((str(root), str(ROOT)))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.reliability.noticing",
             "-p", "no:cacheprovider", "--hypothesis-profile=ci", f"--faults={place}", *tests],
            cwd=root, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True,
        )  # fmt: skip
        found: dict[str, Row] = json.loads(place.read_text(encoding="utf-8"))
    if done.returncode > 1 or not all(row["tests"] for row in found.values()):
        raise BenchmarkError(f"tests fail or reach none of {', '.join(job)}: {done.stdout[-1500:]}")
    if done.returncode:
        print(f"fail without a fault, and are left out: {done.stdout[-1500:]}", flush=True)
    return found
