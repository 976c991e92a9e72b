"""Measurements in processes of their own, so that a peak of memory belongs to one of them."""

import json
import subprocess
import sys
from collections.abc import Callable

import structmat
from benchmarks.results import Row


def measured_apart(module: str, case: Row, seconds: float) -> Row:
    """Figures of a case by ``python -m MODULE CASE``, or a note of why there are none."""
    words = [sys.executable, "-m", module, json.dumps(case)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"note": f"stopped after {seconds:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"note": lines[-1]}
    figures: Row = json.loads(done.stdout.splitlines()[-1])
    return figures


def answer(measured: Callable[[Row], Row]) -> None:
    """Print the figures of the case in the command line, or why there are none."""
    try:
        figures = measured(json.loads(sys.argv[1]))
    except (structmat.StructmatError, ImportError) as reason:
        figures = {"note": f"{type(reason).__name__}: {' '.join(str(reason).split())}"}
    print(json.dumps(figures))
