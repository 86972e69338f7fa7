"""docs/first-trial.md, typed in its order against a lab: what reads, the drill as a script, and what is sent back.

``pool add`` and ``pool remove`` are played over real sshds (tests/packaging/test_pool_by_ssh.py), the drill's other
steps in test_drill.py, and `verify` of the installed package on each Python in tests/packaging/test_agent_installed.py.
"""

import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lab_rig import Lab

pytestmark = [pytest.mark.needs("namespaces", "ip", "nft"), pytest.mark.long]
PAGE = Path(__file__).resolve().parents[2] / "docs/first-trial.md"
ELSEWHERE = ("pool add", "pool remove")
AGENT = "poolwarden-agent"


def commands() -> list[list[str]]:
    """The page's own commands, in its order, with the lab's pool."""
    lines = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    return [shlex.split(line.replace("POOL", "lab")) for line in lines if line.startswith("poolwarden")]


def test_each_command_of_the_page_does_what_it_says(new_lab: Callable[[], Lab], tmp_path: Path) -> None:
    lab = new_lab().up(2, "--time-factor", "20")
    lab.wait(lambda: lab.pool().verdict == "Healthy", "Healthy")
    said: dict[str, str] = {}
    for words in commands():
        line = " ".join(words[1:])
        if words[0] == AGENT:
            report = tmp_path / Path(words[-1]).name
            agent = (f"opt/poolwarden/bin/{AGENT}", *words[1:-1], str(report))
            done = lab.lab("exec", "h1", "--", *agent, check=False)
            assert done.returncode in (0, 1), done.stdout + done.stderr
            said[report.name] = report.read_text()
        elif not line.startswith(ELSEWHERE):
            script = ["--yes", "--steps", "restart"] if line == "drill lab" else []
            # Who types is slower than this: on a busy machine a member may not be seen as attached yet.
            typed = partial(lab.cli, *words[1:], *script)
            done = lab.wait(lambda typed=typed: None if "not attached" in (it := typed()).stderr else it, line)
            allowed = (0, 1) if words[1] == "readiness" else (0,)
            assert done.returncode in allowed, f"{line}: {done.stdout}{done.stderr}"
            said[line] = done.stdout
    assert "a drill would walk" in said["drill lab --plan"] and "PASSED" in said["history lab --drills"]
    assert "lab-h2" in said["history lab --drills"], "the page says that hosts are named there"
    private = re.compile(r"lab-h\d|10\.99\.0\.|[0-9a-f]{8}-[0-9a-f]{4}-")
    for name in ("verify-before.txt", "verify-after.txt"):
        assert re.search(r"\d+ fail, \d+ hold, \d+ not seen", said[name])
        assert not private.search(said[name]), private.findall(said[name])
