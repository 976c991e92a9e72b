"""`structmat calibrate`: measure the kernels on this machine."""

import argparse
from typing import Any

from structmat._table import Table
from structmat.cli._common import Report
from structmat.kernels.choice.calibrate import calibrate
from structmat.kernels.choice.calibrate_devices import calibrate_device
from structmat.kernels.cost_model.coefficients import CPU, keep, place_of
from structmat.kernels.cpu.threads import num_threads


def add_calibrate(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "calibrate",
        parents=common,
        help="measure the time of products on this machine, for the choice between kernels",
    )
    command.add_argument(
        "--device",
        default=CPU,
        help="cpu (the default), cuda, or one of several devices, such as cuda:1",
    )
    command.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> Report:
    if options.device != CPU:
        return _on_device(options.device)
    measured, errors = calibrate()
    path = keep(measured, place_of(CPU, threads=num_threads()))
    rows = [(name, f"{100 * error:.0f} %") for name, error in errors.items()]
    note = f"kept in {path}; delete the file to return to the figures that ship"
    table = Table(("kernel", "off by (median)"), rows, [note])
    return Report(table.text(), {"file": str(path), "figures": measured, "errors": errors})


def _on_device(device: str) -> Report:
    places = calibrate_device(device)
    rows = []
    for place, measured in places.items():
        path = keep(measured.figures, place)
        rows += [(place, name, f"{100 * e:.0f} %") for name, e in measured.errors.items()]
    note = f"kept in {path}; delete the file to return to the figures that ship"
    table = Table(("place", "kernel", "off by (median)"), rows, [note])
    figures = {place: measured.figures for place, measured in places.items()}
    errors = {place: measured.errors for place, measured in places.items()}
    return Report(table.text(), {"file": str(path), "figures": figures, "errors": errors})
