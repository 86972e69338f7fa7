"""An alert per verdict and incident, and one for a pool that is never steady.

An incident ends with the next Healthy; that its master is lost, also with the word that it was shut down by order.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.hosts import UNSTEADY
from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.catalogue.verdicts import BY_WORD, COVERED, REFUSES_EVERYBODY
from poolwarden_collector.core.evidence import announcements, assessment, storage_stalls, xapi_troubles
from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.closed_door import closed_door
from poolwarden_collector.core.evidence.evidence_lines import EvidenceLine, lines
from poolwarden_collector.core.evidence.link_flaps import is_flapping
from poolwarden_collector.core.evidence.signs import signs, silence_of, suspected
from poolwarden_collector.core.evidence.verdict import Permit, Settling, Verdict, without_hold
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.recovery import restart_in_place
from poolwarden_collector.core.report import next_step
from poolwarden_collector.core.state import told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, of_key
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Step
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_LOST = (Verdict.VANISHED.word, Verdict.UNWITNESSED.word)
_UNSEEN = (Verdict.COLLECTOR_BLIND, Verdict.POOL_DARK)
_OTHERS = (
    "Another collector may see its hosts, and takes the pool once this one is stopped on its machine: systemctl stop "
    "poolwarden-collector. By itself the pool stays; a move or a drain leaves what is not Healthy where it is."
)
STEADY_MS: Ms = 60_000  # Healthy for so long, without a break


UNSTEADY_MS: Ms = 300_000
OF_MEMBERS = (Verdict.MEMBER_EMERGENCY, Verdict.MEMBER_XAPI_DOWN, Verdict.MEMBER_ORPHANED)


def alert_unsteady(tx: Transaction, verdict: Verdict) -> None:
    """A pool whose verdict comes and goes, or that stays Suspect: nothing of it lasts long enough to be told."""
    topic, pool = AlertTopic(Matter.UNSTEADY), tx.record.display_name
    steady = verdict is Verdict.HEALTHY and tx.now - tx.live.verdict.since >= STEADY_MS
    told = bool(_alerts_open(tx)) or tx.failover is not None  # by the alerts of that
    if steady or told or tx.quiet:
        if tx.live.service.unsteady_since is not None:
            assessment.steady(tx)
        if topic in tx.open_topics and not tx.quiet:
            tx.resolve_alert(topic, f"{pool} is steady again, or told by another alert")
    elif verdict is Verdict.SUSPECT and tx.live.service.unsteady_since is None:
        assessment.unsteady(tx)
    elif tx.live.service.unsteady_since is not None and tx.now - tx.live.service.unsteady_since >= UNSTEADY_MS:
        minutes, starts = (tx.now - tx.live.service.unsteady_since) / 60_000, tx.live.service.unsteady_starts.count - 1
        again = f" The xapi of {tx.name(suspected(tx))} has restarted {starts} times since." if starts > 1 else ""
        body = (
            f"For {minutes:.0f} minutes it has not been Healthy for one minute in a row, and no state lasted long "
            f"enough to act on; now it is {verdict.word}: {describe(tx, verdict)}.{again} Look at its xapi. "
            f"poolwarden explain {pool}"
        )
        body = "\n".join([body, *xapi_troubles.explained(tx)])
        why = xapi_troubles.why(tx, suspected(tx))
        words = {"minutes": f"{minutes:.0f}", "suspected": tx.name(suspected(tx)), "why": why}
        tx.raise_alert(topic, UNSTEADY, body, words)


def _alerts_open(pool: Snapshot) -> list[AlertTopic]:
    return [topic for topic in pool.open_topics if topic.incident == str(pool.record.incidents)]


def _settling(pool: Snapshot, verdict: Verdict) -> Ms:
    """How long a verdict has to last before it is told; it is judged anew in every pass, so it waits here."""
    if verdict.entails.settling is Settling.START:
        return pool.policy.xapi_down_after
    # A pool whose first agent has just come is not dark: it has yet to say what it is.
    new = verdict is Verdict.POOL_DARK and not pool.record.master
    brief = new or verdict.entails.settling is Settling.BRIEF or is_flapping(pool, suspected(pool))
    return pool.policy.vanished_after if brief else 0


def alert_verdict(tx: Transaction, verdict: Verdict, sentence: str) -> None:
    """An alert per verdict and incident; an incident ends with the pool's next Healthy. None in quiet time."""
    if verdict is Verdict.HEALTHY and tx.failover is None:
        for topic in _alerts_open(tx):
            tx.resolve_alert(topic, f"{tx.record.display_name} is Healthy")
    if verdict is Verdict.PLANNED_DOWN and tx.failover is None:
        for topic in _alerts_open(tx):
            if topic.verdict in _LOST:
                tx.resolve_alert(topic, announcements.announcement_sentence(tx))
    for each in tuple(tx.live.alerts.unsettled.values()):
        topic = of_key(tx.record.pool, each.key)
        if topic.matter is Matter.INCIDENT and topic.verdict != verdict.word:
            tx.resolve_alert(topic, "the verdict has changed", final=True)
    unlearned = verdict is Verdict.LEARNING and tx.now - tx.quiet_until >= tx.policy.xapi_down_after
    if tx.quiet or not (unlearned or verdict.permits not in (Permit.NOTHING, Permit.OBSERVE)):
        return
    if tx.now - tx.live.verdict.since < _settling(tx, verdict):
        return
    if verdict is Verdict.XAPI_DOWN and suspected(tx) in tx.live.gates.waiting:
        return  # its boot gate holds its xapi back, and has an alert of its own
    failing_over = tx.record.failover is not None and tx.record.failover.step in (Step.PROMOTING, Step.PROMOTED)
    if failing_over and verdict in (Verdict.MEMBER_ORPHANED, Verdict.MEMBER_VANISHED):
        return
    if verdict is Verdict.HA_MANAGED and tx.failover is not None and tx.failover.step not in REVERSIBLE:
        word = f"{verdict.word} in mid-failover"
        _raise_verdict(tx, verdict, BY_WORD[word], word, f"{sentence}; {_stands_open(tx, tx.failover)}")
    else:
        _raise_verdict(tx, verdict, verdict.message, verdict.word, sentence)
    under = without_hold(signs(tx)) if verdict in (Verdict.UPGRADING, Verdict.TRANSITION) else verdict
    if under.entails.told_when_covered and under is not verdict:
        word = f"{verdict.word} over {under.word}"
        _raise_verdict(tx, under, COVERED[under.word], word, f"{under.meaning}; {sentence}")


def _stands_open(pool: Snapshot, failover: Failover) -> str:
    """What xapi's HA was armed in the midst of."""
    old, whom = pool.name(failover.old_master) or "no master", pool.name(failover.candidate)
    why = f" ({failover.standstill.why})" if failover.standstill.why else ""
    text = (
        f"failover {failover.id} from {old} to {whom} is open, at {failover.step.value}{why}, and nothing is done in it"
    )
    return f"{text} while HA is armed: once it is disarmed (xe pool-ha-disable), the failover goes on"


def _raise_verdict(tx: Transaction, verdict: Verdict, message: Message, word: str, sentence: str) -> None:
    incident = tx.record.incidents if _alerts_open(tx) else tx.record.incidents + 1
    topic = AlertTopic(Matter.INCIDENT, detail=word, number=str(incident))
    if topic in tx.open_topics:
        return
    master, (did, step) = suspected(tx), _doing(tx, verdict)
    door = closed_door(tx, master) if verdict is Verdict.POOL_SPLIT else None
    words = {
        "sentence": sentence,
        "master": tx.name(master) if master else "the master",
        "address": tx.record.address_of(master) or "address not known",
        "member": next_step.troubled(tx, verdict),
        "silent": f"{silence_of(tx, master) / 1000:.0f} s" if master else "",
        "there": told_words.there(tx, master) if master else "",
        "covered": f"the pool is held: {sentence}",
        "doing": did,
        "step": door.fix if door is not None else step,
        "door": door.why if door is not None else "",
        "why": xapi_troubles.why(tx, next_step.troubled_host(tx, verdict) if verdict in OF_MEMBERS else master),
    }
    message = REFUSES_EVERYBODY if door is not None else message
    causes = (*xapi_troubles.explained(tx), *(storage_stalls.sentence(tx, each) for each in storage_stalls.stalls(tx)))
    others = [_OTHERS] if verdict in _UNSEEN and tx.site.takeover is not None else []
    details = "\n".join([f"{word}: {sentence}", *others, *causes[:6], *(_evidence(each) for each in lines(tx)[:12])])
    tx.raise_alert(topic, message, details, words, verdict=word, incident=incident)


def _evidence(line: EvidenceLine) -> str:
    age = f", {line.age_ms / 1000:.1f} s ago" if line.age_ms is not None else ""
    old = "before that: " if line.value == "stale" else ""
    return f"{line.subject}: {old}{line.text} (seen by {line.witness}{age})"


def _doing(pool: Snapshot, verdict: Verdict) -> tuple[str, str]:
    """What Poolwarden does under this verdict in this pool, and what a person does meanwhile."""
    name, master = pool.record.display_name, suspected(pool)
    explained = f"poolwarden explain {name}"
    if pool.record.paused is not None:
        return (
            f"nothing: the pool is paused ({pool.record.paused})",
            f"to have Poolwarden act: poolwarden resume {name}",
        )
    if pool.policy.mode == "observe":
        return "nothing: the pool's mode is observe", f"it is yours to recover: {explained} tells what is known"
    asks = "; asks you before anything is done" if pool.policy.mode == "ask" else ""
    if (now := pool.record.in_place) is not None:
        return f"is restarting its xapi in place: {restart_in_place.stands_at(pool, now)}", f"nothing yet: {explained}"
    if verdict is Verdict.VANISHED and not pool.devices(master):
        return "nothing yet: no fence device can prove it off" + asks, f"nothing yet: you are asked. {explained}"
    return _DOES.get(verdict, "looks on, and tells when it changes") + asks, f"nothing yet: {explained}"


_REPAIRS = "repairs it where that kills no VM: points it at the master, restarts its xapi"
_RESTARTS = "restarts its xapi where that harms nothing, or hands the role to another host; the next alert says which"
_DOES = {
    Verdict.VANISHED: "reads its power; once it is proven off a member is promoted",
    Verdict.UNWITNESSED: "reads its power; nothing is promoted without proof that it is off",
    Verdict.XAPI_DOWN: _RESTARTS,
    Verdict.XAPI_HUNG: _RESTARTS,
    Verdict.NO_MASTER: "promotes the newest database once every host has said that it is no master",
    Verdict.POOL_SPLIT: "looks on; it is succeeded only where the policy says relocate_split",
    Verdict.MEMBER_EMERGENCY: _REPAIRS,
    Verdict.MEMBER_ORPHANED: _REPAIRS,
    Verdict.MEMBER_XAPI_DOWN: _REPAIRS,
}
