"""Facts about the machine of a measurement, without names or paths."""

import datetime
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import structmat
from structmat.kernels import num_threads
from structmat.kernels.cpu.threads import processors
from structmat.learn._machine import processor

#: Packages whose versions are recorded where they are installed.
PEERS = ("numba", "torch", "triton", "scikit-learn", "lazylinop", "pyfaust", "pylops")

#: Folder of the source, and the results in it: a run that writes them changes no source.
_ROOT, _RESULTS = Path(__file__).parents[1], "benchmarks/results"


def facts() -> dict[str, Any]:
    """Machine, versions, commit and date, ready for JSON."""
    blas, threads = _blas()
    return {
        "cpu": processor(),
        "cores": processors(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "structmat": structmat.__version__,
        "commit": _COMMIT,
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "blas": blas,
        "threads": threads,
        "structmat_threads": num_threads(),
        "gpu": _gpu(),
        "peers": {name: version(name) for name in PEERS},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def version(package: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """Short hash of the commit that is checked out, or None outside of a git checkout.

    Followed by " (dirty)" where tracked files differ from it, results left out.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != folder.resolve():
        return None
    found = _git(folder, "rev-parse", "--short", "HEAD")
    changes = _git(folder, "status", "--porcelain", "-uno", "--", ".", f":!{_RESULTS}")
    return f"{found} (dirty)" if found and changes else found


def _git(folder: Path, *words: str) -> str | None:
    """Output of a git command in a folder, or None where git or its repository is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _blas() -> tuple[str, int | None]:
    """Name and version of NumPy's BLAS, and the number of its threads if known."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}", _wished_threads()
    pools = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
    if not pools:
        return "unknown", _wished_threads()
    names = sorted({f"{p['internal_api']} {p['version']}" for p in pools})
    return ", ".join(names), max(p["num_threads"] for p in pools)


def _gpu() -> str | None:
    """Name of the GPU that torch would use, or None without torch or GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


def _wished_threads() -> int | None:
    wish = os.environ.get("OMP_NUM_THREADS", "")
    return int(wish) if wish.isdigit() else None


#: Commit when the process began: the checkout may change before a long run ends.
_COMMIT = commit(_ROOT)
