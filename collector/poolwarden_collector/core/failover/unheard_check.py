"""Nothing goes on beside a member that is alive and not heard here, but at an operator's word (unheard_members.py)."""

from __future__ import annotations

from poolwarden_collector.core.decision import questions
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.decision.unheard_members import last_seen, named_vms, said, stake, unheard_alive
from poolwarden_collector.core.evidence.fenced_hosts import VOICE_FRESH_MS
from poolwarden_collector.core.failover.last_look import begin_look, elsewhere
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.order_results import RoleAnswer
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.failover_record import Failover, Step
from poolwarden_collector.core.state.live import PoolLive
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LOOK_AGAIN_MS: Ms = 10_000


_OWN_LOOK = (Step.FENCED, Step.PROVED)


def note_roles(tx: Transaction, asker: HostId, answers: tuple[RoleAnswer, ...]) -> None:
    """Remember who said that it acts as master, or that it follows another one that answers."""
    for answer in answers:
        if against := elsewhere(tx, asker, (answer,)):
            tx.change(PoolLive, against={**tx.live.against, answer.host: (tx.now, against)})


def _against(pool: Snapshot) -> tuple[HostId, str] | None:
    """A silent host whose own xapi has lately spoken against any promotion, and what it said."""
    for host, (at, why) in sorted(pool.live.against.items()):
        if pool.heard(host) is None and pool.now - at <= VOICE_FRESH_MS:
            return host, why
    return None


def may_go_on(tx: Transaction, failover: Failover) -> bool:
    """Is nobody alive and unheard but those that an operator has said yes to? Else he is asked, and it stands still."""
    if failover.fencing.pending is not None:
        return True  # an `off` that is on its way is waited out and read back first; nothing else is begun meanwhile
    if not may_send(tx, failover):
        return False
    # From FENCED on the last look has its own word in this (steps.py), and ends its own block.
    mine = (Blocker.UNHEARD_MEMBER, *(() if failover.step in _OWN_LOOK else (Blocker.LAST_LOOK,)))
    if failover.standstill.blocker in mine:
        unblock(tx)
    return True


def may_send(tx: Transaction, failover: Failover) -> bool:
    """The same before the order to promote is sent again; the sending itself ends the block there (promotion.py)."""
    if against := _against(tx):
        _look_on(tx, failover)
        block(tx, failover, Blocker.LAST_LOOK, against[:1], against[1])
        return False
    hosts = unheard_alive(tx)
    open_ones = tuple(host for host in hosts if host not in questions.accepted_unheard(tx, failover))
    # safety: a word that the old master is off says nothing of these; another collector may have been given the same.
    if not open_ones:
        return True
    if failover.standstill.blocker == Blocker.UNHEARD_MEMBER:
        _look_on(tx, failover)
    # safety: each is asked about by name; a yes to one silent host is none to another.
    what, vms = said(tx, hosts) + last_seen(tx, hosts), named_vms(tx, hosts)
    questions.ask(tx, Ask.UNHEARD, failover.old_master, what, stake(tx, hosts), vms=vms, hosts=hosts)
    return False


def _look_on(tx: Transaction, failover: Failover) -> None:
    """What is known by a look's questions alone would be forgotten while the failover stands still for it."""
    look = tx.live.look.round
    if look is None or tx.now - look.at > LOOK_AGAIN_MS:
        begin_look(tx, failover)
