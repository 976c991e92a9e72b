"""Long suites of tests: run by pytest, counted from its report."""

import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import facts
from benchmarks.results import BenchmarkError, Row, short

ROOT = Path(__file__).parents[2]
SCHEMA = 1
KEYS = ("schema", "suite", "command", "seconds", "machine", "rows")


@dataclass(frozen=True)
class Suite:
    """One run of pytest: what it tries, in words, and its arguments."""

    title: str
    text: str
    arguments: tuple[str, ...]


INVARIANTS = (
    "tests/compress/test_invariants.py",
    "tests/core/test_interpolate.py::test_theorem_2_bound_in_integers",
    "--hypothesis-show-statistics",
)
#: Invariants whose examples take several compressions each.
COSTLY = (
    "other_forms or comparison_ranks or interpolation_stays or repeat or dearer "
    "or conversions_are_exact or is_a_candidate"
)
SUITES = {
    "products": Suite(
        "Products",
        "Every kind and combination, at seven scales, in four dtypes and on each array library, "
        "multiplied by every kernel that fits in nine ways, against long double. An error is "
        "counted in units of eps Σ|terms|, where the terms are the products that the structure "
        "adds up; the bound is 12.",
        ("tests/reliability/test_products.py", "-m", "slow"),
    ),
    "operands": Suite(
        "Operands",
        "Operands of every dtype (whole numbers, truth values, half to long double, complex, "
        "either byte order) in every layout (strides, batches, nothing, lists, sparse formats, "
        "subclasses): the exact result to the same bound, or a refusal; the operand is unchanged.",
        ("tests/reliability/test_operands.py", "-m", "slow or not slow", "-k", "not thinned"),
    ),
    "nan": Suite(
        "NaN and infinity",
        "A NaN or an infinity in an operand or in the contents: no entry that it touches is a "
        "number, and every entry that is a number is right.",
        ("tests/reliability/test_nan.py", "-m", "slow"),
    ),
    "files": Suite(
        "Damaged files",
        "Saved matrices, models, states of trainings and structures of pretrained models with bits "
        "or bytes changed, cut short, spliced, with parts twice or missing, and archives, headers "
        "and texts written again so that their own checksums are right: each is refused with a "
        "reason, or loads exactly what was saved, within 2 s and 1 GiB.",
        ("tests/reliability/test_files.py", "-m", "slow"),
    ),
    "kills": Suite(
        "Kills",
        "Processes killed (SIGKILL, SIGTERM, SIGINT) while they save, and inside a training: the "
        "file is an old or a new one, whole, and a resumed training ends bit for bit as one that "
        "nobody disturbed.",
        ("tests/reliability/test_kills.py", "-m", "slow"),
    ),
    "lines": Suite(
        "Command lines",
        "Command lines that mean nothing, or name files that are damaged, of other programs or not "
        "to be had: one line on standard error says why, the status is the documented one, and "
        "nothing is written.",
        ("tests/cli/test_bad_words.py", "-k", "one_line_says_why"),
    ),
    "recovery": Suite(
        "Exact sums of blocks",
        "Matrices that are sums of 20 to 80 rank-one blocks of several shapes, of 64 to 256 rows "
        "and columns: `compress` returns them to a relative error of 1e-6, within their own cost "
        "under a budget and within 1.02 times their cost under a tolerance.",
        ("tests/compress/test_gblr_recovery.py", "-m", "slow or not slow"),
    ),
    "invariants": Suite(
        "Invariants",
        "Properties that hold for every input, tried by Hypothesis with 1,000 examples for each "
        "kind: budget, tolerance, never worse than contained kinds, and the bound of Theorem 2.",
        (*INVARIANTS, "--hypothesis-profile=thorough", "-k", f"not ({COSTLY})"),
    ),
    "costly": Suite(
        "Costly invariants",
        "Properties whose examples take several compressions each, with 1,000 examples for each "
        "kind: exact conversions, repeated results and unchanged inputs, cost under a tolerance, "
        "sparse and implicit inputs, comparisons, and interpolation.",
        (*INVARIANTS, "--hypothesis-profile=thorough", "-k", COSTLY),
    ),
}


def run(name: str) -> Row:
    """Run one suite, and return its counts: one row for each test function."""
    suite = SUITES[name]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *suite.arguments]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, f"--junitxml={report}"], cwd=ROOT, capture_output=True, text=True
        )
        seconds = time.perf_counter() - begin
        if done.returncode > 1 or not report.exists():
            raise BenchmarkError(f"pytest stopped: {done.stdout[-500:]}{done.stderr[-500:]}")
        rows = count_cases(ElementTree.parse(report).getroot())
    examples = count_examples(done.stdout)
    for row in rows:
        row.update({"examples": examples[row["test"]]} if row["test"] in examples else {})
    return {
        "schema": SCHEMA,
        "suite": name,
        "command": f"python -m benchmarks reliability {name}",
        "seconds": round(seconds),
        "machine": facts(),
        "rows": rows,
    }


def count_cases(report: ElementTree.Element) -> list[Row]:
    """Cases of each test function, those that failed, and what the tests noted down."""
    rows: dict[str, Row] = {}
    for case in report.iter("testcase"):
        test = case.attrib["name"].split("[")[0]
        row = rows.setdefault(test, {"test": test, "cases": 0, "failed": [], "skipped": 0})
        row["cases"] += 1
        left_out = case.find("skipped")
        row["skipped"] += left_out is not None
        if left_out is not None and left_out.get("type") == "pytest.xfail":
            row.setdefault("known", []).append(case.attrib["name"])
        if case.find("failure") is not None or case.find("error") is not None:
            row["failed"].append(case.attrib["name"])
        for item in case.iter("property"):
            key, value = item.attrib["name"], float(item.attrib["value"])
            known = row.get(key, 0)
            row[key] = short(max(known, value)) if key == "worst" else int(known + value)
    return list(rows.values())


def count_examples(printed: str) -> dict[str, Row]:
    """Passing, failing and invalid examples of each test, from Hypothesis' statistics."""
    counts: dict[str, Row] = {}
    test = ""
    for line in printed.splitlines():
        if found := re.match(r"\S+::(\w+)\S*:$", line):
            test = found[1]
        elif found := re.search(r"(\d+) passing, (\d+) failing, and (\d+) invalid", line):
            row = counts.setdefault(test, {"passing": 0, "failing": 0, "invalid": 0})
            for key, value in zip(row, found.groups(), strict=True):
                row[key] += int(value)
    return counts
