"""Times of layers at a place: where figures are known, measured, or missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from structmat import GBLR, LowRank, Monarch
from structmat.kernels.cost_model import devices
from structmat.kernels.cost_model.coefficients import coefficients_file, keep
from structmat.kernels.cost_model.devices import DeviceWork
from structmat.kernels.cost_model.kernel_time import KernelTime
from structmat.kernels.cost_model.layers import (
    ALL_VECTORS,
    SHIPPED,
    LayerCoefficients,
    LayerWork,
    Times,
    chunk_at,
    keep_layers,
)
from structmat.nn.structured import StructuredWeight
from structmat.nn.structured import speed as _speed

H200 = "NVIDIA H200, bfloat16"


def dense(times, count, assembly=0):
    return _speed.dense_is_quicker(times, count, assembly=assembly, device="cuda")


def low_rank(n, share):
    """Work of a low-rank pair (n, n) at a share of the dense cost, as it is counted."""
    rank = share * n / 2
    return LayerWork(2, 2 * rank * n, rank + n)


def tiles(n, share, place=H200):
    """Work of Triton's tiles at that share, in bfloat16."""
    scalars = int(share * n * n)
    work = DeviceWork(n, n, n, scalars, 2, float(scalars))
    figures = devices.TRITON.figures.get(place, ())
    return LayerWork(0, 0.0, 0.0, kernels=(KernelTime(devices.TRITON, work, figures),))


@pytest.mark.parametrize("place", ["Imagined 7000, bfloat16", "NVIDIA H200, float32", "meta, x"])
def test_dense_layers_where_times_are_unknown(place, user_cache, monkeypatch):
    times = Times.of(low_rank(8192, 1 / 8), (8192, 8192), place)
    assert not times.known
    assert all(dense(times, count) for count in (1, 16, 8192))
    assert not dense(times, 100, assembly=8192)  # assembling takes more products than these
    assert dense(times, 8193, assembly=8192)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert dense(times, 1)
    assert not Times.of_convolution([times, times], 9).known


#: Measured times on an H200 over the dense layer's, with 8192 vectors in bfloat16.
MEASURED = {
    (low_rank, 8192, 1 / 8): 0.15,
    (low_rank, 8192, 1 / 4): 0.26,
    (low_rank, 4096, 1 / 8): 0.20,
    (low_rank, 4096, 1 / 4): 0.31,
    (tiles, 8192, 1 / 8): 0.35,
    (tiles, 8192, 1 / 4): 0.54,
    (tiles, 4096, 1 / 8): 0.80,
    (tiles, 4096, 1 / 4): 0.88,
}


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: f"{case[0].__name__} {case[1:]}")
def test_structures_are_chosen_where_they_were_measured_to_gain(case, user_cache):
    make, n, share = case
    times, measured = Times.of(make(n, share), (n, n), H200), MEASURED[case]
    assert 0.9 * measured < times.structured(8192) / times.dense(8192) < measured + 0.25
    assert dense(times, 8192) == (measured > 0.6)
    # One to 256 vectors took 3 to 20 times the dense layer's time.
    assert all(dense(times, count) for count in (1, 16, 256))


@pytest.mark.parametrize("place", [H200, "Imagined 7000, float32"])
def test_devices_take_all_vectors_at_once(place):
    """Parts would start more operations the more vectors there are."""
    for work in (low_rank(4096, 1 / 8), tiles(4096, 1 / 8)):
        assert Times.of(work, (4096, 4096), place).chunk == ALL_VECTORS
    assert Times.of(low_rank(4096, 1 / 8), (4096, 4096), "cpu").chunk == 256
    assert (chunk_at("cpu"), chunk_at("cuda")) == (256, ALL_VECTORS)


def test_batched_products_are_known_on_a_cpu_alone(user_cache):
    matrix = Monarch(torch.ones(4, 6, 6), torch.ones(6, 4, 4))
    work = _speed.count_operations(matrix)
    assert work.batched == work.scalars > 0
    assert Times.of(work, matrix.shape, "cpu").known
    assert not Times.of(work, matrix.shape, H200).known
    plain = LowRank(torch.ones(30, 2), torch.ones(20, 2))
    assert _speed.count_operations(plain).batched == 0


def test_measured_figures_of_layers_come_first(user_cache):
    work, shape = low_rank(8192, 1 / 8), (8192, 8192)
    assert Times.of(work, shape, "Imagined 7000, float32").known is False
    figures = [float(i) for i in range(1, 11)]
    keep_layers(LayerCoefficients(*figures), "Imagined 7000, float32")
    times = Times.of(work, shape, "Imagined 7000, float32")
    assert (times.dense_once, times.dense_each) == (1 + 4 * 8192**2, 6 * 8192**2)
    assert times.each == 8 * work.scalars + 9 * (work.written + 8192)
    shipped = Times.of(work, shape, "cpu")
    keep({"layers": figures[:-1]}, "cpu, layers")
    assert Times.of(work, shape, "cpu") == shipped
    keep_layers(LayerCoefficients(*figures), "cpu")
    assert Times.of(work, shape, "cpu") == replace(times, chunk=256)


def test_figures_of_earlier_versions_say_nothing_of_layers(user_cache):
    path = coefficients_file()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"figures": {"dense": [1.0] * 8}}))
    times = Times.of(low_rank(768, 1 / 8), (768, 768), "cpu")
    assert times.dense_once == SHIPPED["cpu"].dense + SHIPPED["cpu"].dense_read * 768**2


def test_layers_ask_for_their_own_place(user_cache):
    matrix = LowRank(torch.ones(30, 2), torch.ones(20, 2))
    assert _speed.place_of_products(matrix) == "cpu"
    assert StructuredWeight(matrix).times.known
    elsewhere = matrix.to("meta")
    assert _speed.place_of_products(elsewhere) == "meta, float32"
    assert not StructuredWeight(elsewhere).times.known


def test_names_of_cuda_devices(monkeypatch):
    from structmat import _array

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"Imagined {place.index}")
    monkeypatch.setattr(_array, "_device_names", {})
    xp = _array.namespace_named("torch")
    assert _array.device_name(xp, torch.device("cuda:1")) == "Imagined 1"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "another")
    assert _array.device_name(xp, torch.device("cuda:1")) == "Imagined 1", "asked once"


def test_a_layer_without_figures_multiplies_by_its_dense_weight(monkeypatch, user_cache):
    runs = np.array([0, 3]), np.array([4, 5])
    matrix = GBLR(*runs, np.ones(9, np.float32), *runs, np.ones(9, np.float32), shape=(9, 8))
    weight = StructuredWeight(matrix)
    weight.times = Times.of(tiles(9, 0.5, "Imagined 7000, float32"), (9, 8), H200)
    assert not weight.times.known
    used = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda *args: used.append(1) or linear(*args)
    )
    x = torch.ones(5, 8)
    with torch.no_grad():
        found = weight(x)
    assert used == [1]
    torch.testing.assert_close(found, x @ torch.from_numpy(matrix.to_dense().T))
