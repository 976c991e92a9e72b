"""Damage to files: bits, bytes, cuts, splices, and files whose own checksums are right again."""

import base64
import io
import json
import time
import warnings
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np

try:
    import resource
except ImportError:  # not on Windows
    resource = None

#: Seconds and bytes that reading one file may take.
SECONDS, BYTES = 2.0, 2**30
#: Bytes in which headers stand.
HEAD = 2048


@contextmanager
def bounded():
    """Allow this process no more than `BYTES` beside what it has, where a system knows limits."""
    if resource is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def timed(call):
    """Result of a call that has to take less than `SECONDS` of this process."""
    begin = time.process_time()
    try:
        return call()
    finally:
        assert time.process_time() - begin < SECONDS


def every_bit(data, step=1):
    """Every file with one bit wrong, or every `step`-th of them."""
    for place in range(0, 8 * len(data), step):
        yield flipped(data, place)


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def random_damage(rng, samples, rewrites):
    """One damaged file, drawn from samples and from `rewrites`, which keep checksums right."""
    data = samples[rng.integers(len(samples))]
    kinds = [*PLAIN, *rewrites]
    return kinds[rng.integers(len(kinds))](rng, data, samples)


def _bit(rng, data, _samples):
    return flipped(data, int(rng.integers(8 * len(data))))


def _head_bytes(rng, data, _samples):
    return _bytes_within(rng, data, min(HEAD, len(data)))


def _some_bytes(rng, data, _samples):
    return _bytes_within(rng, data, len(data))


def _bytes_within(rng, data, end):
    damaged = bytearray(data)
    for place in rng.integers(end, size=rng.integers(1, 9)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def _truncated(rng, data, _samples):
    return data[: rng.integers(len(data))]


def _extended(rng, data, _samples):
    return data + rng.bytes(int(rng.integers(1, 100)))


def _spliced(rng, data, samples):
    other = samples[rng.integers(len(samples))]
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def _repeated(rng, data, _samples):
    a, b = sorted(rng.integers(len(data) + 1, size=2))
    return data[:b] + data[a:]


def _removed(rng, data, _samples):
    a, b = sorted(rng.integers(len(data) + 1, size=2))
    return data[:a] + data[b:]


PLAIN = [_bit, _head_bytes, _some_bytes, _truncated, _extended, _spliced, _repeated, _removed]


# Archives: members changed, and all checksums of the archive right again.


def _members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _zipped(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name may be there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def _member_damaged(rng, data, samples):
    members = _members(data)
    at = rng.integers(len(members))
    name, content = members[at]
    damage = PLAIN[rng.integers(len(PLAIN))]
    members[at] = name, damage(rng, content, [c for _, c in members])
    return _zipped(members)


def _member_lost(rng, data, _samples):
    members = _members(data)
    del members[rng.integers(len(members))]
    return _zipped(members)


def _member_exchanged(rng, data, samples):
    members, other = _members(data), _members(samples[rng.integers(len(samples))])
    at = rng.integers(len(members))
    members[at] = members[at][0], other[rng.integers(len(other))][1]
    return _zipped(members)


def _member_twice(rng, data, samples):
    members, other = _members(data), _members(samples[rng.integers(len(samples))])
    name, _ = members[rng.integers(len(members))]
    return _zipped([*members, (name, other[rng.integers(len(other))][1])])


def _compressed(rng, data, _samples):
    return _zipped(_members(data), zipfile.ZIP_DEFLATED)


def _endless(rng, data, _samples):
    """A member of zeros that is small while it is compressed."""
    file = io.BytesIO()
    head = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": (2**24,)}
    np.lib.format.write_array_header_1_0(head, fields)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _members(data)[1:]:
            archive.writestr(name, content)
        archive.writestr("u.npy", head.getvalue() + bytes(2**20))
    return file.getvalue()


ARCHIVES = [
    _member_damaged,
    _member_lost,
    _member_exchanged,
    _member_twice,
    _compressed,
    _endless,
]


# Files of tensors: their header rewritten, of the right length again.


def _header_rewritten(rng, data, _samples):
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    one, other = (names[i] for i in rng.integers(len(names), size=2))
    change = rng.integers(6)
    if change == 0:
        header[one], header[other] = header[other], header[one]
    elif change == 1:
        header[one]["dtype"] = str(rng.choice(["F32", "I32", "F64", "U8", "BF16", "I64", "X9"]))
    elif change == 2:
        header[one]["shape"] = [int(s) for s in rng.integers(0, 2 ** rng.integers(1, 62), 2)]
    elif change == 3:
        header[one]["data_offsets"] = [int(s) for s in sorted(rng.integers(0, 2**40, 2))]
    elif change == 4:
        del header[one]
    else:
        header["__metadata__"] = {k: v[:-5] for k, v in header["__metadata__"].items()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _name_twice(rng, data, _samples):
    length = int.from_bytes(data[:8], "little")
    text, body = data[8 : 8 + length].strip(), data[8 + length :]
    header = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    name = names[rng.integers(len(names))]
    text = text[:-1] + b"," + json.dumps({name: header[name]}).encode()[1:]
    return len(text).to_bytes(8, "little") + text + body


def _lying_length(rng, data, _samples):
    return int(rng.integers(2**62)).to_bytes(8, "little") + data[8:]


TENSORS = [_header_rewritten, _name_twice, _lying_length]

# Structures in config.json: their text changed, and compressed and written in letters again.


def _written(text):
    return base64.b64encode(zlib.compress(text))


def _text_damaged(rng, data, samples):
    texts = [zlib.decompress(base64.b64decode(sample)) for sample in samples]
    text = zlib.decompress(base64.b64decode(data))
    return _written(PLAIN[rng.integers(len(PLAIN))](rng, text, texts))


def _claim(rng, data, _samples):
    """A size that no file has, in a text that is older than digests."""
    known = json.loads(zlib.decompress(base64.b64decode(data)))
    del known["digest"], known["format_version"]
    size = int(2 ** rng.integers(20, 62))
    tensors, index = known["tensors"], known["index"]
    name = rng.choice(list(tensors) or list(index))
    (tensors if name in tensors else index)[name][1] = [size, 1][:: rng.choice([-1, 1])]
    return _written(json.dumps(known).encode())


def _inflating(_rng, data, _samples):
    return _written(zlib.decompress(base64.b64decode(data)) + b" " * 5_000_000)


CONFIGS = [*[_text_damaged] * 4, _claim, _inflating]

#: Files of other programs, or of none.
FOREIGN = [
    b"",
    b"\x00",
    bytes(4096),
    b"PK\x05\x06" + bytes(18),
    b"\x93NUMPY\x01\x00",
    b"\x80\x04\x95",
    b"\x89PNG\r\n\x1a\n" + bytes(100),
    b"%PDF-1.7",
    b"SQLite format 3\x00" + bytes(200),
    b"{}",
    b"\x02" + bytes(7) + b"{}",
    b"\xff" * 64,
    "ß".encode() * 50,
]
