"""Parts of a run in their order, with the libraries they need and their shares of the time."""

import gc
import importlib
from dataclasses import dataclass

from benchmarks.gpu.session import Session, library, on_device
from benchmarks.results import Skip

#: Seconds of a whole run, at most.
TOTAL_SECONDS = 465.0
#: Share of its time after which a part begins no case: the last one has to end.
BEGIN_SHARE = 0.85


@dataclass(frozen=True)
class Part:
    """Module that measures, libraries without which it is left out, and seconds it may take."""

    module: str
    needs: tuple[str, ...]
    seconds: float


#: What ends early stands before what compiles for long, since time that is left goes on.
PARTS = {
    "tests": Part("checks", ("pytest", "hypothesis"), 85),
    "frozen": Part("frozen", ("torch",), 72),
    "products": Part("products", (), 62),
    "training": Part("training", ("torch",), 57),
    "host": Part("host", ("torch",), 22),
    "projections": Part("projections", ("torch",), 22),
    "decoding": Part("decoding", ("torch",), 30),
    "vit": Part("networks", ("torch",), 60),
    "gpt2": Part("networks", ("torch",), 55),
}


def share(name: str, left: float) -> float:
    """Seconds of a part out of those that are left to it and to the parts after it."""
    names = list(PARTS)
    later = [PARTS[other].seconds for other in names[names.index(name) :]]
    return left * later[0] / sum(later)


def measure(session: Session) -> None:
    """Run one part in this process, or say why it is left out."""
    part = PARTS[session.part]
    try:
        for name in part.needs:
            on_device(name, session.device) if name == "torch" else library(name)
    except Skip as reason:
        session.skip("all", str(reason))
        return
    module = importlib.import_module(f"benchmarks.gpu.{part.module}")
    gc.freeze()  # each capture of a graph collects garbage, and what was imported is none
    try:
        module.run(session)
    finally:
        gc.unfreeze()
