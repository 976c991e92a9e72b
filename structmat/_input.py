"""Matrices from files: .npy, .npz, SciPy's sparse .npz, Matrix Market, and structmat's own."""

import bz2
import gzip
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from structmat.errors import FileFormatError, InputError
from structmat.files.foreign import ABSENT
from structmat.io import HEADER, load

_SPARSE_MEMBERS = {"format", "shape", "data"}
#: Bytes that are enough to tell a format.
_FIRST = 16
_IMAGE = "read it with an image library, and write its array with numpy.save"
#: Formats of other programs, by their first bytes.
_OTHERS = {
    b"\x89PNG": ("a PNG image", _IMAGE),
    b"\xff\xd8\xff": ("a JPEG image", _IMAGE),
    b"GIF8": ("a GIF image", _IMAGE),
    b"BM": ("a BMP image", _IMAGE),
    b"II*\x00": ("a TIFF image", _IMAGE),
    b"MM\x00*": ("a TIFF image", _IMAGE),
    b"\x89HDF": ("an HDF5 file", "read it with h5py, and write the array with numpy.save"),
    b"MATLAB ": ("a MATLAB file", "read it with scipy.io.loadmat, and write with numpy.save"),
    b"%PDF": ("a PDF document", "matrices come as numbers"),
    b"\x80": ("a pickle, which is never loaded", "write its array with numpy.save"),
    b"\x1f\x8b": ("compressed, and no Matrix Market inside", "decompress it first"),
    b"BZh": ("compressed, and no Matrix Market inside", "decompress it first"),
}
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}


def read_matrix(path: str, key: str | None = None) -> Any:
    """Read an array, a sparse array or a structured matrix; the first bytes tell the format.

    A zip file is NumPy's ``.npz``, that of `scipy.sparse.save_npz`, or that of `structmat.save`.
    Matrix Market may be compressed by gzip or bzip2. An ``.npz`` file of several arrays needs the
    name of one as `key`.

    Raises
    ------
    FileFormatError
        If the file has no matrix in one of these formats.
    InputError
        If `key` names no array of the file, or a key is needed.
    """
    try:
        first = _first_bytes(path)
        is_archive = first[:2] == b"PK"
        if key is not None and not is_archive:
            raise InputError(
                f"--key {key} goes with an .npz file, but {path!r} is none; leave it out"
            )
        if is_archive:
            return _from_archive(path, key)
        if first.startswith(b"\x93NUMPY"):
            return np.load(path, allow_pickle=False)
        if _is_matrix_market(path, first):
            return scipy.io.mmread(path, spmatrix=False)
    except (InputError, *ABSENT):
        raise
    except Exception as error:  # three readers, each with errors of its own
        raise _unreadable(path, str(error)) from None
    raise _unreadable(path, _told(first))


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_FIRST)


def _is_matrix_market(path: str, first: bytes) -> bool:
    """Tell Matrix Market by its banner, compressed or not."""
    for begin, opener in _OPENERS.items():
        if first.startswith(begin):
            with opener(path) as file:
                first = file.read(_FIRST)
    return first.startswith(b"%%MatrixMarket")


def _from_archive(path: str, key: str | None) -> Any:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        names = archive.files
        if key is None and HEADER in names:
            return load(path)
        if key is None and set(names) >= _SPARSE_MEMBERS:
            return scipy.sparse.load_npz(path)
        if key is None and len(names) == 1:
            return archive[names[0]]
        if key not in names:
            raise InputError(
                f"{path!r} holds the arrays {', '.join(names)}; choose one of them with --key"
                + (f" (there is no {key!r})" if key else "")
            )
        return archive[key]


def _told(first: bytes) -> str:
    """Name a file that has no matrix, by its first bytes, and the remedy."""
    for begin, (what, remedy) in _OTHERS.items():
        if first.startswith(begin):
            return f"it is {what} ({remedy})"
    return (
        "it is no file of numbers that structmat knows (numbers in text become one with "
        "numpy.save('matrix.npy', numpy.loadtxt(…)))"
    )


def _unreadable(path: str, reason: str) -> FileFormatError:
    return FileFormatError(
        f"{path!r} cannot be read: {reason}; expected a matrix as .npy, .npz or Matrix Market"
    )
