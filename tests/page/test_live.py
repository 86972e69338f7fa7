"""A page is made once for all who see the same, told when it says something else, and never for more than its share."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.shell.many import uuid_of

from poolwarden_collector.shell.operators.access import EVERYTHING, Caller
from poolwarden_collector.shell.operators.turns import SLICE_S, Turns
from poolwarden_collector.shell.page import leaving, live, server, streams
from poolwarden_collector.shell.page.asked import Asked
from poolwarden_collector.shell.page.asking import Viewer
from poolwarden_collector.shell.page.views import Made

from .rig import Site, paged, two_pools

pytestmark = pytest.mark.asyncio
ME = Viewer(Caller("anna", "anna", "a test"), lambda: EVERYTHING, "anna")
POOLS = Asked("pools")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with paged(tmp_path, two_pools()) as made:
        made.user("anna")
        await made.sign_in("anna")
        yield made


class Counted:
    """Views that count how often they are asked; ``says`` is what they show."""

    def __init__(self) -> None:
        self.made, self.says = 0, "one"

    async def make(self, viewer: Viewer, asked: Asked) -> Made:
        self.made += 1
        await asyncio.sleep(0)
        return Made("trouble.html", "t", {"text": self.says})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(site: Site, views: Counted, clock: Clock) -> live.Live:
    return live.Live(views, site.page._rendering, site.parts.operators.turns, clock)  # type: ignore[arg-type]


async def test_a_page_is_made_once_a_second_for_all_who_see_the_same(site: Site) -> None:
    views, clock = Counted(), Clock()
    one = kept(site, views, clock)
    sheets = await asyncio.gather(*(one.sheet(ME, POOLS) for _ in range(50)))
    assert views.made == 1 and len({sheet.number for sheet in sheets}) == 1
    clock.now += 1.1
    await one.sheet(ME, POOLS)
    assert views.made == 2
    scoped = replace(
        ME, rights=lambda: replace(EVERYTHING, grants=((EVERYTHING.grants[0][0], frozenset({uuid_of(1)})),))
    )
    await one.sheet(scoped, POOLS)
    assert views.made == 3  # it is another one for who sees other pools
    await one.stop()


async def test_what_is_dear_to_make_is_made_more_seldom(site: Site) -> None:
    clock = Clock()

    class Dear(Counted):
        async def make(self, viewer: Viewer, asked: Asked) -> Made:
            clock.now += 0.2
            return await super().make(viewer, asked)

    views = Dear()
    one = kept(site, views, clock)
    await one.sheet(ME, POOLS)
    clock.now += 3.9  # of twenty times 0.2 s
    await one.sheet(ME, POOLS)
    assert views.made == 1
    clock.now += 0.2
    await one.sheet(ME, POOLS)
    assert views.made == 2


async def test_all_that_are_watched_take_half_of_the_time_at_most(site: Site) -> None:
    one = kept(site, Counted(), Clock())
    async with contextlib.AsyncExitStack() as watching:
        for number in range(live.TOGETHER):
            await watching.enter_async_context(one.watched(ME, replace(POOLS, skip=number)))
        assert one._pause_s(0.2) == pytest.approx(4.0) and one._pause_s(0.001) == live.FRESH_S
        for number in range(300):
            await watching.enter_async_context(one.watched(ME, replace(POOLS, name=f"n{number}")))
        assert (live.TOGETHER + 300) * 0.2 / one._pause_s(0.2) <= 0.5
    await one.stop()


async def test_who_watches_is_told_of_another_number_and_ages_are_no_change(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FRESH_S", 0.02)
    monkeypatch.setattr(live, "SHARE", 0)
    sheet = await site.page._live.sheet(ME, POOLS)
    site.parts.service.roster.now = lambda: 73_000 + 400  # type: ignore[method-assign]
    async with site.page._live.watched(ME, POOLS) as other_than:
        waiting = asyncio.ensure_future(other_than(sheet.number))
        pool = site.parts.service.roster.pools[uuid_of(1)]
        # But for the ages everything is as it was.
        later = await site.page._live._make(ME, POOLS)
        assert later.number == sheet.number and later.html != sheet.html
        assert not waiting.done()
        site.parts.service.roster.pools[uuid_of(1)] = replace(pool, record=replace(pool.record, paused="works"))
        async with asyncio.timeout(20):
            assert await waiting != sheet.number


async def test_ages_in_sentences_are_no_change_either(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each page of a pool would be fetched by everybody whenever what is kept of it is found anew."""
    pool = Asked("pool", pool=uuid_of(1))
    now = 73_000
    site.parts.service.roster.now = lambda: now  # type: ignore[method-assign]
    sheet = await site.page._live._make(ME, pool)
    now += 1_900
    site.page._views._slow.clear()
    later = await site.page._live._make(ME, pool)
    ages = [re.findall(r"\d+(?:\.\d)? s ago", each.html) for each in (sheet, later)]
    assert ages[0] and ages[0] != ages[1] and later.number == sheet.number
    assert "host-1" in live._AGES.sub("", "host-1 s") and live._AGES.sub("", "term 2 s, 3 hosts") == "term , 3 hosts"


async def test_streams_are_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_OF_ONE", 2)
    address = f"{site.base}/events?page=pools"
    async with site.web.get(address) as one, site.web.get(address) as two:
        assert one.status == two.status == 200
        async with site.web.get(address) as three:
            assert three.status == 503
        monkeypatch.setattr(streams, "MOST", 2)
        monkeypatch.setattr(streams, "MOST_OF_ONE", 9)
        async with site.web.get(address) as three:
            assert three.status == 503
    async with asyncio.timeout(20):
        while len(site.page.streams):
            await asyncio.sleep(0.01)


async def test_sheets_that_nobody_watches_make_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 4)
    views, clock = Counted(), Clock()
    one = kept(site, views, clock)
    for number in range(20):
        await one.sheet(ME, replace(POOLS, skip=number))
    assert len(one._kept) <= 4


async def test_big_sheets_make_room_sooner(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    views, clock = Counted(), Clock()
    one = kept(site, views, clock)
    length = len((await one.sheet(ME, POOLS)).html)
    monkeypatch.setattr(live, "MOST_TEXT", 3 * length + 99)
    for number in range(20):
        await one.sheet(ME, replace(POOLS, skip=number))
    assert 3 <= len(one._kept) <= 5


async def test_a_fault_is_shown_as_one_and_told_in_the_log_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("of a secret kind")

    monkeypatch.setattr(site.page._views, "make", broken)
    text = await site.get("/", 500)
    assert "a fault of the collector" in text and "secret" not in text and "of a secret kind" in caplog.text


async def test_every_part_of_a_long_page_gives_the_engine_its_turn(site: Site) -> None:
    """By the slices' own clock, on which each part takes a whole one."""
    passed, rests = 0.0, 0

    def clock() -> float:
        nonlocal passed
        passed += SLICE_S
        return passed

    class Seen(Turns):
        async def rest(self) -> None:
            nonlocal rests
            rests += 1
            await super().rest()

    rendering = site.page._rendering
    reply = (await site.page._views.make(ME, POOLS)).values
    reply["together"].lines.extend([reply["together"].lines[0]] * 200)
    text = await rendering.text("pools.html", {**reply, "asked": POOLS, "made_at": ""}, Seen(lambda: 0, clock))
    assert text.count("MASTER LOST") >= 200 and rests > 400
    assert server.CONNECTIONS.most > streams.MOST


async def test_a_long_page_is_looked_through_in_portions_and_to_its_end() -> None:
    rests: list[int] = []

    class Seen(Turns):
        async def rest(self) -> None:
            rests.append(1)

    line = f'{"x" * 1_000} <span class="ago">7.1 s</span>\n'
    text = line * 400
    number = await live._number(text, Seen(lambda: 0))
    assert len(rests) > 8 and number == await live._number(text.replace("7.1 s", "9 min"), Seen(lambda: 0))
    for other in (text[:-1] + "y", "y" + text, text.replace("x", "y", 1), text + "y", text + "\n" + "x" * 99_999):
        assert await live._number(other, Seen(lambda: 0)) != number


async def test_one_person_does_not_take_the_others_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()

    async def slow(*_: object) -> Made:
        await gate.wait()
        return Made("trouble.html", "t", {"text": "made"})

    monkeypatch.setattr(leaving, "OF_ONE", 2)
    monkeypatch.setattr(site.page._views, "make", slow)
    asked = [asyncio.ensure_future(site.get(f"/?skip={number}")) for number in range(2)]
    async with asyncio.timeout(20):
        while len(site.page._leaving) < 2:
            await asyncio.sleep(0)
    assert "are being made already" in await site.get("/?skip=9", 503)
    gate.set()
    assert all("made" in text for text in await asyncio.gather(*asked))
    assert not len(site.page._leaving)


@pytest.mark.slow
async def test_who_reads_nothing_holds_no_more_than_his_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts until it has been taken; what is not taken in time is ended."""

    async def big(*_: object) -> Made:
        return Made("trouble.html", "t", {"text": "x" * (16 << 20)})

    monkeypatch.setattr(leaving, "OF_ONE", 2)
    monkeypatch.setattr(site.page._views, "make", big)
    async with site.web.get(f"{site.base}/?skip=1") as one, site.web.get(f"{site.base}/?skip=2") as two:
        assert one.status == two.status == 200  # their heads alone are read
        assert "are being made already" in await site.get("/alerts", 503)
        monkeypatch.setattr(leaving, "OF_ONE", 9)
        monkeypatch.setattr(leaving, "MOST_BYTES", 40 << 20)
        assert "read slowly" in await site.get("/?skip=1", 503)
        assert len(await one.read()) > 16 << 20
        assert len(await two.read()) > 16 << 20
    monkeypatch.setattr(leaving, "TAKEN_WITHIN_S", 0.05)
    async with site.web.get(f"{site.base}/?skip=3") as three:
        assert three.status == 200
        async with asyncio.timeout(20):
            while len(site.page._leaving):
                await asyncio.sleep(0.01)
        with pytest.raises(aiohttp.ClientError):
            await three.read()
    monkeypatch.setattr(leaving, "TAKEN_WITHIN_S", 60.0)
    await site.get("/?skip=4")


async def test_a_head_alone_is_given_where_it_is_asked_for(site: Site) -> None:
    async with site.web.head(f"{site.base}/") as reply:
        assert reply.status == 200 and int(reply.headers["Content-Length"]) > 1_000 and not await reply.read()
    assert "pool-0000" in await site.get("/") and not len(site.page._leaving)


async def test_what_takes_too_long_is_said_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> Made:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(server, "ANSWER_WITHIN_S", 0.05)
    monkeypatch.setattr(site.page._views, "make", never)
    assert "too much to do" in await site.get("/", 503)
