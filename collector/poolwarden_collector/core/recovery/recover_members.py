"""Members whose agent is not heard are told who their master is by the new master's own xapi.

Theory
------
A member is repointed by its own agent. Where there is none, xapi has a call on the new master, pool.recover_slaves: it
logs in at every other host on record, one after the other, and has it follow (xapi: ocaml/xapi/xapi_pool.ml). The call
asks nobody: a live old master is demoted by it like any member, and each xapi that obeys restarts, and terminates the
running VMs that the new master's database does not place there.

Rules
-----
* It is owed work: a repointing that waits for an agent. Towards a verified master whose agent is heard, while no
  failover is open.
* Its xapi is asked whom it follows, by the agents that are heard. One that names another address needs telling; one
  that names the new master's is back, and is owed nothing. Whoever has only just booted is waited for: its agent comes.
* Everybody whom the call would reach is accounted for: attached to the new master (by its agent's word or its xapi's
  own), proven off, or one of those that need telling. Whoever is on the way by its own agent is waited for; one host of
  which nothing is known, the old master above all, and it is not called. Nor is it where somebody answers at the
  address that they follow, and that is no host's of the pool.
* Nobody sees which VMs run on such a member. A copy that is as new as the last file proves nothing of them: xapi writes
  its file up to five minutes after a VM has moved. So a person is asked, who can look there; his yes is to these hosts.
* One call to one yes. What has come of it is seen by their xapis' own word, within ``FOLLOWS_WITHIN_MS``; then it is
  asked anew.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import questions, unheard_members
from poolwarden_collector.core.decision.permission import firm_refusal
from poolwarden_collector.core.evidence import fenced_hosts
from poolwarden_collector.core.evidence.membership import entry_of, follows
from poolwarden_collector.core.evidence.proof import why_off
from poolwarden_collector.core.evidence.signs import serving
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.asks import Ask
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.events import OperatorSaid
from poolwarden_collector.core.model.host_facts import PoolHost
from poolwarden_collector.core.model.order_results import RoleClaim
from poolwarden_collector.core.model.orders import Preconditions, RecoverMembers
from poolwarden_collector.core.model.refusal import Refused
from poolwarden_collector.core.model.values import HostId, Ms, Role
from poolwarden_collector.core.recovery import unheard_at_boot
from poolwarden_collector.core.state.live_slices import MemberRecovery
from poolwarden_collector.core.state.order_delivery import ORDER_VALID_MS
from poolwarden_collector.core.state.pool_record import OwedWork
from poolwarden_collector.core.state.question_record import Question
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

ASK_MS: Ms = 8_000  # a word counts for 15 s
ASK_SILENT_MS: Ms = 30_000
ASKERS = 2
AGENT_COMES_MS: Ms = 60_000
FOLLOWS_WITHIN_MS: Ms = 180_000  # a fuse of ten seconds and a xapi's start, for the last of them


def advance(tx: Transaction) -> None:
    """Find out whom they follow, note who is back, and ask about the rest."""
    _note_answer(tx)
    silent = _owed(tx)
    if not silent or tx.failover is not None or not _served(tx):
        return
    _ask_roles(tx, silent)
    for host in silent:
        if _follows(tx, host) == tx.record.address_of(tx.record.master):
            done = (
                f"{tx.name(host)} follows {tx.name(tx.record.master)} now, as its own xapi says; its agent is not heard"
            )
            tx.note(Kind.OWED_DONE, done, host=host, what=OwedWork.REPOINT.value)
    hosts = _to_be_told(tx)
    fenced_hosts.await_confirmation(tx, (host for host in _unaccounted(tx, hosts) if hosts and tx.heard(host) is None))
    if hosts and _refusal(tx, hosts) == "" and not _under_way(tx):
        _ask(tx, hosts)


def approve(tx: Transaction, question: Question) -> str | Refused:
    """Have the new master tell them, at an operator's word."""
    hosts = _to_be_told(tx)
    why = _refusal(tx, hosts) if hosts and _served(tx) and tx.failover is None else "they need no telling any more"
    why = why or ("they are being told" if _under_way(tx) else "")
    if why:
        return Refused("held", f"{_names(tx, question.hosts)}: nobody is told: {why}", "poolwarden explain POOL")
    # safety: nobody sees their VMs, so the yes is to exactly these hosts.
    if hosts != question.hosts:
        _ask(tx, hosts, at_once=True)
        if (anew := questions.asked_no_more(tx, question)) is not None:
            return anew
    return _tell(tx, hosts)


def command_recover(tx: Transaction, said: OperatorSaid, verdict: Verdict) -> str | Refused:
    """``recover-members POOL --host HOST``: the same at an operator's own word, to the hosts that he names."""
    hosts, pool = _to_be_told(tx), tx.record.display_name
    if not hosts or not _served(tx) or tx.failover is not None:
        why = "no member without an agent follows a master that was succeeded"
        return Refused("nothing-owed", why, f"poolwarden status {pool}")
    why = _refusal(tx, hosts) or ("they are being told" if _under_way(tx) else "")
    if why:
        return Refused("held", f"{_names(tx, hosts)}: nobody is told: {why}", f"poolwarden explain {pool}")
    named = {value for name, value in said.args if name == "told"}
    meant = {host for host in tx.record.hosts if {host, tx.name(host)} & named}
    # safety: nobody sees their VMs, so the word is to exactly these hosts.
    if meant != set(hosts) or named - {name for host in meant for name in (host, tx.name(host))}:
        return _name_them(tx, hosts)
    if tx.record.question is not None and tx.record.question.kind is Ask.RECOVER:
        questions.withdraw(tx, f"{said.actor} has them told")
    return _tell(tx, hosts, said.actor)


def _name_them(pool: Snapshot, hosts: tuple[HostId, ...]) -> Refused:
    """What it would do, and the command that does it."""
    master, names = pool.name(pool.record.master), _names(pool, hosts)
    why = f"{master} would tell {names}: xapi there restarts, and terminates running VMs that {master} has elsewhere"
    options = " ".join(f"--host {pool.name(host)}" for host in hosts)
    command = f"poolwarden recover-members {pool.record.display_name} {options}"
    return Refused("name-them", why, f"Look first: xl list on {names}; then: {command}")


def _tell(tx: Transaction, hosts: tuple[HostId, ...], actor: str = "poolwarden") -> str:
    """The one call: journaled, then ordered."""
    master = tx.record.master
    order_id = tx.fresh_id("recover")
    text = f"{tx.name(master)} is to tell {_names(tx, hosts)} that it is their master (pool.recover_slaves)"
    tx.note(Kind.RECOVER_INTENT, text, actor, order=order_id, host=master, hosts=list(hosts))
    tx.change(MemberRecovery, order=(order_id, tx.now))
    tx.send(order_id, master, RecoverMembers(), ORDER_VALID_MS, Preconditions(ha_off=True, pool_conf_in=(Role.MASTER,)))
    return f"{tx.name(master)} tells {_names(tx, hosts)} to follow it"


def _ask_roles(tx: Transaction, silent: tuple[HostId, ...]) -> None:
    """Have two agents ask them whom they follow; seldom where nobody answers: a dead member may be owed for days."""
    words = [word for host in silent for word in tx.live.unheard.told.get(host, {}).values()]
    answered = any(word.said is not RoleClaim.SILENT and tx.now - word.at <= 2 * ASK_SILENT_MS for word in words)
    if tx.now - tx.live.member_recovery.asked_at >= (ASK_MS if answered else ASK_SILENT_MS):
        tx.change(MemberRecovery, asked_at=tx.now)
        unheard_at_boot.ask(tx, tx.record.master, ASKERS)


def _owed(pool: Snapshot) -> tuple[HostId, ...]:
    owed = (item.host for item in pool.record.owed if item.what is OwedWork.REPOINT and pool.heard(item.host) is None)
    return tuple(sorted(owed, key=pool.name))


def _served(pool: Snapshot) -> bool:
    return pool.heard(pool.record.master) is not None and serving(pool) == (pool.record.master,)


def _to_be_told(pool: Snapshot) -> tuple[HostId, ...]:
    """Those whose own xapi says that it follows somebody else, in the order of their names."""
    address = pool.record.address_of(pool.record.master)
    return tuple(host for host in _owed(pool) if _follows(pool, host) not in ("", address) and _for_long(pool, host))


def _for_long(pool: Snapshot, host: HostId) -> bool:
    """Has it said so for longer than the agent of a host that boots takes to come after its xapi?"""
    return any(pool.now - word.since >= AGENT_COMES_MS for word in unheard_at_boot.told(pool, host).values())


def _follows(pool: Snapshot, host: HostId) -> str:
    """The address that its xapi says it follows, the same to everybody who asked lately; else empty."""
    said = unheard_at_boot.told(pool, host).values()
    named = {word.follows if word.said is RoleClaim.FOLLOWS else "" for word in said}
    return named.pop() if len(named) == 1 else ""


def _unaccounted(pool: Snapshot, told: tuple[HostId, ...]) -> tuple[HostId, ...]:
    """The other hosts that the call would reach, and that are neither attached nor proven off."""
    master = pool.record.master
    others = sorted((host for host in pool.record.hosts if host != master and host not in told), key=pool.name)
    # safety: it demotes whoever answers, a live old master as well, whose VMs the new one's database places elsewhere.
    return tuple(host for host in others if not _accounted(pool, host, master))


def _accounted(pool: Snapshot, host: HostId, master: HostId) -> bool:
    """Is it attached, by its agent's word or its xapi's own, or proven off? Then the call changes nothing there."""
    if pool.heard(host) is not None:
        return not follows(pool, host, master)
    return bool(why_off(pool, host)) or _follows(pool, host) == pool.record.address_of(master)


def _living_strangers(pool: Snapshot, told: tuple[HostId, ...]) -> list[str]:
    """The addresses that they follow, at which somebody answers who is none of the pool's hosts."""
    known = {pool.record.address_of(host) for host in pool.record.hosts}
    words = [word for host in told for word in unheard_at_boot.told(pool, host).values()]
    # safety: that may be a master that serves them, made by another hand; nobody is taken from it.
    return sorted({word.follows for word in words if word.followed_answers and word.follows not in known})


def _refusal(pool: Snapshot, told: tuple[HostId, ...]) -> str:
    """Why the new master is not made to tell them now, in one clause; empty if it may, once it is asked."""
    agent, name, address = (
        pool.heard(pool.record.master),
        pool.name(pool.record.master),
        pool.record.address_of(pool.record.master),
    )
    if (firm := firm_refusal(pool)) is not None:
        return firm.text
    if agent is None or "recover_members" not in agent.hello.capabilities:
        return f"the agent of {name} cannot have it told"
    if living := _living_strangers(pool, told):
        return f"{' and '.join(living)}, which they follow, answers and is no host of this pool that is known"
    if unknown := _unaccounted(pool, told):
        return f"it would reach {_names(pool, unknown)} as well, of which it is not known whether it is off or attached"
    entry = entry_of(pool, pool.record.master, pool.record.master)
    if isinstance(entry, PoolHost) and entry.address not in ("", address):
        return f"{name} would tell them the address {entry.address}, which is not its own now"
    return ""


def _under_way(pool: Snapshot) -> bool:
    return (
        pool.live.member_recovery.order is not None
        and pool.now - pool.live.member_recovery.order[1] < FOLLOWS_WITHIN_MS
    )


def _ask(tx: Transaction, hosts: tuple[HostId, ...], at_once: bool = False) -> None:
    names, master, one = _names(tx, hosts), tx.name(tx.record.master), len(hosts) == 1
    address = tx.record.address_of(tx.record.master)
    agent, xapi = ("its agent is", "its xapi follows") if one else ("their agents are", "their xapis follow")
    what = f"{names}: {agent} not heard, and {xapi} a master that was succeeded; "
    what += f"{master} can tell {'it' if one else 'them'}"
    what += unheard_members.last_seen(tx, hosts)
    stakes = (
        f"xapi there restarts and terminates each running VM that {master} does not place there, and nobody here sees "
        "which VMs run there",
        f"look first: xl list on {names}, against xe vm-list power-state=running on {master}",
        f"or by hand, on {names}: xe pool-emergency-reset-master master-address={address}",
    )
    questions.ask(tx, Ask.RECOVER, tx.record.master, what, stakes, hosts=hosts, at_once=at_once)


def _note_answer(tx: Transaction) -> None:
    """What the call came to; xapi answers with whom it reached, and says of nobody why not."""
    if tx.live.member_recovery.order is None:
        return
    order_id, at = tx.live.member_recovery.order
    sent = tx.sent(order_id)
    if sent is not None and sent.result is not None and sent.answered_at is not None and sent.answered_at > at:
        said = f"{sent.result.outcome.value} ({sent.result.text or sent.result.reason})"
        text = f"{tx.name(sent.host)}: pool.recover_slaves: {said}"
        tx.note(Kind.RECOVER_RESULT, text, order=order_id, outcome=sent.result.outcome.value)
        tx.change(MemberRecovery, order=(order_id, sent.answered_at))


def _names(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    return " and ".join(pool.name(host) for host in hosts)
