"""One part of a run: its cases, its checks and its time."""

import gc
import importlib
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.results import Row, Skip

#: Machine epsilon by name of a dtype, also of one that NumPy lacks.
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class WrongResult(Exception):
    """Complaint about a result that is off; it is not timed."""


@dataclass(frozen=True)
class Session:
    """Cases of one part, each on its own: what one cannot do leaves the others alone.

    `put` takes rows as they come: figures, {"failure": text}, and those with the reason why
    something was left out under "skipped". After `until`, on the clock of `time.monotonic`,
    no case begins.
    """

    part: str
    device: str
    tiny: bool
    until: float
    put: Callable[[Row], None]

    def add(self, row: Row) -> None:
        """Add figures of this part."""
        self.put({"part": self.part} | row)

    def skip(self, case: str, reason: str) -> None:
        """Note what is left out."""
        self.add({"case": case, "skipped": reason})

    def attempt(self, case: str, measure: Callable[[], Any]) -> Any:
        """Result of a case, or None if the time is over, or it is left out or fails."""
        if time.monotonic() >= self.until:
            return self.skip(case, "out of time")
        try:
            return measure()
        except Skip as reason:
            self.skip(case, str(reason))
        except WrongResult as complaint:
            self.put({"failure": f"{self.part}, {case}: {complaint}"})
        except Exception as error:  # kernels fail in many ways, and the other cases go on
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self.put({"failure": f"{self.part}, {case}: {text}"})
        return None

    def attempts(self, measures: Mapping[str, tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
        """Results by name, of those cases that give one; a case and its call by name."""
        made = {name: self.attempt(*measure) for name, measure in measures.items()}
        return {name: result for name, result in made.items() if result is not None}

    def case(self, case: str, measure: Callable[[], Any]) -> None:
        """Run a case, and afterwards give back its memory and what it compiled."""
        self.attempt(case, measure)
        if self.device != "cuda":
            return
        if dynamo := sys.modules.get("torch._dynamo"):
            dynamo.reset()  # it compiles a few layers of one class, and then no more
        gc.collect()
        if torch := sys.modules.get("torch"):
            torch.cuda.empty_cache()

    @property
    def seconds_left(self) -> float:
        """Seconds in which cases may begin."""
        return self.until - time.monotonic()


def library(name: str) -> Any:
    """Import a library, or raise `Skip` with the reason why it cannot be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise Skip(f"{missing.name} is not installed") from None
    except Exception as reason:
        text = f"{type(reason).__name__}: {reason}".splitlines()[0]
        raise Skip(f"{name} does not import here ({text})") from None


def on_device(name: str, device: str) -> Any:
    """Import torch or CuPy, or raise `Skip` where it sees no GPU and one is asked for."""
    found = library(name)
    if device != "cuda":
        return found
    try:
        if name == "torch":
            count = found.cuda.device_count() if found.cuda.is_available() else 0
        else:
            count = found.cuda.runtime.getDeviceCount()
    except Exception as reason:  # of a driver, which each version names in its own way
        raise Skip(f"{name} finds no driver ({type(reason).__name__})") from None
    if not count:
        raise Skip(f"{name} sees no GPU")
    return found


def tolerance(dtype: str, terms: int) -> float:
    """Bound on the relative error of sums of so long by rounding: of terms, and of the sum."""
    sums = EPSILON["float64" if dtype == "float64" else "float32"]
    return 4 * EPSILON[dtype] + terms * sums


def agree(what: str, found: Any, expected: Any, limit: float) -> None:
    """Refuse an array whose relative error, in the Frobenius norm, is above a limit."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise WrongResult(f"{what} has shape {found.shape}; expected {expected.shape}")
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    # Written so that NaN is refused as well.
    if not error <= limit:
        raise WrongResult(f"{what} is off by {error:.1e}; expected at most {limit:.1e}")
