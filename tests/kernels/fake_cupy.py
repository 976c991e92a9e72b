"""CuPy as far as `structmat.kernels.cuda.intervals` needs it, on a CPU: NumPy and g++ for NVRTC.

Every array lies between guard zones. New ones are full of NaN, so that what a kernel
leaves unwritten, or reads from elsewhere, shows in the result; `check_guards` finds what
was written beside those made since it was last called.
"""

import ctypes
import shutil
import subprocess
from contextlib import nullcontext
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


class Array(np.ndarray):
    """A NumPy array with the attributes that only CuPy's have."""

    device = nullcontext()

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


class FakeCupy(ModuleType):
    """The namespace; `backwards` runs the threads of a block in the other order."""

    def __init__(self, folder):
        super().__init__("fake_cupy")
        self.library = _compiled(folder)
        self.backwards = False
        self.launched = []  # names of kernels and numbers of blocks
        self._buffers = []

    def empty(self, shape, dtype):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = np.full(size + 2 * GUARD, 0xFF, np.uint8)
        self._buffers.append((buffer, size))
        return buffer[GUARD : GUARD + size].view(dtype).reshape(shape).view(Array)

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
