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
* One of several collectors that may act nowhere can record nothing: what is to be told or over waits for that. An alert
  that could not be written would have its pool stand still. What nobody may do meanwhile is told beside this
  (shell/loop/right_alerts.py).
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
from poolwarden_collector.core.state.live_slices import Alerts, Unsettled

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
    Matter.HOST_DOWN: 30_000,
    Matter.NOT_STARTED: 30_000,  # a report, a reading or a host that is enabled ends most of it
    Matter.MEMORY: 30_000,  # a program that is starting takes much for seconds
    Matter.XAPI_TROUBLE: 20_000,  # a restart that helps ends it within that
    Matter.STORAGE: 20_000,  # a server that is restarted is away for less
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


def open_topics(pool: Snapshot) -> tuple[AlertTopic, ...]:
    """What stands: alerts that are open and not about to be over, and what settles."""
    live, opened = pool.live, pool.record.open_alerts
    if live.alerts.closing:
        opened = tuple(key for key in opened if key not in live.alerts.closing)
    if live.alerts.unsettled:
        opened = (*opened, *(each.key for each in live.alerts.unsettled.values() if each.gone_at is None))
    return tuple(of_key(pool.record.pool, key) for key in opened)


def resume(tx: Transaction) -> None:
    """First step of a run: what was told by an earlier one was told just now, as far as anybody knows."""
    if tx.record.told:
        tx.change(Alerts, told=dict.fromkeys(tx.record.told, tx.site.started_at))


def is_told(tx: Transaction, topic: AlertTopic) -> bool:
    """Is this open already? Then it stays so, whatever was about to end it."""
    full_key = topic.key(tx.record.pool)
    if full_key in tx.live.alerts.closing:
        tx.change(Alerts, closing={key: over for key, over in tx.live.alerts.closing.items() if key != full_key})
    return full_key in tx.record.open_alerts


def stands(tx: Transaction, topic: AlertTopic, severity: str, title: str, body: str, facts: dict[str, Any]) -> None:
    """This, which is not told yet, is so now: told once it has lasted."""
    full_key, about = topic.key(tx.record.pool), topic.about
    known = tx.live.alerts.unsettled.get(about)
    since = known.since if known is not None else tx.now
    news = Unsettled(full_key, severity, title, body, facts, since)
    if _due(tx, about, news):
        _raise(tx, about, news)
    elif news != known:
        tx.change(Alerts, unsettled={**tx.live.alerts.unsettled, about: news})


def ends(tx: Transaction, topic: AlertTopic, text: str, final: bool = False) -> None:
    """This is so no more: forgotten if it was never told, and over once it has been gone for its settling time."""
    full_key, about, lasts = topic.key(tx.record.pool), topic.about, settling(topic)
    known = tx.live.alerts.unsettled.get(about)
    if known is not None and known.key == full_key:
        if final or not lasts:
            _forget(tx, about)
        elif known.gone_at is None:
            tx.change(Alerts, unsettled={**tx.live.alerts.unsettled, about: replace(known, gone_at=tx.now)})
    if full_key not in tx.record.open_alerts:
        return
    told = tx.live.alerts.told.get(about, tx.now - lasts)
    due = min(told + lasts, tx.now + lasts) if final else tx.now + lasts
    before = tx.live.alerts.closing.get(full_key)
    if before is not None:
        due = min(due, before[0])
    if due <= tx.now and not tx.site.cut_off:
        _over(tx, full_key, text)
    elif before is None or due != before[0]:
        tx.change(Alerts, closing={**tx.live.alerts.closing, full_key: (due, text)})


def tell_settled(tx: Transaction) -> None:
    """At the end of a pass: tell what has lasted, and end what has been gone for as long."""
    for about, each in tuple(tx.live.alerts.unsettled.items()):
        if each.gone_at is not None:
            if tx.now - each.gone_at >= settling(of_key(tx.record.pool, each.key)):
                _forget(tx, about)
        elif _due(tx, about, each):
            _raise(tx, about, each)
    for key, (due, text) in tuple(tx.live.alerts.closing.items()):
        if tx.now >= due and not tx.site.cut_off:
            _over(tx, key, text)


def _due(pool: Snapshot, about: str, each: Unsettled) -> bool:
    if pool.site.cut_off:
        return False
    told = pool.live.alerts.told.get(about)
    lasted = pool.now - each.since >= settling(of_key(pool.record.pool, each.key))
    return lasted and (told is None or pool.now - told >= MINUTE_MS)


def _raise(tx: Transaction, about: str, each: Unsettled) -> None:
    _forget(tx, about)
    kept = {told: at for told, at in tx.live.alerts.told.items() if tx.now - at < MINUTE_MS}
    tx.change(Alerts, told={**kept, about: tx.now})
    tx.note(
        Kind.ALERT,
        f"alert ({each.severity}): {each.title}",
        key=each.key,
        severity=each.severity,
        title=each.title,
        body=each.body,
        facts=each.facts,
    )
    tx.alerts.append(AlertRaised(each.key, each.severity, each.title, each.body, each.facts))


def _over(tx: Transaction, key: str, text: str) -> None:
    title = tx.record.titles.get(key, "")
    said = f"{title}: {text}" if title else text
    tx.change(Alerts, closing={other: over for other, over in tx.live.alerts.closing.items() if other != key})
    tx.note(Kind.ALERT_RESOLVED, f"alert over: {said}", key=key)
    tx.alerts.append(AlertResolved(key, said))


def _forget(tx: Transaction, about: str) -> None:
    if about in tx.live.alerts.unsettled:
        tx.change(Alerts, unsettled={other: each for other, each in tx.live.alerts.unsettled.items() if other != about})
