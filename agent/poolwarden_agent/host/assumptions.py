"""What is known of the assumptions on this host: looked at, learned when it happened, kept, and told.

Rules
-----
* One thread calls ``turn``, apart from those that look at xapi and carry out orders: a disk or a systemd that hangs
  holds up nothing else. Nothing raises out of here but what the caller logs.
* Static looks: ``FIRST_MS`` after the start, once more when all that comes with a boot is there, then daily; while one
  fails, each ten minutes, so that what was put right is seen.
* What was learned is stored when it changes, at most once a minute, and read at the next start. A disk that takes no
  writes loses nothing that is known now; it is tried again.
* The same is told again at most daily: a report is not sent for it each time.
"""

import threading
from typing import Dict, Optional, Tuple

from poolwarden_agent.core import findings
from poolwarden_agent.core.findings import FAILS, Result, Seen
from poolwarden_agent.core.probe_rules import ANSWERS, DOWN, SILENT
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.looking_on.happenings import Happenings
from poolwarden_agent.host.looking_on.instant import Now
from poolwarden_agent.host.observer import Observer
from poolwarden_agent.host_port import HostPort

FIRST_MS, SECOND_MS, DAILY_MS = 5000, 1200000, 86400000
AGAIN_MS = 600000  # while one fails
SAME_MS = DAILY_MS
STORE_MS = 60000


class Assumptions(object):
    """One host's."""

    def __init__(self, port: HostPort, keeper: Keeper, observer: Observer, boot: BootGate) -> None:
        self._port = port
        self._keeper = keeper
        self._observer = observer
        self._boot = boot
        self._happenings = Happenings()
        self._lock = threading.Lock()
        self._looked: Dict[str, Result] = {}
        self._learned: Dict[str, Result] = {}
        self._release = ""
        self._looks = 0
        self._next_ms = port.mono_ms() + FIRST_MS
        self._loaded = False
        self._unsaved = False
        self._saved_ms: Optional[int] = None
        self.results: Tuple[Result, ...] = ()

    def turn(self, connected: bool, pids: Tuple[int, ...] = ()) -> None:
        """To be called each report interval. ``pids``: the agent's processes."""
        self._load()
        if self._port.mono_ms() >= self._next_ms:
            self._look(pids)
        self._learn(connected)
        self._store()

    def put(self, name: str, seen: Seen) -> None:
        """Something that was learned elsewhere: of a host that is only modelled, say. From any thread."""
        self._keep(name, seen)
        self._tell()

    # ------------------------------------------------------------------------------------------ looking

    def _look(self, pids: Tuple[int, ...]) -> None:
        self._next_ms = self._port.mono_ms() + AGAIN_MS  # also where the look fails
        looked = self._port.look_at_assumptions(self._answers, self._placed, pids)
        if looked is None:
            self._next_ms = self._port.mono_ms() + DAILY_MS
            return
        found, self._release = looked
        results = {name: self._result(name, seen) for name, seen in found.items()}
        self._looked = {name: self._unchanged(self._looked.get(name), new) for name, new in results.items()}
        failing = any(result.finding == FAILS for result in results.values())
        self._looks += 1
        self._next_ms = self._port.mono_ms() + (AGAIN_MS if failing else SECOND_MS if self._looks == 1 else DAILY_MS)
        self._tell()

    def _unchanged(self, old: Optional[Result], new: Result) -> Result:
        """The old one where nothing but its time is new, and not a day old."""
        if old is None or new.mono_ms - old.mono_ms >= SAME_MS:
            return new
        return old if old._replace(wall_ms=new.wall_ms, mono_ms=new.mono_ms) == new else new

    def _answers(self) -> Optional[bool]:
        """Does xapi answer, as the observer last saw it? None: not known, or it is just starting."""
        return {ANSWERS: True, DOWN: False, SILENT: False}.get(self._observer.seen.tcp)

    def _placed(self) -> Optional[bool]:
        return None if self._keeper.storage else self._keeper.state.placed is not None

    # ------------------------------------------------------------------------------------------ learning

    def _learn(self, connected: bool) -> None:
        if not self._observer.host.at_ms or not self._observer.seen.at_ms:
            return
        before = self._learned
        for name, seen in self._happenings.look(self._now(connected)):
            self._keep(name, seen)
        if self._learned is not before:
            self._tell()

    def _keep(self, name: str, seen: Seen) -> None:
        with self._lock:
            new, old = self._result(name, seen), self._learned.get(name)
            if old is not None and _alike(old, new) and new.mono_ms - old.mono_ms < SAME_MS:
                return
            self._learned, self._unsaved = findings.add(self._learned, new), True

    def _result(self, name: str, seen: Seen) -> Result:
        boot, now = self._port.identity().boot_id, self._port.mono_ms()
        return Result(name, seen.finding, seen.evidence, self._release, self._port.wall_ms(), boot, now)

    def _tell(self) -> None:
        known = dict(self._looked, **self._learned)
        self.results = tuple(findings.today(known[name], self._release) for name in sorted(known))

    def _now(self, connected: bool) -> Now:
        observer, port, state = self._observer, self._port, self._keeper.state
        host, seen = observer.host, observer.seen
        orphaned, since = observer.orphaned()
        return Now(
            ms=port.mono_ms(), conf=host.role, master=host.master, process=seen.process, tcp=seen.tcp,
            socket=seen.socket, flag=seen.emergency, code=seen.code, cookie=seen.startup_cookie, running=seen.running,
            running_master=seen.running_master, serves=seen.serves, orphaned=orphaned, orphaned_since_ms=since,
            source=host.source, generation=host.generation,
            domains=None if host.domains is None else tuple(host.domains), held=state.hold is not None,
            toolstack=host.toolstack, placed=state.placed is not None, started=state.started, results=state.results,
            view=observer.view, own=(port.identity().host, host.address), connected=connected,
            gate=self._boot.told()[0].state if self._boot.there else "", log=port.log_end(),
            allowed=self._boot.allows, settled=port.role_settled, complete=port.init_complete,
            restore=port.restore_generation, exit=port.exit_since, linked=port.linked_to,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ keeping

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            data = self._port.load_learned()
            stored = findings.decode(data) if data else {}
        except (OSError, ValueError):
            return  # nothing was learned, then: it is learned again when it happens
        with self._lock:
            self._learned = dict(stored, **self._learned)
        self._tell()

    def _store(self) -> None:
        now = self._port.mono_ms()
        if not self._unsaved or (self._saved_ms is not None and now - self._saved_ms < STORE_MS):
            return
        self._saved_ms = now
        try:
            self._port.save_learned(findings.encode(self._learned))
            self._unsaved = False
        except OSError:
            pass  # a full disk: what is known stays known, and is stored a minute later or more


def _alike(old: Result, new: Result) -> bool:
    """The same finding on the same release in the same boot?"""
    return (old.finding, old.release, old.boot_id) == (new.finding, new.release, new.boot_id)
