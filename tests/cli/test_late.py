"""`poolwarden host late`: what a host kept while nobody listened."""

import json
from collections.abc import Callable

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import FakeCollector

Call = Callable[..., Said]


def test_lines_in_order_and_what_was_lost(fake: FakeCollector, poolwarden: Call) -> None:
    fake.late = [
        api.LateEntry(at="2026-01-31T12:03:04.512Z", kind="link", text="the collector is out of reach"),
        api.LateEntry(kind="disk", text="/ is full", dropped=7),
    ]
    said = poolwarden("host", "late", "demo/host-2", "--samples")
    assert said.out.splitlines() == [
        "2026-01-31 12:03:04.512  link    the collector is out of reach",
        "7 before this did not fit and are lost",
        "not known when           disk    / is full",
    ]
    assert fake.asked[-1] == api.LateRequest(host="demo/host-2", samples=True, limit=1000)
    assert json.loads(poolwarden("host", "late", "h", "--json").out)["entries"][1]["dropped"] == 7


def test_nothing_was_kept(fake: FakeCollector, poolwarden: Call) -> None:
    assert "has not been alone for long" in poolwarden("host", "late", "h").out
