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
  about him. A member that answers nobody is the last look's matter, not this one's.
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

from poolwarden_collector.core import questions, stakes
from poolwarden_collector.core.asked import Ask
from poolwarden_collector.core.blockers import Blocker
from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.ends import block, unblock
from poolwarden_collector.core.evidence import suspected
from poolwarden_collector.core.facts import HostId, Ms, RoleAnswer
from poolwarden_collector.core.look import begin_look, elsewhere
from poolwarden_collector.core.placements import placements_of
from poolwarden_collector.core.record import Failover, Step
from poolwarden_collector.core.silenced import VOICE_FRESH_MS, lives

LOOK_AGAIN_MS: Ms = 10_000
NAMES_WITHIN_MS: Ms = 5_000  # after the verdict, for a member to read its copy; then it is asked without names
_OWN_LOOK = (Step.FENCED, Step.PROVED)


def unheard_alive(d: Draft) -> tuple[HostId, ...]:
    """The members that are alive and not heard here, in the order of their names."""
    failover = d.failover
    spared = {suspected(d), failover.old_master if failover is not None else ""}
    others = sorted((host for host in d.record.hosts if host not in spared), key=d.name)
    return tuple(host for host in others if d.heard(host) is None and lives(d, host))


def said(d: Draft, hosts: tuple[HostId, ...]) -> str:
    """What is so of these hosts, in one sentence without a full stop."""
    names = " and ".join(d.name(host) for host in hosts)
    verb, it = ("answers", "its agent is") if len(hosts) == 1 else ("answer", "their agents are")
    return f"the xapi of {names} {verb}, and {it} not heard here: another collector may hear it, and act as this one"


def names_are_read(d: Draft, hosts: tuple[HostId, ...], member: HostId) -> bool:
    """Is a database being read, so that the VMs last seen on these hosts can be named? It is not waited for long."""
    unnamed = any(stakes.vms(d, host) and not stakes.named(d, host) for host in hosts)
    soon = d.now - d.live.verdict_since < NAMES_WITHIN_MS
    return unnamed and soon and bool(member) and placements_of(d, member) is None


def last_seen(d: Draft, hosts: tuple[HostId, ...]) -> str:
    """The VMs that their agents saw last on these hosts, as a clause that begins with a semicolon; else empty."""
    seen = [
        f"{stakes.running_vms(d, host, f'on {d.name(host)}')}{stakes.named(d, host)}"
        for host in hosts
        if stakes.vms(d, host)
    ]
    return "".join(f"; {each}" for each in seen)


def named_vms(d: Draft, hosts: tuple[HostId, ...]) -> tuple[str, ...]:
    """The VMs last seen on these hosts, by uuid, where the question names every one of them; else none."""
    if (asked := d.record.question) is not None and hosts and asked.hosts == hosts:
        return asked.vms  # as they were named when it was put
    seen = {host: stakes.vms(d, host) for host in hosts}
    # safety: a yes that accepts kills covers VMs that were called by name, and no others.
    return tuple(vm for host, vms in seen.items() if stakes.names_all(d, host) for vm in vms)


def stake(d: Draft, hosts: tuple[HostId, ...]) -> tuple[str, ...]:
    """What a yes takes upon itself, for people."""
    if not hosts:
        return ()
    names = " and ".join(d.name(host) for host in hosts)
    said = f"yes means: no other collector is at work in this pool; the agent of {names} is stopped or not installed"
    kills = f"with --accept-kill it covers as many of the VMs named here, should the copy not place them on {names}"
    return (said, kills) if named_vms(d, hosts) else (said,)


def note_roles(d: Draft, asker: HostId, answers: tuple[RoleAnswer, ...]) -> None:
    """Remember who said that it acts as master, or that it follows another one that answers."""
    for answer in answers:
        if against := elsewhere(d, asker, (answer,)):
            d.change(against={**d.live.against, answer.host: (d.now, against)})


def _against(d: Draft) -> tuple[HostId, str] | None:
    """A silent host whose own xapi has lately spoken against any promotion, and what it said."""
    for host, (at, why) in sorted(d.live.against.items()):
        if d.heard(host) is None and d.now - at <= VOICE_FRESH_MS:
            return host, why
    return None


def may_go_on(d: Draft, failover: Failover) -> bool:
    """Is nobody alive and unheard but those that an operator has said yes to? Else he is asked, and it stands still."""
    if failover.fence_pending is not None:
        return True  # an `off` that is on its way is waited out and read back first; nothing else is begun meanwhile
    if not may_send(d, failover):
        return False
    # From FENCED on the last look has its own word in this (failover.py), and ends its own block.
    mine = (Blocker.UNHEARD_MEMBER, *(() if failover.step in _OWN_LOOK else (Blocker.LAST_LOOK,)))
    if failover.blocked in mine:
        unblock(d)
    return True


def may_send(d: Draft, failover: Failover) -> bool:
    """The same before the order to promote is sent again; the sending itself ends the block there (promotion.py)."""
    if against := _against(d):
        _look_on(d, failover)
        block(d, failover, Blocker.LAST_LOOK, against[:1], against[1])
        return False
    hosts = unheard_alive(d)
    open_ones = tuple(host for host in hosts if host not in questions.accepted_unheard(d, failover))
    # safety: a word that the old master is off says nothing of these; another collector may have been given the same.
    if not open_ones:
        return True
    if failover.blocked == Blocker.UNHEARD_MEMBER:
        _look_on(d, failover)
    # safety: each is asked about by name; a yes to one silent host is none to another.
    what, vms = said(d, hosts) + last_seen(d, hosts), named_vms(d, hosts)
    questions.ask(d, Ask.UNHEARD, failover.old_master, what, stake(d, hosts), vms=vms, hosts=hosts)
    return False


def _look_on(d: Draft, failover: Failover) -> None:
    """What is known by a look's questions alone would be forgotten while the failover stands still for it."""
    look = d.live.look
    if look is None or d.now - look.at > LOOK_AGAIN_MS:
        begin_look(d, failover)
