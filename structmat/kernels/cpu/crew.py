"""Helpers: threads that take part in compiled products of single vectors.

A product of a few microseconds cannot wait for a thread that the interpreter wakes. Helpers
stay in compiled code: after a product they watch for the next one about as long as it would
take to wake them, then they sleep. There is one crew for the process, made when it is first
needed, and another one in a forked child: threads do not survive a fork.
"""

import atexit
import os
import threading
import time
from functools import cache

import numpy as np

from structmat.kernels.cpu.row_groups import aligned, first_address
from structmat.kernels.cpu.threads import num_threads, processors
from structmat.kernels.cpu.vector_steps import (
    board_words,
    end_helpers,
    looks_for,
    serve,
    set_helper,
)

#: Seconds that helpers watch for work: about what it takes the system to wake one.
_WATCH_SECONDS = 60e-6
_MOST_HELPERS = 63


class _Crew:
    """Helpers, started as far as they are asked for, and the board that they watch."""

    def __init__(self) -> None:
        self._most = min(max(num_threads(), processors()) - 1, _MOST_HELPERS)
        words = aligned((board_words(self._most),), np.int64)
        words[:] = 0
        self._words, self.board = words, first_address(words)
        self._threads: list[threading.Thread] = []
        self._wakes: list[int] = []
        self._lock = threading.Lock()
        self._looks = 0

    def at_work(self, threads: int) -> int:
        """Threads that there are, of those wanted, the calling one included."""
        wanted = min(threads - 1, self._most)
        if len(self._threads) < wanted:
            with self._lock:
                while len(self._threads) < wanted and self._starts():
                    pass
        return min(wanted, len(self._threads)) + 1

    def _starts(self) -> bool:
        """Start one more helper; False where the interpreter is ending."""
        if not self._looks:
            looks_for(0)
            begin = time.perf_counter()
            looks_for(1000)
            self._looks = int(1000 * _WATCH_SECONDS / (time.perf_counter() - begin)) + 1
        number, (reads, wakes) = len(self._threads), os.pipe()
        set_helper(self.board, number, wakes, reads)
        arguments = self.board, number, self._looks
        name = f"structmat helper {number}"
        helper = threading.Thread(target=serve, args=arguments, name=name, daemon=True)
        try:
            helper.start()
        except RuntimeError:
            self._most = number
            return False
        self._wakes.append(wakes)
        self._threads.append(helper)
        return True

    def end(self) -> None:
        """End all helpers, so that none runs while the interpreter takes itself apart."""
        with self._lock:
            self._most = 0
            end_helpers(self.board)
            for wakes in self._wakes:
                os.write(wakes, b"\0")
            for helper in self._threads:
                helper.join()
            self._threads.clear()


@cache
def _crew() -> _Crew:
    return _Crew()


@atexit.register
def _end() -> None:
    if _crew.cache_info().currsize:
        _crew().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_crew.cache_clear)


def board_for(threads: int) -> tuple[int, int]:
    """Address of the helpers' board, and the number of threads that there are."""
    if threads <= 1:
        return 0, 1
    crew = _crew()
    return crew.board, crew.at_work(threads)
