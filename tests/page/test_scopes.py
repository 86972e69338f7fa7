"""Who may see pool A alone learns nothing of pool B: no name, no number, no event, no entry, no file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.core.pool import POOL
from tests.shell.many import host_of, uuid_of

from poolwarden_collector.shell.page import live, streams
from poolwarden_collector.shell.page.users import UserFile

from .rig import Site, paged, two_pools
from .stories import failover_of, healed, write

pytestmark = pytest.mark.asyncio
NUMBER = re.compile(r"number=[0-9a-f]+")  # of a sheet: a hash of what it says
THEIRS = (POOL, "pool-0000", uuid_of(0), host_of(0, 1), failover_of(healed()))  # whatever names another's pool


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with paged(tmp_path, (*two_pools(), healed().pool)) as made:
        made.user("anna")
        made.user("customer", [uuid_of(1)])
        write(made.parts, healed(), name="of-another-customer")
        made.parts.service.roster.warn("pool-0000 is in this warning")
        yield made


async def test_what_is_not_his_is_on_no_page_of_a_customers(site: Site) -> None:
    paths = (
        "/", "/?level=critical", "/?level=waiting", "/?name=pool", "/?skip=1", f"/pools/{uuid_of(1)}", "/history",
        "/history?everything=1", "/alerts", "/alerts?everything=1", "/history/export.json", "/history/export.csv",
    )  # fmt: skip
    async with site.stranger() as all_seeing:
        await all_seeing.sign_in("anna")
        await site.sign_in("customer")
        for path in paths:  # first what is kept for who sees all, then what the customer is shown
            everything = await all_seeing.get(path)
            text = await site.get(path)
            for theirs in (*THEIRS, "of-another-customer"):
                assert theirs not in text, (path, theirs)
            if path in ("/", "/?name=pool"):
                assert "<b>1</b> pool<" in text and "3 of 3" not in text and "critical</a>" not in text
                assert "pool-0000" in everything
        assert "pool-0001" in await site.get("/")


async def test_the_address_of_anothers_pool_is_that_of_none(site: Site) -> None:
    await site.sign_in("customer")
    nobodys = "99999999-0000-4000-8000-000000000000"
    for form in (
        "/pools/{}", "/pools/{}?part=main", f"/pools/{{}}/failovers/{failover_of(healed())}", "/history?pool={}",
        "/alerts?pool={}", f"/pools/{{}}/failovers/{failover_of(healed())}/export.json", "/history/export.csv?pool={}",
    ):  # fmt: skip
        theirs, none = [NUMBER.sub("", await site.get(form.format(each), 404)) for each in (POOL, nobodys)]
        assert theirs.replace(POOL, nobodys) == none, form
    for form in (
        "/history?pool={}",
        "/alerts?pool={}",
        "/history/export.json?pool={}",
    ):  # by its name, and nearly by it
        theirs, none = [NUMBER.sub("", await site.get(form.format(each), 404)) for each in ("pool-0000", "pool-0009")]
        assert theirs.replace("pool-0000", "pool-0009") == none and "lab" not in re.sub(r"label", "", none), form
    mine = await site.get(f"/pools/{uuid_of(1)}/failovers/{failover_of(healed())}", 404)
    assert "no failover of that number" in mine


async def test_rights_that_are_taken_away_end_what_is_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT_S", 0.05)
    await site.sign_in("customer")
    async with site.web.get(f"{site.base}/events?page=pools") as events:
        assert events.status == 200
        assert (await events.content.readuntil(b"\n\n")).startswith(b"retry")
        site.user("customer", [uuid_of(0)])  # other pools, and (it is another password) another session
        async with asyncio.timeout(20):
            rest = await events.content.read()
        assert rest.endswith(b"event: gone\ndata: 1\n\n") and b"pool" not in rest
    await site.get("/", 303)
    await site.sign_in("customer")
    text = await site.get("/")
    assert "pool-0000" in text and "pool-0001" not in text
    UserFile(site.folder / "state").write({})
    await site.get("/?part=main", 403)


@pytest.mark.slow
async def test_a_customers_stream_tells_of_his_own_pools_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes elsewhere gives him no event: not even that, or when, something happens there."""
    monkeypatch.setattr(streams, "BEAT_S", 0.05)
    monkeypatch.setattr(live, "FRESH_S", 0.02)
    monkeypatch.setattr(live, "SHARE", 0)
    await site.sign_in("customer")
    number = ""
    async with site.web.get(f"{site.base}/?part=main") as reply:
        number = reply.headers["X-Sheet"]
    roster = site.parts.service.roster
    async with site.web.get(f"{site.base}/events?page=pools&number={number}") as events:
        pool = roster.pools[POOL]
        from dataclasses import replace

        roster.pools[POOL] = replace(pool, record=replace(pool.record, paused="works", name="changed"))
        heard = b""
        for _ in range(12):  # beats, in which the sheet is looked at anew
            heard += await events.content.readuntil(b"\n\n")
        assert b"event: state" not in heard
        mine = roster.pools[uuid_of(1)]
        roster.pools[uuid_of(1)] = replace(mine, record=replace(mine.record, paused="works"))
        async with asyncio.timeout(20):
            while b"event: state" not in heard:
                heard += await events.content.readuntil(b"\n\n")
