"""Structure of a learning weight apart from its parameters: settings and sharpness."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.errors import InputError
from structmat.nn.structured.state import Structure

#: Attributes of a `GaudiWeight` that state dicts and files keep.
SETTINGS = ("shape", "rank", "granularity", "straight_through", "product", "min_width")
#: Those that the shapes of the contents follow.
_SIZES = ("shape", "rank")


def described(weight: Any) -> Structure:
    """Settings of a weight as an entry for JSON, and its sharpness as an array."""
    settings = {name: getattr(weight, name) for name in SETTINGS}
    # An array has one size for all values, and a text has not.
    sigma = np.array(float(weight.sigma))
    return {"learning": {**settings, "shape": list(weight.shape)}}, {"sigma": sigma}


def take_(weight: Any, entry: dict[str, Any], arrays: dict[str, NDArray]) -> None:
    """Give a weight the settings and the sharpness that `described` found.

    Raises
    ------
    InputError
        If the settings are those of a weight of other sizes or of a fixed structure.
    """
    own, learning = described(weight)[0]["learning"], entry.get("learning", {})
    if any(own[name] != learning.get(name) for name in _SIZES):
        sizes = ", ".join(f"{name} {learning.get(name)}" for name in _SIZES)
        there = f"a learning weight of {sizes}" if learning else "a weight of fixed structure"
        raise InputError(
            f"the state dict has {there}, and the model a learning weight of "
            f"{', '.join(f'{name} {own[name]}' for name in _SIZES)}; expected the same (convert "
            "both models with the same Config, and freeze both or neither)"
        )
    if not learning["straight_through"] and weight.max_width != weight.shape:
        raise InputError(
            "the state dict has straight_through = False, and the model contents limited to "
            f"{weight.max_width} samples; expected whole circles (max_width={max(weight.shape)})"
        )
    for name in set(SETTINGS).difference(_SIZES):
        setattr(weight, name, learning[name])
    weight.sigma = float(arrays["sigma"])
