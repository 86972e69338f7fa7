"""Holds that an agent reports and no failover owns: adopted, released, or named until a person ends them.

Theory
------
A toolstack fence's hold is durable on the held host, and its journal entry here. One of the two can be lost alone: the
order was obeyed after its failover had ended, the journal was lost or restored, another collector held the host. Then
systemd starts no xapi there, and nobody who looks at xapi knows why.

Rules
-----
* Owned is a hold by the open failover of that host, by its restart in place, by a drill's step that runs, or by a
  release that is owed to it. Facts decide: every report says whether its host is held.
* A hold of this journal's own last failover, or of a host beside which the master on record serves, is owed its release
  (hold_release.py): as master only of a failover that was given up, as a member of that other, verified master
  otherwise.
* A pool without any master on record, whose journal was lost while its master was held: that host is taken for the
  master again (*adopted*) if every host in its own database, the last master's, is heard as a member that follows it,
  or is off by its power or an operator's word, and nobody beside them is known. Nothing is released by that: the
  pool is MasterXapiDown then, and the failover that follows holds it anew at its own term and needs every proof.
* Any other hold is an alert with what to type, once it has lasted. As master it is ended by an operator's word alone,
  after every other host has told its role, or is off by its power or an operator's word.
"""

from __future__ import annotations

from enum import StrEnum

from poolwarden_collector.core.catalogue.hosts import HELD_UNOWNED
from poolwarden_collector.core.decision.database_contents import WAITING, placements_of
from poolwarden_collector.core.decision.permission import deposed, quiet_time
from poolwarden_collector.core.evidence.fenced_hosts import excused
from poolwarden_collector.core.evidence.signs import configured_masters, serving
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.failover import ending
from poolwarden_collector.core.followups.hold_release import own_file_refusal
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.order_results import PlacementView
from poolwarden_collector.core.model.orders import ReleaseGc
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.state import waiting_commands
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.drill_record import held_by
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import AgentState, PoolLive
from poolwarden_collector.core.state.order_delivery import pursue
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LOOK_UP_MS: Ms = 15_000  # for the database of a held host to be read, before it is told without it


class Held(StrEnum):
    """What an agent can report as held; the value is the word for it in ``status`` and ``host show``."""

    TOOLSTACK = "toolstack"  # xapi is kept stopped
    COLLECTING = "storage garbage collection"  # on a new master, for a host whose VMs run on (gc_release.py)


def unowned(pool: Snapshot) -> tuple[HostId, ...]:
    """The heard hosts that are held, and nothing in this journal will ever release them."""
    found = []
    for host in sorted(pool.record.hosts, key=pool.name):
        agent = pool.heard(host)
        if agent is not None and agent.facts.hold is not None and not _owned(pool, host):
            found.append(host)
    return tuple(found)


def _owned(pool: Snapshot, host: HostId) -> bool:
    failover = pool.failover
    if failover is not None and failover.old_master == host:
        return True
    if pool.record.in_place is not None and pool.record.in_place.host == host:
        return True
    if held_by(pool.record.drill) == host:
        return True
    return any(item.host == host and item.what is OwedWork.RELEASE for item in pool.record.owed)


# ------------------------------------------------------------------------------------------------ adopted


def adopt(tx: Transaction) -> None:
    """Take a held host for the master of a pool that has none on record, where all that is known says that it is."""
    if tx.record.master or tx.failover is not None or tx.quiet or serving(tx):
        return
    for host in unowned(tx):
        if _against(tx, host) or _unlisted(tx, host):
            continue
        term, count = tx.record.term + 1, len(tx.record.hosts)
        text = f"{tx.name(host)} is taken for the master, and its toolstack is held: all {count} hosts of its database "
        text += f"are heard, and every other one follows it; the term is {term}"
        tx.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": "", "held": True}, "", term))
        # Its own database is the last serving master's list of the pool, as its view would tell it.
        names = ", ".join(sorted(tx.name(other) for other in tx.record.hosts))
        listed = f"the pool's hosts, as the database of {tx.name(host)} lists them: {names}"
        tx.note(Kind.POOL_LISTED, listed, master=host, hosts=sorted(tx.record.hosts))
        for other in sorted(tx.record.hosts, key=tx.name):
            _witness(tx, other, host)
        return


def _against(pool: Snapshot, host: HostId) -> str:
    """What of the roles stands against it; empty: nothing."""
    agent = pool.heard(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MASTER:
        return f"the pool.conf of {pool.name(host)} does not say master"
    address = agent.facts.address or pool.record.address_of(host)
    for other in pool.record.hosts:
        member = pool.heard(other)
        if other == host:
            continue
        # safety: one that is not heard, or follows somebody else, may be or have the master that serves now.
        if member is None:
            if excused(pool, other):
                continue
            return f"{pool.name(other)} is not heard"
        role = member.facts.role
        if role.pool_conf is not Role.MEMBER or role.master_address != address or role.running is Role.MASTER:
            return f"{pool.name(other)} does not follow it"
    return ""


def _unlisted(tx: Transaction, host: HostId) -> str:
    """Are the hosts that are heard not those of its own database, which it has written as the last master?"""
    file = placements_of(tx, host)
    if file is None:
        return "its database has not been read yet"
    # safety: a host that has never been heard here may be the master that serves now; only that list knows of it.
    same = file.readable and len(file.hosts) > 1 and set(file.hosts) == set(tx.record.hosts)
    _learn(tx, host, file)
    return "" if same else f"the database of {tx.name(host)} does not list just the hosts that are heard"


def _learn(tx: Transaction, host: HostId, file: PlacementView) -> None:
    """Hosts that only the held master's database knows are hosts of this pool: they are waited for, asked and confirmed
    like any other. Their names and addresses come with themselves, or with the next master's view.
    """
    for other in file.hosts if not tx.record.master else ():
        if other and other not in tx.record.hosts:
            text = f"{other} is a host of this pool by the database of {tx.name(host)}, and has not been heard"
            tx.note(Kind.HOST_SEEN, text, host=other, name="", address="")


def _witness(tx: Transaction, other: HostId, host: HostId) -> None:
    """Who has reached its xapi before it was held may tell that its port is closed: the agents remember that."""
    agent = tx.heard(other)
    probe = agent.facts.probe_of(host) if agent is not None else None
    if other != host and probe is not None and probe.answered_at is not None:
        text = f"{tx.name(other)} has reached the xapi of {tx.name(host)} before it was held: it may witness"
        tx.note(Kind.STANDING, text, host=other, certificate=probe.certificate)


# ------------------------------------------------------------------------------------------------ owed or named


def claim(tx: Transaction) -> None:
    """Owe the release of each such hold whose end needs no person's word."""
    failover = tx.record.failover
    for host in unowned(tx):
        agent, name = tx.heard(host), tx.name(host)
        assert agent is not None and agent.facts.hold is not None
        term = agent.facts.hold.term
        ours = failover is not None and failover.old_master == host and failover.term == term
        if ours and failover is not None:
            why = f"it is held by failover {failover.id}, which has ended"
        elif tx.record.master != host and serving(tx) == (tx.record.master,):
            master = tx.name(tx.record.master)
            why = f"it is held since term {term} by nothing that this journal knows, and {master} serves"
        else:
            continue
        text = f"{name} is owed the release of its toolstack: {why}"
        tx.note(Kind.OWED, text, host=host, what=OwedWork.RELEASE.value, successor="")


def say_unowned(tx: Transaction) -> None:
    """Name each hold that only a person can end, once it has lasted."""
    held = () if tx.quiet else unowned(tx)
    since = {host: tx.live.held_since.get(host, tx.now) for host in held}
    # One that is silent for a moment is held as before: nothing is over, and no age begins anew.
    since |= {host: at for host, at in tx.live.held_since.items() if host in tx.record.hosts and tx.heard(host) is None}
    if since != tx.live.held_since:
        tx.change(PoolLive, held_since=since)
    for topic in tx.open_topics:
        if topic.matter is Matter.HOLD and topic.host not in since and not tx.quiet:
            tx.resolve_alert(topic, f"the hold of {tx.name(topic.host)} is over, or cared for")
    for host in held:
        if tx.now - since[host] >= tx.policy.xapi_down_after:
            agent = tx.heard(host)
            term = agent.facts.hold.term if agent is not None and agent.facts.hold is not None else 0
            name = tx.name(host)
            topic = AlertTopic(Matter.HOLD, host)
            if topic not in tx.open_topics and not _looked_up(tx, host, since[host]):
                continue
            body = (
                f"the toolstack of {name} is held by Poolwarden since term {term}, nothing else starts xapi there, and "
                f"no failover in this collector's journal owns that. If no other host is master: "
                f"{_to_release_as_master(tx, host)}. Once another host serves: poolwarden release {name}"
            )
            words = {"name": name, "term": str(term), "release": _to_release_as_master(tx, host)}
            tx.raise_alert(topic, HELD_UNOWNED, body, words)


def _looked_up(tx: Transaction, host: HostId, since: Ms) -> bool:
    """Is it known which hosts its own database lists? Who is silent is named before anything is advised."""
    file = placements_of(tx, host)
    if file is not None:
        _learn(tx, host, file)
    return file is not None or tx.now - since >= tx.policy.xapi_down_after + LOOK_UP_MS


def _silent(pool: Snapshot) -> list[HostId]:
    """Every host on record that has not said what it is, and may be the master that serves."""
    return [
        host
        for host in sorted(pool.record.hosts, key=pool.name)
        if pool.heard(host) is None and not excused(pool, host)
    ]


def _to_release_as_master(pool: Snapshot, host: HostId) -> str:
    """What to do, in this order, before and when it is released as master."""
    release = f"poolwarden release {pool.name(host)} --as-master"
    silent = [pool.name(other) for other in _silent(pool)]
    if not silent:
        return release
    off = f"Make sure that {' and '.join(silent)} {'is' if len(silent) == 1 else 'are'} off, then: "
    return off + "; then: ".join([*(f"poolwarden confirm-fenced {name}" for name in silent), release])


# ------------------------------------------------------------------------------------------------ at a word


def command_release(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``release HOST``, ``--as-master`` or ``--gc``. Empty: its database is being read first."""
    host, name, agent = said.host, tx.name(said.host), tx.heard(said.host)
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard: nothing can be ordered there")
    if why := _held_back(tx, verdict):
        return Refused("held", why, "poolwarden explain POOL tells when nothing holds the pool any more; then again")
    if said.arg("gc") == "yes":
        return _release_gc(tx, said, agent)
    if agent.facts.hold is None:
        return Refused("not-held", f"the toolstack of {name} is not held", f"poolwarden host show {name}")
    if tx.record.in_place is not None and tx.record.in_place.host == host:
        ending.give_up(tx, f"{said.actor} has it released")
        return f"the restart of {name} in place is given up: it is released with its own file, once that kills nobody"
    failover = tx.failover
    if failover is not None and failover.old_master == host and failover.step is not Step.PROMOTED:
        asked = tx.record.question
        step = f"{name} is released by itself if it ends without a promotion"
        if asked is not None and asked.failover == failover.id:
            step = f"poolwarden deny {asked.id} gives it up, and releases {name} then"
        return Refused("failover-open", f"failover {failover.id} holds {name} and decides about it", step)
    if said.arg("as_master") == "yes":
        return _as_master(tx, said)
    if tx.record.master == host or serving(tx) != (tx.record.master,):
        why = f"no other host serves as master: there is nobody of whom {name} could be a member"
        return Refused("no-master", why, _to_release_as_master(tx, host))
    if not _owned(tx, host):
        text = f"{name} is owed the release of its toolstack, as {said.actor} ordered"
        tx.note(Kind.OWED, text, said.actor, host=host, what=OwedWork.RELEASE.value, successor="")
    return (
        f"{name} is released as a member of {tx.name(tx.record.master)}; poolwarden host show {name} tells when it is"
    )


def _held_back(pool: Snapshot, verdict: Verdict) -> str:
    if pool.record.paused is not None:
        return f"the pool is paused: {pool.record.paused}"
    if verdict in (Verdict.HA_MANAGED, Verdict.IDENTITY_CONFLICT):
        return verdict.meaning
    return str((quiet_time(pool) if pool.quiet else deposed(pool)) or "")


def _as_master(tx: Transaction, said: OperatorSaid) -> str | Refused:
    host, name = said.host, tx.name(said.host)
    if said.arg("typed_name") not in (name, host):
        why = f"typed {said.arg('typed_name')!r}, the host's name is {name!r}"
        return Refused("name-differs", why, "Type the host's name exactly.")
    agent = tx.heard(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MASTER:
        return Refused("no-master", f"the pool.conf of {name} does not say master", f"poolwarden release {name}")
    others = [other for other in (*serving(tx), *configured_masters(tx)) if other != host]
    if others:
        why = f"{tx.name(others[0])} serves as master, or is set to"
        return Refused("master-serves", why, f"poolwarden release {name} releases it as a member")
    file = placements_of(tx, host)
    if file is None:
        waiting_commands.wait(tx, said, 8_000)
        return ""
    _learn(tx, host, file)
    # safety: whoever has not said what it is may be the master that serves.
    if silent := _silent(tx):
        names = ", ".join(tx.name(other) for other in silent)
        why = f"{names} {'is' if len(silent) == 1 else 'are'} not heard and may be the master"
        return Refused("host-unheard", why, _to_release_as_master(tx, host))
    refusal = own_file_refusal(tx, host)
    if refusal == WAITING:
        waiting_commands.wait(tx, said, 8_000)
        return ""
    if refusal is not None:
        return Refused("unsafe", str(refusal), "Shut these VMs down from inside first.")
    kept = [
        item for item in tx.record.owed if (item.host, item.what) == (host, OwedWork.RELEASE) and item.successor == host
    ]
    if not kept:
        term = tx.record.term + 1
        text = f"{name} is owed the release of its toolstack as master, as {said.actor} ordered; the term is {term}"
        tx.write(Entry(Kind.TERM_OBSERVED, f"the term is {term}: {said.actor} has {name} released", {}, "", term))
        tx.note(Kind.OWED, text, said.actor, host=host, what=OwedWork.RELEASE.value, successor=host)
    return f"{name} is released as master; poolwarden host show {name} tells when its xapi answers"


def too_late(pool: Snapshot, said: OperatorSaid) -> Refused:
    """The database was not read in time."""
    return Refused("no-evidence", f"{pool.name(said.host)} did not tell in time what its xapi would load", "Try again.")


def _release_gc(tx: Transaction, said: OperatorSaid, agent: AgentState) -> str | Refused:
    host, name = said.host, tx.name(said.host)
    if not agent.facts.gc_term:
        return Refused("not-held", f"garbage collection of storage is not held on {name}")
    if said.arg("typed_name") not in (name, host):
        why = f"typed {said.arg('typed_name')!r}, the host's name is {name!r}"
        return Refused("name-differs", why, "Type the host's name exactly.")
    failover = tx.failover
    if failover is not None and failover.candidate == host:
        return Refused("failover-open", f"failover {failover.id} is not over: it lets garbage collection go on itself")
    base = f"gc/{agent.facts.gc_term}/{host}/{agent.hello.boot_id}/word"
    text = f"garbage collection of storage may go on on {name}, as {said.actor} ordered"
    pursue(tx, base, agent, ReleaseGc(), Kind.GC_INTENT, text)
    return f"{name} is told that garbage collection of storage may go on"
