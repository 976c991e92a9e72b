"""Archives of arrays: ``.npz`` files whose members are read whole, and checked.

An archive is an ordinary one of NumPy. Its header is one more member, JSON in UTF-8, which
has the digest of every other member and of itself.
"""

import ast
import hashlib
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from structmat.files.foreign import Digest, Digesting, sealed
from structmat.files.write import whole_file

#: Bytes that are read at once.
_CHUNK = 2**20
#: Bytes of the text before the numbers of an array, at most.
_MOST_HEAD = 2**14
_NPY = b"\x93NUMPY"


def write_archive(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray], header: Mapping[str, Any], key: str
) -> None:
    """Write arrays by name and, as the member `key`, a header with their digests."""
    with whole_file(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        digests = {name: _write_member(archive, name, array) for name, array in arrays.items()}
        text = sealed({**header, "members": digests}).encode()
        _write_member(archive, key, np.frombuffer(text, np.uint8))


def _write_member(archive: zipfile.ZipFile, name: str, array: NDArray) -> str:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        digesting: Any = Digesting(file)
        np.lib.format.write_array(digesting, array, allow_pickle=False)
        found: str = digesting.hexdigest()
        return found


class Archive(NamedTuple):
    """The arrays of an archive by name, and the digest of each as it lies in the file."""

    arrays: dict[str, NDArray]
    digests: dict[str, Digest]


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read all arrays of an archive whole.

    Raises
    ------
    ValueError, zipfile.BadZipFile, …
        If the file is no such archive. Members that are compressed, twice there, longer or
        shorter than they say, or that hold objects are refused before they are read.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_members(members, os.fstat(file.fileno()).st_size)
        arrays, digests = {}, {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as stream:
                arrays[name], digests[name] = _read_member(stream, member.file_size)
    return Archive(arrays, digests)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [member.filename for member in members]
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ValueError(f"the member {member.filename!r} is no array")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"the member {member.filename!r} is compressed")
    if len(set(names)) != len(names):
        raise ValueError("a member is there twice")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members claim more bytes than the file has")


def _read_member(stream: Any, size: int) -> tuple[NDArray, str]:
    """One array, read to the last byte, and the digest of those bytes."""
    head, digest = _read_head(stream)
    shape, fortran, dtype = _parsed(head)
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != size - len(head):
        raise ValueError(f"an array of shape {shape} and {dtype} does not fill its member")
    array = np.empty(count, dtype)
    memory = array.view(np.uint8).data if count else memoryview(b"")
    done = 0
    while done < len(memory):
        read = stream.readinto(memory[done : done + _CHUNK])
        if not read:
            raise EOFError("the file ends within an array")
        digest.update(memory[done : done + read])
        done += read
    if stream.read(1):  # also lets the archive compare its own checksum
        raise ValueError("a member goes on after its array")
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape), digest.hexdigest()


def _read_head(stream: BinaryIO) -> tuple[bytes, Any]:
    """The bytes before the numbers of an array, and a digest that has begun with them."""
    start = stream.read(8)
    if start[:6] != _NPY or start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError("a member is no array of NumPy")
    width = 2 if start[6] == 1 else 4
    length = stream.read(width)
    count = int.from_bytes(length, "little")
    if count > _MOST_HEAD:
        raise ValueError("a member has an endless head")
    head = start + length + stream.read(count)
    if len(head) != 8 + width + count:
        raise EOFError("the file ends within the head of an array")
    return head, hashlib.sha256(head)


def _parsed(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype that the head of an array names; of plain numbers alone."""
    width = 2 if head[6] == 1 else 4
    text = head[8 + width :].decode("utf-8" if head[6] == 3 else "latin1")
    fields = ast.literal_eval(text.strip())
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("the head of an array lacks a field")
    shape, fortran, descr = fields["shape"], fields["fortran_order"], fields["descr"]
    sizes = isinstance(shape, tuple) and all(type(s) is int and 0 <= s < 2**63 for s in shape)
    if not sizes or type(fortran) is not bool or not isinstance(descr, str):
        raise ValueError(f"an array of shape {shape!r} and {descr!r}")
    dtype = np.dtype(descr)
    if dtype.kind not in "biufc":
        raise ValueError(f"an array of {dtype}")
    return shape, fortran, dtype
