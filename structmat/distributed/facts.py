"""Facts by which a compression is known again: its source, and its result."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from structmat import _array
from structmat.compress.goal import Goal
from structmat.compress.results import CompressionResult
from structmat.files.foreign import digest_of
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.source import Source

#: Rows, and columns, of the entries by which a source is known.
LINES = 8
#: Relative difference of entries that are those of one source.
ROUNDING = 1e-5


def facts_of(source: Source) -> dict[str, Any]:
    """What a source is: its points, the name of its kernel, parameters, and some entries.

    Functions have no name that says what they do, so entries speak for them.
    """
    at = [np.unique(np.linspace(0, max(n - 1, 0), LINES).astype(int)) for n in source.shape]
    rows, cols = (some[:n] for some, n in zip(at, source.shape, strict=True))
    entries = _array.to_numpy(source.block(rows, cols)).astype(np.complex128).ravel()
    kernel = source.kernel if isinstance(source, KernelMatrix) else None
    facts = {
        "source": source.kind,
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "kernel": kernel if isinstance(kernel, str) else "a function",
        "hermitian": bool(source.hermitian),
        "entries": [*entries.real.tolist(), *entries.imag.tolist()],
    }
    for name in ("length", "wavenumber"):
        if hasattr(source, name):
            facts[name] = float(_array.to_numpy(getattr(source, name)))
    for name in ("points", "points2"):
        points = getattr(source, name)
        facts[name] = None if points is None else digest_of(np.ascontiguousarray(points).tobytes())
    return facts


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between the facts of two compressions; entries may differ by rounding.

    Examples
    --------
    >>> differences({"tol": 0.1, "points": "ab"}, {"tol": 0.2, "points": "cd"})
    ['tol = 0.1 there, 0.2 here', 'other points']
    """
    found = []
    for name, here in json.loads(json.dumps(new)).items():
        there = old.get(name)
        if there == here or (name == "entries" and _are_close(there, here)):
            continue
        unsaid = name == "entries" or name.startswith("points")
        found.append(f"other {name}" if unsaid else f"{name} = {there!r} there, {here!r} here")
    return found


def _are_close(there: Any, here: list[float]) -> bool:
    return bool(
        isinstance(there, list)
        and len(there) == len(here)
        and np.allclose(there, here, rtol=ROUNDING, atol=0.0)
    )


def facts_of_result(result: CompressionResult, goal: Goal, seed: int) -> dict[str, Any]:
    """What a complete compression was, to give its result again."""
    matrix: Any = result.matrix
    return {
        "kind": result.kind,
        "shape": list(matrix.shape),
        "count": len(matrix.parts),
        "goal": asdict(goal),
        "seed": seed,
        "estimate": asdict(result.estimate),
        "ordered": result.ordered,
    }
