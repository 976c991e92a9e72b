"""Facts about the machine of a result, without names or paths."""

import platform
from pathlib import Path

#: Facts of each processor, on Linux.
CPU_FACTS = Path("/proc/cpuinfo")


def processor() -> str:
    """Model name of the processor, or its architecture if the system names no model."""
    lines = CPU_FACTS.read_text(encoding="utf-8").splitlines() if CPU_FACTS.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
