"""Records of array libraries: the operations and facts that the array API standard lacks.

A record adds crossing to and from NumPy, adding rows at given places, devices and streams, and
facts about gradients and memory. A new library is one more record; a library without a record
gets `GENERIC`, which uses the standard alone.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from operator import methodcaller
from types import ModuleType
from typing import Any, cast

import array_api_compat as compat
import numpy as np

from structmat._tensors import (
    is_sparse_tensor,
    tensor_fault,
    tensor_to_numpy,
    tensor_to_scipy,
)

Array = Any
Device = Any


@dataclass(frozen=True)
class Backend:
    """Operations and facts of one array library that the standard lacks.

    Parameters
    ----------
    name : str
        Import name of the library, as `StructuredMatrix.to` takes it.
    to_numpy : callable
        Array to a NumPy array on the host, without a copy where possible.
    from_numpy : callable
        ``(xp, array, device)`` to an array of this library.
    add_rows : callable
        ``(target, index, values)`` adds `values[i]` to row ``index[i]`` of `target`,
        for distinct indices, and returns the sum; `target` may be overwritten.
    records_gradients : callable
        True for an array that takes part in automatic differentiation; values computed
        from such an array are not cached. None for a library without gradients.
    caching : callable
        Namespace to the context in which values are computed that are cached for later
        products. A library with streams waits at its end, so that any stream may read them.
    current : callable
        Device to the context in which it is the current one. None for a library whose operations
        run on the device of their operands, whichever is current.
    device_name : callable
        Namespace and device to the name of its model, under which figures of it are kept.
    stored_by_columns : callable
        True for a two-dimensional array in column-major order: the result of its product
        is then laid out likewise. False where the library does not tell.
    fault : callable
        Reason why an array of this library does not multiply, and the remedy; empty for a
        plain one.
    to_scipy : callable
        A sparse array of this library as one of SciPy, and None for any other array. None
        for a library whose arrays are all dense.
    take : callable
        Entries of an array at indices along an axis, ``take(xp, x, indices, axis)``. No index
        is negative.
    version : callable
        Number of the changes of an array in place; None for a library that counts none.
    capturing : callable
        True while operations are recorded in a graph and not executed: what they compute is
        there once the graph was replayed, and not to be kept before.
    has_values : callable
        True for an array whose values may be read now, since nothing traces, transforms or
        captures what is computed from it.
    """

    name: str
    to_numpy: Callable[[Array], np.ndarray]
    from_numpy: Callable[[ModuleType, np.ndarray, Device], Array]
    add_rows: Callable[[Array, Array, Array], Array]
    records_gradients: Callable[[Array], bool] | None = None
    caching: Callable[[ModuleType], AbstractContextManager[Any]] = nullcontext
    current: Callable[[Device], AbstractContextManager[Any]] | None = None
    device_name: Callable[[ModuleType, Device], str] = lambda xp, place: str(place)
    stored_by_columns: Callable[[Array], bool] = lambda x: False
    fault: Callable[[Array], str] = lambda x: ""
    to_scipy: Callable[[Array], Any] | None = None
    take: Callable[[ModuleType, Array, Array, int], Array] = lambda xp, x, at, axis: xp.take(
        x, at, axis=axis
    )
    version: Callable[[Array], int] | None = None
    capturing: Callable[[], bool] = lambda: False
    has_values: Callable[[Array], bool] = lambda x: True


def _add_rows_in_place(target: Array, index: Array, values: Array) -> Array:
    target[index] += values
    return target


def _add_rows_by_product(target: Array, index: Array, values: Array) -> Array:
    xp = compat.array_namespace(target)
    rows = xp.arange(target.shape[0], device=compat.device(target))
    place = xp.astype(rows[:, None] == index[None, :], values.dtype)
    return target + place @ values


def _torch_device_name(xp: ModuleType, place: Device) -> str:
    if place.type != "cuda":
        return str(place.type)
    return str(importlib.import_module("torch").cuda.get_device_name(place))


def _torch_captures() -> bool:
    from structmat._derivatives import is_captured

    return is_captured()


def _torch_has_values(x: Array) -> bool:
    from structmat._derivatives import is_captured, is_traced, is_transformed

    return not (x.is_meta or is_captured() or is_traced() or is_transformed(x))


def _cupy_device_name(xp: ModuleType, place: Device) -> str:
    return str(xp.cuda.runtime.getDeviceProperties(place.id)["name"].decode())


@contextmanager
def _settled(xp: ModuleType) -> Iterator[None]:
    """Wait for what was computed in the current stream: products may come in another one."""
    yield
    xp.cuda.get_current_stream().synchronize()


def _from_numpy(xp: ModuleType, array: np.ndarray, device: Device) -> Array:
    return xp.asarray(array, device=device)


GENERIC = Backend("", np.from_dlpack, _from_numpy, _add_rows_by_product)

BACKENDS = {
    record.name: record
    for record in (
        Backend(
            "numpy",
            np.asarray,
            _from_numpy,
            _add_rows_in_place,
            stored_by_columns=lambda x: x.flags.f_contiguous and not x.flags.c_contiguous,
        ),
        Backend(
            "torch",
            tensor_to_numpy,
            lambda xp, array, device: xp.asarray(np.array(array), device=device),
            lambda target, index, values: target.index_add(0, index, values),
            lambda x: bool(x.requires_grad),  # which compilers follow
            # A tensor made in inference mode could never take part in a gradient later.
            methodcaller("inference_mode", False),
            device_name=_torch_device_name,
            stored_by_columns=lambda x: x.stride(0) == 1 and x.shape[1] > 1,
            fault=tensor_fault,
            to_scipy=lambda x: tensor_to_scipy(x) if is_sparse_tensor(x) else None,
            # Without the checks of the array API for negative indices.
            take=lambda xp, x, at, axis: x.index_select(axis, at),
            # Tensors of inference mode count no changes.
            version=lambda x: 0 if x.is_inference() else x._version,
            capturing=_torch_captures,
            has_values=_torch_has_values,
        ),
        Backend(
            "cupy",
            lambda x: x.get(),
            _from_numpy,
            _add_rows_in_place,
            caching=_settled,
            device_name=_cupy_device_name,
            # A device of its own for each context: it remembers, across threads, what was current.
            current=lambda device: cast(AbstractContextManager[Any], type(device)(device.id)),
        ),
    )
}
