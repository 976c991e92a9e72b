"""CuPy as far as structmat needs it, on a CPU: NumPy, and g++ for NVRTC.

Every array lies between guard zones. New ones are full of NaN, so that what a kernel
leaves unwritten, or reads from elsewhere, shows in the result; `check_guards` finds what
was written beside those made since it was last called.

There are two devices, with streams. As in CuPy 14, a device has no hash, new arrays lie on the
current device whatever ``device=`` says, and kernels run on the current one. What would be an
access to another device, or to what another stream may not have written yet, is an error here.
"""

import ctypes
import shutil
import subprocess
import threading
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "structmat" / "kernels" / "cuda" / "intervals.cu"
GUARD = 2**14  # bytes; a multiple of every scalar's size
SIZES = {"float": 4, "double": 8, "Complex<float>": 8, "Complex<double>": 16}
KERNELS = [
    f"rmatmat<{scalar}, {columns}, {threads}>"
    for scalar, columns, threads in product(SIZES, (1, 2, 4, 8), (8, 32, 512))
] + [
    f"matmat<{scalar}, {columns}, {rows}>"
    for scalar, columns, rows in product(SIZES, (1, 2, 4, 8), (1, 2, 4))
    if rows == 1 or rows * columns * SIZES[scalar] <= 32
]


_now = threading.local()  # the current device, and the current stream of each


class Device:
    """A device: equal by number, without a hash, and a context that makes it the current one."""

    __hash__ = None

    def __init__(self, device=None):
        self.id = getattr(_now, "device", 0) if device is None else int(device)
        self._before = []

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        self._before.append(getattr(_now, "device", 0))
        _now.device = self.id
        return self

    def __exit__(self, *_):
        _now.device = self._before.pop()


class Stream:
    """A stream of the current device; its work counts as done once it was waited for."""

    def __init__(self):
        self.started = self.done = 0

    def synchronize(self):
        self.done = self.started

    def __enter__(self):
        self._before, streams = current_stream(), _streams()
        streams[Device().id] = self
        return self

    def __exit__(self, *_):
        _streams()[Device().id] = self._before


def _streams():
    if not hasattr(_now, "streams"):
        _now.streams = {}
    return _now.streams


def current_stream():
    return _streams().setdefault(Device().id, Stream())


def properties(number):
    return {"name": f"Imagined {number}".encode()}


class Place:
    """Device and stream in which an array was last written."""

    def __init__(self):
        self.device, self.stream = Device(), current_stream()
        self.stream.started += 1
        self.time = self.stream.started

    def check(self):
        assert self.device == Device(), f"an array of {self.device} while {Device()} is current"
        seen = self.stream is current_stream() or self.time <= self.stream.done
        assert seen, "an array that another stream may not have written yet"


class Array(np.ndarray):
    """A NumPy array with the attributes that only CuPy's have."""

    def __array_finalize__(self, other):
        self.place = getattr(other, "place", None) or Place()

    @property
    def device(self):
        return Device(self.place.device)

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


class FakeCupy(ModuleType):
    """The namespace; `backwards` runs the threads of a block in the other order."""

    def __init__(self, folder=None):
        super().__init__("cupy.fake")
        self.library = None if folder is None else _compiled(folder)
        runtime = SimpleNamespace(getDeviceCount=lambda: 2, getDeviceProperties=properties)
        self.cuda = SimpleNamespace(
            Device=Device, Stream=Stream, get_current_stream=current_stream, runtime=runtime
        )
        self.backwards = False
        self.launched = []  # names of kernels and numbers of blocks
        self._buffers = []

    def empty(self, shape, dtype):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = np.full(size + 2 * GUARD, 0xFF, np.uint8)
        self._buffers.append((buffer, size))
        array = buffer[GUARD : GUARD + size].view(dtype).reshape(shape).view(Array)
        array.place = Place()
        return array

    def asarray(self, values):
        values = np.asarray(values)
        array = self.empty(values.shape, values.dtype)
        array[...] = values
        return array

    def check_guards(self):
        for buffer, size in self._buffers:
            assert (buffer[:GUARD] == 0xFF).all(), "a write before an array"
            assert (buffer[GUARD + size :] == 0xFF).all(), "a write behind an array"
        self._buffers.clear()

    def RawModule(self, *, code, options, name_expressions):
        assert code == SOURCE.read_text()
        assert options == ("-std=c++17",)
        (name,) = name_expressions
        sizes = (ctypes.c_int * 16)()
        count = self.library.argument_sizes(name.encode(), sizes)
        assert count, f"no kernel {name}"

        def kernel(grid, block, args, *, shared_mem=0):
            assert len(args) == count
            for array in (a for a in args if isinstance(a, Array)):
                array.place.check()
            values = [_value(a, size) for a, size in zip(args, sizes, strict=False)]
            pointers = (ctypes.c_void_p * count)(*(v.ctypes.data for v in values))
            self.launched.append((name, grid[0]))
            wrong = self.library.launch(
                *(name.encode(), *grid, *block, ctypes.c_size_t(shared_mem)),
                *(pointers, int(self.backwards)),
            )
            assert not wrong, f"{name}: {wrong.decode()}"

        return SimpleNamespace(get_function=lambda wanted: {name: kernel}[wanted])


def _value(argument, size):
    """An argument as CuPy passes it: arrays by address, NumPy scalars as they are."""
    if isinstance(argument, Array):
        assert argument.ctypes.data % argument.itemsize == 0, "a GPU faults on such an address"
        argument = np.uint64(argument.ctypes.data)
    assert isinstance(argument, np.generic), f"{argument!r} has no size of its own"
    assert argument.itemsize == size, f"{argument!r} where the kernel takes {size} bytes"
    return np.array([argument])


def _compiled(folder):
    table = "".join(f'{{"{name}", Launch<{name}>::entry()}},\n' for name in KERNELS)
    code = f'#include "{HERE / "cuda_shim.h"}"\n#include "{SOURCE}"\n'
    code += f"std::map<std::string, Kernel> kernels() {{ return {{{table}}}; }}\n"
    (folder / "kernels.cpp").write_text(code)
    command = [shutil.which("g++"), "-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra"]
    # Jumps between stacks are what a fortified longjmp takes for an error.
    command += [
        "-U_FORTIFY_SOURCE",
        "-Wno-unknown-pragmas",
        "-Werror",
        "-o",
        "kernels.so",
        "kernels.cpp",
    ]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    library = ctypes.CDLL(str(folder / "kernels.so"))
    library.launch.restype = ctypes.c_char_p
    return library
