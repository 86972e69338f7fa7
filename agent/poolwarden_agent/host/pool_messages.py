"""Messages that this host's xapi shows in the pool for a collector: each once, as far as that can be known.

Rules
-----
* A message that was shown is remembered by its key: delivered again it is not shown again. What an agent before this
  one has shown, or a call that broke off may have, is looked for in xapi's own list before it is made anew.
* A xapi that does not answer is not asked, and after a call that was not answered none is made for a minute, then twice
  that, up to an hour, while it is the same xapi: a thread of it that hangs is not given a second one (look_pacing.py).
* Nothing of it is durable, and nothing else waits for it: it is one lane of the slow orders (process/workers.py).
"""

import collections
from typing import Callable, Deque, Set

from poolwarden_agent.core import orders
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.pool_message import AT_ONCE, Allowance
from poolwarden_agent.dom0.xapi.look_pacing import Patience
from poolwarden_agent.host_port import Act, HostPort

LIMIT_MS = 10000
MOST_REMEMBERED = 512


class PoolMessages(object):
    """One host's messages; one caller at a time. ``answers``: does the own xapi answer on its socket now?"""

    def __init__(self, port: HostPort, answers: Callable[[], bool]) -> None:
        self._port = port
        self._answers = answers
        self._shown: Deque[str] = collections.deque(maxlen=MOST_REMEMBERED)
        self._unsure: Set[str] = set()  # keys of calls that were not answered
        self._allowance = Allowance()
        self._patience = Patience(lambda: port.mono_ms() / 1000.0)
        self._unanswered_of = NO_PROCESS  # the xapi that owes an answer

    def show(self, order: orders.Order) -> Act:
        """Show it, or say why not; the gate has let it pass."""
        wanted, port = order.body, self._port
        if wanted.key in self._shown:
            return Act(orders.DONE, "it is shown already")
        self._allowance = self._allowance.after(port.mono_ms())
        if self._allowance.used_up:
            return Act(orders.REFUSED, "%d messages have just been shown: one more later" % AT_ONCE)
        process = port.process()
        if process == NO_PROCESS or not self._answers():
            return Act(orders.REFUSED, "its xapi does not answer now")
        if process == self._unanswered_of and not self._patience.over():
            return Act(orders.REFUSED, "its xapi still owes the answer to an earlier message")
        self._allowance = self._allowance.less_one()
        self._patience.begin()
        # safety: a message about the own pool alone, on its serving master, bounded in size and number.
        act = port.show_message(order, wanted.repeated or wanted.key in self._unsure, LIMIT_MS)
        self._note(wanted.key, act, process)
        return act

    def _note(self, key: str, act: Act, process: Process) -> None:
        if act.outcome == orders.UNKNOWN:
            if process != self._unanswered_of:
                self._patience.fresh()
            self._unanswered_of = process
            self._unsure = (self._unsure if len(self._unsure) < MOST_REMEMBERED else set()) | {key}
            return
        if act.outcome != orders.REFUSED:
            self._unanswered_of = NO_PROCESS
            self._patience.fresh()
        if act.outcome == orders.DONE:
            self._shown.append(key)
            self._unsure.discard(key)
