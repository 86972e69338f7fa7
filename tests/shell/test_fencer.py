"""Fence agents as they really misbehave: small scripts that hang, leave children, lie about their exit status."""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import PowerOff, PowerOn, ReadPower, Recall
from poolwarden_collector.core.model.events import Event, FenceEnded, PowerRead
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.agent_run import run_agent, stdin_of
from poolwarden_collector.shell.fencing.fencer import Fencer

from .rig import HOSTS, POOL, mono_ms, until

pytestmark = pytest.mark.asyncio


def script(tmp_path: Path, body: str, name: str = "fence_test") -> Path:
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def device(agent: Path, limit_ms: int = 3_000, **parameters: str) -> Fence:
    return Fence(HOSTS[0], agent, "dev", 1, limit_ms, parameters)


class Heard:
    """A fencer with one device, and the events that it sent."""

    def __init__(self, *devices: Fence) -> None:
        self.events: list[Any] = []
        self.fencer = Fencer(devices, self.take, mono_ms)

    def take(self, pool: str, event: Event) -> None:
        assert pool == POOL
        self.events.append(event)

    async def status(self, name: str = "dev") -> PowerRead:
        self.fencer.read_power(POOL, ReadPower(HOSTS[0], name, "run-1"))
        await until(lambda: self.events, 10)
        event = self.events.pop()
        assert isinstance(event, PowerRead) and event.run_id == "run-1"
        return event

    async def off(self) -> FenceEnded:
        self.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2"))
        await until(lambda: self.events, 10)
        event = self.events.pop()
        assert isinstance(event, FenceEnded) and event.run_id == "run-2"
        return event


@pytest.mark.parametrize(
    ("code", "power"),
    [(0, Power.ON), (2, Power.OFF), (1, Power.UNKNOWN), (3, Power.UNKNOWN), (127, Power.UNKNOWN), (255, Power.UNKNOWN)],
)
async def test_status_is_three_valued(tmp_path: Path, code: int, power: Power) -> None:
    heard = Heard(device(script(tmp_path, f"cat >/dev/null; echo said something >&2; exit {code}")))
    reading = (await heard.status()).reading
    assert (reading.power, reading.text, reading.device) == (power, "said something", "dev")
    assert reading.started_at <= reading.ended_at


async def test_a_killed_agent_reads_unknown(tmp_path: Path) -> None:
    assert (await Heard(device(script(tmp_path, "kill -9 $$"))).status()).reading.power is Power.UNKNOWN


async def test_off_is_a_claim_only_at_exit_0(tmp_path: Path) -> None:
    for code, claim in ((0, True), (1, False), (2, False)):
        ended = await Heard(device(script(tmp_path, f"cat >/dev/null; exit {code}"))).off()
        assert (ended.claim, ended.certain) == (claim, True)


@pytest.mark.slow
async def test_a_hanging_off_is_killed_with_its_group_and_uncertain(tmp_path: Path) -> None:
    agent = script(tmp_path, f"trap '' TERM\nsleep 600 &\necho $! >{tmp_path}/child\necho asking >&2\nwait\nsleep 600")
    began = time.monotonic()
    ended = await Heard(device(agent, 500)).off()
    assert time.monotonic() - began < 60
    assert (ended.claim, ended.certain) == (False, False)
    assert "no result within 0.5 s" in ended.text and "asking" in ended.text
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


async def test_a_hanging_status_is_unknown(tmp_path: Path) -> None:
    reading = (await Heard(device(script(tmp_path, "sleep 600"), 300)).status()).reading
    assert reading.power is Power.UNKNOWN and "no result" in reading.text


async def test_a_late_child_does_not_outlive_the_result(tmp_path: Path) -> None:
    """It holds the agent's output open and would act later; neither may hold up the reading."""
    agent = script(tmp_path, f"(sleep 600; touch {tmp_path}/late) &\necho $! >{tmp_path}/child\nexit 2")
    began = time.monotonic()
    assert (await Heard(device(agent, 60_000)).status()).reading.power is Power.OFF
    assert time.monotonic() - began < 40
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


async def test_a_child_that_left_the_group_does_not_hold_up_the_reading(tmp_path: Path) -> None:
    agent = script(tmp_path, f"setsid sh -c 'echo $$ >{tmp_path}/child; sleep 600' &\necho off >&2\nsleep 0.1\nexit 2")
    began = time.monotonic()
    reading = (await Heard(device(agent, 60_000)).status()).reading
    assert (reading.power, reading.text) == (Power.OFF, "off") and time.monotonic() - began < 40
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_arguments_come_on_stdin_alone_action_last_and_once(tmp_path: Path) -> None:
    agent = script(tmp_path, f'cat >{tmp_path}/in; echo "$@" >{tmp_path}/args; exit 0')
    await Heard(device(agent, ip="192.0.2.9", password="s3cret", action="reboot")).status()
    assert (tmp_path / "in").read_text() == "ip=192.0.2.9\npassword=s3cret\naction=status\n"
    assert (tmp_path / "args").read_text() == "\n"


@pytest.mark.parametrize("action", ["reboot", "diag", "cycle", "off\naction=reboot"])
async def test_there_is_no_reboot(action: str) -> None:
    with pytest.raises(ValueError, match="no action"):
        stdin_of({}, action)


async def test_the_environment_is_minimal_and_nothing_is_inherited(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PCMK_service", "pacemaker-fenced")
    secret = os.open(tmp_path / "journal", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    agent = script(
        tmp_path,
        f"cd {tmp_path}; env >env; echo $OLDPWD >cwd; ls -l /proc/$$/fd >fds; cat /proc/$$/stat >stat",
    )
    await Heard(device(agent)).status()
    os.close(secret)
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LC_ALL", "PYTHONWARNINGS"}
    assert (tmp_path / "cwd").read_text() == "/\n"
    assert "journal" not in (tmp_path / "fds").read_text()
    pid, _, _, _, group, session = (tmp_path / "stat").read_text().split()[:6]
    assert pid == group == session


async def test_what_an_agent_repeats_of_a_secret_is_never_told(tmp_path: Path) -> None:
    agent = script(tmp_path, 'read a; echo "ipmitool -P ${a#password=} failed" >&2; exit 1')
    reading = (await Heard(device(agent, password="hunter2")).status()).reading
    assert reading.text == "ipmitool -P *** failed"
    assert "hunter2" not in repr(device(agent, password="hunter2"))


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "w\u00f6rt\u2028mit  ", "lo" * 150])
@pytest.mark.parametrize(
    "body",
    [
        "printf '%*sSECRET\\n' 495 x >&2; exit 1",  # its last line is cut within the secret
        "printf '%*sSECRET' 1048570 x; exit 1",  # what is kept of its output ends within the secret
        "printf 'wrong: SECRET ' >&2; exit 1",
    ],
)
async def test_a_secret_is_hidden_before_anything_is_cut(tmp_path: Path, secret: str, body: str) -> None:
    agent = script(tmp_path, body.replace("SECRET", secret))
    run = await run_agent(agent, {"password": secret}, "status", 5.0)
    assert run.code == 1 and len(run.text) <= 500
    for said in (run.text, run.output, run.errors):
        assert secret[:4] not in said
        assert not any(said.rstrip().endswith(secret[:n].rstrip()) for n in range(2, len(secret) + 1)), said[-40:]


async def test_an_absent_agent_is_a_certain_failure(tmp_path: Path) -> None:
    heard = Heard(device(tmp_path / "gone"))
    assert (await heard.status()).reading.power is Power.UNKNOWN
    ended = await heard.off()
    assert (ended.claim, ended.certain) == (False, True) and "cannot be started" in ended.text


async def test_a_device_that_is_not_configured_reads_unknown(tmp_path: Path) -> None:
    reading = (await Heard().status("elsewhere")).reading
    assert reading.power is Power.UNKNOWN and "not configured" in reading.text


@pytest.mark.slow
async def test_one_run_at_a_time_per_device(tmp_path: Path) -> None:
    agent = script(tmp_path, f"mkdir {tmp_path}/busy || exit 1; sleep 0.1; rmdir {tmp_path}/busy; exit 2")
    heard = Heard(device(agent))
    for _ in range(4):
        heard.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "r"))
    await until(lambda: len(heard.events) == 4)
    assert [e.reading.power for e in heard.events] == [Power.OFF] * 4
    stamps = [(e.reading.started_at, e.reading.ended_at) for e in heard.events]
    assert all(later[0] >= earlier[1] for earlier, later in zip(stamps, stamps[1:], strict=False))


@pytest.mark.slow
async def test_a_power_off_does_not_wait_its_turn_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was decided on would be old by then."""
    monkeypatch.setattr("poolwarden_collector.shell.fencing.fencer.OFF_WITHIN_MS", 100)
    heard = Heard(device(script(tmp_path, f"cat >>{tmp_path}/in; sleep 0.5; exit 0")))
    heard.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "run-1"))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2"))
    await until(lambda: len(heard.events) == 2)
    read, ended = heard.events
    assert isinstance(read, PowerRead) and isinstance(ended, FenceEnded)
    assert (ended.claim, ended.certain) == (False, True) and "not begun" in ended.text
    assert (tmp_path / "in").read_text() == "action=status\n"


@pytest.mark.parametrize("by_day", [True, False])
@pytest.mark.slow
async def test_by_day_at_most_four_devices_are_read_at_once(tmp_path: Path, by_day: bool) -> None:
    """And in an emergency more: devices that hang by day must not stand in front of it."""
    agent = script(
        tmp_path, f"mkdir {tmp_path}/$$; set -- {tmp_path}/[0-9]*; echo $#; sleep 0.15; rmdir {tmp_path}/$$; exit 0"
    )
    devices = [Fence(HOSTS[0], agent, f"d{n}", 1, 5_000) for n in range(9)]
    heard = Heard(*devices)
    for item in devices:
        heard.fencer.read_power(POOL, ReadPower(HOSTS[0], item.name, "r", monitor=by_day))
    await until(lambda: len(heard.events) == 9)
    counts = [int(e.reading.text) for e in heard.events]
    assert 1 < max(counts) <= 4 if by_day else max(counts) > 4


async def test_stopping_kills_what_runs(tmp_path: Path) -> None:
    heard = Heard(device(script(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 600"), 600_000))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "r"))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    await heard.fencer.stop()
    await until(lambda: not alive(int((tmp_path / "pid").read_text())))
    assert heard.events == []  # a run that was cut off here has no result; its intent stays open in the journal


async def test_a_power_off_is_not_begun_after_its_evidence(tmp_path: Path) -> None:
    heard = Heard(device(script(tmp_path, f"cat >>{tmp_path}/in; exit 0")))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2", valid_until=mono_ms() - 1))
    await until(lambda: heard.events)
    ended = heard.events[0]
    assert (ended.begun, ended.certain) == (False, True) and "too old" in ended.text
    assert not (tmp_path / "in").exists()


@pytest.mark.slow
async def test_a_recalled_power_off_that_waits_is_certain_never_to_happen(tmp_path: Path) -> None:
    heard = Heard(device(script(tmp_path, f"cat >>{tmp_path}/in; sleep 0.5; exit 0")))
    heard.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "run-1"))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2"))
    await until(lambda: (tmp_path / "in").exists())
    heard.fencer.recall(Recall(HOSTS[0], "run-2"))
    heard.fencer.recall(Recall(HOSTS[0], "run-2"))
    await until(lambda: len(heard.events) == 2)
    ended = next(event for event in heard.events if isinstance(event, FenceEnded))
    assert (ended.run_id, ended.claim, ended.certain, ended.begun) == ("run-2", False, True, False)
    assert (tmp_path / "in").read_text() == "action=status\n"


async def test_of_a_recalled_power_off_that_runs_nobody_knows_what_it_did(tmp_path: Path) -> None:
    heard = Heard(device(script(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 600"), 600_000))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "run-2"))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    heard.fencer.recall(Recall(HOSTS[0], "run-2"))
    await until(lambda: heard.events and not alive(int((tmp_path / "pid").read_text())))
    (ended,) = heard.events
    assert (ended.claim, ended.certain, ended.begun) == (False, False, True)
    heard.fencer.recall(Recall(HOSTS[0], "run-2"))  # long over


@pytest.mark.slow
async def test_an_absence_cuts_off_power_offs_alone(tmp_path: Path) -> None:
    """What was decided before a suspension must not land after it; a reading harms nobody and goes on."""
    body = f"read a; echo $$ >{tmp_path}/$a; case $a in action=off) exec sleep 600;; *) sleep 0.5; exit 2;; esac"
    agent = script(tmp_path, body)
    heard = Heard(device(agent, 600_000), Fence(HOSTS[0], agent, "other", 1, 600_000, {}))
    heard.fencer.power_off(POOL, PowerOff(HOSTS[0], "dev", "r"))
    heard.fencer.read_power(POOL, ReadPower(HOSTS[0], "other", "s"))
    pid = tmp_path / "action=off"
    await until(lambda: pid.exists() and pid.read_text().strip() and (tmp_path / "action=status").exists())
    heard.fencer.cut_off()
    await until(lambda: not alive(int(pid.read_text())))
    await until(lambda: heard.events)
    assert [type(event) for event in heard.events] == [PowerRead]
    heard.events.clear()
    assert (await heard.status("dev")).reading.power is Power.OFF  # the device can be used again
    await heard.fencer.stop()


async def test_an_agent_that_does_not_take_all_of_its_parameters_is_killed_before_its_input_ends(
    tmp_path: Path,
) -> None:
    """The action is the last line; an agent that reads none reboots by default."""
    did = tmp_path / "did"
    agent = script(tmp_path, f"sleep 0.2; cat > /dev/null; echo rebooted > {did}; exit 0")
    run = await run_agent(agent, {"ip": "x" * 10**6}, "status", 20.0)
    assert run.code != 0 and not did.exists()
    assert (await run_agent(agent, {"ip": "10.0.0.9"}, "status", 20.0)).code == 0 and did.exists()


async def test_an_agent_whose_end_cannot_be_watched_is_killed_before_its_input_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(pid: int) -> int:
        raise OSError(24, "Too many open files")

    did = tmp_path / "did"
    agent = script(tmp_path, f"sleep 1; echo rebooted > {did}")
    with monkeypatch.context() as exhausted:
        exhausted.setattr(os, "pidfd_open", refuses)
        run = await run_agent(agent, {}, "status", 20.0)
    assert "cannot be started" in run.text and not did.exists()


async def test_endless_output_is_bounded(tmp_path: Path) -> None:
    run = await run_agent(script(tmp_path, "yes"), {}, "status", 0.3)
    assert run.cut_off and len(run.output) <= 1024 * 1024


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["", POOL], ids=["an-absence", "standing-down"])
@pytest.mark.parametrize("switch", ["power_off", "power_on"])
async def test_a_power_switch_that_waits_is_told_as_not_begun_where_it_is_cut_off(
    tmp_path: Path, pool: str, switch: str
) -> None:
    heard = Heard(device(script(tmp_path, f"cat >>{tmp_path}/in; sleep 0.3; exit 0")))
    heard.fencer.read_power(POOL, ReadPower(HOSTS[0], "dev", "run-1"))
    effect = PowerOff(HOSTS[0], "dev", "run-2") if switch == "power_off" else PowerOn(HOSTS[0], "dev", "run-2")
    getattr(heard.fencer, switch)(POOL, effect)
    await until(lambda: (tmp_path / "in").exists())
    heard.fencer.cut_off(pool)
    await until(lambda: len(heard.events) == 2)
    ended = next(event for event in heard.events if isinstance(event, FenceEnded))
    assert (ended.run_id, ended.claim, ended.certain, ended.begun) == ("run-2", False, True, False)
    assert "cut off" in ended.text and (tmp_path / "in").read_text() == "action=status\n"
    heard.events.clear()
    getattr(heard.fencer, switch)(POOL, effect)
    await heard.fencer.stop()
    assert not heard.events, "a stop tells nothing: the next start examines what has no result"
