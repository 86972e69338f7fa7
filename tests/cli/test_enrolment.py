"""Tokens, keys and certificates of hosts, as they are typed and read."""

import json
from collections.abc import Callable

import pytest

from poolwarden.v1 import enrolment_pb2 as api

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector

Call = Callable[..., Said]
KEY = "0123456789abcdef" * 4


def test_a_token_comes_with_the_line_to_type(poolwarden: Call, fake: FakeCollector) -> None:
    said = poolwarden("token", "create", "--pool", "demo", "--ttl", "30m", "--uses", "3", "--reason", "new rack")
    line = f"poolwarden-agent enrol --collector 192.0.2.5:7445 --token pwt-abc --ca-fingerprint {'ab' * 32}"
    assert said.out.splitlines()[-1] == line and "each of 3 hosts" in said.out
    (asked,) = fake.asked
    assert (asked.pool, asked.ttl_s, asked.uses, asked.reason, bool(asked.actor)) == ("demo", 1800, 3, "new rack", True)
    assert json.loads(poolwarden("token", "create", "--pool", "demo", "--json").out)["token"] == "pwt-abc"


def test_keys_that_wait_are_shown_with_what_to_do(poolwarden: Call, fake: FakeCollector) -> None:
    why = "host-1 asks with another key. On record: Dell R640. It asks: HPE DL380"
    waits = api.HostKey(pool=POOL, host_uuid=HOSTS[0], host_name="host-1", key_sha256=KEY, state="waiting", text=why)
    good = api.HostKey(pool=POOL, host_uuid=HOSTS[1], host_name="host-2", key_sha256=KEY[::-1], state="certified")
    fake.keys = [waits, good]
    said = poolwarden("enrolment", "list")
    assert "host-2" in said.out and f"poolwarden enrolment accept {KEY[:16]}" in said.out
    assert why in " ".join(said.out.split())
    (shown,) = json.loads(poolwarden("enrolment", "list", "--waiting", "--json").out)["keys"]
    assert shown["state"] == "waiting"


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("enrolment", "accept", KEY[:16]), "accept", True),
        (("enrolment", "refuse", KEY[:16]), "accept", False),
        (("token", "revoke", "0badcafe"), "id", "0badcafe"),
        (("certificate", "deny", "host-1"), "serial", "host-1"),
    ],
)
def test_decisions_carry_who_and_why(
    words: tuple[str, ...], field: str, value: object, poolwarden: Call, fake: FakeCollector
) -> None:
    said = poolwarden(*words, "--reason", "stolen")
    (asked,) = fake.asked
    assert (said.status, getattr(asked, field), asked.reason, bool(asked.actor)) == (0, value, "stolen", True)
    fake.decided = api.EnrolmentReply(accepted=False, text="no such thing", next_step="look")
    said = poolwarden(*words)
    assert said.status == 1 and said.err.splitlines() == ["poolwarden: no such thing", "  look"]


def test_tokens_are_listed(poolwarden: Call, fake: FakeCollector) -> None:
    assert "no token" in poolwarden("token", "list").out
    fake.tokens = [api.Token(id="0badcafe", pool=POOL, uses=3, used=1, state="usable", actor="anna")]
    out = poolwarden("token", "list").out
    assert "0badcafe" in out and "1 of 3" in out and "any" in out
