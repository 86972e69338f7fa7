"""Runs the checks of one tier (tests/README.md: quick, full or long), and closes with one plain line of counts.

Rules:
 * Steps of one lane run one after another, the lanes beside each other: the lab's tests mostly wait, and what works
   runs meanwhile. The front lane shows its output as it comes, the others when a step of theirs has ended.
 * All steps run even if an earlier one failed: one run shows everything that is wrong. The exit status is 0 only if
   every step passed and at least one test ran.
 * A step counts by what its tool says: a pytest step by pytest's own counts, any other as one test. A pytest step that
   ends badly without a failed test to show for it (collection error, crash) counts as one failure more.
 * Python 3.6 (dom0's) is used where it runs. Where it does not, nothing pretends: a closing line says so. Under
   CI=true, if a 3.6 was found, each 3.6 step must have left its mark in this very run, or the run fails.
 * The agent's packages for newer dom0s are tried on Python 3.11 and 3.12 by tests/packaging; a closing line says where
   one of these is not here.
 * Bytecode is written beside the sources, as Python does, even if the environment says otherwise: hundreds of processes
   are started, and each would compile all of it again.
 * The last line is `total: N passed, N failed`, for people and for machines.

Started by `make test-quick`, `make test` and `LONG=1 make test` with .venv's Python, after .venv and, where possible,
.venv36 are set up; the tier is its one argument.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/bin/python"
PYTHON36 = ROOT / ".venv36/bin/python"
MYPY_OVER = ("collector", "lab")
TIERS = ("quick", "full", "long")
NEWER = ("3.11", "3.12")  # of XenServer 9 and XCP-ng 9
# Files share nothing but the machine. What works is spread test by test; what waits keeps a file's lab to one worker.
WORKING = ("--numprocesses=auto", "--dist=worksteal")
QUICKLY = (f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=worksteal")  # nothing else runs beside it
WAITING = ("--numprocesses=3", "--dist=loadfile")
WAITS = ("tests/lab", "tests/fencing", "tests/packaging")
ALSO_WAIT = ("tests/agent", "tests/mutations")  # but for their quick tests, which are all that a quick run has
SHAPE = "tests/project"  # parses every file of ours, which one process does once for all of its tests
COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)")


@dataclass(frozen=True)
class Step:
    """One check: a name for people and the command that decides it by its exit status."""

    name: str
    command: tuple[str, ...]
    is_pytest: bool = False
    on_python36: bool = False
    lane: str = "front"


@dataclass(frozen=True)
class Outcome:
    """What one step came to; `skipped` and `left_out` are pytest's counts."""

    step: Step
    passed: int
    failed: int
    skipped: int
    seconds: float


def steps(with_python36: bool, tier: str = "full") -> list[Step]:
    """The steps of a run, in the order in which each lane takes them, quick ones first."""
    py, py36 = str(PYTHON), str(PYTHON36)
    folders = [str(folder.relative_to(ROOT)) for folder in sorted((ROOT / "tests").iterdir()) if folder.is_dir()]
    waits = WAITS if tier == "quick" else (*WAITS, *ALSO_WAIT)
    apart = (*waits, SHAPE, "tests/bench", "tests/__pycache__")
    works = [folder for folder in folders if folder not in apart]
    tests = (py, "-m", "pytest", f"--tier={tier}")
    wanted = [
        Step("ruff check", (py, "-m", "ruff", "check", "--quiet", ".")),
        Step("ruff format", (py, "-m", "ruff", "format", "--check", "--quiet", ".")),
        Step("mypy strict", (py, "-m", "mypy", *MYPY_OVER), lane="types"),
        Step("pytest, shape", (*tests, "--numprocesses=0", SHAPE), is_pytest=True, lane="types"),
        Step("pytest, what works", (*tests, *(QUICKLY if tier == "quick" else WORKING), *works), is_pytest=True),
    ]
    if tier == "quick":
        return wanted
    wanted.append(Step("pytest, what waits", (*tests, *WAITING, *waits), is_pytest=True, lane="waiting"))
    if with_python36:
        agent = (py36, "-m", "pytest", f"--tier={tier}", "tests/agent")
        demo = (str(ROOT / ".venv/bin/poolwarden"), "lab", "demo", "--plain", "--agent-python", py36)
        compare = (py, "tests/contract/compare_protocol.py", py36)
        wanted += [
            Step("protocol, protobuf 3.19.6", compare, on_python36=True, lane="3.6"),
            Step("demo story, agents on Python 3.6", demo, on_python36=True, lane="3.6"),
            Step("agent, Python 3.6", agent, is_pytest=True, on_python36=True, lane="3.6"),
        ]
    return wanted


def counts(step: Step, output: str, status: int) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a step, from pytest's summary or from the exit status alone."""
    if not step.is_pytest:
        return (1, 0, 0) if status == 0 else (0, 1, 0)
    lines = [line for line in output.splitlines() if COUNT.search(line) and " in " in line]
    found: dict[str, int] = {}
    for number, word in COUNT.findall(lines[-1] if lines else ""):
        found[word.rstrip("s")] = found.get(word.rstrip("s"), 0) + int(number)
    failed = found.get("failed", 0) + found.get("error", 0) + found.get("xpassed", 0)
    if status != 0 and failed == 0:
        failed = 1
    return found.get("passed", 0), failed, found.get("skipped", 0) + found.get("xfailed", 0)


_printing = threading.Lock()


def run(step: Step, environment: Mapping[str, str]) -> Outcome:
    """Run one step; of the front lane its output is shown as it comes, of another lane when it has ended."""
    live = step.lane == "front"
    if live:
        _say(f"\n== {step.name}\n")
    began = time.monotonic()
    kept: list[str] = []
    with subprocess.Popen(
        step.command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            kept.append(line)
            if live:
                _say(line)
    passed, failed, skipped = counts(step, "".join(kept[-50:]), process.returncode)
    seconds = time.monotonic() - began
    shown = "" if live else "".join([f"\n== {step.name}\n", *kept])
    _say(f"{shown}-- {step.name}: {'ok' if failed == 0 else 'FAILED'} ({seconds:.1f} s)\n")
    return Outcome(step, passed, failed, skipped, seconds)


def _say(text: str) -> None:
    with _printing:
        sys.stdout.write(text)
        sys.stdout.flush()


def run_all(wanted: Sequence[Step], environment: Mapping[str, str]) -> list[Outcome]:
    """Run every step, lane beside lane; the outcomes in the order of the steps."""
    outcomes: dict[str, Outcome] = {}

    def take(lane: str) -> None:
        for step in wanted:
            if step.lane == lane:
                outcomes[step.name] = run(step, environment)

    lanes = [threading.Thread(target=take, args=(lane,)) for lane in dict.fromkeys(step.lane for step in wanted)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return [outcomes[step.name] for step in wanted]


def close(outcomes: list[Outcome], found36: bool, tier: str = "full", lacking: Sequence[str] = ()) -> int:
    """Print the closing lines; return the exit status. ``lacking``: Pythons of newer dom0s that are not here."""
    passed, failed, skipped = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed", "skipped")
    )
    print()
    for outcome in outcomes:
        if outcome.failed:
            print(f"failed: {outcome.step.name}; again by: {' '.join(outcome.step.command)}")
    ran36 = {outcome.step.name for outcome in outcomes if outcome.step.on_python36 and outcome.passed + outcome.failed}
    owed36 = [step.name for step in steps(found36, tier) if step.on_python36 and step.name not in ran36]
    if owed36 and os.environ.get("CI") == "true":
        print(f"failed: Python 3.6 is here, and yet these did not run on it: {', '.join(owed36)}")
        failed += len(owed36)
    if not found36 and tier != "quick":
        print("not run: no Python 3.6")
    for version in lacking if tier != "quick" else ():
        print(f"not run: no Python {version}; neither the agent's package for it nor the agent on it was tried")
    print(f"total: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


def python_found(version: str) -> bool:
    """Whether a working one is on this machine, whether or not its environment could be set up."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    finder = (str(ROOT / "packaging/develop/find-python"), version)
    return subprocess.run(finder, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0


def main() -> int:
    """Run all steps of the tier; returns the exit status."""
    tier = sys.argv[1] if len(sys.argv) > 1 else "full"
    if tier not in TIERS:
        print(f"run_tests: there is no tier {tier!r}; there are {', '.join(TIERS)}", file=sys.stderr)
        return 2
    found36 = python_found("3.6")
    lacking = [version for version in NEWER if not python_found(version)]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**inherited, "PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return close(run_all(steps(found36, tier), environment), found36, tier, lacking)


if __name__ == "__main__":
    sys.exit(main())
