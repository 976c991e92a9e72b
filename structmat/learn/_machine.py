"""Facts about the machine of a result, without names or paths."""

import platform
from pathlib import Path
from typing import Any

from structmat.kernels.cpu.threads import processors

#: Facts of each processor, on Linux.
CPU_FACTS = Path("/proc/cpuinfo")


def processor() -> str:
    """Model name of the processor, or its architecture if the system names no model."""
    lines = CPU_FACTS.read_text(encoding="utf-8").splitlines() if CPU_FACTS.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def machine_facts() -> dict[str, Any]:
    """Processor, cores, threads of torch, system and versions."""
    import torch  # here, as benchmarks without torch name their processor, too

    return {
        "cpu": processor(),
        "cores": processors(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
