"""What each page shows, as values for its template: replies of the operator's interface, and their words (cli/pages).

Rules
-----
* Nothing here judges or counts anew: a verdict, a headline, a reason is what the interface says.
* What is dear to find and changes slowly (what would happen if the master died, copies, trends, earlier failovers) is
  found anew every ``SLOW_S`` seconds, and at once where the pool stands otherwise than it did: nothing that was found
  of a healthy pool stands beside its failover. While something goes on there it lasts ``HASTY_S`` seconds.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.pages.collectors import etcd_lines, how_they_stand, state_of
from poolwarden_collector.cli.pages.explanation import explain_page
from poolwarden_collector.cli.pages.hosts import host_notes, is_heard
from poolwarden_collector.cli.pages.journal import BOOKKEEPING, SEVERITY_TONES, alert_marks, body_lines
from poolwarden_collector.cli.pages.journal import delivery as delivery_line
from poolwarden_collector.cli.pages.plan import plan_page
from poolwarden_collector.cli.pages.pools import (
    STEP_WORDS,
    headline,
    lost_lines,
    paused_lines,
    question_lines,
    seconded_lines,
    todo_lines,
)
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.page import evidence, timeline
from poolwarden_collector.shell.page.asked import ROWS, Asked, NoPage
from poolwarden_collector.shell.page.asking import Asking, Viewer
from poolwarden_collector.shell.store.telemetry import Telemetry

SLOW_S, HASTY_S = 15.0, 2.0
_KEPT = 2_000  # slow answers
TREND_MS = 24 * 3_600_000
TOOK_ROLE = ("master-observed", "master-named", "promoted")
ENDINGS = ("closed", "aborted", "superseded", "decided")
PAST = 40  # entries that begin or end a failover
ENTRIES_MOST = 10_000  # of one failover
TESTS = 5


@dataclass(frozen=True, slots=True)
class Made:
    """What a template is given; ``level``: how grave it is, for the title and the icon."""

    template: str
    title: str
    values: dict[str, Any]
    level: str = "good"


class Views:
    """Makes pages for ``asking``'s collector."""

    def __init__(self, asking: Asking, telemetry: Telemetry, now: Callable[[], float] = time.monotonic) -> None:
        self._asking = asking
        self._telemetry = telemetry
        self._now = now
        self._slow: OrderedDict[tuple[Any, ...], tuple[float, Any]] = OrderedDict()
        self._made: dict[str, Callable[[Viewer, Asked], Awaitable[Made]]] = {
            "pools": self._pools,
            "pool": self._pool,
            "failover": self._failover,
            "history": self._history,
            "alerts": self._alerts,
            "collectors": self._collectors,
        }

    async def make(self, viewer: Viewer, asked: Asked) -> Made:
        """This page as it is now for this viewer. Raises Refused or NoPage."""
        return await self._made[asked.page](viewer, asked)

    async def entries(self, viewer: Viewer, asked: Asked) -> list[pb.HistoryEntry]:
        """Those of one failover, or of the history as it is filtered: what is exported. Raises Refused."""
        request = pb.HistoryRequest(pool=asked.pool, failover=asked.failover, limit=ENTRIES_MOST)
        if asked.page == "history":
            request = _history_request(asked, ENTRIES_MOST)
        reply, turns, found = await self._asking.ask(viewer, "History", request), self._asking.api.turns(), []
        for entry in reply.entries:  # a list of them at once would take the engine's time for thousands
            found.append(entry)
            await turns.rest()
        return found

    # ------------------------------------------------------------------------------------------------ all pools

    async def _pools(self, viewer: Viewer, asked: Asked) -> Made:
        levels = [asked.level] if asked.level else []
        request = pb.StatusRequest(
            overview=True, detailed=True, limit=ROWS, skip=asked.skip, levels=levels, name=asked.name, site=asked.site
        )
        reply = await self._asking.ask(viewer, "Status", request)
        together = reply.overview
        since_of = {line.pool_uuid: await self._master_since(viewer, line.pool_uuid, line.details.master_uuid)
                 for line in together.lines if line.details.master_uuid}  # fmt: skip
        worst = next((each.word for each in together.levels), "good")
        counts = {each.word: each.count for each in together.levels} | {"waiting": together.waiting}
        title = f"{together.waiting} waiting" if together.waiting else f"{together.pools} pools"
        values = {"reply": reply, "together": together, "since_of": since_of, "counts": counts, "rows": ROWS}
        return Made("pools.html", title, values, worst)

    async def _master_since(self, viewer: Viewer, pool: str, master: str) -> str:
        """When the present master took the role, by the journal; empty: it does not say."""

        async def find() -> str:
            request = pb.HistoryRequest(pool=pool, kinds=TOOK_ROLE, limit=1)
            found = (await self._asking.ask(viewer, "History", request)).entries
            return found[-1].at if found else ""

        return str(await self._slowly(viewer, ("since", pool, master), find, 600.0))

    # ------------------------------------------------------------------------------------------------ one pool

    async def _pool(self, viewer: Viewer, asked: Asked) -> Made:
        reply = await self._asking.ask(viewer, "Status", pb.StatusRequest(pool=asked.pool))
        pool = reply.pools[0]
        stands, lasts_s = _stands(pool), _lasts_s(pool)
        plan = await self._plan(viewer, pool)
        why = await self._why(viewer, pool)
        said = headline(pool)
        values = {
            **self._shared(reply, pool),
            "expected": {phase.name: phase.expected_ms for phase in plan.phases},
            "plan": plan_page(plan)[:-2],
            "outcome": plan.outcome,
            "why": explain_page(why)[1:],
            "copies": {copy.host_uuid: copy for copy in why.copies},
            "since_at": await self._master_since(viewer, pool.pool_uuid, pool.master_uuid) if pool.master_uuid else "",
            "trends": await self._slowly(viewer, ("trends", asked.pool), lambda: self._trends(pool), 60.0),
            "past": await self._slowly(
                viewer, ("past", asked.pool, stands), lambda: self._past(viewer, asked.pool), lasts_s
            ),
            "tests": await self._slowly(viewer, ("tests", asked.pool), lambda: self._tests(viewer, asked.pool)),
            "seen": {host.host_uuid: {probe.target_uuid: probe for probe in host.probes} for host in pool.hosts},
        }
        return Made("pool.html", f"{_name(pool)}: {said.text}", values, pool.situation.level)

    def _shared(self, reply: pb.StatusReply, pool: pb.PoolStatus) -> dict[str, Any]:
        """What the pages of a pool and of its open failover show alike."""
        now = pool.situation
        return {
            "reply": reply,
            "pool": pool,
            "name": _name(pool),
            "headline": headline(pool),
            "todo": todo_lines(now),
            "question": question_lines(pool.question, answers=not now.todo) if pool.HasField("question") else [],
            "seconded": seconded_lines(pool.seconded),
            "paused": paused_lines(pool) if pool.paused else [],
            "notes": host_notes(pool.hosts),
            "lost": lost_lines(pool, everything=True),
            "is_heard": is_heard,
            "step_words": STEP_WORDS,
            "severities": SEVERITY_TONES,
        }

    async def _plan(self, viewer: Viewer, pool: pb.PoolStatus) -> pb.PlanReply:
        async def find() -> pb.PlanReply:
            reply: pb.PlanReply = await self._asking.ask(viewer, "Plan", pb.PlanRequest(pool=pool.pool_uuid))
            return reply

        what = ("plan", pool.pool_uuid, _stands(pool))
        found: pb.PlanReply = await self._slowly(viewer, what, find, _lasts_s(pool))
        return found

    async def _why(self, viewer: Viewer, pool: pb.PoolStatus) -> pb.ExplainReply:
        async def find() -> pb.ExplainReply:
            reply: pb.ExplainReply = await self._asking.ask(viewer, "Explain", pb.ExplainRequest(pool=pool.pool_uuid))
            return reply

        what = ("explain", pool.pool_uuid, _stands(pool))
        found: pb.ExplainReply = await self._slowly(viewer, what, find, _lasts_s(pool))
        return found

    async def _trends(self, pool: pb.PoolStatus) -> dict[str, list[tuple[int, int]]]:
        """Free bytes of ``/`` of its hosts; nothing where telemetry cannot be read."""
        hosts = [host.host_uuid for host in pool.hosts]
        try:
            return await asyncio.to_thread(self._telemetry.trends, hosts, clock.wall_ms() - TREND_MS)
        except sqlite3.Error:
            return {}

    async def _past(self, viewer: Viewer, pool: str) -> list[timeline.Past]:
        request = pb.HistoryRequest(pool=pool, kinds=ENDINGS, limit=PAST)
        return timeline.past((await self._asking.ask(viewer, "History", request)).entries)

    async def _tests(self, viewer: Viewer, pool: str) -> list[pb.HistoryEntry]:
        request = pb.HistoryRequest(pool=pool, kinds=("drill-result",), limit=TESTS)
        return list((await self._asking.ask(viewer, "History", request)).entries)[::-1]

    # ------------------------------------------------------------------------------------------------ one failover

    async def _failover(self, viewer: Viewer, asked: Asked) -> Made:
        reply = await self._asking.ask(viewer, "Status", pb.StatusRequest(pool=asked.pool))
        pool, entries = reply.pools[0], _counted_anew(await self.entries(viewer, asked))
        if not entries:
            raise NoPage("the journal has no failover of that number in this pool")
        is_open = pool.HasField("failover") and pool.failover.id == asked.failover
        values = self._shared(reply, pool) | await asyncio.to_thread(timeline.story, entries, asked.at)
        values |= {"entries": entries, "is_open": is_open, "expected": {}, "why": [], "asked": asked}
        values["looks"] = await asyncio.to_thread(evidence.looks, entries)
        if is_open:
            plan = await self._plan(viewer, pool)
            values["expected"] = {phase.name: phase.expected_ms for phase in plan.phases}
            values["why"] = explain_page(await self._why(viewer, pool))[1:]
        title = f"{_name(pool)}: failover {asked.failover}"
        return Made("failover.html", title, values, pool.situation.level if is_open else "good")

    # ------------------------------------------------------------------------------------------------ journal, alerts

    async def _history(self, viewer: Viewer, asked: Asked) -> Made:
        reply = await self._asking.ask(viewer, "History", _history_request(asked, ROWS))
        entries, more = list(reply.entries)[::-1], len(reply.entries) == ROWS and not asked.kind
        shown = [entry for entry in entries if asked.everything or asked.kind or entry.kind not in BOOKKEEPING]
        values = {
            "entries": shown,
            "folded": len(entries) - len(shown),
            "older": entries[-1].seq if more and not reply.asked else 0,
            # Of several collectors each counts its entries itself.
            "older_until": entries[-1].at.removesuffix("Z") if more and reply.asked else "",
            "missing": reply.asked,
            "asked": asked,
            "kinds": KINDS,
        }
        return Made("history.html", "History", values)

    async def _alerts(self, viewer: Viewer, asked: Asked) -> Made:
        request = pb.AlertsRequest(pool=asked.pool, open_only=not asked.everything, limit=ROWS)
        reply = await self._asking.ask(viewer, "Alerts", request)
        found = reply.alerts
        shown = [
            (alert, body_lines(alert), alert_marks(alert, indent=0), [delivery_line(each) for each in alert.deliveries])
            for alert in found
        ]
        worst = min((SEVERITIES.index(each.severity) for each in found if each.severity in SEVERITIES), default=3)
        values = {"alerts": shown, "asked": asked, "rows": ROWS, "severities": SEVERITY_TONES, "missing": reply.asked}
        return Made("alerts.html", "Alerts", values, (*SEVERITIES, "good")[worst] if not asked.everything else "good")

    # ------------------------------------------------------------------------------------------------ collectors

    async def _collectors(self, viewer: Viewer, _asked: Asked) -> Made:
        told: pb.CollectorsReply = await self._asking.ask(viewer, "Collectors", pb.CollectorsRequest())
        level = {"bad": "critical", "warn": "warning"}.get(how_they_stand(told), "good")
        rows = [(each, state_of(each, told.assigner)) for each in told.collectors]
        values = {"told": told, "rows": rows, "etcd": etcd_lines(told), "level": level, "most": POOLS_OF_ONE}
        return Made("collectors.html", "Collectors", values, level)

    # ------------------------------------------------------------------------------------------------ kept for a while

    async def _slowly(
        self, viewer: Viewer, what: tuple[Any, ...], find: Callable[[], Awaitable[Any]], lasts_s: float = SLOW_S
    ) -> Any:
        """What was found within ``lasts_s``, for whoever may see the same pools; else it is found now."""
        # safety: by the viewer's own scope: what was found for one who sees more is never shown to one who sees less.
        key = (viewer.scope, *what)
        known = self._slow.get(key)
        if known is not None and self._now() < known[0]:
            return known[1]
        found = await find()
        if viewer.scope != key[0]:
            return found
        self._slow[key] = (self._now() + lasts_s, found)
        self._slow.move_to_end(key)
        while len(self._slow) > _KEPT:
            self._slow.popitem(last=False)
        return found


SEVERITIES = ("critical", "warning", "info")
KINDS = tuple(sorted(kind.value for kind in Kind))
POOLS_OF_ONE = 200  # of one collector that are named


def _stands(pool: pb.PoolStatus) -> tuple[Any, ...]:
    """How the pool stands, without the ages: what was found of it is of the past where this has changed."""
    steps = tuple((step.name, step.state) for step in pool.failover.steps) if pool.HasField("failover") else ()
    hosts = tuple((host.host_uuid, host.power, host.xapi, is_heard(host)) for host in pool.hosts)
    asked = pool.question.id if pool.HasField("question") else ""
    now = (pool.verdict, pool.mode, pool.paused, pool.term, pool.master_uuid, pool.failover.id, pool.failover.blocked)
    return (*now, steps, hosts, asked)


def _lasts_s(pool: pb.PoolStatus) -> float:
    """For how long what was found of it is shown."""
    goes_on = pool.HasField("failover") or pool.HasField("question") or pool.situation.level == "critical"
    return HASTY_S if goes_on else SLOW_S


def _counted_anew(entries: list[pb.HistoryEntry]) -> list[pb.HistoryEntry]:
    """In one row where several collectors have recorded them, each with numbers of its own."""
    if len({entry.collector for entry in entries}) > 1:
        for number, entry in enumerate(entries, 1):
            entry.seq = number
    return entries


def _name(pool: pb.PoolStatus) -> str:
    return pool.name or pool.pool_uuid


def _history_request(asked: Asked, limit: int) -> pb.HistoryRequest:
    if asked.kind and not asked.pool:
        raise NoPage("entries of one kind are looked for in one pool: choose the pool as well")
    return pb.HistoryRequest(
        pool=asked.pool,
        kinds=[asked.kind] if asked.kind else [],
        since=_instant(asked.since),
        until=_instant(asked.until),
        before_seq=asked.before,
        limit=limit,
    )


def _instant(text: str) -> str:
    """As the interface wants it: in UTC, as every time on the page is."""
    return f"{text.replace(' ', 'T')}{'' if len(text) > 10 else 'T00:00'}Z" if text else ""
