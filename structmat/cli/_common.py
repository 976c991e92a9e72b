"""Parts that the commands share: reports, checked arguments, a bar, folders, pictures."""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structmat
from structmat.errors import InputError, SaveError
from structmat.files.write import target_of, whole_file
from structmat.matrix import StructuredMatrix


@dataclass(frozen=True)
class Report:
    """Result of a command: text for people, and the same figures for machines."""

    text: str
    figures: dict[str, Any]


def add_command(
    commands: Any,
    name: str,
    common: list[argparse.ArgumentParser],
    what: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add a command, whose help says what it does, and ends with examples that run."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=common,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return command


def number(text: str, what: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected {what}")
    return value


def share(text: str) -> float:
    return number(text, "a share of the dense cost, above 0 and up to 1", lambda x: 0 < x <= 1)


def tolerance(text: str) -> float:
    return number(text, "a relative error of at least 0, such as 1e-3", lambda x: 0 <= x < math.inf)


def whole(text: str) -> int:
    return whole_number(text, 0, 2**63 - 1)


def whole_number(text: str, least: int, most: int) -> int:
    """A whole number between two bounds; 1e3 is one."""
    try:
        value = int(text)
    except ValueError:
        found = number(text, f"a whole number from {least} to {most}", float.is_integer)
        value = int(found)
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected a whole number from {least} to {most}"
        )
    return value


def tell(message: str) -> None:
    """Say on a terminal what is expected of long work; nothing in a pipe."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(message, file=sys.stderr, flush=True)


@contextmanager
def terminal_bar(**options: Any) -> Any:
    """Yield a bar of tqdm on a terminal; None in a pipe or without tqdm."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield None
        return
    with tqdm(leave=False, **options) as bar:
        yield bar


def check_output(path: str, source: str | None = None) -> None:
    """Refuse an output before the long work begins.

    That is an unwritable folder, what is no regular file, or the file that is read.
    """
    target = target_of(path)
    if source is not None and target.exists() and target.samefile(source):
        raise InputError(f"{path!r} is the file that is read; expected another name to write to")


def draw(B: StructuredMatrix, path: str) -> str | None:
    """Draw to a file without a display; None where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    structmat.plot.structure(B, figure.subplots())
    try:
        with whole_file(path) as beside:
            figure.savefig(beside, dpi=150, format=Path(path).suffix.lstrip(".") or "png")
    except (OSError, ValueError) as error:
        raise SaveError(
            f"cannot write the picture {path!r} ({error}); choose a folder that you may write to "
            "and an ending such as .png, .svg or .pdf"
        ) from error
    return path
