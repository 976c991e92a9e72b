"""Branches that the default tests reach, file by file, and reasons for what they miss."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import facts, version
from benchmarks.reliability.suites import ROOT, SCHEMA
from benchmarks.results import BenchmarkError, Row

#: Reasons for lines and branches that no default test reaches, by "file: function" or by the
#: beginning of a file's path.
REASONS_FILE = Path(__file__).with_name("uncovered.json")


def run() -> Row:
    """Run the default tests with branch coverage; one row for each file of the library.

    The settings are those of `[tool.coverage]` in pyproject.toml. Numba's cache begins empty, so
    that the functions that write its code run in coverage's sight.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        places = {"COVERAGE_FILE": f"{folder}/data", "NUMBA_CACHE_DIR": f"{folder}/numba"}
        begin = time.perf_counter()
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-n", "2", "--hypothesis-profile=ci",
                "--cov", f"--cov-report=json:{report}",
            ],
            cwd=ROOT, env={**os.environ, **places}, capture_output=True, text=True,
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
        "failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE),
        "rows": [_row(name, found) for name, found in sorted(files.items())],
    }


def _row(file: str, found: Row) -> Row:
    summary = found["summary"]
    return {
        "file": file,
        "lines": summary["num_statements"],
        "branches": summary["num_branches"],
        "compiled": summary["excluded_lines"],
        "missed": [
            {
                "function": function,
                "lines": part["missing_lines"],
                "branches": part["missing_branches"],
            }
            for function, part in found["functions"].items()
            if part["missing_lines"] or part["missing_branches"]
        ],
    }


def reason(file: str, function: str) -> str | None:
    """Reason for what the tests miss in a function, if one is given for it or for its file."""
    known = json.loads(REASONS_FILE.read_text(encoding="utf-8"))
    own = known.get(f"{file}: {function}")
    return own or next((why for place, why in known.items() if file.startswith(place)), None)
