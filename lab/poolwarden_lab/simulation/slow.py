"""Orders that take minutes, in virtual time: the production code blocks in them, the simulation does not.

Each slow order is carried out in a thread of its own, of which at most one runs at any instant, and never while the
simulation's loop does: whoever has the baton runs, the others wait. So two runs of one story are equal. As in
production two orders of one kind never overlap, and those of different kinds do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.hostside import Work
from poolwarden_agent.workers import MOST_WAITING
from poolwarden_lab.simulation.port import AgentKilled
from poolwarden_lab.xapi.actions import PeerResult
from poolwarden_lab.xapi.virtual import TIMEOUT, OnReply

Later = Callable[[int, Callable[[], None]], None]


class _Run:
    """One piece of work that may wait; ``resume`` is the loop's side, ``wait`` is the work's."""

    def __init__(self, kind: str, work: Callable[[], pb.OrderResult]) -> None:
        self.kind = kind
        self._work = work
        self._mine = threading.Semaphore(0)
        self._loops = threading.Semaphore(0)
        self._value: PeerResult | AgentKilled = TIMEOUT
        self.result: pb.OrderResult | None = None
        self.error: BaseException | None = None
        self.ended = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._my_turn()
            self.result = self._work()
        except BaseException as error:  # whatever it is, the loop must hear of it
            self.error = error
        self.ended = True
        self._loops.release()

    def resume(self, value: PeerResult | AgentKilled) -> None:
        self._value = value
        self._mine.release()
        self._loops.acquire()

    def wait(self) -> PeerResult:
        self._loops.release()
        return self._my_turn()

    def _my_turn(self) -> PeerResult:
        self._mine.acquire()
        if isinstance(self._value, AgentKilled):
            raise self._value
        return self._value


class SlowOrders:
    """The slow orders of one agent's life."""

    def __init__(
        self,
        later: Later,
        carry_out: Callable[[Work], pb.OrderResult],
        ended: Callable[[pb.OrderResult], None],
        crashed: Callable[[], None],
    ) -> None:
        self._later = later
        self._carry_out = carry_out
        self._ended = ended
        self._crashed = crashed
        self._waiting: dict[str, deque[Work]] = {}  # a kind is there while one of it runs
        self._runs: list[_Run] = []

    def give(self, work: Work) -> bool:
        """Take this order, unless too many of its kind are waiting."""
        kind = work.order.kind
        if kind not in self._waiting:
            self._waiting[kind] = deque()
            self._start(work)
        elif len(self._waiting[kind]) >= MOST_WAITING:
            return False
        else:
            self._waiting[kind].append(work)
        return True

    def end(self) -> None:
        """The agent is gone: whatever waits unwinds, and nothing is answered."""
        self._waiting.clear()
        runs, self._runs = self._runs, []
        for run in runs:
            run.resume(AgentKilled("the agent is gone"))

    def wait_for(self, begin: Callable[[OnReply], None], limit_ms: int) -> PeerResult:
        """The reply to what ``begin`` asks, after at most ``limit_ms``; outside of a slow order what comes at once."""
        run = next((run for run in self._runs if run.thread is threading.current_thread()), None)
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

    def _start(self, work: Work) -> None:
        run = _Run(work.order.kind, lambda: self._carry_out(work))
        self._runs.append(run)
        self._later(0, lambda: self._go_on(run, TIMEOUT))

    def _go_on(self, run: _Run, value: PeerResult) -> None:
        if run not in self._runs:
            return
        run.resume(value)
        if not run.ended:
            return
        self._runs.remove(run)
        waiting = self._waiting[run.kind]
        if waiting:
            self._start(waiting.popleft())
        else:
            del self._waiting[run.kind]
        if isinstance(run.error, AgentKilled):
            self._crashed()
        elif run.error is not None:
            raise run.error
        elif run.result is not None:
            self._ended(run.result)
