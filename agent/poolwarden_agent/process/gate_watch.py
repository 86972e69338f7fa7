"""The running agent's part of the boot gate: decide, tell the host's programs, carry out an operator's local request.

One thread's work; each turn may take as long as asking every other host of the pool. The collector is asked by the
runner's loop, its answers come through ``boot.heard``.
"""

import os
import threading

from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import gate_file, log
from poolwarden_agent.process.gate_file import Word

SAY_EVERY_MS = 5000


class GateWatch(object):
    """Turns the gate of one boot."""

    def __init__(self, side: HostSide, root: str) -> None:
        self._side = side
        self._root = root
        self._said = ("", "", -SAY_EVERY_MS)  # state, reason, when

    def turn(self, connected: bool) -> bool:
        """One turn; has the gate's state changed?"""
        boot = self._side.boot
        self._local_words(boot)
        if not boot.there:
            return False
        before = boot.decision.state
        if boot.watching:
            if boot.look_due():
                boot.look()
            boot.settle(connected)
        self._say(boot)
        return boot.decision.state != before

    def _say(self, boot: BootGate) -> None:
        """For `gate wait` and `gate status`; each change in syslog as well."""
        decision, now = boot.decision, self._side.port.mono_ms()
        state, reason, at = self._said
        if (state, reason) == (decision.state, decision.reason) and now - at < SAY_EVERY_MS:
            return
        if (state, reason) != (decision.state, decision.reason):
            log.say("boot gate %s: %s" % (decision.state, decision.reason), "gate %s" % decision.state)
        self._said = (decision.state, decision.reason, now)
        word = Word(decision.state, decision.reason, boot.allows(), now)
        gate_file.say(self._root, self._side.port.identity().boot_id, word)

    def _local_words(self, boot: BootGate) -> None:
        """An operator on this host releases a held toolstack: as what pool.conf says."""
        side = self._side
        self._to_reset(boot)
        if self._to_follow():
            return
        if side.executor.state.hold is None:
            return
        who = gate_file.requested(self._root, gate_file.RELEASE, side.port.identity().boot_id)
        if not who:
            return
        os.remove(os.path.join(self._root, gate_file.RELEASE))
        log.say("%s releases the held toolstack on this host (pool.conf: %s)" % (who, side.port.role()[0]))
        thread = threading.Thread(target=self._release)
        thread.daemon = True
        thread.start()

    def _to_reset(self, boot: BootGate) -> None:
        """Does an operator on this host want the stored numbers forgotten? Then they are, unless they must be kept."""
        who = gate_file.requested(self._root, gate_file.RESET, self._side.port.identity().boot_id)
        if not who:
            return
        os.remove(os.path.join(self._root, gate_file.RESET))
        try:
            said = self._side.executor.reset_numbers() if boot.allows() else "refused: the boot gate is not open"
        except SlotError as error:
            said = "it could not be stored: %s" % error
        log.say("%s wants epoch and term forgotten: %s" % (who, said))

    def _to_follow(self) -> bool:
        """Does an operator on this host want it to be a member? Then it is begun."""
        side = self._side
        if side.executor.state.hold is None and side.executor.state.tombstone is None:
            return False
        asked = gate_file.requested(self._root, gate_file.FOLLOW, side.port.identity().boot_id)
        if not asked:
            return False
        os.remove(os.path.join(self._root, gate_file.FOLLOW))
        address, _, who = asked.partition(" ")
        log.say("%s wants this host to follow %s" % (who, address))
        thread = threading.Thread(target=self._follow, args=(address,))
        thread.daemon = True
        thread.start()
        return True

    def _follow(self, address: str) -> None:
        try:
            act = self._side.executor.follow(address)
        except SlotError as error:
            log.say("the toolstack is still held: %s" % error)
            return
        log.say("to follow %s: %s: %s" % (address, act.outcome, act.text))

    def _release(self) -> None:
        """In a thread of its own: the start that it waits for asks the gate, which is turned by the other one."""
        try:
            # safety: an operator on this host knows what no collector can; the request is of this boot, and logged.
            act = self._side.executor.release_hold()
        except SlotError as error:
            log.say("the toolstack is still held: %s" % error)
            return
        log.say("the hold is released: %s" % act.text)
