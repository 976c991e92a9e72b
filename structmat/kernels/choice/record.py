"""The record of a kernel, requirements that records share, and the choice among records."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Container
from dataclasses import dataclass

from structmat._array import Array, device_name
from structmat.errors import InputError, MissingDependencyError
from structmat.kernels.bound import BoundKernel
from structmat.kernels.cost_model.coefficients import (
    Coefficients,
    measured_at,
    measured_or,
    place_of,
)
from structmat.kernels.cost_model.devices import DevicePrice, DeviceWork
from structmat.kernels.cost_model.prices import Price, Work
from structmat.kernels.cpu.threads import num_threads
from structmat.kernels.layouts.factors import FactorStructure
from structmat.kernels.layouts.panels import RunPattern

#: Scalars that a kernel may keep for one stored scalar, and at all, to be compared.
_MOST_PER_SCALAR, _MOST_SCALARS = 32, 2**20
#: Scalars that a kernel may keep on a device to be compared there: memory is rarely short.
_MOST_DEVICE_SCALARS = 2**28
#: Numbers that a price on devices multiplies.
_DEVICE_COUNTS = 3
#: Stored scalars that a run counts for, since each takes time to start.
_SCALARS_PER_RUN = 16
#: Number of columns for which compiled defaults are compared.
_MANY_COLUMNS = 256
#: Devices of torch whose products have no times of a device: a CPU's, and none at all.
_WITHOUT_TIMES = ["cpu", "meta"]
#: Packages that are installed: looked for, not imported.
_PRESENT = {name for name in ("numba", "triton") if importlib.util.find_spec(name)}
#: Packages whose import succeeded.
_IMPORTED: set[str] = set()

#: Binding of a kernel to the structure and the packed contents of a matrix.
Bind = Callable[[FactorStructure, list[Array]], BoundKernel]
#: Requirement: the condition that a matrix fails, or "" where it fits.
Requirement = Callable[[FactorStructure, list[Array]], str]


def has(package: str) -> bool:
    """Tell whether a package is installed, without importing it; "" always is."""
    return not package or package in _PRESENT


def imports(package: str) -> bool:
    """Tell whether a package can be imported; if not, it counts as absent from now on."""
    if not package or package in _IMPORTED:
        return True
    try:
        importlib.import_module(package)
    except ImportError as reason:
        _PRESENT.discard(package)
        warnings.warn(
            f"{package} is installed but cannot be imported ({reason}); products go on without it",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    _IMPORTED.add(package)
    return True


@dataclass(frozen=True)
class Kernel:
    """One way to multiply by a matrix made of sparse factors.

    Parameters
    ----------
    name : str
        For `using` and `plan`.
    what : str
        A few words for a person.
    bind : callable
    wants : callable
        The requirement on library, device, dtype and structure.
    package : str
        An optional package that the kernel needs.
    install : str
        Argument of ``pip install`` that brings the package.
    least_scalars : int
        Stored scalars from which on the kernel is worth its preparation; a run counts for
        some of them.
    price : Price, optional
        Memory and time on a CPU; a kernel without it is never compared there by its time.
    on_devices : DevicePrice, optional
        Memory and time on devices, likewise.
    default_from, default_to : int
        Numbers of columns for which the kernel is the default where no times are known: of
        the kernels that fit, the last one in the table is. By default, for none.
    off_cpu : bool
        Whether the kernel is a default on devices alone.
    takes_orders : callable
        True for a structure whose rows and columns the kernel finds in other orders at no cost
        on NumPy; others gather operand and result.
    """

    name: str
    what: str
    bind: Bind
    wants: Requirement
    package: str = ""
    install: str = "'structmat[fast]'"
    least_scalars: int = 0
    price: Price | None = None
    on_devices: DevicePrice | None = None
    default_from: int = sys.maxsize
    default_to: int = sys.maxsize
    off_cpu: bool = False
    takes_orders: Callable[[FactorStructure], bool] = lambda structure: False

    def is_worth(self, scalars: int, runs: int) -> bool:
        """Tell whether a number of stored scalars and of runs is worth the preparation."""
        return scalars + _SCALARS_PER_RUN * runs >= self.least_scalars

    def serves(self, structure: FactorStructure, contents: list[Array]) -> bool:
        """Tell whether the kernel fits a matrix, and its package is installed."""
        return has(self.package) and not self.wants(structure, contents)


def on(
    *libraries: str, dtypes: tuple[str, ...] = (), device: str = "", runs: bool = False
) -> Requirement:
    """Require one of these libraries, dtypes and a kind of device; none named means any.

    With `runs` both factors must consist of runs.
    """

    def wants(structure: FactorStructure, contents: list[Array]) -> str:
        if runs and not all(isinstance(p, RunPattern) for p in (structure.row, structure.col)):
            return "a GBLR matrix"
        if libraries and structure.library not in libraries:
            return f"contents of {' or '.join(libraries)}, not {structure.library}"
        dtype = dtype_name(contents)
        if dtypes and dtype not in dtypes:
            return f"contents of {', '.join(dtypes)}, not {dtype}"
        if not str(structure.device).startswith(device):
            return f"contents on a {device.upper()} device"
        return ""

    return wants


def device_place(structure: FactorStructure, contents: list[Array]) -> str:
    """The place of figures for products of a matrix on its device."""
    name = device_name(structure.xp, structure.device)
    return place_of(name, dtype=dtype_name(contents))


def dtype_name(contents: list[Array]) -> str:
    """The dtype of contents, without its library."""
    return str(contents[0].dtype).rpartition(".")[2]


def is_modelled(structure: FactorStructure) -> bool:
    """Tell whether times are known on the CPU: they are measured with NumPy."""
    return structure.library == "numpy"


def is_on_device(structure: FactorStructure) -> bool:
    """Tell whether kernels are compared by their times on a device: those of CuPy."""
    return structure.library == "cupy"


def is_tensor_on_device(structure: FactorStructure, contents: list[Array]) -> bool:
    """Tell whether contents are tensors on a device that have nothing to learn.

    Those that learn change with each product, and those of a trace are not there yet.
    """
    if structure.library != "torch" or str(structure.device) in _WITHOUT_TIMES:
        return False
    from structmat._derivatives import is_traced, is_transformed

    learns = any(c.requires_grad for c in contents)
    return not (learns or is_traced() or is_transformed(*contents))


class KernelTable(dict[str, Kernel]):
    """Records by name.

    The first one is the reference, which fits every matrix; the last one, the dense matrix, is
    what times are compared to.
    """

    def __init__(self, *kernels: Kernel) -> None:
        super().__init__({kernel.name: kernel for kernel in kernels})
        self.dense = kernels[-1]

    def check_name(self, kernel: object) -> None:
        """Refuse a name that no kernel has."""
        if not isinstance(kernel, str) or kernel not in self:
            raise InputError(f"kernel = {kernel!r}; expected one of {', '.join(self)}")

    def fitting(self, structure: FactorStructure, contents: list[Array]) -> list[str]:
        """Names of the kernels that can multiply by a matrix, here and now."""
        return [name for name, kernel in self.items() if kernel.serves(structure, contents)]

    def bind(self, name: str, structure: FactorStructure, contents: list[Array]) -> BoundKernel:
        """A kernel, by its name, bound to a matrix; errors say why it cannot be."""
        self.check_name(name)
        kernel = self[name]
        if wanted := kernel.wants(structure, contents):
            raise InputError(
                f"the kernel {name!r} does not fit this matrix; expected {wanted} (choose one of "
                f"{', '.join(self.fitting(structure, contents))})"
            )
        if not has(kernel.package) or not imports(kernel.package):
            raise MissingDependencyError(
                f"the kernel {name!r} needs {kernel.package}, which is not installed; install it "
                f"with pip install {kernel.install}"
            )
        return kernel.bind(structure, contents)

    def compared(
        self, structure: FactorStructure, contents: list[Array], work: Work
    ) -> dict[str, Price]:
        """Prices of the kernels to choose from: not of those of much memory or preparation."""
        limit = max(_MOST_PER_SCALAR * work.scalars, _MOST_SCALARS) * work.itemsize
        found, reference = {}, next(iter(self))
        for name in self.fitting(structure, contents):
            kernel = self[name]
            if (price := kernel.price) is None or not kernel.is_worth(work.scalars, work.middle):
                continue
            if price.dtypes and dtype_name(contents) not in price.dtypes:
                continue
            if name == reference or price.size(work) <= limit:
                found[name] = price
        return found

    def compared_on_device(
        self,
        structure: FactorStructure,
        contents: list[Array],
        work: DeviceWork,
        *,
        known: Container[str] | None = None,
    ) -> dict[str, DevicePrice]:
        """Prices of the kernels to choose from on a device: not of those of much memory.

        With `known` only those in it are asked for their memory.
        """
        limit = max(_MOST_PER_SCALAR * work.scalars, _MOST_DEVICE_SCALARS) * work.itemsize
        return {
            name: price
            for name in self.fitting(structure, contents)
            if known is None or name in known
            if (price := self[name].on_devices) is not None and price.size(work) <= limit
        }

    def coefficients(self, *, threads: int | None = None) -> Coefficients:
        """Coefficients of all kernels that have a price: measured on this machine, or shipped.

        Those measured with a number of threads, by default the present one, come first, then
        those of one.
        """
        shipped = {n: k.price.coefficients for n, k in self.items() if k.price}
        threads = num_threads() if threads is None else threads
        return measured_or(measured_or(shipped), place_of("cpu", threads=threads))

    def figures(self, place: str) -> Coefficients:
        """Figures of the kernels on a device: measured, or shipped, or none at all."""
        prices = {name: kernel.on_devices for name, kernel in self.items() if kernel.on_devices}
        measured = measured_at(place, dict.fromkeys(prices, _DEVICE_COUNTS))
        if self.dense.name in measured:
            return measured
        return {name: p.figures[place] for name, p in prices.items() if place in p.figures}

    def without_times(
        self, structure: FactorStructure, contents: list[Array], work: DeviceWork
    ) -> Kernel:
        """The kernel on a device where no times are known: the dense matrix, or a default.

        The default multiplies where a dense matrix would take too much memory.
        """
        only = [self.dense.name]
        fits = self.dense.name in self.compared_on_device(structure, contents, work, known=only)
        return self.dense if fits else self.default(structure, contents, work.columns)

    def default(self, structure: FactorStructure, contents: list[Array], columns: int) -> Kernel:
        """The kernel where no times are known: the last one that is a default here.

        Of several compiled ones it is the one that promises the least time for many columns,
        by the coefficients in use when a structure is first asked for.
        """
        scalars = sum(c.shape[0] for c in contents)
        found = [
            kernel
            for kernel in self.values()
            if kernel.default_from <= columns <= kernel.default_to
            and not (kernel.off_cpu and "cpu" in str(structure.device).lower())
            and kernel.is_worth(scalars, structure.middle)
            and kernel.serves(structure, contents)
            and imports(kernel.package)
        ]
        last = found[-1]
        compiled = [k for k in found if k.price and k.package and k.package == last.package]
        if len(compiled) < 2:
            return last
        quickest = structure.kept(
            f"quickest {dtype_name(contents)}",
            lambda: self._quickest(compiled, Work.of(structure, contents)),
        )
        return self[quickest]

    def _quickest(self, kernels: list[Kernel], work: Work) -> str:
        """Name of the kernel of the least time for many columns."""
        known = self.coefficients()

        def seconds(kernel: Kernel) -> float:
            assert kernel.price is not None
            return kernel.price.seconds(work, _MANY_COLUMNS, known[kernel.name])

        return min(kernels, key=seconds).name

    def default_steps(self, structure: FactorStructure, contents: list[Array]) -> list[int]:
        """Numbers of columns, above 1, at which the default may change."""
        steps = {
            step
            for kernel in self.values()
            for step in (kernel.default_from, kernel.default_to + 1)
            if 1 < step < sys.maxsize and not kernel.wants(structure, contents)
        }
        return sorted(steps)
