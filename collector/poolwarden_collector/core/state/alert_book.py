"""Alerts: what is told to people, when, and how often. The one place that raises and ends them.

Rules
-----
* An alert is a state that has lasted. Each topic has a settling time (``settling``); what ends before it is never
  told. What cannot pass by itself (two masters, a promotion, lost VMs, a question) has none and is told at once.
* The same time goes by before an alert is over: a state that is gone for less has never ended. So what comes and goes
  is told once. Where its matter is closed (``final``) it is over as soon as it has been open for that time.
* A topic is told at most once in ``MINUTE_MS``. A topic is a pool, a matter and its subjects (host, VM, reason ...);
  the number of a failover, an incident or a question is no part of it: the same standstill of the next failover is the
  same topic.
* The minute survives the collector: the record keeps the topics that were told last, and a new run counts their minute
  from its own start, never shorter. What had not lasted yet is in no journal: its cause stands or not, and whoever
  raises it does so again in every pass in which it stands.
* Modules ask ``Snapshot.open_topics`` what they have raised, and never the record: an alert that settles counts there,
  and one that is about to be over does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.alert_topic import QUARANTINED, AlertTopic, Matter, of_key
from poolwarden_collector.core.state.live import Unsettled

if TYPE_CHECKING:
    from poolwarden_collector.core.state.snapshot import Snapshot
    from poolwarden_collector.core.state.transaction import Transaction

MINUTE_MS: Ms = 60_000
# How long a state lasts before it is told, ms; at once where nothing is said.
_SETTLING: dict[Matter, Ms] = {
    Matter.REFUSAL: 20_000,  # nothing is begun: a device has two attempts of 8 s until it is unknown
    Matter.REPOINT: 15_000,  # an answer about the VMs at stake is fresh for 10 s
    Matter.REPAIR: 15_000,
    Matter.FENCE: 30_000,  # a device's state is judged every 30 s
    Matter.RELEASE: 10_000,
}
# Standstills that another answer or reading ends by itself within seconds; the others have waited already.
_BLOCKER_SETTLING: dict[Blocker, Ms] = {
    Blocker.LAST_LOOK: 10_000,
    Blocker.NO_WITNESS: 10_000,
    Blocker.NOT_EVERYBODY: 10_000,
    Blocker.KILL_FORECAST: 10_000,
    Blocker.NO_CLAIM: 10_000,
    Blocker.NO_CANDIDATE: 10_000,
    Blocker.PROMOTE_REFUSED: 10_000,
    Blocker.PROOF_NOT_RENEWED: 10_000,
    Blocker.NOT_ASKED: 30_000,  # a xapi starts in less
}


def settling(topic: AlertTopic) -> Ms:
    """How long what this topic says must have lasted before it is told, and be gone before it is over, ms."""
    if topic.matter is Matter.FENCE and topic.detail == QUARANTINED:
        return 0
    if (blocker := topic.blocker) is not None:
        return _BLOCKER_SETTLING.get(blocker, 0)
    return _SETTLING.get(topic.matter, 0)


def open_topics(d: Snapshot) -> tuple[AlertTopic, ...]:
    """What stands: alerts that are open and not about to be over, and what settles."""
    live, opened = d.live, d.record.open_alerts
    if live.closing:
        opened = tuple(key for key in opened if key not in live.closing)
    if live.unsettled:
        opened = (*opened, *(each.key for each in live.unsettled.values() if each.gone_at is None))
    return tuple(of_key(d.record.pool, key) for key in opened)


def resume(d: Transaction) -> None:
    """First step of a run: what was told by an earlier one was told just now, as far as anybody knows."""
    if d.record.told:
        d.change(alerted=dict.fromkeys(d.record.told, d.site.started_at))


def stands(d: Transaction, topic: AlertTopic, severity: str, title: str, body: str, facts: dict[str, Any]) -> None:
    """This is so now: told once it has lasted, unless it was told already."""
    full_key, about = topic.key(d.record.pool), topic.about
    if full_key in d.live.closing:
        d.change(closing={key: over for key, over in d.live.closing.items() if key != full_key})
    if full_key in d.record.open_alerts:
        return
    known = d.live.unsettled.get(about)
    since = known.since if known is not None else d.now
    news = Unsettled(full_key, severity, title, body, facts, since)
    if _due(d, about, news):
        _raise(d, about, news)
    elif news != known:
        d.change(unsettled={**d.live.unsettled, about: news})


def ends(d: Transaction, topic: AlertTopic, text: str, final: bool = False) -> None:
    """This is so no more: forgotten if it was never told, and over once it has been gone for its settling time."""
    full_key, about, lasts = topic.key(d.record.pool), topic.about, settling(topic)
    known = d.live.unsettled.get(about)
    if known is not None and known.key == full_key:
        if final or not lasts:
            _forget(d, about)
        elif known.gone_at is None:
            d.change(unsettled={**d.live.unsettled, about: replace(known, gone_at=d.now)})
    if full_key not in d.record.open_alerts:
        return
    told = d.live.alerted.get(about, d.now - lasts)
    due = min(told + lasts, d.now + lasts) if final else d.now + lasts
    before = d.live.closing.get(full_key)
    if before is not None:
        due = min(due, before[0])
    if due <= d.now:
        _over(d, full_key, text)
    elif before is None or due != before[0]:
        d.change(closing={**d.live.closing, full_key: (due, text)})


def tell_settled(d: Transaction) -> None:
    """At the end of a pass: tell what has lasted, and end what has been gone for as long."""
    for about, each in tuple(d.live.unsettled.items()):
        if each.gone_at is not None:
            if d.now - each.gone_at >= settling(of_key(d.record.pool, each.key)):
                _forget(d, about)
        elif _due(d, about, each):
            _raise(d, about, each)
    for key, (due, text) in tuple(d.live.closing.items()):
        if d.now >= due:
            _over(d, key, text)


def _due(d: Snapshot, about: str, each: Unsettled) -> bool:
    told = d.live.alerted.get(about)
    lasted = d.now - each.since >= settling(of_key(d.record.pool, each.key))
    return lasted and (told is None or d.now - told >= MINUTE_MS)


def _raise(d: Transaction, about: str, each: Unsettled) -> None:
    _forget(d, about)
    kept = {told: at for told, at in d.live.alerted.items() if d.now - at < MINUTE_MS}
    d.change(alerted={**kept, about: d.now})
    d.note(
        Kind.ALERT,
        f"alert ({each.severity}): {each.title}",
        key=each.key,
        severity=each.severity,
        title=each.title,
        body=each.body,
        facts=each.facts,
    )
    d.alerts.append(AlertRaised(each.key, each.severity, each.title, each.body, each.facts))


def _over(d: Transaction, key: str, text: str) -> None:
    title = d.record.titles.get(key, "")
    said = f"{title}: {text}" if title else text
    d.change(closing={other: over for other, over in d.live.closing.items() if other != key})
    d.note(Kind.ALERT_RESOLVED, f"alert over: {said}", key=key)
    d.alerts.append(AlertResolved(key, said))


def _forget(d: Transaction, about: str) -> None:
    if about in d.live.unsettled:
        d.change(unsettled={other: each for other, each in d.live.unsettled.items() if other != about})
