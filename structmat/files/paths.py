"""Names of files, as users give them."""

import os
from typing import Any

from structmat.errors import InputError


def name_of(path: Any) -> str:
    """The name of a file as text; bytes are decoded as the system does.

    Raises
    ------
    InputError
        If it is no path.

    Examples
    --------
    >>> name_of(b"a.npz")
    'a.npz'
    """
    try:
        return os.fsdecode(path)
    except TypeError:
        raise InputError(
            f"path is a {type(path).__qualname__}; expected a str, bytes or an os.PathLike "
            "(pathlib.Path makes one)"
        ) from None
