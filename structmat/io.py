"""Save and load: one self-describing ``.npz`` file, no pickle.

The file is an ordinary NumPy archive. Its member ``structmat`` is a JSON header in
UTF-8 with the format version, the tree of kinds and static attributes, and SHA-256 digests
of the other members and of itself. Every content and index array is a member of its own,
named by its place in that tree (``u``, ``0/u`` in the first operand of a sum, …).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from structmat import _array
from structmat.errors import FileFormatError, InputError
from structmat.files.archive import read_archive, write_archive
from structmat.files.foreign import check_members, foreign, unsealed
from structmat.files.paths import name_of
from structmat.kinds import kind_class
from structmat.matrix import StructuredMatrix, rebuild

#: Of files; those of version 1 have no digests.
FORMAT_VERSION = 2
#: Name of the header among the arrays of a file.
HEADER = "structmat"
_EXPECTED = "expected a file written by structmat.save"


def save(path: str | os.PathLike[str], A: StructuredMatrix) -> None:
    """Write a matrix to one ``.npz`` file.

    Parameters
    ----------
    path : path-like
        Taken as it is, without an ending added.
    A : StructuredMatrix
        Of any kind, lazy combinations included, from any library; the file holds the
        contents as NumPy arrays (bfloat16 as float32, which is exact).

    Raises
    ------
    SaveError
        If the file cannot be written. The data are written beside it and then moved
        into place, so an older file of that name survives a failure whole.

    Examples
    --------
    >>> import numpy as np, os, tempfile, structmat
    >>> A = structmat.LowRank(np.ones((3, 1)), np.ones((2, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     structmat.save(os.path.join(folder, "a.npz"), A)
    ...     B = structmat.load(os.path.join(folder, "a.npz"))
    >>> B
    <3x2 LowRank, float64, numpy: cost 0.8333, storage 0.8333 of dense>
    """
    if not isinstance(A, StructuredMatrix):
        raise InputError(
            f"A is a {type(A).__qualname__}; expected a StructuredMatrix (of a result its "
            ".matrix; wrap an array in structmat.Dense)"
        )
    save_with(path, A, {})


def save_with(path: str | os.PathLike[str], A: StructuredMatrix, notes: dict[str, Any]) -> None:
    """Write a matrix, and notes that JSON can hold, to a file that `load` reads as well."""
    entry, contents = describe(A)
    header = {"format_version": FORMAT_VERSION, "matrix": entry}
    header |= {"notes": notes} if notes else {}
    arrays = {name: np.asarray(_array.to_numpy(array)) for name, array in contents.items()}
    write_archive(path, arrays, header, HEADER)


def describe(A: StructuredMatrix) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take a matrix apart into an entry for a JSON header and arrays by name.

    The entry has the kind, the static attributes, and the entries of the operands of a lazy
    combination. The arrays are the contents, and index arrays on NumPy.

    Examples
    --------
    >>> import structmat
    >>> entry, arrays = describe(structmat.Permutation([1, 0]))
    >>> entry["kind"], arrays
    ('permutation', {'p': array([1, 0])})
    """
    arrays: dict[str, Any] = {}
    return _describe(A, "", arrays), arrays


def _describe(A: StructuredMatrix, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Header entry of a matrix, whose arrays are put into `arrays`."""
    for name in A.data_names:
        arrays[prefix + name] = getattr(A, name)
    static: dict[str, Any] = {}
    for name, value in A._static().items():
        if callable(value) or hasattr(value, "matvec"):
            what = "an operator" if hasattr(value, "matvec") else "a function"
            raise InputError(
                f"a {type(A).__name__} has {what}, which no file holds; expected a matrix of "
                "arrays (compress it first)"
            )
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = value
        else:
            static[name] = value
    children = [_describe(c, f"{prefix}{i}/", arrays) for i, c in enumerate(A.children)]
    return {"kind": A.kind, "static": static, "children": children}


def load(path: str | os.PathLike[str]) -> StructuredMatrix:
    """Read a matrix that `save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    StructuredMatrix
        On NumPy; move it with ``.to(…)``.

    Raises
    ------
    FileFormatError
        If the file is truncated, damaged, not one of structmat's, or from a newer version.
        A file of format version 2 that loads holds what was saved, by its digests. Those of
        version 1 have checksums of their arrays alone, against accidents.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import os, tempfile, structmat
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "swap.npz")
    ...     structmat.save(path, structmat.Permutation([1, 0]))
    ...     structmat.load(path).p
    array([1, 0])
    """
    return load_with(path)[0]


def load_with(
    path: str | os.PathLike[str], remedy: str = _EXPECTED
) -> tuple[StructuredMatrix, dict[str, Any]]:
    """Read a matrix and the notes that `save_with` wrote."""
    name = name_of(path)
    with foreign(name, f"it is truncated, damaged or not a structmat file: {remedy}"):
        arrays, digests = read_archive(name)
        if HEADER not in arrays:
            raise FileFormatError(
                f"{name!r} holds {', '.join(sorted(arrays)) or 'nothing'} but no structmat "
                f"header; {remedy}"
            )
        header = unsealed(arrays.pop(HEADER).tobytes(), FORMAT_VERSION, name)
        del digests[HEADER]
        check_members(header, digests)
        return restore(header["matrix"], arrays), header.get("notes", {})


def restore(entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> StructuredMatrix:
    """Put a matrix together that `describe` took apart; the entry may have been through JSON.

    Built-in errors of many types say that entry and arrays do not describe one matrix, with
    nothing missing or left over.
    """
    A = _restore(entry, "", arrays)
    described, own = describe(A)
    # As text, because tuples are lists in JSON.
    one, other = (json.dumps(e, sort_keys=True) for e in (described, entry))
    if one != other or own.keys() != arrays.keys():
        raise ValueError("the header and the arrays do not belong to one matrix")
    return A


def _restore(entry: Mapping[str, Any], prefix: str, arrays: Mapping[str, Any]) -> StructuredMatrix:
    children = tuple(
        _restore(child, f"{prefix}{i}/", arrays) for i, child in enumerate(entry["children"])
    )
    own = {
        name[len(prefix) :]: value
        for name, value in arrays.items()
        if name.startswith(prefix) and "/" not in name[len(prefix) :]
    }
    contents = {name: own.pop(name) for name in kind_class(entry["kind"]).data_names}
    return rebuild(entry["kind"], contents, children, {**entry["static"], **own})
