"""The GPU of a measurement and the versions of the libraries that use it."""

from benchmarks import machine
from benchmarks.gpu.session import library
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
    for name, count in (("torch", _torch_devices), ("cupy", _cupy_devices)):
        try:
            if count():
                return
            said.append(f"{name} sees none")
        except Skip as reason:
            said.append(str(reason))
    raise BenchmarkError(
        f"no GPU here ({'; '.join(said)}), and nothing was run; expected one with CUDA (walk "
        "through every part without one: python -m benchmarks gpu --device cpu --tiny)"
    )


def _torch_devices() -> int:
    torch = library("torch")
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cupy_devices() -> int:
    cupy = library("cupy")
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except Exception as reason:  # without a driver, whatever the version makes of it
        raise Skip(f"cupy finds no driver ({type(reason).__name__})") from None


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
        torch = library("torch")
        about = torch.cuda.get_device_properties(0)
        return {
            "gpu": about.name,
            "capability": f"{about.major}.{about.minor}",
            "gpu_bytes": about.total_memory,
            "cuda": torch.version.cuda,
        }
    except (Skip, RuntimeError, AssertionError):
        runtime = library("cupy").cuda.runtime
        about = runtime.getDeviceProperties(0)
        return {
            "gpu": about["name"].decode(),
            "capability": f"{about['major']}.{about['minor']}",
            "gpu_bytes": about["totalGlobalMem"],
            "cuda": str(runtime.runtimeGetVersion()),
        }
