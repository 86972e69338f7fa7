"""Does the own xapi answer on its local TCP port? At most one question is under way, however long xapi hangs.

As on the Unix socket (client.py): an unanswered question is waited for and not asked again on a new connection each
time, because each connection may cost a hanging xapi a thread. Peers are asked anew each time (probes.py): what they
answer is evidence, and evidence must be of now.
"""

import time
from typing import Callable, Optional

from poolwarden_agent.core.probe_rules import NO_ANSWER, ProbeResult
from poolwarden_agent.dom0.xapi import probes
from poolwarden_agent.dom0.xapi.errors import XapiTimeout
from poolwarden_agent.dom0.xapi.exchange import SMALL_ANSWER, Pending
from poolwarden_agent.dom0.xapi.look_pacing import Patience


class LocalTcp(object):
    """The question on one address; one thread at a time."""

    def __init__(self, address: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._port = port
        self._patience = Patience(clock)
        self._pending: Optional[Pending] = None

    @property
    def waited_ms(self) -> int:
        """For how long the last question was, or has been, under way."""
        return int(self._patience.waited_s * 1000)

    def look(self, limit_s: float) -> ProbeResult:
        """Ask, or wait on for the answer, for ``limit_s`` seconds. An answer that an earlier look asked for is late."""
        deadline = time.monotonic() + limit_s
        if self._pending is not None and self._patience.over():
            self._drop()
        late = self._pending is not None
        if self._pending is None:
            found = probes.connected(self._address, self._port, limit_s)
            if isinstance(found, ProbeResult):
                return found
            self._pending = Pending(found, SMALL_ANSWER)
            self._patience.begin()
            failed = self._send(deadline)
            if failed is not None:
                return failed
        try:
            data = self._pending.wait(deadline)
        except XapiTimeout:
            return ProbeResult(NO_ANSWER, "", "accepted the connection and did not answer")
        except Exception as error:
            self.forget()
            return probes.judged(error)
        waited_ms = self.waited_ms if late else 0
        self.forget()
        return probes.judged(data)._replace(late_ms=waited_ms)

    def _send(self, deadline: float) -> Optional[ProbeResult]:
        assert self._pending is not None
        try:
            self._pending.send(probes.question(self._address), deadline)
        except Exception as error:
            self.forget()
            return probes.judged(error)
        return None

    def forget(self) -> None:
        """Nothing is under way any more, and the next question begins with all patience."""
        self._drop()
        self._patience.fresh()

    def _drop(self) -> None:
        if self._pending is not None:
            self._pending.close()
            self._pending = None
