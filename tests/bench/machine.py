"""The machine under the benchmarks: where the code is, which interpreters there are, and what else ran meanwhile.

A figure measured on a busy machine is not wrong, it is about a busy machine; so the load is said beside it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("protos", "agent", "collector", "lab")
OWN_36 = ROOT / ".venv36/bin/python"
_RUNS = "import sys, grpc, google.protobuf; print('%d.%d' % sys.version_info[:2])"


def find_code() -> None:
    """Make the project importable here and in every program that is started from here."""
    for folder in (str(ROOT), *(str(ROOT / name) for name in reversed(SOURCES))):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def command_line() -> str:
    """How this very program is started from the project's root, without its options."""
    python = Path(sys.executable)
    shown = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    return f"{shown} tests/bench"


def runs_agents(python: Path | str) -> str:
    """Its version, e.g. "3.6", if this interpreter runs and has what an agent needs; else ""."""
    try:
        done = subprocess.run([str(python), "-c", _RUNS], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def headline() -> str:
    """What these figures were measured on."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    version = platform.python_version()
    return f"Linux {platform.release()}, {os.cpu_count()} CPUs, load {load}, Python {version}"
