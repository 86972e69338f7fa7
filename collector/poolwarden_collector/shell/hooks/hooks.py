"""Runs hooks: programs of the operator's, for what the journal has queued (shell/store/hook_queue.py).

Rules
-----
* At least once: an attempt counts when what it came to is committed. A collector that dies meanwhile runs the hook
  again with the same ``id``; one that was started before may still be running then.
* One run at a time in a pool, pools beside each other; nothing here is waited for by the engine or by alerts.
* A hook is run as a fence agent is (shell/fencing/agent_run.py): no shell, a minimal environment, ``/`` as its folder,
  a session of its own, its group killed at the limit. It reads one JSON object from stdin. Exit status 0: done.
* What came of it is in the journal: each success, the first failure, the one that raises the alert, and the giving up.
  The alert is over when that hook has succeeded in that pool, or is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

from poolwarden_collector.core.catalogue.hosts import HOOK_FAILED
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.hooks import HookSettings
from poolwarden_collector.shell.fencing.agent_run import run_program
from poolwarden_collector.shell.hooks import queue_order, trust
from poolwarden_collector.shell.hooks.trust import Hook
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.queue.lookout import Lookout, Pauses
from poolwarden_collector.shell.store.hook_queue import DONE, GIVEN_UP, HookEvent, HookRun, Outcome
from poolwarden_collector.shell.store.journal import Journal, JournalError, Row

TOLD_AT = 3  # failures in a row after which somebody is told
# After what came of a run could not be noted: longer with each time, so that a full disk does not run hooks for ever.
_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0

_log = logging.getLogger(__name__)

Write = Callable[..., Awaitable[Any]]  # runs a journal call in the one writer thread
# The same of a pool, with the entries and alerts that the call writes: Service.record.
Record = Callable[..., Awaitable[Any]]


class Hooks:
    """Runs what ``journal`` holds; ``settings`` are asked for each time, ``committed`` is told the rows of each run."""

    def __init__(
        self,
        journal: Journal,
        settings: Callable[[], HookSettings],
        write: Write,
        committed: Callable[[list[Row]], None],
        on_alert: Callable[[], None] = lambda: None,
        record: Record | None = None,
    ) -> None:
        self._record = record or (lambda _pool, _entries, _alerts, call, *about: write(call, *about))
        self._journal = journal
        self._settings = settings
        self._write = write
        self._committed = committed
        self._on_alert = on_alert
        self._lookout = Lookout("hooks", self._look, JournalError)
        self._begun = False
        self._reread = False
        self._failing: dict[str, tuple[PoolId, str]] = {}  # open alerts: pool and hook
        self._pauses = Pauses(_PAUSE_S, _LONGEST_PAUSE_S)  # after runs of which nothing could be noted

    def start(self) -> None:
        self._lookout.start()

    async def stop(self) -> None:
        """Run nothing more; what is under way is killed, and run again at the next start."""
        await self._lookout.stop()

    def nudge(self) -> None:
        """There is something new."""
        self._lookout.nudge()

    async def pools_have_changed(self) -> None:
        """Pools have come with what their hooks came to until now, or have gone with it."""
        self._reread = True
        self.nudge()

    async def _look(self) -> bool:
        """Begin what is due; does anything wait that needs nothing new to become due?"""
        if not self._begun:
            await self._write(self._journal.revive_hooks)
            self._begun = True
            self._reread = True
        if self._reread:
            self._reread = False
            self._failing = await self._write(self._journal.failing_hooks, HOOK_FAILED.id)
        busy = set(self._lookout.busy)  # before it is read: what ends meanwhile is not in what was read
        events: list[HookEvent] = await self._write(self._journal.hook_events)
        if not events and not self._failing:
            return False
        settings = self._settings()
        hooks = await asyncio.to_thread(_hooks_of, settings)
        await self._end_alerts_of_gone(hooks)
        for pool, found in groupby(sorted(events, key=lambda event: (event.pool, event.id)), lambda event: event.pool):
            if pool in busy:
                continue
            waiting = list(found)
            for event in queue_order.are_over(waiting, hooks):
                await self._write(self._journal.hook_event_over, event.id)
                waiting.remove(event)
            if (due := queue_order.next_run(waiting, hooks, clock.wall_ms())) is not None:
                event, hook = due
                self._lookout.begin(pool, self._attempt(event, hook, event is waiting[-1], settings.limit_ms))
        return True

    async def _end_alerts_of_gone(self, hooks: Sequence[Hook]) -> None:
        names = {hook.name for hook in hooks}
        for key, (pool, hook) in tuple(self._failing.items()):
            if hook not in names:
                over = AlertResolved(key, f"there is no hook {hook} any more")
                self._committed(await self._record(pool, (), (over,), self._journal.hook_gone, pool, over))
                del self._failing[key]
                self._on_alert()

    async def _attempt(self, event: HookEvent, hook: Hook, is_last: bool, limit_ms: int) -> None:
        try:
            before, began = event.run_of(hook.name), clock.mono_ms()
            succeeded, said = await _run_once(event, hook, before.attempts + 1, limit_ms)
            run = queue_order.after(before, succeeded, is_last, clock.wall_ms())
            if not succeeded:
                _log.warning("hook %s for %s in pool %s: %s", hook.name, event.event, event.pool, said)
            outcome = outcome_of(event, hook, run, said, clock.mono_ms() - began, key_of(event, hook) in self._failing)
            called = event.pool, (), outcome.alerts, self._journal.hook_ran, event, hook.name, outcome
            self._committed(await self._record(*called))
            self._note_alerts(event, hook, outcome)
            self._pauses.over(event.pool)
        except Exception as error:
            pause = self._pauses.next_s(event.pool)
            _log.error("hook %s: what came of it cannot be noted: %s; again in %g s", hook.name, error, pause)
            await asyncio.sleep(pause)

    def _note_alerts(self, event: HookEvent, hook: Hook, outcome: Outcome) -> None:
        for alert in outcome.alerts:
            if isinstance(alert, AlertRaised):
                self._failing[alert.key] = (event.pool, hook.name)
            else:
                self._failing.pop(alert.key, None)
        if outcome.alerts:
            self._on_alert()


def _hooks_of(settings: HookSettings) -> tuple[Hook, ...]:
    return trust.look(settings.directory).hooks if settings.directory is not None else ()


async def _run_once(event: HookEvent, hook: Hook, attempt: int, limit_ms: int) -> tuple[bool, str]:
    """One attempt: did it succeed, and what is to be said of it, in one line without control characters."""
    if hook.refusal:
        return False, f"not run: {printable(hook.refusal)}"
    given = json.dumps({**event.payload, "attempt": attempt}).encode()
    run = await run_program([str(hook.path)], given, limit_ms / 1000)
    said = printable(run.text)
    if run.started and run.code and said != f"exit status {run.code}":
        said = f"exit status {run.code}: {said}"
    return run.code == 0, said


def key_of(event: HookEvent, hook: Hook) -> str:
    """The key of the alert about this hook in this pool."""
    return f"{event.pool}/hook-{hook.name}"


def outcome_of(event: HookEvent, hook: Hook, run: HookRun, said: str, took_ms: int, told: bool) -> Outcome:
    """What is remembered, journaled and told of an attempt; ``told``: there is an open alert about this hook."""
    pool, succeeded = event.payload["pool"]["name"], run.status == DONE
    often = f" at attempt {run.attempts}" if run.attempts > 1 else ""
    if succeeded:
        text = f"hook {hook.name} ran for {event.event}{often}: {said}"
    elif run.status == GIVEN_UP:
        text = f"hook {hook.name} is given up for {event.event} after {run.attempts} attempts: {said}"
    else:
        text = f"hook {hook.name} failed for {event.event}{often}: {said}; it is tried again"
    data = {
        "hook": hook.name,
        "event": event.event,
        "id": event.payload["id"],
        "status": run.status,
        "attempts": run.attempts,
    }
    entry = Entry(Kind.HOOK_RAN, text, {**data, "took_ms": took_ms, "said": said})
    worth = succeeded or run.status == GIVEN_UP or run.attempts in (1, TOLD_AT)
    alerts: tuple[AlertRaised | AlertResolved, ...] = ()
    if succeeded and told:
        alerts = (AlertResolved(key_of(event, hook), f"hook {hook.name} has succeeded for {event.event}"),)
    elif not succeeded and not told and (run.attempts >= TOLD_AT or run.status == GIVEN_UP):
        alerts = (_failed(pool, event, hook, run, said),)
    return Outcome(run, said, (entry,) if worth else (), alerts)


def _failed(pool: str, event: HookEvent, hook: Hook, run: HookRun, said: str) -> AlertRaised:
    master = event.payload["master"] or {}
    words = {
        "pool": pool,
        "hook": hook.name,
        "event": event.event,
        "attempts": str(run.attempts),
        "why": said,
        "master": master.get("name") or "not known",
        "address": master.get("address") or "address not known",
    }
    told = HOOK_FAILED.told(words)
    facts: dict[str, object] = {"pool": pool, "message": told.id, "hook": hook.name, "event": event.event}
    return AlertRaised(key_of(event, hook), told.severity, told.title, told.body(f"{event.event}: {said}"), facts)
