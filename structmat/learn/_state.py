"""State of a training in one file, to resume from: safetensors, no pickle.

Model and optimizer tensors are members of the file; everything else is JSON in its
header, with digests of them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from structmat.errors import FileFormatError
from structmat.nn.files.tensor_file import read_tensors, reading, write_tensors
from structmat.nn.structured.state import STATE_NAME
from structmat.nn.training.step_hook import Rule

_HEADER = "structmat_training"
_FORMAT_VERSION = 2
_REMEDY = "start again without --resume"


def save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rules: Sequence[Rule],
    run: Mapping[str, Any],
    epoch: int,
    kept: Mapping[str, Any],
) -> None:
    """Write the state after an epoch; `run` says which training it belongs to."""
    tensors = {f"model.{name}": p for name, p in _own(model).items()}
    plain: dict[str, dict[str, Any]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    header = {
        "format_version": _FORMAT_VERSION,
        "run": run,
        "epoch": epoch,
        "rules": [rule.state_dict() for rule in rules],
        "optimizer": plain,
        **kept,
    }
    write_tensors(path, tensors, header, _HEADER)


def load(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rules: Sequence[Rule],
    run: Mapping[str, Any],
) -> tuple[int, dict[str, Any]]:
    """Restore the state; the epochs done and the file's header come back.

    A file that is damaged, or of another training, is a `FileFormatError`.
    """
    header, tensors = read_tensors(path, _HEADER, _FORMAT_VERSION, _REMEDY)
    with reading(path, _REMEDY):
        _check_run(path, header["run"], json.loads(json.dumps(run)))
        state: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in header["optimizer"].items()
        }
        for name, value in tensors.items():
            group, index, *rest = name.split(".")
            if group == "optimizer":
                state.setdefault(int(index), {})[rest[0]] = value
        if type(header["epoch"]) is not int or len(header["rules"]) != len(rules):
            raise ValueError("it has no epoch, or the state of other rules")
        model.load_state_dict(_named(model, tensors))
        _check_shapes(optimizer, state)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        for rule, kept in zip(rules, header["rules"], strict=True):
            rule.load_state_dict(kept)
        return header["epoch"], header


def _check_run(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found != wanted:
        # A setting that one of them lacks may be None in the other, so `get` would not do.
        differing = sorted({k for k, _ in _pairs(wanted) ^ _pairs(found)})
        raise FileFormatError(
            f"{path} belongs to a training with other {', '.join(differing)}; expected "
            f"{ {k: wanted.get(k) for k in differing} } (resume with the same options, or start "
            "again without --resume)"
        )


def _pairs(run: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(name, json.dumps(value, sort_keys=True)) for name, value in run.items()}


def _own(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers and structures, each once."""
    named = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(named.items())}
    return {name: tensor for name, tensor in named.items() if first[id(tensor)] == name}


def _named(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a model from the tensors of a file; older files have no structures."""
    named = model.state_dict(keep_vars=True)
    first = {id(tensor): f"model.{name}" for name, tensor in reversed(named.items())}
    keys = {name: first[id(tensor)] for name, tensor in named.items()}
    parts = {n: k for n, k in keys.items() if k in tensors or not n.endswith(STATE_NAME)}
    return {name: tensors[key] for name, key in parts.items()}


def _check_shapes(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse moments of other shapes: older files count empty contents among the parameters."""
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != shapes[index]:
                raise IndexError(f"{name} of parameter {index} has shape {tuple(value.shape)}")
