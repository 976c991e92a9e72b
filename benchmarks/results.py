"""Results: rows of figures, their JSON files, and the errors of a run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from structmat.files.write import whole_file

Row = dict[str, Any]


class BenchmarkError(Exception):
    """Mistake that the user can put right; its message is one line, without a traceback."""


class Skip(Exception):
    """Reason why a measurement cannot be made here."""


def short(value: float | None) -> float | None:
    """Value with four significant digits: more would only be noise."""
    return None if value is None else float(f"{value:.4g}")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none of it."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def rows_as_json(result: Row) -> str:
    """Result as JSON, a row a line."""
    head = {key: value for key, value in result.items() if key != "rows"}
    lines = ",\n".join("  " + as_json(row) for row in result["rows"])
    return as_json(head, indent=1)[:-2] + f',\n "rows": [\n{lines}\n ]\n}}\n'


def as_json(value: Any, indent: int | None = None) -> str:
    """Value as JSON; NumPy's scalars become Python's, and NaN is refused."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy scalars as Python ones; anything else is a mistake."""
    convert: Callable[[], Any] | None = getattr(value, "item", None)
    if convert is None:
        raise TypeError(f"{value!r} in a result; expected numbers and text")
    return convert()


def load(path: Path, schema: int, keys: Sequence[str]) -> Row:
    """Result of a file that has these keys.

    Raises
    ------
    BenchmarkError
        If the file holds no JSON, or another schema than this version's.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise BenchmarkError(f"{path.name} is no JSON file ({reason}); run it again") from None
    if not isinstance(result, dict) or set(keys) - result.keys() or result["schema"] != schema:
        raise BenchmarkError(
            f"{path.name} is no result of this version; expected schema {schema} with "
            f"{', '.join(keys)}; run it again"
        )
    return result
