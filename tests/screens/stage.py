"""Pages of the command line as they come out of a story: the simulated pools, production's core, replies and pages.

A screen is a file below ``stories``: why it exists, a story (tests/scenarios/README.md), and below ``--- COMMAND`` what
that command prints at 80 columns at the story's end. ``python -m tests.screens.stage`` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.layout import Page, as_text
from poolwarden_collector.cli.pages.plan import plan_page
from poolwarden_collector.cli.pages.pools import status_page
from poolwarden_collector.cli.pages.readiness import readiness_page
from poolwarden_collector.cli.pages.watch import watch_page
from poolwarden_collector.core.model.entries import Kind
from poolwarden_collector.core.report.journal_view import JournalView, PastChange
from poolwarden_collector.core.report.plan import plan
from poolwarden_collector.core.report.status import status
from poolwarden_collector.core.report.weaknesses import readiness
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.shell.operators import replies
from poolwarden_collector.shell.operators.names import Names
from poolwarden_lab.story import play
from poolwarden_lab.story.stage import Stage
from poolwarden_lab.story.text import read_text
from poolwarden_lab.virtual.world.network import COLLECTOR

STORIES = Path(__file__).parent / "stories"
DOCUMENT = Path(__file__).parents[2] / "docs/screens.md"
MARK = "--- "


class Screens:
    """The simulated world at the end of a story, as the command line sees it."""

    def __init__(self, name: str, story: str) -> None:
        cast, steps = play.read(read_text(name, story))
        self.stage = Stage(cast)
        for step in steps:
            self.stage.line = step.line
            play.do(self.stage, step)
        assert not self.stage.problems, self.stage.problems
        shell = self.stage.world.stations[COLLECTOR].shell
        assert shell is not None
        self.shell = shell

    def status_reply(self, wanted: str = "") -> pb.StatusReply:
        shell, now = self.shell, self.stage.world.now
        uuids = [Names(shell.pools, {}).pool(wanted)] if wanted else list(shell.pools)
        reply = pb.StatusReply(collector_name="watch-1", version="0.1.0", epoch=1 << 20, up_ms=3_700_000)
        reply.pools.extend(replies.pool_status(status(shell.pools[uuid], now, shell.site(uuid))) for uuid in uuids)
        return reply

    def status(self, *words: str) -> Page:
        """``poolwarden status [POOL] [--all]``."""
        pool = next((word for word in words if word != "--all"), "")
        return status_page(self.status_reply(pool), everything="--all" in words)

    def readiness(self, wanted: str = "") -> Page:
        """``poolwarden readiness [POOL]``."""
        reply = pb.ReadinessReply()
        for uuid in [Names(self.shell.pools, {}).pool(wanted)] if wanted else list(self.shell.pools):
            pool = Snapshot(self.shell.pools[uuid], self.stage.world.now, self.shell.site(uuid))
            reply.pools.append(replies.readiness(pool.pool, readiness(pool, self._past(uuid))))
        return readiness_page(reply)

    def plan_reply(self, wanted: str) -> pb.PlanReply:
        uuid = Names(self.shell.pools, {}).pool(wanted)
        pool, now = self.shell.pools[uuid], self.stage.world.now
        return replies.plan(pool, plan(pool, now, self.shell.site(uuid), self._past(uuid)))

    def plan(self, wanted: str) -> Page:
        """``poolwarden plan POOL``."""
        return plan_page(self.plan_reply(wanted))

    def watch(self, wanted: str) -> Page:
        """``poolwarden watch POOL``, at this instant."""
        plan = self.plan_reply(wanted)
        return watch_page(self.status_reply(wanted), {plan.pool_uuid: {p.name: p.expected_ms for p in plan.phases}})

    def _past(self, uuid: str) -> JournalView:
        """As the operator's interface reads it from the journal; every change of a story was just now."""
        ends = [entry for entry in self.shell.ledger.entries(uuid) if entry.kind is Kind.CLOSED]
        return JournalView(tuple(PastChange(0, False, entry.data["durations_ms"]) for entry in reversed(ends)))


COMMANDS: dict[str, Callable[..., Page]] = {
    "plan": Screens.plan,
    "readiness": Screens.readiness,
    "status": Screens.status,
    "watch": Screens.watch,
}


def parts(path: Path) -> tuple[str, list[str]]:
    """The story, and the commands whose pages follow it."""
    story, *pages = path.read_text().split(f"\n{MARK}")
    return story, [page.split("\n", 1)[0] for page in pages]


def render(path: Path) -> str:
    """The whole file anew: the story and each of its pages as it comes out now."""
    story, commands = parts(path)
    screens = Screens(path.stem, story)
    found = [story]
    for command in commands:
        verb, *words = command.removeprefix("poolwarden ").split()
        page = as_text(COMMANDS[verb](screens, *words))
        found.append(f"{MARK}{command}\n{page}\n")
    return "\n".join(found)


def in_document(text: str) -> str:
    """The document with the first page of each screen that it names."""

    def page(found: re.Match[str]) -> str:
        shown = (STORIES / f"{found[1]}.txt").read_text().split(f"\n{MARK}")[1]
        return f"<!-- screen: {found[1]} -->\n```\n$ {shown}```"

    return re.sub(r"<!-- screen: (\S+) -->\n```\n.*?```", page, text, flags=re.DOTALL)


def main() -> None:
    """Write every screen and story of alerts, or those that are named, and the documents that show them."""
    for path in sorted(STORIES.glob("*.txt")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            path.write_text(render(path))
    DOCUMENT.write_text(in_document(DOCUMENT.read_text()))
    from . import alerts

    for path in sorted(alerts.ALERTS.glob("*.txt")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            path.write_text(alerts.render(path))
    alerts.SHOWN.write_text(alerts.in_document(alerts.SHOWN.read_text()))


if __name__ == "__main__":
    main()
