"""Answers of several collectors made into one.

Rules
-----
* Every part says whose it is. Who has not answered is named, with how many pools are missing by that; nothing is made
  up for it.
* What is told by the owner of a pool counts: another one may have a part of the pool's past, and nothing of its
  present.
* What is cut (``limit``, ``skip``) is cut after all parts are together: each collector is asked for as much as
  all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.report.open_alerts import SEVERITIES
from poolwarden_collector.core.report.pool_line import LEVELS
from poolwarden_collector.shell.operators.neighbours import Part

MOST = 10_000  # entries of a history, or alerts, in one answer
USUAL = 1_000

Owner = Callable[[str], str]  # of a pool: the collector that owns it; empty: nobody, or it is not known


def asked_for(method: str, request: Any) -> Any:
    """What each collector is asked, so that their parts make this."""
    wanted = type(request)()
    wanted.CopyFrom(request)
    if method == "Status" and request.overview and request.limit:
        wanted.limit, wanted.skip = request.skip + request.limit, 0
    elif method == "Status" and request.overview:
        wanted.skip = 0
    return wanted


def status(request: pb.StatusRequest, parts: list[Part], owner: Owner) -> pb.StatusReply:
    """The first part is this collector's own, and tells of itself."""
    reply = pb.StatusReply()
    reply.CopyFrom(parts[0].reply)
    for part in parts[1:]:
        said: pb.StatusReply | None = part.reply
        if said is None:
            continue
        reply.outbox_pending += said.outbox_pending
        reply.warnings.extend(f"collector {part.collector}: {text}" for text in said.warnings)
        reply.stood_down.extend(uuid for uuid in said.stood_down if uuid not in reply.stood_down)
    answers = [(part.collector, part.reply) for part in parts if part.reply is not None]
    del reply.pools[:]
    reply.pools.extend(_pools(answers, owner))
    if request.overview:
        reply.overview.CopyFrom(_overview(request, answers, owner))
        if reply.overview.pools > request.few:
            del reply.pools[:]
    else:
        _page(request, reply, [said for _, said in answers])
    return reply


def _pools(answers: Iterable[tuple[str, pb.StatusReply]], owner: Owner) -> list[pb.PoolStatus]:
    found: dict[str, pb.PoolStatus] = {}
    for collector, said in answers:
        for pool in said.pools:
            pool.collector = collector
            if pool.pool_uuid not in found or owner(pool.pool_uuid) == collector:
                found[pool.pool_uuid] = pool
    return list(found.values())


def _page(request: pb.StatusRequest, reply: pb.StatusReply, answers: list[pb.StatusReply]) -> None:
    """One page, in the order of UUIDs, of pages that come after the same pool."""
    reply.next = ""
    if not request.after and not request.limit:
        return
    pools = sorted(reply.pools, key=lambda pool: pool.pool_uuid)
    # Behind the end of a part that was cut its collector may have pools that are missing here.
    ends = [said.next for said in answers if said.next]
    pools = [pool for pool in pools if not ends or pool.pool_uuid <= min(ends)]
    shown = pools[: request.limit or None]
    if ends or len(shown) < len(pools):
        reply.next = shown[-1].pool_uuid if shown else ""
    kept = [pb.PoolStatus.FromString(pool.SerializeToString()) for pool in shown]
    del reply.pools[:]
    reply.pools.extend(kept)


def _overview(request: pb.StatusRequest, answers: Iterable[tuple[str, pb.StatusReply]], owner: Owner) -> pb.Overview:
    """Sums and lines. A pool that two tell of on its way from one to the other is counted twice for that moment."""
    total = pb.Overview()
    levels, verdicts, alerts = Counter[str](), Counter[str](), Counter[str]()
    lines: dict[str, pb.PoolLine] = {}
    for collector, said in answers:
        part = said.overview
        total.pools += part.pools
        total.hosts += part.hosts
        total.hosts_heard += part.hosts_heard
        total.waiting += part.waiting
        total.matching += part.matching
        for counts, counted in ((levels, part.levels), (verdicts, part.verdicts), (alerts, part.alerts)):
            counts.update({each.word: each.count for each in counted})
        for line in part.lines:
            line.collector = collector
            if line.pool_uuid not in lines or owner(line.pool_uuid) == collector:
                lines[line.pool_uuid] = line
    total.levels.extend(_counted(levels, LEVELS))
    total.verdicts.extend(_counted(verdicts, sorted(verdicts, key=lambda word: (-verdicts[word], word))))
    total.alerts.extend(_counted(alerts, SEVERITIES))
    ordered = sorted(lines.values(), key=_order)
    total.lines.extend(ordered[request.skip :][: request.limit or None])
    return total


def _order(line: pb.PoolLine) -> tuple[int, bool, str, str]:
    """As core/report/pool_line.py orders them."""
    rank = LEVELS.index(line.level) if line.level in LEVELS else -1
    return rank, not line.waiting, line.name, line.pool_uuid


def _counted(counts: Mapping[str, int], words: Iterable[str]) -> list[pb.Counted]:
    return [pb.Counted(word=word, count=counts[word]) for word in words if counts[word]]


def readiness(_request: Any, parts: list[Part], owner: Owner) -> pb.ReadinessReply:
    """Each pool by its owner."""
    found: dict[str, pb.PoolReadiness] = {}
    for part, said in _of(parts):
        for pool in said.pools:
            if pool.pool_uuid not in found or owner(pool.pool_uuid) == part.collector:
                found[pool.pool_uuid] = pool
    return pb.ReadinessReply(pools=found.values())


def mark_copied(entries: Iterable[pb.HistoryEntry], copied: Mapping[str, list[tuple[int, int]]]) -> None:
    """``copied``: numbers of entries that came with a pool, by pools, from the first to the last."""
    for entry in entries:
        entry.copied = any(first <= entry.seq <= last for first, last in copied.get(entry.pool_uuid, ()))


def history(request: pb.HistoryRequest, parts: list[Part], _owner: Owner) -> pb.HistoryReply:
    """The newest entries of all, by the wall clocks of those that wrote them. What came with a pool is told once."""
    told = []
    for part, said in _of(parts):
        for entry in said.entries:
            entry.collector = part.collector
            told.append(entry)
    # Within one journal its own numbers say what came first.
    told.sort(key=lambda entry: (entry.at, entry.collector, entry.seq))
    ordered = told if not any(entry.copied for entry in told) else _once(told)
    return pb.HistoryReply(entries=ordered[-min(request.limit or USUAL, MOST) :])


def _once(told: list[pb.HistoryEntry]) -> list[pb.HistoryEntry]:
    """Without copies of what stands there as well; of several copies the first one."""
    known = {_content(entry) for entry in told if not entry.copied}
    ordered = []
    for entry in told:
        if entry.copied and (content := _content(entry)) in known:
            continue
        if entry.copied:
            known.add(content)
        ordered.append(entry)
    return ordered


def _content(entry: pb.HistoryEntry) -> tuple[Any, ...]:
    """What two collectors have recorded alike; a stored decision's number is each one's own."""
    data = json.loads(entry.data or "{}")
    said = json.dumps({name: value for name, value in data.items() if name != "replay"}, sort_keys=True)
    return entry.pool_uuid, entry.failover, entry.term, entry.kind, entry.actor, entry.text, said


def alerts(request: pb.AlertsRequest, parts: list[Part], owner: Owner) -> pb.AlertsReply:
    """The newest first. Whether a pool's alert is open says its owner, where that one has answered."""
    answered = {part.collector for part, _ in _of(parts)}
    found: dict[tuple[str, str], pb.Alert] = {}
    for part, said in _of(parts):
        for alert in said.alerts:
            alert.collector = part.collector
            by = owner(alert.pool_uuid) if alert.pool_uuid else ""
            if not alert.resolved_at and by in answered and by != part.collector:
                continue  # another one's archive, which has not heard of its end
            same = (alert.key, alert.raised_at) if alert.pool_uuid else (f"{part.collector} {alert.key}", "")
            if same not in found or by == part.collector:
                found[same] = alert
    ordered = sorted(found.values(), key=lambda alert: (alert.raised_at, alert.key), reverse=True)
    return pb.AlertsReply(alerts=ordered[: min(request.limit or USUAL, MOST)])


def late(request: pb.LateRequest, parts: list[Part], _owner: Owner) -> pb.LateReply:
    """The oldest first."""
    found = []
    for part, said in _of(parts):
        for entry in said.entries:
            entry.collector = part.collector
            found.append(entry)
    found.sort(key=lambda entry: (entry.heard, entry.at))
    return pb.LateReply(entries=found[-min(request.limit or USUAL, MOST) :])


def capsules(request: pb.ListCapsulesRequest, parts: list[Part], _owner: Owner) -> pb.ListCapsulesReply:
    """The oldest first. Names of hosts and pools are the owner's to know; another one's gaps are filled from them."""
    found: dict[tuple[str, str], pb.KeptCapsule] = {}
    for part, said in _of(parts):
        for kept in said.capsules:
            kept.collector = part.collector
            same = (kept.host_uuid, kept.id)
            if same not in found or (kept.host_name and not found[same].host_name):
                found[same] = kept
    ordered = sorted(found.values(), key=lambda kept: (kept.at, kept.taken_at, kept.id))
    return pb.ListCapsulesReply(capsules=ordered[-min(request.limit or USUAL, MOST) :])


def doctor(_request: Any, parts: list[Part], _owner: Owner) -> pb.DoctorReply:
    """Every check of every collector, the asked one's first."""
    checks = []
    for part, said in _of(parts):
        for check in said.checks:
            check.collector = part.collector
            checks.append(check)
    return pb.DoctorReply(checks=checks)


def audit(request: pb.AuditRequest, parts: list[Part], _owner: Owner) -> pb.AuditReply:
    """The oldest first."""
    found = []
    for part, said in _of(parts):
        for entry in said.entries:
            entry.collector = part.collector
            found.append(entry)
    found.sort(key=lambda entry: (entry.at, entry.collector, entry.id))
    return pb.AuditReply(entries=found[-min(request.limit or USUAL, MOST) :])


def _of(parts: Iterable[Part]) -> list[tuple[Part, Any]]:
    return [(part, part.reply) for part in parts if part.reply is not None]


# How the parts of each method of which all collectors have one are put together.
MERGES: dict[str, Callable[[Any, list[Part], Owner], Any]] = {
    "Status": status,
    "Readiness": readiness,
    "History": history,
    "Alerts": alerts,
    "Late": late,
    "ListCapsules": capsules,
    "Doctor": doctor,
    "Audit": audit,
}
