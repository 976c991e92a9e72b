"""Part "tests": the tests that need a GPU, in pytest."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.session import Session, library
from benchmarks.results import Row, Skip

ROOT = Path(__file__).parents[2]
KERNELS = "tests/kernels"
#: Names of failed tests that a row holds, at most.
SHOWN = 10
#: Processes, at most: all share one GPU.
PROCESSES = 8


def run(session: Session) -> None:
    """Run each group of tests; toy sizes take one small group."""
    files = sorted(path.name for path in (ROOT / KERNELS).glob("test_gpu*.py"))
    groups = {"contract on CuPy": ["tests/core/test_contract.py", "-k", "cupy"]}
    groups |= {name: [f"{KERNELS}/{name}"] for name in files}
    if session.tiny:
        groups = {"test_gpu.py": groups["test_gpu.py"]}
    for group, arguments in groups.items():
        session.case(group, lambda g=group, a=arguments: _group(session, g, a))


def _group(session: Session, group: str, arguments: list[str]) -> None:
    """Run one group of tests, and add how they ended."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
        # Warnings of versions beside ours are no faults.
        command += ["-o", "filterwarnings=", f"--junitxml={report}", *_processes(session)]
        try:
            said = subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                check=False,
                capture_output=True,
                text=True,
                timeout=max(session.seconds_left, 1.0),
            )
        except subprocess.TimeoutExpired:
            raise Skip("out of time, in the middle of its tests") from None
        if not report.is_file():
            raise RuntimeError(f"pytest made no report: {(said.stdout + said.stderr)[-150:]!r}")
        row = counted(report)
    session.add({"group": group, **row, "seconds": round(time.monotonic() - begin, 1)})
    if row["failed"]:
        session.put({"failure": f"tests, {group}: {row['failed']} failed"})


def _processes(session: Session) -> list[str]:
    """Options for several processes, where pytest-xdist is installed."""
    try:
        library("xdist")
    except Skip:
        return []
    count = min(PROCESSES, (os.cpu_count() or 1) // 2)
    return [] if session.tiny or count < 2 else ["-n", str(count)]


def counted(report: Path) -> Row:
    """Numbers of tests by how they ended, names of some that failed, and reasons for skips."""
    ends: Counter[str] = Counter(passed=0, failed=0, skips=0)
    failed, reasons = [], Counter[str]()
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag: child for child in case}
        if {"failure", "error"} & children.keys():
            ends["failed"] += 1
            failed.append(str(case.get("name")))
        elif "skipped" in children:
            ends["skips"] += 1
            reasons[str(children["skipped"].get("message"))] += 1
        else:
            ends["passed"] += 1
    return {**ends, "failures": failed[:SHOWN], "reasons": dict(reasons)}
