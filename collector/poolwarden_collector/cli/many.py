"""Many pools in one reply: as was asked, also by a collector of an older version, which tells all of them whole."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from poolwarden_collector.cli.pages.hosts import is_heard

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

LEVELS = ("critical", "warning", "info", "good")  # the worst first
SEVERITIES = ("critical", "warning", "info")
HEALTHY = "Healthy"


def overviewed(reply: "api.StatusReply", request: "api.StatusRequest") -> "api.StatusReply":
    """The reply with its overview, which an older collector does not give: then it is made of the pools."""
    if reply.HasField("overview"):
        return reply
    narrowed(reply, request)
    reply.overview.CopyFrom(_overview_of(reply.pools))
    if request.limit:
        del reply.overview.lines[request.limit :]
    if len(reply.pools) > request.few:
        del reply.pools[:]
    return reply


def narrowed(reply: "api.StatusReply", request: "api.StatusRequest") -> "api.StatusReply":
    """Without the pools that were not asked for: an older collector tells them too."""
    verdicts = [word.lower() for word in request.verdicts]
    kept = [
        pool
        for pool in reply.pools
        if request.name.lower() in (pool.name or pool.pool_uuid).lower()
        and (not verdicts or pool.verdict.lower() in verdicts)
        and request.site in ("", pool.site)
    ]
    if len(kept) < len(reply.pools):
        del reply.pools[:]
        reply.pools.extend(kept)
    return reply


def _overview_of(pools: Iterable["api.PoolStatus"]) -> "api.Overview":
    from poolwarden.v1 import operator_pb2

    lines = [line_of(pool) for pool in pools]
    levels, verdicts = Counter(line.level for line in lines), Counter(line.verdict for line in lines)
    alerts = Counter(alert.severity for pool in pools for alert in pool.alerts)
    return operator_pb2.Overview(
        pools=len(lines),
        hosts=sum(line.hosts for line in lines),
        hosts_heard=sum(line.hosts_heard for line in lines),
        waiting=sum(line.waiting for line in lines),
        levels=_counted(levels, LEVELS),
        verdicts=_counted(verdicts, [word for word, _ in verdicts.most_common()]),
        alerts=_counted(alerts, SEVERITIES),
        lines=sorted(lines, key=_order),
    )


def line_of(pool: "api.PoolStatus") -> "api.PoolLine":
    """A pool in one line."""
    from poolwarden.v1 import operator_pb2

    now, level = pool.situation, pool.situation.level
    if level not in LEVELS:  # a collector of a much older version
        level = "good" if pool.verdict == HEALTHY else "critical"
    return operator_pb2.PoolLine(
        pool_uuid=pool.pool_uuid,
        name=pool.name,
        verdict=pool.verdict,
        headline=now.headline or pool.verdict,
        level=level,
        age_ms=now.age_ms if now.headline else pool.verdict_age_ms,
        waiting=pool.HasField("question") or bool(pool.failover.blocked) or bool(pool.seconded),
        hosts=len(pool.hosts),
        hosts_heard=sum(is_heard(host) for host in pool.hosts),
        alerts=_counted(Counter(alert.severity for alert in pool.alerts), SEVERITIES),
        site=pool.site,
        failover=pool.HasField("failover"),
    )


def _order(line: "api.PoolLine") -> tuple[int, bool, str, str]:
    return LEVELS.index(line.level), not line.waiting, line.name, line.pool_uuid


def _counted(counts: Counter[str], words: Iterable[str]) -> "list[api.Counted]":
    from poolwarden.v1 import operator_pb2

    return [operator_pb2.Counted(word=word, count=counts[word]) for word in words if counts[word]]
