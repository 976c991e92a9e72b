"""Matrices from other programs' files: .npy, .npz, SciPy's sparse .npz, Matrix Market."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from structmat.errors import FileFormatError, InputError

_MATRIX_MARKET = (".mtx", ".gz", ".bz2")
_SPARSE_MEMBERS = {"format", "shape", "data"}


def read_matrix(path: str, key: str | None = None) -> Any:
    """Read an array or a sparse array from a file, whose ending tells the format.

    ``.npz`` is NumPy's, or that of `scipy.sparse.save_npz`; ``.mtx`` may be compressed; other
    endings mean ``.npy``. An ``.npz`` file of several arrays needs the name of one as `key`.
    """
    ending = Path(path).suffix.lower()
    if key is not None and ending != ".npz":
        raise InputError(f"--key {key} goes with an .npz file, but {path!r} is none; leave it out")
    try:
        if ending == ".npz":
            return _from_archive(path, key)
        if ending in _MATRIX_MARKET:
            return scipy.io.mmread(path, spmatrix=False)
        return np.load(path, allow_pickle=False)
    except (FileNotFoundError, PermissionError, IsADirectoryError, InputError):
        raise
    except Exception as error:  # three readers, each with errors of its own
        raise FileFormatError(f"{path!r} cannot be read: {_reason(path, error)}") from None


def _from_archive(path: str, key: str | None) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
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


def _reason(path: str, error: Exception) -> str:
    with open(path, "rb") as file:
        begin = file.read(6)
    if Path(path).suffix.lower() in (".npz", *_MATRIX_MARKET) or begin == b"\x93NUMPY":
        return f"{error}; expected a matrix as .npy, .npz or Matrix Market"
    return (
        "it is no .npy file; expected a matrix as .npy, .npz or Matrix Market (numbers in text "
        "become one with numpy.save('matrix.npy', numpy.loadtxt(…)))"
    )
