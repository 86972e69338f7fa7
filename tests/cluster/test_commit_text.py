"""What stands in a pool's keys: it is read as it was written, and what cannot be read makes nobody an owner."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.epoch import HIGHEST
from poolwarden_collector.core.state.pool_record import PoolRecord, fold
from poolwarden_collector.shell.cluster import commit_text as text
from poolwarden_collector.shell.cluster.commit_text import PoolTail, TooBig, Unreadable
from poolwarden_collector.shell.cluster.etcd import Kept
from poolwarden_collector.shell.cluster.names import Names

from .contract import POOL, seen

AT = Names("p")
RAISED = AlertRaised(
    "host/h1/silent", "critical", "h1 is silent", "line one\nline two", {"message": "m", "n": [1, None]}
)


def commit(entries: tuple[Entry, ...], first: int = 1, alerts: Any = (), number: str = "id") -> Kept:
    value = text.commit_text(entries, alerts, number, 77, first + max(1, len(entries)) - 1, "2026-01-01T00:00:00.000Z")
    return Kept(AT.commit(POOL, first), value, 5, 5)


def record(of: PoolRecord, last: int) -> Kept:
    return Kept(AT.record(POOL), text.record_text(of, last, ()), 6, 8)


def read(*commits: Kept, tail: PoolTail | None = None) -> PoolTail:
    return text.with_commits(AT, tail or PoolTail(PoolRecord(POOL)), commits)


def changed(kept: Kept, change: Callable[[dict[str, Any]], Any]) -> Kept:
    """The same with other content, and a right digest."""
    said = json.loads(zlib.decompress(kept.value[32:]))
    change(said)
    packed = zlib.compress(json.dumps(said).encode())
    return replace(kept, value=sha256(packed).digest() + packed)


def test_entries_are_read_as_they_were_written() -> None:
    entries = (
        seen(1),
        Entry(
            Kind.DECIDED,
            "ein Satz, Zürich",
            {"old_master": "h1", "a": [1, {"b": None}], "c": 1.5},
            "f1",
            HIGHEST,
            "eve",
        ),
        Entry(Kind.POOL_NAMED, "", {"name": "Zoë\u2028"}),
    )
    found = text._entries_of(commit(entries), text._unpacked(commit(entries)))
    assert tuple(found) == entries
    assert text.id_of(commit(entries, number="x-1")) == "x-1"


def test_alerts_are_read_as_they_were_written() -> None:
    other = replace(RAISED, key="pool/dark")
    tail = read(commit((seen(1),), 1, (RAISED, other)), commit((), 2, (AlertResolved(other.key, "over"),)))
    assert list(tail.alerts) == [RAISED.key] and tail.last == 2
    opened = tail.alerts[RAISED.key]
    assert (opened.severity, opened.title, opened.body, opened.data) == (
        RAISED.severity,
        RAISED.title,
        RAISED.body,
        RAISED.data,
    )
    assert opened.occurrence == 1
    third = read(commit((), 3, (AlertResolved(RAISED.key, "over"),)), commit((seen(4),), 4, (RAISED,)), tail=tail)
    assert third.alerts[RAISED.key].occurrence == 4, "each time has a number of its own, the same for every owner"
    again = text.tail_of(Kept("k", text.record_text(tail.record, 2, tail.alerts.values()), 1, 9), POOL)
    assert again.alerts == tail.alerts and again.record_revision == 9


def test_of_a_decisions_input_its_digest_is_kept() -> None:
    data = {"old_master": "h1", "input": "x" * 90_000, "step": ["a sentence"] * 100}
    kept = commit((Entry(Kind.DECIDED, "t", data, "f1", 1),))
    assert len(kept.value) < 1_000
    (entry,) = text._entries_of(kept, text._unpacked(kept))
    assert entry.data == {"old_master": "h1", "input_sha256": sha256(data["input"].encode()).hexdigest()}


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_what_is_no_json_is_written_nowhere(value: object) -> None:
    with pytest.raises(TooBig):
        commit((Entry(Kind.POOL_NAMED, "t", {"name": value}),))


def _cut(kept: Kept) -> Kept:
    return replace(kept, value=kept.value[:-1])


def _flipped(kept: Kept) -> Kept:
    return replace(kept, value=kept.value[:-3] + bytes([kept.value[-3] ^ 1]) + kept.value[-2:])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_cut, "checksum"),
        (_flipped, "checksum"),
        (lambda kept: replace(kept, value=b""), "checksum"),
        (lambda kept: replace(kept, value=sha256(b"").digest()), "cannot be read"),
        (lambda kept: changed(kept, lambda said: said.update(v=2)), "later Poolwarden"),
        (lambda kept: changed(kept, lambda said: said.pop("v")), "cannot be read"),
        (lambda kept: changed(kept, lambda said: said["entries"][0].update(kind="leap")), "'leap' is unknown"),
        (lambda kept: changed(kept, lambda said: said["entries"][0].update(data=[])), "of their types"),
        (lambda kept: changed(kept, lambda said: said["entries"][0].update(term=HIGHEST + 1)), "term"),
        (lambda kept: changed(kept, lambda said: said["entries"][0].update(term="1")), "term"),
        (lambda kept: changed(kept, lambda said: said["entries"][0]["data"].pop("host")), "host"),
        (lambda kept: changed(kept, lambda said: said["entries"][0].pop("text")), "lacks"),
        (lambda kept: changed(kept, lambda said: said.update(entries=[1])), "or is none"),
        (lambda kept: changed(kept, lambda said: said.pop("entries")), "lacks"),
        (lambda kept: changed(kept, lambda said: said.pop("alerts")), "lacks"),
        (lambda kept: changed(kept, lambda said: said.pop("last")), "numbers"),
        (lambda kept: changed(kept, lambda said: said.update(last=0)), "numbers"),
        (lambda kept: changed(kept, lambda said: said.update(alerts=[{"key": "k"}])), "alert"),
        (lambda kept: replace(kept, key=AT.commit(POOL, 2)), "entry 1 is missing"),
    ],
)
def test_a_commit_that_cannot_be_read(broken: Callable[[Kept], Kept], said: str) -> None:
    with pytest.raises(Unreadable, match=said) as error:
        read(broken(commit((seen(1),))))
    assert "journal" in str(error.value) and "\n" not in str(error.value)


def test_none_may_be_missing_in_between() -> None:
    first, second, third = commit((seen(1), seen(2))), commit((seen(3),), 3), commit((seen(4),), 4)
    assert list(read(first, second, third).record.hosts) == ["h1", "h2", "h3", "h4"]
    for commits in ((first, third), (second, third), (third,)):
        with pytest.raises(Unreadable, match="is missing"):
            read(*commits)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_flipped, "checksum"),
        (lambda kept: changed(kept, lambda said: said.update(record="{}")), "record cannot be read"),
        (lambda kept: changed(kept, lambda said: said.pop("alerts")), "record cannot be read"),
        (lambda kept: changed(kept, lambda said: said.update(alerts=[[1]])), "record cannot be read"),
        (lambda kept: changed(kept, lambda said: said.update(last=None)), "record cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read(broken: Callable[[Kept], Kept], said: str) -> None:
    whole = fold(PoolRecord(POOL), (seen(1),))
    assert text.tail_of(record(whole, 4), POOL).record == whole
    with pytest.raises(Unreadable, match=said):
        text.tail_of(broken(record(whole, 4)), POOL)


def test_a_record_of_another_pool_is_none() -> None:
    with pytest.raises(Unreadable, match="of pool"):
        text.tail_of(record(PoolRecord("another"), 4), POOL)


def test_a_record_of_a_later_release_names_a_field_that_is_unknown_here() -> None:
    """One that came later has its default in what was written before; one that is not known is never passed over."""
    kept = record(fold(PoolRecord(POOL), (seen(1),)), 1)

    def with_more(said: dict[str, Any]) -> None:
        inner = json.loads(said["record"])
        inner["record"][2]["moon"] = "full"
        said["record"] = json.dumps(inner)

    def with_less(said: dict[str, Any]) -> None:
        inner = json.loads(said["record"])
        del inner["record"][2]["drill"]
        said["record"] = json.dumps(inner)

    with pytest.raises(Unreadable, match="moon"):
        text.tail_of(changed(kept, with_more), POOL)
    assert text.tail_of(changed(kept, with_less), POOL).record == fold(PoolRecord(POOL), (seen(1),))


def test_names_keep_apart_what_they_name() -> None:
    odd = ("", "=", "a/b", "a%2Fb", "owners/x", "ü", "a b", "..", "0" * 16)
    made = [key for name in odd for key in (AT.owner(name), AT.journal(name), AT.member(name), AT.assigned(name))]
    made += [AT.site(site, name) for site in odd for name in odd]
    assert len(set(made)) == len(made)
    for name in odd:
        assert AT.parts(AT.owner(name)) == ("owners", name)
        assert AT.parts(AT.site(name, "c")) == ("sites", name, "c")
        assert AT.owner(name).startswith(AT.owners) and AT.commit(name, 7).startswith(AT.journal(name))
    assert AT.owner("") not in (AT.owners, AT.owner("=")), "the empty name (a site may have it) is one, too"
    assert AT.parts("other/owners/x") == () and AT.parts("pp/owners/x") == ()
    assert AT.commit(POOL, 9) < AT.commit(POOL, 10) < AT.commit(POOL, 10**15)
    for bad in ("", "/", "a/", "/a", "a\n"):
        with pytest.raises(ValueError):
            Names(bad)
