"""Bytes that others wrote: headers, digests, and one error for all that is wrong with them."""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from structmat.errors import FileFormatError

#: Digests are SHA-256, in hexadecimal.
Digest = str
#: Errors of a file that is not there, or not to be opened: no fault of its bytes.
ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
#: Those of names that lead nowhere, which have no class of their own.
_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
#: Levels of lists and objects in a header, at most.
_MOST_LEVELS = 200
#: Members that a message names, at most.
_MOST_NAMED = 5
#: Characters of another library's message that are passed on.
_MOST_TOLD = 300


@contextmanager
def foreign(name: str, remedy: str) -> Iterator[None]:
    """Turn whatever foreign bytes raise into a `FileFormatError` with the file and the remedy.

    Readers of other libraries raise errors of many types on damaged bytes, and so do the
    constructors of matrices on headers that lie. Missing files and the like are no such errors.

    Examples
    --------
    >>> with foreign("a.npz", "write it again"):
    ...     {}["matrix"]
    Traceback (most recent call last):
    ...
    structmat.errors.FileFormatError: 'a.npz' cannot be read ('matrix'); write it again
    """
    try:
        yield
    except (FileFormatError, *ABSENT):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NAMES:
            raise
        reason = (str(error) or type(error).__name__)[:_MOST_TOLD]
        raise FileFormatError(f"{name!r} cannot be read ({reason}); {remedy}") from None


class Digesting:
    """A file to write to that computes the digest of what goes through it."""

    def __init__(self, file: Any) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._digest.update(data)
        written: int = self._file.write(data)
        return written

    def hexdigest(self) -> Digest:
        """The digest of all bytes so far."""
        return self._digest.hexdigest()


def digest_of(*parts: Any) -> Digest:
    """The digest of bytes, one after another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sealed(header: Mapping[str, Any]) -> str:
    """JSON text of a header with its own digest.

    Examples
    --------
    >>> unsealed(sealed({"format_version": 2, "kind": "dense"}), 2, "a.npz")["kind"]
    'dense'
    """
    plain = json.loads(json.dumps(header))  # as it will be read: keys are texts, tuples are lists
    return json.dumps({**plain, "digest": _seal(plain)}, sort_keys=True)


def unsealed(text: str | bytes, newest: int, name: str) -> dict[str, Any]:
    """The header of a JSON text, of a format version up to `newest`, with its digest checked.

    Headers of version 1, some of which do not say so, have no digests, neither of themselves nor
    of "members".

    Raises
    ------
    FileFormatError
        If the file of that name is of a newer version.
    ValueError, KeyError, RecursionError
        If the text is no such header, or has another digest.
    """
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    _check_levels(header, _MOST_LEVELS)
    version = header.setdefault("format_version", 1)
    if type(version) is not int or version < 1:
        raise ValueError(f"format version {version!r}")
    if version > newest:
        raise FileFormatError(
            f"{name!r} has format version {version}; this structmat reads up to {newest} "
            "(upgrade it)"
        )
    seal = header.pop("digest", None)
    if seal is None and version == 1:
        return header
    if seal != _seal(header):
        raise ValueError("the header has another digest than it had when it was written")
    return header


def check_members(header: Mapping[str, Any], digests: Mapping[str, Digest]) -> None:
    """Refuse members with other digests than those in a header, if it has any."""
    known = header.get("members")
    if known is None and header["format_version"] == 1:
        return
    if not isinstance(known, dict):
        raise ValueError("the header lacks its digests")
    wrong = sorted(n for n in {**known, **digests} if known.get(n) != digests.get(n))
    if wrong:
        raise ValueError(f"{', '.join(wrong[:_MOST_NAMED])} changed since the file was written")


def _seal(header: Mapping[str, Any]) -> Digest:
    return digest_of(json.dumps(header, sort_keys=True).encode())


def _check_levels(value: Any, most: int) -> None:
    if most == 0:
        raise ValueError(f"the header is nested more than {_MOST_LEVELS} levels deep")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_levels(one, most - 1)
