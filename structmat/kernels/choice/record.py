"""The record of a kernel, and requirements that records share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from structmat._array import Array
from structmat.kernels.bound import BoundKernel
from structmat.kernels.choice.packages import has
from structmat.kernels.cost_model.prices import Price
from structmat.kernels.layouts.factors import FactorStructure

#: Binding of a kernel to the structure and the packed contents of a matrix.
Bind = Callable[[FactorStructure, list[Array]], BoundKernel]
#: Requirement: the condition that a matrix fails, or "" where it fits.
Requirement = Callable[[FactorStructure, list[Array]], str]


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
        Stored scalars from which on the kernel is worth its preparation.
    price : Price, optional
        Memory and time; a kernel without it is never compared by its time.
    default_from, default_to : int
        Numbers of columns for which the kernel is the default where no times are known: of
        the kernels that fit, the last one in the table is. By default, for none.
    """

    name: str
    what: str
    bind: Bind
    wants: Requirement
    package: str = ""
    install: str = "'structmat[fast]'"
    least_scalars: int = 0
    price: Price | None = None
    default_from: int = sys.maxsize
    default_to: int = sys.maxsize

    def serves(self, structure: FactorStructure, contents: list[Array]) -> bool:
        """Tell whether the kernel fits a matrix, and its package is installed."""
        return has(self.package) and not self.wants(structure, contents)


def dtype_name(contents: list[Array]) -> str:
    """The dtype of contents, without its library."""
    return str(contents[0].dtype).rpartition(".")[2]


def on(*libraries: str, dtypes: tuple[str, ...] = ()) -> Requirement:
    """Require one of these libraries and one of these dtypes; none named means any."""

    def wants(structure: FactorStructure, contents: list[Array]) -> str:
        if libraries and structure.library not in libraries:
            return f"contents of {' or '.join(libraries)}, not {structure.library}"
        dtype = dtype_name(contents)
        if dtypes and dtype not in dtypes:
            return f"contents of {', '.join(dtypes)}, not {dtype}"
        return ""

    return wants
