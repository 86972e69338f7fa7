"""Whose fence agent runs next: no device twice, no site before the others, a proof's reading first, nobody for ever."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import Hasten, PowerOff, PowerOn, ReadPower, Recall, Urgency
from poolwarden_collector.core.model.events import Event, FenceEnded, PowerRead
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.shell.config.fence_blocks import Fence
from poolwarden_collector.shell.fencing.fencer import Fencer
from poolwarden_collector.shell.fencing.turns import AGE_MS, BY_DAY_AT_ONCE, PASSED_BY, SLOW_MS, Ask, Turns, slots_of

from .rig import HOSTS, mono_ms, until

PROOF, FAILOVER, SUSPICION, ROUTINE = Urgency.PROOF, Urgency.FAILOVER, Urgency.SUSPICION, Urgency.ROUTINE


class Queue:
    """Turns with a clock of the test's; runs are named by their device."""

    def __init__(self, slots: int = 16) -> None:
        self.turns, self.now, self.names = Turns(slots), 0, list[str]()

    def ask(self, device: str, urgency: Urgency = SUSPICION, group: str = "", here: bool = True) -> int:
        self.names.append(device)
        self.turns.ask(len(self.names) - 1, Ask(device, group or device, urgency, self.now, here))
        return len(self.names) - 1

    def begin(self) -> list[str]:
        """All that may begin now."""
        found: list[str] = []
        while begun := self.turns.begin(self.now):
            found += [self.names[number] for number in begun]
        return found

    def over(self, *numbers: int, after: int = 0) -> None:
        self.now += after
        for number in numbers:
            self.turns.over(number, self.now)


def test_a_device_has_one_run_at_a_time_whoever_asks() -> None:
    queue = Queue()
    _, second = queue.ask("bmc", ROUTINE), queue.ask("bmc", PROOF, here=False)
    assert queue.begin() == ["bmc"] and queue.begin() == []
    assert queue.turns.running == 1
    queue.over(second)
    assert queue.begin() == ["bmc"]


def test_what_a_proof_waits_for_goes_first_then_by_urgency_then_by_age() -> None:
    queue = Queue()
    for device, urgency in (("day", ROUTINE), ("silent", SUSPICION), ("open", FAILOVER), ("proof", PROOF)):
        queue.ask(device, urgency)
        queue.now += 1
    queue.ask("silent-too", SUSPICION)
    assert queue.begin() == ["proof", "open", "silent", "silent-too", "day"]


def test_who_waits_rises_so_that_nobody_waits_for_ever() -> None:
    """However much of what is more urgent comes: it is younger."""
    queue = Queue(16)
    queue.turns.slots = 0
    queue.ask("day", ROUTINE)
    queue.now += 3 * AGE_MS
    for number in range(20):
        queue.ask(f"proof-{number}", PROOF)
    queue.turns.slots = 16
    assert queue.begin()[0] == "day"


def test_forty_devices_of_a_site_that_hang_leave_room_for_another_site() -> None:
    queue = Queue(64)
    for number in range(100):
        queue.ask(f"a{number}", SUSPICION, "site-a")
    begun = len(queue.begin())
    assert 30 <= begun <= 45
    queue.ask("b", SUSPICION, "site-b")
    assert queue.begin() == ["b"]
    for number in range(100):
        queue.ask(f"c{number}", SUSPICION, "site-c")
    assert len(queue.begin()) >= 5
    queue.ask("d", SUSPICION, "site-d")
    assert queue.begin() == ["d"]


def test_a_site_alone_has_most_of_the_slots() -> None:
    queue = Queue(16)
    for number in range(40):
        queue.ask(f"a{number}", SUSPICION, "site-a")
    assert len(queue.begin()) >= 8


def test_a_power_switch_waits_for_no_reading_of_another_device() -> None:
    """In a mass loss with devices that take 20 s each: it would be late each time, and its pool would give it up."""
    queue = Queue(16)
    slow = [queue.ask(f"slow-{number}", PROOF) for number in range(14)]
    while queue.begin():
        pass
    queue.over(*slow, after=SLOW_MS + 1)
    for number in range(14):
        queue.ask(f"slow-{number}", PROOF)
    assert len(queue.begin()) == 8
    queue.now += 20 * AGE_MS
    switch = Ask("slow-13", "slow-0", PROOF, queue.now, switch=True)
    queue.names.append("off")
    queue.turns.ask(len(queue.names) - 1, switch)
    assert queue.begin() == ["off"]


def test_a_power_switch_waits_for_its_own_device_and_for_a_slot() -> None:
    queue = Queue(2)
    first, second = queue.ask("bmc", PROOF), queue.ask("other", PROOF)
    queue.begin()
    for device in ("bmc", "third"):
        queue.names.append(f"off {device}")
        queue.turns.ask(len(queue.names) - 1, Ask(device, "g", PROOF, queue.now, switch=True))
    assert queue.begin() == []
    queue.over(second)
    assert queue.begin() == ["off third"]
    queue.over(first)
    assert queue.begin() == ["off bmc"]


def test_slots_are_kept_for_what_a_proof_waits_for() -> None:
    queue = Queue(16)
    for number in range(40):
        queue.ask(f"s{number}", FAILOVER)
    assert len(queue.begin()) == 14
    queue.ask("proof", PROOF)
    assert queue.begin() == ["proof"]


def test_a_reading_that_many_quick_proofs_have_passed_has_its_turn() -> None:
    queue = Queue()
    first = [queue.ask(f"f{n}", PROOF) for n in range(16)]
    queue.begin()
    reading = queue.ask("r", ROUTINE)
    queue.now += 5 * AGE_MS  # it stands before every proof that comes now
    running, begun, passed = first, [], 0
    while "r" not in begun and passed < 10 * PASSED_BY:
        done, running = running[0], running[1:]
        running.append(queue.ask(f"p{passed}", PROOF))
        queue.over(done)
        begun = queue.begin()
        passed += 1
    assert passed == PASSED_BY + 1 and not queue.turns.waits(reading)
    queue.over(reading)
    assert not queue.turns._passed, "what has had its turn is forgotten"


def test_a_reading_that_gives_up_is_forgotten_with_what_has_passed_it() -> None:
    queue = Queue()
    first = [queue.ask(f"f{n}", PROOF) for n in range(16)]
    queue.begin()
    reading = queue.ask("r", ROUTINE)
    queue.now += 5 * AGE_MS
    queue.ask("p", PROOF)
    queue.over(first[0])
    assert queue.begin() == ["p"] and queue.turns._passed[reading] == 1
    queue.over(reading)
    assert not queue.turns._passed


def test_slow_devices_hold_half_of_the_slots_together() -> None:
    """Each of a pool of its own, so no group is too many."""
    queue = Queue(16)
    slow = [queue.ask(f"slow-{number}") for number in range(14)]
    queue.begin()
    queue.over(*slow, after=SLOW_MS + 1)
    for number in range(14):
        queue.ask(f"slow-{number}")
    assert len(queue.begin()) == 8
    queue.ask("quick")
    assert queue.begin() == ["quick"]


def test_a_slow_device_that_is_quick_again_is_not_slow_any_more() -> None:
    queue = Queue(2)
    for took in (SLOW_MS + 1, 10):
        queue.over(queue.ask("one"), after=0)
        number = queue.ask("one", PROOF)
        assert queue.begin() == ["one"]
        queue.over(number, after=took)
    blocker = queue.ask("other", PROOF)
    assert queue.begin() == ["other"]
    queue.now += SLOW_MS + 1  # that one is slow now, and holds the half that slow ones may hold
    queue.ask("one", PROOF)
    assert queue.begin() == ["one"]
    queue.over(blocker)


def test_runs_that_take_long_now_count_as_slow() -> None:
    queue = Queue(16)
    slow = queue.ask("known", PROOF)
    queue.begin()
    queue.over(slow, after=SLOW_MS + 1)
    for number in range(8):
        queue.ask(f"hangs-{number}")
    assert len(queue.begin()) == 8
    queue.now += SLOW_MS + 1
    queue.ask("known", PROOF)
    assert queue.begin() == []
    queue.ask("quick")
    assert queue.begin() == ["quick"]


def test_by_day_few_devices_are_read_at_once_and_members_runs_take_no_slot() -> None:
    queue = Queue(16)
    for number in range(20):
        queue.ask(f"day-{number}", ROUTINE, here=number % 2 == 0)
    assert len(queue.begin()) == BY_DAY_AT_ONCE
    for number in range(100):
        queue.ask(f"member-{number}", FAILOVER, here=False)
    assert len(queue.begin()) == 100


def test_a_reading_that_waits_is_hastened_and_one_that_runs_is_not() -> None:
    queue = Queue(16)
    running = queue.ask("bmc", ROUTINE)
    queue.begin()
    waits = queue.ask("bmc", ROUTINE)
    assert not queue.turns.hasten(running, PROOF) and not queue.turns.hasten(99, PROOF)
    assert queue.turns.hasten(waits, PROOF) and not queue.turns.hasten(waits, SUSPICION)
    assert queue.turns.waiting(queue.now) == {PROOF: (1, 0)}


def test_who_gives_up_waiting_is_forgotten() -> None:
    queue = Queue()
    first, second = queue.ask("bmc"), queue.ask("bmc")
    queue.begin()
    queue.now += 1_000
    assert queue.turns.waiting(queue.now) == {SUSPICION: (1, 1_000)}
    queue.over(second)
    assert queue.turns.waiting(queue.now) == {}
    queue.over(first)
    assert queue.begin() == []


@pytest.mark.parametrize(
    ("gib", "processes", "slots"), [(1, 0, 16), (16, 0, 32), (512, 0, 128), (512, 256, 32), (512, 10, 16)]
)
def test_how_many_run_at_once_says_the_machine(gib: int, processes: int, slots: int) -> None:
    assert slots_of(gib << 30, processes) == slots


# ------------------------------------------------------------------------------------------------ with real agents


class Site:
    """A fencer whose devices' agents end only when the test lets them; pool "pool-X-1" is of site "X"."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder, self.events = folder, list[Any]()
        self.devices: list[Fence] = []
        self.fencer = Fencer((), self.take, mono_ms, site=lambda pool: pool.split("-")[1], slots=slots)

    def device(self, name: str) -> str:
        """One whose agent says that it has begun, and reads OFF when it is released."""
        os.mkfifo(self.folder / f"{name}.release")
        agent = self.folder / name
        here = self.folder / name
        agent.write_text(f"#!/bin/sh\ncat >{here}.in; : >{here}.began; read line <{here}.release; exit 2\n")
        agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
        self.devices.append(Fence(HOSTS[0], agent, name, 1, 60_000))
        self.fencer.replace_devices(tuple(self.devices))
        return name

    def take(self, pool: str, event: Event) -> None:
        self.events.append(event)

    def read(self, pool: str, device: str, urgency: Urgency = SUSPICION, monitor: bool = False) -> None:
        self.fencer.read_power(pool, ReadPower(HOSTS[0], device, f"run-{device}", urgency=urgency, monitor=monitor))

    def begun(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.began")}

    async def release(self, name: str) -> Any:
        """Let it end; its event."""
        before = len(self.events)
        await asyncio.to_thread((self.folder / f"{name}.release").write_text, "go\n")
        await until(lambda: len(self.events) > before)
        return self.events[-1]


@pytest.mark.asyncio
async def test_forty_slow_devices_at_one_site_do_not_delay_another_sites_reading(tmp_path: Path) -> None:
    site = Site(tmp_path, slots=12)
    for number in range(40):
        site.read(f"pool-a-{number}", site.device(f"a{number}"))
    await until(lambda: len(site.begun()) >= 8 and not site.fencer.turns.begin(mono_ms()))
    site.read("pool-b-1", site.device("b"))
    await until(lambda: "b" in site.begun())
    ended = await site.release("b")
    assert isinstance(ended, PowerRead) and ended.reading.power is Power.OFF and site.events == [ended]
    await site.fencer.stop()


@pytest.mark.asyncio
async def test_a_proofs_second_reading_goes_before_what_the_day_asks_for(tmp_path: Path) -> None:
    site = Site(tmp_path, slots=16)
    days = [site.device(f"day{number}") for number in range(8)]
    for name in days:
        site.read("pool-a-1", name, ROUTINE, monitor=True)
    await until(lambda: len(site.begun()) == BY_DAY_AT_ONCE)
    site.read("pool-a-1", site.device("proof"), PROOF)
    await until(lambda: "proof" in site.begun())
    # And one that was ordered for no hurry goes at once when it is waited for, without its monitor.
    waits = next(name for name in days if name not in site.begun())
    site.fencer.hasten(Hasten(f"run-{waits}", PROOF))
    await until(lambda: waits in site.begun())
    assert "action=status" in (tmp_path / f"{waits}.in").read_text()
    assert len(site.begun()) == BY_DAY_AT_ONCE + 2
    await site.fencer.stop()


@pytest.mark.asyncio
async def test_a_reading_that_still_waits_is_replaced_by_the_next_one_of_its_device(tmp_path: Path) -> None:
    """The engine orders it anew when it has waited for long, and hears the newest one alone; its wait goes on."""
    site = Site(tmp_path, slots=16)
    name = site.device("bmc")
    site.read("pool-a-1", name)
    await until(lambda: name in site.begun())
    for run in ("second", "third"):
        site.fencer.read_power("pool-a-1", ReadPower(HOSTS[0], name, run))
        await until(lambda run=run: site.fencer.waits(run))
    assert not site.fencer.waits("second") and not site.fencer.waits(f"run-{name}")
    assert (await site.release(name)).run_id == f"run-{name}"
    assert (await site.release(name)).run_id == "third"
    await until(lambda: not site.fencer.turns.running)
    assert len(site.events) == 2


@pytest.mark.asyncio
async def test_who_is_cancelled_in_its_turn_gives_it_back(tmp_path: Path) -> None:
    """A power-off that is recalled while it waits is certain, and the next one begins."""
    site = Site(tmp_path, slots=16)
    name = site.device("bmc")
    site.read("pool-a-1", name)
    await until(lambda: name in site.begun())
    site.fencer.power_off("pool-a-1", PowerOff(HOSTS[0], name, "off-1"))
    site.read("pool-a-2", name)
    await asyncio.sleep(0)
    site.fencer.recall(Recall(HOSTS[0], "off-1"))
    await until(lambda: any(isinstance(event, FenceEnded) for event in site.events))
    assert await site.release(name)
    await asyncio.to_thread((tmp_path / f"{name}.release").write_text, "go\n")
    await until(lambda: sum(isinstance(event, PowerRead) for event in site.events) == 2)
    (ended,) = [event for event in site.events if isinstance(event, FenceEnded)]
    assert (ended.certain, ended.begun) == (True, False)
    await until(lambda: not site.fencer.turns.running)


@pytest.mark.asyncio
@pytest.mark.parametrize("switch", [PowerOff, PowerOn])
async def test_what_waits_while_the_machine_sleeps_is_not_begun_after_it(tmp_path: Path, switch: Any) -> None:
    """The turn comes with the wake-up, before the collector has noticed that it was away; its clock stood still."""
    site, slept = Site(tmp_path, slots=16), 0
    site.fencer = Fencer((), site.take, mono_ms, slots=16, slept=lambda: slept)
    name = site.device("bmc")
    begin = site.fencer.power_off if switch is PowerOff else site.fencer.power_on
    site.read("pool-a-1", name)
    await until(lambda: name in site.begun())
    begin("pool-a-1", switch(HOSTS[0], name, "switch-1"))
    await asyncio.sleep(0)
    slept = 600_000
    await site.release(name)
    await until(lambda: len(site.events) == 2)
    (ended,) = [event for event in site.events if isinstance(event, FenceEnded)]
    assert (ended.claim, ended.certain, ended.begun) == (False, True, False)
    assert "action=status" in (tmp_path / f"{name}.in").read_text()
