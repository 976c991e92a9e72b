"""Arrays of any library: namespace, device, dtype, and operations outside the standard.

Operations of the array API standard are called on the namespace itself (``xp.matmul``,
``xp.take``); a record of `_backends` adds what the standard lacks. A library is imported when
one of its arrays, or its name, turns up.
"""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar, cast

import array_api_compat as compat
import numpy as np
from array_api_compat import device as device
from array_api_compat import to_device as to_device

from structmat._backends import BACKENDS, GENERIC, Backend
from structmat._backends import Array as Array
from structmat._backends import Device as Device
from structmat._checks import host_array
from structmat.errors import BackendError, InputError, MissingDependencyError, first_line

DType = Any
Method = TypeVar("Method", bound=Callable[..., Any])

# NumPy's namespace. Nearly every product asks for it, so it is compared by identity first.
_NUMPY = compat.array_namespace(np.zeros(0))


def namespace(*arrays: Array) -> ModuleType:
    """Array API namespace that all arrays share."""
    try:
        return compat.array_namespace(*arrays)
    except TypeError:
        kinds = sorted({f"{type(a).__module__}.{type(a).__qualname__}" for a in arrays})
        raise BackendError(
            f"arrays of type {', '.join(kinds)}; expected arrays of one library that follows "
            "the array API standard (convert with numpy.asarray, torch.as_tensor, …)"
        ) from None


def moved(x: Array, target: Any) -> Array:
    """An array on another device of its library."""
    try:
        return to_device(x, target)
    except (ValueError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
        reason = first_line(error)
        raise BackendError(
            f"{target!r} is neither a known library nor a device of "
            f"{backend_name(namespace(x))} ({reason}); expected one of "
            f"{', '.join(sorted(BACKENDS))}, or a device that is there"
        ) from None


def read_only(x: Array) -> Array:
    """Read-only view of a NumPy array; an array of another library itself."""
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
    return x


def belongs(x: Any, xp: ModuleType) -> bool:
    """True for an array of the library behind a namespace."""
    try:
        return compat.array_namespace(x) is xp
    except TypeError:
        return False


def common_device(*arrays: Array) -> Device:
    """Device that all arrays share."""
    devices = [device(a) for a in arrays]
    if any(d != devices[0] for d in devices):
        raise BackendError(
            f"arrays on devices {', '.join(map(str, devices))}; expected one (move them first)"
        )
    return devices[0]


def device_key(place: Device) -> str:
    """A device as a key of dictionaries: CuPy's own have no hash."""
    return str(place)


#: Names of devices by namespace and key: a driver may take a millisecond for one.
_device_names: dict[tuple[ModuleType, str], str] = {}


def device_name(xp: ModuleType, place: Device) -> str:
    """Name of the model of a device, such as "cpu" or "NVIDIA H200"."""
    key = xp, device_key(place)
    if key not in _device_names:
        _device_names[key] = backend_of(xp).device_name(xp, place)
    return _device_names[key]


def computing_on(xp: ModuleType, place: Device) -> AbstractContextManager[Any]:
    """The context in which operations of a library run on a device."""
    current = backend_of(xp).current
    return nullcontext() if current is None else current(place)


def on_own_device(method: Method) -> Method:
    """Let a method of a matrix compute on the device of its contents, whichever is current."""

    @wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        current = self._backend.current
        if current is None:
            return method(self, *args, **options)
        with current(self.device):
            return method(self, *args, **options)

    return cast(Method, run)


def on_operand_device(function: Method) -> Method:
    """Let a function compute on the device of its first operand, whichever is current."""

    @wraps(function)
    def run(x: Any, *args: Any, **options: Any) -> Any:
        if isinstance(x, np.ndarray) or not compat.is_array_api_obj(x):
            return function(x, *args, **options)
        with computing_on(namespace(x), device(x)):
            return function(x, *args, **options)

    return cast(Method, run)


def backend_of(xp: ModuleType) -> Backend:
    """Record of the library behind a namespace."""
    name = backend_name(xp)
    return BACKENDS.get(name) or replace(GENERIC, name=name)


def backend_name(xp: ModuleType) -> str:
    """Import name of the library behind a namespace.

    Examples
    --------
    >>> import numpy
    >>> backend_name(namespace(numpy.zeros(2)))
    'numpy'
    """
    return xp.__name__.removeprefix("array_api_compat.").split(".")[0]


def namespace_of_module(module: ModuleType) -> ModuleType:
    """Namespace of a library given as a module: its own, or the compatible one."""
    if module.__name__ in BACKENDS:
        return namespace_named(module.__name__)
    if not hasattr(module, "asarray") or not hasattr(module, "matmul"):
        raise BackendError(
            f"the module {module.__name__!r} is no array library; expected one that follows the "
            "array API standard, or the name of one"
        )
    return module


def namespace_named(name: str) -> ModuleType:
    """Namespace of a library given by import name; imports it."""
    try:
        if name in BACKENDS:
            return importlib.import_module(f"array_api_compat.{name}")
        return importlib.import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"the array library {name!r} is not installed; install it, or choose one of "
            f"{', '.join(sorted(BACKENDS))}"
        ) from None


def check_plain(x: Array, xp: ModuleType, name: str) -> None:
    """Refuse an array that its own library does not multiply: sparse, nested, quantized, …."""
    if fault := backend_of(xp).fault(x):
        raise InputError(f"{name} {fault}")


def has_gradients(xp: ModuleType) -> bool:
    """True for a library that differentiates by itself."""
    return backend_of(xp).records_gradients is not None


def is_numpy(xp: ModuleType) -> bool:
    """True for NumPy's namespace."""
    return xp is _NUMPY or backend_name(xp) == "numpy"


def to_numpy(x: Array) -> np.ndarray:
    """Array as a NumPy array on the host, which shares memory where possible."""
    return backend_of(namespace(x)).to_numpy(x)


def host_dtype(dtype: DType, xp: ModuleType) -> np.dtype:
    """NumPy's dtype for one of a library."""
    return to_numpy(xp.zeros(0, dtype=dtype)).dtype


def from_numpy(array: np.ndarray, xp: ModuleType, device: Device = None) -> Array:
    """NumPy array as an array of another library, on a device."""
    if is_numpy(xp):
        return array
    return backend_of(xp).from_numpy(xp, array, device)


def identity(n: int, dtype: DType, xp: ModuleType, device: Device) -> Array:
    """The identity (n, n), by a comparison: exporters cannot follow a diagonal that is filled."""
    place = xp.arange(n, device=device)
    return xp.astype(place[:, None] == place[None, :], dtype)


def taken(x: Array, at: Array, xp: ModuleType, *, axis: int) -> Array:
    """Entries of an array at indices along an axis, none of them negative."""
    return backend_of(xp).take(xp, x, at, axis)


def integers(array: np.ndarray, xp: ModuleType, device: Device) -> Array:
    """Index array for `xp.take` on a device."""
    return from_numpy(np.ascontiguousarray(array, dtype=np.int64), xp, device)


def masked(x: Array, keep: np.ndarray, xp: ModuleType) -> Array:
    """Entries where a mask on the host is True, and zeros, which infinities do not reach."""
    place = device(x)
    zero = xp.zeros((), dtype=x.dtype, device=place)
    return xp.where(from_numpy(keep, xp, place), x, zero)


def is_complex(x: Array, xp: ModuleType) -> bool:
    """True for an array of complex numbers."""
    return bool(xp.isdtype(x.dtype, "complex floating"))


def is_inexact(dtype: DType, xp: ModuleType) -> bool:
    """True for a real or complex floating dtype."""
    return is_dtype(dtype, ("real floating", "complex floating"), xp)


def is_dtype(dtype: DType, kinds: str | tuple[str, ...], xp: ModuleType) -> bool:
    """True for a dtype of these kinds of the standard; False for one that it does not know."""
    try:
        return bool(xp.isdtype(dtype, kinds))
    except TypeError:  # the dtype of NumPy's records, among others
        return False


def inexact(x: Array, xp: ModuleType, name: str) -> Array:
    """Array with integers turned into default floats; other non-numbers are refused."""
    if is_inexact(x.dtype, xp):
        return x
    if is_dtype(x.dtype, "integral", xp):
        with computing_on(xp, device(x)):
            return xp.astype(x, xp.__array_namespace_info__().default_dtypes()["real floating"])
    raise InputError(
        f"{name} has dtype {x.dtype}; expected real or complex numbers (convert it to floats first)"
    )


def floating_dtype(dtype: Any, xp: ModuleType) -> DType:
    """A real or complex floating dtype of a library, given as such or by name."""
    found = dtype
    if isinstance(dtype, str) and not (is_numpy(xp) and dtype):
        found = getattr(xp, dtype, None)
    try:
        if is_numpy(xp) and found is not None:
            found = np.dtype(found)
        if is_inexact(found, xp):
            return found
    except (TypeError, ValueError, AttributeError):
        pass  # no dtype of this library
    raise InputError(
        f"dtype {dtype!r} is none of {backend_name(xp)}'s for contents; expected a real or complex "
        "floating one, such as 'float32'"
    )


def conj(x: Array, xp: ModuleType) -> Array:
    """Complex conjugate; the array itself where it is real."""
    return xp.conj(x) if is_complex(x, xp) else x


def stored_by_columns(x: Array, xp: ModuleType) -> bool:
    """True for a matrix that is known to be in column-major order."""
    return backend_of(xp).stored_by_columns(x)


def product(A: Array, x: Array, xp: ModuleType, *, by_columns: bool) -> Array:
    """A @ x; with `by_columns` the result is in column-major order, without a copy."""
    if by_columns:
        return xp.matrix_transpose(xp.matrix_transpose(x) @ xp.matrix_transpose(A))
    return A @ x


def adjoint_times(A: Array, x: Array, xp: ModuleType) -> Array:
    """A^H @ x, conjugating the operand rather than the matrix."""
    return conj(xp.matrix_transpose(A) @ conj(x, xp), xp)


def adjoint(x: Array, xp: ModuleType) -> Array:
    """Conjugate transpose of the last two axes."""
    return conj(xp.matrix_transpose(x), xp)


def as_content(x: Any, name: str, ndim: int) -> Array:
    """Check one array of a matrix's contents: library, numbers, dimensions.

    Nested lists become NumPy arrays.
    """
    if isinstance(x, (list, tuple, int, float, complex, np.ndarray, np.generic)):
        x = host_array(x, name)
    xp = namespace(x)
    check_plain(x, xp, name)
    if x.dtype == object:
        raise InputError(f"{name} holds Python objects; expected real or complex numbers")
    if x.ndim != ndim:
        raise InputError(f"{name} has shape {tuple(x.shape)}; expected {ndim} dimensions")
    return inexact(x, xp, name)
