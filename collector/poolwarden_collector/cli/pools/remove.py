"""``poolwarden pool remove``: the agents of a pool are taken away, and nobody may use its hosts' certificates any more.

The pool is paused first: hosts that fall silent by an operator's own hand are no reason for anything. What the
collector has learnt of it stays, and so does each host's durable state: a host that was superseded must not forget it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from poolwarden.typed_names import typed
from poolwarden_collector.cli.act import actor
from poolwarden_collector.cli.errors import AnswerIsNo, CommandError
from poolwarden_collector.cli.names import the_pool
from poolwarden_collector.cli.pools import flow, member, survey
from poolwarden_collector.cli.pools.ssh import Logins
from poolwarden_collector.cli.pools.survey import Host, Member
from poolwarden_collector.cli.see import connect
from poolwarden_collector.cli.settings import Settings

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api
    from poolwarden_collector.cli.collector import Collector


def remove(settings: Settings, name: str, user: str, reason: str, yes: bool, options: Sequence[str]) -> None:
    """Raises CommandError at the first thing that does not go well; what was done before it stays."""
    with connect(settings) as collector, Logins(user, options) as logins:
        pool = the_pool(collector.status(name), name)
        if pool.HasField("failover"):
            raise AnswerIsNo(
                f"a failover of {pool.name} is open; nothing was changed", f"poolwarden status {typed(pool.name)}"
            )
        rows = [(each, *_look(logins, each, pool.pool_uuid)) for each in members_of(pool)]
        held = [each.name for each, host, _ in rows if host is not None and host.held]
        if held:
            raise AnswerIsNo(
                f"nothing was changed; {', '.join(held)}: another host has succeeded it, and its xapi is held there",
                "poolwarden status says what is still open",
            )
        notes = [
            "the pool is paused at the collector, and its hosts' certificates are denied",
            "history, and each host's durable state in /var/lib/poolwarden, stay",
            *strangers_of(pool),
        ]
        flow.show_plan(settings, f"pool {pool.name} ({pool.pool_uuid}): no longer guarded", rows, notes)
        flow.confirm("pool remove", yes)
        _pause(collector, pool, reason)
        for each, host, _ in rows:
            if host is not None:
                member.erase(logins, each)
            _deny(collector, each, reason)
            flow.tell(
                settings, f"{each.name}: {'agent erased, ' if host is not None else 'not reached; '}certificates denied"
            )
        flow.tell(settings, f"{pool.name} is paused; back again: poolwarden pool add, then poolwarden resume")
        if settings.json:
            flow.show_end(settings, collector, pool.pool_uuid)


def members_of(pool: "api.PoolStatus") -> list[Member]:
    """Its hosts whose agents have spoken in it, the master last. Raises AnswerIsNo where an address is not known.

    A host that its master merely lists may be another pool's.
    """
    spoken = [host for host in pool.hosts if host.boot_id]
    lacking = [host.name or host.host_uuid for host in spoken if not host.address]
    if lacking:
        raise AnswerIsNo(f"the address of {', '.join(lacking)} is not known", "poolwarden hosts")
    found = [
        Member(
            host.host_uuid, host.name or host.host_uuid, host.address, host.address, host.host_uuid == pool.master_uuid
        )
        for host in spoken
    ]
    return sorted(found, key=lambda each: (each.master, each.name, each.uuid))


def strangers_of(pool: "api.PoolStatus") -> list[str]:
    """A note on the hosts that are left alone, where there are any."""
    names = [host.name or host.host_uuid for host in pool.hosts if not host.boot_id]
    return [f"left alone, for no agent of theirs was ever heard in this pool: {', '.join(names)}"] if names else []


def _look(logins: Logins, each: Member, pool: str) -> tuple[Host | None, str]:
    try:
        host = survey.of_host(logins, each)
    except CommandError as error:
        return None, f"certificates denied alone ({error.sentence})"
    if host.said.get("uuid") != each.uuid:
        raise AnswerIsNo(f"{each.address} is no longer {each.name}; nothing was changed", "poolwarden hosts")
    if other := host.of_another(pool):
        raise AnswerIsNo(f"{each.name}: {other}; nothing was changed", "poolwarden hosts")
    return host, "stop and erase the agent, remove its key, deny its certificates"


def _pause(collector: "Collector", pool: "api.PoolStatus", reason: str) -> None:
    from poolwarden.v1 import operator_pb2

    said = f"removed by poolwarden pool remove{f': {reason}' if reason else ''}"
    request = operator_pb2.CommandRequest(actor=actor(), pause=operator_pb2.Pause(pool=pool.pool_uuid, reason=said))
    reply = collector.command(request)
    if not reply.accepted:
        raise AnswerIsNo(f"the pool is not paused, and nothing was changed: {reply.text}", reply.next_step)


def _deny(collector: "Collector", each: Member, reason: str) -> None:
    from poolwarden.v1 import enrolment_pb2

    request = enrolment_pb2.DenyCertificateRequest(serial=each.uuid, actor=actor(), reason=reason or "pool remove")
    reply = collector.deny_certificate(request)
    if not reply.accepted:
        raise AnswerIsNo(f"the certificates of {each.name} are not denied: {reply.text}", reply.next_step)
