"""Which hook is run next in a pool, and which occasions are over.

Rules
-----
* Occasions of a pool in their order, for each occasion the hooks in the order of their names.
* A hook that is not through with an earlier occasion waits with the later ones; other hooks go on, and what was never
  tried goes before what is tried again.
* Retries come after 1, 2, 4 .. s, at most 5 min. A hook is given up for an occasion after ``ATTEMPTS`` (about a day);
  after ``ATTEMPTS_BEHIND`` where a later occasion of its pool waits, which says what is so now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from poolwarden_collector.shell.hooks.trust import Hook
from poolwarden_collector.shell.store.hook_queue import DONE, GIVEN_UP, WAITS, HookEvent, HookRun

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 300_000
ATTEMPTS = 300
ATTEMPTS_BEHIND = 5


def next_run(events: Sequence[HookEvent], hooks: Sequence[Hook], now: int) -> tuple[HookEvent, Hook] | None:
    """What is due in a pool at ``now`` (wall time, ms); None: nothing. ``events``: of that pool, oldest first."""
    begun: set[str] = set()  # hooks that are not through with an earlier occasion
    due = []
    for event in events:
        for hook in hooks:
            run = event.run_of(hook.name)
            if run.over or hook.name in begun:
                continue
            begun.add(hook.name)
            # A wall clock that was set back must not postpone a try beyond the longest retry.
            if run.next_try_ms <= now or run.next_try_ms > now + LAST_RETRY_MS:
                due.append((event, hook))
    return min(due, key=lambda each: _waited(*each), default=None)


def _waited(event: HookEvent, hook: Hook) -> tuple[bool, int]:
    """What was never tried goes first: hooks that hang again and again would leave it no turn."""
    run = event.run_of(hook.name)
    return run.attempts > 0, run.next_try_ms


def are_over(events: Iterable[HookEvent], hooks: Sequence[Hook]) -> list[HookEvent]:
    """The occasions with which no hook has anything left to do."""
    return [event for event in events if all(event.run_of(hook.name).over for hook in hooks)]


def after(run: HookRun, succeeded: bool, is_last: bool, now: int) -> HookRun:
    """What one more attempt makes of it; ``is_last``: no later occasion of its pool waits."""
    attempts = run.attempts + 1
    if succeeded:
        return HookRun(DONE, attempts)
    if attempts >= (ATTEMPTS if is_last else ATTEMPTS_BEHIND):
        return HookRun(GIVEN_UP, attempts)
    return HookRun(WAITS, attempts, now + min(LAST_RETRY_MS, FIRST_RETRY_MS << min(run.attempts, 16)))
