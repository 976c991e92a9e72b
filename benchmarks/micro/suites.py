"""Rows of one suite, its checks that failed, and its result file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.results import Row, load, rows_as_json, write_text

#: Version of each suite's file: it rises when older files would be misread.
SCHEMAS = {
    "products": 2,
    "compression": 1,
    "layers": 2,
    "learned": 1,
    "training": 1,
    "gpu": 1,
    "gpu_counts": 1,
}
KEYS = ("schema", "suite", "quick", "command", "seeds", "seconds", "machine", "failures", "rows")


@dataclass
class Suite:
    """Rows of one suite as they come in, and the complaints of its checks."""

    name: str
    seeds: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, complaint: str) -> None:
        """Note a result that is wrong; the run goes on, and ends in failure."""
        if not holds:
            self.failures.append(complaint)

    def finished(self, *, quick: bool, command: str, seconds: float) -> Row:
        """Content of the result file."""
        return {
            "schema": SCHEMAS[self.name],
            "suite": self.name,
            "quick": quick,
            "command": command,
            "seeds": list(self.seeds),
            "seconds": round(seconds, 1),
            "machine": machine.facts(),
            "failures": self.failures,
            "rows": self.rows,
        }


def write(folder: Path, result: Row) -> Path:
    """Write one suite's result; a quick run never replaces the file of a full one."""
    path = folder / f"{result['suite']}{'.quick' * result['quick']}.json"
    write_text(path, rows_as_json(result))
    return path


def read(folder: Path, suite: str) -> Row | None:
    """Full result of one suite, or None without a file."""
    path = folder / f"{suite}.json"
    return load(path, SCHEMAS[suite], KEYS) if path.is_file() else None
