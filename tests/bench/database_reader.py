"""What reading a large state.db costs the agent: a file of 100 MB, its hosts, VMs and pool, in a fresh process.

The file is as xapi writes it (one table per class, one row per object, everything in attributes), and most of it is
what a large pool's database is full of: VDIs, messages, tasks. Memory is the highest resident size after the reader was
loaded (VmHWM, reset by clear_refs), less what was resident before it: what a dom0 lends for the time of one look.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from figures import Figure, reproduce
from machine import ROOT
from settings import Settings, progress

NAME = "database"
SIZE_BYTES = 100_000_000
MEMORY_BUDGET_MB = None  # design sets none for one look
_HEAD = (
    "<database><manifest><pair key='schema_major_vsn' value='5'/><pair key='generation_count' value='7'/></manifest>"
)
_ROWS = {
    "pool": (1, "<row ref='OpaqueRef:p' uuid='pool-0' master='OpaqueRef:h0' other_config='()'/>"),
    "host": (64, "<row ref='OpaqueRef:h{n}' uuid='host-{n}' address='10.0.0.{n}' name__label='host%.{n}'/>"),
    "VM": (
        2_000,
        "<row ref='OpaqueRef:v{n}' uuid='vm-{n}' name__label='vm%.{n}' resident_on='OpaqueRef:h1' power_state='Running'"
        " is_control_domain='false' is_a_template='false' is_a_snapshot='false'/>",
    ),
}
_FILL = "<row ref='OpaqueRef:d{n}' uuid='vdi-{n}' name__label='disk%.of%.a%.virtual%.machine' sm_config='{more}'/>"
_READ = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from poolwarden_agent.dom0.xapi import database as statedb
def kb(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before, began = kb("VmRSS"), time.perf_counter()
view = statedb.view(sys.argv[2])
took = time.perf_counter() - began
assert view.readable and len(view.placements) == 2000, view.text
print(json.dumps({"mb": (kb("VmHWM") - before) / 1024, "s": took}))
"""


def main(settings: Settings) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as place:
        size = _write(Path(place) / "var/lib/xcp/state.db")
        for version, python in sorted(settings.pythons.items()):
            samples = [_read(python, place) for _ in range(max(3, settings.rounds // 10))]
            progress(f"Python {version}: {samples[-1]}")
            what = f"a state.db of {size / 1e6:.0f} MB read by the agent, Python {version}"
            notes = (reproduce(NAME, settings.rounds),)
            memory = tuple(sample["mb"] for sample in samples)
            figures.append(Figure(NAME, f"{what}: memory beyond before", "MB", memory, MEMORY_BUDGET_MB, notes))
            figures.append(Figure(NAME, f"{what}: time", "s", tuple(sample["s"] for sample in samples), None, notes))
    return figures


def _read(python: str, place: str) -> dict[str, float]:
    done = subprocess.run(
        [python, "-c", _READ, str(ROOT / "agent"), place], capture_output=True, text=True, timeout=300, check=True
    )
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def _write(path: Path) -> int:
    """The file and its generation; its size in bytes."""
    path.parent.mkdir(parents=True)
    Path(f"{path}.generation").write_text("7")
    with path.open("w") as file:
        file.write(_HEAD)
        for table, (count, row) in _ROWS.items():
            file.write(f"<table name='{table}'>" + "".join(row.format(n=n) for n in range(count)) + "</table>")
        file.write("<table name='VDI'>")
        number = 0
        while file.tell() < SIZE_BYTES:
            file.write("".join(_FILL.format(n=n, more="x" * 400) for n in range(number, number + 1_000)))
            number += 1_000
        file.write("</table></database>")
    return path.stat().st_size
