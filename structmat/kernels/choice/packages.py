"""Optional packages that kernels need."""

import importlib
import importlib.util
import warnings

#: Packages that are installed: looked for, not imported.
_PRESENT = {name for name in ("numba", "triton") if importlib.util.find_spec(name)}
#: Packages whose import succeeded.
_IMPORTED: set[str] = set()


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
