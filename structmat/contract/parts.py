"""Parts of a matrix: named arrays, children and static attributes, and matrices of changed parts.

That pair of arrays and attributes serves pickling, files, dtypes, devices and array libraries.
"""

import math
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, ClassVar, Self

from structmat import _array, _backends
from structmat._array import Array, DType
from structmat.contract.entries import EntryAccess
from structmat.errors import InputError
from structmat.kinds import kind_class


class Parts(EntryAccess):
    """Abstract operator made of parts, of which a matrix like it can be built again."""

    data_names: ClassVar[tuple[str, ...]] = ()
    static_names: ClassVar[tuple[str, ...]] = ()
    #: Names of the arrays that take a scalar factor; empty if scaling is lazy.
    scaled_names: ClassVar[tuple[str, ...]] = ()

    children: tuple["Parts", ...]

    def _static(self) -> dict[str, Any]:
        """Everything but arrays and children: integers, tuples, host index arrays."""
        return {name: getattr(self, name) for name in self.static_names}

    @classmethod
    def _build(
        cls,
        arrays: Mapping[str, Array],
        children: tuple["Parts", ...],
        static: Mapping[str, Any],
    ) -> Self:
        """Matrix from its parts, as `_leaves` and `_static` take it apart.

        The constructor gets them by name, or the class method `_from_parts` of a class whose
        constructor takes something else.
        """
        construct: Callable[..., Self] = getattr(cls, "_from_parts", cls)
        return construct(*children, **arrays, **static)

    def _leaves(self) -> list[Array]:
        found = [getattr(self, name) for name in self.data_names]
        for child in self.children:
            found += child._leaves()
        return found

    def _map(self, change: Callable[[Array], Array]) -> Self:
        """The same structure with every content array changed."""
        arrays = {name: change(getattr(self, name)) for name in self.data_names}
        children = tuple(child._map(change) for child in self.children)
        return type(self)._build(arrays, children, self._static())

    @property
    def storage(self) -> int:
        """Stored scalars, padding included; index arrays are not counted."""
        own = sum(math.prod(getattr(self, name).shape) for name in self.data_names)
        return own + sum(child.storage for child in self.children)

    @_array.on_own_device
    def astype(self, dtype: DType) -> Self:
        """The same matrix with contents of another real or complex floating dtype."""
        xp = self.xp
        dtype = _array.floating_dtype(dtype, xp)
        if xp.isdtype(self.dtype, "complex floating") and xp.isdtype(dtype, "real floating"):
            raise InputError(
                f"{self.dtype} to {dtype} would lose the imaginary part; expected a complex dtype"
            )
        return self._map(lambda a: xp.astype(a, dtype) if _array.is_inexact(a.dtype, xp) else a)

    def to(self, target: Any) -> Self:
        """The same matrix in another array library or on another device.

        Parameters
        ----------
        target : str, namespace, or device
            A library by import name (``"numpy"``, ``"torch"``, ``"cupy"``,
            ``"array_api_strict"``) or by namespace, or a device of the present one
            (``"cuda:0"``).
        """
        if isinstance(target, str) and target in (*_backends.BACKENDS, "array_api_strict"):
            target = _array.namespace_named(target)
        if not isinstance(target, ModuleType):
            return self._map(lambda a: _array.moved(a, target))
        xp = _array.namespace_of_module(target)
        return self._map(lambda a: _array.from_numpy(_array.to_numpy(a), xp))

    @_array.on_own_device
    def copy(self) -> Self:
        """A copy with contents of its own."""
        return self._map(lambda array: self.xp.astype(array, array.dtype, copy=True))

    @_array.on_own_device
    def _scale(self, scalar: Any, apply: Callable[[Any, Any], Any] = operator.mul) -> Any:
        """The matrix times, or divided by, a scalar; plain numbers keep the precision."""
        xp = self.xp
        records = self._backend.records_gradients
        is_variable = records and _array.belongs(scalar, xp) and records(scalar)
        if hasattr(scalar, "item") and not is_variable:
            scalar = scalar.item()
        if not self.scaled_names:
            special = getattr(self, "_scaled", None)
            found = NotImplemented if special is None else special(scalar, apply)
            if found is NotImplemented:
                return kind_class("scaled")(self, apply(1, scalar))
            return found
        arrays = {name: getattr(self, name) for name in self.data_names}
        for name in self.scaled_names:
            array = arrays[name]
            if isinstance(scalar, complex) and not _array.is_complex(array, xp):
                array = xp.astype(array, xp.result_type(array.dtype, xp.complex64))
            arrays[name] = apply(array, scalar)
        return type(self)._build(arrays, self.children, self._static())

    def _takes_numbers(self) -> bool:
        """True if the contents take a scalar factor in."""
        return bool(self.scaled_names) or hasattr(self, "_scaled")

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = {name: getattr(self, name) for name in self.data_names}
        # By class, not by kind: unpickling then imports the module that defines it.
        return type(self)._build, (arrays, self.children, self._static())
