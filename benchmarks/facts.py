"""What the numbers of a benchmark depend on, kept beside them."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

CPU_INFO = Path("/proc/cpuinfo")  # of Linux; Python alone doesn't know the model there


def machine() -> dict[str, Any]:
    """The machine and what computes on it; nothing that says whose it is."""
    models = [line.split(":")[1].strip() for line in _lines(CPU_INFO) if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(path: Path, **found: Any) -> None:
    """Write a benchmark's findings as JSON, after the facts; `found` may have facts to add or to replace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = machine() | found.pop("facts", {})
    path.write_text(json.dumps({"facts": facts, **found}, indent=1, allow_nan=False) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
