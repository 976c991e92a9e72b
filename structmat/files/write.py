"""Files that are written whole or not at all, and values that JSON can hold."""

import errno
import hashlib
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from structmat.errors import SaveError
from structmat.files.paths import name_of

#: Ending of files on their way; a killed process leaves one behind.
_ENDING = ".structmat-part"
#: Seconds after which a file on its way counts as left behind.
_OLD = 3600
_FOLDER = "choose a folder that exists and that you may write to"
_ROOM = "make room, or choose a folder of another disk"
#: Ways out of errors that another folder does not cure.
_REMEDIES: dict[int | None, str] = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EILSEQ: "choose a name of other characters",
    errno.EINVAL: "choose another name",
    errno.ELOOP: "choose another name, or mend the links",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
}
#: Bytes of a name that the name of a file on its way repeats, at most.
_NAME_BYTES = 120


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; at the end that file is moved into place.

    An older file of that name survives a failure whole, which is a `SaveError`. Its permissions
    stay. A symbolic link stays, and the file that it names is replaced. Devices, pipes and
    folders are refused. What killed processes left of the same file is removed after an hour.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a") as beside:
    ...         _ = beside.write_text("hello")
    ...     (Path(folder) / "a").read_text()
    'hello'
    """
    given = Path(name_of(path))
    with _beginning(given):
        target = Path(os.path.realpath(given))
        mode = _mode(target)
        _sweep(target)
        beside = _begun(target)
        mode = os.stat(beside).st_mode if mode is None else mode
    try:
        yield beside
        _flush(beside)
        # The writer may have put a file of its own there. No new file runs as its owner.
        os.chmod(beside, mode & 0o777)
        os.replace(beside, target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _unwritable(given, error) from error
    finally:
        beside.unlink(missing_ok=True)


def target_of(path: str | os.PathLike[str]) -> Path:
    """The file that `whole_file` would replace or make; a `SaveError` where it would refuse."""
    given = Path(name_of(path))
    with _beginning(given):
        target = Path(os.path.realpath(given))
        _mode(target)
        os.stat(target.parent / ".")  # a file has no such entry
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


@contextmanager
def apart(beside: Path) -> Iterator[Path]:
    """Yield a path in a folder of its own, for a writer that makes temporary files by itself.

    At the end its file takes the place of `beside`, a path of `whole_file`. What a killed process
    leaves of the folder is removed with the other files on their way.
    """
    folder = beside.with_name(f"{beside.name.removesuffix(_ENDING)}.apart{_ENDING}")
    folder.mkdir()
    try:
        yield folder / "file"
        os.replace(folder / "file", beside)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _beginning(given: Path) -> Iterator[None]:
    """Turn errors of a name or its folder into a `SaveError`."""
    try:
        yield
    except (OSError, ValueError) as error:  # of characters that no name has
        raise _unwritable(given, error) from error


def _mode(target: Path) -> int | None:
    """Permissions of the file that is to be replaced, None if there is none."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "device, a pipe or a socket"
        raise OSError(errno.EINVAL, f"it is a {kind} and no regular file")
    return found.st_mode


def _begun(target: Path) -> Path:
    """A new empty file beside the target, with the permissions of any new file."""
    beside = target.with_name(f"{_prefix(target)}{secrets.token_hex(6)}{_ENDING}")
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return beside


def _prefix(target: Path) -> str:
    """Begin of the names of files on their way to a target."""
    name = target.name.encode(errors="surrogateescape")
    if len(name) <= _NAME_BYTES:
        return f".{target.name}."
    return f".{hashlib.sha256(name).hexdigest()[:32]}."


def _sweep(target: Path) -> None:
    """Remove what killed processes left behind on the way to a target."""
    prefix, before = _prefix(target), time.time() - _OLD
    with os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(_ENDING):
                with suppress(OSError):  # another process may have swept it
                    if entry.stat(follow_symlinks=False).st_mtime >= before:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        os.unlink(entry.path)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Wait until the name of a file is on the disk, where a system lets folders be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def _unwritable(path: Path, error: OSError | ValueError) -> SaveError:
    reason = getattr(error, "strerror", None) or error
    number = getattr(error, "errno", None)
    if number is None and isinstance(error, ValueError):
        remedy = "choose a name of other characters"
    else:
        remedy = _REMEDIES.get(number, _FOLDER)
    return SaveError(f"cannot write {str(path)!r} ({reason}); {remedy}")
