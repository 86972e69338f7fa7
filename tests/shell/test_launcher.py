"""A power switch is begun in time or never: the launcher's clock, this collector's right, what is told of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import PowerOff, PowerOn
from poolwarden_collector.core.model.events import FenceEnded
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.fencing import agent_run
from poolwarden_collector.shell.fencing.agent_run import launched, run_agent
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.fencing.leave import Leave, Ordered
from poolwarden_collector.shell.loop.ready import stamped

from .rig import HOSTS, POOL, mono_ms, until
from .test_fencer import Heard, device, script

pytestmark = pytest.mark.asyncio

STOPS = ("/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh")  # itself, before its first instruction


def soon(ms: int = 60_000) -> int:
    return clock.awake_or_not_ms() + ms


def ends_in(ms: int) -> Leave:
    """A right that ends so long after it is asked for first."""
    first: list[int] = []

    def right_until() -> int:
        first.append(soon(ms))
        return first[0]

    return Leave(right_until=right_until, within_ms=60_000)


def stopped() -> int:
    """The child of ours that is stopped; 0: none is."""
    for pid in children():
        if state(pid) == "T":
            return pid
    return 0


def children() -> list[int]:
    return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Switching(Heard):
    """A fencer with a leave."""

    def __init__(self, agent: Path, leave: Leave = Leave(), limit_ms: int = 20_000) -> None:  # noqa: B008
        super().__init__(device(agent, limit_ms))
        self.fencer = Fencer((device(agent, limit_ms),), self.take, mono_ms, leave=leave)

    async def ended(self, effect: PowerOff | PowerOn) -> FenceEnded:
        (self.fencer.power_on if isinstance(effect, PowerOn) else self.fencer.power_off)(POOL, effect)
        await until(lambda: self.events, 20)
        event = self.events.pop()
        assert isinstance(event, FenceEnded)
        return event


OFF, ON = PowerOff(HOSTS[0], "dev", "run-2"), PowerOn(HOSTS[0], "dev", "run-2")


@pytest.mark.slow
@pytest.mark.parametrize("effect", [OFF, ON], ids=["off", "on"])
async def test_a_launcher_that_was_stopped_past_its_time_executes_nothing(
    tmp_path: Path, effect: PowerOff | PowerOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that was suspended between the start of a process and its first instruction."""
    monkeypatch.setattr(agent_run, "LAUNCHER", (*STOPS, *agent_run.LAUNCHER))
    heard, over = Switching(script(tmp_path, f"cat >{tmp_path}/in; exit 0"), ends_in(400)), []
    ending = asyncio.ensure_future(heard.ended(effect))
    await until(stopped)
    over.append(clock.awake_or_not_ms() + 400)
    await until(lambda: clock.awake_or_not_ms() >= over[0])
    os.kill(stopped(), signal.SIGCONT)
    ended = await ending
    assert (ended.claim, ended.certain, ended.begun) == (False, True, False)
    assert "too late" in ended.text and not (tmp_path / "in").exists()


async def test_one_that_goes_on_in_time_executes_it_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_run, "LAUNCHER", (*STOPS, *agent_run.LAUNCHER))
    heard = Switching(script(tmp_path, f"cat >{tmp_path}/in; exit 0"), Leave(within_ms=60_000))
    ending = asyncio.ensure_future(heard.ended(OFF))
    await until(stopped)
    os.kill(stopped(), signal.SIGCONT)
    ended = await ending
    assert (ended.claim, ended.certain, ended.begun) == (True, True, True)
    assert (tmp_path / "in").read_text() == "action=off\n"


@pytest.mark.slow
async def test_one_that_never_comes_to_execute_it_has_certainly_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "LAUNCHER", (*STOPS, *agent_run.LAUNCHER))
    ended = await Switching(script(tmp_path, f"cat >{tmp_path}/in; exit 0"), limit_ms=200).ended(OFF)
    assert (ended.claim, ended.certain, ended.begun) == (False, True, False)
    assert "was not executed within its time" in ended.text and not (tmp_path / "in").exists()


@pytest.mark.slow
async def test_an_agent_that_hangs_after_it_was_executed_is_not_certain(tmp_path: Path) -> None:
    ended = await Switching(script(tmp_path, "exec sleep 600"), limit_ms=1_000).ended(OFF)
    assert (ended.claim, ended.certain, ended.begun) == (False, False, True) and "no result within 1 s" in ended.text


async def test_an_agent_that_cannot_be_executed_has_not_begun(tmp_path: Path) -> None:
    agent = script(tmp_path, "exit 0")
    agent.chmod(0o644)
    ended = await Switching(agent).ended(OFF)
    assert (ended.certain, ended.begun) == (True, False) and "cannot be started: Permission denied" in ended.text


@pytest.mark.parametrize(
    ("leave", "says"),
    [
        (Leave(why_not=lambda pool: f"its lease is gone in {pool}"), f"may not act now: its lease is gone in {POOL}"),
        (Leave(right_until=lambda: soon(0)), "its time has been over"),
        (Leave(within_ms=1_000), "its time has been over"),
    ],
    ids=["no right", "the right is over", "its record is old"],
)
async def test_no_process_is_made_for_what_may_not_begin(
    tmp_path: Path, leave: Leave, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Switching(script(tmp_path, f"cat >{tmp_path}/in; exit 0"), leave)
    monkeypatch.setattr(agent_run.subprocess, "Popen", None)
    ended = await heard.ended(replace(OFF, decided_at=soon(-1_500)))
    assert (ended.certain, ended.begun) == (True, False) and says in ended.text, ended.text


async def test_the_first_of_three_ends_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time since its step, what it was decided on, and this collector's right; each on its own clock."""
    monkeypatch.setattr(clock, "awake_or_not_ms", lambda: 100_000)
    ordered = Ordered(at=500, slept=0, decided_at=99_000)

    def ends(right: int, within: int, valid_until: int) -> int:
        return Leave(right_until=lambda: right).begin_by(replace(OFF, valid_until=valid_until), ordered, 600, within)

    assert ends(200_000, 5_000, 0) == 104_000
    assert ends(200_000, 5_000, 1_600) == 101_000
    assert ends(100_500, 5_000, 1_600) == 100_500
    assert Leave().begin_by(ON, ordered, 600, 2_000) == 101_000
    assert Leave().why_no_switch(POOL, 100_001) == "" != Leave().why_no_switch(POOL, 100_000)


async def test_a_switch_knows_when_its_step_was_made() -> None:
    assert stamped(OFF, 77) == OFF and getattr(stamped(OFF, 77), "decided_at") == 77  # noqa: B009
    assert getattr(stamped(ON, 78), "decided_at") == 78  # noqa: B009


async def test_the_agent_finds_nothing_of_the_launcher(tmp_path: Path) -> None:
    body = "{ env | sort; ls /proc/$$/fd; grep -E '^Sig(Ign|Blk|Cgt)' /proc/$$/status; } | grep -v '^_='"
    seen = []
    for begin_by in (None, soon()):
        run = await run_agent(script(tmp_path, body), {}, "off", 20.0, begin_by)
        seen.append(run.output)
    assert seen[0] and seen[0] == seen[1]


async def test_the_limit_holds_also_where_whoever_started_it_is_gone(tmp_path: Path) -> None:
    hears, says = os.pipe()
    command = [*launched(soon(), 0.0)[:-1], "300", str(says), str(script(tmp_path, "sleep 60 & wait; exit 0"))]
    started: Any = subprocess.Popen(command, pass_fds=(says,), stdin=subprocess.DEVNULL, start_new_session=True)
    os.close(says)
    try:
        assert await asyncio.to_thread(started.wait, 20) == -signal.SIGALRM
        assert os.read(hears, 100) == b"b" and sys.executable == command[0]
    finally:
        os.close(hears)
        os.killpg(started.pid, signal.SIGKILL)
