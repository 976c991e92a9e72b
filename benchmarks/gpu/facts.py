"""The GPU of a measurement and the versions of the libraries that use it."""

from benchmarks import machine
from benchmarks.gpu.session import library, on_device
from benchmarks.results import BenchmarkError, Row, Skip

#: Libraries that decide what a GPU does, by the names of their modules.
LIBRARIES = ("torch", "cupy", "triton", "numba", "array_api_compat")


def check_gpu() -> None:
    """Refuse to go on without a GPU that torch or CuPy can use.

    Raises
    ------
    BenchmarkError
        If there is none, with what each library says.
    """
    said = []
    for name in ("torch", "cupy"):
        try:
            on_device(name, "cuda")
        except Skip as reason:
            said.append(str(reason))
        else:
            return
    raise BenchmarkError(
        f"no GPU here ({'; '.join(said)}), and nothing was run; expected one with CUDA (walk "
        "through every part without one: python -m benchmarks gpu --device cpu --tiny)"
    )


def facts(device: str) -> Row:
    """Machine, versions and date; on a GPU with its name and memory."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = library(name).__version__
        except Skip as reason:
            versions[name] = f"({reason})"
    found = machine.facts() | {"libraries": versions}
    if device == "cuda":
        found |= _device()
    return found


def _device() -> Row:
    """Name, capability, memory and driver, from torch or else from CuPy."""
    try:
        torch = on_device("torch", "cuda")
        about = torch.cuda.get_device_properties(0)
        return {
            "gpu": about.name,
            "capability": f"{about.major}.{about.minor}",
            "gpu_bytes": about.total_memory,
            "cuda": torch.version.cuda,
        }
    except Skip:
        runtime = library("cupy").cuda.runtime
        about = runtime.getDeviceProperties(0)
        return {
            "gpu": about["name"].decode(),
            "capability": f"{about['major']}.{about['minor']}",
            "gpu_bytes": about["totalGlobalMem"],
            "cuda": str(runtime.runtimeGetVersion()),
        }
