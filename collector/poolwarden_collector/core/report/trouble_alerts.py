"""Alerts on what keeps a xapi from starting, and on storage that does not answer.

Rules
-----
* Why a xapi does not start is told for a cause that is known, while that heard host's xapi is not up, once that has
  lasted (alert_book.py). Another cause ends it and raises its own. What is not known stands in ``host show``.
* Storage that does not answer has one alert, whichever hosts see it: it is one fault. It ends when no host that is
  heard sees it any more, and waits for a host that saw it last and is silent.
* Of storage at most ``MOST_NEW`` alerts are new in a minute and ``MOST_OPEN`` are open, what most hosts see first: a
  host that makes servers up fills no journal. All of it stands in ``explain``.
* Nothing is done about either by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from poolwarden.xapi_causes import UNKNOWN
from poolwarden_collector.core.catalogue.hosts import STORAGE_STALLED, XAPI_TROUBLE, XAPI_TROUBLE_OF_MASTER
from poolwarden_collector.core.evidence.storage_stalls import Stall, no_cure, sentence, stalls
from poolwarden_collector.core.evidence.xapi_troubles import help_of, trouble_of
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.values import HostId
from poolwarden_collector.core.state.alert_book import MINUTE_MS
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter, parse
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

MOST_NEW, MOST_OPEN = 3, 16
# What is not known, and what verdicts tell of in alerts of their own.
_TOLD = (UNKNOWN, "master-unreachable", "another-master")


def watch_troubles(tx: Transaction, hosts: Collection[HostId]) -> None:
    """An alert for each of these hosts whose xapi does not start for a cause that is known; and the end of others."""
    wanted = {
        AlertTopic(Matter.XAPI_TROUBLE, host, trouble.cause): (host, trouble)
        for host in hosts
        if host in tx.record.hosts and (trouble := trouble_of(tx, host)) is not None and trouble.cause not in _TOLD
    }
    for topic in [topic for topic in tx.open_topics if topic.matter is Matter.XAPI_TROUBLE and topic not in wanted]:
        left = topic.host not in tx.record.hosts
        if left or (topic.host in hosts and tx.heard(topic.host) is not None):
            tx.resolve_alert(topic, f"{tx.name(topic.host)}: its xapi is not kept from starting by that any more")
    for topic, (host, trouble) in wanted.items():
        name, helps = tx.name(host), help_of(tx, host, trouble)
        message = XAPI_TROUBLE_OF_MASTER if host == tx.record.master else XAPI_TROUBLE
        body = "\n".join([f"{name}: {trouble.sentence}.", f"helps: {helps}", *trouble.lines])
        words = {"name": name, "why": trouble.sentence, "help": helps}
        tx.raise_alert(topic, message, body, words, host=host, cause=trouble.cause)


def watch_storage(tx: Transaction) -> None:
    """One alert for each storage that does not answer, whoever sees it; and its end."""
    opened = {topic for topic in tx.open_topics if topic.matter is Matter.STORAGE}
    wanted = {AlertTopic(Matter.STORAGE, detail=stall.what): stall for stall in stalls(tx)}
    for topic in sorted(opened - set(wanted), key=lambda topic: topic.text):
        if not any(_silent_witness(tx, host, topic.detail) for host in tx.record.hosts):
            tx.resolve_alert(topic, f"{topic.detail} answers again")
    for topic in _told_now(tx, opened, list(wanted)):
        _tell(tx, topic, wanted[topic])


def _told_now(tx: Transaction, opened: Collection[AlertTopic], wanted: Sequence[AlertTopic]) -> list[AlertTopic]:
    """Those that are told already, and of new ones as many as a minute may bring."""
    told = tx.live.alerts.told
    known = [topic for topic in wanted if topic in opened]
    lately = [each for each in told if parse(each).matter is Matter.STORAGE and tx.now - told[each] < MINUTE_MS]
    settling = [topic for topic in known if topic.about in tx.live.alerts.unsettled]
    room = min(MOST_NEW - len(lately) - len(settling), MOST_OPEN - len(opened))
    return known + [topic for topic in wanted if topic not in opened][: max(0, room)]


def _silent_witness(pool: Snapshot, host: HostId, what: str) -> bool:
    """Did it hang there by the last word of a host that is not heard?"""
    agent = pool.agent(host)
    if agent is None or not agent.facts.storage.stalls or pool.heard(host) is not None:
        return False
    return any(stall.mounted and stall.what == what for stall in agent.facts.storage.stalls)


def _tell(tx: Transaction, topic: AlertTopic, stall: Stall) -> None:
    if tx.is_told(topic):
        return
    mute = [tx.name(host) for host in stall.hosts if _mute(tx, host)]
    words = {
        "what": f"{stall.what}{f' ({stall.name})' if stall.name else ''}",
        "hosts": ", ".join(tx.name(host) for host in stall.hosts),
        "server": stall.server or stall.what,
        "follows": f"xapi hangs on {', '.join(mute)} because of it; " if mute else "",
        "span": span(max(0, tx.now - stall.since)),
    }
    also = no_cure(tx)
    body = "\n".join([f"{sentence(tx, stall)}.", *([f"{also}."] if also else []), *stall.errors])
    tx.raise_alert(topic, STORAGE_STALLED, body, words, hosts=list(stall.hosts), what=stall.what)


def _mute(pool: Snapshot, host: HostId) -> bool:
    agent = pool.heard(host)
    return agent is not None and agent.facts.xapi.liveness in (Liveness.SILENT, Liveness.DOWN)
