"""The host side: what it says about this host and what it does with an order, without threads, sockets or clocks.

Driving protocol (a runner with threads in production, one loop in virtual time in a simulation)
------------------------------------------------------------------------------------------------
* ``link_up()`` gives the messages that open a stream: Hello and a full Report.
* ``report()`` gives a delta Report (None when there is nothing to send); call it each ``settings.report_interval_ms``.
* ``observer.look_at_xapi`` each report interval and ``observer.look_at_peer`` for each of ``targets`` each probe
  interval; they may block up to their limits, so production gives them threads of their own.
* ``receive(message)`` takes a CollectorMessage: the answer messages come back at once; orders come back as ``Work``.
* ``carry_out(work)`` does one order and gives its result; one at a time, in a thread of its own in production.
Everything it does to the world goes through the port.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent import wire
from poolwarden_agent.core import gate, judge
from poolwarden_agent.dom0.port import Act, HostPort
from poolwarden_agent.dom0.slots import SlotError
from poolwarden_agent.observe import Observer

ACT_LIMIT_MS = 20000
RESTART_LIMIT_MS = 100000
UPGRADE_CHECK_MS = 300000

Settings = NamedTuple(
    "Settings",
    [
        ("report_interval_ms", int),
        ("probe_interval_ms", int),
        ("probe_timeout_ms", int),
        ("view_wanted", bool),
        ("view_interval_ms", int),
    ],
)
DEFAULTS = Settings(2000, 2000, 1500, True, 5000)
Work = NamedTuple("Work", [("order", Any), ("message", Any)])


class HostSide(object):
    """One host's mouth and hands."""

    def __init__(self, port: HostPort, python_version: str = "") -> None:
        self.port = port
        self.observer = Observer(port)
        self.settings = DEFAULTS
        self.targets: Dict[str, str] = {}
        self._python = python_version
        self._sequence = 0
        self._sent: Dict[str, bytes] = {}
        self._generation = (0, 0)  # value, first seen
        self._upgrade: Tuple[Optional[bool], Optional[int]] = (None, None)
        self.storage = ""
        self.state = self._load()
        self._pool = ""
        self.collector_epoch = 0

    def _load(self) -> gate.GateState:
        try:
            data = self.port.load_state()
            return gate.decode(data) if data else gate.EMPTY
        except (SlotError, ValueError) as error:
            self.storage = str(error)
            return gate.EMPTY

    # ------------------------------------------------------------------------------------------ saying

    def pool(self) -> str:
        """The pool's UUID: from the database file, then from what was stored; empty if neither is known."""
        if not self._pool:
            view = self.port.database()
            if view.readable and view.pool:
                self._pool = view.pool
                self._upgrade = (view.rolling_upgrade, self.port.mono_ms())
        return self._pool or self.state.pool

    def link_up(self) -> List[pb.AgentMessage]:
        """The messages that open a stream."""
        self._sequence = 0
        self._sent = {}
        identity, address = self.port.identity(), self.port.management_address()
        opened = wire.hello(identity, self.state, self.pool(), address, self._python)
        return [self._message(hello=opened), self.report(full=True)]

    def _message(self, **body: Any) -> pb.AgentMessage:
        self._sequence += 1
        return pb.AgentMessage(sequence=self._sequence, mono_ms=self.port.mono_ms(), **body)

    def wrap(self, result: pb.OrderResult) -> pb.AgentMessage:
        """A result as the stream's next message."""
        return self._message(order_result=result)

    def goodbye(self, reason: Any) -> pb.AgentMessage:
        return self._message(goodbye=pb.Goodbye(reason=reason))

    def report(self, full: bool = False) -> pb.AgentMessage:
        """The next Report: sections that have not changed are left out unless it is full."""
        sections = self._sections()
        report = pb.Report(full=full)
        now, seen = self.port.mono_ms(), self.observer
        report.freshness.host_mono_ms = now
        report.freshness.xapi_mono_ms = seen.seen.at_ms
        report.freshness.probes_mono_ms = seen.probes_at_ms
        report.freshness.pool_view_mono_ms = seen.view_at_ms if seen.view is not None else 0
        for name, section in sections.items():
            encoded = section.SerializeToString()
            if full or self._sent.get(name) != encoded:
                getattr(report, name).CopyFrom(section)
                self._sent[name] = encoded
        address = self.port.management_address()
        if full or self._sent.get("address") != address.encode():
            report.management_address = address
            self._sent["address"] = address.encode()
        return self._message(report=report)

    def _sections(self) -> Dict[str, Any]:
        port, seen = self.port, self.observer.seen
        conf, address = port.role()
        total, available = port.memory()
        domains = port.domains()
        identity = port.identity()
        orphaned, since = self._orphaned(conf, address)
        sections = {
            "role": wire.role(conf, address, seen),
            "xapi": wire.xapi(seen, orphaned, since),
            "database": self._database(),
            "disks": wire.disks(port.disks()),
            "memory": pb.MemoryFacts(total_bytes=total, available_bytes=available),
            "domains": pb.DomainList(readable=domains is not None, vm_uuids=domains or []),
            "probes": pb.ProbeList(probes=[wire.probe(w) for _, w in sorted(self.observer.watches.items())]),
            "tombstone": wire.tombstone(self.state.tombstone),
            "software": pb.SoftwareFacts(
                product_brand=identity.product_brand,
                product_version=identity.product_version,
                xapi_version=identity.xapi_version,
            ),
        }  # type: Dict[str, Any]
        if self.observer.view is not None:
            sections["pool_view"] = wire.pool_view(self.observer.view)
        return sections

    def _orphaned(self, conf: str, address: str) -> Tuple[bool, int]:
        if conf != gate.MEMBER:
            self.observer.member_since_ms = 0
            return False, 0
        now = self.port.mono_ms()
        if not self.observer.member_since_ms:
            self.observer.member_since_ms = now
        watch = next((w for w in self.observer.watches.values() if w.address == address), None)
        since = watch.unanswered_since_ms if watch is not None else 0
        return judge.orphaned(watch, self.observer.member_since_ms, now), since

    def _database(self) -> pb.DatabaseFacts:
        source, generation = self.port.generation()
        now = self.port.mono_ms()
        if generation != self._generation[0]:
            self._generation = (generation, now)
            checked = self._upgrade[1]
            if checked is None or now - checked >= UPGRADE_CHECK_MS:
                view = self.port.database()
                self._upgrade = (view.rolling_upgrade if view.readable else None, now)
        return pb.DatabaseFacts(
            generation=generation,
            loaded_from=source,
            changed_mono_ms=self._generation[1],
            ha_armed=wire.tri(self.port.ha_armed()),
            rolling_upgrade=wire.tri(self._upgrade[0]),
        )

    # ------------------------------------------------------------------------------------------ hearing

    def receive(self, message: pb.CollectorMessage) -> Tuple[List[pb.AgentMessage], Optional[Work]]:
        """Answer what can be answered at once; an order is handed back to be carried out."""
        kind = message.WhichOneof("body")
        if kind == "challenge":
            answer = pb.ChallengeAnswer(nonce=message.challenge.nonce, boot_id=self.port.identity().boot_id)
            return [self._message(challenge_answer=answer)], None
        if kind == "welcome":
            self.collector_epoch = message.welcome.epoch
            self._settle(message.welcome.settings)
        elif kind == "settings":
            self._settle(message.settings)
        elif kind == "full_report_request":
            return [self.report(full=True)], None
        elif kind == "order":
            return [], Work(wire.order(message.order), message.order)
        return [], None

    def _settle(self, given: pb.Settings) -> None:
        self.settings = Settings(
            _within(given.report_interval_ms, 500, 60000, DEFAULTS.report_interval_ms),
            _within(given.probe_interval_ms, 500, 60000, DEFAULTS.probe_interval_ms),
            _within(given.probe_timeout_ms, 200, 10000, DEFAULTS.probe_timeout_ms),
            given.pool_view_wanted,
            _within(given.pool_view_interval_ms, 2000, 600000, DEFAULTS.view_interval_ms),
        )
        self.targets = {t.host_uuid: t.address for t in given.probe_targets if t.host_uuid and t.address}
        self.observer.keep_only(self.targets)

    # ------------------------------------------------------------------------------------------ obeying

    def _now(self) -> gate.HostNow:
        port = self.port
        identity = port.identity()
        conf, address = port.role()
        root = next((d.free_bytes for d in port.disks() if d.mount == "/"), None)
        return gate.HostNow(
            port.mono_ms(),
            identity.host,
            self.pool(),
            identity.boot_id,
            conf,
            address,
            port.ha_armed(),
            port.process(),
            root,
        )

    def carry_out(self, work: Work) -> pb.OrderResult:
        """Pass one order through the gate and do it: mark durable, act, result durable, answer."""
        order, now = work.order, self._now()
        if self.storage:
            return self._refusal(order, "storage", "durable state is not readable: %s" % self.storage)
        decision = gate.decide(self.state, order, now)
        if isinstance(decision, gate.Refuse):
            return self._refusal(order, decision.reason, decision.text)
        if isinstance(decision, gate.Replay):
            return wire.result(decision.result, self.state, replayed=True)
        try:
            # safety: (1) numbers and the started mark are durable before anything is done.
            if not decision.already:
                self._save(gate.starting(self.state, order, now))
            return self._do(work, decision)
        except SlotError as error:
            return self._refusal(order, "storage", str(error))

    def _save(self, state: gate.GateState) -> None:
        if state != self.state:
            self.port.save_state(gate.encode(state))
            self.state = state

    def _refusal(self, order: gate.Order, reason: str, text: str) -> pb.OrderResult:
        refused = gate.Result(order.order_id, order.kind, gate.REFUSED, reason, text)
        return wire.result(refused, self.state)

    def _do(self, work: Work, decision: gate.Obey) -> pb.OrderResult:
        order = work.order
        if decision.already:
            return self._end(order, Act(gate.DONE, decision.text))
        if order.kind == "claim":
            return self._claim(work)
        if order.kind == "probe_now":
            answer = wire.result(gate.Result(order.order_id, order.kind, gate.DONE, "", ""), self.state)
            answer.nonce = work.message.probe_now.nonce
            limit = _within(work.message.probe_now.probe_timeout_ms, 200, 10000, self.settings.probe_timeout_ms)
            watches = [
                self.observer.look_at_peer(t.host_uuid, t.address, limit) for t in work.message.probe_now.targets
            ]
            answer.probes.probes.extend(wire.probe(w) for w in watches)
            return answer
        if order.kind == "collect_evidence":
            answer = wire.result(gate.Result(order.order_id, order.kind, gate.DONE, "", ""), self.state)
            answer.placements.CopyFrom(wire.placements(self.port.database()))
            return answer
        return self._end(order, self._act(order))

    def _act(self, order: gate.Order) -> Act:
        if order.kind == "promote":
            # safety: the gate has refused lower terms, another boot, armed HA and a tombstone; pool.conf is read back.
            return self._verified(self.port.promote(ACT_LIMIT_MS), (gate.MASTER, ""))
        if order.kind == "repoint":
            return self._verified(self.port.repoint(order.address, ACT_LIMIT_MS), (gate.MEMBER, order.address))
        if order.kind == "restart_xapi":
            return self.port.restart_xapi(RESTART_LIMIT_MS)
        return self._tombstone(order)

    def _verified(self, act: Act, wanted: Tuple[str, str]) -> Act:
        """xapi's word alone is not enough: pool.conf must say it (an error may even come after it was written)."""
        if self.port.role() == wanted:
            return Act(gate.DONE, act.text)
        if act.outcome == gate.DONE:
            return Act(
                gate.FAILED, "%s, but pool.conf says %s" % (act.text, " ".join(self.port.role()).strip() or "nothing")
            )
        return act

    def _tombstone(self, order: gate.Order) -> Act:
        if order.clear:
            self._save(gate.with_tombstone(self.state, None))
            return Act(gate.DONE, "the tombstone is cleared")
        stone = gate.Tombstone(order.term, order.successor, order.address)
        self._save(gate.with_tombstone(self.state, stone))
        if order.address and self.port.role()[0] == gate.MASTER:
            why = self.port.write_member_conf(order.address)
            if why:
                return Act(gate.FAILED, "tombstone stored; %s" % why)
            return Act(gate.DONE, "tombstone stored; pool.conf names %s now" % order.address)
        return Act(gate.DONE, "tombstone stored")

    def _claim(self, work: Work) -> pb.OrderResult:
        wanted = work.message.claim
        limit = _within(wanted.probe_timeout_ms, 200, 10000, self.settings.probe_timeout_ms)
        look = None
        if wanted.old_master.address:
            look = self.observer.look_at_peer(wanted.old_master.host_uuid, wanted.old_master.address, limit)
        answer = self._end(work.order, Act(gate.DONE, "term %d is stored" % work.order.term))
        if look is not None:
            answer.claim.last_look.CopyFrom(wire.probe(look))
        if wanted.want_placements:
            answer.claim.placements.CopyFrom(wire.placements(self.port.database()))
        if look is not None and look.outcome == judge.ANSWERED:
            answer.claim.veto = True
            answer.claim.veto_text = "the old master's xapi answers it at %s" % look.address
        elif self.observer.seen.serves:
            answer.claim.veto = True
            answer.claim.veto_text = "it serves as master itself"
        return answer

    def _end(self, order: gate.Order, act: Act) -> pb.OrderResult:
        reason = {gate.DONE: "", gate.FAILED: "xapi-error", gate.UNKNOWN: "timeout"}.get(act.outcome, "")
        result = gate.Result(order.order_id, order.kind, act.outcome, reason, act.text)
        # safety: (3) the result is durable before (4) it is told; dying in between, the started mark judges by facts.
        self._save(gate.ended(self.state, result))
        return wire.result(result, self.state)


def _within(value: int, least: int, most: int, default: int) -> int:
    return min(max(value, least), most) if value else default
