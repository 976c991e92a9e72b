"""`structmat calibrate`: measure the kernels on this machine."""

import argparse
import sys
from typing import Any

from structmat.cli._common import Report
from structmat.kernels.choice.calibrate import calibrate
from structmat.kernels.cost_model.coefficients import keep


def add_calibrate(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "calibrate",
        parents=common,
        help="measure the time of products on this machine, for the choice between kernels",
    )
    command.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> Report:
    shown = sys.stderr.isatty()

    def tell(what: str) -> None:
        print(f"\r\033[Kmeasuring {what}", end="", file=sys.stderr, flush=True)

    measured, errors = calibrate(progress=tell if shown else None)
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    path = keep(measured)
    lines = [f"{'kernel':10} off by (median)"]
    lines += [f"{name:10} {100 * errors[name]:.0f} %" for name in errors]
    lines.append(f"kept in {path}; delete the file to return to the figures that ship")
    return Report("\n".join(lines), {"file": str(path), "figures": measured, "errors": errors})
