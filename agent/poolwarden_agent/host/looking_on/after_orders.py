"""What orders did: a promotion, a repoint, a restart, a placed database, a hold and its release, calls on a master."""

from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from poolwarden_agent.core import addresses, boot_gate, orders
from poolwarden_agent.core.findings import fails, familiar, holds, private
from poolwarden_agent.core.host_now import MASTER, MEMBER, Process
from poolwarden_agent.host.looking_on.instant import (
    ACTING,
    FORGOTTEN_MS,
    SETTLES_MS,
    STILL_THERE_MS,
    Learned,
    Now,
    seconds,
)

STOP_MS = 185000


class Orders(object):
    """Marks and results of orders as they appear: kind -> the look before its mark, and when its result was seen."""

    def __init__(self) -> None:
        self.origins: Dict[str, Now] = {}
        self.marked: List[str] = []  # since the look before
        self.ended: List[Tuple[str, Any]] = []

    def look(self, before: Now, now: Now) -> List[Learned]:
        self.marked = [kind for kind, mark in now.started.items() if _id(before.started, kind) != mark.order_id]
        for kind in self.marked:
            self.origins[kind] = before
        self.ended = [(k, result) for k, result in now.results.items() if _id(before.results, k) != result.order_id]
        return []

    def served(self, now: Now) -> List[Learned]:
        """What a serving master has carried out."""
        found: List[Learned] = []
        for kind, name in (("sync_database", "sync-database"), ("declare_host_dead", "declare-dead"),
                           ("start_vm", "start-vm")):  # fmt: skip
            for ended, result in self.ended:
                if ended == kind and kind in self.origins and result.outcome == orders.DONE:
                    found.append((name, holds("done within %s" % seconds(now.ms - self.origins[kind].ms))))
        return found


def _id(marks: Dict[str, Any], kind: str) -> str:
    return marks[kind].order_id if kind in marks else ""


class NewProcess(object):
    """After an order that has xapi start anew: how it ended, what came, and what was left alone."""

    IDS = {"promote": "promote-exit-123", "repoint": "repoint-restarts"}
    CONF_IDS = {"promote": "promote-pool-conf", "repoint": "repoint-pool-conf"}
    WANTED = {"promote": MASTER, "repoint": MEMBER}

    def __init__(self, known: Orders) -> None:
        self._orders = known
        self._kind = ""
        self._origin: Optional[Now] = None
        self._ended_ms = 0
        self._answered_ms = 0
        self._conf = ("", "")
        self._early = False  # it answered before it was complete
        self._told: Set[str] = set()

    def look(self, before: Now, now: Now) -> List[Learned]:
        found: List[Learned] = []
        if self._kind and self._disturbed(now):
            self._kind = ""
        for kind, result in self._orders.ended:
            found += self._begin(kind, result, now)
        if self._kind:
            found += self._go_on(before, now)
        return [item for item in found if self._once(item[0])]

    def _once(self, name: str) -> bool:
        new = name not in self._told
        self._told.add(name)
        return new

    def _disturbed(self, now: Now) -> bool:
        others = [kind for kind in self._orders.marked if kind in ACTING]
        return (
            bool(others) or now.held or (now.conf, now.master) != self._conf or now.ms - self._ended_ms > FORGOTTEN_MS
        )

    def _begin(self, kind: str, result: Any, now: Now) -> List[Learned]:
        origin = self._orders.origins.get(kind)
        if kind not in ("promote", "repoint", "restart_xapi") or origin is None or result.outcome != orders.DONE:
            return []
        wanted = self.WANTED.get(kind)
        # One that had the role already starts nothing anew.
        if now.held or (wanted is not None and (now.conf != wanted or origin.conf == wanted == MASTER)):
            return []
        if kind == "repoint" and addresses.same(origin.master, now.master):
            return []
        self._kind, self._origin, self._ended_ms, self._answered_ms = kind, origin, now.ms, 0
        self._conf, self._early, self._told = (now.conf, now.master), False, set()
        if kind not in self.CONF_IDS:
            return []
        said = "it says master" if kind == "promote" else "it says slave:%s" % private(now.master)
        return [(self.CONF_IDS[kind], holds(said))]

    def _go_on(self, before: Now, now: Now) -> List[Learned]:
        assert self._origin is not None
        if now.process == self._origin.process or not now.runs:
            return self._waiting(now)
        found = self._exit(now)
        if self._kind in self.IDS:
            found.append(
                (self.IDS[self._kind], holds("a new process after %s" % seconds(now.began_ms - self._ended_ms)))
            )
        if now.answers:
            found += self._answering(now)
        return found

    def _waiting(self, now: Now) -> List[Learned]:
        assert self._origin is not None
        found: List[Learned] = []
        same = self._kind == "promote" and now.runs and now.source == self._origin.source
        if same and now.generation < self._origin.generation:
            said = "generation %d became %d" % (self._origin.generation, now.generation)
            found.append(("promote-no-old-flush", fails(said)))
        if self._kind not in self.IDS or now.ms - self._ended_ms < STILL_THERE_MS or not self._origin.runs:
            return found
        if now.runs:
            found.append((self.IDS[self._kind], fails("the old process still runs after 180 s")))
        elif now.gate in ("", boot_gate.OPEN, boot_gate.UNGATED):
            found.append((self.IDS[self._kind], fails("there is no process after 180 s")))
        return found

    def _exit(self, now: Now) -> List[Learned]:
        assert self._origin is not None
        if self._kind not in self.IDS or "exit-status-123" in self._told:
            return []
        code, status = now.exit(self._origin.log)
        if code != "exited":
            return []
        return [("exit-status-123", holds("123") if status == "123" else fails(familiar(status, "[0-9]{1,3}")))]

    def _answering(self, now: Now) -> List[Learned]:
        assert self._origin is not None
        found: List[Learned] = []
        if not self._answered_ms:
            self._answered_ms, self._early = now.ms, not now.complete()
            if self._kind == "restart_xapi":
                found.append(("restart-helps", holds("it answers %s after its start" % seconds(now.ms - now.began_ms))))
        if self._kind == "promote":
            found += self._new_master(now)
        since = now.ms - self._answered_ms
        if self._kind in self.IDS and "role-settles" not in self._told:
            if now.settled():
                found.append(("role-settles", holds("its pid file is newer than pool.conf")))
            elif since >= SETTLES_MS:
                found.append(("role-settles", fails("it answers for 60 s, and its pid file is older than pool.conf")))
        if since >= SETTLES_MS:
            kept = _kept(self._origin.domains, now.domains)
            found += [("restart-keeps-domains", holds("%d of %d" % kept))] if kept and kept[0] == kept[1] else []
        return found

    def _new_master(self, now: Now) -> List[Learned]:
        assert self._origin is not None
        found: List[Learned] = []
        if self._early and "new-master-serves" not in self._told and now.complete():
            said = "complete %s after it answered" % seconds(now.ms - self._answered_ms)
            found.append(("new-master-serves", holds(said)))
        if now.source == self._origin.source and now.generation >= self._origin.generation:
            said = "generation %d, then %d" % (self._origin.generation, now.generation)
            found.append(("promote-no-old-flush", holds(said)))
        if now.view is not None and now.view.hosts and not any(host.enabled for host in now.view.hosts):
            said = "%d hosts, %s after its first answer" % (len(now.view.hosts), seconds(now.ms - self._answered_ms))
            found.append(("new-master-disables-hosts", holds(said)))
        return found


def _kept(before: Optional[Sequence[str]], after: Optional[Sequence[str]]) -> Optional[Tuple[int, int]]:
    """How many of the domains from before run on, and how many there were; None: not known, or there were none."""
    if not before or after is None:
        return None
    return len(set(before) & set(after)), len(set(before))


class Restored(object):
    """A placed database, over the start that it was for."""

    def __init__(self) -> None:
        self._before: Optional[Process] = None  # the process of the last look at which one lay there
        self._served_ms = 0

    def look(self, _before: Now, now: Now) -> List[Learned]:
        if now.placed and now.restore() is not None and self._before is None:
            self._before, self._served_ms = now.process, 0
        if self._before is None:
            return []
        if not now.runs or now.process == self._before or now.conf != MASTER:
            gone = now.restore() is None and (now.process == self._before or not now.placed)
            if gone or now.conf != MASTER and now.runs and now.process != self._before:
                self._before = None  # removed by an order, or for no start as master
            return []
        if not now.serves:
            return []
        self._served_ms = self._served_ms or now.ms
        if now.restore() is None:
            self._before = None
            return [("restore-db-once", holds("it was gone when xapi served"))]
        if now.ms - self._served_ms < SETTLES_MS:
            return []
        self._before = None
        return [("restore-db-once", fails("it is still there 60 s after xapi served"))]


class Hold(object):
    """A toolstack fence from its first look to its release."""

    def __init__(self) -> None:
        self._origin: Optional[Now] = None
        self._stopped_ms = 0
        self._open_ms = 0  # since when stopped with a port that is not closed
        self._back_ms = 0  # since when a process is there again
        self._released_ms = 0

    def look(self, before: Now, now: Now) -> List[Learned]:
        if now.held and not before.held:
            self._origin, self._stopped_ms, self._open_ms, self._back_ms = before, 0, 0, 0
        if now.held and self._origin is not None:
            return self._holding(self._origin, now)
        if before.held and self._origin is not None:
            return self._ended(now)
        return self._released(now)

    def _holding(self, origin: Now, now: Now) -> List[Learned]:
        found: List[Learned] = []
        if not self._stopped_ms and now.toolstack is not None and now.toolstack.stopped:
            self._stopped_ms = now.ms
            found += self._stop(origin, now)
        if not self._stopped_ms:
            return found
        found += self._ports(now)
        found += self._starts(now)
        since = now.ms - self._stopped_ms
        kept = _kept(origin.domains, now.domains)
        if since >= SETTLES_MS and kept is not None:
            said = "%d of %d after 60 s" % kept
            if kept[0] == kept[1]:
                found.append(("hold-keeps-domains", holds(said)))
            elif kept[0] == 0 and kept[1] > 1:
                found.append(("hold-keeps-domains", fails(said)))
        return found

    def _stop(self, origin: Now, now: Now) -> List[Learned]:
        took = now.ms - origin.ms
        found: List[Learned] = []
        if origin.runs:
            found.append(("stop-time", holds(seconds(took)) if took <= STOP_MS else fails(seconds(took))))
        if origin.conf == MASTER and origin.source == now.source and now.generation > origin.generation:
            said = "generation %d, then %d" % (origin.generation, now.generation)
            found.append(("stop-flushes", holds(said)))
        return found

    def _ports(self, now: Now) -> List[Learned]:
        seen = now.toolstack
        if seen is None or not seen.stopped:
            self._open_ms = 0
            return []
        if seen.ports_closed:
            self._open_ms = 0
            return [("hold-stops", holds("stopped, and its ports are closed"))]
        self._open_ms = self._open_ms or now.ms
        return [("hold-stops", fails("stopped, and a port takes connections for 60 s"))] if (
            now.ms - self._open_ms >= SETTLES_MS) else []  # fmt: skip

    def _starts(self, now: Now) -> List[Learned]:
        if not now.runs:
            self._back_ms = 0
            return []
        self._back_ms = self._back_ms or now.ms
        return [("hold-stays", fails("xapi runs again for 10 s, and nobody has released it"))] if (
            now.ms - self._back_ms >= 10000) else []  # fmt: skip

    def _ended(self, now: Now) -> List[Learned]:
        stopped, self._origin = self._stopped_ms, None
        self._released_ms = now.ms if stopped else 0
        if not stopped or self._back_ms:
            return []
        return [("hold-stays", holds("held for %s" % seconds(now.ms - stopped)))]

    def _released(self, now: Now) -> List[Learned]:
        if not self._released_ms or now.ms - self._released_ms > FORGOTTEN_MS:
            self._released_ms = 0
            return []
        if not now.answers or now.began_ms < self._released_ms - 10000:
            return []
        took, self._released_ms = now.ms - self._released_ms, 0
        return [("release-serves", holds("it answers %s after the release" % seconds(took)))]
