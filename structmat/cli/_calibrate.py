"""`structmat calibrate`: measure the kernels on this machine."""

import argparse
from typing import Any

from structmat._table import Table
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
    measured, errors = calibrate()
    path = keep(measured)
    rows = [(name, f"{100 * error:.0f} %") for name, error in errors.items()]
    note = f"kept in {path}; delete the file to return to the figures that ship"
    table = Table(("kernel", "off by (median)"), rows, [note])
    return Report(table.text(), {"file": str(path), "figures": measured, "errors": errors})
