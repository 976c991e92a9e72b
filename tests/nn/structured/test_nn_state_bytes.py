"""Bytes of a structure in a state dict, read back by hand."""

import json
import zlib

import numpy as np
import pytest
import torch

from structmat.errors import InputError
from structmat.nn.structured import state
from structmat.nn.structured.state import decode, encode

ENTRY = {"kind": "sum", "static": {"shape": [2, 3]}}
ARRAYS = {
    "first": np.arange(300),
    "none": np.zeros((0, 2), np.int32),
    "0/places": np.arange(6, dtype=np.int16).reshape(3, 2),
    "one": np.array(-5),
}


def test_checksum_length_header_and_arrays():
    data = encode(ENTRY, ARRAYS).numpy().tobytes()
    assert int.from_bytes(data[:4], "little") == zlib.crc32(data[4:])
    length = int.from_bytes(data[4:12], "little")
    assert length % 64 == 0
    header = json.loads(data[12 : 12 + length])
    assert (header["format_version"], header["structure"]) == (1, ENTRY)
    assert [tuple(item[:2]) for item in header["arrays"]] == [
        (name, array.dtype.str) for name, array in ARRAYS.items()
    ]
    assert data[12 + length :] == b"".join(array.tobytes() for array in ARRAYS.values())


def test_headers_of_about_one_length_fill_one_size():
    assert len({encode({"name": "n" * i}, {}).numel() for i in range(1, 65)}) == 2
    assert json.loads(encode({}, {}).numpy().tobytes()[12:].decode())["arrays"] == []


def test_keys_are_sorted():
    assert torch.equal(encode({"a": 1, "b": 2}, {}), encode({"b": 2, "a": 1}, {}))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "bfloat16", "float32", "float64"])
def test_bytes_come_back_from_every_dtype(dtype):
    entry, arrays = decode(encode(ENTRY, ARRAYS).to(getattr(torch, dtype)))
    assert entry == ENTRY
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
        assert array.flags.writeable


@pytest.mark.parametrize("place", [0, 3, 4, 11, 12, 100, -1])
def test_a_changed_byte_is_refused(place):
    data = encode(ENTRY, ARRAYS)
    data[place] ^= 1
    with pytest.raises(InputError, match="wrong checksum"):
        decode(data)


def test_newer_versions_are_refused(monkeypatch):
    monkeypatch.setattr(state, "FORMAT_VERSION", 2)
    data = encode(ENTRY, ARRAYS)
    assert decode(data)[0] == ENTRY
    monkeypatch.setattr(state, "FORMAT_VERSION", 1)
    with pytest.raises(InputError, match="version 2; this structmat reads up to 1"):
        decode(data)
    monkeypatch.setattr(state, "FORMAT_VERSION", 3)
    assert decode(data)[0] == ENTRY
