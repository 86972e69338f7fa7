"""What a person should do now about a pool: sentences, and commands as they are typed.

Rules
-----
* A command that stands here is accepted when it is typed: of a paused pool that is ``resume`` and nothing else.
* Nothing is advised where waiting is right; that is said.
"""

from __future__ import annotations

from poolwarden_collector.core.decision import questions, takeover
from poolwarden_collector.core.decision.permission import deposed
from poolwarden_collector.core.evidence.closed_door import closed_door
from poolwarden_collector.core.evidence.operator_confirmation import read_since_silent, reads_on
from poolwarden_collector.core.evidence.signs import member_state, suspected
from poolwarden_collector.core.evidence.verdict import OF_MEMBER, Verdict
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.failover_record import Failover
from poolwarden_collector.core.state.snapshot import Snapshot

SEE_IT_OFF = (Blocker.NEEDS_HUMAN, Blocker.POWER_ON, Blocker.PROOF_NOT_RENEWED)  # what a person's word ends
_LOST = (Verdict.VANISHED, Verdict.UNWITNESSED)


def next_step(pool: Snapshot, verdict: Verdict) -> str:
    """The same as ``steps``, as one sentence of ``explain``."""
    if (question := pool.record.question) is not None:
        return questions.answers(question.id, question.needs)
    return " ".join(steps(pool, verdict))


def steps(pool: Snapshot, verdict: Verdict) -> tuple[str, ...]:
    """What to do, a line each, the command last; empty: nothing is needed."""
    question, failover, name = pool.record.question, pool.failover, pool.record.display_name
    if deposed(pool) is not None:
        return ("Stop one of the two collectors. If this one is to stay:", f"poolwarden acknowledge {name}")
    if question is not None:
        yes = questions.approve_command(question.id, question.needs)
        return (f"yes: {yes}", f"no:  poolwarden deny {question.id}")
    if pool.record.paused is not None:
        return (f"poolwarden resume {name}",)
    if failover is not None:
        return _in_failover(pool, failover)
    return _by_verdict(pool, verdict)


def see_it_off(pool: Snapshot, host: HostId) -> tuple[str, ...]:
    """How a person proves that a host is off; while its power reads ON nobody's word is taken for it."""
    name = pool.name(host)
    if reads_on(pool, host):
        if not read_since_silent(pool, host):
            return (f"nothing yet: the power of {name} is being read anew",)
        off = f"Switch {name} off at its BMC or PDU and keep it off: the rest goes by itself."
        again = f"poolwarden acknowledge {pool.record.display_name}"
        return (off, "Or have it asked once more:", again) if pool.record.asked.denied else (off,)
    return (f"See that {name} is off (machine or PDU), keep it off, then:", f"poolwarden confirm-fenced {name}")


def _in_failover(pool: Snapshot, failover: Failover) -> tuple[str, ...]:
    old = pool.name(failover.old_master)
    if failover.standstill.blocker in SEE_IT_OFF:
        return see_it_off(pool, failover.old_master)
    if failover.standstill.blocker:
        return (failover.standstill.next_step or failover.standstill.why,)
    return (f"nothing yet; do not power {old} on",) if pool.heard(failover.old_master) is None else ("nothing yet",)


def _by_verdict(pool: Snapshot, verdict: Verdict) -> tuple[str, ...]:
    master = suspected(pool)
    if verdict in _LOST and pool.site.cut_off:
        return ("Nobody is known to act before etcd answers again: look at its members.", "poolwarden collectors")
    if verdict in _LOST and pool.quiet:
        left = (pool.quiet_until - pool.now) / 1000
        return (f"wait {left:.0f} s: this collector has only just {takeover.just(pool)}",)
    if verdict in _LOST and master:
        return see_it_off(pool, master)
    if verdict is Verdict.POOL_SPLIT and (door := closed_door(pool, master)) is not None:
        return (f"{pool.name(master)} refuses every other host: {door.why}.", door.fix)
    step = verdict.entails.next_step.format(master=pool.name(master), member=troubled(pool, verdict))
    return (step,) if step else ()


def troubled(pool: Snapshot, verdict: Verdict) -> str:
    """The member that a verdict is about, by name, so that its next step can be typed."""
    return pool.name(troubled_host(pool, verdict))


def troubled_host(pool: Snapshot, verdict: Verdict) -> HostId:
    """The member that a verdict is about; where there is none, the master."""
    master = suspected(pool)
    hosts = [host for host in sorted(pool.record.hosts, key=pool.name) if host != master]
    found = [host for host in hosts if OF_MEMBER[member_state(pool, host, master)] is verdict]
    return found[0] if found else master
