"""One step in the making: the pool as it changes, and what the step will give back.

A ``Transaction`` lives only within one call of ``engine.step``; it is how many small functions share one result without
passing five values around. The pool that it starts from is never changed, so a step that the shell cannot commit has
simply not happened. Whoever only reads takes a ``Snapshot``: by type, it cannot journal, send or alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolwarden.typed_names import quoted
from poolwarden_collector.core.catalogue.message import Message
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved, Effect, SendOrder
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Order, OrderKind, Preconditions
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state import alert_book, failover_transitions, phases, sent_orders, told_words
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.live import SLICES, Pool, PoolLive, Sent, Site
from poolwarden_collector.core.state.pool_record import apply
from poolwarden_collector.core.state.snapshot import Snapshot


class Transaction(Snapshot):
    """The pool as it changes within one step, with the entries, alerts and effects gathered so far."""

    def __init__(self, pool: Pool, now: Ms, site: Site) -> None:
        super().__init__(pool, now, site)
        self.entries: list[Entry] = []
        self.alerts: list[AlertRaised | AlertResolved] = []
        self.effects: list[Effect] = []

    def change(self, part: type, /, **changes: Any) -> None:
        """Change live state: fields of a slice, or of ``PoolLive`` itself; each is its owner's alone to change.

        What is as it was makes no new state: most steps change nothing. Raises AttributeError for an unknown field.
        """
        live = self.pool.live
        before: Any = live if part is PoolLive else getattr(live, SLICES[part])
        news = {name: value for name, value in changes.items() if not _same(getattr(before, name), value)}
        if news:
            after = changed(before, **news)
            live_after = after if part is PoolLive else changed(live, **{SLICES[part]: after})
            self._see(changed(self.pool, live=live_after))

    def note(self, kind: Kind, text: str, actor: str = "poolwarden", /, **data: Any) -> None:
        """Journal an entry and fold it into the record; failover and term are those of the moment."""
        failover = self.record.failover
        of = failover.id if failover is not None and failover.open else ""
        self.write(Entry(kind, text, data, of, self.record.term, actor))

    def write(self, entry: Entry) -> None:
        """Journal a ready entry and fold it into the record. Raises AssertionError for a move that no table has."""
        after = apply(self.record, entry)
        refusal = failover_transitions.refusal(self.record.failover, after.failover, entry.kind)
        if refusal:
            # safety: a move that the table does not have stops this step; nothing of it is committed or done.
            raise AssertionError(refusal)
        self.entries.append(entry)
        self._see(changed(self.pool, record=after))

    def do(self, effect: Effect) -> None:
        """An effect, performed once this step's entries are durable."""
        self.effects.append(effect)

    def serial(self) -> int:
        """A number that this run of the collector has not used for this pool yet."""
        self.change(PoolLive, serial=self.live.serial + 1)
        return self.live.serial

    def fresh_id(self, what: str) -> str:
        """An id unique over all runs: epochs never repeat, serials never repeat within one."""
        return order_ids.fresh(self.record.pool, what, self.site.epoch, self.serial()).text

    def send(
        self,
        order_id: str,
        host: HostId,
        kind: OrderKind,
        valid_for_ms: Ms,
        preconditions: Preconditions | None = None,
        term: int = 0,
    ) -> None:
        """Send (or send again: the gate is idempotent) an order on the host's open stream; term 0: the pool's."""
        agent = self.live.agents.get(host)
        if agent is None or not agent.connected:
            return
        order = Order(
            order_id,
            host,
            agent.hello.boot_id,
            term or self.record.term,
            kind,
            valid_for_ms,
            preconditions or Preconditions(),
        )
        sent_orders.add(self, Sent(order_id, order.kind_name, host, agent.stream, self.now))
        self.do(SendOrder(order))

    def mark(self, phase: str, at: Ms | None = None) -> None:
        """Remember when a phase of the open failover was reached, once."""
        phases.mark(self, phase, at)

    def is_told(self, topic: AlertTopic) -> bool:
        """Is this open already, and so it stays? Asked before a text with an age in it is made, which rests no pool."""
        return alert_book.is_told(self, topic)

    def raise_alert(
        self, topic: AlertTopic, message: Message, details: str, words: Mapping[str, str], **data: Any
    ) -> None:
        """This is so now, and worth an alert: told when it has lasted (alert_book.py). To be called in every pass.

        ``words``: what the message names beside what every message may (told_words.py); ``data``: facts for programs.
        """
        if self.is_told(topic):
            return
        names = told_words.to_quote(self.pool)
        told = message.told({**told_words.common(self), **words}, names)
        facts: dict[str, Any] = {"pool": self.record.display_name, "message": told.id, **data}
        alert_book.stands(self, topic, told.severity, told.title, told.body(quoted(details, names)), facts)

    def resolve_alert(self, topic: AlertTopic, text: str, final: bool = False) -> None:
        """The matter of an alert is over; ``final``: it cannot come back."""
        alert_book.ends(self, topic, text, final)

    def resolve_alerts(self, matter: Matter, host: HostId, text: str, but: AlertTopic | None = None) -> None:
        """All alerts of this matter and host are over, but this one: a new reason takes the place of the old one."""
        for topic in self.open_topics:
            if topic.matter is matter and topic.host == host and topic != but:
                self.resolve_alert(topic, text)


def _same(before: Any, value: Any) -> bool:
    """Is this surely no change? Containers are compared by identity, which costs nothing."""
    return before is value or (isinstance(value, str | int) and type(before) is type(value) and bool(before == value))
