"""`structmat calibrate`: measure the kernels on this machine."""

import argparse
import importlib.util
from typing import Any

from structmat._table import Table
from structmat.cli._common import Report, add_command, tell
from structmat.errors import MissingDependencyError
from structmat.kernels.choice.calibrate import calibrate
from structmat.kernels.choice.calibrate_devices import Measured, calibrate_device
from structmat.kernels.cost_model.coefficients import CPU, coefficients_file, keep, place_of
from structmat.kernels.cpu.threads import num_threads

_EXAMPLES = """\
  structmat calibrate
      measures the kernels of the CPU, and the layers of torch where it is installed
  structmat calibrate --device cuda
      measures the first GPU, by CuPy

Nothing else should run meanwhile. Without it, the figures that ship are used.
"""


def add_calibrate(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "measure the time of products on this machine, for the choice between kernels"
    command = add_command(commands, "calibrate", common, what, _EXAMPLES)
    command.add_argument(
        "--device",
        default=CPU,
        help="cpu (the default), cuda, or one of several devices, such as cuda:1",
    )
    command.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> Report:
    tell("expected: one to two minutes, in which nothing else should run")
    if options.device != CPU:
        return _on_device(options.device)
    measured, errors = calibrate()
    path = keep(measured, place_of(CPU, threads=num_threads()))
    layers = _layers(CPU)
    rows = [(name, _percent(error)) for name, error in errors.items()]
    rows += [("layers", _percent(found["error"])) for found in layers.values()]
    table = Table(("kernel", "off by (median)"), rows, [_NOTE.format(path)])
    figures = {"file": str(path), "figures": measured, "errors": errors, "layers": layers}
    return Report(table.text(), figures)


#: Where figures are kept, for people.
_NOTE = "kept in {}; delete the file to return to the figures that ship"


def _on_device(device: str) -> Report:
    places, rows, path = _kernels(device), [], coefficients_file()
    for place, measured in places.items():
        keep(measured.figures, place)
        rows += [(place, name, _percent(error)) for name, error in measured.errors.items()]
    layers = _layers(device)
    rows += [(place, "layers", _percent(found["error"])) for place, found in layers.items()]
    table = Table(("place", "kernel", "off by (median)"), rows, [_NOTE.format(path)])
    figures = {place: measured.figures for place, measured in places.items()}
    errors = {place: measured.errors for place, measured in places.items()}
    return Report(
        table.text(), {"file": str(path), "figures": figures, "errors": errors, "layers": layers}
    )


def _kernels(device: str) -> dict[str, Measured]:
    """Measure the kernels of a device; none without CuPy, where torch has the device."""
    try:
        return calibrate_device(device)
    except MissingDependencyError:
        if importlib.util.find_spec("torch") is None:
            raise
        import torch

        if not torch.cuda.is_available():
            raise
        return {}


def _layers(device: str) -> dict[str, dict[str, Any]]:
    """Measure and keep the figures of layers, for each dtype; by place. None without torch."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    from structmat.kernels.cost_model.layers import keep_layers
    from structmat.nn.structured.calibrate import calibrate_layers

    found = {}
    for dtype in (torch.float32,) if device == CPU else (torch.float32, torch.bfloat16):
        place, measured, error = calibrate_layers(device, dtype=dtype)
        keep_layers(measured, place)
        found[place] = {"figures": list(measured[:-1]), "error": error}
    return found


def _percent(error: float) -> str:
    return f"{100 * error:.0f} %"
