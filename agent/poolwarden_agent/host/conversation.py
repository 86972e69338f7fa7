"""One collector's stream: its sequence, what has been sent on it, the settings and targets that it has given.

Rules
-----
* A stream opens with a Hello and a full report; after that a section is sent when it has changed, or was asked for.
* What is kept while no stream is up is told afterwards, in order.
* Nothing durable is written here: an epoch that is heard is handed to the executor, an order is returned to the caller.
* Nothing is heard here that the authority has not opened (authority.py), and after a word that sends this host on to
  another collector nothing at all (elsewhere.py).
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import addresses, orders, probe_rules
from poolwarden_agent.host.authority import Authority, Heard
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.elsewhere import Elsewhere
from poolwarden_agent.host.executor import Executor
from poolwarden_agent.host.observer import Observer
from poolwarden_agent.host.offline_log import Offline
from poolwarden_agent.host.report import Sections
from poolwarden_agent.host_port import HostPort
from poolwarden_agent.messages import reports
from poolwarden_agent.messages.orders import from_message

MOST_ID = 64
HAND_OVER = ("capsule_request", "capsule_taken")
OF_CAPSULES = ("keep_evidence",) + HAND_OVER
MOST_OF_CAPSULES = 20  # that are not taken yet
MARKS_EVERY = 15  # messages: how often it is told how far each section has come, where nothing is new

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
Trust = Tuple[Tuple[str, ...], str]  # the pinned order keys' names, and what of its own files cannot be used
Welcomed = NamedTuple("Welcomed", [("pongs", bool)])  # whether it answers a Ping
DEFAULTS = Settings(2000, 2000, 1500, True, 5000)


class Conversation(object):
    """What one collector is told, and what it has told.

    ``targets_given`` is called when ``targets`` (host UUID -> address to probe) has been replaced.
    """

    def __init__(
        self,
        port: HostPort,
        observer: Observer,
        executor: Executor,
        boot: BootGate,
        sections: Sections,
        targets_given: Callable[[], None],
        python_version: str = "",
        background: bool = False,
    ) -> None:
        self._port = port
        self._observer = observer
        self._executor = executor
        self._boot = boot
        self._sections = sections
        self._targets_given = targets_given
        self._offline = Offline(observer, port.identity().boot_id)
        self.settings = DEFAULTS
        self.targets: Dict[str, str] = {}
        self._authority = Authority(port, executor.pool)
        self.remark = ""  # what was refused last
        self._renewal: Optional[pb.Renewal] = None  # as it came, not taken in yet
        self._elsewhere = Elsewhere(port.collectors())
        self._welcomed: Optional[Welcomed] = None  # not told yet
        self.obeyed = False  # a Welcome that counts here has come on this stream
        self._of_capsules: List[pb.CollectorMessage] = []  # as it came, not taken in yet
        self.pool_said = ""  # the pool in this stream's Hello
        self._trust_said: Trust = ((), "")
        self._python = python_version
        self._background = background
        self._sequence = 0
        self._sent: Dict[str, bytes] = {}
        self._made_of: Dict[str, Any] = {}
        self._changes: Dict[str, Tuple[int, int]] = {}  # a section's field number, and how often it has changed

    # ------------------------------------------------------------------------------------------ saying

    def link_up(self) -> List[pb.AgentMessage]:
        """The messages that open a stream."""
        self._sequence = 0
        self._sent = {}
        self._made_of = {}
        self._elsewhere.begin()
        self._welcomed = None
        self.obeyed = False
        self._offline.up(self._port.mono_ms())
        self.pool_said = self._executor.pool()
        identity, address = self._port.identity(), self._observer.host.address
        opened = reports.hello(identity, self._executor.state, self.pool_said, address, self._python)
        opened.capabilities.extend(self._port.capabilities())
        opened.fence_agents.extend(self._port.fence_agents())
        self._trust_said = self._trust()
        ids, opened.local_trouble = self._trust_said
        opened.order_key_id = ids[0] if ids else ""
        opened.order_key_ids.extend(ids)
        if self._executor.state.hold is not None:
            opened.hold.CopyFrom(self._sections.hold())
        if self._boot.there:
            opened.boot_gate.CopyFrom(self._boot.facts())
        return [self._message(hello=opened), self.report(full=True)]

    def outdated(self) -> bool:
        """Is something else true now than what this stream's Hello has said? Only another Hello can say so."""
        return self._executor.pool() != self.pool_said or self._trust() != self._trust_said

    def _trust(self) -> Trust:
        return self._port.order_keys().ids, self._port.local_trouble()

    def nobody_listens(self, why: str = "") -> None:
        """No stream is up: keep what happens, to tell it afterwards; to be called each report interval."""
        if not self._background:
            self._observer.look_at_host()
        self._offline.keep(self._port.mono_ms(), why)

    def order_ended(self, text: str) -> None:
        """An order has ended on this host: to be told afterwards if no stream is up."""
        self._offline.note(self._port.mono_ms(), "order", text)

    def late(self) -> List[pb.AgentMessage]:
        """Some of what happened while no stream was up, in order; to be called after each report."""
        if self._elsewhere.heard:
            return []
        return [self._message(late=late) for late in self._offline.tell(self._port.mono_ms())]

    def gate_question(self) -> pb.AgentMessage:
        """The boot gate's question as the stream's next message."""
        return self._message(gate_question=self._boot.question())

    def _message(self, **body: Any) -> pb.AgentMessage:
        self._sequence += 1
        return pb.AgentMessage(sequence=self._sequence, mono_ms=self._port.mono_ms(), **body)

    def wrap(self, result: pb.OrderResult) -> pb.AgentMessage:
        """A result as the stream's next message."""
        return self._message(order_result=result)

    def renewal_request(self, request: pb.RenewalRequest) -> pb.AgentMessage:
        """The request for this host's next certificate as the stream's next message."""
        return self._message(renewal_request=request)

    def of_capsules(self, **body: Any) -> pb.AgentMessage:
        """An offer of evidence capsules, or a piece of one, as the stream's next message."""
        return self._message(**body)

    def goodbye(self, reason: Any) -> pb.AgentMessage:
        return self._message(goodbye=pb.Goodbye(reason=reason))

    def report(self, full: bool = False, asked: Sequence[int] = ()) -> pb.AgentMessage:
        """The next Report: sections that have not changed are left out unless it is full, or they were asked for."""
        if not self._background:
            self._observer.look_at_host()
        report = pb.Report(full=full, wall_ms=self._port.wall_ms())
        self._sections.tell_freshness(report.freshness)
        brought = []  # type: List[str]
        for name, made_of, make in self._sections.all():
            number, changes = self._changes.get(name, (0, 0))
            number = number or _number(name)
            known = name in self._made_of and self._made_of[name] == made_of
            if known and not full and number not in asked:
                continue  # made of the same it is the same: a report each two seconds for years is to cost little
            section = make()
            essence = bytes(section.SerializeToString())
            if full or number in asked or self._sent.get(name) != essence:
                getattr(report, name).CopyFrom(section)
                brought.append(name)
                changes += self._sent.get(name) != essence
                self._sent[name] = essence
            self._made_of[name] = made_of
            self._changes[name] = (number, changes)
        address = self._observer.host.address
        if full or self._sent.get("address") != address.encode():
            report.management_address = address
            self._sent["address"] = address.encode()
        every = full or self._sequence % MARKS_EVERY == 0
        # Otherwise of what it brings: a mark that is missing says nothing, and a lost section is asked for soon.
        for number, changes in self._changes.values() if every else [self._changes[name] for name in brought]:
            report.marks.add(section=number, changes=changes)
        return self._message(report=report)

    # ------------------------------------------------------------------------------------------ hearing

    def receive(self, message: pb.CollectorMessage) -> Tuple[List[pb.AgentMessage], Optional[orders.Order]]:
        """Answer what can be answered at once; an order is handed back to be carried out."""
        heard = self._authority.open(message)
        message = heard.message
        kind = message.WhichOneof("body")
        if heard.reason:
            return self._refuse(kind or "", heard), None
        if self._elsewhere.heard:
            self._remark("refused %s: its collector has sent this host on to another one" % (kind or "a message"))
            return [], None
        if kind == "challenge":
            answer = pb.ChallengeAnswer(nonce=message.challenge.nonce, boot_id=self._port.identity().boot_id)
            return [self._message(challenge_answer=answer)], None
        if kind == "welcome":
            return self._welcome(message.welcome, heard.signed), None
        if kind == "elsewhere":
            self._remark(self._elsewhere.hear(message.elsewhere, heard.signed))
        elif kind == "settings":
            self._settle(message.settings, heard.signed)
        elif kind == "gate_answer":
            self._boot.heard(self._followable(message.gate_answer, heard.signed), heard.signed)
        elif kind == "renewal":
            self._renewal = message.renewal
        elif kind in HAND_OVER and not self.obeyed:
            # safety: where order keys are pinned, logs go to nobody, and count as taken by nobody, who holds none.
            self._remark("refused %s: no Welcome that counts here has come on this stream" % kind.replace("_", " "))
        elif kind in OF_CAPSULES and len(self._of_capsules) < MOST_OF_CAPSULES:
            self._of_capsules.append(message)
        elif kind == "full_report_request":
            asked = list(message.full_report_request.sections)
            return [self.report(full=not asked, asked=asked)], None
        elif kind == "order":
            return [], self._followed(from_message(message.order, heard.signed))
        return [], None

    def _welcome(self, given: pb.Welcome, signed: bool) -> List[pb.AgentMessage]:
        """Take it in; the acknowledgement of its epoch, if that is durable here now."""
        self.obeyed = True
        why = self._executor.remember_epoch(given.epoch, signed)
        self._remark(why)
        self._settle(given.settings, signed, opening=True)
        highest = self._executor.state.epoch
        # One of a lower epoch commands nothing here: that there may be another one is worth a look.
        self._welcomed = Welcomed(given.pongs) if not why and given.epoch >= highest else None
        # safety: whoever reads it takes orders of lower epochs for dead here: only what a restart would find is said.
        if why or given.epoch != highest or self._executor.storage:
            return []
        ack = pb.EpochAck(epoch=highest, boot_id=self._port.identity().boot_id)
        return [self._message(epoch_ack=ack)]

    def _followable(self, answer: pb.GateAnswer, signed: bool) -> pb.GateAnswer:
        """The word as it is obeyed: without an address that this host's own policy does not let it follow."""
        why = self._executor.rules.stranger(orders.Target(answer.successor_uuid, answer.successor_address, 0), signed)
        if not why:
            return answer
        self._remark("a successor is not followed: %s" % why)
        kept = pb.GateAnswer()
        kept.CopyFrom(answer)
        # safety: the word itself counts, above all one that shuts the gate; only nobody is followed.
        kept.successor_address = ""
        return kept

    def _followed(self, order: Optional[orders.Order]) -> Optional[orders.Order]:
        """The order as it is obeyed: a tombstone without an address that this host's policy does not let it follow."""
        body = order.body if order is not None else None
        if order is None or not isinstance(body, orders.SetTombstone) or body.clear:
            return order
        why = self._executor.rules.stranger(orders.Target(body.successor, body.address, 0), order.signed)
        if not why:
            return order
        self._remark("a successor is not followed: %s" % why)
        # safety: the mark is set all the same, for a superseded master must not start as one; only nobody is followed.
        return order._replace(body=body._replace(address=""))

    def _refuse(self, kind: str, heard: Heard) -> List[pb.AgentMessage]:
        """Say that something was not obeyed, and answer it where it is an order."""
        self._remark("refused %s: %s" % (kind.replace("_", " ") or "a message", heard.text))
        if kind != "order":
            return []
        order = heard.message.order
        asked = str(order.WhichOneof("kind") or "")
        return [self.wrap(self._executor.refused(order.order_id, asked, heard.reason, heard.text))]

    def _remark(self, text: str) -> None:
        self.remark = text or self.remark

    def take_remark(self) -> str:
        """What was refused last, in one sentence; told once."""
        text, self.remark = self.remark, ""
        return text

    def take_welcomed(self) -> Optional[Welcomed]:
        """How a collector that this host obeys has welcomed it on this stream; None: it has not. Told once."""
        welcomed, self._welcomed = self._welcomed, None
        return welcomed

    def ping(self, number: int) -> pb.AgentMessage:
        """The question whether the collector still works, as the stream's next message."""
        return self._message(ping=pb.Ping(number=number))

    def take_elsewhere(self) -> Optional[str]:
        """Where this host's collector sends it: HOST:PORT, empty for any other one; None: it stays. Told once."""
        return self._elsewhere.take()

    def take_of_capsules(self) -> List[pb.CollectorMessage]:
        """What was said about evidence capsules; told once."""
        said, self._of_capsules = self._of_capsules, []
        return said

    def take_renewal(self) -> Optional[pb.Renewal]:
        """The answer to a request for this host's next certificate; told once."""
        answer, self._renewal = self._renewal, None
        return answer

    def _settle(self, given: pb.Settings, signed: bool, opening: bool = False) -> None:
        self.settings = Settings(
            _within(given.report_interval_ms, 500, 60000, DEFAULTS.report_interval_ms),
            _within(given.probe_interval_ms, 500, 60000, DEFAULTS.probe_interval_ms),
            probe_rules.limit_ms(given.probe_timeout_ms, DEFAULTS.probe_timeout_ms),
            given.pool_view_wanted,
            _within(given.pool_view_interval_ms, 2000, 600000, DEFAULTS.view_interval_ms),
        )
        if opening and not given.probe_targets:
            return  # a Welcome without targets is no word about them: what was observed of peers is kept
        named = [
            orders.Target(t.host_uuid[:MOST_ID], t.address, t.port)
            for t in given.probe_targets[: probe_rules.MOST_TARGETS]
            if t.host_uuid and addresses.is_address(t.address)
        ]
        accepted = self._executor.rules.targets(named, signed)
        if len(accepted) < len(named):
            text = "%d of %d targets are not probed: they are no hosts of this pool by this host's own policy.conf"
            self._remark(text % (len(named) - len(accepted), len(named)))
        self.targets = {target.host: target.address for target in accepted}
        self._targets_given()


def _number(section: str) -> int:
    """A section's field number in Report."""
    return int(pb.Report.DESCRIPTOR.fields_by_name[section].number)


def _within(value: int, least: int, most: int, default: int) -> int:
    return min(max(value, least), most) if value else default
