"""Orders that take minutes, in virtual time: the production code blocks in them, the simulation does not.

Each slow order is carried out on a stack of its own (a greenlet) and hands over to the simulation's loop where it
would block. Only one of them runs at any instant, so two runs of one story are equal; and unlike threads they are still
there after a fork. As in production two orders of one kind never overlap, and those of different kinds do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.orders import Order
from poolwarden_agent.process.workers import MOST_WAITING
from poolwarden_lab.virtual.agent.port import AgentKilled
from poolwarden_lab.xapi.actions import PeerResult
from poolwarden_lab.xapi.virtual import TIMEOUT, OnReply

Later = Callable[[int, Callable[[], None]], None]


class _Run:
    """One piece of work that may wait; ``resume`` is the loop's side, ``wait`` is the work's."""

    def __init__(self, lane: str, work: Callable[[], pb.OrderResult]) -> None:
        self.lane = lane
        self._work = work
        self.result: pb.OrderResult | None = None
        self.error: BaseException | None = None
        self.strand = greenlet(self._run)

    @property
    def ended(self) -> bool:
        return self.strand.dead

    def _run(self, first: PeerResult | AgentKilled) -> None:
        try:
            _unless_killed(first)
            self.result = self._work()
        except BaseException as error:  # whatever it is, the loop must hear of it
            self.error = error

    def resume(self, value: PeerResult | AgentKilled) -> None:
        self.strand.parent = getcurrent()  # it comes back to whoever lets it go on
        self.strand.switch(value)

    def wait(self) -> PeerResult:
        assert self.strand.parent is not None
        return _unless_killed(self.strand.parent.switch())


def _unless_killed(value: PeerResult | AgentKilled) -> PeerResult:
    if isinstance(value, AgentKilled):
        raise value
    return value


class SlowOrders:
    """The slow orders of one agent's life."""

    def __init__(
        self,
        later: Later,
        carry_out: Callable[[Order], pb.OrderResult],
        ended: Callable[[pb.OrderResult], None],
        crashed: Callable[[], None],
    ) -> None:
        self._later = later
        self._carry_out = carry_out
        self._ended = ended
        self._crashed = crashed
        self._waiting: dict[str, deque[Order]] = {}  # a lane is there while one of it runs
        self._runs: list[_Run] = []

    def give(self, order: Order, lane: str) -> bool:
        """Take this order, unless too many of its lane are waiting."""
        if lane not in self._waiting:
            self._waiting[lane] = deque()
            self._start(order, lane)
        elif len(self._waiting[lane]) >= MOST_WAITING:
            return False
        else:
            self._waiting[lane].append(order)
        return True

    def end(self) -> None:
        """The agent is gone: whatever waits unwinds, and nothing is answered."""
        self._waiting.clear()
        runs, self._runs = self._runs, []
        for run in runs:
            run.resume(AgentKilled("the agent is gone"))

    def wait_for(self, begin: Callable[[OnReply], None], limit_ms: int) -> PeerResult:
        """The reply to what ``begin`` asks, after at most ``limit_ms``; outside of a slow order what comes at once."""
        run = next((run for run in self._runs if run.strand is getcurrent()), None)
        replies: list[PeerResult] = []
        waits = False

        def reply(result: PeerResult) -> None:
            replies.append(result)
            if waits and len(replies) == 1 and run is not None:
                self._later(0, lambda: self._go_on(run, result))

        begin(reply)
        if replies or run is None:
            return replies[0] if replies else TIMEOUT
        waits = True
        self._later(limit_ms, lambda: reply(TIMEOUT))
        return run.wait()

    def _start(self, order: Order, lane: str) -> None:
        run = _Run(lane, lambda: self._carry_out(order))
        self._runs.append(run)
        self._later(0, lambda: self._go_on(run, TIMEOUT))

    def _go_on(self, run: _Run, value: PeerResult) -> None:
        if run not in self._runs:
            return
        run.resume(value)
        if not run.ended:
            return
        self._runs.remove(run)
        waiting = self._waiting[run.lane]
        if waiting:
            self._start(waiting.popleft(), run.lane)
        else:
            del self._waiting[run.lane]
        if isinstance(run.error, AgentKilled):
            self._crashed()
        elif run.error is not None:
            raise run.error
        elif run.result is not None:
            self._ended(run.result)
