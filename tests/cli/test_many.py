"""Many pools: one screen of the worst, what narrows it, pages of JSON; also of a collector that knows none of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.collector import Collector
from poolwarden_collector.cli.layout import as_text
from poolwarden_collector.cli.many import overviewed
from poolwarden_collector.cli.pages.watch import changes
from poolwarden_collector.cli.settings import Settings
from poolwarden_collector.cli.watch import BUSY_SHOWN, Watch

from .conftest import Said
from .fake_collector import HOSTS, FakeCollector, a_host, healthy_status
from .test_json import held_against

Call = Callable[..., Said]


def many(fake: FakeCollector, count: int, lost: int = 0, silent: int = 0, *, pages: bool) -> None:
    """So many pools, of which ``lost`` wait for a person; ``pages``: the collector knows overviews and pages."""
    del fake.status.pools[:]
    fake.status.ClearField("overview")
    for number in range(count):
        pool = healthy_status().pools[0]
        pool.pool_uuid, pool.name = f"{number:08d}-0000-4000-8000-000000000001", f"pool-{number:04d}"
        if number < lost:
            pool.verdict, pool.situation.level = "MasterVanished", "critical"
            pool.situation.headline = "MASTER LOST: WAITING FOR YOU"
            pool.failover.blocked = "BLOCKED_NEEDS_HUMAN"
            pool.alerts.add(severity="critical", title=f"{pool.name}: master lost")
            pool.hosts[0].CopyFrom(a_host(1, place="last master", heard=False, agent_connected=False))
        elif number < lost + silent:
            pool.verdict, pool.situation.level = "MemberVanished", "warning"
            pool.situation.headline = "host-3 is silent, and its xapi is not reached"
        fake.status.pools.append(pool)
    fake.pages = pages
    if pages:
        whole = api.StatusReply()
        whole.CopyFrom(fake.status)
        fake.status.overview.CopyFrom(overviewed(whole, api.StatusRequest(overview=True, few=1_000_000)).overview)


@pytest.fixture(params=[True, False], ids=["knows-pages", "older"])
def pages(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_status_of_very_many_is_one_screen(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 400, lost=3, silent=30, pages=pages)
    lines = poolwarden("status").out.splitlines()
    assert len(lines) <= 36 and max(map(len, lines)) <= 80
    assert lines[:6] == [
        "400 pools: 3 critical, 30 warning, 367 healthy",
        "  waiting for a person: 3; nothing goes on there before somebody answers or acts",
        "  hosts: 1197 of 1200 are heard",
        "  verdicts: 367 Healthy, 30 MemberVanished, 3 MasterVanished",
        "  open alerts: 3 critical (poolwarden alerts)",
        "",
    ]
    rows = [line.partition(" ")[0] for line in lines if line.startswith("pool-")]
    assert rows == [f"pool-{number:04d}" for number in range(10)]
    text = " ".join(lines)
    assert "without a line here: 23 not well (--limit 33), 367 healthy (--limit 0)" in text
    assert "poolwarden status pool-0000 shows one pool" in text


def test_one_pool_together(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 1, pages=pages)
    lines = poolwarden("status", "--overview").out.splitlines()
    assert lines[0] == "1 pool: 1 healthy" and "without a line here: 1 healthy (--limit 0)" in lines


def test_long_names_stay_within_the_width(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 40, lost=3, pages=pages)
    for number, each in enumerate([*fake.status.pools[:3], *fake.status.overview.lines[:3]]):
        each.name = f"the pool of a customer with a very long name number {number % 3}, {'x' * 60}"
    lines = poolwarden("status").out.splitlines()
    assert max(map(len, lines)) <= 80 and sum("2/3" in line for line in lines) == 3


def test_a_full_inbox_has_a_line(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.inbox_age_ms, fake.status.inbox_events = 999, 12
    assert "inbox:" not in poolwarden("status").out
    assert "inbox: 12 events wait for the engine, the oldest for 1.0 s" in poolwarden("status", "--all").out
    fake.status.inbox_age_ms = 3_200
    assert "inbox: 12 events wait for the engine, the oldest for 3.2 s" in poolwarden("status").out


def test_watch_of_very_many_shows_the_worst_and_what_is_under_way(fake: FakeCollector, pages: bool) -> None:
    many(fake, 200, lost=8, pages=pages)
    with Collector(Settings()) as collector:
        seen = Watch(collector, "")
        text = as_text(seen.page())
    assert text.startswith("200 pools: 8 critical, 192 healthy")
    assert len(seen.reply.pools) == BUSY_SHOWN and seen.asked is None
    told: dict[str, tuple[str, ...]] = {}
    assert len({line.partition("  ")[0] for line in changes(seen.reply, told)}) == 200
    assert changes(seen.reply, told) == []


def test_as_many_lines_as_are_asked_for(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 40, lost=1, silent=2, pages=pages)
    for limit, rows in ((None, 3), (2, 2), (0, 40)):
        words = () if limit is None else ("--limit", str(limit))
        out = poolwarden("status", *words).out
        assert sum(line.startswith("pool-") for line in out.splitlines()) == rows, limit


def test_thirty_pools_look_as_they_always_did(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 30, lost=1, pages=pages)
    lines = poolwarden("status").out.splitlines()
    assert lines[1].startswith("pool-0000  MASTER LOST: WAITING FOR YOU") and lines[3].startswith("29 healthy: pool-")
    assert "30 pools: 1 critical, 29 healthy" in poolwarden("status", "--overview").out


def test_all_of_them_whole_page_by_page(fake: FakeCollector, poolwarden: Call) -> None:
    many(fake, 250, pages=True)
    out = poolwarden("status", "--all").out
    assert [f"pool-{number:04d}  healthy" in out for number in (0, 99, 100, 249)] == [True] * 4
    assert [each.after[:8] for each in fake.asked] == ["", "00000099", "00000199"]


def test_what_narrows_is_asked_for_and_held_against_an_older_collectors_reply(
    fake: FakeCollector, poolwarden: Call
) -> None:
    many(fake, 60, lost=2, silent=3, pages=False)
    for words in (("--verdict", "mastervanished"), ("--name", "OOL-000", "--verdict", "MasterVanished")):
        found = poolwarden("status", "--json", *words).json["pools"]
        assert [pool["name"] for pool in found] == ["pool-0000", "pool-0001"], words
    assert poolwarden("status", "--name", "gold").out.startswith("no pool is like that")
    poolwarden("status", "--name", "x", "--verdict", "Healthy", "--verdict", "Suspect", "--site", "south")
    asked = fake.asked[-1]
    assert (asked.name, list(asked.verdicts), asked.site) == ("x", ["Healthy", "Suspect"], "south")


@pytest.mark.slow
def test_json_is_everything_or_a_page(fake: FakeCollector, poolwarden: Call) -> None:
    many(fake, 120, pages=True)
    whole = poolwarden("status", "--json").json
    held_against("status", whole)
    assert (len(whole["pools"]), whole["next"], whole["overview"]) == (120, "", None)
    seen, after = [], ()
    while True:
        page = poolwarden("status", "--json", "--limit", "50", *after).json
        held_against("status", page)
        seen += [pool["name"] for pool in page["pools"]]
        if not page["next"]:
            break
        after = ("--page", page["next"])
    assert seen == [pool["name"] for pool in whole["pools"]]
    together = poolwarden("status", "--json", "--overview").json
    held_against("status", together)
    assert together["pools"] == [] and together["overview"]["pools"] == 120


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("demo", "--limit", "3"), "demo is one pool"),
        (("demo", "--name", "x"), "demo is one pool"),
        (("--page", "x"), "--page is of --json"),
        (("--json", "--overview", "--page", "x"), "--page is of --json"),
        (("--overview", "--all"), "exclude each other"),
    ],
)
def test_what_means_nothing_together_is_refused(
    fake: FakeCollector, poolwarden: Call, words: tuple[str, ...], said: str
) -> None:
    refused = poolwarden("status", *words)
    assert refused.status == 2 and said in refused.err and not fake.asked


def test_check_names_some_and_counts_the_rest(fake: FakeCollector, poolwarden: Call, pages: bool) -> None:
    many(fake, 100, pages=pages)
    assert poolwarden("status", "--check").status == 0
    many(fake, 100, lost=30, silent=1, pages=pages)
    said = poolwarden("status", "--check")
    assert said.status == 1 and "and 11 more" in said.err
    assert "pool-0000: MASTER LOST: WAITING FOR YOU (verdict MasterVanished), 1 critical alerts are open" in said.err
    many(fake, 100, silent=1, pages=pages)
    assert poolwarden("status", "--check").status == 1 and poolwarden("status", "--check=critical").status == 0


def test_other_commands_ask_for_no_more_than_they_need(fake: FakeCollector, poolwarden: Call) -> None:
    many(fake, 200, lost=2, pages=True)
    assert "which pool? There are 200: pool-0000" in poolwarden("explain").err
    assert "pools: 200" in poolwarden("check", "collector").out
    assert all(each.overview for each in fake.asked if isinstance(each, api.StatusRequest))
    poolwarden("host", "show", HOSTS[0])
    assert fake.asked[-1].host == HOSTS[0] and fake.asked[-1].limit


def test_a_name_that_very_many_hosts_have(fake: FakeCollector, poolwarden: Call) -> None:
    many(fake, 200, pages=False)
    said = poolwarden("host", "show", "host-1")
    assert said.status == 2 and len(said.err) < 2_500 and "and others" in said.err
