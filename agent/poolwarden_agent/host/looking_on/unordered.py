"""What nobody ordered: a member without its master, a process that ended, another role, a boot's gate."""

from typing import List, Optional, Tuple

from poolwarden_agent.core import boot_gate
from poolwarden_agent.core.findings import fails, familiar, holds, private
from poolwarden_agent.core.host_now import BROKEN, MASTER, MEMBER
from poolwarden_agent.core.probe_rules import ANSWERS
from poolwarden_agent.host.looking_on.after_orders import Orders
from poolwarden_agent.host.looking_on.instant import (
    ACTING,
    FORGOTTEN_MS,
    SETTLES_MS,
    STILL_THERE_MS,
    Learned,
    Now,
    seconds,
)

NOTICE_MS = 145000  # 120 s, looked at each 10 s, and what our own looks are apart
_CODE = "[A-Z_]{3,60}"


class Orphan(object):
    """A member whose master does not answer it."""

    def __init__(self) -> None:
        self._linked = False  # xapi's own connection to the master was seen since the orphaning began
        self._noticed = False

    def look(self, before: Now, now: Now) -> List[Learned]:
        if not now.orphaned or not now.orphaned_since_ms or now.conf != MEMBER:
            self._linked = self._noticed = False
            return []
        since, age = now.ms - now.orphaned_since_ms, now.ms - now.began_ms
        found = self._notice(now, since)
        if not now.runs or since < SETTLES_MS:
            return found
        if now.tcp == ANSWERS and now.socket == ANSWERS:
            found.append(("orphan-answers", holds("both, %s after its master's last answer" % seconds(since))))
        code = familiar(now.code or "no code", _CODE + "|no code")
        if now.began_ms < now.orphaned_since_ms:
            if now.flag is not None:
                said = "after %s: %s" % (seconds(since), code if now.flag else "false")
                found.append(("orphan-flag-false", fails(said) if now.flag else holds(said)))
        elif age >= SETTLES_MS and now.flag:
            found.append(("orphan-started", holds("in emergency mode, %s" % code)))
        elif age >= SETTLES_MS and now.flag is False and not now.cookie:
            found.append(("orphan-started", holds("blocked, the flag is false")))
        return found

    def _notice(self, now: Now, since: int) -> List[Learned]:
        """Connections that other calls of xapi's have left open say nothing: learned where none is left in time."""
        if self._noticed or since > NOTICE_MS or now.began_ms >= now.orphaned_since_ms:
            return []
        linked = now.linked(now.master)
        self._linked = self._linked or bool(linked)
        if linked is not False or not self._linked:
            return []
        self._noticed = True
        return [("orphan-notices-late", holds("its connection ended after %s" % seconds(since)))]


class Ends(object):
    """A process of xapi's that went without an order, and what came after it."""

    def __init__(self, known: Orders) -> None:
        self._orders = known
        self._gone: Optional[Tuple[Now, int]] = None  # the look before, and when it was missed
        self._acted_ms = 0

    def look(self, before: Now, now: Now) -> List[Learned]:
        if any(kind in ACTING for kind in self._orders.marked) or now.held or before.conf != now.conf:
            self._acted_ms, self._gone = now.ms, None
        if before.runs and now.process != before.process and self._gone is None:
            quiet = not self._acted_ms or now.ms - self._acted_ms > STILL_THERE_MS
            self._gone = (before, now.ms) if quiet else None
        if self._gone is None:
            return []
        origin, since = self._gone
        if now.ms - since > SETTLES_MS:
            self._gone = None
            return []
        if not now.runs or now.process == origin.process:
            return []
        self._gone = None
        code, status = now.exit(origin.log)
        if code not in ("killed", "dumped"):
            return []
        said = "signal %s; a new process within %s" % (familiar(status, "[0-9A-Z/]{1,12}"), seconds(now.ms - origin.ms))
        return [("crash-leaves", holds(said))]


class Switchover(object):
    """Another role than before that this agent was not ordered to take."""

    def __init__(self, known: Orders) -> None:
        self._orders = known
        self._changed: Optional[Now] = None
        self._asked_ms = 0
        self._acted_ms = 0

    def look(self, before: Now, now: Now) -> List[Learned]:
        found: List[Learned] = []
        if any(kind in ACTING for kind in self._orders.marked) or now.held:
            self._acted_ms, self._changed = now.ms, None
        if "designate_master" in self._orders.marked:
            self._asked_ms = now.ms
        if before.conf in (MASTER, MEMBER) and now.conf != before.conf and now.runs and now.process == before.process:
            alone = not self._acted_ms or now.ms - self._acted_ms > STILL_THERE_MS
            self._changed = now if alone and now.conf in (MASTER, MEMBER) else None
            if now.conf == BROKEN and self._asked(now):
                found.append(("designate-serves", fails("pool.conf says broken")))
        if self._changed is None:
            return found
        if now.conf != self._changed.conf or now.ms - self._changed.ms > FORGOTTEN_MS:
            self._changed = None
            return found
        if now.runs and now.process != self._changed.process and now.answers:
            found += self._anew(self._changed, now)
            self._changed = None
        return found

    def _asked(self, now: Now) -> bool:
        return bool(self._asked_ms) and now.ms - self._asked_ms < FORGOTTEN_MS

    def _anew(self, changed: Now, now: Now) -> List[Learned]:
        found: List[Learned] = []
        ahead = now.began_ms - changed.ms
        if ahead >= 3000:
            found.append(("designate-conf-first", holds("about %s before the new process" % seconds(ahead))))
        if self._asked(now) and now.conf == MEMBER:
            found.append(("designate-serves", holds("it follows %s" % private(now.master))))
        return found


class Gate(object):
    """The boot gate from its first question to xapi's start."""

    def __init__(self) -> None:
        self._waits_ms = 0
        self._past_ms = 0  # since when a process runs past the shut gate

    def look(self, _before: Now, now: Now) -> List[Learned]:
        shut = now.gate in (boot_gate.ASKING, boot_gate.SHUT)
        if shut and not now.runs:
            self._waits_ms, self._past_ms = self._waits_ms or now.ms, 0
            return []
        if not self._waits_ms or not now.runs:
            return []
        if not shut or now.allowed():
            waited, self._waits_ms = now.ms - self._waits_ms, 0
            return [("gate-waits", holds("xapi waited for %s" % seconds(waited)))]
        self._past_ms = self._past_ms or now.ms
        return [("gate-waits", fails("xapi runs, and the gate is shut"))] if now.ms - self._past_ms >= 10000 else []
