"""Whose fence agent runs next: the order of turns, without a process, a clock or a loop.

Rules
-----
* One run at a time per device, whoever asks for it.
* A power switch goes before every reading, and takes any slot that is free: it is begun within seconds or not at all,
  and a pool that asks for it in vain a few times gives that device up. Readings lose nothing but a moment.
* Of readings goes first what a proof waits for, then what an open failover, then what a suspicion, then what the day
  asks for. Of the same urgency the one that has waited longest. Who waits rises by one place each ``AGE_MS``, so nobody
  waits for ever.
* An agent that this collector runs takes a *slot*: it is a process. How many there are says the machine (``slots_of``).
* A group (a site, or a pool of none) may hold twice as many slots as are free, no more: forty devices of one site that
  hang leave a third of all to the others, and two such sites a fifth.
* Devices that took more than ``SLOW_MS`` the last time, and runs that take longer now, hold half of all slots together.
* The last eighth of the slots is for what a proof waits for; and for a reading that ``PASSED_BY`` proofs have passed.
* By day at most ``BY_DAY_AT_ONCE`` devices are read, by whomever: it is no hurry.
* At most ``BEGUN_AT_ONCE`` runs are begun in a turn of the loop: starting forty processes at once froze it for 0.66 s,
  four for 25 ms (measured with a collector of 300 MB).
* A run by a member takes no slot here.
"""

from __future__ import annotations

import heapq
import os
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from poolwarden_collector.core.model.effects import Urgency
from poolwarden_collector.core.model.values import Ms

BY_DAY_AT_ONCE = 4
BEGUN_AT_ONCE = 4
AGE_MS: Ms = 30_000
PASSED_BY = 128  # begun while an older reading, which stood before them, found the last slots kept for proofs
SLOW_MS: Ms = 5_000
_FEWEST, _MOST = 16, 128
_OF_ONE = 64 << 20  # bytes: a fence agent in Python with the tool that it calls
_FIRST = -1_000_000_000  # no reading waits so long
_SHARE = 8  # of the machine's memory, and of the processes that may be


@dataclass(frozen=True, slots=True)
class Ask:
    """A run that is wanted. ``here``: this collector runs it itself; ``group``: whose slots it counts among;
    ``switch``: it switches power.
    """

    device: str
    group: str
    urgency: Urgency
    since: Ms
    here: bool = True
    switch: bool = False

    def place(self, now: Ms) -> tuple[int, Ms]:
        """The lowest goes first."""
        return _FIRST if self.switch else self.urgency - int((now - self.since) // AGE_MS), self.since


class Turns:
    """What waits and what runs; a number of the caller's names each."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._waiting: dict[int, Ask] = {}
        self._running: dict[int, tuple[Ask, Ms]] = {}  # and since when
        self._busy: set[str] = set()
        self._slow: set[str] = set()
        self._passed: Counter[int] = Counter()  # how often the last eighth was refused to one and given to a later one

    def ask(self, number: int, ask: Ask) -> None:
        """From now on it waits for its turn."""
        self._waiting[number] = ask

    def hasten(self, number: int, urgency: Urgency) -> bool:
        """It is more urgent now; false: it does not wait (any more), or is as urgent already."""
        ask = self._waiting.get(number)
        if ask is None or ask.urgency <= urgency:
            return False
        self._waiting[number] = Ask(ask.device, ask.group, urgency, ask.since, ask.here)
        return True

    def waits(self, number: int) -> bool:
        """Has it not had its turn yet?"""
        return number in self._waiting

    def begin(self, now: Ms) -> tuple[int, ...]:
        """Whose turn it is: these run from now on. At most ``BEGUN_AT_ONCE``; ask again for the others."""
        found: list[int] = []
        holders = _Holders(self, now)
        passed: list[int] = []
        for number, ask in self._in_order(now):
            if holders.room(ask, self._passed[number] >= PASSED_BY):
                self._passed.update(passed if ask.here and not ask.switch else ())
                self._passed.pop(number, None)
                del self._waiting[number]
                self._running[number] = (ask, now)
                self._busy.add(ask.device)
                holders.take(ask)
                found.append(number)
                if len(found) == BEGUN_AT_ONCE:
                    break
            elif holders.kept_from(ask):
                passed.append(number)
        return tuple(found)

    def over(self, number: int, now: Ms) -> None:
        """It has ended, or does not want its turn any more."""
        self._waiting.pop(number, None)
        self._passed.pop(number, None)
        ask, began = self._running.pop(number, (None, 0))
        if ask is None:
            return
        self._busy.discard(ask.device)
        if now - began > SLOW_MS:
            self._slow.add(ask.device)
        else:
            self._slow.discard(ask.device)

    def waiting(self, now: Ms) -> dict[Urgency, tuple[int, Ms]]:
        """Of each urgency how many wait, and how long the one does that waits longest, ms."""
        found: dict[Urgency, tuple[int, Ms]] = {}
        for ask in self._waiting.values():
            count, longest = found.get(ask.urgency, (0, 0))
            found[ask.urgency] = count + 1, max(longest, now - ask.since)
        return found

    @property
    def running(self) -> int:
        """Runs under way, here and at members."""
        return len(self._running)

    def _in_order(self, now: Ms) -> Iterator[tuple[int, Ask]]:
        queue = [(*ask.place(now), number) for number, ask in self._waiting.items()]
        heapq.heapify(queue)
        while queue:
            number = heapq.heappop(queue)[-1]
            yield number, self._waiting[number]


class _Holders:
    """Who holds what at this instant."""

    def __init__(self, turns: Turns, now: Ms) -> None:
        self._turns = turns
        runs = turns._running.values()
        here = [(ask, began) for ask, began in runs if ask.here]
        self._free = turns.slots - len(here)
        self._of_group = Counter(ask.group for ask, _ in here)
        self._slow = sum(1 for ask, began in here if ask.device in turns._slow or now - began > SLOW_MS)
        self._by_day = sum(1 for ask, _ in runs if ask.urgency is Urgency.ROUTINE)

    def kept_from(self, ask: Ask) -> bool:
        """Is it only that the last slots are kept for proofs?"""
        return not self.room(ask) and self.room(ask, passed=True)

    def room(self, ask: Ask, passed: bool = False) -> bool:
        """May it begin? ``passed``: by so many proofs that the last eighth is open to it, too."""
        if ask.device in self._turns._busy or (ask.urgency is Urgency.ROUTINE and self._by_day >= BY_DAY_AT_ONCE):
            return False
        if not ask.here:
            return True
        if ask.switch:
            return self._free > 0
        slots, proof = self._turns.slots, ask.urgency is Urgency.PROOF or passed
        kept = 0 if proof else slots // 8
        if self._free <= kept:
            return False
        if ask.device in self._turns._slow and self._slow >= slots // 2:
            return False
        return self._of_group[ask.group] < 2 * (self._free - kept)

    def take(self, ask: Ask) -> None:
        self._by_day += ask.urgency is Urgency.ROUTINE
        if ask.here:
            self._free -= 1
            self._of_group[ask.group] += 1
            self._slow += ask.device in self._turns._slow


def slots_of(memory_bytes: int, processes: int) -> int:
    """How many fence agents may run on a machine of so much memory, where so many processes may be (0: no limit)."""
    by_memory = memory_bytes // _SHARE // _OF_ONE
    by_processes = processes // _SHARE if processes else _MOST
    return max(_FEWEST, min(_MOST, by_memory, by_processes))


def own_slots() -> int:
    """The same of this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return slots_of(memory, 0 if processes == resource.RLIM_INFINITY else processes)
