"""The gate's durable state: loaded once, changed by one thread at a time, durable before it is used.

A change is a function from state to state: two orders that are carried out at the same time (a long call of xapi's and
a short one) never lose each other's marks. What cannot be read is never taken for empty: ``storage`` says why, and
every order is refused until it can be read again.

A change that could not be stored is not "as before" on every disk: what stands then is read again, so that this agent
never goes on from another state than its next start would find.
"""

import threading
from typing import Callable

from poolwarden_agent.core import gate_state
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.host_port import HostPort


class Keeper(object):
    """Holds the state; ``lock`` is reentrant and spans what must not be interleaved."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self.lock = threading.RLock()
        self.storage = ""  # why durable state cannot be used; empty: it can
        self.remark = ""  # what was mended, or cannot be, although it can be used
        self.state = gate_state.EMPTY
        self.load()

    def load(self) -> None:
        """Read it, once more if it could not be read before."""
        with self.lock:
            self.storage = ""
            try:
                data = self._port.load_state()
                self.state = gate_state.decode(data) if data else gate_state.EMPTY
                self.remark = self._port.state_remark()
            except (SlotError, ValueError) as error:
                self.storage = str(error)  # what was known before stays known, and nothing is obeyed

    def told(self) -> str:
        """What the last reading has mended, or could not mend; told once."""
        said, self.remark = self.remark, ""
        return said

    def change(self, to: Callable[[gate_state.GateState], gate_state.GateState]) -> None:
        """Make a changed state durable, then current.

        :raises SlotError: it could not be stored; the state is what a restart would find.
        """
        with self.lock:
            state = to(self.state)
            if state != self.state:
                try:
                    self._port.save_state(gate_state.encode(state))
                except SlotError:
                    self.load()
                    raise
                self.state = state
