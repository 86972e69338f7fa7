"""Holds that an agent reports and no failover owns: adopted, released, or named until a person ends them.

Theory
------
A toolstack fence's hold is durable on the held host, and its journal entry here. One of the two can be lost alone: the
order was obeyed after its failover had ended, the journal was lost or restored, another collector held the host. Then
systemd starts no xapi there, and nobody who looks at xapi knows why.

Rules
-----
* Owned is a hold by the open failover of that host, by its restart in place, or by a release that is owed to it. Facts
  decide: every report says whether its host is held.
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

from poolwarden_collector.core.decision.database_contents import WAITING, placements_of
from poolwarden_collector.core.decision.permission import deposed
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
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Step
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.order_delivery import pursue
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LOOK_UP_MS: Ms = 15_000  # for the database of a held host to be read, before it is told without it


class Held(StrEnum):
    """What an agent can report as held; the value is the word for it in ``status`` and ``host show``."""

    TOOLSTACK = "toolstack"  # xapi is kept stopped
    COLLECTING = "storage garbage collection"  # on a new master, for a host whose VMs run on (gc_release.py)


def unowned(d: Snapshot) -> tuple[HostId, ...]:
    """The heard hosts that are held, and nothing in this journal will ever release them."""
    found = []
    for host in sorted(d.record.hosts, key=d.name):
        agent = d.heard(host)
        if agent is not None and agent.facts.hold is not None and not _owned(d, host):
            found.append(host)
    return tuple(found)


def _owned(d: Snapshot, host: HostId) -> bool:
    failover = d.failover
    if failover is not None and failover.old_master == host:
        return True
    if d.record.in_place is not None and d.record.in_place.host == host:
        return True
    return any(item.host == host and item.what is OwedWork.RELEASE for item in d.record.owed)


# ------------------------------------------------------------------------------------------------ adopted


def adopt(d: Transaction) -> None:
    """Take a held host for the master of a pool that has none on record, where all that is known says that it is."""
    if d.record.master or d.failover is not None or d.quiet or serving(d):
        return
    for host in unowned(d):
        if _against(d, host) or _unlisted(d, host):
            continue
        term, count = d.record.term + 1, len(d.record.hosts)
        text = (
            f"{d.name(host)} is taken for the master, and its toolstack is held: all {count} hosts of its database are "
        )
        text += f"heard, and every other one follows it; the term is {term}"
        d.write(Entry(Kind.MASTER_OBSERVED, text, {"host": host, "before": "", "held": True}, "", term))
        # Its own database is the last serving master's list of the pool, as its view would tell it.
        names = ", ".join(sorted(d.name(other) for other in d.record.hosts))
        listed = f"the pool's hosts, as the database of {d.name(host)} lists them: {names}"
        d.note(Kind.POOL_LISTED, listed, master=host, hosts=sorted(d.record.hosts))
        for other in sorted(d.record.hosts, key=d.name):
            _witness(d, other, host)
        return


def _against(d: Snapshot, host: HostId) -> str:
    """What of the roles stands against it; empty: nothing."""
    agent = d.heard(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MASTER:
        return f"the pool.conf of {d.name(host)} does not say master"
    address = agent.facts.address or d.record.address_of(host)
    for other in d.record.hosts:
        member = d.heard(other)
        if other == host:
            continue
        # safety: one that is not heard, or follows somebody else, may be or have the master that serves now.
        if member is None:
            if excused(d, other):
                continue
            return f"{d.name(other)} is not heard"
        role = member.facts.role
        if role.pool_conf is not Role.MEMBER or role.master_address != address or role.running is Role.MASTER:
            return f"{d.name(other)} does not follow it"
    return ""


def _unlisted(d: Transaction, host: HostId) -> str:
    """Are the hosts that are heard not those of its own database, which it has written as the last master?"""
    file = placements_of(d, host)
    if file is None:
        return "its database has not been read yet"
    # safety: a host that has never been heard here may be the master that serves now; only that list knows of it.
    same = file.readable and len(file.hosts) > 1 and set(file.hosts) == set(d.record.hosts)
    _learn(d, host, file)
    return "" if same else f"the database of {d.name(host)} does not list just the hosts that are heard"


def _learn(d: Transaction, host: HostId, file: PlacementView) -> None:
    """Hosts that only the held master's database knows are hosts of this pool: they are waited for, asked and confirmed
    like any other. Their names and addresses come with themselves, or with the next master's view.
    """
    for other in file.hosts if not d.record.master else ():
        if other and other not in d.record.hosts:
            text = f"{other} is a host of this pool by the database of {d.name(host)}, and has not been heard"
            d.note(Kind.HOST_SEEN, text, host=other, name="", address="")


def _witness(d: Transaction, other: HostId, host: HostId) -> None:
    """Who has reached its xapi before it was held may tell that its port is closed: the agents remember that."""
    agent = d.heard(other)
    probe = agent.facts.probe_of(host) if agent is not None else None
    if other != host and probe is not None and probe.answered_at is not None:
        text = f"{d.name(other)} has reached the xapi of {d.name(host)} before it was held: it may witness"
        d.note(Kind.STANDING, text, host=other, certificate=probe.certificate)


# ------------------------------------------------------------------------------------------------ owed or named


def claim(d: Transaction) -> None:
    """Owe the release of each such hold whose end needs no person's word."""
    failover = d.record.failover
    for host in unowned(d):
        agent, name = d.heard(host), d.name(host)
        assert agent is not None and agent.facts.hold is not None
        term = agent.facts.hold.term
        ours = failover is not None and failover.old_master == host and failover.term == term
        if ours and failover is not None:
            why = f"it is held by failover {failover.id}, which has ended"
        elif d.record.master != host and serving(d) == (d.record.master,):
            why = (
                f"it is held since term {term} by nothing that this journal knows, and {d.name(d.record.master)} serves"
            )
        else:
            continue
        text = f"{name} is owed the release of its toolstack: {why}"
        d.note(Kind.OWED, text, host=host, what=OwedWork.RELEASE.value, successor="")


def say_unowned(d: Transaction) -> None:
    """Name each hold that only a person can end, once it has lasted."""
    held = () if d.quiet else unowned(d)
    since = {host: d.live.held_since.get(host, d.now) for host in held}
    # One that is silent for a moment is held as before: nothing is over, and no age begins anew.
    since |= {host: at for host, at in d.live.held_since.items() if host in d.record.hosts and d.heard(host) is None}
    if since != d.live.held_since:
        d.change(held_since=since)
    for topic in d.open_topics:
        if topic.matter is Matter.HOLD and topic.host not in since and not d.quiet:
            d.resolve_alert(topic, f"the hold of {d.name(topic.host)} is over, or cared for")
    for host in held:
        if d.now - since[host] >= d.policy.xapi_down_after:
            agent = d.heard(host)
            term = agent.facts.hold.term if agent is not None and agent.facts.hold is not None else 0
            name, pool = d.name(host), d.record.name or d.record.pool
            topic = AlertTopic(Matter.HOLD, host)
            if topic not in d.open_topics and not _looked_up(d, host, since[host]):
                continue
            body = (
                f"the toolstack of {name} is held by Poolwarden since term {term}, nothing else starts xapi there, and "
                f"no failover in this collector's journal owns that. If no other host is master: "
                f"{_to_release_as_master(d, host)}. Once another host serves: poolwarden release {name}"
            )
            d.raise_alert(topic, "critical", f"{pool}: {name} is held, and no failover owns that", body)


def _looked_up(d: Transaction, host: HostId, since: Ms) -> bool:
    """Is it known which hosts its own database lists? Who is silent is named before anything is advised."""
    file = placements_of(d, host)
    if file is not None:
        _learn(d, host, file)
    return file is not None or d.now - since >= d.policy.xapi_down_after + LOOK_UP_MS


def _silent(d: Snapshot) -> list[HostId]:
    """Every host on record that has not said what it is, and may be the master that serves."""
    return [host for host in sorted(d.record.hosts, key=d.name) if d.heard(host) is None and not excused(d, host)]


def _to_release_as_master(d: Snapshot, host: HostId) -> str:
    """What to do, in this order, before and when it is released as master."""
    release = f"poolwarden release {d.name(host)} --as-master"
    silent = [d.name(other) for other in _silent(d)]
    if not silent:
        return release
    off = f"Make sure that {' and '.join(silent)} {'is' if len(silent) == 1 else 'are'} off, then: "
    return off + "; then: ".join([*(f"poolwarden confirm-fenced {name}" for name in silent), release])


# ------------------------------------------------------------------------------------------------ at a word


def command_release(d: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``release HOST``, ``--as-master`` or ``--gc``. Empty: its database is being read first."""
    host, name, agent = said.host, d.name(said.host), d.heard(said.host)
    if agent is None:
        return Refused("agent-silent", f"the agent of {name} is not heard: nothing can be ordered there")
    if why := _held_back(d, verdict):
        return Refused("held", why, "poolwarden explain POOL tells when nothing holds the pool any more; then again")
    if said.arg("gc") == "yes":
        return _release_gc(d, said, agent)
    if agent.facts.hold is None:
        return Refused("not-held", f"the toolstack of {name} is not held", f"poolwarden host show {name}")
    if d.record.in_place is not None and d.record.in_place.host == host:
        ending.give_up(d, f"{said.actor} has it released")
        return f"the restart of {name} in place is given up: it is released with its own file, once that kills nobody"
    failover = d.failover
    if failover is not None and failover.old_master == host and failover.step is not Step.PROMOTED:
        asked = d.record.question
        step = f"{name} is released by itself if it ends without a promotion"
        if asked is not None and asked.failover == failover.id:
            step = f"poolwarden deny {asked.id} gives it up, and releases {name} then"
        return Refused("failover-open", f"failover {failover.id} holds {name} and decides about it", step)
    if said.arg("as_master") == "yes":
        return _as_master(d, said)
    if d.record.master == host or serving(d) != (d.record.master,):
        why = f"no other host serves as master: there is nobody of whom {name} could be a member"
        return Refused("no-master", why, _to_release_as_master(d, host))
    if not _owned(d, host):
        text = f"{name} is owed the release of its toolstack, as {said.actor} ordered"
        d.note(Kind.OWED, text, said.actor, host=host, what=OwedWork.RELEASE.value, successor="")
    return f"{name} is released as a member of {d.name(d.record.master)}; poolwarden host show {name} tells when it is"


def _held_back(d: Snapshot, verdict: Verdict) -> str:
    if d.record.paused is not None:
        return f"the pool is paused: {d.record.paused}"
    if verdict in (Verdict.HA_MANAGED, Verdict.IDENTITY_CONFLICT):
        return verdict.meaning
    return f"start-up quiet time, {(d.quiet_until - d.now) / 1000:.0f} s left" if d.quiet else str(deposed(d) or "")


def _as_master(d: Transaction, said: OperatorSaid) -> str | Refused:
    host, name = said.host, d.name(said.host)
    if said.arg("typed_name") not in (name, host):
        why = f"typed {said.arg('typed_name')!r}, the host's name is {name!r}"
        return Refused("name-differs", why, "Type the host's name exactly.")
    agent = d.heard(host)
    if agent is None or agent.facts.role.pool_conf is not Role.MASTER:
        return Refused("no-master", f"the pool.conf of {name} does not say master", f"poolwarden release {name}")
    others = [other for other in (*serving(d), *configured_masters(d)) if other != host]
    if others:
        why = f"{d.name(others[0])} serves as master, or is set to"
        return Refused("master-serves", why, f"poolwarden release {name} releases it as a member")
    file = placements_of(d, host)
    if file is None:
        d.change(pending=(*d.live.pending, (said, d.now + 8_000)))
        return ""
    _learn(d, host, file)
    # safety: whoever has not said what it is may be the master that serves.
    if silent := _silent(d):
        names = ", ".join(d.name(other) for other in silent)
        why = f"{names} {'is' if len(silent) == 1 else 'are'} not heard and may be the master"
        return Refused("host-unheard", why, _to_release_as_master(d, host))
    refusal = own_file_refusal(d, host)
    if refusal == WAITING:
        d.change(pending=(*d.live.pending, (said, d.now + 8_000)))
        return ""
    if refusal is not None:
        return Refused("unsafe", str(refusal), "Shut these VMs down from inside first.")
    kept = [
        item for item in d.record.owed if (item.host, item.what) == (host, OwedWork.RELEASE) and item.successor == host
    ]
    if not kept:
        term = d.record.term + 1
        text = f"{name} is owed the release of its toolstack as master, as {said.actor} ordered; the term is {term}"
        d.write(Entry(Kind.TERM_OBSERVED, f"the term is {term}: {said.actor} has {name} released", {}, "", term))
        d.note(Kind.OWED, text, said.actor, host=host, what=OwedWork.RELEASE.value, successor=host)
    return f"{name} is released as master; poolwarden host show {name} tells when its xapi answers"


def too_late(d: Snapshot, said: OperatorSaid) -> Refused:
    """The database was not read in time."""
    return Refused("no-evidence", f"{d.name(said.host)} did not tell in time what its xapi would load", "Try again.")


def _release_gc(d: Transaction, said: OperatorSaid, agent: AgentState) -> str | Refused:
    host, name = said.host, d.name(said.host)
    if not agent.facts.gc_term:
        return Refused("not-held", f"garbage collection of storage is not held on {name}")
    if said.arg("typed_name") not in (name, host):
        why = f"typed {said.arg('typed_name')!r}, the host's name is {name!r}"
        return Refused("name-differs", why, "Type the host's name exactly.")
    failover = d.failover
    if failover is not None and failover.candidate == host:
        return Refused("failover-open", f"failover {failover.id} is not over: it lets garbage collection go on itself")
    base = f"gc/{agent.facts.gc_term}/{host}/{agent.hello.boot_id}/word"
    text = f"garbage collection of storage may go on on {name}, as {said.actor} ordered"
    pursue(d, base, agent, ReleaseGc(), Kind.GC_INTENT, text)
    return f"{name} is told that garbage collection of storage may go on"
