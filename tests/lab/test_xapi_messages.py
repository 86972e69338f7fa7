"""Messages of the modelled xapi: made, read and followed, in virtual time and by the stock client on real sockets."""

import threading
from collections.abc import Iterator

import pytest
import XenAPI
from test_xapi_sockets import Rig, rig_of
from xapi_pool import on_unix, promote, repoint, running_pool

from poolwarden_lab.statedb import NULL_REF
from poolwarden_lab.xapi import dates, messages
from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult
from poolwarden_lab.xapi.trees import uuid_of
from poolwarden_lab.xapi.virtual import VirtualPool

POOL = uuid_of("lab", "pool", "lab")


def create(
    pool: VirtualPool, host: str, name: str = "POOLWARDEN_TEST", priority: str = "3", **other: str
) -> PeerResult:
    given = {"cls": "Pool", "obj_uuid": POOL, "body": "Died: nobody", **other}
    return on_unix(pool, host, "message.create", name, priority, given["cls"], given["obj_uuid"], given["body"])


def records(pool: VirtualPool, host: str, method: str = "message.get_all_records", *params: str) -> dict[str, dict]:
    found = on_unix(pool, host, method, *params)
    assert isinstance(found, Answer) and isinstance(found.value, dict), found
    return found.value


def test_a_message_is_kept_by_its_master_and_dies_with_the_role() -> None:
    """Clients read it until the master changes: the next one has its own files, without those of the last hours."""
    pool = running_pool()
    made = create(pool, "h1")
    assert isinstance(made, Answer)
    (record,) = records(pool, "h1").values()
    assert {key: record[key] for key in ("name", "priority", "cls", "obj_uuid", "body")} == {
        "name": "POOLWARDEN_TEST", "priority": 3, "cls": "Pool", "obj_uuid": POOL, "body": "Died: nobody",
    }  # fmt: skip
    assert record["timestamp"] == "20260101T00:01:00Z"
    assert on_unix(pool, "h1", "message.get_record", str(made.value)) == Answer(record)
    assert on_unix(pool, "h1", "message.get_by_uuid", str(record["uuid"])) == made
    pool.restart_xapi("h1")
    pool.run_until(pool.now + 60_000)
    assert list(records(pool, "h1")) == [made.value]
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(pool.now + 60_000)
    assert records(pool, "h2") == {}
    assert isinstance(create(pool, "h2"), Answer)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"obj_uuid": "nobody"}, Fault("UUID_INVALID", ("Pool", "nobody"))),
        ({"cls": "VMPP"}, Fault("UUID_INVALID", ("VMPP", POOL))),
        ({"cls": "Planet"}, Fault("FIELD_TYPE_ERROR", ("cls",))),
        ({"priority": "high"}, Fault("FIELD_TYPE_ERROR", ("priority",))),
        ({"body": "a\x1b[2J"}, Fault("INVALID_VALUE", ("UTF8 expected", "a\x1b[2J"))),
    ],
)
def test_what_xapi_refuses(wrong: dict[str, str], fault: Fault) -> None:
    pool = running_pool(1)
    assert create(pool, "h1", **wrong) == fault
    assert records(pool, "h1") == {}


def test_a_full_disk_makes_the_null_reference_and_no_message() -> None:
    pool = running_pool(1)
    pool.hosts["h1"].disk.full = True
    assert create(pool, "h1") == Answer(NULL_REF)
    assert records(pool, "h1") == {}


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LIMIT", 3)
    pool = running_pool(1)
    for number in range(5):
        create(pool, "h1", f"POOLWARDEN_{number}")
    assert [record["name"][-1] for record in records(pool, "h1").values()] == ["2", "3", "4"]


def test_what_was_told_since_an_instant_and_of_one_object() -> None:
    pool = running_pool(1)
    create(pool, "h1", "POOLWARDEN_OLD")
    create(pool, "h1", "POOLWARDEN_HOST", cls="Host", obj_uuid=pool.hosts["h1"].uuid)
    pool.run_until(pool.now + 60_000)
    create(pool, "h1", "POOLWARDEN_NEW")

    def names(method: str, *params: str) -> list[str]:
        return [record["name"] for record in records(pool, "h1", method, *params).values()]

    assert names("message.get_since", "20260101T00:01:30Z") == ["POOLWARDEN_NEW"]
    assert names("message.get", "Pool", POOL, "19700101T00:00:00Z") == ["POOLWARDEN_OLD", "POOLWARDEN_NEW"]
    assert names("message.get", "Host", pool.hosts["h1"].uuid, "20260101T00:00:00") == ["POOLWARDEN_HOST"]
    assert on_unix(pool, "h1", "message.get_since", "yesterday") == Fault("FIELD_TYPE_ERROR", ("since",))
    refs = on_unix(pool, "h1", "message.get_all")
    assert isinstance(refs, Answer) and isinstance(refs.value, list)
    assert on_unix(pool, "h1", "message.destroy", refs.value[0]) == Answer("")
    assert on_unix(pool, "h1", "message.destroy", refs.value[0]) == Fault("HANDLE_INVALID", ("message", refs.value[0]))
    assert on_unix(pool, "h1", "message.destroy_many", [*refs.value[1:], "gone"]) == Answer("")
    assert records(pool, "h1") == {}


def test_dates_are_right_over_a_leap_day_and_a_century() -> None:
    days = (0, 59, 11_016, 11_017, 19_782, 19_783, 20_453)
    assert [dates._date(day) for day in days] == [
        "19700101", "19700301", "20000229", "20000301", "20240229", "20240301", "20251231",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[Rig]:
    with rig_of(2) as rig:
        rig.start("h1", "h2")
        rig.wait_event("h1", "init-complete")
        rig.wait_event("h2", "init-complete")
        yield rig


def logged_in(pair: Rig, host: str = "h1") -> XenAPI.Session:
    session = pair.tcp(host)
    session.xenapi.login_with_password("root", "xenroot", "1.0", "test")
    return session


def test_a_stock_client_follows_messages(pair: Rig) -> None:
    """``event.from`` waits, tells of the new one and of its end, and counts on from its token."""
    session, writer = logged_in(pair), logged_in(pair)
    follow = getattr(session.xenapi, "event.from")
    first = follow(["message"], "", 0.0)
    assert first["events"] == [] and first["valid_ref_counts"]["host"] == 2
    timer = threading.Timer(0.2, lambda: writer.xenapi.message.create("POOLWARDEN_X", "2", "Pool", POOL, "Died: ä"))
    timer.start()
    told = follow(["message"], first["token"], 10.0)
    timer.join()
    (event,) = told["events"]
    assert (event["class"], event["operation"], event["snapshot"]["body"]) == ("message", "add", "Died: ä")
    ((ref, record),) = session.xenapi.message.get_all_records().items()
    assert ref == event["ref"] and record == event["snapshot"] and record["priority"] == "2"
    assert session.xenapi.message.get("Pool", POOL, record["timestamp"]) == {}
    session.xenapi.message.destroy(ref)
    (over,) = follow(["message"], told["token"], 5.0)["events"]
    assert (over["operation"], over["ref"]) == ("del", ref) and "snapshot" not in over
    with pytest.raises(XenAPI.Failure) as none:
        follow(["message"], "of-yesterday", 0.0)
    assert none.value.details == ["EVENT_FROM_TOKEN_PARSE_FAILURE", "of-yesterday"]


def test_a_member_sends_the_client_to_the_master(pair: Rig) -> None:
    with pytest.raises(XenAPI.Failure) as failure:
        logged_in(pair, "h2")
    assert failure.value.details == ["HOST_IS_SLAVE", pair.tree("h1").address]
    local = pair.unix("h2")
    local.xenapi.login_with_password("", "", "1.0", "test")  # over the Unix socket it is forwarded
    ref = local.xenapi.message.create("POOLWARDEN_BY_A_MEMBER", "5", "Pool", POOL, "x")
    master = logged_in(pair)
    assert master.xenapi.message.get_record(ref)["name"] == "POOLWARDEN_BY_A_MEMBER"
    master.xenapi.message.destroy(ref)
