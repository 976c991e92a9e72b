"""Time and memory of calls."""

import math
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Call = Callable[[], Any]
#: Seconds of one call, from the call and the number of times to repeat it.
Clock = Callable[[Call, int], float]

#: Seconds of a sample, at least: shorter calls are repeated to hide the clock's grain.
SHORTEST_SAMPLE_SECONDS = 5e-4
#: Rounds, at most.
ROUND_LIMIT = 100


@dataclass(frozen=True)
class Timing:
    """Seconds of several calls, measured in turns: one list of samples each."""

    samples: Mapping[str, list[float]]

    @property
    def rounds(self) -> int:
        """Number of samples of each call."""
        return min(len(s) for s in self.samples.values())

    def seconds(self, name: str) -> float:
        """Median seconds of one call."""
        return median(self.samples[name])

    def ratio(self, name: str, reference: str) -> float:
        """Median over the rounds of one call's time over another's in the same round.

        A disturbance of the machine slows both calls, and so hardly counts.
        """
        pairs = zip(self.samples[name], self.samples[reference], strict=True)
        return median(ours / theirs for ours, theirs in pairs)


def wall_clock(call: Call, loops: int) -> float:
    """Seconds of one call on the CPU."""
    begin = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - begin) / loops


def interleaved(
    calls: Mapping[str, Call], *, seconds: float, least: int, clock: Clock = wall_clock
) -> Timing:
    """Time calls in turns, forwards and backwards, for these seconds and `least` rounds."""
    loops = {name: _loops(call, clock) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names, begin = list(calls), time.perf_counter()
    for done in range(ROUND_LIMIT):
        if done >= least and time.perf_counter() - begin > seconds:
            break
        for name in names:
            samples[name].append(clock(calls[name], loops[name]))
        names.reverse()
    return Timing(samples)


def _loops(call: Call, clock: Clock) -> int:
    call()
    return math.ceil(SHORTEST_SAMPLE_SECONDS / max(clock(call, 1), 1e-7))


def peak_bytes(call: Call) -> int:
    """Peak of the memory that NumPy and Python hold during a call, less that before.

    Workspace that LAPACK routines take from the system is not counted.
    """
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
