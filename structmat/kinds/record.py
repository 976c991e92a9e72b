"""`Kind`: the record of one kind of structure."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from structmat.errors import InputError


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


@dataclass(frozen=True)
class Kind:
    """Record of a kind of structure: name, label, colour, class and fits.

    `register` enters the record. A class or a function is given itself, or as text,
    ``"module:attribute"``, and is then imported when it is used.

    Attributes
    ----------
    name : str
        Name of the kind, as `compress` and `convert` take it.
    label : str
        Name in tables and charts; by default `name` with spaces for underscores.
    colour : str
        Colour of the kind in charts, as matplotlib takes it.
    matrix : type or str, optional
        Class of the kind, a `StructuredMatrix`. The statement ``class A(StructuredMatrix,
        kind=name)`` fills it in. A kind without a class is a recipe, whose fit returns
        matrices of other kinds.
    fit : callable or str, optional
        ``fit(A, goal, *, rng, progress)`` returns a matrix near a finite NumPy array A
        (m, n) of float32, float64, complex64 or complex128. Exactly one of the two
        numbers ``goal.max_cost`` (multiplications for one vector) and ``goal.max_error``
        (absolute Frobenius error) is set, the other is None. A fit that cannot keep to
        that number raises a `BudgetError` or a `ToleranceError`.
    fit_implicit : callable or str, optional
        Fit of an operator, which has `shape`, `dtype`, `matmat` and `rmatmat`, and must
        not be made dense.
    fit_entries : callable or str, optional
        ``fit_entries(source, goal, *, rng, progress)`` is the fit of a source on NumPy, such
        as `KernelMatrix`, by blocks of its entries; it must not be formed. The bound
        ``goal.max_error`` follows from an estimated norm, and `compress` estimates the error
        of the result.
    factorize : callable or str, or a tuple of them, optional
        ``factorize(A, shift, tol)`` returns a `Factorization` of A + shift I for a square matrix
        A of this kind and a bound `tol` of the backward error, or NotImplemented for a matrix
        that its method does not fit. Several are asked in turn.

    Raises
    ------
    InputError
        If `name` is no text, or `fit_implicit` comes without `fit`.

    Notes
    -----
    An exception of a fit surfaces from `compress` as it is. In `compare` it becomes the
    note of a row without a matrix, so that the other kinds keep their rows.

    Examples
    --------
    >>> import structmat
    >>> structmat.Kind("upper_triangular", colour="#117733").label
    'upper triangular'
    """

    name: str
    label: str = ""
    colour: str = "#8A7B00"
    matrix: type | str | None = None
    fit: Callable[..., Any] | str | None = None
    fit_implicit: Callable[..., Any] | str | None = None
    fit_entries: Callable[..., Any] | str | None = None
    factorize: Callable[..., Any] | str | tuple[Callable[..., Any] | str, ...] | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise InputError(f"name = {self.name!r}; expected the name of a kind, as text")
        if self.fit_implicit is not None and self.fit is None and self.fit_entries is None:
            raise InputError(
                f"kind {self.name!r} has fit_implicit without fit; expected both (for an array "
                "fit may call fit_implicit)"
            )
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))


def later(target: Any) -> Any:
    """A class or a function itself; text, ``"module:attribute"``, is imported first.

    So an early room can name what a later one defines.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
