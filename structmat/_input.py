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
    """Read a matrix from a file, whose ending tells the format.

    Parameters
    ----------
    path : str
        ``.npz`` (of NumPy, or of `scipy.sparse.save_npz`), ``.mtx`` (also compressed), or
        else ``.npy``.
    key : str, optional
        Name of the array in an ``.npz`` file; needed if the file holds several.

    Returns
    -------
    ndarray, or sparse array where the file holds one

    Raises
    ------
    FileFormatError
        If the file has another format than its ending says.
    InputError
        If the key is missing, unknown, or given with a file of one matrix.
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
