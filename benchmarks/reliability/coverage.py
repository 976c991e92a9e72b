"""Branches that the default tests reach, file by file, and reasons for what they miss."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import facts, version
from benchmarks.reliability.suites import ROOT, SCHEMA
from benchmarks.results import BenchmarkError, Row

#: Reasons for lines and branches that no default test reaches, by file or folder.
REASONS_FILE = Path(__file__).with_name("uncovered.json")


def run() -> Row:
    """Run the default tests with branch coverage; one row for each file of the library."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        begin = time.perf_counter()
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-n", "2", "--hypothesis-profile=ci",
                "--cov=structmat", "--cov-branch", f"--cov-report=json:{report}",
            ],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if not report.exists():
            raise BenchmarkError(f"pytest stopped: {done.stdout[-500:]}{done.stderr[-500:]}")
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {
        "schema": SCHEMA,
        "suite": "coverage",
        "command": "python -m benchmarks reliability coverage",
        "seconds": round(time.perf_counter() - begin),
        "machine": {**facts(), "coverage": version("coverage")},
        "passed": done.returncode == 0,
        "rows": [_row(name, found) for name, found in sorted(files.items())],
    }


def _row(name: str, found: Row) -> Row:
    summary = found["summary"]
    return {
        "file": name,
        "lines": summary["num_statements"],
        "missed_lines": found["missing_lines"],
        "branches": summary["num_branches"],
        "missed_branches": found["missing_branches"],
    }


def reason(file: str) -> str | None:
    """Reason for what the tests miss in a file, if one is given for it or for its folder."""
    known = json.loads(REASONS_FILE.read_text(encoding="utf-8"))
    return next((why for place, why in known.items() if file.startswith(place)), None)
