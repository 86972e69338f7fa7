"""An alert per verdict and incident, and one for a pool that is never steady.

An incident ends with the pool's next Healthy.
"""

from __future__ import annotations

from poolwarden_collector.core.evidence.assessment import describe
from poolwarden_collector.core.evidence.evidence_lines import lines
from poolwarden_collector.core.evidence.link_flaps import is_flapping
from poolwarden_collector.core.evidence.signs import signs, suspected
from poolwarden_collector.core.evidence.verdict import Permit, Settling, Verdict, without_hold
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.recovery import restart_in_place
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, of_key
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover, Step
from poolwarden_collector.core.state.live import Starts
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

STEADY_MS: Ms = 60_000  # Healthy for so long, without a break


UNSTEADY_MS: Ms = 300_000


def alert_unsteady(d: Transaction, verdict: Verdict) -> None:
    """A pool whose verdict comes and goes, or that stays Suspect: nothing of it lasts long enough to be told."""
    topic, pool = AlertTopic(Matter.UNSTEADY), d.record.name or d.record.pool
    steady = verdict is Verdict.HEALTHY and d.now - d.live.verdict_since >= STEADY_MS
    told = bool(_alerts_open(d)) or d.failover is not None  # by the alerts of that
    if steady or told or d.quiet:
        if d.live.unsteady_since is not None:
            d.change(unsteady_since=None, unsteady_starts=Starts())
        if topic in d.open_topics and not d.quiet:
            d.resolve_alert(topic, f"{pool} is steady again, or told by another alert")
    elif verdict is Verdict.SUSPECT and d.live.unsteady_since is None:
        d.change(unsteady_since=d.now)
    elif d.live.unsteady_since is not None and d.now - d.live.unsteady_since >= UNSTEADY_MS:
        minutes, starts = (d.now - d.live.unsteady_since) / 60_000, d.live.unsteady_starts.count - 1
        again = f" The xapi of {d.name(suspected(d))} has restarted {starts} times since." if starts > 1 else ""
        body = (
            f"For {minutes:.0f} minutes it has not been Healthy for one minute in a row, and no state lasted long "
            f"enough to act on; now it is {verdict.word}: {describe(d, verdict)}.{again} Look at its xapi. "
            f"poolwarden explain {pool}"
        )
        d.raise_alert(topic, "critical", f"{pool}: not steady", body)


def _alerts_open(d: Snapshot) -> list[AlertTopic]:
    return [topic for topic in d.open_topics if topic.incident == str(d.record.incidents)]


def _settling(d: Snapshot, verdict: Verdict) -> Ms:
    """How long a verdict has to last before it is told; it is judged anew in every pass, so it waits here."""
    if verdict.entails.settling is Settling.START:
        return d.policy.xapi_down_after
    # A pool whose first agent has just come is not dark: it has yet to say what it is.
    new = verdict is Verdict.POOL_DARK and not d.record.master
    brief = new or verdict.entails.settling is Settling.BRIEF or is_flapping(d, suspected(d))
    return d.policy.vanished_after if brief else 0


def alert_verdict(d: Transaction, verdict: Verdict, sentence: str) -> None:
    """An alert per verdict and incident; an incident ends with the pool's next Healthy. None in quiet time."""
    if verdict is Verdict.HEALTHY and d.failover is None:
        for topic in _alerts_open(d):
            d.resolve_alert(topic, f"{d.record.name or d.record.pool} is Healthy")
    for each in tuple(d.live.unsettled.values()):
        topic = of_key(d.record.pool, each.key)
        if topic.matter is Matter.INCIDENT and topic.verdict != verdict.word:
            d.resolve_alert(topic, "the verdict has changed", final=True)
    unlearned = verdict is Verdict.LEARNING and d.now - d.quiet_until >= d.policy.xapi_down_after
    if d.quiet or not (unlearned or verdict.permits not in (Permit.NOTHING, Permit.OBSERVE)):
        return
    if d.now - d.live.verdict_since < _settling(d, verdict):
        return
    if verdict is Verdict.XAPI_DOWN and suspected(d) in d.live.gates:
        return  # its boot gate holds its xapi back, and has an alert of its own
    failing_over = d.record.failover is not None and d.record.failover.step in (Step.PROMOTING, Step.PROMOTED)
    if failing_over and verdict in (Verdict.MEMBER_ORPHANED, Verdict.MEMBER_VANISHED):
        return
    if verdict is Verdict.HA_MANAGED and d.failover is not None and d.failover.step not in REVERSIBLE:
        _raise_verdict(d, f"{verdict.word} in mid-failover", "critical", f"{sentence}; {_stands_open(d, d.failover)}")
    else:
        _raise_verdict(d, verdict.word, verdict.entails.severity, sentence)
    under = without_hold(signs(d)) if verdict in (Verdict.UPGRADING, Verdict.TRANSITION) else verdict
    if under.entails.told_when_covered and under is not verdict:
        _raise_verdict(d, f"{verdict.word} over {under.word}", "critical", f"{under.meaning}; {sentence}")


def _stands_open(d: Snapshot, failover: Failover) -> str:
    """What xapi's HA was armed in the midst of."""
    old, whom = d.name(failover.old_master) or "no master", d.name(failover.candidate)
    why = f" ({failover.blocker})" if failover.blocker else ""
    text = (
        f"failover {failover.id} from {old} to {whom} is open, at {failover.step.value}{why}, and nothing is done in it"
    )
    return f"{text} while HA is armed: once it is disarmed (xe pool-ha-disable), the failover goes on"


def _raise_verdict(d: Transaction, word: str, severity: str, sentence: str) -> None:
    incident = d.record.incidents if _alerts_open(d) else d.record.incidents + 1
    topic = AlertTopic(Matter.INCIDENT, detail=word, number=str(incident))
    if topic in d.open_topics:
        return
    pool = d.record.name or d.record.pool
    doing = []
    if (now := d.record.in_place) is not None:
        doing = [f"the xapi of {d.name(now.host)} is being restarted in place: {restart_in_place.stands_at(d, now)}"]
    body = "\n".join([sentence, *doing, *(f"{e.subject}: {e.text} (seen by {e.witness})" for e in lines(d)[:12])])
    d.raise_alert(topic, severity, f"{pool}: {word}", body, verdict=word, incident=incident)
