"""`poolwarden capsules`: what hosts have handed over, a line each."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import HOSTS, FakeCollector


def kept(**changes: object) -> api.KeptCapsule:
    told = {
        "id": "0" * 32, "host_uuid": HOSTS[0], "host_name": "host-1", "pool_name": "demo", "size_bytes": 300_000,
        "at": "2026-01-31T20:00:01.500Z", "trigger": "master-silent", "text": "the master does not answer",
    }  # fmt: skip
    return api.KeptCapsule(**{**told, **changes})  # type: ignore[arg-type]


def test_each_is_told_with_when_where_why_and_how_big(fake: FakeCollector, poolwarden: Callable[..., Said]) -> None:
    fake.kept = [kept(), kept(host_name="", size_bytes=10)]
    said = poolwarden("capsules")
    first, second = (" ".join(part.split()) for part in said.out.split("2026-01-31 20:00:01")[1:])
    assert first == "demo/host-1 the master does not answer (master-silent, 292 KiB)"
    assert second.startswith(f"demo/{HOSTS[0]}") and "1 KiB" in second
    said = poolwarden("capsules", "demo", "--since", "2026-01-31", "--until", "2026-02-01", "--limit", "5")
    assert "demo/" not in said.out
    asked = fake.asked[-1]
    assert (asked.pool, asked.since[:10], asked.until[:10], asked.limit) == ("demo", "2026-01-31", "2026-02-01", 5)


def test_none(fake: FakeCollector, poolwarden: Callable[..., Said]) -> None:
    assert "none has suspected anything" in poolwarden("capsules").out
