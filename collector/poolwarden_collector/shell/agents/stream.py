"""One agent's stream, without a stream: messages in, events out, orders back. The gateway and the simulation share it.

Rules
-----
* An agent's stamps become the collector's by ``stamp + offset``; the offset is the smallest (received - stamped) that
  this stream has shown in the last five to ten minutes, so a message that was long under way does not make old facts
  young, and an oscillator that is 50 ppm slow (4 s a day) does not make fresh facts old. A converted stamp is never
  later than the message's arrival.
* Deltas are merged here, section by section. A gap in the sequence, or a delta before any full report, asks for a full
  one; nothing is reported to the core before the first full report.
* Nothing here judges: even nonsense is passed on as unknown. Only numbers that cannot be are refused, and what is too
  long is cut or not known (bounds.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.effects import AnswerGate
from poolwarden_collector.core.model.host_facts import Freshness, HostFacts
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.values import HostId, Ms, PoolId
from poolwarden_collector.shell.agents.messages import bounds, disks, environment, facts, installation, orders, troubles

OFFSET_WINDOW_MS: Ms = 300_000

_SECTIONS = (
    "role", "xapi", "database", "disks", "memory", "domains", "probes", "pool_view", "tombstone", "software", "hold",
    "boot_gate", "machine", "assumptions", "xapi_trouble", "storage", "installation", *environment.SECTIONS,
)  # fmt: skip
_NUMBERS = {name: pb.Report.DESCRIPTOR.fields_by_name[name].number for name in _SECTIONS}
_NAMED = frozenset(_NUMBERS.values())
# What holds a stamp or an age is converted anew when the offset of the agent's clock changes: a host may have each of
# its messages do that, so it must not be everything.
_AGING = (
    "role", "xapi", "database", "disks", "memory", "probes", "hold", "boot_gate", "certificates", "xapi_trouble",
    "storage",
)  # fmt: skip
ASK_AGAIN = 8  # reports: how long an agent may take to bring a section that was asked for


class StreamState:
    """What the collector knows of one stream. ``pool`` is used where the agent does not know its own; ``limits`` are
    the numbers that its host may claim at this moment.
    """

    def __init__(
        self,
        stream: int,
        pool: PoolId = "",
        probe_timeout_ms: Ms = 1_500,
        limits: Callable[[], bounds.Limits] = bounds.Limits,
        one_of_several: bool = False,
    ) -> None:
        """``one_of_several``: the engine is told which epoch its host obeys; one alone has no use for that."""
        self._one_of_several = one_of_several
        self.stream = stream
        self._limits = limits
        self.pool = pool
        self.host: HostId = ""
        self.boot_id = ""
        self.capabilities: frozenset[str] = frozenset()
        self.acknowledged = 0  # the epoch that this host says is durable there, by this stream's Welcome; 0: none yet
        self.probe_timeout_ms = probe_timeout_ms
        self.facts = HostFacts()
        self.goodbye = ""
        self._offset: Ms | None = None
        self._window_min: Ms | None = None  # of the present window; self._offset also counts the one before
        self._window_end: Ms = 0
        self._sequence = 0
        self._echo = 0
        self._full = False
        self._sections: dict[str, Any] = {}
        self._freshness = pb.Freshness()
        self._address = ""
        self._replies: list[pb.CollectorMessage] = []
        self._marks: dict[int, int] = {}  # section -> how often it had changed when it came last
        self._asked = 0  # reports since a section was asked for; 0: none is
        self._clock = environment.Clock()
        self.transit: Ms = 0  # how much longer the present message was under way than the quickest one
        self._recv = self._wall = 0  # when the present message arrived, on both of our clocks
        self._cut: dict[str, None] = {}

    def on_message(self, message: pb.AgentMessage, recv_ms: Ms, wall_ms: Ms = 0) -> list[ev.Event]:
        """The events of one message that arrived at ``recv_ms`` (collector's clock; ``wall_ms``: of its wall clock).

        Raises Implausible: nothing of the message was taken.
        """
        self._cut |= dict.fromkeys(bounds.admit(message, self._limits))
        self._recv, self._wall = recv_ms, wall_ms
        moved = self._learn_clock(message.mono_ms, recv_ms)
        self.transit = recv_ms - message.mono_ms - (self._offset or 0)
        gap = message.sequence != self._sequence + 1 and self._sequence != 0
        self._sequence = message.sequence
        if gap:
            self._replies.append(orders.full_report())
        body = message.WhichOneof("body")
        if body == "hello":
            self.introduce(message)
            return [self._hello(message.hello)]
        if body == "report":
            return self._report(message.report, moved)
        if body == "order_result":
            return [ev.OrderAnswered(self.host, self.stream, facts.result(message.order_result, self.at))]
        if body == "challenge_answer":
            return [ev.ChallengeAnswered(self.host, message.challenge_answer.nonce, message.challenge_answer.boot_id)]
        if body == "gate_question":
            asked = message.gate_question
            role = facts.role_kind(asked.pool_conf)
            return [ev.GateAsked(self.host, self.stream, asked.boot_id, role, asked.master_address)]
        if body == "ping":
            self._replies.append(pb.CollectorMessage(pong=pb.Pong(number=message.ping.number)))
        if body == "epoch_ack" and message.epoch_ack.boot_id == self.boot_id:
            self.acknowledged = message.epoch_ack.epoch
            if self._one_of_several:
                return [ev.EpochAcknowledged(self.host, self.stream, self.acknowledged)]
        if body == "goodbye":
            self.goodbye = facts.GOODBYES.get(message.goodbye.reason, "unspecified")
            return [self.ended()]
        return []

    def introduce(self, message: pb.AgentMessage) -> None:
        """Whose stream it is, by its Hello: what is sent before that is taken can be addressed."""
        hello = message.hello
        self.host, self.boot_id = hello.host_uuid, hello.boot_id
        self.capabilities = frozenset(hello.capabilities)
        self.pool = hello.pool_uuid or self.pool
        self._echo = message.mono_ms

    @property
    def echo(self) -> int:
        """The agent's stamp of its latest message, on its own clock, ms."""
        return self._echo

    def take_replies(self) -> list[pb.CollectorMessage]:
        """What this stream has to be answered by itself (requests for a full report); each is taken once."""
        replies, self._replies = self._replies, []
        return replies

    def take_cut(self) -> tuple[str, ...]:
        """What was longer than its bound since this was asked last, a sentence each."""
        cut, self._cut = tuple(self._cut), {}
        return cut

    def order_to_pb(self, order: Order, epoch: int, pool: PoolId) -> pb.CollectorMessage:
        """An order for this stream, echoing the stamp of its last message."""
        if order.valid_until:
            # safety: the agent counts from the stamp that is echoed, so what is left is counted from there as well.
            left = order.valid_until - (self.at(self._echo) or order.valid_until)
            order = replace(order, valid_for_ms=max(0, min(order.valid_for_ms, left)))
        return orders.order(order, epoch, pool, self._echo, self.probe_timeout_ms, self._wall_at)

    def _wall_at(self, at: Ms) -> int:
        """The collector's wall clock at an instant of its own, by how both stood at the latest message; for people."""
        return max(0, self._wall - (self._recv - at))

    def gate_to_pb(self, answer: AnswerGate, epoch: int) -> pb.CollectorMessage:
        """The word on this host's boot gate, echoing the stamp of its last message."""
        return orders.gate_answer(answer, epoch, self._echo)

    def ended(self) -> ev.AgentGone:
        """The stream is over; its goodbye, if it said one."""
        return ev.AgentGone(self.host, self.stream, self.goodbye)

    def at(self, mono_ms: int) -> Ms | None:
        """One of this agent's stamps on the collector's clock; 0 is never."""
        if mono_ms == 0 or self._offset is None:
            return None
        # safety: a stamp from the agent's future must not make evidence younger than the message that brought it.
        return min(mono_ms, self._echo) + self._offset

    def _learn_clock(self, mono_ms: int, recv_ms: Ms) -> bool:
        """Take the message's stamp; True if the offset changed and every stamp moves with it."""
        self._echo = max(self._echo, mono_ms)
        seen, before = recv_ms - mono_ms, self._offset
        if self._window_min is None or before is None:
            self._window_min = before = seen
            self._window_end = recv_ms + OFFSET_WINDOW_MS
        elif recv_ms >= self._window_end:
            before, self._window_min = self._window_min, seen
            self._window_end = recv_ms + OFFSET_WINDOW_MS
        self._window_min = min(self._window_min, seen)
        moved = min(before, self._window_min) != self._offset
        self._offset = min(before, self._window_min)
        return moved

    def _hello(self, hello: pb.Hello) -> ev.Event:
        self._address = hello.management_address
        return ev.AgentConnected(self.stream, facts.hello(hello, self.pool), self._recv)

    def _report(self, report: pb.Report, moved: bool) -> list[ev.Event]:
        if report.full:
            self._full = True
            self._sections = {}
        elif not self._full:
            self._replies.append(orders.full_report())
            return []
        told = [each.name for each, _ in report.ListFields() if each.name in _NUMBERS]
        self._sections |= {name: getattr(report, name) for name in told}
        self._address = report.management_address or self._address
        if report.HasField("freshness"):
            self._freshness = report.freshness
        if report.full:
            self.facts = HostFacts()
        aging = [name for name in _AGING if name in self._sections] if moved else []
        self._merge(list(self._sections) if report.full else list(dict.fromkeys([*told, *aging])))
        offset = self._clock.offset(report.wall_ms, self._wall)
        if offset != self.facts.around.clock_offset_ms:
            self.facts = changed(self.facts, around=changed(self.facts.around, clock_offset_ms=offset))
        self._ask_for_missing(report, told)
        return [ev.AgentReported(self.host, self.stream, self.facts, self._recv)]

    def _ask_for_missing(self, report: pb.Report, brought: list[str]) -> None:
        """An agent says how far each of its sections has come; one of which we hold an older state is asked for."""
        told = {mark.section: mark.changes for mark in report.marks}
        self._marks |= {_NUMBERS[name]: told.get(_NUMBERS[name], 0) for name in brought}
        self._asked = self._asked + 1 if 0 < self._asked < ASK_AGAIN else 0
        behind = [n for n, changes in told.items() if n in _NAMED and self._marks.get(n) != changes]
        if behind and not self._asked:
            self._asked = 1
            self._replies.append(orders.full_report(behind))

    def _merge(self, names: list[str]) -> None:
        """Convert these sections anew; the others stand as they were."""
        values: dict[str, Any] = {"address": self._address, "observed": self._observed()}
        around = self.facts.around
        for name in names:
            section = self._sections[name]
            around = environment.merged(around, name, section, self._wall)
            if name == "database" and section.written_wall_ms and self._wall:
                written = self._recv - max(0, self._wall - section.written_wall_ms)
                around = changed(around, database_written_at=written)
            if name not in environment.SECTIONS:
                values |= self._section(name, section)
        values["around"] = around
        self.facts = changed(self.facts, **values)

    def _observed(self) -> Freshness:
        return facts.freshness(self._freshness, self.at)

    def _section(self, name: str, m: Any) -> dict[str, Any]:
        if name == "memory":
            return facts.memory(m, self.at)
        if name == "disks":
            return {"disks": disks.disks(m, self.at), "filling": disks.filling(m)}
        if name == "software":
            return {"product": facts.product(m), "xapi_version": m.xapi_version}
        if name == "assumptions":
            return {"assumptions": facts.assumptions(m, self.boot_id, self.at)}
        if name == "xapi_trouble":
            return {"trouble": troubles.trouble(m, self.at)}
        if name == "storage":
            return {"storage": troubles.storage(m, self.at)}
        if name == "installation":
            return {"installation": installation.installation(m)}
        if name == "hold":
            return {"hold": facts.hold(m, self.at), "gc_term": m.gc_term}
        if name in ("role", "xapi", "database", "probes", "boot_gate"):
            return {name: getattr(facts, name)(m, self.at)}
        return {name: getattr(facts, name)(m)}
