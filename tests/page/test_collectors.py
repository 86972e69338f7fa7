"""Several collectors on the page: who is there, whose part of a page is missing, and nothing of it with one alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.shell.many import uuid_of
from tests.shell.several import PlayedEtcd, PlayedNeighbours

from .rig import paged, two_pools
from .test_shown import words

pytestmark = pytest.mark.asyncio
FAR = "aaaaaaaa-0000-4000-8000-00000000000f"


@pytest.mark.slow
async def test_with_one_collector_that_is_said_in_one_line(tmp_path: Path) -> None:
    async with paged(tmp_path, two_pools()) as site:
        site.user("anna")
        await site.sign_in("anna")
        assert "/collectors" not in await site.get("/")
        assert "is the only collector: it keeps its records in SQLite" in words(await site.get("/collectors"))


@pytest.mark.slow
async def test_who_is_there_and_what_is_missing(tmp_path: Path) -> None:
    async with paged(tmp_path, two_pools()) as site:
        silent: Any = SimpleNamespace(parts=SimpleNamespace(service=SimpleNamespace(roster=SimpleNamespace(pools={}))))
        own: Any = SimpleNamespace(parts=site.parts)
        etcd = PlayedEtcd({"test": own, "hall-c": silent}, elsewhere={"hall-c": "127.0.0.1:1"}, owners={FAR: "hall-c"})
        etcd.advised[uuid_of(1)] = "hall-c"
        neighbours = PlayedNeighbours("test", etcd)
        neighbours.stays[uuid_of(1)] = "a failover is open"
        site.parts.operators.join(neighbours)
        site.user("anna")
        site.user("carl", pools=[uuid_of(1)])
        await site.sign_in("anna")
        lacks = "collector hall-c does not answer: the pool that it owns is missing here: nobody answers at 127.0.0.1:1"
        for path in ("/", "/alerts", "/history"):
            text = await site.get(path)
            assert lacks in words(text) and 'href="/collectors"' in text, path
        assert "Collector test" in words(await site.get(f"/pools/{uuid_of(0)}"))
        said = words(await site.get("/collectors"))
        assert "collector hall-c does not answer: nobody answers at 127.0.0.1:1 do:" in said
        assert "1 4.2 s ago" in said, "of whom is silent also the age of what etcd has of him"
        assert "is to go to hall-c , stays for now: a failover is open" in said
        assert "http://192.0.2.21:2379" in said and "3.4.23, 2.0 MiB, leads" in said
        # Who sees some pools sees these, and of etcd nothing.
        etcd.away = True
        async with site.stranger() as other:
            await other.sign_in("carl")
            said = words(await other.get("/collectors"))
            assert "etcd cannot be looked at, so nobody is known to act" in said
            assert FAR not in said and "192.0.2.21" not in said and uuid_of(0) not in said
            assert "knows more" in said and "no endpoint answers" not in said


async def test_how_many_agents_a_collector_has_is_told_to_who_sees_all_pools(tmp_path: Path) -> None:
    """Of others' pools that is how many hosts they have."""
    async with paged(tmp_path, two_pools()) as site:
        here: Any = SimpleNamespace(parts=site.parts)
        silent: Any = SimpleNamespace(parts=SimpleNamespace(service=SimpleNamespace(roster=SimpleNamespace(pools={}))))
        etcd = PlayedEtcd({"test": here, "hall-c": silent}, elsewhere={"hall-c": "127.0.0.1:1"})
        member = etcd._member
        etcd._member = lambda name, at: replace(member(name, at), load=1_147)  # type: ignore[method-assign]
        neighbours = PlayedNeighbours("test", etcd)
        neighbours.agents = lambda: 4_711  # type: ignore[method-assign]
        site.parts.operators.join(neighbours)
        site.user("anna")
        site.user("carl", pools=[uuid_of(1)])
        await site.sign_in("anna")
        said = words(await site.get("/collectors"))
        assert "4711" in said and "1147" in said  # of itself, and in etcd of the one that is silent
        async with site.stranger() as other:
            await other.sign_in("carl")
            said = words(await other.get("/collectors"))
            assert "4711" not in said and "1147" not in said and "not known" in said
