"""Joins the parts of the host side: what is reported of this host and what is done with an order.

One host has one observer, one executor and one boot gate. Each collector has a conversation; there is one today.
No part has threads, sockets or clocks.

Driving protocol (a runner with threads in production, one loop in virtual time in a simulation)
------------------------------------------------------------------------------------------------
* ``conversation.link_up()`` gives the messages that open a stream: Hello and a full Report.
* ``conversation.report()`` gives a delta Report; call it each ``conversation.settings.report_interval_ms``.
* ``observer.look_at_xapi`` each report interval and ``observer.look_at_peer`` for each of ``observer.to_probe()``
  each probe interval; they may block up to their limits, so production gives them threads of their own.
* ``observer.look_at_host`` each report interval likewise, if the host side was made with ``background=True``: nothing
  that is said then waits for a disk or for xenstored. Otherwise the host is looked at for each report.
* ``executor.tidy`` each report interval.
* ``assumptions.turn`` each report interval, in a thread of its own in production; a driver that never calls it reports
  none.
* ``evidence`` makes and hands over capsules in threads of their own (process/evidence.py); a driver that never calls
  it keeps none.
* ``conversation.late()`` after each report; ``conversation.nobody_listens()`` each report interval instead while no
  stream is up.
* ``conversation.receive(message)`` takes a CollectorMessage: the answer messages come back at once; an order comes
  back as a plain value (core/orders.py).
* ``executor.carry_out(order, conversation.settings.probe_timeout_ms)`` does one order and gives its result, which
  ``conversation.wrap`` makes a message; one at a time, in a thread of its own in production. Orders with a ``lane`` may
  take minutes: those of one lane go one at a time, beside all others (workers.py).
Everything that is done to the host goes through the port.

``executor.state`` is changed by the executor and by the boot gate; every value that another thread may read is an
immutable tuple that is replaced as a whole.
"""

from poolwarden_agent.host.assumptions import Assumptions
from poolwarden_agent.host.boot_gate import BootGate
from poolwarden_agent.host.conversation import Conversation
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.evidence import Evidence
from poolwarden_agent.host.executor import Executor
from poolwarden_agent.host.observer import Observer
from poolwarden_agent.host.report import Sections
from poolwarden_agent.host_port import HostPort


class HostSide(object):
    """One host's side: one observer, one executor, one boot gate, and the conversation with its collector."""

    def __init__(self, port: HostPort, python_version: str = "", background: bool = False) -> None:
        self.port = port
        keeper = Keeper(port)
        self.observer = Observer(port, lambda: keeper.state.hold is not None)
        self.executor = Executor(port, keeper, self.observer, self._order_ended)
        self.boot = BootGate(port, keeper)
        self.assumptions = Assumptions(port, keeper, self.observer, self.boot)
        self.observer.trouble.waits = lambda: self.boot.there and not self.boot.allows()
        sections = Sections(port, keeper, self.observer, self.boot, self.assumptions)
        self.evidence = Evidence(port, self.observer, sections)
        self.conversation = Conversation(
            port, self.observer, self.executor, self.boot, sections, self._targets_given, python_version, background
        )

    def _order_ended(self, text: str) -> None:
        """Each conversation whose stream is down keeps it for later."""
        self.conversation.order_ended(text)

    def _targets_given(self) -> None:
        """The observer watches what any conversation has been given."""
        self.observer.keep_only(self.conversation.targets)
