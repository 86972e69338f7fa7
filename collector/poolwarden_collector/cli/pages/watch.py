"""`poolwarden watch`: a pool as it stands now, a failover step by step; and the same as lines, one per change."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from poolwarden_collector.cli.layout import Line, Page, Table
from poolwarden_collector.cli.many import line_of
from poolwarden_collector.cli.pages.hosts import hosts_table
from poolwarden_collector.cli.pages.overview import overview_page
from poolwarden_collector.cli.pages.pools import STEP_WORDS, headline, overview, pool_page, todo_lines
from poolwarden_collector.cli.words import span

if TYPE_CHECKING:
    from poolwarden.v1 import operator_pb2 as api

Expected = Mapping[str, int]  # of a step, by its name, ms
END = "Ctrl-C ends"
ONE_BY_ONE = 2
WORST = 10  # lines of the overview


def watch_page(reply: "api.StatusReply", expected: Mapping[str, Expected], trouble: str = "") -> Page:
    """What is shown now; ``expected`` by the pool's UUID; ``trouble``: why it is old."""
    page: Page = [Line(trouble, "bad")] if trouble else []
    many = len(reply.pools) > ONE_BY_ONE or reply.overview.pools > len(reply.pools)
    if reply.overview.pools > len(reply.pools):
        page += overview_page(reply.overview, WORST)
    elif many:
        page += [*overview(sorted(reply.pools, key=lambda pool: pool.name)), Line()]
    for pool in reply.pools:
        if pool.HasField("failover"):
            page += [*failover_page(pool, expected.get(pool.pool_uuid, {})), Line()]
        elif not many:
            page += [*pool_page(pool), Line()]
    waits = reply.overview.waiting if reply.overview.pools > len(reply.pools) else 0
    asked = [pool for pool in reply.pools if pool.HasField("question")]
    keys = "y: say yes (the host's name is typed then)   n: say no   " if len(asked) == 1 and waits <= 1 else ""
    return [*page, Line(f"{keys}{END}", "dim")]


def failover_page(pool: "api.PoolStatus", expected: Expected) -> Page:
    """The open failover: how long it has taken, each step, what runs on, what to do, the hosts."""
    failover, said = pool.failover, headline(pool)
    age = f"T+{failover.silent_ms // 1000} s"
    page: Page = [Line(said.text, said.tone, label=f"{pool.name or pool.pool_uuid}  ", right=age)]
    page += [watch_step(step, expected) for step in failover.steps]
    if failover.blocked:
        page += [Line(text, "warn", indent=2) for text in pool.situation.lines]
    if pool.HasField("question"):
        page.append(Line(pool.question.text, "bad", indent=2, label="QUESTION: "))
    if pool.situation.vms:
        page.append(Line(pool.situation.vms, indent=2, label="VMs: "))
    page += todo_lines(pool.situation)
    table: Table = hosts_table(pool.hosts, indent=2)
    return [*page, table]


def watch_step(step: "api.FailoverStep", expected: Expected) -> Line:
    """``NOW  3.2 s  h3 becomes master (about 17 s, at most 2 min)``."""
    word, tone = STEP_WORDS.get(step.state, (step.state, ""))
    took = span(step.took_ms) if step.took_known else "?" if step.state != "next" else ""
    usual = expected.get(step.name, 0) if step.state != "done" else 0
    parts = [f"about {span(usual)}"] if usual else []
    parts += [f"at most {span(step.at_most_ms)}"] if step.state == "now" and step.at_most_ms else []
    more = f" ({', '.join(parts)})" if parts else ""
    return Line(f"{step.text}{more}", tone, indent=2, label=f"{word:<4} {took:>6}  ")


def changes(reply: "api.StatusReply", told: dict[str, tuple[str, ...]]) -> list[str]:
    """What is new since the last time, a line each; ``told`` remembers, by the pool's UUID, what was said."""
    found = []
    whole = {pool.pool_uuid: pool for pool in reply.pools}
    for each in reply.overview.lines or [line_of(pool) for pool in reply.pools]:
        pool = whole.get(each.pool_uuid)
        now = (headline(pool).text, *_steps(pool), *pool.situation.todo) if pool is not None else (each.headline,)
        before = told.get(each.pool_uuid, ())
        found += [f"{each.name or each.pool_uuid}  {text}" for text in now if text not in before]
        told[each.pool_uuid] = now
    return found


def _steps(pool: "api.PoolStatus") -> list[str]:
    if not pool.HasField("failover"):
        return []
    said = []
    for step in pool.failover.steps:
        took = f" {span(step.took_ms)}" if step.state == "done" and step.took_known else ""
        if step.state != "next":
            said.append(f"{STEP_WORDS[step.state][0]}{took}  {step.text}")
    return said
