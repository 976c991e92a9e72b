"""Threads for compiled kernels, which run without the interpreter's lock.

One pool for the process, made when it is first needed, and made again in a forked child:
threads do not survive a fork. Any thread may hand work to it at any time.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from typing import TypeVar

from structmat.errors import InputError

Result = TypeVar("Result")

# True where somebody else runs one work on each processor.
_alone: ContextVar[bool] = ContextVar("structmat one thread", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep products and fits to the thread that calls, as tasks of a scheduler do.

    Examples
    --------
    >>> with one_thread():
    ...     num_threads()
    1
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def num_threads() -> int:
    """Threads that a product may use.

    The environment variable STRUCTMAT_NUM_THREADS sets them, else OMP_NUM_THREADS, which
    BLAS follows too, else the number of processors that this process may run on.

    Raises
    ------
    InputError
        If STRUCTMAT_NUM_THREADS is no whole number of at least 1.
    """
    if _alone.get():
        return 1
    wish = os.environ.get("STRUCTMAT_NUM_THREADS", "")
    if wish and not (wish.isdecimal() and int(wish) > 0):
        raise InputError(
            f"STRUCTMAT_NUM_THREADS = {wish!r}; expected a whole number of at least 1 (or unset it)"
        )
    # OpenMP takes a list, one number for each level of nesting.
    wish = wish or os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wish.isdecimal() and int(wish) > 0:
        return int(wish)
    return processors()


def processors() -> int:
    """Processors that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(num_threads(), processors()), thread_name_prefix="structmat")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def side_by_side(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of all works, each in a thread of its own, which may share out work in turn.

    Examples
    --------
    >>> side_by_side([lambda: 1, lambda: 2])
    [1, 2]
    """
    if len(works) <= 1:
        return [work() for work in works]
    # Not the common pool: works that wait for parts of theirs could fill it.
    with ThreadPoolExecutor(len(works), thread_name_prefix="structmat") as own:
        return [future.result() for future in [own.submit(work) for work in works]]


def shared_out(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Run `work(first, last)` on parts of range(count), one part for each thread.

    The results of a part must not depend on the number of parts.
    """
    threads = min(threads, count)
    if threads <= 1:
        work(0, count)
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    # The calling thread takes the last part: one thread less to wake.
    *others, (first, last) = pairwise(bounds)
    futures: list[Future[None]] = []
    try:
        futures.extend(_pool().submit(work, *part) for part in others)
    except RuntimeError:  # the interpreter is ending and starts no more threads
        first = others[len(futures)][0]
    try:
        work(first, last)
    finally:
        for future in futures:
            future.result()
