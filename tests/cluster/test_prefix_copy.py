"""Copies of what several collectors have in etcd, and the way back."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from poolwarden_collector.shell.cluster import commits
from poolwarden_collector.shell.cluster.etcd import Get, InDoubt, Put, Txn, behind, carry_out
from poolwarden_collector.shell.cluster.ownership import Ownership
from poolwarden_collector.shell.migration import prefix_copy
from poolwarden_collector.shell.migration.place import Refused, look
from poolwarden_collector.shell.migration.to_etcd import to_etcd
from poolwarden_collector.shell.migration.to_sqlite import to_sqlite

from .clusters import RealCluster, on_real_members
from .contract import Collector, names, seen
from .test_migration import OTHER, POOL, CutOff, Single, on_the_model, tails


async def there_and_back(cluster: Any, folder: Path) -> None:
    """A copy is of one revision, without what hangs on leases; put back, every owner's epoch is above those before."""
    single, to, at, elsewhere = Single(folder).filled(), cluster.client("m"), names(), names()
    await to_etcd(to, at, single.source)
    one = await Collector(cluster, "a", at).joined()
    journal, other = await one.owns(POOL), await one.owns(OTHER)
    await one.commit(journal, seen(5))
    await to.ask(Txn((), (Put(at.handed(OTHER), b"{}"),)))
    copy = await carry_out(to, prefix_copy.take(at))
    before = await tails(to, at)
    file = folder / "copies.gz"
    prefix_copy.write(copy, file)
    assert file.stat().st_mode & 0o077 == 0 and prefix_copy.read(file) == copy
    assert not [key for key, _ in copy.keys if key.startswith(("members/", "owners/", "assigner"))]
    # It goes on, and etcd loses all of it.
    await one.commit(journal, seen(6))
    with pytest.raises(Refused, match="members in etcd: a"):
        await prefix_copy.put_back(to, at, copy, "m", replace=True)
    assert one.member.standing is not None
    await carry_out(to, one.member.leave())
    with pytest.raises(Refused, match="2 pools below this prefix"):
        await prefix_copy.put_back(to, at, copy, "m")
    dry = await prefix_copy.put_back(to, at, copy, "m", dry=True, replace=True)
    assert (await tails(to, at))[POOL].last == before[POOL].last + 1
    done = await prefix_copy.put_back(to, at, copy, "m", replace=True)
    assert done == dry and done.generation == 2 and done.replaces == 2
    assert await told(to, at) == told_of(before)
    assert (await to.ask(Get(at.handed(OTHER)))).one is None
    again = await Collector(cluster, "b", at).joined()
    owned = await again.claim(POOL)
    assert isinstance(owned, Ownership) and owned.epoch > max(journal.owned.epoch, other.owned.epoch)
    await carry_out(to, again.member.leave())
    # The same copy below another prefix, which has nothing.
    assert (await prefix_copy.put_back(to, elsewhere, copy, "m")).replaces == 0
    assert await told(to, elsewhere) == told_of(before)


async def told(to: Any, at: Any) -> Any:
    return told_of(await tails(to, at))


def told_of(found: Any) -> Any:
    return {pool: (tail.record, tail.last, tail.alerts, tail.shots, tail.entries) for pool, tail in found.items()}


def test_there_and_back(tmp_path: Path) -> None:
    on_the_model(there_and_back, tmp_path)


@pytest.mark.slow
@pytest.mark.needs("etcd")
def test_on_three_real_members(tmp_path: Path) -> None:
    async def test(cluster: RealCluster) -> None:
        await there_and_back(cluster, tmp_path)

    on_real_members(tmp_path, test)


async def cut_off(cluster: Any, folder: Path) -> None:
    """While a copy is half there nobody owns anything, nothing else is done, and another run ends it."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    await to_etcd(to, at, single.source)
    copy = await carry_out(to, prefix_copy.take(at))
    before = await tails(to, at)
    for after in range(20):
        for done in (False, True):
            writes = CutOff(to, after, done)
            try:
                await prefix_copy.put_back(writes, at, copy, "m", replace=True)
                break
            except InDoubt:
                place = await carry_out(to, look(at))
            if place.mark is not None:
                assert not place.generation
                for move in (to_etcd(to, at, single.source), to_sqlite(to, at, single.journal, "one")):
                    with pytest.raises(Refused, match="half put back"):
                        await move
            await prefix_copy.put_back(to, at, copy, "m", replace=after == 0 or place.mark is None)
            assert await told(to, at) == told_of(before)
        if writes.left >= 0:
            return
    raise AssertionError("it has more writes than that")


def test_a_copy_that_is_cut_off_while_it_is_put_back(tmp_path: Path) -> None:
    on_the_model(cut_off, tmp_path)


async def moved_away(cluster: Any, folder: Path) -> None:
    """Pools that a single collector has are not given to others by an old copy."""
    single, to, at = Single(folder).filled(), cluster.client("m"), names()
    await to_etcd(to, at, single.source)
    copy = await carry_out(to, prefix_copy.take(at))
    await to_sqlite(to, at, single.journal, "one")
    with pytest.raises(Refused, match="with collector one"):
        await prefix_copy.put_back(to, at, copy, "m", replace=True)
    # And a copy from after it says the same wherever it is put back.
    later, elsewhere = await carry_out(to, prefix_copy.take(at)), names()
    await prefix_copy.put_back(to, elsewhere, later, "m")
    place = await carry_out(to, look(elsewhere))
    assert not place.generation and place.mark is not None and place.mark.collector == "one"


def test_pools_that_were_moved_away_stay_there(tmp_path: Path) -> None:
    on_the_model(moved_away, tmp_path)


async def large(cluster: Any, folder: Path) -> None:
    """More than one transaction and more than one page."""
    to, at, elsewhere = cluster.client("m"), names(), names()
    for number in range(450):
        await to.ask(Txn((), (Put(f"{at.prefix}/enrolment/rows/token/{number:04}", b"x" * 5_000),)))
    copy = await carry_out(to, prefix_copy.take(at))
    prefix_copy.write(copy, folder / "copy")
    done = await prefix_copy.put_back(to, elsewhere, prefix_copy.read(folder / "copy"), "m")
    found, key = [], f"{elsewhere.prefix}/"
    while page := (await to.ask(Get(key, behind(f"{elsewhere.prefix}/"), 100))).kept:
        found += page
        key = page[-1].key + "\0"
    assert len(copy.keys) == 450 == done.keys and len(found) == 451  # and the generation
    assert await carry_out(to, commits.known_pools(elsewhere)) == frozenset()


def test_many_keys(tmp_path: Path) -> None:
    on_the_model(large, tmp_path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    copy = prefix_copy.Copy("p", 7, 1, (("a", b"1"), ("b", b"\x00\xff")))
    file = tmp_path / "copy"
    prefix_copy.write(copy, file)
    whole = file.read_bytes()
    text = gzip.decompress(whole)
    cut = gzip.compress(text.replace(b'"b"', b'"c"')), gzip.compress(text[:-70]), whole[:-9], b"", b"no copy", text
    later = text[:-65].replace(b'"format": 1', b'"format": 2')
    for bad in (*cut, gzip.compress(later + b"x" * 64 + b"\n")):
        file.write_bytes(bad)
        with pytest.raises(Refused):
            prefix_copy.read(file)
    with pytest.raises(Refused, match="No such file"):
        prefix_copy.read(tmp_path / "none")
