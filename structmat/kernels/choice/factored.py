"""Matrices made of sparse factors, and their products by the kernel of least expected time."""

import math
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import pairwise
from typing import Any

from structmat._array import Array
from structmat.kernels.bound import BoundKernel, DirectKernel, ListingKernel
from structmat.kernels.choice import contexts
from structmat.kernels.choice.record import (
    device_place,
    dtype_name,
    imports,
    is_modelled,
    is_on_device,
    is_tensor_on_device,
)
from structmat.kernels.choice.table import KERNELS, MOST_ONE_BY_ONE, torch_times
from structmat.kernels.cost_model.coefficients import CPU, place_of
from structmat.kernels.cost_model.devices import DeviceWork
from structmat.kernels.cost_model.kernel_time import KernelTime
from structmat.kernels.cost_model.prices import Work, gathering
from structmat.kernels.layouts.factors import FactorStructure

#: Numbers of columns at which the choice for tensors on a device may change.
_STEPS = (1, *(2**i for i in range(1, 18)))


class FactoredMatrix:
    """A = R [C^H; I] ready to multiply, from packed contents of R and, if there is one, C.

    With `weighed` a layer has taken the structure and not the dense weight: tensors on a device
    then go by a default kernel, never by the dense matrix.
    """

    def __init__(
        self, structure: FactorStructure, contents: list[Array], *, weighed: bool = False
    ) -> None:
        self.structure, self.shape, self.contents = structure, structure.shape, contents
        self._bound: dict[str, BoundKernel] = {}
        self._chosen: dict[tuple[int, tuple[int, ...]], BoundKernel] = {}
        self._is_modelled, self._is_on_device = is_modelled(structure), is_on_device(structure)
        self._by_steps = not weighed and is_tensor_on_device(structure, contents)
        self._steps: list[int] = []
        if self._by_steps:
            # A tracer asks for any number of columns, so the choice is made before.
            names = [self.choose(columns) for columns in _STEPS]
            pairs = zip(_STEPS[1:], pairwise(names), strict=True)
            self._steps = [step for step, (before, after) in pairs if before != after]
            structure.kept(f"chosen {dtype_name(contents)}", self._lay_out)
        elif not (self._is_modelled or self._is_on_device):
            self._steps = KERNELS.default_steps(structure, contents)
            # Now, while layouts may be kept: a tracer may ask for the product later.
            structure.kept(f"defaults {dtype_name(contents)}", self._lay_out)
            self._chosen[1, ()] = self.bound(KERNELS.default(structure, contents, 1).name)

    def _lay_out(self) -> list[str]:
        """Lay the structure out for all kernels that may be chosen; their names."""
        names = [self.choose(columns) for columns in (1, *self._steps)]
        for name in set(names if self._by_steps else names[1:]):
            if name != KERNELS.dense.name:  # which has no layout, and much memory
                KERNELS.bind(name, self.structure, self.contents)
        return names

    @cached_property
    def work(self) -> Work:
        """Counts of what products do."""
        return Work.of(self.structure, self.contents)

    @cached_property
    def device_work(self) -> DeviceWork:
        """Counts of what products do on a device."""
        return DeviceWork.of(self.structure, self.contents)

    @cached_property
    def place(self) -> str:
        """The device and the dtype of products; empty on a CPU."""
        place = device_place(self.structure, self.contents)
        return "" if self._is_modelled or place == place_of(CPU) else place

    @cached_property
    def kernels(self) -> list[str]:
        """Names of the kernels that fit, and whose packages are installed."""
        return KERNELS.fitting(self.structure, self.contents)

    def expected(self, columns: int) -> dict[str, float]:
        """Seconds that each kernel is expected to take; empty where no times are known."""
        if self._is_modelled or self._is_on_device:
            times = self._times(columns)
        elif self.place:
            times = self._times_on_device(columns)
        else:
            compiled = [name for name in self.kernels if KERNELS[name].package]
            return {name: self.timed(name).seconds(columns) for name in compiled}
        return {name: seconds for name, (seconds, _) in times.items()}

    def timed(self, kernel: str) -> KernelTime:
        """Expected times of products by a compiled kernel of torch: one thread's, or a device's."""
        if self.place:
            figures = KERNELS.figures(self.place).get(kernel, ())
            return KernelTime(KERNELS[kernel].on_devices, self.device_work, figures)
        own, single = torch_times(KERNELS[kernel], self.work)
        return own._replace(few=single, most=MOST_ONE_BY_ONE)

    def choose(self, columns: int, around: tuple[int, ...] = ()) -> str:
        """Name of the kernel that promises the least time for a number of columns.

        `around` are the lengths of the orders that the matrix stands between.
        """
        times = self._times(columns, around)
        if not times and (self._is_on_device or self._by_steps):
            return KERNELS.without_times(self.structure, self.contents, self.device_work).name
        if not times:
            return KERNELS.default(self.structure, self.contents, columns).name
        ranked = sorted(times, key=lambda name: math.prod(times[name]))
        return next(name for name in ranked if imports(KERNELS[name].package))

    def note(self, columns: int) -> str:
        """A sentence on the choice where the device has no figures; else empty."""
        if not self.place or self.expected(columns):
            return ""
        if not (self._is_on_device or self._by_steps):
            return (
                f"no times are known for {self.place}: the number of columns decides (force the "
                "dense matrix by structmat.kernels.using)"
            )
        chosen = KERNELS.without_times(self.structure, self.contents, self.device_work)
        why = "is never slower than itself" if chosen is KERNELS.dense else "takes little memory"
        return (
            f"no times are known for {self.place}: {chosen.what} multiplies, which {why} (measure "
            "the device by structmat calibrate --device cuda)"
        )

    def _times(self, columns: int, around: tuple[int, ...] = ()) -> dict[str, tuple[float, float]]:
        """Expected seconds of each kernel, and the margin to compare them with."""
        if self._is_on_device or self._by_steps:
            return self._times_on_device(columns)
        if not self._is_modelled:
            return {}
        known, work = KERNELS.coefficients(), self.work
        prices = KERNELS.compared(self.structure, self.contents, work)
        gathers = gathering(work, around, columns) if around else 0.0
        free = [name for name in prices if KERNELS[name].takes_orders(self.structure)]
        return {
            name: (
                price.seconds(work, columns, known[name]) + gathers * (name not in free),
                price.margin,
            )
            for name, price in prices.items()
        }

    def _times_on_device(self, columns: int) -> dict[str, tuple[float, float]]:
        """The same on a device, for kernels of which the device has figures."""
        if not (known := KERNELS.figures(self.place)):
            return {}
        work = self.device_work
        prices = KERNELS.compared_on_device(self.structure, self.contents, work, known=known)
        return {
            name: (price.seconds(work, columns, known[name]), price.margin)
            for name, price in prices.items()
        }

    def counted(self, columns: int) -> int:
        """A number of columns that stands for all with the same kernel.

        Each number stands for itself where times are known; else 1 and the steps of the
        defaults do. Without steps `columns` may be a symbol of a tracer: nothing reads it.
        """
        if self._is_modelled or self._is_on_device:
            return columns
        counted = 1
        for step in self._steps:
            if columns >= step:
                counted = step
        return counted

    def bound(self, kernel: str) -> BoundKernel:
        """The matrix bound to a kernel, once; errors say why it cannot be."""
        if kernel not in self._bound:
            with self._binding():
                made = KERNELS.bind(kernel, self.structure, self.contents)
            if self.structure.backend.capturing():
                return made
            self._bound[kernel] = made
        return self._bound[kernel]

    def _binding(self) -> AbstractContextManager[Any]:
        # Dynamo cannot enter the first one, and never meets it.
        structure = self.structure
        return structure.backend.caching(structure.xp) if self._by_steps else structure.binding()

    def multiply(self, x: Array, around: tuple[int, ...] = ()) -> Array:
        """A x: (n, k) to (m, k), for a matrix between orders of these lengths."""
        return self.bound_to(x.shape[1], around).multiply(x, by_columns=self.by_columns(x))

    def multiply_adjoint(self, y: Array, around: tuple[int, ...] = ()) -> Array:
        """A^H y: (m, k) to (n, k), for a matrix between orders of these lengths."""
        return self.bound_to(y.shape[1], around).multiply_adjoint(y, by_columns=self.by_columns(y))

    def listing(self, x: Array, around: tuple[int, ...]) -> ListingKernel | None:
        """The kernel for an operand, if it lists places one by one.

        `around` are the lengths of the orders that the matrix stands between.
        """
        bound: Any = self.bound_to(x.shape[1], around)
        lists = getattr(bound, "lists", None)
        return bound if lists is not None and lists(x) else None

    def by_columns(self, x: Array) -> bool:
        """Tell whether the result is to lie as the operand does, column after column."""
        return x.shape[1] > 1 and self.structure.backend.stored_by_columns(x)

    def direct(self, columns: int) -> DirectKernel | None:
        """The kernel on NumPy for plain tensors on the CPU; None if they go another way."""
        direct = getattr(self.bound_to(columns), "direct", None)
        return None if direct is None else direct(columns)

    def bound_to(self, columns: int, around: tuple[int, ...] = ()) -> BoundKernel:
        """The kernel for a number of columns, between orders: the forced one, or the quickest."""
        if contexts.entered and (bound := self._attended(columns)) is not None:
            return bound
        # Times are known on NumPy alone, where the choice follows them.
        key = columns, around = self.counted(columns), around if self._is_modelled else ()
        bound = self._chosen.get(key)
        if bound is None:
            name = self._name_for(columns, around)
            bound = self.bound(name)
            # Else it is not to be kept, and neither here.
            if self._bound.get(name) is bound:
                self._chosen[key] = bound
        return bound

    def _attended(self, columns: int) -> BoundKernel | None:
        """The kernel that a context forces, if one does; contexts that watch are told of it."""
        forced, found = contexts.forced.get(), contexts.watching.get()
        if found is not None:
            name = self.choose(columns) if forced is None else forced
            if KERNELS[name].package:
                found.append(self.timed(name))
        return None if forced is None else self.bound(forced)

    def _name_for(self, columns: int, around: tuple[int, ...]) -> str:
        """Name of the kernel chosen; a trace does not write out a dense matrix on its way."""
        name = self.choose(columns, around)
        if not self._by_steps or name in self._bound or name != KERNELS.dense.name:
            return name
        from structmat._derivatives import is_traced

        if not is_traced():
            return name
        return KERNELS.default(self.structure, self.contents, columns).name
