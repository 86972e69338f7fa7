"""What an order does once the gate has let it pass: acts on the host, each judged by what is seen afterwards.

* xapi's word is not enough: a role is taken when pool.conf says it, a toolstack is fenced when nothing of it is seen.
* A release writes pool.conf first, lifts the hold second and starts xapi third: cut off anywhere, the host is either
  still held or starts in the role that it was released to.
* A placed database that has outlived its promotion, or the hold that it was placed under, is removed before any act
  that may start xapi as master.
"""

import threading
from typing import Callable, Tuple

from poolwarden_agent.core import addresses, gate_state, host_now, order_gate, order_kinds, orders, placed_database
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host_port import Act, HostPort

ACT_LIMIT_MS = 20000
# systemd kills a xapi that hangs after twice TimeoutStopSec, 90 s for ExecStop and 90 s after SIGTERM (xapi.service,
# systemd.service(5)): giving up earlier would leave the rest of the toolstack running.
RESTART_LIMIT_MS = 190000
# Some of these wait for every host of the pool in turn, or for storage; xapi has no limit of its own for them.
GC_LIMIT_MS = 45000
SERVE_LIMIT_MS = {
    "sync_database": 600000,
    "designate_master": 600000,
    "declare_host_dead": 600000,
    "recover_members": 600000,
    "start_vm": 300000,
    "enable_host": 60000,
}
LOCATE_LIMIT_MS = 60000
MOST_VMS = 100


class Acts(object):
    """The acts of one host."""

    def __init__(self, port: HostPort, keeper: Keeper) -> None:
        self._port = port
        self._keeper = keeper
        self._gc_seen = False  # has this process seen to the hold of garbage collection?
        self._files = threading.Lock()  # of a placed database; taken after the keeper's lock, where both are

    def carry_out(self, order: orders.Order, now: host_now.HostNow) -> Act:
        """Do it, within its own limits.

        :raises SlotError: durable state that had to be written first could not be; nothing was done after that.
        """
        if placed_database.outlived(self._keeper.state, order, now):
            # safety: xapi would load it at its next start as master and roll the pool back.
            removed = self._remove_placed()
            if removed.outcome != orders.DONE:
                return removed
        body = order.body
        if isinstance(body, orders.ReleaseGc):
            return self._port.release_gc(GC_LIMIT_MS)
        if isinstance(body, orders.Promote) and body.hold_gc:
            held = self._port.hold_gc(GC_LIMIT_MS)
            if held.outcome != orders.DONE:
                return Act(orders.FAILED, "not promoted: %s" % held.text)
        if isinstance(body, orders.Promote):
            # safety: the gate has refused lower terms, another boot, armed HA and a tombstone; pool.conf is read back.
            return self._become((host_now.MASTER, ""), lambda: self._port.promote(ACT_LIMIT_MS))
        if isinstance(body, orders.Repoint):
            wanted = (host_now.MEMBER, body.address)
            return self._become(wanted, lambda: self._port.repoint(body.address, ACT_LIMIT_MS))
        if isinstance(body, orders.RestartXapi):
            return self._port.restart_xapi(RESTART_LIMIT_MS)
        if isinstance(body, orders.ToolstackFence):
            return self._fence()
        if isinstance(body, orders.ToolstackRelease):
            return self._release(body)
        if isinstance(body, orders.PlaceDatabase):
            return self._place(body, order.term, now.pool)
        against = self._against_start(body, now) if isinstance(body, orders.StartVm) else ""
        if against:
            return Act(orders.FAILED, against)
        if order.kind in order_kinds.SERVING:
            return self._port.serve(order, SERVE_LIMIT_MS[order.kind], lambda: self._too_late(order))
        return self._tombstone(order.term, body)

    def _against_start(self, start: orders.StartVm, now: host_now.HostNow) -> str:
        """What this host's own domains say against a start, empty: nothing.

        At a person's word xapi judges a start here: it may be done already.
        """
        running = self._port.domains()
        if running is None and start.only_if_wished:
            # safety: nobody is asked about a start by policy, so what cannot be seen stands against it.
            return "which VMs run on this very host cannot be read"
        if start.vm in (running or ()) and (start.only_if_wished or start.host != now.host):
            return "a domain of this VM runs on this very host, whatever xapi's database says"
        return ""

    def _too_late(self, order: orders.Order) -> str:
        """Why an order that the gate has let pass must not begin any more, empty: it may."""
        refusal = order_gate.too_late(self._keeper.state, order, self._port.mono_ms())
        return refusal.text if refusal is not None else ""

    # ------------------------------------------------------------------------------------------ roles

    def _become(self, wanted: Tuple[str, str], call: Callable[[], Act]) -> Act:
        """Take a role. xapi's word is not enough: pool.conf must say it; an error may come after it was written."""
        port = self._port
        if self._says(wanted) and port.role_settled() and port.process() != host_now.NO_PROCESS:
            return Act(orders.DONE, "the running xapi has this role already")
        act = call()
        if act.outcome == orders.REFUSED:
            return act  # xapi was never asked: whatever pool.conf says, this order has not done it
        if self._says(wanted):
            # safety: pool.conf may be right for another reason (a tombstone); without xapi's word nothing is certain.
            return act if act.outcome == orders.DONE else Act(orders.UNKNOWN, "%s; pool.conf is right" % act.text)
        if act.outcome == orders.DONE:
            said = " ".join(port.role()).strip() or "nothing readable"
            return Act(orders.FAILED, "%s, but pool.conf says %s" % (act.text, said))
        return act

    def _says(self, wanted: Tuple[str, str]) -> bool:
        role, address = self._port.role()
        return role == wanted[0] and addresses.same(address, wanted[1])

    def _tombstone(self, term: int, order: orders.SetTombstone) -> Act:
        if order.clear:
            self._keeper.change(lambda state: gate_state.with_tombstone(state, None))
            return Act(orders.DONE, "the tombstone is cleared")
        stone = gate_state.Tombstone(term, order.successor, order.address)
        self._keeper.change(lambda state: gate_state.with_tombstone(state, stone))
        if order.address and self._port.role()[0] == host_now.MASTER:
            why = self._port.write_member_conf(order.address)
            if why:
                return Act(orders.FAILED, "tombstone stored; %s" % why)
            return Act(orders.DONE, "tombstone stored; pool.conf names %s now" % order.address)
        return Act(orders.DONE, "tombstone stored")

    # ------------------------------------------------------------------------------------------ toolstack

    def _fence(self) -> Act:
        """The hold is durable (order_gate.starting); stop xapi; done is what is seen to be stopped."""
        act = self._port.stop_toolstack(RESTART_LIMIT_MS)
        seen = self._port.toolstack()
        if act.outcome != orders.DONE:
            return act
        if seen.stopped and seen.ports_closed:
            return Act(orders.DONE, "xapi is stopped and held stopped; nobody listens on its ports")
        return Act(orders.FAILED, "%s, but %s" % (act.text, seen.text or "not everything is seen stopped"))

    def _release(self, order: orders.ToolstackRelease) -> Act:
        if order.release_as == orders.AS_MEMBER and not self._says((host_now.MEMBER, order.address)):
            why = self._port.write_member_conf(order.address)
            if why:
                return Act(orders.FAILED, "still held: %s" % why)
        # safety: only now that pool.conf says the role of the next start; held until this is durable.
        self._keeper.change(lambda state: gate_state.with_hold(state, None))
        return self._port.start_toolstack(RESTART_LIMIT_MS)

    # ------------------------------------------------------------------------------------------ databases

    def _place(self, order: orders.PlaceDatabase, term: int, pool: str) -> Act:
        if order.piece.remove:
            return self._remove_placed()
        with self._files:
            # safety: what ended the hold since this order was let pass has removed what lay there, for good.
            if self._keeper.state.placed != gate_state.Placed(term, order.piece.generation, False):
                return Act(orders.FAILED, "what it belongs to has been removed meanwhile")
            return self._port.place_piece(order.piece, order.chunk, pool)

    def hold_gc_again(self) -> str:
        """After a start of this agent: what holds garbage collection is gone with a reboot; what was done in words."""
        if not self._keeper.state.gc or self._gc_seen:
            return ""
        self._gc_seen = True
        return "storage's garbage collection is held: %s" % self._port.hold_gc(GC_LIMIT_MS).text

    def tidy(self) -> str:
        """Remove a placed database that was left behind; what was done about it, empty: there was nothing to do."""
        if self._keeper.state.placed is None:
            return ""
        with self._keeper.lock:
            if placed_database.loaded(self._keeper.state, self._port.restore_generation()):
                self._keeper.change(lambda state: gate_state.with_placed(state, None))
                return ""
            if not placed_database.left_behind(self._keeper.state, self._port.role()[0]):
                return ""
            # safety: this host became master without the promotion that the file was for: it would roll the pool back.
            act = self._remove_placed()
        return "a database placed for another promotion was left behind: %s" % act.text

    def unplace(self) -> Act:
        """Before a hold ends by other means than its release: what no start was ordered with is removed."""
        if not placed_database.for_no_start(self._keeper.state):
            return Act(orders.DONE, "no database is placed under the hold")
        return self._remove_placed()

    def unplace_for_good(self) -> Act:
        """Before this host is made a member: whatever is placed would be loaded when it is master again, and stale."""
        return self._remove_placed()

    def _remove_placed(self) -> Act:
        with self._keeper.lock, self._files:
            if self._keeper.state.placed is None:
                return Act(orders.DONE, "no database is placed")
            act = self._port.remove_placed()
            if act.outcome == orders.DONE:
                self._keeper.change(lambda state: gate_state.with_placed(state, None))
            return act
