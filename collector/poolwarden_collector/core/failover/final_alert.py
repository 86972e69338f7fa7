"""The last alert of a failover: who is master now and where, by what proof, what it took, and what is not as before.

Rules
-----
* The four lines stand for themselves; the details below them say everything, an item a line, for channels that carry
  them.
* VMs are called lost only where the old master's domains are gone (its power, a new boot, a person's word): those of
  one whose toolstack is held run on.
"""

from __future__ import annotations

from typing import Any

from poolwarden_collector.core.catalogue.failovers import DONE, DONE_AND_LOST
from poolwarden_collector.core.decision import database_age
from poolwarden_collector.core.decision.start_places import start_places
from poolwarden_collector.core.evidence.membership import entry_of, listed
from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import PoolHost
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import phases, told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import Failover, Path
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

# What a person calls the time between two marks; what was not marked in this run is counted with what follows it.
_PHASES = {
    "decided": "silence",
    "claimed": "members asked",
    "candidate": "candidate chosen",
    "proof": "proof",
    "promote-intent": "decision",
    "promoted": "promotion",
    "closed": "members back",
}


def tell_end(tx: Transaction, failover: Failover, survivors: list[HostId], remarks: list[str]) -> None:
    """Raise it. ``survivors``: who was to be brought back; ``remarks``: what is missing at hosts that are back."""
    name, address = tx.name(failover.candidate), tx.record.address_of(failover.candidate)
    old, old_address = tx.name(failover.old_master), tx.record.address_of(failover.old_master)
    back = [tx.name(host) for host in survivors if host in failover.members.back]
    owed = [tx.name(host) for host in survivors if host not in failover.members.back]
    lost = _lost(tx, failover)
    where = start_places(tx, failover.candidate, failover.old_master) if lost else ""
    proof = _proof(failover, old)
    spans = phases.spans(tx)
    words = {
        "name": name,
        "new_address": address,
        "old": f"{old} ({old_address or 'address not known'})" if old else "no host was master",
        "proof": proof,
        "seconds": f"{sum(ms for _, _, ms in spans) / 1000:.0f}" if spans else "?",
        "data": _data(failover),
        "back": _back(back, survivors),
        "repair": _repair(failover, old),
        "open": _open(tx, failover, owed, lost, where),
    }
    details = [
        f"pool: {tx.record.display_name}",
        f"old master: {words['old']}",
        f"new master: {name} ({address})",
        f"proof: {proof}",
        f"time: {_took(spans)}",
        f"database: {failover.promotion.copy_text or 'how old the copy was is not known'}",
        f"members back: {', '.join(back) or 'none'}",
        *([f"members not back yet, brought back by themselves: {', '.join(owed)}"] if owed else []),
        *([] if survivors else ["members: there is no other host left, so no redundancy"]),
        *(f"{tx.name(host)}: {remark}" for host, remark in sorted(failover.members.remarks.items())),
        *remarks,
        *_lost_lines(tx, failover, lost, where),
        *_clients(address, old_address),
    ]
    again = judge(signs(tx)).entails.master_is_lost
    tx.raise_alert(
        AlertTopic(Matter.DONE, number=failover.id),
        DONE_AND_LOST if again else DONE,
        "\n".join(details),
        words,
        old_master=old,
        old_address=old_address,
        new_master=name,
        address=address,
        proof=failover.proof.kind.word if failover.proof is not None else "",
        durations_ms={f"{begin} to {end}": ms for begin, end, ms in spans},
        data_age_ms=failover.promotion.copy_age_ms,
        back=back,
        owed=owed,
        lost_vms=lost,
    )


def of_new_master(pool: Snapshot, failover: Failover, unplugged: list[str]) -> list[str]:
    """What is missing at the new master itself, a sentence each."""
    name, old = pool.name(failover.candidate), pool.name(failover.old_master)
    found = [f"{name}: storage not plugged there: {', '.join(unplugged)}"] if unplugged else []
    remark = listed(pool, failover.candidate, failover.candidate)
    item = entry_of(pool, failover.candidate, failover.candidate)
    disabled = isinstance(item, PoolHost) and item.live and not item.enabled
    # xapi enables a new master only after it has tried every other host once, the dead one up to its connect timeout.
    passes = f", which passes once it has given up on {old}" if disabled and old else ""
    return [*found, f"{name}: {remark}{passes}"] if remark else found


def loads(pool: Snapshot, failover: Failover) -> dict[str, Any]:
    """How old the database is that the candidate will load; noted with the intent, told at the end."""
    given = failover.hold.handed_over or {}
    if given.get("placed") and given.get("target") == failover.candidate:
        text = f"that of {pool.name(failover.old_master)} itself, handed over: current"
        return {"copy_age_ms": 0, "copy_text": text}
    copy = database_age.age(pool, failover.candidate)
    return {"copy_age_ms": copy.age_ms, "copy_text": f"the copy of {copy.name} was {copy.text}"}


def _proof(failover: Failover, old: str) -> str:
    """The proof in words for who has not read how a toolstack is held."""
    if failover.proof is None:
        return "no proof on record"
    match failover.proof.kind:
        case ProofKind.TOOLSTACK:
            refused = ", ".join(failover.proof.facts["refused_to"])
            return f"its own agent keeps its xapi stopped, and its closed port refused {refused}; its VMs run on"
        case ProofKind.REBOOTED:
            return "it has booted anew, and its boot gate keeps its xapi back"
        case kind:
            return kind.sentence(old, failover.proof.facts)


def _took(spans: tuple[tuple[str, str, Ms], ...]) -> str:
    parts = [f"{_PHASES[end]} {ms / 1000:.1f} s" for _, end, ms in spans if ms]
    return f"{sum(ms for _, _, ms in spans) / 1000:.0f} s: {', '.join(parts)}" if parts else "not known"


def _data(failover: Failover) -> str:
    """How old the database was that the new master has loaded, in two words."""
    ms = failover.promotion.copy_age_ms
    if ms is None:
        return "of unknown age"
    return f"{span(ms)} old" if ms else "current"


def _back(back: list[str], survivors: list[HostId]) -> str:
    if not survivors:
        return "no other host is left"
    return f"back as members: {', '.join(back)}" if back else "no member is back yet"


def _repair(failover: Failover, old: str) -> str:
    if not old:
        return ""
    if failover.path is Path.TOOLSTACK:
        return f". {old} returns as a member by itself"
    return f". Repair {old}; it returns as a member"


def _lost(pool: Snapshot, failover: Failover) -> list[str]:
    """The VMs that ran on the old master and are down, by name, by the database that was loaded and its last word."""
    host = failover.old_master
    if not host or failover.path is Path.TOOLSTACK:
        return []
    if recorded := sorted(vm.name for vm in pool.record.after.lost.values() if vm.host == host):
        return recorded
    claim = pool.live.claims.answers.get(failover.candidate)
    placed = claim.placements.placements if claim is not None and claim.placements is not None else ()
    names = {item.vm: item.name or item.vm for item in placed if item.host == host}
    agent, known = pool.agent(host), {item.vm: item.name for item in placed if item.name}
    if agent is not None and pool.heard(host) is None:
        names.update({vm: known.get(vm, vm) for vm in agent.facts.domains or ()})
    running = {vm for each in pool.live.agents if (a := pool.heard(each)) is not None for vm in a.facts.domains or ()}
    return sorted(name for vm, name in names.items() if vm not in running)


def _open(pool: Snapshot, failover: Failover, owed: list[str], lost: list[str], where: str) -> str:
    """What is not as it was before."""
    found = [f"{', '.join(owed)} not attached yet"] if owed else []
    if lost:
        found.append(f"{told_words.lost(lost)}; can start on {where}")
    elif failover.old_master:
        found.append(told_words.there(pool, failover.old_master))
    return "; ".join([*found, told_words.running(pool)])


def _lost_lines(pool: Snapshot, failover: Failover, lost: list[str], where: str) -> list[str]:
    if not failover.old_master:
        return []
    if not lost:
        return [f"VMs: {told_words.there(pool, failover.old_master)}"]
    uncertain = failover.proof is not None and failover.proof.kind is ProofKind.HUMAN
    name, shown = pool.name(failover.old_master), pool.record.display_name
    known = any(vm.host == failover.old_master for vm in pool.record.after.lost.values())
    first = f"first xapi has to be told that {name} is dead: poolwarden status {shown}"
    step = f"xapi has the last word on each: poolwarden start-lost {shown} --dry-run" if known else first
    return [
        f"VMs lost with {name}: {', '.join(lost)}",
        f"each can start on: {where} ({step})",
        *(["whether they are down rests on the word of whoever confirmed it"] if uncertain else []),
    ]


def _clients(address: str, old_address: str) -> list[str]:
    went = f" in place of {old_address}" if old_address else ""
    return [
        f"XenCenter, XCP-ng Center: add server {address}{went}",
        f"Xen Orchestra before 6.7: Settings, Servers: set the address to {address}; newer ones follow by themselves",
    ]
