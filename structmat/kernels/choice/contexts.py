"""Contexts of products: one kernel for all of them, or a list of those that multiply."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from structmat.kernels.choice.table import KERNELS
from structmat.kernels.cost_model.kernel_time import KernelTime

forced: ContextVar[str | None] = ContextVar("structmat kernel", default=None)
watching: ContextVar["list[KernelTime] | None"] = ContextVar("structmat products", default=None)
#: Number of contexts that are entered: tracers follow a number, not a context variable. It only
#: spares products outside the look-up.
entered = 0


@contextmanager
def using(kernel: str) -> Iterator[None]:
    """Multiply by one kernel, at any expected time, as long as the context lasts.

    The context holds for products of GBLR, block-sparse and block-low-rank matrices in the
    present thread or task, their sums and products included; other kinds have one way to
    multiply.

    Parameters
    ----------
    kernel : str
        One of "panels", "rows", "vectors", "tiles", "blocks", "batches", "triton", "lines",
        "intervals", "pair" and "dense"; see `plan`, which says what each of them is.

    Raises
    ------
    InputError
        If no kernel has that name, or, from a product, if it does not fit the matrix.
    MissingDependencyError
        From a product, if the kernel needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> A = structmat.BlockSparse(np.ones((1, 2, 2)), [0], [1], shape=(4, 4))
    >>> with using("dense"):
    ...     A @ np.ones(4)
    array([2., 2., 0., 0.])
    """
    KERNELS.check_name(kernel)
    with _within(forced, kernel):
        yield


@contextmanager
def watched() -> Iterator[list[KernelTime]]:
    """Name the compiled kernels that multiply in a context, as their expected times."""
    found: list[KernelTime] = []
    with _within(watching, found):
        yield found


@contextmanager
def _within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    global entered
    token = variable.set(value)
    entered += 1
    try:
        yield
    finally:
        entered -= 1
        variable.reset(token)


def are_entered() -> bool:
    """Tell whether such a context is entered somewhere, perhaps in another thread."""
    return entered > 0
