"""What operators type and read of roles, second persons and the record of calls."""

from collections.abc import Callable

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import POOL, FakeCollector

Call = Callable[..., Said]


def test_the_record_is_two_lines_a_call(fake: FakeCollector, poolwarden: Call) -> None:
    fake.calls = [
        api.AuditEntry(
            id=1, at="2026-01-31T12:03:04.512Z", actor="anna", source="socket, uid 1000, pid 7", role="operator",
            method="pause", pool_uuid=POOL, pool_name="demo", request='{"pause": {"pool": "demo"}}',
            result="done: paused", reason="new \x1b[2Jdisks",
        ),
        api.AuditEntry(id=2, at="2026-01-31T12:04:00.000Z", actor="vera", source="x", method="Reload", request="{}"),
    ]  # fmt: skip
    said = poolwarden("audit", "--pool", "demo", "--since", "2026-01-31")
    assert said.status == 0
    lines = [line.rstrip() for line in said.out.splitlines()]
    assert lines[0] == "2026-01-31"
    assert lines[1].startswith("12:03:04.512  pause of demo, by anna (operator, socket, uid 1000, pid 7)")
    assert lines[2].strip() == "done: paused" and "\x1b" not in said.out
    assert "Reload, by vera (no role, x)" in said.out and "no result: the collector ended" in said.out
    [request] = fake.asked
    assert (request.pool, request.since, request.limit) == ("demo", "2026-01-31T00:00:00.000Z", 1000)
    assert poolwarden("audit", "east", "--pool", "west").status == 2
    fake.calls = []
    assert poolwarden("audit").out.strip() == "no call is recorded"


def test_a_role_that_is_lacking_is_the_answer_no(fake: FakeCollector, poolwarden: Call) -> None:
    fake.failure = (grpc.StatusCode.PERMISSION_DENIED, "vera is viewer here, and pause needs the role operator")
    said = poolwarden("resume", "demo")
    assert said.status == 1
    assert said.err.splitlines()[0] == "poolwarden: refused: vera is viewer here, and pause needs the role operator"
    fake.failure = (grpc.StatusCode.PERMISSION_DENIED, "vera has no entry in [[operators]]")
    assert poolwarden("status").status == 4


def test_what_waits_is_shown_and_the_second_person_types_the_name(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = api.Seconded(id="3f7a21", what="confirm-fenced host-1", by="anna", age_ms=60_000, left_ms=840_000)
    waits.command = "poolwarden second 3f7a21"
    fake.status.pools[0].seconded.append(waits)
    fake.explanation.seconded.append(waits)
    for page in ("status", "explain"):
        out = poolwarden(page).out
        assert "SECOND PERSON: confirm-fenced host-1, asked for by anna" in out and waits.command in out
    said = poolwarden("second", "3f7a21")
    assert said.status == 2 and "--name NAME" in said.err, "nobody is at a terminal"
    assert poolwarden("second", "3f7a21", "--name", " host-1", "--reason", "saw it").status == 0
    assert (fake.asked[-1].second.typed_name, fake.asked[-1].reason) == ("host-1", "saw it")
    assert poolwarden("second", "3f7a21", "--withdraw").status == 0
    assert fake.asked[-1].second.withdraw and not fake.asked[-1].second.typed_name
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "host-1")
    said = poolwarden("second", "3f7a21")
    assert said.status == 0 and "confirm-fenced host-1, asked for by anna." in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("resume",), ("acknowledge",), ("restart-xapi", "host-1"), ("release", "host-1"), ("designate", "host-2"),
        ("failover", "demo", "--to", "host-2"), ("declare-dead", "host-1", "--name", "host-1"), ("start-lost",),
        ("host", "enable", "host-1"), ("recover-members",), ("approve", "demo"), ("fence", "test", "host-1"),
        ("fence", "on", "host-1"), ("fence", "off", "host-1", "--name", "host-1"), ("pause",), ("deny", "demo"),
        ("fence", "bind", "host-1", "--name", "host-1", "--how", "seen"),
        ("confirm-fenced", "host-1", "--name", "host-1", "--how", "off"), ("test-alerts",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_that_changes_something_takes_a_reason(
    fake: FakeCollector, poolwarden: Call, words: tuple[str, ...]
) -> None:
    assert poolwarden(*words, "--reason", "because").status == 0
    request = next(each for each in fake.asked if isinstance(each, (api.CommandRequest, api.TestAlertsRequest)))
    assert "because" in (request.reason, getattr(getattr(request, "pause", None), "reason", ""), request_deny(request))


def request_deny(request: object) -> str:
    return request.deny.reason if isinstance(request, api.CommandRequest) else ""
