"""The GPU benchmark: its plumbing on toy sizes, its targets, its times, its refusals."""

import json
import sys
import time

import numpy as np
import pytest
import torch

from benchmarks import __main__
from benchmarks.gpu import child, command, parts, products, session, targets
from benchmarks.gpu.tables import gpu_section
from benchmarks.results import Skip


@pytest.fixture(scope="module")
def toy():
    """Result of a run on toy sizes; nothing is compiled, which takes seconds by itself."""
    traced = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda model, **_: traced.append(model) or model)
        result = command.run("cpu", True, None)
    assert len(traced) >= 3
    return result


KEYS = {
    "tests": {"group", "passed", "failed", "skips", "failures", "reasons", "seconds"},
    "frozen": {
        *("n", "budget", "dtype", "rows", "structure", "way", "cost", "storage", "rounds"),
        *("seconds", "over_dense", "launch_over_dense"),
    },
    "products": {
        *("library", "structure", "n", "budget", "dtype", "columns", "cost", "kernel", "rounds"),
        *("seconds", "over_dense"),
    },
    "training": {
        *("layer", "n", "vectors", "dtype", "budget", "way", "rounds", "seconds", "over_dense"),
    },
    "projections": {
        *("kind", "n", "vectors", "budget", "seconds", "longest", "step_seconds", "share"),
    },
    "decoding": {"layers", "way", "batch", "budget", "rounds", "seconds", "over_dense"},
    "vit": {"layers", "way", "batch", "budget", "rounds", "seconds", "over_dense"},
}
HOST_KEYS = {
    "host": {"what", "call", "n", "seconds"},
    "memory": {"what", "structure", "n", "budget", "dtype", "bytes", "over_contents"},
    "launches": {"what", "layer", "n", "operations", "launches"},
}


def test_every_part_runs_and_every_figure_has_its_key(toy):
    assert toy["failures"] == []
    assert [row for row in toy["rows"] if "skipped" in row] == []
    assert {row["part"] for row in toy["rows"]} == set(parts.PARTS) == {*KEYS, "host"}
    for row in toy["rows"]:
        wanted = HOST_KEYS[row["what"]] if row["part"] == "host" else KEYS[row["part"]]
        assert set(row) == {"part", *wanted}, row
    text = json.dumps(toy, allow_nan=False)
    assert "/tmp" not in text


def test_every_way_structure_and_dtype_is_there(toy):
    rows = {part: [r for r in toy["rows"] if r["part"] == part] for part in parts.PARTS}
    seen = {(r["structure"], r["way"], r["dtype"], r["rows"]) for r in rows["frozen"]}
    for structure in ("tiles", "windows", "strips", "runs"):
        for dtype in ("bfloat16", "float16", "float32"):
            assert {(structure, "eager", dtype, 1), (structure, "eager", dtype, 8)} <= seen
            assert (structure, "graph", dtype, 1) in seen
    assert ("tiles", "compiled", "bfloat16", 1) in seen
    assert {(r["library"], r["columns"]) for r in rows["products"]} == {
        (library, columns) for library in ("cupy", "torch") for columns in (1, 17)
    }
    layers = {(r["layer"], r["way"]) for r in rows["training"]}
    assert {(name, way) for name in ("learning", "tiles") for way in ("eager", "graph", "compiled")} <= layers
    assert ("Gaudi, shrunk", "eager") in layers
    operations = {r["layer"]: r["operations"] for r in rows["host"] if r["what"] == "launches"}
    # Forward, two products backward and the sum for the bias; and the support twice.
    assert operations["dense"] == 4
    assert operations["learning"] == 6
