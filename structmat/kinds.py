"""Kinds of matrices: one record each, and rules for pairs of them.

A record names its class and its fits, which are imported when they are used. So this
module knows every structure and imports none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from structmat.errors import InputError, KindError

Function = TypeVar("Function", bound=Callable[..., Any])

OPERATIONS = ("add", "matmul", "convert")


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


# Colours of Okabe and Ito, which colour-blind readers tell apart as well.
BUILT_IN = (
    Kind("dense", "dense", "#777777", "structmat.matrices.dense:Dense"),
    Kind(
        "low_rank", "low rank", "#E69F00",
        "structmat.matrices.low_rank:LowRank",
        "structmat.compress.low_rank:fit",
        "structmat.compress.low_rank:fit_implicit",
        fit_entries="structmat.compress.entries.low_rank:fit_entries",
        factorize="structmat.solvers.direct.woodbury:factorize",
    ),
    Kind(
        "block_sparse", "block sparse", "#56B4E9",
        "structmat.matrices.block_sparse:BlockSparse",
        "structmat.compress.block_sparse:fit",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "block_low_rank", "block low rank", "#009E73",
        "structmat.matrices.block_low_rank:BlockLowRank",
        "structmat.compress.block_low_rank:fit",
        "structmat.compress.products.block_low_rank:fit_implicit",
        "structmat.compress.entries.block_low_rank:fit_entries",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "monarch", "Monarch", "#CC79A7",
        "structmat.matrices.monarch:Monarch",
        "structmat.compress.monarch:fit",
        "structmat.compress.products.monarch:fit_implicit",
        factorize="structmat.solvers.direct.products:factorize_monarch",
    ),
    # A recipe of structmat.nn, which fits it to torch's tensors.
    Kind("pixelfly", "Pixelfly", "#0072B2"),
    Kind(
        "gblr", "GBLR", "#D55E00",
        "structmat.matrices.gblr:GBLR",
        "structmat.compress.gblr.portfolio:fit",
        "structmat.compress.gblr.implicit:fit_implicit",
        fit_entries="structmat.compress.entries.gblr:fit_entries",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
            "structmat.solvers.direct.block_diagonal:factorize_all",
        ),
    ),
    Kind(
        "hierarchical", "hierarchical", "#000000",
        "structmat.matrices.hierarchical:Hierarchical",
        "structmat.compress.hierarchical.arrays:fit",
        "structmat.compress.products.hierarchical:fit_implicit",
        fit_entries="structmat.compress.hierarchical.fit:fit_entries",
        factorize="structmat.solvers.hierarchical.direct:factorize",
    ),
    Kind(
        "permutation", matrix="structmat.matrices.permutation:Permutation",
        factorize=(
            "structmat.solvers.direct.simple:factorize_permutation",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "identity", matrix="structmat.matrices.diagonal:Identity",
        factorize="structmat.solvers.direct.simple:factorize_diagonal",
    ),
    Kind(
        "diagonal", matrix="structmat.matrices.diagonal:Diagonal",
        factorize="structmat.solvers.direct.simple:factorize_diagonal",
    ),
    Kind(
        "kernel", matrix="structmat.sources.kernel_matrix:KernelMatrix",
        factorize="structmat.solvers.hierarchical.points:factorize",
    ),
    Kind(
        "entries", matrix="structmat.sources.entries:Entries",
        factorize="structmat.solvers.hierarchical.points:factorize",
    ),
    Kind(
        "sum", matrix="structmat.matrices.lazy:Sum",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.tiles:factorize",
            "structmat.solvers.hierarchical.direct:factorize_sum",
            "structmat.solvers.hierarchical.points:factorize_sum",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "product", matrix="structmat.matrices.lazy:Product",
        factorize=(
            "structmat.solvers.direct.products:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "scaled", matrix="structmat.matrices.lazy:Scaled",
        factorize="structmat.solvers.direct.simple:factorize_scaled",
    ),
    Kind(
        "adjoint", matrix="structmat.matrices.lazy:Adjoint",
        factorize="structmat.solvers.direct.simple:factorize_adjoint",
    ),
    Kind(
        "kronecker", "Kronecker", matrix="structmat.matrices.kronecker:Kronecker",
        factorize=(
            "structmat.solvers.direct.kronecker:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "grid", matrix="structmat.matrices.grid:Grid",
        factorize=(
            "structmat.solvers.direct.block_diagonal:factorize",
            "structmat.solvers.direct.triangular:factorize",
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "operator", matrix="structmat.matrices.foreign:ForeignOperator",
        factorize="structmat.distributed.matrix:factorize_operator",
    ),
    Kind(
        "mirrored", matrix="structmat.matrices.hermitian:Mirrored",
        factorize=(
            "structmat.solvers.direct.woodbury:factorize",
            "structmat.solvers.direct.banded:factorize",
        ),
    ),
    Kind(
        "hermitian_low_rank", "Hermitian low rank",
        matrix="structmat.matrices.hermitian:HermitianLowRank",
        factorize="structmat.solvers.direct.woodbury:factorize",
    ),
)  # fmt: skip

_KINDS: dict[str, Kind] = {kind.name: kind for kind in BUILT_IN}


class _Rule(NamedTuple):
    apply: Callable[..., Any]
    #: False for a conversion that may cost more, or may give a matrix of another kind.
    contains: bool


_RULES: dict[tuple[str, str, str], _Rule] = {}


def register(kind: Kind) -> None:
    """Enter the record of a kind; `compress`, `compare`, charts and networks then know it.

    A class statement enters a record that has a name and a class alone. This function
    completes that record, once.

    Parameters
    ----------
    kind : Kind

    Raises
    ------
    KindError
        If the kind is registered already, or `Kind.matrix` belongs to another kind.

    Examples
    --------
    A recipe that approximates by the mean of all entries:

    >>> import numpy as np
    >>> import structmat
    >>> def fit(A, goal, *, rng, progress):
    ...     m, n = A.shape
    ...     return structmat.LowRank(np.full((m, 1), A.mean()), np.ones((n, 1)))
    >>> structmat.register(structmat.Kind("constant", fit=fit))
    >>> structmat.compress(np.full((4, 4), 3.0), "constant", budget=0.5).matrix
    <4x4 LowRank, float64, numpy: cost 0.5, storage 0.5 of dense>
    """
    if not isinstance(kind, Kind):
        raise InputError(f"register got a {type(kind).__qualname__}; expected a structmat.Kind")
    known = _KINDS.get(kind.name, Kind(kind.name))
    if is_built_in(kind.name) or known != Kind(kind.name, matrix=known.matrix):
        raise KindError(
            f"the kind {kind.name!r} is registered already; choose another name, or register it "
            "once, with everything it has"
        )
    if isinstance(known.matrix, type):
        fits = kind.matrix in (None, known.matrix, _place(known.matrix))
    else:
        fits = kind.matrix is None or isinstance(kind.matrix, str)
    if not fits:
        raise KindError(
            f"matrix = {kind.matrix} for the kind {kind.name!r}; expected the class that was "
            f"defined with kind={kind.name!r} (or leave matrix out)"
        )
    _KINDS[kind.name] = replace(kind, matrix=known.matrix or kind.matrix)


def enter_class(name: str, cls: type) -> None:
    """Enter a class in the record of its kind; a kind has one class."""
    known = _KINDS.get(name, Kind(name))
    if known.matrix != _place(cls) and (known.matrix is not None or is_built_in(name)):
        owner = known.matrix.__qualname__ if isinstance(known.matrix, type) else known.matrix
        raise KindError(f"the kind {name!r} is taken by {owner or 'a recipe'}; choose another name")
    _KINDS[name] = replace(known, matrix=cls)


def _place(cls: type) -> str:
    """Text by which a record names a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def all_kinds() -> tuple[Kind, ...]:
    """Every record, in the order of tables."""
    return tuple(_KINDS.values())


def kind_record(name: str) -> Kind:
    """Record of a kind, or one of defaults for a name that is not known."""
    return _KINDS.get(name) or Kind(name)


def is_built_in(name: str) -> bool:
    """True for a kind of structmat's own."""
    return any(kind.name == name for kind in BUILT_IN)


def fitted_kinds(*, implicit: bool = False) -> tuple[str, ...]:
    """Names of the kinds with a fit, or of those with a fit of operators."""
    fits = {kind.name: kind.fit_implicit if implicit else kind.fit for kind in all_kinds()}
    return tuple(name for name, fit in fits.items() if fit is not None)


def compressible_kinds() -> tuple[str, ...]:
    """Names of the kinds with a fit of arrays, of operators or of sources."""
    return tuple(k.name for k in all_kinds() if k.fit is not None or k.fit_entries is not None)


def find_fit(name: str, *, implicit: bool = False) -> Callable[..., Any] | None:
    """Fit of a kind, or its fit of operators; None where it has none."""
    kind = _KINDS[name]
    fit: Callable[..., Any] | None = _resolve(kind.fit_implicit if implicit else kind.fit)
    return fit


def find_entries_fit(name: str) -> Callable[..., Any] | None:
    """Fit of sources of a kind; None where it has none."""
    fit: Callable[..., Any] | None = _resolve(_KINDS[name].fit_entries)
    return fit


def find_factorizations(name: str) -> list[Callable[..., Any]]:
    """Direct factorizations of a kind, the first to be asked first."""
    ways = _KINDS[name].factorize
    return [_resolve(way) for way in (ways if isinstance(ways, tuple) else (ways,)) if way]


def kind_class(name: object) -> Any:
    """Class of a kind; a `KindError` lists the kinds that have one."""
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or kind.matrix is None:
        known = ", ".join(k.name for k in all_kinds() if k.matrix is not None)
        raise KindError(
            f"unknown kind {name!r}; expected one of {known} (or import the module that defines it)"
        )
    return _resolve(kind.matrix)


def later(place: str) -> Any:
    """Function of a later room, which knows the classes, by ``"module:attribute"``."""
    return _resolve(place)


def _resolve(target: Any) -> Any:
    """A class or function itself; text is imported."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def contained_kinds(name: str, *, implicit: bool = False) -> dict[str, tuple[str, ...]]:
    """Fitted kinds whose matrices a kind holds exactly, each with its path of conversions.

    Examples
    --------
    >>> import structmat
    >>> contained_kinds("block_low_rank")
    {'low_rank': ('block_low_rank',), 'block_sparse': ('block_low_rank',)}
    """
    paths: dict[str, tuple[str, ...]] = {name: ()}
    reached = [name]
    for target in reached:
        for kind in _KINDS:
            found = _rules("convert", kind, target)
            if kind not in paths and found and found[0].contains:
                paths[kind] = (target, *paths[target])
                reached.append(kind)
    return {kind: paths[kind] for kind in fitted_kinds(implicit=implicit) if paths.get(kind)}


def rule(
    operation: str, left: str, right: str, *, contains: bool = True
) -> Callable[[Function], Function]:
    """Decorator that registers what an operation does with two kinds.

    Without a rule, sums and products stay lazy, and a conversion is refused. A rule for
    two kinds goes before one for a kind and any other.

    Parameters
    ----------
    operation : {"add", "matmul", "convert"}
        The function takes two matrices for ``"add"`` and ``"matmul"``, and may return
        NotImplemented; for ``"convert"`` it takes one, of the left kind, and returns the
        same matrix as the right kind.
    left, right : str
        Names of kinds; ``"*"`` stands for any.
    contains : bool
        For ``"convert"``, whether the right kind holds every matrix of the left kind at
        about its cost. `compress` then considers the left kind's fit for the right kind.

    Returns
    -------
    callable
        The decorator, which returns its function as it was.

    Raises
    ------
    InputError
        If the operation is none of the three.
    KindError
        If the two kinds have a rule for it.

    Examples
    --------
    >>> import numpy as np
    >>> import structmat
    >>> P, Q = structmat.Permutation([1, 0]), structmat.Permutation([0, 1])
    >>> (P + Q).kind
    'sum'
    >>> @structmat.rule("add", "permutation", "permutation")
    ... def add(a, b):
    ...     return structmat.Dense(a.to_dense() + b.to_dense())
    >>> (P + Q).kind
    'dense'
    """
    if operation not in OPERATIONS:
        raise InputError(f"operation {operation!r}; expected one of {', '.join(OPERATIONS)}")

    def enter(function: Function) -> Function:
        if (operation, left, right) in _RULES:
            raise KindError(
                f"{operation!r} has a rule for {left!r} and {right!r}; expected one rule for two "
                "kinds (give the class a kind of its own)"
            )
        _RULES[operation, left, right] = _Rule(function, contains)
        return function

    return enter


def find_rules(operation: str, left: str, right: str) -> list[Callable[..., Any]]:
    """Rules for two kinds, the most special first."""
    return [found.apply for found in _rules(operation, left, right)]


def _rules(operation: str, left: str, right: str) -> list[_Rule]:
    pairs = ((left, right), (left, "*"), ("*", right))
    return [_RULES[operation, *pair] for pair in pairs if (operation, *pair) in _RULES]
