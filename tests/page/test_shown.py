"""What the pages say: what the command line says, of every pool, whatever it is called."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.core.pool import POOL, Guarded
from tests.shell.many import host_of, uuid_of

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.cli.layout import Line
from poolwarden_collector.cli.pages.journal import COPIED
from poolwarden_collector.cli.pages.plan import plan_page
from poolwarden_collector.cli.pages.pools import todo_lines
from poolwarden_collector.shell.operators.access import EVERYTHING, Caller
from poolwarden_collector.shell.page import asked, evidence, export, views
from poolwarden_collector.shell.page.asking import LOOKS, Asking, Refused, Viewer

from .rig import Site, paged, two_pools
from .stories import HOSTILE, failover_of, healed, renamed, write

pytestmark = pytest.mark.asyncio
ME = Viewer(Caller("anna", "anna", "a test"), lambda: EVERYTHING, "anna")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with paged(tmp_path, (*two_pools(), healed().pool)) as made:
        made.user("anna")
        await made.sign_in("anna")
        write(made.parts, healed())
        yield made


def words(text: str) -> str:
    """What a person reads of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


async def test_all_pools_stand_the_worst_first_with_what_the_list_promises(site: Site) -> None:
    text = await site.get("/")
    shown = re.findall(r'id="p-([0-9a-f-]+)"', text)
    assert shown == [uuid_of(0), POOL, uuid_of(1)]
    said = words(text)
    assert "1 waiting for a person" in said and "MASTER LOST: WAITING FOR YOU" in said and "none; last host-1" in said
    assert "no: master host-1 has no fence device" in said and "failover under way" in said
    assert "host-3 is silent" in said and "2 of 3" in said
    row = words(text.partition(f'id="p-{POOL}"')[2].partition("</tr>")[0])
    assert "since 20" in row  # when the master took the role, by the journal


async def test_the_list_is_narrowed_by_name_and_state_and_counts_go_on(site: Site) -> None:
    text = words(await site.get("/?level=critical"))
    assert "pool-0000" in text and "pool-0001" not in text and "3 pools" in text and "1 to 1 of 1" in text
    assert "pool-0001" in await site.get("/?name=POOL-0001") and "pool-0000" not in await site.get("/?name=0001")
    assert "No pool has such a name" in await site.get("/?name=nothing-like-it")
    for wrong in (
        "/?level=x",
        "/?skip=-1",
        "/?skip=1e9",
        "/history?since=yesterday",
        "/history?kind=decided",
        "/pools/x",
    ):
        assert re.search(r"status\": 4|cannot be shown", await site.get(wrong, 404)), wrong


async def test_many_pools_have_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ROWS", 2)
    first, second = await site.get("/"), await site.get("/?skip=2")
    assert re.findall(r'id="p-([0-9a-f-]+)"', first) == [uuid_of(0), POOL] and 'href="?skip=2"' in first
    assert re.findall(r'id="p-([0-9a-f-]+)"', second) == [uuid_of(1)] and 'rel="next"' not in second


async def test_a_pool_says_what_the_command_line_says(site: Site) -> None:
    text = words(await site.get(f"/pools/{uuid_of(0)}"))
    asking = Asking(site.parts.operators)
    pool = (await asking.ask(ME, "Status", pb.StatusRequest(pool=uuid_of(0)))).pools[0]
    plan = plan_page(await asking.ask(ME, "Plan", pb.PlanRequest(pool=uuid_of(0))))
    lines = [*todo_lines(pool.situation), *plan[:-2]]
    for sentence in (
        pool.situation.headline,
        *pool.situation.lines,
        *(step.text for step in pool.failover.steps),
        *pool.not_ready,
        *(line.text for line in lines if isinstance(line, Line)),
    ):
        assert " ".join(sentence.split()) in text, sentence
    assert "poolwarden confirm-fenced host-1" in text and "Who sees whom" in text


async def test_nobody_is_told_to_be_ready_while_a_failover_is_under_way(tmp_path: Path) -> None:
    pool = Guarded()
    pool.cut_power()
    while pool.pool.record.failover is None:
        pool.run(1_000)
    async with paged(tmp_path, (pool.pool,)) as site:
        site.parts.service.roster.now = lambda: pool.now  # type: ignore[method-assign]
        site.user("anna")
        await site.sign_in("anna")
        for path in ("/", f"/pools/{POOL}"):
            assert "no: a failover is under way" in await site.get(path), path


async def test_nothing_that_was_found_of_a_healthy_pool_stands_beside_its_failover(tmp_path: Path) -> None:
    """What is dear to find is kept for a while, and not for a moment longer than it is true."""
    pool = Guarded()
    pool.run(90_000)
    before, now = pool.pool, pool.now
    pool.cut_power()
    while pool.pool.record.failover is None:
        pool.run(1_000)
    async with paged(tmp_path, (before,)) as site:
        roster = site.parts.service.roster
        roster.now = lambda: now  # type: ignore[method-assign]
        site.user("anna")
        await site.sign_in("anna")
        site.parts.journal.commit(POOL, pool.journal[:1])
        text = words(await site.get(f"/pools/{POOL}"))
        assert "healthy: host-1 is master" in text and "reads OFF" not in text and "It is lost already" not in text
        roster.pools[POOL], now = pool.pool, pool.now
        site.parts.journal.commit(POOL, pool.journal[1:])
        site.page._live._kept.clear()  # a second later
        text = words(await site.get(f"/pools/{POOL}"))
        assert "FAILOVER of host-1 under way" in text and "It is lost already" in text
        assert "now: FAILOVER of host-1 under way" in text and "now: healthy" not in text
        assert "fence device power of host-1 reads OFF" in text and "The journal has none" not in text


@pytest.mark.parametrize(
    ("pool", "hasty"),
    [
        (pb.PoolStatus(situation=pb.Situation(level="good")), False),
        (pb.PoolStatus(situation=pb.Situation(level="warning")), False),
        (pb.PoolStatus(situation=pb.Situation(level="critical")), True),
        (pb.PoolStatus(situation=pb.Situation(level="warning"), question=pb.Question(id="x")), True),
        (pb.PoolStatus(situation=pb.Situation(level="warning"), failover=pb.FailoverStatus(id="x")), True),
    ],
)
async def test_what_is_kept_is_found_anew_sooner_where_something_goes_on(pool: pb.PoolStatus, hasty: bool) -> None:
    assert views._lasts_s(pool) == (views.HASTY_S if hasty else views.SLOW_S)


async def test_a_command_stands_alone_where_it_is_copied_from(site: Site) -> None:
    text = await site.get(f"/pools/{uuid_of(0)}") + await site.get("/alerts?everything=1")
    commands = [html.unescape(each) for each in re.findall(r"<code>(.*?)</code>", text)]
    assert any(each.startswith("poolwarden confirm-fenced") for each in commands)
    assert all(re.match(r"(poolwarden|xe|systemctl) ", each) for each in commands)
    assert not [each for each in commands if " tells " in each]
    from poolwarden_collector.shell.page.rendering import typed

    assert typed("yes: poolwarden approve x-1.2 --yes") == ("yes:", "poolwarden approve x-1.2 --yes")
    assert typed("no: poolwarden deny x-1.2") == ("no:", "poolwarden deny x-1.2")
    assert typed("nothing yet; do not power host-1 on") == ("nothing yet; do not power host-1 on", "")
    assert typed("yes: it is so") == ("yes: it is so", "")


async def test_a_failover_shows_on_what_it_was_decided_and_what_proved_it(site: Site) -> None:
    text = words(await site.get(f"/pools/{POOL}/failovers/{failover_of(healed())}"))
    shown = text.partition("Evidence and proof")[2]
    assert "decided: failover" in shown and "host-2 probe" in shown and "silent for" in shown
    assert "bmc-1 read off, and off, 4.0 s apart (fake; fake)" in shown


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[1]",
        '{"evidence": 1, "facts": [2]}',
        '{"evidence": [1, {}, {"age_ms": "x", "text": [3]}, {"age_ms": true}, {"age_ms": -5}]}',
        '{"facts": {"readings": [1, {"first": 2, "second": {"text": {"a": 1}}}, {"first": {"ended_ms": "x"}}]}}',
    ],
)
async def test_what_an_entry_of_another_release_holds_is_shown_as_far_as_it_is_known(data: str) -> None:
    entries = [pb.HistoryEntry(kind=kind, data=data) for kind in ("decided", "verdict", "proof", "closed")]
    assert all(look.page for look in evidence.looks(entries))


async def test_entries_that_came_with_a_pool_are_marked_on_the_timeline_and_in_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = site.page._views.entries

    async def came(viewer: Viewer, wanted: asked.Asked) -> list[pb.HistoryEntry]:
        found = await real(viewer, wanted)
        for entry in found[:3]:
            entry.copied = True
        return found

    path = f"/pools/{POOL}/failovers/{failover_of(healed())}"
    assert " copied" not in await site.get(path) and "hollow" not in await site.get(path)
    monkeypatch.setattr(site.page._views, "entries", came)
    site.page._live._kept.clear()
    text = await site.get(path)
    marks = re.findall(r'<circle class="mark [a-z]+( copied)?" data-seq="(\d+)".*?<title>(.*?)</title>', text)
    seqs = re.findall(r'<tr data-seq="(\d+)"', text)
    assert {seq for copied, seq, _ in marks if copied} <= set(seqs[:3]) and any(copied for copied, _, _ in marks)
    assert all((COPIED in said) == bool(copied) for copied, _, said in marks)
    assert "3 of them came with the pool" in words(text)
    then = words((await site.get(f"{path}?at={seqs[1]}")).partition('class="then">')[2].partition("</output>")[0])
    assert then.startswith("after ") and then.endswith(COPIED)
    then = words((await site.get(f"{path}?at={seqs[4]}")).partition('class="then">')[2].partition("</output>")[0])
    assert COPIED not in then
    rows = json.loads(await site.get(f"{path}/export.json"))
    assert [row["copied"] for row in rows[:4]] == [True, True, True, False]
    table = list(csv.DictReader(io.StringIO(await site.get(f"{path}/export.csv"))))
    assert [row["copied"] for row in table[:4]] == ["True", "True", "True", "False"]


async def test_a_pool_is_chosen_by_its_name_as_well(site: Site) -> None:
    assert re.findall(r'class="kind">([^<]*)<', await site.get("/history?pool=lab&kind=closed")) == ["closed"]
    assert "Died:" in words(await site.get("/alerts?everything=1&pool=lab"))
    assert "there is no pool" in await site.get("/history?pool=nowhere", 404)
    assert '<option value="closed">' in await site.get("/history")


async def test_a_matrix_says_who_sees_whom(site: Site) -> None:
    text = await site.get(f"/pools/{uuid_of(1)}")
    rows = re.search(r'class="matrix">.*?</table>', text, re.DOTALL)
    assert rows is not None
    cells = [words(row) for row in re.findall(r"<tr>(.*?)</tr>", rows[0], re.DOTALL)]
    assert cells[0] == "from / to host-1 host-2 host-3"
    assert cells[2] == "host-2 answered counts itself no answer"


async def test_a_failover_is_told_as_a_timeline_that_can_be_moved_through(site: Site) -> None:
    pool, number = healed(), failover_of(healed())
    text = await site.get(f"/pools/{POOL}")
    assert f"/pools/{POOL}/failovers/{number}" in text and "closed" in words(text)
    path = f"/pools/{POOL}/failovers/{number}"
    whole = await site.get(path)
    told = [entry for entry in pool.journal if entry.failover]
    seqs = [int(each) for each in re.findall(r'<tr data-seq="(\d+)"', whole)]
    assert len(seqs) == len(told) and seqs == sorted(seqs) and 'class="later"' not in whole
    assert all(" ".join(entry.text.split()) in words(whole) for entry in told)
    then = await site.get(f"{path}?at={seqs[3]}")
    later = [int(each) for each in re.findall(r'<tr data-seq="(\d+)" data-ms="\d+" class="later"', then)]
    assert later == seqs[4:]
    assert f"?at={seqs[2]}#time" in then and f"?at={seqs[4]}#time" in then
    assert await site.get(f"/pools/{POOL}/failovers/x-9", 404)


async def test_an_open_failover_shows_what_is_waited_for_and_the_command(tmp_path: Path) -> None:
    lost = two_pools()[0]
    async with paged(tmp_path, (lost,)) as site:
        site.user("anna")
        await site.sign_in("anna")
        failover = lost.record.failover
        assert failover is not None
        entries = [entry for entry in healed().journal if entry.failover][:3]
        from dataclasses import replace

        site.parts.journal.commit(uuid_of(0), [replace(entry, failover=failover.id) for entry in entries])
        text = words(await site.get(f"/pools/{uuid_of(0)}/failovers/{failover.id}"))
        assert "NOW" in text and "waits for proof that host-1 is off" in text and "about 3.0 s" in text
        assert "poolwarden confirm-fenced host-1" in text


async def test_an_export_holds_each_entry(site: Site) -> None:
    path = f"/pools/{POOL}/failovers/{failover_of(healed())}"
    told = [entry for entry in healed().journal if entry.failover]
    rows = json.loads(await site.get(f"{path}/export.json"))
    assert [row["text"] for row in rows] == [entry.text for entry in told]
    table = list(csv.DictReader(io.StringIO(await site.get(f"{path}/export.csv"))))
    assert [row["kind"] for row in table] == [entry.kind.value for entry in told]
    await site.get(f"{path}/export.xml", 404)
    assert len(json.loads(await site.get(f"/history/export.json?pool={POOL}"))) == len(healed().journal)


async def test_no_cell_of_a_table_is_a_formula() -> None:
    texts = ("=1+1", "+1", "-1", "@x", "\n=1", "\uff1d1+1", "plain")
    _, body = export.as_csv(pb.HistoryEntry(text=text, kind="x") for text in texts)
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert [row["text"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@x", "'\n=1", "'\uff1d1+1", "plain"]


async def test_history_is_filtered_and_paged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    text = await site.get(f"/history?pool={POOL}&kind=closed")
    assert re.findall(r'class="kind">([^<]*)<', text) == ["closed"]
    assert "no such entries" in await site.get("/history?since=2001-01-01&until=2001-01-02")
    assert "closed" in await site.get("/history?since=2001-01-01 12:00")
    monkeypatch.setattr(views, "ROWS", 5)
    first = await site.get("/history?everything=1")
    older = re.search(r'href="(/history\?[^"]*before=\d+[^"]*)"', first)
    assert older is not None
    times = re.findall(r"<tr><td[^>]*><time", await site.get(html.unescape(older[1])))
    assert len(times) == 5


async def test_alerts_show_their_lines_and_who_was_told(site: Site) -> None:
    text = words(await site.get("/alerts?everything=1"))
    assert "Died:" in text and "You:" in text and "open" in text


async def test_hostile_names_are_text_on_every_page(tmp_path: Path) -> None:
    first, second = (renamed(pool) for pool in two_pools())
    healthy = renamed(healed().pool)
    async with paged(tmp_path, (first, second, healthy)) as site:
        site.user("anna")
        await site.sign_in("anna")
        write(site.parts, healed(), name=HOSTILE)
        number = failover_of(healed())
        for path in (
            "/", f"/?name={HOSTILE[:9]}", f"/pools/{uuid_of(0)}", f"/pools/{uuid_of(1)}", f"/pools/{POOL}",
            f"/pools/{POOL}/failovers/{number}", "/history?everything=1", "/alerts?everything=1",
            f"/pools/{host_of(0, 1)}", "/sign-in?to=/%3Cscript%3E",
        ):  # fmt: skip
            async with site.web.get(f"{site.base}{path}") as reply:
                text = await reply.text()
            assert "<script>alert" not in text and "onload='y'" not in text, path
            assert "\u202e" not in text and "\u0007" not in text and str(7 * 191) not in text, path
            if reply.status == 200 and "sign-in" not in path:
                assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "w" * 100 in text, path


async def test_nothing_but_what_looks_is_asked(site: Site) -> None:
    for method in ("Command", "Reload", "TestAlerts", "Doctor", "Audit", "Decision", "TryFence"):
        with pytest.raises(Refused):
            await Asking(site.parts.operators).ask(ME, method, None)
    from poolwarden_collector.shell.operators import access

    assert not any(access.RULES[f"{access.OPERATOR}/{method}"].changes for method in LOOKS)


async def test_a_page_is_named_by_what_its_links_have() -> None:
    every = asked.Asked("history", pool=POOL, kind="closed", since="2026-01-01", before=7, everything=True)
    assert asked.asked("history", {}, every.options()) == every
    assert every.options(before=0).get("before") is None


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("pool", {}),
        ("failover", {"pool": POOL}),
        ("pools", {"skip": "999999999999999"}),
        ("pools", {"skip": "-1"}),
        ("history", {"before": "9" * 16}),
    ],
)
async def test_what_no_link_of_ours_asks_for_is_no_page_and_no_fault(page: str, query: dict[str, str]) -> None:
    with pytest.raises(asked.NoPage):
        asked.asked(page, {name: query[name] for name in ("pool", "failover") if name in query}, query)
