"""Threads that probe peers: never two probes of one target at once, and no more threads than are needed.

A peer that does not answer holds its thread for the whole limit of a probe. Threads are daemons: a probe under way
never keeps the agent from stopping.
"""

import queue
import threading
from typing import Any, Callable, Dict, Optional, Set

from poolwarden_agent.process import log

MOST = 16
BUSY_MS = 250


class Probers(object):
    """Starts each target's probe when it is due. ``start_due`` belongs to one thread."""

    def __init__(self, probe: Callable[[str, str], Any], ended: Optional[Callable[[], Any]] = None) -> None:
        """``ended`` is called, in a prober's thread, whenever none is under way any more."""
        self._probe = probe
        self._ended = ended
        self._due_ms: Dict[str, int] = {}
        self._busy: Set[str] = set()
        self._jobs = queue.Queue()  # type: queue.Queue
        self._idle = threading.Semaphore(0)
        self._threads = 0

    @property
    def busy(self) -> bool:
        """Is a probe under way?"""
        return bool(self._busy)

    def start_due(self, targets: Dict[str, str], now_ms: int, interval_ms: int, early_ms: int = 0) -> int:
        """Start what is due, or will be within ``early_ms``; when the next one will be due, in ms."""
        for host in set(self._due_ms) - set(targets):
            del self._due_ms[host]
        for host, address in targets.items():
            if host not in self._busy and now_ms + early_ms >= self._due_ms.get(host, 0):
                self._due_ms[host] = now_ms + interval_ms
                self._busy.add(host)
                self._start(host, address)
        soon = now_ms + BUSY_MS  # whatever is under way is looked after again then
        dues = [max(due, soon) if host in self._busy else due for host, due in self._due_ms.items()]
        return min(dues) if dues else now_ms + interval_ms

    def _start(self, host: str, address: str) -> None:
        if not self._idle.acquire(False) and self._threads < MOST:
            self._threads += 1
            thread = threading.Thread(target=self._work)
            thread.daemon = True
            thread.start()
        self._jobs.put((host, address))

    def _work(self) -> None:
        while True:
            host, address = self._jobs.get()
            try:
                self._probe(host, address)
            except Exception as error:
                log.say("probing %s failed: %s: %s" % (address, type(error).__name__, error), "probe")
            self._busy.discard(host)
            self._idle.release()
            if self._ended is not None and not self._busy:
                self._ended()
