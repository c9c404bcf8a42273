"""The machine that computes: its CPU, the instruction sets in use, and a cap on these for portable numbers.

Numbers of a CPU differ between CPU models far more than in the last digits, because training amplifies rounding
(`docs/reproducibility.md`). Imports no torch.
"""

import os
import platform
from pathlib import Path

from ctrcl.config import Machine

NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}
CAP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}


def cap(machine: Machine) -> None:
    """Cap the instruction sets where the settings ask for it; call before torch is imported."""
    for name, value in CAP.items():
        if machine.portable:
            os.environ[name] = value
        elif os.environ.get(name) == value:
            del os.environ[name]


def cpu() -> str:
    """The CPU's model, e.g. "AMD EPYC 9654 96-Core Processor (family 25, model 17, stepping 1)"."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = [line.partition(":") for line in info.read_text(errors="replace").partition("\n\n")[0].splitlines()]
    values = {name.strip(): " ".join(value.split()) for name, _, value in lines}
    numbers = [f"{key} {values[name]}" for key, name in NUMBERS.items() if name in values]
    return f"{values.get('model name', platform.machine())} ({', '.join(numbers)})"


def describe() -> dict[str, str]:
    """CPU model, instruction sets that torch uses, and architecture, for a run's record."""
    import torch

    return {"cpu": cpu(), "instructions": torch.backends.cpu.get_cpu_capability(), "system": platform.machine()}
