"""Result files: what stands in them, writing and reading them."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine

#: A suite's changes when a reader of older files would misread newer ones.
SCHEMAS = {"products": 2, "compression": 1, "layers": 2, "training": 1}
KEYS = ("schema", "suite", "quick", "command", "seeds", "seconds", "machine", "failures", "rows")

Row = dict[str, Any]


class BenchmarkError(Exception):
    """Something the user can put right: said in one line, without a traceback."""


class Skip(Exception):
    """This measurement cannot be made here; the message says why."""


@dataclass
class Suite:
    """Rows of one suite as they come in, and what its checks found wrong."""

    name: str
    seeds: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, complaint: str) -> None:
        """Note a result that is wrong; the run goes on, and ends in failure."""
        if not holds:
            self.failures.append(complaint)

    def finished(self, *, quick: bool, command: str, seconds: float) -> Row:
        """Everything that goes into the file."""
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


def short(value: float | None) -> float | None:
    """Four significant digits: more would only be noise."""
    return None if value is None else float(f"{value:.4g}")


def file_name(suite: str, quick: bool) -> str:
    """A quick run has a file of its own, so that it never replaces a full one."""
    return f"{suite}.quick.json" if quick else f"{suite}.json"


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none of it: beside it first, then over it."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write(folder: Path, result: Row) -> Path:
    """Write one suite's result."""
    path = folder / file_name(result["suite"], result["quick"])
    write_text(path, rows_as_json(result))
    return path


def rows_as_json(result: Row) -> str:
    """A result as JSON, a row a line."""
    head = {key: value for key, value in result.items() if key != "rows"}
    lines = ",\n".join("  " + _dump(row) for row in result["rows"])
    return _dump(head, indent=1)[:-2] + f',\n "rows": [\n{lines}\n ]\n}}\n'


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy scalars as Python ones; anything else is a mistake."""
    convert: Callable[[], Any] | None = getattr(value, "item", None)
    if convert is None:
        raise TypeError(f"{value!r} in a result; expected numbers and text")
    return convert()


def read(folder: Path, suite: str) -> Row | None:
    """One suite's full result, or None where there is no file."""
    path = folder / file_name(suite, quick=False)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        result = json.loads(text)
    except json.JSONDecodeError as reason:
        raise BenchmarkError(
            f"{path.name} is no JSON file ({reason}); run the suite again"
        ) from None
    missing = [key for key in KEYS if not isinstance(result, dict) or key not in result]
    if missing or result["schema"] != SCHEMAS[suite]:
        raise BenchmarkError(
            f"{path.name} is no result of this version (expected schema {SCHEMAS[suite]} with "
            f"{', '.join(KEYS)}); run the suite again"
        )
    return result
