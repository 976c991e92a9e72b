"""`structmat report`: a page on the matrix or the network in a file."""

import argparse
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import structmat
from structmat._progress import Progress, reporting
from structmat.cli._common import Report, add_command, check_output
from structmat.cli._report_page import Row, error_facts, matrix_page, model_page, percent, totals
from structmat.errors import InputError
from structmat.files.foreign import foreign
from structmat.files.write import whole_file
from structmat.io import read

_EXAMPLES = """\
  structmat report small.npz -o report.html
      shows a matrix that structmat compress or structmat.save wrote
  structmat report model.safetensors -o report.html
      shows the layers of a network that structmat.nn.save_model or structmat learn wrote
  structmat report folder -o report.html
      shows those of a model of transformers that save_pretrained wrote

The page stands alone: it needs no network and runs no scripts. Some hundred layers take
a few seconds, and the network itself is not built.
"""
_EXPECTED = (
    "expected a matrix that structmat.save wrote (structmat compress makes one of an array), a "
    "network as .safetensors that structmat.nn.save_model wrote, or a folder of save_pretrained"
)
#: Length of the number before the header of a safetensors file.
_LENGTH = 8


def add_report(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    what = "write a page on a saved matrix or network, with pictures of its blocks"
    report = add_command(commands, "report", common, what, _EXAMPLES)
    report.add_argument("file", help="file that structmat wrote, or folder of a model")
    report.add_argument(
        "-o", "--output", default="report.html", help="page to write (default: %(default)s)"
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> Report:
    path = Path(options.file)
    is_folder = path.is_dir()
    check_output(options.output, None if is_folder else options.file)
    name = path.resolve().name if is_folder else path.name
    with reporting(None, "reporting") as progress:
        if not is_folder and _is_archive(options.file):
            page, figures, text = _on_matrix(options.file, name)
        else:
            page, figures, text = _on_model(options.file, name, progress, is_folder=is_folder)
    with whole_file(options.output) as beside:
        beside.write_text(page, encoding="utf-8")
    return Report(f"{text}\nwritten to {options.output}", {**figures, "output": options.output})


def _is_archive(path: str) -> bool:
    """Tell an archive of arrays from a file of tensors by the first bytes; refuse others."""
    with foreign(path, _EXPECTED), open(path, "rb") as file:
        first = file.read(_LENGTH + 1)
    if first[:2] == b"PK":
        return True
    if first[_LENGTH:] != b"{":
        raise InputError(f"{path!r} holds neither a matrix nor a network of structmat; {_EXPECTED}")
    return False


def _on_matrix(path: str, name: str) -> tuple[str, dict[str, Any], str]:
    A, notes = read(path)
    facts = {"kind": A.kind, "shape": list(A.shape), "cost": A.cost, "storage": A.storage, **notes}
    file = {"file": name, "bytes": f"{os.path.getsize(path):,}", **_versions("numpy")}
    told = "".join(f", {key} {value}" for key, value in error_facts(notes).items())
    return matrix_page(name, A, notes, file), facts, f"{A!r}{told}"


def _on_model(
    path: str, name: str, progress: Progress, *, is_folder: bool
) -> tuple[str, dict[str, Any], str]:
    stored, size = _read_folder(Path(path)) if is_folder else _read_file(Path(path))
    progress(0.5)
    rows = []
    for done, (place, layer) in enumerate(stored.layers.items(), 1):
        rows.append(_row([place or type(layer).__name__, *stored.names[place]], layer))
        progress(0.5 + 0.5 * done / len(stored.layers))
    file = {"file": name, "bytes": f"{size:,}", **_versions("numpy", "torch", "safetensors")}
    file |= _versions("transformers") if is_folder else {}
    layers = [
        {"name": row.name, "kind": row.kind, "shape": list(row.shape), "cost": row.cost,
         "storage": row.storage, "dense": row.dense} for row in rows
    ]  # fmt: skip
    sums = totals(rows)
    shares = [percent(sums[key], sums["dense"]) for key in ("cost", "storage")]
    text = (
        f"{name}: no structured layer"
        if not rows
        else (
            f"{name}: {len(rows)} structured layers, {shares[0]} of the multiplications and "
            f"{shares[1]} of the scalars of dense ones"
        )
    )
    return model_page(name, rows, stored.others, file), {"layers": layers, "total": sums}, text


def _read_file(path: Path) -> tuple[Any, int]:
    """The layers of a file of tensors, and its bytes."""
    from structmat.nn.files.stored import read_model

    return read_model(path), path.stat().st_size


def _read_folder(path: Path) -> tuple[Any, int]:
    """The layers of a folder, of transformers or of `structmat learn`, and the bytes of weights."""
    alone = path / "model.safetensors"
    if not (path / "config.json").exists():
        if alone.exists():
            return _read_file(alone)
        raise InputError(
            f"the folder {str(path)!r} has no config.json and no model.safetensors; {_EXPECTED}"
        )
    from structmat.nn import hf  # noqa: F401  # which names the extra for transformers
    from structmat.nn.pretrained.stored import read_pretrained

    stored = read_pretrained(path)
    return stored, sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _row(names: list[str], layer: Any) -> Row:
    """The row of a layer of torch."""
    from structmat.nn.models.cost import structured_row
    from structmat.nn.models.layer_types import LEARNING, layer_shape, weights_of
    from structmat.nn.models.shown import layer_pictures

    weights = weights_of(layer)
    found = structured_row(weights, layer_shape(layer), names)
    return Row(
        " = ".join(names),
        found.kind.replace("+", " + "),
        found.shape,
        found.cost,
        found.storage,
        found.dense_cost,
        isinstance(weights[0], LEARNING),
        layer_pictures(layer, names[0]),
    )


def _versions(*packages: str) -> Mapping[str, str]:
    """Versions of structmat, of Python, and of packages that are installed."""
    found = {"structmat": structmat.__version__, "Python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a copy that is not installed
            continue
    return found
