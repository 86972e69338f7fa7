"""The boot gate of one boot: what is asked, of whom, and what the answers come to. Without threads, sockets or clocks.

Driving protocol: while ``watching`` is true, ``question`` each two seconds gives what to send; ``look``, whenever
``look_due`` says so, asks the members, whether a collector is heard or not (it may block for up to four times its
limit); ``heard`` takes the collector's answer; ``settle`` decides and does what must be done before xapi may start;
``allows`` says whether it may.

Order: what the collector's word raises (epoch, term) is durable before the gate moves. A successor's address is in
pool.conf before anything starts that reads it. Once xapi was started in this boot, the gate of this boot is over.

What a collector let the gate wait for is noted in /run: an agent that is started anew, and `gate wait` where none runs,
must not take the same silence for that of a site without a collector. The note is of this boot, and ends with the next
other word.

Members are asked each two seconds, which costs them nothing (HOST_IS_SLAVE comes before any credential). A host that
acts as master answers by PAM: while one does, the pause grows to ten seconds, and what it said stays fresh that long.
"""

from typing import List, Optional, Tuple

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import addresses, boot_gate, host_now, orders
from poolwarden_agent.core.boot_gate import BootNow, Decision, Member, Word
from poolwarden_agent.core.signed import implausible
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host_port import HostPort

COLLECTOR_SILENT_MS = 30000
CONNECT_MS = 1500
ASK_LIMIT_MS = 1500
MEMBERS_FRESH_MS = 20000  # longer than two rounds of questions take, also where half of the members are dark
LOOK_EVERY_MS = 2000
LONGEST_PAUSE_MS = 10000  # with a round of questions less than MEMBERS_FRESH_MS
_DECISIONS = {pb.GateAnswer.OPEN: "open", pb.GateAnswer.SHUT: "shut", pb.GateAnswer.WAIT: "wait"}
_STATES = {
    boot_gate.UNGATED: pb.BootGateFacts.UNGATED,
    boot_gate.ASKING: pb.BootGateFacts.ASKING,
    boot_gate.SHUT: pb.BootGateFacts.SHUT,
    boot_gate.OPEN: pb.BootGateFacts.OPEN,
}


class BootGate(object):
    """One boot's gate."""

    def __init__(self, port: HostPort, keeper: Keeper, alone: bool = False) -> None:
        self._alone = alone  # there is no connection, and never will be one
        self._port = port
        self._keeper = keeper
        self._found = port.boot_facts()
        self._began_ms = port.mono_ms()
        self._heard_ms = self._began_ms  # when the collector last answered
        self._word: Optional[Word] = None
        self._members: Tuple[Member, ...] = ()
        self._asked_ms: Optional[int] = None
        self._let_wait = port.let_wait()
        self._pause_ms = LOOK_EVERY_MS
        self._since_ms = self._began_ms
        self.decision = Decision(boot_gate.ASKING, "nothing has been asked yet")
        if self._found is not None and self._found.started:
            self.decision = Decision(boot_gate.OPEN, "xapi was started in this boot before", True)

    @property
    def there(self) -> bool:
        """Does this host have a boot gate at all?"""
        return self._found is not None

    @property
    def watching(self) -> bool:
        """Is there still something to ask in this boot?"""
        if not self.there:
            return False
        return not self.allows() or (self.decision.state == boot_gate.OPEN and self._may_be_taken_back())

    def _may_be_taken_back(self) -> bool:
        found = self._port.boot_facts()
        return not self.decision.final and found is not None and not found.started

    def allows(self) -> bool:
        """May xapi start now? It may also where pool.conf follows the successor: then it starts as its member."""
        if not self.there or self.decision.state in (boot_gate.UNGATED, boot_gate.OPEN):
            return True
        held = self._keeper.state.hold is not None
        return not held and self.decision.state == boot_gate.SHUT and self._port.role()[0] == host_now.MEMBER

    @property
    def young(self) -> bool:
        """Has this agent only just started, so that the first answers are still due?"""
        return self._port.mono_ms() - self._began_ms < 2 * CONNECT_MS

    def question(self) -> pb.GateQuestion:
        """What the collector is asked."""
        assert self._found is not None
        kind = {
            host_now.MASTER: pb.RoleFacts.MASTER,
            host_now.MEMBER: pb.RoleFacts.MEMBER,
            host_now.BROKEN: pb.RoleFacts.BROKEN,
        }
        role = kind.get(self._found.pool_conf, pb.RoleFacts.KIND_UNSPECIFIED)
        boot = self._port.identity().boot_id
        return pb.GateQuestion(boot_id=boot, pool_conf=role, master_address=self._found.master)

    def heard(self, answer: pb.GateAnswer, signed: bool = False) -> None:
        """Take the collector's word, if it is for this boot, fresh, and of no lower epoch and term than is known.

        Nor of any that cannot be (core/signed.py).
        """
        now, state = self._port.mono_ms(), self._keeper.state
        late = now - answer.echo_mono_ms - answer.valid_for_ms > 0 or answer.echo_mono_ms > now
        if answer.boot_id != self._port.identity().boot_id or answer.decision not in _DECISIONS or late:
            return
        # safety: a lower epoch is a collector that was replaced, a lower term a succession that is over.
        if answer.epoch < state.epoch or answer.term < state.term or self._keeper.storage:
            return
        if implausible(state.epoch, state.term, answer.epoch, answer.term, signed):
            return
        try:
            self._keeper.change(
                lambda kept: kept._replace(epoch=max(kept.epoch, answer.epoch), term=max(kept.term, answer.term))
            )
        except SlotError:
            return  # a word that cannot be remembered is not obeyed; it is asked for again
        self._heard_ms = now
        address = answer.successor_address if addresses.is_address(answer.successor_address) else ""
        text = answer.reason[:200] or "the collector says so"
        self._word = Word(_DECISIONS[answer.decision], text, answer.term, answer.successor_uuid, address)
        self._note(text if self._word.decision == "wait" else "")

    def _note(self, why: str) -> None:
        """Remember why it is let wait, or that it is not any more, beyond this process."""
        if why == self._let_wait:
            return
        self._let_wait = why
        try:
            # safety: an agent that is started anew would take the silence after a "wait" for that of an empty site.
            self._port.note_let_wait(why)
        except OSError:
            pass  # /run is full: the word counts while this process runs

    def silent(self, connected: bool) -> bool:
        """Is there no collector to wait for? One that is there is connected within a second of the agent's start.

        Of several addresses each is tried first: until then ``connected`` is said all the same, for 30 s at most.
        Its word comes first: a member that was told to become master says until its xapi restarts that it follows this
        host.
        """
        now = self._port.mono_ms()
        if not connected:
            return self._alone or now - self._began_ms >= CONNECT_MS
        return now - self._heard_ms >= COLLECTOR_SILENT_MS

    def look_due(self) -> bool:
        """Is it time to ask the members again?"""
        return self._asked_ms is None or self._port.mono_ms() - self._asked_ms >= self._pause_ms

    def look(self) -> None:
        """Ask every other host of the pool who its master is."""
        found = self._port.boot_facts()
        if found is None:
            return
        began, own = self._port.mono_ms(), self._port.management_address()
        told = self._port.ask_roles(found.peers, ASK_LIMIT_MS)
        named = {t.master for t in told.values() if t.said == boot_gate.FOLLOWS and not addresses.same(t.master, own)}
        masters = dict(told)
        masters.update(self._port.ask_roles(sorted(named - set(told)), ASK_LIMIT_MS))
        seen: List[Member] = []
        for address in found.peers:
            each = told[address]
            other = masters[each.master].said if each.master in named else boot_gate.SILENT
            there, acts = other != boot_gate.SILENT, other == boot_gate.ACTS
            master = own if each.master and each.master not in named else each.master
            seen.append(Member(address, each.said, master, there, acts, each.text))
        self._members = tuple(seen)
        acts = any(member.said == boot_gate.ACTS or member.master_acts for member in seen)
        self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS) if acts else LOOK_EVERY_MS
        self._asked_ms = began

    def _fresh(self) -> bool:
        """Has what the members said been true within the last seconds?"""
        return self._asked_ms is not None and self._port.mono_ms() - self._asked_ms <= MEMBERS_FRESH_MS

    def settle(self, connected: bool) -> Decision:
        """Decide, and write the successor into pool.conf where one is named."""
        found = self._port.boot_facts()
        passed = self.decision.state in (boot_gate.UNGATED, boot_gate.OPEN)
        if found is None or (passed and not self._may_be_taken_back()):
            return self.decision
        if found.started:
            # safety: a host that became master since then (a switchover) is not made a member by an old word.
            self.decision = Decision(boot_gate.OPEN, "xapi was started in this boot before", True)
            self._since_ms = self._port.mono_ms()
            return self.decision
        if self._keeper.storage:
            self._keeper.load()
        if self._keeper.storage and found.pool_conf == host_now.MASTER:
            return self._unreadable()
        silent = self.silent(connected)
        word = self._word
        if silent and word is not None and word.decision == "wait":
            word = None  # whoever said "wait" is not there any more, and what it said is not forgotten
        now = BootNow(
            self._port.identity().boot_id,
            self._port.management_address(),
            found.pool_conf,
            len(found.peers) + 1 if found.peers_known else 0,
            self._port.ha_armed(),
            "",
            word,
            silent,
            self._members,
            self._fresh(),
            found.link_up,
            found.gateway,
            found.peer_heard,
            self._port.mono_ms() - self._began_ms,
            self._let_wait,
        )
        decided = boot_gate.decide(self._keeper.state, now)
        if decided.state != self.decision.state:
            self._since_ms = self._port.mono_ms()
        self.decision = decided
        if decided.follow and self._port.role()[0] == host_now.MASTER and self._nothing_placed():
            self._port.write_member_conf(decided.follow)
        return decided

    def _nothing_placed(self) -> bool:
        """Is no database placed here any more? One that could not be removed keeps this host waiting."""
        # safety: a member keeps the file, and would roll the pool back with it when it is master again. Its mark ends
        # with it (order_acts.py tidy): where no agent runs, nothing durable is written.
        return self._keeper.state.placed is None or self._port.remove_placed().outcome == orders.DONE

    def _unreadable(self) -> Decision:
        # safety: what cannot be read is not "neither held nor superseded".
        if self.decision.state != boot_gate.SHUT:
            self._since_ms = self._port.mono_ms()
        self.decision = Decision(boot_gate.SHUT, "what is durable cannot be read: %s" % self._keeper.storage)
        return self.decision

    def told(self) -> Tuple[Decision, int]:
        """What ``facts`` are made of."""
        return self.decision, self._since_ms

    def facts(self) -> pb.BootGateFacts:
        """The gate for a report."""
        d = self.decision
        return pb.BootGateFacts(state=_STATES[d.state], reason=d.reason, since_mono_ms=self._since_ms, term=d.term)
