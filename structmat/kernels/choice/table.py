"""The kernels by name: what each needs, and how it multiplies by A = R [C^H; I].

A new kernel is one record in `KERNELS`, and figures in `structmat.kernels.cost_model` if it is
to be chosen by its expected time.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from structmat._array import Array, adjoint, adjoint_times, backend_name, namespace, product
from structmat._array import is_complex as _is_complex
from structmat.errors import InputError, MissingDependencyError
from structmat.kernels.arrays.csr import RowsFactor
from structmat.kernels.layouts.panels import RunPattern

#: Contents below which nothing is compiled or imported for a product.
SMALL = 4096
#: A dense copy is made where it is at most this many times the contents, or this small.
_DENSE_SHARE, _DENSE_SIZE = 32, 2**20
#: Columns for which a GPU multiplies run by run, and from which on it does by matrix units.
_FEW, _MANY = 16, 64
#: Optional packages that kernels need and that are here; looked for, not imported.
_PRESENT = {name for name in ("numba", "triton") if importlib.util.find_spec(name)}
#: Those that were found to work.
_IMPORTED: set[str] = set()
_MATRIX_UNITS = ("float32", "float16", "bfloat16")
_COMPILED = ("float32", "float64", "complex64", "complex128")


class Chain:
    """Products by two factors, one after the other, that have `matmat` and `rmatmat`."""

    def __init__(self, factored: Any, row: Any, col: Any = None) -> None:
        self._factors, self.row, self.col = factored.factors, row, col

    def multiply(self, x: Array, *, by_columns: bool) -> Array:
        """A x."""
        factors, middle = self._factors, []
        if self.col is not None:
            middle.append(self.col.rmatmat(x))
        if factors.through:
            middle.append(x)
        z = middle[0] if len(middle) == 1 else factors.xp.concat(middle, axis=0)
        return self.row.matmat(z, by_columns=by_columns)

    def multiply_adjoint(self, y: Array, *, by_columns: bool) -> Array:
        """A^H y."""
        z = self.row.rmatmat(y)
        if self.col is None:
            return z
        count = self._factors.middle
        x = self.col.matmat(z[:count, :], by_columns=by_columns)
        return x + z[count:, :] if self._factors.through else x


class _DenseFactor:
    """A factor as a dense array."""

    def __init__(self, dense: Array) -> None:
        self._dense, self._xp = dense, namespace(dense)

    def matmat(self, z: Array, *, by_columns: bool = False) -> Array:
        if z.shape[1] == 1:  # BLAS has a product of its own for a vector
            return (self._dense @ z[:, 0])[:, None]
        return product(self._dense, z, self._xp, by_columns=by_columns)

    def rmatmat(self, y: Array) -> Array:
        return adjoint_times(self._dense, y, self._xp)

    def multiply(self, x: Array, *, by_columns: bool) -> Array:
        return self.matmat(x, by_columns=by_columns)

    def multiply_adjoint(self, y: Array, *, by_columns: bool) -> Array:
        return self.rmatmat(y)


@dataclass(frozen=True)
class Kernel:
    """A way to multiply.

    Parameters
    ----------
    what : str
        In a few words, for a person.
    make : callable
        Takes a `Factored`, returns what has `multiply` and `multiply_adjoint`.
    wants : callable
        Takes a `Factored`, returns what it would have to be, or "" where it fits.
    module, comes_with : str
        A package that it needs, and what to install for it.
    """

    what: str
    make: Callable[[Any], Any]
    wants: Callable[[Any], str]
    module: str = ""
    comes_with: str = "'structmat[fast]'"


def _chain(factor: Callable[..., Any]) -> Callable[[Any], Chain]:
    """A maker that applies `factor(pattern, contents)` to both factors."""

    def make(factored: Any) -> Chain:
        pairs = zip(factored.factors.patterns, factored.contents, strict=True)
        made = [factor(p, c) for p, c in pairs]
        return Chain(factored, *made)

    return make


def _panels(factored: Any) -> Chain:
    plans = factored.factors.panel_plans()
    made = [plan.fill(c) for plan, c in zip(plans, factored.contents, strict=True)]
    return Chain(factored, *made)


def _vectors(factored: Any) -> Chain:
    from structmat.kernels.cpu.vectors import vector_factors

    made = vector_factors(factored.factors.patterns, factored.contents)
    return Chain(factored, *made)


def _tiles(factored: Any) -> Any:
    if backend_name(factored.factors.xp) == "torch":
        from structmat.kernels.cpu.torch_op import TorchWay

        return TorchWay(factored, _vectors)
    from structmat.kernels.cpu.columns import TileFactor
    from structmat.kernels.cpu.vectors import factor_of, product_of

    chain = _chain(partial(factor_of, TileFactor))(factored)
    together = product_of(chain.row, chain.col, factored.factors.through)
    return chain if together is None else together


def _triton(factored: Any) -> Chain:
    from structmat.kernels.triton.factor import TiledFactor

    matrices = factored.factors.tile_matrices([c.shape[0] for c in factored.contents])
    made = [TiledFactor(m, c) for m, c in zip(matrices, factored.contents, strict=True)]
    return Chain(factored, *made)


def _intervals(factored: Any) -> Chain:
    from structmat.kernels.cuda.intervals import CudaIntervals

    def factor(pattern: RunPattern, contents: Array) -> CudaIntervals:
        return CudaIntervals(pattern.start, pattern.width, pattern.n, contents)

    return _chain(factor)(factored)


def _pair(factored: Any) -> Chain:
    def dense(plan: Any, contents: Array) -> _DenseFactor:
        panels = plan.fill(contents)
        return _DenseFactor(_written_out(panels.matmat, panels.rmatmat, plan.shape, factored))

    pairs = zip(factored.factors.panel_plans(), factored.contents, strict=True)
    made = [dense(plan, contents) for plan, contents in pairs]
    return Chain(factored, *made)


def _dense(factored: Any) -> _DenseFactor:
    compiled = is_modelled(factored) and "tiles" in worth_having(factored) and imports("tiles")
    way = factored.way("tiles" if compiled else "panels")
    adjoint_times = partial(way.multiply_adjoint, by_columns=False)
    return _DenseFactor(_written_out(way.multiply, adjoint_times, factored.shape, factored))


def _written_out(
    times: Callable[..., Array],
    adjoint_times: Callable[[Array], Array],
    shape: tuple[int, int],
    factored: Any,
) -> Array:
    """A matrix as a dense array, from its product with the smaller identity."""
    xp, (m, n) = factored.factors.xp, shape
    dtype, device = factored.contents[0].dtype, factored.factors.device
    unit = xp.eye(min(m, n), dtype=dtype, device=device)
    return times(unit, by_columns=False) if n <= m else adjoint(adjoint_times(unit), xp)


def _on(*libraries: str, dtypes: tuple[str, ...] = ()) -> Callable[[Any], str]:
    def wants(factored: Any) -> str:
        name = backend_name(factored.factors.xp)
        if libraries and name not in libraries:
            return f"contents of {' or '.join(libraries)}, not {name}"
        dtype = str(factored.contents[0].dtype).rpartition(".")[2]
        if dtypes and dtype not in dtypes:
            return f"contents of {', '.join(dtypes)}, not {dtype}"
        return ""

    return wants


def _on_runs(factored: Any) -> str:
    patterns = (factored.factors.row, factored.factors.col)
    if not all(isinstance(p, RunPattern) for p in patterns):
        return "a GBLR matrix"
    return _on("cupy", dtypes=_COMPILED)(factored)


def _for_tiles(factored: Any) -> str:
    if backend_name(factored.factors.xp) != "torch":
        return _on("numpy", dtypes=_COMPILED)(factored)
    if str(factored.factors.device) != "cpu":
        return "contents on the CPU"
    return _on("torch", dtypes=_COMPILED[:2])(factored)


def _for_triton(factored: Any) -> str:
    if wanted := _on("torch", dtypes=_MATRIX_UNITS)(factored):
        return wanted
    return "" if _on_cuda(factored) else "contents on a CUDA device"


def _on_cuda(factored: Any) -> bool:
    return str(factored.factors.device).startswith("cuda")


KERNELS = {
    "panels": Kernel("BLAS on dense panels, with any array library", _panels, _on()),
    "rows": Kernel(
        "compressed rows of SciPy", _chain(RowsFactor.of), _on("numpy", dtypes=_COMPILED)
    ),
    "vectors": Kernel(
        "compiled, vector by vector", _vectors, _on("numpy", dtypes=_COMPILED), "numba"
    ),
    "tiles": Kernel("compiled, many columns at once", _tiles, _for_tiles, "numba"),
    "triton": Kernel("matrix units of a GPU by Triton", _triton, _for_triton, "triton", "triton"),
    "intervals": Kernel("CUDA, run by run", _intervals, _on_runs),
    "pair": Kernel("both factors as dense arrays with zeros", _pair, _on()),
    "dense": Kernel("the matrix as a dense array", _dense, _on()),
}


def check_name(kernel: Any) -> None:
    """Refuse what is no kernel's name."""
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise InputError(f"kernel = {kernel!r}; expected one of {', '.join(KERNELS)}")


def has(module: str) -> bool:
    """Whether an optional package is here; nothing is imported for it."""
    return not module or module in _PRESENT


def imports(kernel: str) -> bool:
    """Whether the package that a kernel needs can be imported; else it counts as absent."""
    module = KERNELS[kernel].module
    if not module or module in _IMPORTED:
        return True
    try:
        importlib.import_module(module)
    except ImportError as reason:
        _PRESENT.discard(module)
        warnings.warn(
            f"{module} is installed but cannot be imported ({reason}); products go on without it",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    _IMPORTED.add(module)
    return True


def make(factored: Any, kernel: str) -> Any:
    """What multiplies by a kernel.

    Raises
    ------
    InputError
        If there is no such kernel, or it does not fit.
    MissingDependencyError
        If the package that it needs is not installed.
    """
    check_name(kernel)
    record = KERNELS[kernel]
    if wanted := record.wants(factored):
        raise InputError(
            f"the kernel {kernel!r} does not fit this matrix; expected {wanted} (choose one of "
            f"{', '.join(factored.kernels)})"
        )
    if not has(record.module) or not imports(kernel):
        raise MissingDependencyError(
            f"the kernel {kernel!r} needs {record.module}, which is not installed; install it "
            f"with pip install {record.comes_with}"
        )
    return record.make(factored)


def fitting(factored: Any) -> list[str]:
    """Kernels that can multiply by a matrix, here and now."""
    return [
        name
        for name, record in KERNELS.items()
        if has(record.module) and not record.wants(factored)
    ]


def worth_having(factored: Any) -> list[str]:
    """Kernels to choose from: none that takes far more memory, or more time to prepare."""
    work = factored.work
    size = {
        "dense": work.rows * work.columns,
        "pair": work.middle * work.columns + work.rows * (work.middle or work.columns),
    }
    limit = max(_DENSE_SHARE * work.scalars, _DENSE_SIZE)
    by_blas = not _on("numpy", dtypes=_COMPILED)(factored)  # other dense products are slow
    return [
        name
        for name in factored.kernels
        if has(KERNELS[name].module)
        and size.get(name, 0) <= limit
        and not (KERNELS[name].module and work.scalars < SMALL)
        and (by_blas or name not in size)
    ]


def is_modelled(factored: Any) -> bool:
    """Whether expected times are known: they are measured with NumPy."""
    return backend_name(factored.factors.xp) == "numpy"


def usual(factored: Any, columns: int) -> str:
    """The kernel where no times are known."""
    if backend_name(factored.factors.xp) == "torch":
        if columns >= _MANY and has("triton") and not KERNELS["triton"].wants(factored):
            return "triton"
        return "tiles" if _compiled_on_torch(factored) else "panels"
    few = columns <= _FEW and not KERNELS["intervals"].wants(factored)
    return "intervals" if few else "panels"


def counted(factored: Any, columns: int) -> int:
    """A number of columns that stands for all that the same kernel multiplies.

    On torch's CPU that is every number, which may be none yet where products are traced.
    """
    if backend_name(factored.factors.xp) != "torch":
        return columns
    return _MANY if _on_cuda(factored) and columns >= _MANY else 1


def _compiled_on_torch(factored: Any) -> bool:
    if KERNELS["tiles"].wants(factored) or not has("numba"):
        return False
    if sum(c.shape[0] for c in factored.contents) < SMALL or not imports("tiles"):
        return False
    from structmat.kernels.cpu.torch_op import is_transformed

    return not any(is_transformed(c) for c in factored.contents)


def is_complex(contents: Array) -> bool:
    """Whether contents are complex."""
    return _is_complex(contents, namespace(contents))


def itemsize(contents: Array) -> int:
    """Bytes of one number."""
    return int(getattr(contents, "itemsize", 0) or contents.element_size())
