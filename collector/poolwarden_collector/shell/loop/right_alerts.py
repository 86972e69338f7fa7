"""Alerts of a collector that may not act: that nobody does, and which hosts fall silent meanwhile.

Nothing of it can be in etcd, so all of it is of the own journal. It rests on open streams and on what was last known of
a pool, decides nothing, and so needs no one's consent.

Rules
-----
* A pool is left alone where this collector owns it, as far as etcd has said, and may not act there or can record
  nothing of it; also one whose agents have asked here in vain who owns it. Not one whose agents have found another
  owner (scouts.py), and none of a site towards which this collector is blind: then it may be itself that is cut off.
  So it may where it has heard no host since it lost the right, and no anchor answers.
* ``TELL_AFTER_MS`` after that began it is critical, under one key for all collectors. A collector that has lost the
  right and leaves no pool alone tells a warning with its own name instead, once that has been so for as long: its
  agents come back within seconds where no other one takes them.
* A host of a pool that is left alone is told once when it has had no stream for ``SILENT_AFTER_MS``, which is longer
  than a scout is away. One that was silent long before is not: the pool's owner could tell that.
* Each is over when it is so no more. What was open at the start stays until this collector may act, or has the host.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.catalogue.message import Message, Told
from poolwarden_collector.core.catalogue.ownership import CUT_OFF_FROM_ETCD, NO_RIGHT_TO_ACT, SILENT_AND_NOBODY_ACTS
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.agents.sessions import Sessions
from poolwarden_collector.shell.loop.own_alerts import OwnAlerts
from poolwarden_collector.shell.loop.ownerships import Ownerships
from poolwarden_collector.shell.loop.shared_service import SharedService
from poolwarden_collector.shell.store.journal import Journal, JournalError

TELL_AFTER_MS: Ms = 30_000
SILENT_AFTER_MS: Ms = 30_000
HEARD_WITHIN_MS: Ms = 120_000  # before its pool was left alone: whoever was silent for longer is not told
SEES_AFTER_MS: Ms = 10_000  # without the right: streams that were cut with etcd have ended by then
MOST_TOLD = 8  # hosts of one pool; the others are counted
NOBODY_ACTS = "collectors/no-right"
_ACTS = "etcd answers, and this collector may act"
_CUT_OFF = "other collectors have its pools, or it is cut off itself"
_LEFT_ALONE = "pools are left alone, which is told by itself"
_BY_HAND = (
    "By hand, where etcd stays away: stop every collector first (systemctl stop poolwarden-collector on each machine), "
    "so that none acts in the midst of it. Switch {host} off, and see that it is off. "
)
_MASTER = (
    "Then, on the member with the newest database: xe pool-emergency-transition-to-master, and xe pool-recover-slaves. "
    "Leave {host} off. Start the collectors again once etcd answers: they find the new master by themselves."
)
_MEMBER = (
    "Then, on the master: xe host-declare-dead uuid={uuid}; its VMs can be started elsewhere from then on. Start the "
    "collectors again once etcd answers."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Alone:
    """A pool that is left alone, since when, and why."""

    since: Ms
    why: str


class RightAlerts:
    """Those of one collector; instants are on the clock of rights."""

    def __init__(self, ownerships: Ownerships, service: SharedService, journal: Journal, sessions: Sessions) -> None:
        self._ownerships, self._service, self._sessions = ownerships, service, sessions
        self._roster = service.roster
        self._alerts = OwnAlerts(service, journal, (NO_RIGHT_TO_ACT, CUT_OFF_FROM_ETCD, SILENT_AND_NOBODY_ACTS))
        self._cut_off = f"collector/{ownerships.membership.collector}/cut-off"
        self._alone: dict[PoolId, _Alone] = {}
        self._sees = False  # it has heard a host, or an anchor, since it lost the right
        self._none_alone: Ms | None = None  # since when it has no right and leaves no pool alone
        self._heard: dict[PoolId, dict[HostId, Ms]] = {}
        self._working: asyncio.Task[None] | None = None
        ownerships.on_second(self.look)

    def look(self) -> None:
        """Once a second: what is so, and, unless the last look's is still being written, what is to be told of it."""
        now = self._ownerships.now()
        self._look_at_streams(now)
        self._look_at_pools(now)
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._tell(now))

    # -------------------------------------------------------------------------------------------- what is so

    def _look_at_streams(self, now: Ms) -> None:
        pools = {}
        for pool in self._ownerships.owned:
            known, before = self._roster.pools.get(pool), self._heard.get(pool, {})
            if known is None:
                continue
            heard = {}
            for host in known.record.hosts:
                if self._is_here(pool, host):
                    heard[host] = now
                    self._ownerships.gone.discard(pool)
                elif host in before:
                    heard[host] = before[host]
                elif host == known.record.master:
                    heard[host] = now - max(0, self._roster.now() - self._roster.charge(pool).started_at)
            pools[pool] = heard
        self._heard = pools

    def _is_here(self, pool: PoolId, host: HostId) -> bool:
        session = self._sessions.of(host)
        return session is not None and session.pool == pool and not session.sent_on and session.closing is None

    def _look_at_pools(self, now: Ms) -> None:
        why_not, alone = self._roster.right(), {}
        cut_off = bool(why_not) and not self._has_seen(now)
        for pool in self._ownerships.owned if not cut_off else ():
            why = why_not or self._roster.stalls.get(pool, "")
            if why and pool not in self._ownerships.gone and not self._is_blind(pool):
                alone[pool] = _Alone(self._alone[pool].since if pool in self._alone else now, why)
        if why_not:
            for pool in self._ownerships.asked_in_vain():
                if pool not in self._ownerships.owned:
                    alone[pool] = _Alone(self._alone[pool].since if pool in self._alone else now, why_not)
        self._alone = alone
        if not why_not or alone:
            self._none_alone = None
        elif self._none_alone is None:
            self._none_alone = now

    def _has_seen(self, now: Ms) -> bool:
        """Does anything but itself tell that etcd is away, and not this collector?"""
        lost = self._ownerships.without_right()
        if lost < SEES_AFTER_MS:
            self._sees = False
            return True
        heard = any(at == now for hosts in self._heard.values() for at in hosts.values())
        self._sees = self._sees or heard or self._service.sees_an_anchor()
        return self._sees

    def _is_blind(self, pool: PoolId) -> bool:
        return self._roster.config.policy_of(pool).site in self._roster.sites

    # -------------------------------------------------------------------------------------------- what is told

    async def _tell(self, now: Ms) -> None:
        try:
            known = await self._alerts.read()
            wanted = {each.key: each for each in (*self._of_right(now), *self._of_hosts(now, known))}
            raised = [alert for key, alert in wanted.items() if key not in known]
            over = [AlertResolved(key, why) for key, about in known.items() if (why := self._over(key, about, wanted))]
            await self._alerts.write([*over, *raised])
        except JournalError as error:
            _log.error("that nobody may act was not recorded: %s", error)
        except Exception:
            _log.exception("that nobody may act was not told")

    def _of_right(self, now: Ms) -> Iterator[AlertRaised]:
        name, trouble = f"collector {self._ownerships.membership.collector}", self._ownerships.trouble
        lost, why_not = self._ownerships.without_right(), self._roster.right()
        if self._alone and (lasted := max(now - each.since for each in self._alone.values())) >= TELL_AFTER_MS:
            why = trouble or next(iter(self._alone.values())).why
            words = {"pool": name, "pools": _count(len(self._alone)), "seconds": str(lasted // 1000), "why": why}
            pools = ", ".join(sorted(self._label(pool) for pool in self._alone)[:20])
            details = f"Nobody acts in: {pools}. etcd: {why}. Who the collectors are: poolwarden collectors."
            yield _alert(NOBODY_ACTS, NO_RIGHT_TO_ACT, words, details)
        elif why_not and self._none_alone is not None and min(lost, now - self._none_alone) >= TELL_AFTER_MS:
            why = trouble or why_not
            words = {"pool": name, "seconds": str(lost // 1000), "why": why, "doing": self._doing()}
            yield _alert(self._cut_off, CUT_OFF_FROM_ETCD, words, f"etcd: {why}. {why_not}")

    def _doing(self) -> str:
        if not self._ownerships.owned:
            return "nothing: it had no pool when etcd answered last"
        if any(pool in self._ownerships.gone for pool in self._ownerships.owned):
            return "looks on; agents of its pools have found another collector that has them"
        return "looks on; it hears no host either, so it is taken for cut off itself"

    def _of_hosts(self, now: Ms, known: dict[str, str]) -> Iterator[AlertRaised]:
        for pool, alone in self._alone.items():
            if now - alone.since < TELL_AFTER_MS:
                continue
            silent = {host: at for host, at in self._heard.get(pool, {}).items() if now - at >= SILENT_AFTER_MS}
            new = [host for host, at in silent.items() if at >= alone.since - HEARD_WITHIN_MS]
            master = self._roster.pools[pool].record.master if new else ""
            told = sum(key.startswith(_silent(pool, "")) for key in known)
            for host in sorted(new, key=lambda each: each != master):
                key = _silent(pool, host)
                if key not in known and host != master:
                    if told >= MOST_TOLD:
                        continue
                    told += 1
                yield self._silent_host(pool, host, now - silent[host], len(silent))

    def _silent_host(self, pool: PoolId, host: HostId, silent_ms: Ms, together: int) -> AlertRaised:
        record, label = self._roster.pools[pool].record, self._label(pool)
        name, is_master = record.name_of(host), host == record.master
        left = (
            "the pool cannot be managed while it is away; VMs on the other hosts run on"
            if is_master
            else "if it is down, its VMs are down, and nothing starts them elsewhere"
        )
        words = {
            "pool": label,
            "host": name,
            "whom": f"master {name}" if is_master else name,
            "address": record.address_of(host) or "address not known",
            "seconds": str(silent_ms // 1000),
            "why": self._ownerships.trouble or self._alone[pool].why,
            "left": left,
        }
        many = f"{together} hosts of {label} are silent now. " if together > 1 else ""
        by_hand = (_BY_HAND + (_MASTER if is_master else _MEMBER)).format(host=name, uuid=host)
        data = {"pool": pool, "host": host}
        return _alert(_silent(pool, host), SILENT_AND_NOBODY_ACTS, words, many + by_hand, data)

    def _over(self, key: str, message: str, wanted: dict[str, AlertRaised]) -> str:
        """Why an open alert is over; empty: it is not."""
        acts = not self._roster.right()
        if message != SILENT_AND_NOBODY_ACTS.id:
            other = next((each for each in (NOBODY_ACTS, self._cut_off) if each in wanted and each != key), "")
            if other:
                return _CUT_OFF if other == self._cut_off else _LEFT_ALONE
            return _ACTS if acts and not self._alone else ""
        pool, host = key.removeprefix(f"{message}/").split("/", 1)
        if self._is_here(pool, host):
            return "the host is heard again"
        if pool in self._ownerships.gone:
            return "another collector has the pool"
        newest = self._ownerships.newest
        owned = newest is not None and pool in newest.seen.owners and pool not in self._alone
        return "a collector may act in the pool again" if acts and owned else ""

    def _label(self, pool: PoolId) -> str:
        settings = self._roster.config.pools.get(pool)
        return self._roster.pool_label(pool) or (settings.name if settings is not None else "") or pool


def _silent(pool: PoolId, host: HostId) -> str:
    return f"{SILENT_AND_NOBODY_ACTS.id}/{pool}/{host}"


def _count(pools: int) -> str:
    return f"{pools} pool" if pools == 1 else f"{pools} pools"


def _alert(
    key: str, message: Message, words: dict[str, str], details: str, about: dict[str, Any] | None = None
) -> AlertRaised:
    told: Told = message.told(words)
    return AlertRaised(key, told.severity, told.title, told.body(details), {"message": told.id, **(about or {})})
