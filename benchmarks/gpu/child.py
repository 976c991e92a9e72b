"""A process for each part: what breaks a driver or takes too long ends with its part.

The process writes its rows to a file, one line of JSON each, so that those remain which it
had when it was stopped.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.parts import BEGIN_SHARE, measure
from benchmarks.gpu.session import Session
from benchmarks.results import Row, as_json

ROOT = Path(__file__).parents[2]


def apart(part: str, device: str, tiny: bool, seconds: float, put: Callable[[Row], None]) -> None:
    """Measure one part in a process of its own, for these seconds at most."""
    command = [sys.executable, "-m", "benchmarks.gpu.child", part, device, str(int(tiny))]
    follow([*command, str(seconds)], part, seconds, put)


def follow(command: Sequence[str], part: str, seconds: float, put: Callable[[Row], None]) -> None:
    """Run a command that writes rows to the file named by its last argument, and pass them on."""
    with tempfile.TemporaryDirectory() as folder:
        rows, output = Path(folder) / "rows", Path(folder) / "output"
        rows.touch()
        end = None
        try:
            with output.open("wb") as told:
                end = _ended([*command, str(rows)], seconds, told.fileno())
        finally:
            for row in _rows(rows):
                put(row)
        if end is None:
            put({"part": part, "case": "what was left of it", "skipped": "stopped: out of time"})
        elif end != 0:
            said = output.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "no output")
            put({"failure": f"{part}: its process ended with {end}: {last[:200]}"})


def _ended(command: Sequence[str], seconds: float, output: int) -> int | None:
    """Exit status of a command; None if it was stopped, with all that it had started."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
    )
    try:
        return process.wait(timeout=max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _rows(path: Path) -> list[Row]:
    """Rows of a file whose last line may be cut off."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure one part: its name, the device, 1 for toy sizes, seconds, and the file for rows."""
    part, device, tiny, seconds, path = arguments
    until = time.monotonic() + BEGIN_SHARE * float(seconds)
    with Path(path).open("a", encoding="utf-8") as file:

        def put(row: Row) -> None:
            file.write(f"{as_json(row)}\n")
            file.flush()

        measure(Session(part, device, tiny == "1", until, put))


if __name__ == "__main__":
    main(sys.argv[1:])
