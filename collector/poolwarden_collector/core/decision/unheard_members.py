"""Members whose agent is not heard while their xapi answers: another collector may hear them, and promote one of them.

Theory
------
Two collectors that run by mistake, each heard by other agents of one pool, see the same master vanish and read the same
power OFF: each has its proof, its claims, and nobody who tells it of the other. What either can see is that a member is
alive and does not speak to it. That may be an agent that was stopped or never installed; it may be the other's.

Rules
-----
* A member on record that is not heard, and whose xapi has answered a member's fresh probe, a question for its role or
  this collector's own probe, is served elsewhere for all that is known. The old master itself is none: the proof is
  about it. A member that answers nobody is the last look's matter, not this one's.
* While there is one, no failover is decided and none goes on by itself before its promote intent, nor is the order sent
  again after it: an operator is asked, by name of each such host. His yes covers exactly these hosts, in this failover;
  another one is asked about anew.
* Who has confirmed the old master's death has said nothing of these hosts: he is asked about them all the same. The
  same word may have been given to another collector, and both would promote.
* A host that says that it acts as master, or follows another one that answers, is no question: nothing goes on beside
  it, as the last look would say, and it is asked again until it says something else.
* The question ends by itself when its hosts are heard, or fall silent altogether.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import fencing_stakes
from poolwarden_collector.core.decision.database_contents import placements_of
from poolwarden_collector.core.evidence.fenced_hosts import lives
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

NAMES_WITHIN_MS: Ms = 5_000  # after the verdict, for a member to read its copy; then it is asked without names


def unheard_alive(pool: Snapshot) -> tuple[HostId, ...]:
    """The members that are alive and not heard here, in the order of their names."""
    failover = pool.failover
    spared = {suspected(pool), failover.old_master if failover is not None else ""}
    others = sorted((host for host in pool.record.hosts if host not in spared), key=pool.name)
    return tuple(host for host in others if pool.heard(host) is None and lives(pool, host))


def said(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    """What is so of these hosts, in one sentence without a full stop."""
    names = " and ".join(pool.name(host) for host in hosts)
    verb, it = ("answers", "its agent is") if len(hosts) == 1 else ("answer", "their agents are")
    return f"the xapi of {names} {verb}, and {it} not heard here: another collector may hear it, and act as this one"


def names_are_read(tx: Transaction, hosts: tuple[HostId, ...], member: HostId) -> bool:
    """Is a database being read, so that the VMs last seen on these hosts can be named? It is not waited for long."""
    unnamed = any(fencing_stakes.vms(tx, host) and not fencing_stakes.named(tx, host) for host in hosts)
    soon = tx.now - tx.live.verdict.since < NAMES_WITHIN_MS
    return unnamed and soon and bool(member) and placements_of(tx, member) is None


def last_seen(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    """The VMs that their agents saw last on these hosts, as a clause that begins with a semicolon; else empty."""
    seen = [
        f"{fencing_stakes.running_vms(pool, host, f'on {pool.name(host)}')}{fencing_stakes.named(pool, host)}"
        for host in hosts
        if fencing_stakes.vms(pool, host)
    ]
    return "".join(f"; {each}" for each in seen)


def named_vms(pool: Snapshot, hosts: tuple[HostId, ...]) -> tuple[str, ...]:
    """The VMs last seen on these hosts, by uuid, where the question names every one of them; else none."""
    if (asked := pool.record.question) is not None and hosts and asked.hosts == hosts:
        return asked.vms  # as they were named when it was put
    seen = {host: fencing_stakes.vms(pool, host) for host in hosts}
    # safety: a yes that accepts kills covers VMs that were called by name, and no others.
    return tuple(vm for host, vms in seen.items() if fencing_stakes.names_all(pool, host) for vm in vms)


def stake(pool: Snapshot, hosts: tuple[HostId, ...]) -> tuple[str, ...]:
    """What a yes takes upon itself, for people."""
    if not hosts:
        return ()
    names = " and ".join(pool.name(host) for host in hosts)
    said = f"yes means: no other collector is at work in this pool; the agent of {names} is stopped or not installed"
    kills = f"with --accept-kill it covers as many of the VMs named here, should the copy not place them on {names}"
    return (said, kills) if named_vms(pool, hosts) else (said,)
