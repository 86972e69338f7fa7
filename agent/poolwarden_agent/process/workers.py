"""Threads for slow orders: one per kind while there is something of that kind to do, and none otherwise. For the runs
of fence agents the kind is the lane, one per device (fence_runs.py).

xapi may take minutes over some orders (it asks every host of the pool in turn); an order to promote or to stop must not
wait for that. Two orders of one kind never run at once: the gate keeps one mark and one result per kind.
"""

import collections
import threading
from typing import Any, Callable, Deque, Dict

MOST_WAITING = 20  # per kind; one that waits too long expires at the gate


class Workers(object):
    """Give it work; ``carry_out`` is called with each, in threads that end when nothing is left."""

    def __init__(self, carry_out: Callable[[Any], None]) -> None:
        self._carry_out = carry_out
        self._lock = threading.Lock()
        self._waiting: Dict[str, Deque[Any]] = {}  # a kind is there while its thread lives

    def give(self, kind: str, work: Any) -> bool:
        """Take this work, unless too much of its kind is waiting."""
        with self._lock:
            waiting = self._waiting.get(kind)
            if waiting is not None:
                if len(waiting) >= MOST_WAITING:
                    return False
                waiting.append(work)
                return True
            self._waiting[kind] = collections.deque([work])
        thread = threading.Thread(target=self._drain, args=(kind,))
        thread.daemon = True
        thread.start()
        return True

    def _drain(self, kind: str) -> None:
        while True:
            with self._lock:
                if not self._waiting[kind]:
                    del self._waiting[kind]
                    return
                work = self._waiting[kind].popleft()
            self._carry_out(work)
