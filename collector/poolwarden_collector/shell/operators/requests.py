"""Commands of the operator's contract as the engine's events: answers, switchovers, dead hosts and their VMs, holds.

Rule: names become UUIDs here, everything else is the engine's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.core.operator.drill import argument
from poolwarden_collector.core.operator.pauses import LONGEST_MS
from poolwarden_collector.core.state.drill_record import Part
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators.names import Names, Unknown
from poolwarden_collector.shell.operators.wrong import Wrong

_TEXT_LIMIT = 2_000


def _designate(names: Names, request: str, actor: str, command: pb.Designate) -> tuple[PoolId, OperatorSaid]:
    pool, host = names.host(command.host)
    args = (("dry_run", "yes" if command.dry_run else ""),)
    return pool, OperatorSaid(request, actor, "designate", host, args)


def _failover_to(names: Names, request: str, actor: str, command: pb.FailoverTo) -> tuple[PoolId, OperatorSaid]:
    """Raises Unknown where the host is not one of the pool."""
    pool = names.pool(command.pool)
    of_pool = [h.host for h in names.pools[pool].record.hosts.values() if command.host in (h.name, h.host)]
    if len(of_pool) != 1:
        known = sorted(h.name for h in names.pools[pool].record.hosts.values())
        near = did_you_mean(command.host, known)
        raise Unknown(f"{command.pool} has no host {command.host!r}{near}; there is: {', '.join(known)}")
    return pool, OperatorSaid(request, actor, "failover-to", of_pool[0])


def _declare_dead(names: Names, request: str, actor: str, command: pb.DeclareDead) -> tuple[PoolId, OperatorSaid]:
    pool, host = names.host(command.host)
    return pool, OperatorSaid(request, actor, "declare-dead", host, (("typed_name", command.typed_name),))


def _start_lost(names: Names, request: str, actor: str, command: pb.StartLost) -> tuple[PoolId, OperatorSaid]:
    args = (("dry_run", "yes" if command.dry_run else ""), ("forget", "yes" if command.forget else ""))
    return names.pool(command.pool), OperatorSaid(request, actor, "start-lost", "", args)


def asked_in(names: Names, wanted: str) -> tuple[PoolId, str]:
    """The pool in which this is asked: by a failover's or question's id, or a pool. Raises Unknown."""
    for uuid, pool in names.pools.items():
        question, failover = pool.record.question, pool.record.failover
        ids = {question.id, question.failover} if question is not None else set()
        is_asked = wanted and wanted in ids | ({failover.id} if failover is not None and failover.open else set())
        if is_asked or _was_asked(uuid, wanted):
            names.granted(uuid)
            return uuid, wanted  # the core says what is asked there now
    asked = sorted(pool.record.question.id for pool in names.pools.values() if pool.record.question is not None)
    try:
        return names.pool(wanted), ""
    except Unknown:
        what = f"what is asked now: {', '.join(asked)}" if asked else "nothing is asked of an operator now"
        raise Unknown(f"{wanted!r} is no failover, question or pool; {what}") from None


def _was_asked(pool: PoolId, wanted: str) -> bool:
    """Is this the id of a failover or of a question of this pool, open or not (steps.py, questions.py)?"""
    return re.fullmatch(re.escape(pool[:8]) + r"-(q\d+|\d+\.\d+(-q\d+)?)", wanted) is not None


FENCE_ACTIONS = ("test", "on", "off", "bind")


def _approve(names: Names, request: str, actor: str, command: pb.Approve) -> tuple[PoolId, OperatorSaid]:
    pool, wanted = asked_in(names, command.id)
    args = (
        ("id", wanted),
        ("accept_kill", str(command.accept_kill)),
        ("accept_stale", str(command.accept_stale_ms)),
        ("shoot", "yes" if command.shoot else ""),
        ("typed_name", command.typed_name.strip()),
    )
    return pool, OperatorSaid(request, actor, "approve", "", args)


def _deny(names: Names, request: str, actor: str, command: pb.Deny) -> tuple[PoolId, OperatorSaid]:
    pool, wanted = asked_in(names, command.id)
    return pool, OperatorSaid(request, actor, "deny", "", (("id", wanted), ("reason", command.reason[:500])))


def _acknowledge(names: Names, request: str, actor: str, command: pb.Acknowledge) -> tuple[PoolId, OperatorSaid]:
    return names.pool(command.pool), OperatorSaid(request, actor, "acknowledge")


def _fence(names: Names, request: str, actor: str, command: pb.FenceCommand) -> tuple[PoolId, OperatorSaid]:
    """Raises Unknown for an action that there is not."""
    if command.action not in FENCE_ACTIONS:
        raise Unknown(f"{command.action!r} is no fence action; there are: {', '.join(FENCE_ACTIONS)}")
    pool, host = names.host(command.host)
    args = (
        ("typed_name", command.typed_name),
        ("force", "yes" if command.force else ""),
        ("device", command.device),
        ("how", command.how[:500]),
    )
    return pool, OperatorSaid(request, actor, f"fence-{command.action}", host, args)


def _release(names: Names, request: str, actor: str, command: pb.Release) -> tuple[PoolId, OperatorSaid]:
    pool, host = names.host(command.host)
    args = (
        ("as_master", "yes" if command.as_master else ""),
        ("gc", "yes" if command.gc else ""),
        ("typed_name", command.typed_name),
    )
    return pool, OperatorSaid(request, actor, "release", host, args)


def _host_enable(names: Names, request: str, actor: str, command: pb.HostEnable) -> tuple[PoolId, OperatorSaid]:
    pool, host = names.host(command.host)
    return pool, OperatorSaid(request, actor, "host-enable", host)


def _host_why(names: Names, request: str, actor: str, command: pb.HostWhy) -> tuple[PoolId, OperatorSaid]:
    pool, host = names.host(command.host)
    return pool, OperatorSaid(request, actor, "host-why", host)


def _recover(names: Names, request: str, actor: str, command: pb.RecoverMembersCommand) -> tuple[PoolId, OperatorSaid]:
    args = tuple(("told", host[:200]) for host in command.hosts)
    return names.pool(command.pool), OperatorSaid(request, actor, "recover-members", "", args)


def _confirm(names: Names, request: str, actor: str, command: pb.ConfirmFenced) -> tuple[PoolId, OperatorSaid]:
    """Raises Wrong where the host's name was not typed."""
    pool, host = names.host(command.host)
    name = names.pools[pool].record.name_of(host)
    # safety: a person who cannot spell out the host's name has not looked which one it is; the engine checks too.
    if command.typed_name not in (name, host):
        text = f"typed {command.typed_name!r}, the host's name is {name!r}: type it exactly"
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, text)
    args = (
        ("typed_name", command.typed_name),
        ("how", short("how it was made safe", command.how)),
        ("despite_power_on", "yes" if command.despite_power_on else ""),
    )
    return pool, OperatorSaid(request, actor, "confirm-fenced", host, args)


DRILL_ACTIONS = ("plan", "begin", "step", "skip", "abandon")


def _drill(names: Names, request: str, actor: str, command: pb.DrillCommand) -> tuple[PoolId, OperatorSaid]:
    """Raises Unknown for an action or a step that there is not, and for a host of another pool."""
    if command.action not in DRILL_ACTIONS:
        raise Unknown(f"{command.action!r} is no drill action; there are: {', '.join(DRILL_ACTIONS)}")
    pool = names.pool(command.pool)
    host = ""
    if command.host:
        of_pool = [h.host for h in names.pools[pool].record.hosts.values() if command.host in (h.name, h.host)]
        if len(of_pool) != 1:
            raise Unknown(f"{command.pool} has no host {command.host!r}")
        host = of_pool[0]
    unknown = [step for step in command.steps if step not in list(Part)]
    if unknown:
        raise Unknown(f"{unknown[0][:40]!r} is no step of a drill; there are: {', '.join(Part)}")
    args = (
        *((argument(part), "yes") for part in Part if part.value in command.steps),
        ("step", str(command.step or "")),
        ("typed_name", command.typed_name),
        ("why", command.why[:500]),
    )
    return pool, OperatorSaid(request, actor, f"drill-{command.action}", host, args)


VERBS: dict[str, Callable[[Names, str, str, Any], tuple[PoolId, OperatorSaid]]] = {
    "designate": _designate,
    "failover_to": _failover_to,
    "declare_dead": _declare_dead,
    "start_lost": _start_lost,
    "approve": _approve,
    "deny": _deny,
    "acknowledge": _acknowledge,
    "fence": _fence,
    "release": _release,
    "host_enable": _host_enable,
    "host_why": _host_why,
    "recover_members": _recover,
    "drill": _drill,
    "confirm_fenced": _confirm,
}


def actor(request: pb.CommandRequest | pb.TestAlertsRequest | pb.ReloadRequest) -> str:
    """Who gives this command. Raises Wrong where nobody is named."""
    if name := request.actor.strip():
        return name
    raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, "the actor is missing: who gives this command?")


def lasting(for_ms: int) -> tuple[tuple[str, str], ...]:
    """How long a pause lasts, and about until when, for people; nothing where it lasts until it is resumed."""
    if not for_ms:
        return ()
    if for_ms > LONGEST_MS:
        most = f"a pause lasts {LONGEST_MS // 86_400_000} days at most, or until it is resumed"
        raise Wrong(grpc.StatusCode.INVALID_ARGUMENT, most)
    until = clock.text_of(clock.wall_ms() + for_ms)
    return (("for_ms", str(for_ms)), ("until", f"{until[:10]} {until[11:16]} UTC"))


def short(what: str, text: str) -> str:
    """The text. Raises Wrong where it is longer than what is kept."""
    if len(text) > _TEXT_LIMIT:
        raise Wrong(
            grpc.StatusCode.INVALID_ARGUMENT, f"{what} has {len(text)} characters, at most {_TEXT_LIMIT} are kept"
        )
    return text
