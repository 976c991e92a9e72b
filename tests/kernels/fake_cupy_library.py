"""A whole array library that behaves as CuPy does with two devices, for matrices of every kind.

Its arrays wrap those of `fake_cupy`, and its functions are NumPy's. None converts to NumPy by
itself, and each operation checks that its operands are those of the current device, written in
the current stream or waited for.
"""

import operator
from functools import partial

import array_api_compat.numpy as compat
import numpy as np
from fake_cupy import Array as Inner
from fake_cupy import Device, FakeCupy, Place


class Array:
    """An array on a device."""

    __array_ufunc__ = None

    def __init__(self, inner, library):
        self._inner, self._library = inner, library

    def __array_namespace__(self, api_version=None):
        return self._library

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __getattr__(self, name):
        if name in ("shape", "dtype", "ndim", "size", "itemsize", "strides", "data", "device"):
            return getattr(self._inner, name)
        raise AttributeError(name)

    @property
    def T(self):
        return Array(self._inner.T, self._library)

    def get(self):
        return np.array(self._inner.view(np.ndarray))

    def copy(self):
        return self._library.call(np.ndarray.copy, self)

    def to_device(self, device, /, stream=None):
        assert isinstance(device, Device)
        with device:
            return self._library.asarray(self.get())

    def __getitem__(self, key):
        found = self._inner[_inside(key)]
        if not isinstance(found, np.ndarray):  # CuPy has no scalars
            found = np.asarray(found).view(Inner)
            found.place = self._inner.place
        return Array(found, self._library)

    def __setitem__(self, key, value):
        self._library.call(operator.setitem, self, key, value)
        self._inner.place = Place()

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __complex__(self):
        return complex(self.get())

    def item(self):
        return self.get().item()

    def __reduce__(self):
        return self._library.asarray, (self.get(),)


def _binary(name):
    def method(self, other):
        if not isinstance(other, (Array, int, float, complex, np.generic)):
            return NotImplemented
        return self._library.call(getattr(np.ndarray, name), self, other)

    return method


for _name in (
    *("add", "sub", "mul", "truediv", "matmul", "eq", "ne", "lt", "le", "gt", "ge", "and", "or"),
    *("radd", "rsub", "rmul", "rtruediv", "rmatmul"),
):
    setattr(Array, f"__{_name}__", _binary(f"__{_name}__"))
Array.__neg__ = lambda self: self._library.call(np.negative, self)
Array.__invert__ = lambda self: self._library.call(np.invert, self)
Array.__hash__ = object.__hash__


_made = []


def _present():
    """The library that was made last: what a pickled array comes back to."""
    return _made[-1]


class _Functions:
    """Functions of a module of NumPy's as those of a library."""

    def __init__(self, library, module):
        self._library, self._module = library, module

    def __getattr__(self, name):
        return partial(self._library.call, getattr(self._module, name))


class FakeLibrary(FakeCupy):
    """The namespace; kernels are those of a `FakeCupy` that has compiled them, if one is given."""

    def __init__(self, compiled=None):
        super().__init__()
        self.library = None if compiled is None else compiled.library
        self.called = []  # names of functions
        _made.append(self)

    def __reduce__(self):
        return _present, ()

    def __getattr__(self, name):
        found = getattr(compat, name)
        if not callable(found) or isinstance(found, type) or name.startswith("__"):
            return found
        return partial(self.call, found)

    @property
    def linalg(self):
        return _Functions(self, compat.linalg)

    def empty(self, shape, dtype=float, device=None):
        return Array(super().empty(shape, dtype), self)

    def asarray(self, values, dtype=None, device=None, copy=None):
        if isinstance(values, Array):
            return values
        with Device() if device is None else Device(device):
            values = np.asarray(values, dtype)
            array = FakeCupy.empty(self, values.shape, values.dtype)
            array.view(np.ndarray)[...] = values
            return Array(array, self)

    def isdtype(self, dtype, kind):
        return compat.isdtype(dtype, kind)

    def result_type(self, *given):
        return np.result_type(*(x.dtype if isinstance(x, Array) else x for x in given))

    def call(self, function, *args, device=None, **options):
        """A function of NumPy on the current device; the device that was asked for is ignored."""
        self.called.append(function.__name__)
        args, options = _inside(args), _inside(options)
        return self._outside(function(*args, **options))

    def _outside(self, result):
        if hasattr(result, "_fields"):
            return type(result)(*map(self._outside, result))
        if isinstance(result, (tuple, list)):
            return type(result)(map(self._outside, result))
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        array = np.asarray(result).view(Inner)
        array.place = Place()
        return Array(array, self)

    def RawModule(self, **options):
        module = super().RawModule(**options)
        get = module.get_function

        def get_function(name):
            kernel = get(name)
            return lambda grid, block, args, **rest: kernel(grid, block, _bare(args), **rest)

        module.get_function = get_function
        return module


def _bare(args):
    return tuple(a._inner if isinstance(a, Array) else a for a in args)


def _inside(value):
    """Operands without their wrappers, each checked against the current device and stream."""
    if isinstance(value, Array):
        value._inner.place.check()
        return value._inner.view(np.ndarray)
    if isinstance(value, dict):
        return {key: _inside(x) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_inside, value))
    assert not isinstance(value, np.ndarray), "an array of the host in an operation of the device"
    return value
