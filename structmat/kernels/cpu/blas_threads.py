"""BLAS held to one thread while threads of the pool call it.

Each thread of the pool would wake as many of BLAS: more than there are processors, which wait for
each other in loops. So do those of the two libraries of NumPy and SciPy, where calls of one follow
those of the other. The libraries of NumPy and SciPy are asked themselves, OpenBLAS or MKL: each
has a number of threads for the whole process. Another library keeps its threads.
"""

import ctypes
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import NamedTuple

from structmat.kernels.cpu.threads import shared_out

#: Modules of NumPy and of SciPy that are linked to their BLAS.
_LINKED = ("numpy.linalg._umath_linalg", "scipy.linalg.cython_blas")
#: Functions that get and set a number of threads; OpenBLAS may have a prefix and a suffix.
_NAMES = [
    (f"{a}openblas_get_num_threads{b}", f"{a}openblas_set_num_threads{b}")
    for a, b in product(("scipy_", ""), ("64_", "", "_64"))
] + [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]


class _Library(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], None]


@cache
def _libraries() -> list[_Library]:
    """The libraries whose number of threads is known."""
    found = []
    for name in _LINKED:
        try:
            # Its functions are those of the libraries that it needs, too.
            linked = ctypes.CDLL(importlib.import_module(name).__file__)
        except (ImportError, OSError):
            continue
        for getter, setter in _NAMES:
            if hasattr(linked, getter) and hasattr(linked, setter):
                found.append(_Library(getattr(linked, getter), getattr(linked, setter)))
                break
    return found


class _Sections:
    """Sections of a process in which BLAS has one thread: the first sets it, the last restores."""

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), 0
        self._former: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if not self._open:
                self._former = [library.get() for library in _libraries()]
                for library in _libraries():
                    library.set(1)
            self._open += 1

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self.restore()

    def restore(self) -> None:
        former, self._former = self._former, []
        for library, count in zip(_libraries(), former, strict=False):
            library.set(count)


_sections = _Sections()


def _forget() -> None:
    """Restore the threads of a forked child, in which the sections of other threads never end."""
    global _sections
    former, _sections = _sections, _Sections()
    former.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A section in which BLAS has one thread, in the whole process.

    Sections may overlap, in one thread or in several. To enter and leave takes microseconds.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    entered = _sections
    entered.enter()
    try:
        yield
    finally:
        entered.leave()


def shared_out_to_blas(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Run `work(first, last)`, which calls BLAS, on parts of range(count), as `shared_out` does.

    BLAS has one thread even for one part, so that results do not depend on `threads`.
    """
    with one_blas_thread():
        shared_out(work, count, threads)
