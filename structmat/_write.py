"""Files that are written whole or not at all, and values that JSON can hold."""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from structmat.errors import SaveError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; at the end that file is moved into place.

    An older file of that name survives a failure whole, which is a `SaveError`.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a") as beside:
    ...         _ = beside.write_text("hello")
    ...     (Path(folder) / "a").read_text()
    'hello'
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        beside.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """Copy of nested dicts and lists with None for NaN and infinity, which JSON lacks.

    Examples
    --------
    >>> finite({"loss": float("inf"), "scores": (0.5, float("nan"))})
    {'loss': None, 'scores': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unwritable(path: Path, error: OSError) -> SaveError:
    return SaveError(
        f"cannot write {str(path)!r} ({error.strerror or error}); choose a folder that exists "
        "and that you may write to"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
