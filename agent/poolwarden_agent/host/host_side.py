"""The host side: what it says about this host and what it does with an order, without threads, sockets or clocks.

Driving protocol (a runner with threads in production, one loop in virtual time in a simulation)
------------------------------------------------------------------------------------------------
* ``link_up()`` gives the messages that open a stream: Hello and a full Report.
* ``report()`` gives a delta Report; call it each ``settings.report_interval_ms``.
* ``observer.look_at_xapi`` each report interval and ``observer.look_at_peer`` for each of ``to_probe()`` each probe
  interval; they may block up to their limits, so production gives them threads of their own.
* ``observer.look_at_host`` each report interval likewise, if the host side was made with ``background=True``: nothing
  that is said then waits for a disk or for xenstored. Otherwise the host is looked at for each report.
* ``tidy`` each report interval.
* ``late()`` after each report; ``nobody_listens()`` each report interval instead while no stream is up.
* ``receive(message)`` takes a CollectorMessage: the answer messages come back at once; an order comes
  back as a plain value (core/orders.py).
* ``carry_out(order)`` does one order and gives its result; one at a time, in a thread of its own in production. Orders
  with a ``lane`` may take minutes: those of one lane go one at a time, beside all others (workers.py).
Everything it does to the world goes through the port.

``state`` is changed by ``carry_out`` alone (and by ``remember`` before it); every value that another thread may read is
an immutable tuple that is replaced as a whole.
"""

import functools
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import (
    addresses,
    boot_gate,
    gate_state,
    host_now,
    kind_rules,
    order_gate,
    order_kinds,
    orders,
    probe_rules,
)
from poolwarden_agent.core.piece import BIGGEST_PIECE
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.fence_runs import Fences, lane
from poolwarden_agent.host.observer import OWN_MASTER, Observer
from poolwarden_agent.host.offline_log import Offline
from poolwarden_agent.host.order_acts import LOCATE_LIMIT_MS, MOST_VMS, RESTART_LIMIT_MS, Acts
from poolwarden_agent.host_port import HTTP_PORT, TLS_PORT, Act, HostPort
from poolwarden_agent.messages import disks, reports, surroundings
from poolwarden_agent.messages.orders import from_message

MOST_ASKED = 64  # role questions in one look: every other host of a pool
ROLE_LIMIT_MS = 500  # of each call in them: a xapi that is well answers in a few ms
LONGEST_TEXT = 240  # characters of a result that is stored: all kinds' together fit a slot

MOST_TARGETS = 128
MOST_ID = 64
PROBES_LIMIT_MS = 30000  # all probes of one order together: the next order must not wait for ever
SECOND_PORT_LIMIT_MS = 500  # of a host whose other port was probed just now: a refusal comes at once
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
DEFAULTS = Settings(2000, 2000, 1500, True, 5000)
Section = Tuple[str, Any, Callable[[], Any]]  # its name in a report, what it is made of, how it is made


class HostSide(object):
    """What one host reports, and what it does with orders."""

    def __init__(self, port: HostPort, python_version: str = "", background: bool = False) -> None:
        self.port = port
        self._keeper = Keeper(port)
        self._acts = Acts(port, self._keeper)
        self._fences = Fences(port)
        self.observer = Observer(port, lambda: self.state.hold is not None)
        self._offline = Offline(self.observer, port.identity().boot_id)
        self.boot = BootGate(port, self._keeper)
        self.settings = DEFAULTS
        self.targets: Dict[str, str] = {}
        self.pool_said = ""  # the pool in this stream's Hello
        self._python = python_version
        self._background = background
        self._sequence = 0
        self._sent: Dict[str, bytes] = {}
        self._made_of: Dict[str, Any] = {}
        self._changes: Dict[str, Tuple[int, int]] = {}  # a section's field number, and how often it has changed

    @property
    def state(self) -> gate_state.GateState:
        """What is durable."""
        return self._keeper.state

    @property
    def storage(self) -> str:
        """Why durable state cannot be used; empty: it can."""
        return self._keeper.storage

    # ------------------------------------------------------------------------------------------ saying

    def pool(self) -> str:
        """The pool's UUID: from the database file, then from what was stored; empty if neither is known."""
        if not self.observer.host.at_ms:
            self.observer.look_at_host()
        return self.observer.host.pool or self.state.pool

    def remember(self) -> None:
        """Keep the pool's UUID for a day on which the database file cannot be read. Before the first order only.

        :raises SlotError: it could not be stored.
        """
        pool = self.pool()
        if pool and pool != self.state.pool and not self.storage:
            self._keeper.change(lambda state: state._replace(pool=pool))

    def link_up(self) -> List[pb.AgentMessage]:
        """The messages that open a stream."""
        self._sequence = 0
        self._sent = {}
        self._made_of = {}
        self._offline.back(self.port.mono_ms())
        self.pool_said = self.pool()
        identity, address = self.port.identity(), self.observer.host.address
        opened = reports.hello(identity, self.state, self.pool_said, address, self._python)
        opened.capabilities.extend(self.port.capabilities())
        opened.fence_agents.extend(self.port.fence_agents())
        if self.state.hold is not None:
            opened.hold.CopyFrom(self._hold())
        if self.boot.there:
            opened.boot_gate.CopyFrom(self.boot.facts())
        return [self._message(hello=opened), self.report(full=True)]

    def nobody_listens(self, why: str = "") -> None:
        """No stream is up: keep what happens, to tell it afterwards; to be called each report interval."""
        if not self._background:
            self.observer.look_at_host()
        self._offline.keep(self.port.mono_ms(), why)

    def late(self) -> List[pb.AgentMessage]:
        """Some of what happened while nobody listened, in order; to be called after each report."""
        return [self._message(late=late) for late in self._offline.tell(self.port.mono_ms())]

    def gate_question(self) -> pb.AgentMessage:
        """The boot gate's question as the stream's next message."""
        return self._message(gate_question=self.boot.question())

    def _message(self, **body: Any) -> pb.AgentMessage:
        self._sequence += 1
        return pb.AgentMessage(sequence=self._sequence, mono_ms=self.port.mono_ms(), **body)

    def wrap(self, result: pb.OrderResult) -> pb.AgentMessage:
        """A result as the stream's next message."""
        return self._message(order_result=result)

    def goodbye(self, reason: Any) -> pb.AgentMessage:
        return self._message(goodbye=pb.Goodbye(reason=reason))

    def report(self, full: bool = False, asked: Sequence[int] = ()) -> pb.AgentMessage:
        """The next Report: sections that have not changed are left out unless it is full, or they were asked for."""
        if not self._background:
            self.observer.look_at_host()
        report = pb.Report(full=full, wall_ms=self.port.wall_ms())
        self._freshness(report.freshness)
        for name, made_of, make in self._sections():
            number, changes = self._changes.get(name, (0, 0))
            number = number or _number(name)
            known = name in self._made_of and self._made_of[name] == made_of
            if known and not full and number not in asked:
                continue  # made of the same it is the same: a report each two seconds for years is to cost little
            section = make()
            essence = bytes(section.SerializeToString())
            if full or number in asked or self._sent.get(name) != essence:
                getattr(report, name).CopyFrom(section)
                changes += self._sent.get(name) != essence
                self._sent[name] = essence
            self._made_of[name] = made_of
            self._changes[name] = (number, changes)
        address = self.observer.host.address
        if full or self._sent.get("address") != address.encode():
            report.management_address = address
            self._sent["address"] = address.encode()
        if full or self._sequence % MARKS_EVERY == 0 or self._brings(report):
            for number, changes in self._changes.values():
                report.marks.add(section=number, changes=changes)
        return self._message(report=report)

    def _brings(self, report: pb.Report) -> bool:
        """Is there a section in it?"""
        return any(field.name in self._changes for field, _ in report.ListFields())

    def _freshness(self, freshness: pb.Freshness) -> None:
        observer = self.observer
        freshness.host_mono_ms = observer.host.at_ms
        freshness.xapi_mono_ms = observer.seen.at_ms
        freshness.probes_mono_ms = observer.probes_at_ms
        freshness.pool_view_mono_ms = observer.view_at_ms if observer.view is not None else 0

    def _sections(self) -> List[Section]:
        host, seen, view = self.observer.host, self.observer.seen, self.observer.view
        identity, state, around = self.port.identity(), self.state, self.observer.around
        orphaned = self.observer.orphaned()
        watches = tuple(w for target, w in sorted(self.observer.watches.items()) if target != OWN_MASTER)
        guard = self.observer.guard
        running = seen.running, seen.running_master, seen.serves
        sections = [
            ("role", (host.role, host.master, running), lambda: reports.role(host.role, host.master, seen)),
            ("xapi", (seen._replace(at_ms=0), orphaned), lambda: reports.xapi(seen, *orphaned)),
            ("database", host._replace(at_ms=0, memory=(0, 0), disks=[]), lambda: reports.database(host)),
            (
                "disks",
                (host.disks, guard.standings, guard.result),
                lambda: disks.disks(host.disks, guard.standings, guard.result),
            ),
            ("memory", (host.memory, around), lambda: reports.memory(host.memory, around)),
            ("domains", host.domains, lambda: reports.domains(host.domains)),
            ("probes", watches, lambda: pb.ProbeList(probes=[reports.probe(w) for w in watches])),
            ("tombstone", state.tombstone, lambda: reports.tombstone(state.tombstone)),
            ("software", (identity, around), lambda: reports.software(identity, around)),
            ("machine", identity, lambda: reports.machine(identity)),
        ]  # type: List[Section]
        if around is not None:
            for name, make in surroundings.SECTIONS:
                sections.append((name, (around, host.address), functools.partial(make, around, host.address)))
        if not self.storage:  # what cannot be read is not "not held"
            sections.append(("hold", (state.hold, state.gc, host.toolstack, identity.boot_id), self._hold))
        if self.boot.there:
            sections.append(("boot_gate", self.boot.told(), self.boot.facts))
        if view is not None:
            sections.append(("pool_view", view, lambda: reports.pool_view(view)))
        return sections

    def _hold(self) -> pb.HoldFacts:
        facts = reports.hold(self.state.hold, self.observer.host.toolstack, self.port.identity().boot_id)
        facts.gc_term = self.state.gc
        return facts

    def to_probe(self) -> Dict[str, str]:
        """Peers to probe: the collector's targets, and pool.conf's master where that is none of them."""
        host = self.observer.host
        named = any(addresses.same(address, host.master) for address in self.targets.values())
        own = host.master if host.role == host_now.MEMBER and addresses.is_address(host.master) and not named else ""
        self.observer.watch_own_master(own)
        return dict(self.targets, **({OWN_MASTER: own} if own else {}))

    # ------------------------------------------------------------------------------------------ hearing

    def receive(self, message: pb.CollectorMessage) -> Tuple[List[pb.AgentMessage], Optional[orders.Order]]:
        """Answer what can be answered at once; an order is handed back to be carried out."""
        kind = message.WhichOneof("body")
        if kind == "challenge":
            answer = pb.ChallengeAnswer(nonce=message.challenge.nonce, boot_id=self.port.identity().boot_id)
            return [self._message(challenge_answer=answer)], None
        if kind == "welcome":
            self._remember_epoch(message.welcome.epoch)
            self._settle(message.welcome.settings, opening=True)
        elif kind == "settings":
            self._settle(message.settings)
        elif kind == "gate_answer":
            self.boot.heard(message.gate_answer)
        elif kind == "full_report_request":
            asked = list(message.full_report_request.sections)
            return [self.report(full=not asked, asked=asked)], None
        elif kind == "order":
            return [], from_message(message.order)
        return [], None

    def _remember_epoch(self, epoch: int) -> None:
        """Keep the highest epoch that has welcomed this agent, so that the next Hello tells an older collector of it.

        Orders carry the epoch too, but two collectors that share no order would not learn of each other.
        """
        if epoch <= self.state.epoch or self.storage:
            return
        try:
            self._keeper.change(lambda state: state._replace(epoch=max(state.epoch, epoch)))
        except SlotError:
            pass  # as if it had never been heard: each order brings its epoch again, and is refused while that lasts

    def _settle(self, given: pb.Settings, opening: bool = False) -> None:
        self.settings = Settings(
            _within(given.report_interval_ms, 500, 60000, DEFAULTS.report_interval_ms),
            _within(given.probe_interval_ms, 500, 60000, DEFAULTS.probe_interval_ms),
            _within(given.probe_timeout_ms, 200, 10000, DEFAULTS.probe_timeout_ms),
            given.pool_view_wanted,
            _within(given.pool_view_interval_ms, 2000, 600000, DEFAULTS.view_interval_ms),
        )
        if opening and not given.probe_targets:
            return  # a Welcome without targets is no word about them: what was observed of peers is kept
        named = given.probe_targets[:MOST_TARGETS]  # a pool has at most 64 hosts
        self.targets = {
            t.host_uuid[:MOST_ID]: t.address for t in named if t.host_uuid and addresses.is_address(t.address)
        }
        self.observer.keep_only(self.targets)

    # ------------------------------------------------------------------------------------------ obeying

    def release_hold(self) -> Act:
        """Lift the hold at the word of an operator on this host, and start the toolstack as what pool.conf says.

        As master only at a higher term: whatever was decided against this host at the term of its hold is over then,
        and a collector that hears of it begins anew.

        :raises SlotError: it could not be stored; the toolstack is still held.
        """
        with self._keeper.lock:
            # safety: what a collector has placed here was for its own release, which may never come.
            removed = self._acts.unplace()
            if removed.outcome != orders.DONE:
                return removed
            self._keeper.change(self._without_hold)
        return self.port.start_toolstack(RESTART_LIMIT_MS)

    def _without_hold(self, state: gate_state.GateState) -> gate_state.GateState:
        held = state.hold.term if state.hold is not None else 0
        as_master = self.port.role()[0] == host_now.MASTER
        # safety: a proof of this hold, and every order that rests on one, is of a lower term from here on.
        term = max(state.term, held) + 1 if as_master and held else state.term
        return gate_state.with_hold(state._replace(term=term), None)

    def follow(self, address: str) -> Act:
        """Become member of this address at the word of an operator on this host; a hold ends once pool.conf says so.

        :raises SlotError: it could not be stored; the toolstack is still held.
        """
        # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
        if not addresses.is_address(address) or addresses.same(address, self.port.management_address()):
            return Act(orders.FAILED, "%.60r is no address of another host" % address)
        removed = self._acts.unplace_for_good()
        if removed.outcome != orders.DONE:
            return removed
        why = self.port.write_member_conf(address)
        return Act(orders.FAILED, why) if why else self.release_hold()

    def tidy(self) -> str:
        """See to it that no placed database is left behind on a host that became master by another way.

        To be called each report interval, after looking at the host; what was done in words, empty: nothing.
        :raises SlotError: that it is gone could not be stored; it is tried again next time.
        """
        if self.storage:
            return ""
        return self._keeper.told() or self._acts.hold_gc_again() or self._acts.tidy()

    def _now(self) -> host_now.HostNow:
        port = self.port
        identity = port.identity()
        conf, address = port.role()
        root = next((d.free_bytes for d in port.disks() if d.mount == "/"), None)
        process = port.process()
        return host_now.HostNow(
            port.mono_ms(),
            identity.host,
            self.pool(),
            identity.boot_id,
            conf,
            address,
            port.ha_armed(),
            process,
            root,
            port.management_address(),
            process != host_now.NO_PROCESS and port.role_settled(),
            port.capabilities(),
            port.restore_generation(),
        )

    def carry_out(self, order: orders.Order) -> pb.OrderResult:
        """Pass one order through the gate and do it: mark durable, act, result durable, answer."""
        with self._keeper.lock:
            if self.storage:
                self._keeper.load()
            if self.storage:
                return self._refusal(order, "storage", "durable state is not readable: %s" % self.storage)
            try:
                decision, now = self._decide(order)
            except SlotError as error:
                return self._refusal(order, "storage", str(error))
        if isinstance(decision, kind_rules.Refuse):
            return self._refusal(order, decision.reason, decision.text)
        if isinstance(decision, order_gate.Replay):
            return self._with_hold(reports.result(decision.result, self.state, replayed=True))
        return self._do(order, decision, now)

    def _decide(self, order: orders.Order) -> Tuple[Any, host_now.HostNow]:
        """The gate's word, with the mark durable where it lets the order pass.

        :raises SlotError: the mark could not be stored.
        """
        before, now = self.state, self._now()
        decision = order_gate.decide(before, order, now)
        if not isinstance(decision, order_gate.Obey) or decision.already:
            return decision, now
        # safety: (1) numbers and the started mark are durable before anything is done.
        self._keeper.change(lambda state: order_gate.starting(state, order, now))
        # safety: a slow disk may have held that up; what was true before it must be true at the act.
        now = self._now()
        decision = order_gate.decide(before, order, now)
        if isinstance(decision, kind_rules.Refuse):
            self._keeper.change(lambda state: order_gate.withdrawn(state, before))
        return decision, now

    def lane(self, order: orders.Order) -> str:
        """Which orders this one waits for: those of its lane, beside all others; empty: its turn among all."""
        if isinstance(order.body, orders.FenceProxy):
            return lane(order.body)
        return order.kind if order.kind in order_kinds.SLOW else ""

    def too_busy(self, order: orders.Order) -> pb.OrderResult:
        """The answer to an order that is not even queued: its id is not used up."""
        return self._refusal(order, "busy", "too many orders of this kind are waiting already")

    def _refusal(self, order: orders.Order, reason: str, text: str) -> pb.OrderResult:
        refused = gate_state.Result(order.order_id, order.kind, orders.REFUSED, reason, text)
        return reports.result(refused, self.state)

    def _with_hold(self, answer: pb.OrderResult) -> pb.OrderResult:
        """A toolstack fence's answer says what is seen now, also when it is told again."""
        if answer.kind == "toolstack_fence" and self.state.hold is not None:
            seen = self.port.toolstack()
            answer.hold.CopyFrom(reports.hold(self.state.hold, seen, self.port.identity().boot_id))
        return answer

    def _do(self, order: orders.Order, decision: order_gate.Obey, now: host_now.HostNow) -> pb.OrderResult:
        if decision.already:
            return self._end(order, Act(orders.DONE, decision.text))
        if order.kind in order_kinds.LOOKING:
            return self._look(order)
        if isinstance(order.body, orders.Claim):
            return self._claim(order)
        if isinstance(order.body, orders.FenceProxy):
            answer = reports.result(gate_state.Result(order.order_id, order.kind, orders.UNKNOWN, "", ""), self.state)
            answer = self._fences.carry_out(order, answer, lambda: order_gate.overtaken(self.state, order))
            answer.epoch, answer.term = self.state.epoch, self.state.term  # a claim may have come meanwhile
            return answer
        try:
            act = self._acts.carry_out(order, now)
        except SlotError as error:
            return self._refusal(order, "storage", str(error))
        if act.outcome == orders.REFUSED:
            return self._never_began(order, act)
        return self._with_hold(self._end(order, act))

    def _never_began(self, order: orders.Order, act: Act) -> pb.OrderResult:
        """xapi was not there to be asked: the id is not used up, and nothing is stored as begun."""
        try:
            self._keeper.change(lambda state: order_gate.never_began(state, order))
        except SlotError as error:
            return self._refusal(order, "storage", str(error))
        return self._refusal(order, "not-asked", act.text[:LONGEST_TEXT])

    def _look(self, order: orders.Order) -> pb.OrderResult:
        answer = reports.result(gate_state.Result(order.order_id, order.kind, orders.DONE, "", ""), self.state)
        if isinstance(order.body, orders.ProbeNow):
            return self._probe_now(order, answer)
        if isinstance(order.body, orders.ReadDatabase):
            return self._read_database(order, answer)
        if isinstance(order.body, orders.LocateVms):
            return self._locate(order, answer)
        if order.body.want_placements:
            answer.placements.CopyFrom(reports.placements(self.port.database()))
        return answer

    def _probe_now(self, order: orders.Order, answer: pb.OrderResult) -> pb.OrderResult:
        wanted = order.body
        strange = [target.port for target in wanted.targets if target.port not in (0, TLS_PORT, HTTP_PORT)]
        if strange:
            return self._refusal(order, "precondition", "port %d is none of a xapi" % strange[0])
        limit = _within(wanted.probe_timeout_ms, 200, 10000, self.settings.probe_timeout_ms)
        look = self.observer.look_at_peer
        if len(wanted.targets) > MOST_TARGETS:
            text = "%d targets are more than %d" % (len(wanted.targets), MOST_TARGETS)
            return self._refusal(order, "precondition", text)
        until, watches = self.port.mono_ms() + PROBES_LIMIT_MS, []  # type: int, List[probe_rules.Watch]
        for target in wanted.targets:
            if self.port.mono_ms() < until:
                again = any(watch.address == target.address for watch in watches)
                given = min(limit, SECOND_PORT_LIMIT_MS) if again else limit
                watches.append(look(target.host, target.address, given, target.port or TLS_PORT))
        answer.nonce = wanted.nonce
        answer.probes.probes.extend(reports.probe(w) for w in watches)
        if wanted.ask_role:
            answer.roles.extend(self._ask_roles(wanted.ask_role[:MOST_ASKED]))
        return answer

    def _ask_roles(self, targets: Sequence[orders.Target]) -> List[pb.RoleAnswer]:
        """What silent hosts' xapis say of their roles, and whether somebody is there at the addresses they follow."""
        told = self.port.ask_roles([target.address for target in targets], ROLE_LIMIT_MS)
        followed = {each.master for each in told.values() if each.said == boot_gate.FOLLOWS}
        masters = dict(told)
        masters.update(self.port.ask_roles(sorted(followed - set(told)), ROLE_LIMIT_MS))
        answers = []
        for target in targets:
            each = told[target.address]
            there = each.master in followed and masters[each.master].said != boot_gate.SILENT
            answers.append(reports.role_answer(target, each, there))
        return answers

    def _read_database(self, order: orders.Order, answer: pb.OrderResult) -> pb.OrderResult:
        wanted = order.body
        limit = min(wanted.max_bytes or BIGGEST_PIECE, BIGGEST_PIECE)
        piece = self.port.read_database(wanted.path, wanted.offset, limit)
        if piece.text:
            answer = self._refusal(order, "precondition", piece.text)
        answer.database.CopyFrom(reports.database_piece(piece))
        return answer

    def _locate(self, order: orders.Order, answer: pb.OrderResult) -> pb.OrderResult:
        vms = list(order.body.vms)
        if len(vms) > MOST_VMS:
            return self._refusal(order, "precondition", "%d VMs are more than %d" % (len(vms), MOST_VMS))
        answer.vm_places.extend(reports.vm_place(item) for item in self.port.locate_vms(vms, LOCATE_LIMIT_MS))
        return answer

    def _claim(self, order: orders.Order) -> pb.OrderResult:
        wanted = order.body
        limit = _within(wanted.probe_timeout_ms, 200, 10000, self.settings.probe_timeout_ms)
        look = None
        if wanted.old_master.address:
            look = self.observer.look_at_peer(wanted.old_master.host, wanted.old_master.address, limit)
        answer = self._end(order, Act(orders.DONE, "term %d is stored" % order.term))
        if look is not None:
            answer.claim.last_look.CopyFrom(reports.probe(look))
        if wanted.want_placements:
            answer.claim.placements.CopyFrom(reports.placements(self.port.database()))
        if look is not None and look.outcome == probe_rules.ANSWERED:
            answer.claim.veto = True
            answer.claim.veto_text = "the old master's xapi answers it at %s" % look.address
        elif self.observer.seen.serves:
            answer.claim.veto = True
            answer.claim.veto_text = "it serves as master itself"
        elif self.port.role()[0] == host_now.MASTER and wanted.old_master.host != self.port.identity().host:
            # safety: it was told to become master and does not serve yet; nobody else may be told so.
            answer.claim.veto = True
            answer.claim.veto_text = "its own pool.conf says master"
        return answer

    def _end(self, order: orders.Order, act: Act) -> pb.OrderResult:
        failed = "storage" if isinstance(order.body, orders.PlaceDatabase) else "xapi-error"
        reason = {orders.DONE: "", orders.FAILED: failed, orders.UNKNOWN: "timeout"}.get(act.outcome, "")
        result = gate_state.Result(order.order_id, order.kind, act.outcome, reason, act.text[:LONGEST_TEXT])
        self._offline.note(self.port.mono_ms(), "order", "order %s: %s %s" % (order.kind, act.outcome, act.text))
        try:
            # safety: (3) the result is durable before (4) it is told; if we die in between, facts decide.
            now_ms = self.port.mono_ms()
            self._keeper.change(lambda state: order_gate.ended(state, result, now_ms))
        except SlotError as error:
            # Neither "refused" (something was done) nor "done" (it would not be known after a crash).
            text = "%s; its result could not be stored: %s" % (act.text[:LONGEST_TEXT], error)
            return reports.result(result._replace(outcome=orders.UNKNOWN, reason="storage", text=text), self.state)
        return reports.result(result, self.state)


def _number(section: str) -> int:
    """A section's field number in Report."""
    return int(pb.Report.DESCRIPTOR.fields_by_name[section].number)


def _within(value: int, least: int, most: int, default: int) -> int:
    return min(max(value, least), most) if value else default
