"""What status tells of many pools: whole, page by page, or together as an overview.

Rules
-----
* Everything here goes over the pools once, and lets the engine run in between (turns.py). Each pool is shown as of its
  own instant: the engine may have stepped it since the one before.
* A page comes after a pool's UUID, in the order of UUIDs: pools that come or go meanwhile neither repeat
  others nor hide them.
* What narrows the pools is looked up in their records and in what the engine's last step has judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from dataclasses import replace

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.report.open_alerts import SEVERITIES
from poolwarden_collector.core.report.pool_details import pool_details
from poolwarden_collector.core.report.pool_line import LEVELS, WORDS, PoolLine, pool_line
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.state.live import Pool, Site
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell.agents.roster import Roster
from poolwarden_collector.shell.operators import access, replies
from poolwarden_collector.shell.operators.turns import Turns
from poolwarden_collector.shell.operators.wrong import Wrong

WAITING = "waiting"  # a level that may be asked for: pools in which nothing goes on without a person
MOST_FILTERS = 64  # verdicts that one may ask for at a time
BLIND = "this collector considers itself blind: it does nothing meanwhile"
YOUNG = "most pools there have changed their collector a moment ago"
Beside = Mapping[PoolId, tuple[tuple[str, str, str], ...]]  # open alerts that the engine has not raised


class PoolViews:
    """Shows the pools of ``roster``."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster

    def site(self, uuid: PoolId) -> Site:
        """The collector's condition as this pool must know it; why it is blind counts other pools."""
        site = self.roster.site(uuid)
        if stalled := self.roster.stalls.get(uuid, ""):
            site = replace(site, stalled=access.NOT_RECORDED if access.current().scoped else stalled)
        if site.blind and access.current().scoped:
            return replace(site, blind=YOUNG if site.young else BLIND)
        return site

    def site_if_lost(self, uuid: PoolId) -> Site:
        """The same for what would happen now: while a collector can record nothing it does nothing in any pool."""
        site, stalled = self.site(uuid), self.roster.stalled
        if not stalled or site.stalled:
            return site
        return replace(site, stalled=access.NOT_RECORDED if access.current().scoped else stalled)

    def _site(self, uuid: PoolId, beside: Beside) -> Site:
        site, more = self.site(uuid), beside.get(uuid, ())
        return replace(site, beside=more) if more else site

    def wanted(self, request: pb.StatusRequest, among: Iterable[PoolId]) -> list[PoolId]:
        """Those ``among`` them that the request is about, whatever its page. Raises Wrong for what is no verdict."""
        name, verdicts = request.name.lower(), _verdicts(request.verdicts)
        found = []
        for uuid in among:
            pool = self.roster.pools[uuid]
            if name and name not in pool.record.display_name.lower():
                continue
            if request.site and request.site != pool.policy.site:
                continue
            if verdicts and pool.live.verdict.word not in verdicts:
                continue
            if not request.host or _has(pool, request.host):
                found.append(uuid)
        return found

    async def whole(self, uuids: Iterable[PoolId], beside: Beside, turns: Turns) -> AsyncIterator[pb.PoolStatus]:
        """Each of them as far as it is known."""
        for uuid in uuids:
            shown = status(self.roster.pools[uuid], self.roster.shown_at(), self._site(uuid, beside))
            await turns.rest()
            yield replies.pool_status(shown)
            await turns.rest()

    async def overview(
        self,
        uuids: Iterable[PoolId],
        beside: Beside,
        seconded: Container[PoolId],
        asked: pb.StatusRequest,
        turns: Turns,
    ) -> pb.Overview:
        """All of them together, and a line for each of those that are ``asked`` for, the worst first; ``seconded``:
        where something waits for a second person."""
        lines, sums = [], _Sums()
        for uuid in uuids:
            line = pool_line(self.roster.pools[uuid], self.roster.shown_at(), self._site(uuid, beside))
            if uuid in seconded:
                line = replace(line, waiting=True)
            sums.take(line)
            if not asked.levels or line.level in asked.levels or (line.waiting and WAITING in asked.levels):
                lines.append((line.order, line))
            await turns.rest()
        lines.sort()
        await turns.rest()
        message = sums.message()
        message.matching = len(lines)
        for _, line in lines[asked.skip :][: asked.limit or None]:
            message.lines.append(replies.pool_line(line))
            if asked.detailed:
                message.lines[-1].details.CopyFrom(self._details(line.pool_uuid))
            await turns.rest()
        return message

    def _details(self, uuid: PoolId) -> pb.PoolDetails:
        return replies.pool_details(pool_details(self.roster.pools[uuid], self.roster.shown_at(), self.site(uuid)))


def page(uuids: list[PoolId], after: str, limit: int) -> tuple[list[PoolId], str]:
    """So many of them that come after this one (0: all), and what the next page comes after (empty: it is the last)."""
    if not after and not limit:
        return uuids, ""
    rest = sorted(uuid for uuid in uuids if uuid > after)
    found = rest[: limit or None]
    return found, found[-1] if len(found) < len(rest) else ""


class _Sums:
    """Pools counted one by one."""

    def __init__(self) -> None:
        self._pools = self._hosts = self._heard = self._waiting = 0
        self._levels, self._verdicts, self._alerts = Counter[str](), Counter[str](), Counter[str]()

    def take(self, line: PoolLine) -> None:
        self._pools += 1
        self._hosts += line.hosts
        self._heard += line.hosts_heard
        self._waiting += line.waiting
        self._levels[line.level] += 1
        self._verdicts[line.verdict] += 1
        for severity, count in line.alerts:
            self._alerts[severity] += count

    def message(self) -> pb.Overview:
        levels, verdicts, alerts = self._levels, self._verdicts, self._alerts
        return pb.Overview(
            pools=self._pools,
            hosts=self._hosts,
            hosts_heard=self._heard,
            waiting=self._waiting,
            levels=replies.counted((level, levels[level]) for level in LEVELS if levels[level]),
            verdicts=replies.counted(sorted(verdicts.items(), key=lambda item: (-item[1], item[0]))),
            alerts=replies.counted((severity, alerts[severity]) for severity in SEVERITIES if alerts[severity]),
        )


def _verdicts(asked: Iterable[str]) -> frozenset[str]:
    known = {word.lower(): word for word in WORDS}
    wanted = list(asked)
    if len(wanted) > MOST_FILTERS:
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, f"at most {MOST_FILTERS} verdicts are asked for at a time")
    for word in wanted:
        if word.lower() not in known:
            text = f"there is no verdict {word[:64]!r}{did_you_mean(word, WORDS)}; there is: {', '.join(WORDS)}"
            raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, text)
    return frozenset(known[word.lower()] for word in wanted)


def _has(pool: Pool, host: str) -> bool:
    hosts = pool.record.hosts
    return host in hosts or any(known.name == host for known in hosts.values())
