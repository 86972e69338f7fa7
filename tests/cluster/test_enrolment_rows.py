"""What several collectors know of who is enrolled, while etcd fails, is restored, or is new. On the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from poolwarden_collector.shell.cluster import enrolment_rows
from poolwarden_collector.shell.cluster.enrolment_rows import Changes, UnreadableRow, Write
from poolwarden_collector.shell.cluster.etcd import Delete, Get, Kept, Put, Txn, TxnDone, behind, carry_out
from poolwarden_collector.shell.enrolment import shared_rows
from poolwarden_collector.shell.enrolment.enrolment import Granted
from poolwarden_collector.shell.store.enrolment_tables import CERTIFIED, Denied, HostKey, Token
from poolwarden_collector.shell.store.journal import JournalError

from .clusters import ModelCluster, in_virtual_time
from .contract import POOL, names
from .enrolling import ANNA, HOSTS, Enrolling, identity, new_key, several, until


def denied(number: int) -> Denied:
    return Denied(f"{number:x}", HOSTS[0], 1, "anna", "")


def host_key(number: int, **other: str) -> HostKey:
    made = HostKey(f"{number:064x}", POOL, HOSTS[0], "h1", "{}", "csr", "", CERTIFIED, number, "anna", "")
    return replace(made, **other)  # type: ignore[arg-type]


async def rows_in(to: Enrolling) -> set[str]:
    found = await to.etcd.ask(Get(to.at.enrolment_rows, behind(to.at.enrolment_rows)))
    rows = {kept.key.removeprefix(to.at.enrolment_rows) for kept in found.kept}
    return {row for row in rows if not row.startswith("collector/")}


@in_virtual_time
async def test_without_an_answer_nobody_new_is_certified_and_the_denied_stay_denied(cluster: ModelCluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        key, other = new_key(), new_key()
        granted = await a.enrol(await a.token(), HOSTS[0], key)
        bad = await a.enrol(await a.token(), HOSTS[1], other)
        assert isinstance(granted, Granted) and isinstance(bad, Granted)
        who, banned = identity(HOSTS[0], key, granted), identity(HOSTS[1], other, bad)
        await a.decisions.deny(ANNA, banned.serial, "")
        await until(cluster, lambda: bool(b.enrolment.refusal(banned, POOL)), 2)
        token = await a.token(uses=2)
        cluster.halt()
        for each in (a, b):
            with pytest.raises(JournalError, match="etcd does not say who is enrolled, so nobody new is"):
                await each.enrol(token, HOSTS[2])
            assert each.enrolment.refusal(who, POOL) == "", "who was certified goes on"
            assert "denied by anna" in each.enrolment.refusal(banned, POOL)
        await until(cluster, lambda: bool(a.warned), 30)
        cluster.go_on()
        await cluster.sleep(3)
        assert isinstance(await b.enrol(token, HOSTS[2]), Granted) and len(a.warned) == 1


@in_virtual_time
async def test_a_collector_that_starts_without_etcd_goes_by_its_copy(cluster: ModelCluster) -> None:
    async with several(cluster, "a") as (a,):
        key = new_key()
        granted = await a.enrol(await a.token(), HOSTS[0], key)
        assert isinstance(granted, Granted)
        who = identity(HOSTS[0], key, granted)
        await a.decisions.deny(ANNA, who.serial, "")
        cluster.model.cut("a")
        await a.enrolment.stop()
        a.journal.close()
        again = await Enrolling(a.etcd, a.at, "a", a.folder).begin()
        assert "denied by anna" in again.enrolment.refusal(who, POOL)
        await again.enrolment.stop()
        a.journal = again.journal


@in_virtual_time
async def test_whatever_becomes_of_an_answer_a_token_is_used_once(cluster: ModelCluster) -> None:
    faults: tuple[Callable[[], None], ...] = (
        lambda: cluster.model.lose("a"),
        lambda: cluster.model.drop("a"),
        lambda: cluster.model.linger("a", 3_500),
        lambda: cluster.model.linger("a", 9_000),
    )
    async with several(cluster, "a", "b") as (a, b):
        for number, fault in enumerate(faults):
            token, host = await b.token(), HOSTS[number]
            await a.registry.catch_up()
            async with a.registry.turn:
                pass
            fault()
            assert isinstance(await a.enrol(token, host), Granted)
            async with b.registry.turn:
                held = b.registry.ledger.of_host(host)
            assert [key.state for key in held] == [CERTIFIED]
            await cluster.sleep(10)
            async with b.registry.turn:
                assert len(b.registry.ledger.of_host(host)) == 1
                assert all(each.used == each.uses for each in b.registry.ledger.tokens.values())


@in_virtual_time
async def test_a_doubt_that_does_not_end_is_told_and_what_comes_late_is_known_to_all(cluster: ModelCluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        token = await a.token()
        attempts = asyncio.ensure_future(a.enrol(token, HOSTS[0]))
        for _ in range(40):
            cluster.model.drop("a")
        cluster.model.linger("a", 1)
        with pytest.raises(JournalError, match="look at what is there before you ask again"):
            await attempts
        cluster.model._faults.clear()
        assert isinstance(await b.enrol(token, HOSTS[0]), Granted), "nothing of it was done, so the token is good"


@in_virtual_time
async def test_who_is_overtaken_decides_again(cluster: ModelCluster) -> None:
    """Two revoke and use one token; the ledger that was read first is not what is decided on."""
    async with several(cluster, "a", "b") as (a, b):
        token = await a.token()
        await b.registry.catch_up()
        name = next(iter(a.registry.ledger.tokens))
        await a.decisions.revoke_token(ANNA, name)
        before = b.rows._changes
        write = Write(b.at, before, "late", (Put(b.at.enrolment_row("token", name), b"{}"),))
        assert isinstance(await carry_out(b.etcd, write.attempt()), enrolment_rows.Overtaken)
        with pytest.raises(Exception, match="not known here, or was revoked"):
            await b.enrol(token, HOSTS[0])


@in_virtual_time
async def test_a_restored_etcd_that_has_lost_a_denial_is_given_it_again(cluster: ModelCluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        key = new_key()
        granted = await a.enrol(await a.token(), HOSTS[0], key)
        assert isinstance(granted, Granted)
        who, backup = identity(HOSTS[0], key, granted), cluster.model.snapshot()
        await a.decisions.deny(ANNA, who.serial, "")
        await until(cluster, lambda: bool(b.enrolment.refusal(who, POOL)), 2)
        cluster.model.restore(backup)
        assert f"denied/{who.serial}" not in await rows_in(a)
        await cluster.sleep(3)
        assert f"denied/{who.serial}" in await rows_in(a)
        for each in (a, b):
            assert "denied by anna" in each.enrolment.refusal(who, POOL)
            assert each.registry.ledger.keys[who.key].state == "denied"


@in_virtual_time
async def test_a_new_etcd_is_given_what_a_collector_knows_and_by_one_alone(cluster: ModelCluster) -> None:
    """The ledger of the one collector there was; and an etcd that was built anew."""
    async with several(cluster, "a", "b") as (a, b):
        key = new_key()
        assert isinstance(await a.enrol(await a.token(), HOSTS[0], key), Granted)
        await cluster.sleep(2)
        there = await rows_in(a)
        await a.etcd.ask(Txn((), (Delete(f"{a.at.prefix}/", behind(f"{a.at.prefix}/")),)))
        await cluster.sleep(3)
        assert await rows_in(a) == there
        for each in (a, b):
            assert [held.host for held in each.registry.ledger.keys.values()] == [HOSTS[0]]
        assert isinstance(await b.enrol(await b.token(), HOSTS[1]), Granted)


@in_virtual_time
async def test_what_was_seeded_in_part_is_seeded_again(cluster: ModelCluster) -> None:
    at, to = names(), cluster.client("a")
    rows = [host_key(number) for number in range(100)]
    cluster.model.lose("a")
    with pytest.raises(Exception, match="DEADLINE"):
        await carry_out(to, enrolment_rows.seed(at, rows, "first"))
    found = await carry_out(to, enrolment_rows.read(at, Changes()))
    assert found is None, "a part is nothing yet"
    assert isinstance(await carry_out(to, enrolment_rows.seed(at, rows, "again")), enrolment_rows.Written)
    assert isinstance(await carry_out(to, enrolment_rows.seed(at, rows, "other")), enrolment_rows.Overtaken)
    found = await carry_out(to, enrolment_rows.read(at, Changes()))
    assert found is not None and found.whole and len(found.put) == 100


@in_virtual_time
async def test_what_is_more_than_etcd_takes_at_once_is_written_in_parts(cluster: ModelCluster) -> None:
    """A host with very many certificates is denied; the denials are there first."""
    async with several(cluster, "a", "b") as (a, b):
        rows = [host_key(number, csr="x" * 8_000) for number in range(150)]
        async with a.registry.turn:
            await a.registry.commit(*rows, pool=POOL)
        async with a.registry.turn:
            gone = rows[:70]
            await a.registry.commit(*(denied(n) for n in range(150)), *rows[70:90], pool=POOL, drop=gone)
        await cluster.sleep(3)
        assert len(b.registry.ledger.denied) == 150 and len(b.registry.ledger.keys) == 80
        assert len(await rows_in(a)) == 230


def test_who_reads_on_takes_in_what_was_touched_alone() -> None:
    """And everything where the changes do not reach back so far."""
    older = Changes(5, (("a", ("1",)), ("b", ("2",))))
    newer = Changes(9, (("b", ("2",)), ("c", ("3", "4")), ("d", ("3",))))
    assert newer.since(older) == ("3", "4") and older.since(newer) is None
    assert newer.since(Changes()) is None and Changes().since(older) is None
    kept = json.loads(newer.and_then("e", tuple(map(str, range(600)))))
    assert [change for change, _ in kept] == ["e"]
    for number in range(100):
        newer = Changes(10 + number, enrolment_rows._last(json.loads(newer.and_then(f"n{number}", ("k",)))))
    assert len(newer.last) == 64 and newer.since(older) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"{}", b'{"serial": 5, "host": "", "at_ms": 1, "actor": "", "reason": ""}', None],
)
def test_a_row_that_cannot_be_understood_is_no_row(value: bytes | None) -> None:
    at = names()
    key = at.enrolment_row("denied", "ab") if value is not None else at.enrolment_row("fingerprint", "ab")
    with pytest.raises(UnreadableRow):
        enrolment_rows.row_of(at, Kept(key, value or b"{}", 1, 1))


def test_a_field_of_a_later_release_is_left_out() -> None:
    at, token = names(), Token("t", "hash", POOL, "", 1, 0, 1, 2, "anna")
    (put,) = enrolment_rows.parts(at, [token], ())[0]
    assert isinstance(put, Put)
    value = json.dumps(json.loads(put.value) | {"later": [1]}).encode()
    assert enrolment_rows.row_of(at, Kept(put.key, value, 1, 1)) == token
    other = Kept(at.enrolment_row("token", "another"), put.value, 1, 1)
    with pytest.raises(UnreadableRow, match="another row"):
        enrolment_rows.row_of(at, other)


@in_virtual_time
async def test_a_row_that_cannot_be_read_certifies_nobody_and_says_so(cluster: ModelCluster) -> None:
    async with several(cluster, "a") as (a,):
        token = await a.token()
        key = a.at.enrolment_row("host-group", "x")
        done = await a.etcd.ask(
            Txn((), (Put(key, b"{}"), Put(a.at.enrolment_changes, b'[["z", ["' + key.encode() + b'"]]]')))
        )
        assert isinstance(done, TxnDone) and done.succeeded
        with pytest.raises(JournalError, match="no kind that is known: install the newest release"):
            await a.enrol(token, HOSTS[0])


@in_virtual_time
async def test_a_copy_that_cannot_be_written_costs_the_copy_alone(
    cluster: ModelCluster,
) -> None:
    async with several(cluster, "a", "b") as (a, b):

        def full(*_: object) -> None:
            raise JournalError("database or disk is full")

        enrol, b.journal.enrol = b.journal.enrol, full  # type: ignore[method-assign,assignment]
        token = await a.token()
        assert isinstance(await b.enrol(token, HOSTS[0]), Granted)
        b.journal.enrol = enrol  # type: ignore[method-assign]
        async with a.registry.turn:
            assert [key.host for key in a.registry.ledger.keys.values()] == [HOSTS[0]]


def test_the_denials_are_those_of_certificates_and_of_keys() -> None:
    assert shared_rows._denies(denied(1)) and shared_rows._denies(host_key(1, state="denied"))
    assert not shared_rows._denies(host_key(1)) and not shared_rows._denies(None)


@in_virtual_time
async def test_another_collectors_difference_is_taken_in_and_dropped(cluster: ModelCluster) -> None:
    async with several(cluster, "a", "b") as (a, b):
        async with a.registry.turn:
            await a.registry.commit(host_key(1), pool=POOL)
        await until(cluster, lambda: len(b.registry.ledger.keys) == 1, 2)
        async with a.registry.turn:
            await a.registry.commit(host_key(2), pool=POOL, drop=[host_key(1)])
        await until(cluster, lambda: [key.since_ms for key in b.registry.ledger.keys.values()] == [2], 2)
        copied = {row.key for row in b.journal.enrolment() if isinstance(row, HostKey)}
        assert copied == {host_key(2).key}
