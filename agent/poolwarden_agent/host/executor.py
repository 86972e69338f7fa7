"""One host's orders: gate, mark, act, result; and what an operator on this host asks for.

Rules
-----
* An order passes the gate (core/order_gate.py) before anything is done, and once more after its mark is durable.
* Durable in this order: epoch, term and the started mark; then the act; then the result; then the answer.
* An order that never began does not use up its id.
* What has ended is done once: its copy gets the same answer for as long as it could be delivered, also where another
  order of its kind has come since (durable is only the last one's).
* There is one executor per host, whoever sends the orders: which collector counts is decided by epoch and term.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

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
from poolwarden_agent.core.signed import implausible
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.dom0.xapi.database import View
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.fence_runs import Fences, lane
from poolwarden_agent.host.local_rules import LocalRules
from poolwarden_agent.host.observer import Observer
from poolwarden_agent.host.order_acts import LOCATE_LIMIT_MS, MOST_VMS, RESTART_LIMIT_MS, Acts
from poolwarden_agent.host.pool_messages import PoolMessages
from poolwarden_agent.host_port import TLS_PORT, Act, HostPort
from poolwarden_agent.messages import reports

MOST_ASKED = 64  # role questions in one look: every other host of a pool
ROLE_LIMIT_MS = 500  # of each call in them: a healthy xapi answers in a few ms
MOST_ENDED = 1024  # orders whose answers are remembered
LONGEST_TEXT = 240  # characters of a result that is stored: all kinds' together fit a slot

PROBES_LIMIT_MS = 30000  # all probes of one order together: the next order must not wait without end
SECOND_PORT_LIMIT_MS = 500  # of a host whose other port was probed just now: a refusal comes at once

# What ends xapi's process, so that another begins.
_STARTING = (
    orders.Promote,
    orders.Repoint,
    orders.RestartXapi,
    orders.ToolstackFence,
    orders.ToolstackRelease,
    orders.DesignateMaster,
)


class Executor(object):
    """Carries out orders on one host, and what an operator on it asks for.

    ``ended`` is called with one sentence for each order that has ended, before its result is stored.
    """

    def __init__(self, port: HostPort, keeper: Keeper, observer: Observer, ended: Callable[[str], None]) -> None:
        self._port = port
        self._keeper = keeper
        self._observer = observer
        self._ended = ended
        self.rules = LocalRules(port)
        self._acts = Acts(port, keeper)
        self._fences = Fences(port)
        self._answers: Dict[Tuple[str, str], Tuple[int, gate_state.Result]] = {}  # by kind and id: since when
        self._messages = PoolMessages(port, lambda: observer.seen.socket == probe_rules.ANSWERS)

    @property
    def state(self) -> gate_state.GateState:
        """What is durable."""
        return self._keeper.state

    @property
    def storage(self) -> str:
        """Why durable state cannot be used; empty: it can."""
        return self._keeper.storage

    def pool(self) -> str:
        """The pool's UUID: from the database file, then from what was stored; empty if neither is known."""
        if not self._observer.host.at_ms:
            self._observer.look_at_host()
        return self._observer.host.pool or self.state.pool

    def remember(self) -> None:
        """Keep the pool's UUID for a day on which the database file cannot be read. Before the first order only.

        :raises SlotError: it could not be stored.
        """
        pool = self.pool()
        if pool and pool != self.state.pool and not self.storage:
            self._keeper.change(lambda state: state._replace(pool=pool))

    def remember_epoch(self, epoch: int, signed: bool = False) -> str:
        """Keep the highest epoch that has welcomed this agent, so that the next Hello tells an older collector of it.

        Orders carry the epoch too, but two collectors that share no order would not learn of each other. Why it is not
        taken, in words; empty: it is, or is known already.
        """
        if epoch <= self.state.epoch or self.storage:
            return ""
        why = implausible(self.state.epoch, self.state.term, epoch, self.state.term, signed)
        if why:
            return why
        try:
            self._keeper.change(lambda state: state._replace(epoch=max(state.epoch, epoch)))
        except SlotError:
            pass  # as if it had never been heard: each order brings its epoch again, and is refused while that lasts
        return ""

    # -------------------------------------------------------------------------------- an operator on this host

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
        self._observer.start_asked()
        return self._port.start_toolstack(RESTART_LIMIT_MS)

    def _without_hold(self, state: gate_state.GateState) -> gate_state.GateState:
        held = state.hold.term if state.hold is not None else 0
        as_master = self._port.role()[0] == host_now.MASTER
        # safety: a proof of this hold, and every order that rests on one, is of a lower term from here on.
        term = max(state.term, held) + 1 if as_master and held else state.term
        return gate_state.with_hold(state._replace(term=term), None)

    def reset_numbers(self) -> str:
        """Forget the stored epoch and term at the word of an operator on this host; what came of it in words.

        :raises SlotError: it could not be stored; the numbers stand.
        """
        with self._keeper.lock:
            before, why = self.state, self.storage or gate_state.kept_by(self.state)
            # safety: an old number may be all that keeps an order of an ended succession from being obeyed.
            if why:
                return "refused: %s" % why
            self._keeper.change(lambda state: state._replace(epoch=0, term=0))
        return "epoch %d and term %d are forgotten" % (before.epoch, before.term)

    def follow(self, address: str) -> Act:
        """Become member of this address at the word of an operator on this host; a hold ends once pool.conf says so.

        :raises SlotError: it could not be stored; the toolstack is still held.
        """
        # safety: a host that follows itself never comes back (xapi: HOST_ITS_OWN_SLAVE).
        if not addresses.is_address(address) or addresses.same(address, self._port.management_address()):
            return Act(orders.FAILED, "%.60r is no address of another host" % address)
        removed = self._acts.unplace_for_good()
        if removed.outcome != orders.DONE:
            return removed
        why = self._port.write_member_conf(address)
        return Act(orders.FAILED, why) if why else self.release_hold()

    def tidy(self) -> str:
        """See to it that no placed database is left behind on a host that became master by another way.

        To be called each report interval, after looking at the host; what was done in words, empty: nothing.
        :raises SlotError: that it is gone could not be stored; it is tried again next time.
        """
        if self.storage:
            return ""
        return self._keeper.told() or self._acts.hold_gc_again() or self._acts.tidy()

    # ------------------------------------------------------------------------------------------ orders

    def _now(self) -> host_now.HostNow:
        port = self._port
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
            port.capabilities() + self.rules.denied(),  # what is denied is known, and refused by that rule
            port.restore_generation(),
        )

    def carry_out(self, order: orders.Order, probe_limit_ms: int) -> pb.OrderResult:
        """Pass one order through the gate and do it: mark durable, act, result durable, answer.

        ``probe_limit_ms``: of one probe where the order names none, from the settings of the collector that sent it.
        """
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
        return self._do(order, decision, now, probe_limit_ms)

    def _decide(self, order: orders.Order) -> Tuple[Any, host_now.HostNow]:
        """The gate's word, with the mark durable where it lets the order pass.

        :raises SlotError: the mark could not be stored.
        """
        before, now = self.state, self._now()
        decision = order_gate.decide(before, order, now)
        if not isinstance(decision, order_gate.Obey) or decision.already:
            return decision, now
        # safety: what is right by the collector's word may still be nothing that this host's own administrator allows.
        told = self._told_before(before, order, now.mono_ms)
        if told is not None:
            return order_gate.Replay(told), now
        again = self._begun_last(before, order)
        refused = self.rules.refusal(order, again)
        if refused is not None:
            return refused, now
        self.rules.count(order, again)
        if isinstance(order.body, orders.FenceProxy) and not again:
            self._fences.expects(order.order_id)
        # safety: (1) numbers and the started mark are durable before anything is done.
        self._keeper.change(lambda state: order_gate.starting(state, order, now))
        # safety: a slow disk may have held that up; what was true before it must be true at the act.
        now = self._now()
        decision = order_gate.decide(before, order, now)
        if isinstance(decision, kind_rules.Refuse):
            self._keeper.change(lambda state: order_gate.withdrawn(state, before))
        return decision, now

    def _told_before(
        self, state: gate_state.GateState, order: orders.Order, now_ms: int
    ) -> Optional[gate_state.Result]:
        """The answer that this very order got before another one of its kind; the last one's are the gate's matter."""
        for key in [key for key, (at, _) in self._answers.items() if now_ms - at > orders.LONGEST_VALID_MS]:
            del self._answers[key]
        last = state.results.get(order.kind)
        if last is not None and last.order_id == order.order_id:
            return None
        # safety: whoever only relays orders could else have two that are still valid carried out in turn, for minutes.
        found = self._answers.get((order.kind, order.order_id))
        return found[1] if found is not None else None

    def _remember(self, order: orders.Order, result: gate_state.Result, now_ms: int) -> None:
        if order.kind not in order_kinds.REPLAYED or isinstance(order.body, orders.PlaceDatabase):
            return  # a piece that comes again is written again, where it belongs
        with self._keeper.lock:
            if len(self._answers) >= MOST_ENDED:
                del self._answers[min(self._answers, key=lambda key: self._answers[key][0])]
            self._answers[order.kind, order.order_id] = (now_ms, result)

    def _begun_last(self, state: gate_state.GateState, order: orders.Order) -> bool:
        """Is this the order of its kind that was begun here last? A fence agent's run: is its answer remembered?"""
        if isinstance(order.body, orders.FenceProxy):
            return self._fences.knows(order.order_id)
        mark = state.started.get(order.kind)
        return mark is not None and mark.order_id == order.order_id

    def lane(self, order: orders.Order) -> str:
        """Which orders this one waits for: those of its lane, beside all others; empty: its turn among all."""
        if isinstance(order.body, orders.FenceProxy):
            return lane(order.body)
        return order.kind if order.kind in order_kinds.SLOW else ""

    def too_busy(self, order: orders.Order) -> pb.OrderResult:
        """The answer to an order that is not even queued: its id is not used up."""
        return self._refusal(order, "busy", "too many orders of this kind are waiting already")

    def refused(self, order_id: str, kind: str, reason: str, text: str) -> pb.OrderResult:
        """The answer to an order that was not even opened; its id is not used up."""
        refused = gate_state.Result(order_id[: orders.LONGEST_ID], kind, orders.REFUSED, reason, text)
        return reports.result(refused, self.state)

    def _refusal(self, order: orders.Order, reason: str, text: str) -> pb.OrderResult:
        refused = gate_state.Result(order.order_id, order.kind, orders.REFUSED, reason, text)
        return reports.result(refused, self.state)

    def _with_hold(self, answer: pb.OrderResult) -> pb.OrderResult:
        """A toolstack fence's answer says what is seen now, also when it is told again."""
        if answer.kind == "toolstack_fence" and self.state.hold is not None:
            seen = self._port.toolstack()
            answer.hold.CopyFrom(reports.hold(self.state.hold, seen, self._port.identity().boot_id))
        return answer

    def _do(
        self, order: orders.Order, decision: order_gate.Obey, now: host_now.HostNow, probe_limit_ms: int
    ) -> pb.OrderResult:
        if decision.already:
            return self._end(order, Act(orders.DONE, decision.text))
        if order.kind in order_kinds.LOOKING:
            return self._look(order, probe_limit_ms)
        if isinstance(order.body, orders.Claim):
            return self._claim(order, probe_limit_ms)
        if isinstance(order.body, orders.FenceProxy):
            answer = reports.result(gate_state.Result(order.order_id, order.kind, orders.UNKNOWN, "", ""), self.state)
            answer = self._fences.carry_out(order, answer, lambda: order_gate.overtaken(self.state, order))
            answer.epoch, answer.term = self.state.epoch, self.state.term  # a claim may have come meanwhile
            return answer
        if isinstance(order.body, orders.ShowMessage):
            return self._show(order)
        try:
            self._about_to_start(order)
            act = self._acts.carry_out(order, now)
            self._about_to_start(order)  # it may have waited for the one it stops
        except SlotError as error:
            return self._refusal(order, "storage", str(error))
        if act.outcome == orders.REFUSED:
            return self._never_began(order, act)
        return self._with_hold(self._end(order, act))

    def _about_to_start(self, order: orders.Order) -> None:
        """Whoever counts xapi's starts is told of the one that this order causes."""
        if isinstance(order.body, _STARTING):
            self._observer.start_asked()

    def _never_began(self, order: orders.Order, act: Act) -> pb.OrderResult:
        """xapi was not there to be asked: the id is not used up, and nothing is stored as begun."""
        try:
            self._keeper.change(lambda state: order_gate.never_began(state, order))
        except SlotError as error:
            return self._refusal(order, "storage", str(error))
        return self._refusal(order, "not-asked", act.text[:LONGEST_TEXT])

    def _look(self, order: orders.Order, probe_limit_ms: int) -> pb.OrderResult:
        answer = reports.result(gate_state.Result(order.order_id, order.kind, orders.DONE, "", ""), self.state)
        if isinstance(order.body, orders.ProbeNow):
            return self._probe_now(order, answer, probe_limit_ms)
        if isinstance(order.body, orders.ReadDatabase):
            return self._read_database(order, answer)
        if isinstance(order.body, orders.LocateVms):
            return self._locate(order, answer)
        if order.body.want_placements:
            answer.placements.CopyFrom(reports.placements(self._read()))
        if order.body.want_xapi_trouble:
            answer.xapi_trouble.CopyFrom(reports.trouble(self._observer.trouble.ask()))
        return answer

    def _read(self) -> View:
        """The database that would be loaded; what the reading shows of it is told with the next report."""
        written_s = self._port.database_written_s()
        view = self._port.database()  # type: View
        self._observer.database_read(view, written_s)
        return view

    def _probe_now(self, order: orders.Order, answer: pb.OrderResult, probe_limit_ms: int) -> pb.OrderResult:
        wanted = order.body
        limit = probe_rules.limit_ms(wanted.probe_timeout_ms, probe_limit_ms)
        look = self._observer.look_at_peer
        until, watches = self._port.mono_ms() + PROBES_LIMIT_MS, []  # type: int, List[probe_rules.Watch]
        for target in wanted.targets:
            if self._port.mono_ms() < until:
                again = any(watch.address == target.address for watch in watches)
                given = min(limit, SECOND_PORT_LIMIT_MS) if again else limit
                watches.append(look(target.host, target.address, given, target.port or TLS_PORT))
        answer.nonce = wanted.nonce
        answer.probes.probes.extend(reports.probe(w) for w in watches)
        if wanted.ask_role:
            answer.roles.extend(self._ask_roles(wanted.ask_role[:MOST_ASKED]))
        return answer

    def _ask_roles(self, targets: Sequence[orders.Target]) -> List[pb.RoleAnswer]:
        """What silent hosts' xapis say of their roles, and whether a host answers at the addresses they follow."""
        told = self._port.ask_roles([target.address for target in targets], ROLE_LIMIT_MS)
        followed = {each.master for each in told.values() if each.said == boot_gate.FOLLOWS}
        masters = dict(told)
        masters.update(self._port.ask_roles(sorted(followed - set(told)), ROLE_LIMIT_MS))
        answers = []
        for target in targets:
            each = told[target.address]
            there = each.master in followed and masters[each.master].said != boot_gate.SILENT
            answers.append(reports.role_answer(target, each, there))
        return answers

    def _read_database(self, order: orders.Order, answer: pb.OrderResult) -> pb.OrderResult:
        wanted = order.body
        limit = min(wanted.max_bytes or BIGGEST_PIECE, BIGGEST_PIECE)
        piece = self._port.read_database(wanted.path, wanted.offset, limit)
        if piece.text:
            answer = self._refusal(order, "precondition", piece.text)
        answer.database.CopyFrom(reports.database_piece(piece))
        return answer

    def _locate(self, order: orders.Order, answer: pb.OrderResult) -> pb.OrderResult:
        vms = list(order.body.vms)
        if len(vms) > MOST_VMS:
            return self._refusal(order, "precondition", "%d VMs are more than %d" % (len(vms), MOST_VMS))
        answer.vm_places.extend(reports.vm_place(item) for item in self._port.locate_vms(vms, LOCATE_LIMIT_MS))
        return answer

    def _show(self, order: orders.Order) -> pb.OrderResult:
        act = self._messages.show(order)
        reasons = {orders.REFUSED: "busy", orders.FAILED: "xapi-error", orders.UNKNOWN: "timeout"}
        text, reason = act.text[:LONGEST_TEXT], reasons.get(act.outcome, "")
        return reports.result(gate_state.Result(order.order_id, order.kind, act.outcome, reason, text), self.state)

    def _claim(self, order: orders.Order, probe_limit_ms: int) -> pb.OrderResult:
        wanted = order.body
        limit = probe_rules.limit_ms(wanted.probe_timeout_ms, probe_limit_ms)
        look = None
        if wanted.old_master.address:
            look = self._observer.look_at_peer(wanted.old_master.host, wanted.old_master.address, limit)
        answer = self._end(order, Act(orders.DONE, "term %d is stored" % order.term))
        if look is not None:
            answer.claim.last_look.CopyFrom(reports.probe(look))
        if wanted.want_placements:
            answer.claim.placements.CopyFrom(reports.placements(self._read()))
        if look is not None and look.outcome == probe_rules.ANSWERED:
            answer.claim.veto = True
            answer.claim.veto_text = "the old master's xapi answers it at %s" % look.address
        elif self._observer.seen.serves:
            answer.claim.veto = True
            answer.claim.veto_text = "it serves as master itself"
        elif self._port.role()[0] == host_now.MASTER and wanted.old_master.host != self._port.identity().host:
            # safety: it was told to become master and does not serve yet; no other host may be told so.
            answer.claim.veto = True
            answer.claim.veto_text = "its own pool.conf says master"
        return answer

    def _end(self, order: orders.Order, act: Act) -> pb.OrderResult:
        failed = "storage" if isinstance(order.body, orders.PlaceDatabase) else "xapi-error"
        reason = {orders.DONE: "", orders.FAILED: failed, orders.UNKNOWN: "timeout"}.get(act.outcome, "")
        result = gate_state.Result(order.order_id, order.kind, act.outcome, reason, act.text[:LONGEST_TEXT])
        self._ended("order %s: %s %s" % (order.kind, act.outcome, act.text))
        try:
            # safety: (3) the result is durable before (4) it is told; if the agent ends in between, facts decide.
            now_ms = self._port.mono_ms()
            self._keeper.change(lambda state: order_gate.ended(state, result, now_ms))
            self._remember(order, result, now_ms)
        except SlotError as error:
            # Neither "refused" (something was done) nor "done" (it would not be known after a crash).
            text = "%s; its result could not be stored: %s" % (act.text[:LONGEST_TEXT], error)
            return reports.result(result._replace(outcome=orders.UNKNOWN, reason="storage", text=text), self.state)
        return reports.result(result, self.state)
