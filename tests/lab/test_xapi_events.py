"""event.from, event.inject, event.next, Async calls, tasks and whole records, as clients use them.

Source: xapi ocaml/xapi/xapi_event.ml, xapi_task.ml, ocaml/idl/datamodel*.ml.
"""

from typing import Any

import pytest
from xapi_pool import VMS, lab_call, on_unix, ref_of, running_pool, wait_for

from poolwarden_lab.xapi import changes, datamodel
from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult, Timestamp
from poolwarden_lab.xapi.trees import VmSpec, make_pool_disks, uuid_of
from poolwarden_lab.xapi.virtual import VirtualPool

WEB = uuid_of("lab", "VM", "web")


def value(result: PeerResult) -> Any:
    assert isinstance(result, Answer), result
    return result.value


def told(pool: VirtualPool, token: str, *classes: str, limit_s: float = 0) -> dict[str, Any]:
    return dict[str, Any](value(wait_for(pool, "h1", "event.from", list(classes or ("*",)), token, limit_s)))


def short(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["class"], event["operation"]) for event in events]


@pytest.fixture
def pool() -> VirtualPool:
    return running_pool(trees=make_pool_disks(3, "lab", VMS, devices=True))


# ------------------------------------------------------------------------------------ event.from


def test_without_a_token_everything_is_told_as_added(pool: VirtualPool) -> None:
    first = told(pool, "")
    assert {operation for _, operation in short(first["events"])} == {"add"}
    assert {event["class"] for event in first["events"]} >= {"pool", "host", "vm", "sr", "pbd", "pif", "vdi", "network"}
    web = next(event for event in first["events"] if event["snapshot"].get("uuid") == WEB)
    assert web["snapshot"] == value(on_unix(pool, "h1", "VM.get_record", web["ref"]))
    assert first["valid_ref_counts"]["host"] == 3 and first["valid_ref_counts"]["task"] == 0
    assert told(pool, first["token"])["events"] == []


def test_one_class_or_one_object_can_be_asked_for(pool: VirtualPool) -> None:
    web = ref_of(pool, "h1", "VM", WEB)
    assert {cls for cls, _ in short(told(pool, "", "VM")["events"])} == {"vm"}
    assert [event["ref"] for event in told(pool, "", f"vm/{web}")["events"]] == [web]
    assert told(pool, "", "nonsense")["events"] == []


def test_a_change_is_told_with_what_changes_with_it_and_a_removal_without_a_snapshot(pool: VirtualPool) -> None:
    token = told(pool, "")["token"]
    web, h1 = ref_of(pool, "h1", "VM", WEB), ref_of(pool, "h1", "host", pool.hosts["h1"].uuid)
    value(wait_for(pool, "h1", "VM.hard_shutdown", web))
    events = told(pool, token, "VM", "host")["events"]
    assert {(event["ref"], event["operation"]) for event in events} == {(web, "mod"), (h1, "mod")}
    host = next(event for event in events if event["ref"] == h1)
    assert web not in host["snapshot"]["resident_VMs"]
    task = value(on_unix(pool, "h1", "task.create", "export", "of a disk"))
    token = told(pool, token)["token"]
    value(on_unix(pool, "h1", "task.destroy", task))
    (gone,) = told(pool, token, "task")["events"]
    assert (gone["operation"], gone["ref"]) == ("del", task) and "snapshot" not in gone


def test_what_came_and_went_between_two_calls_is_not_told(pool: VirtualPool) -> None:
    token = told(pool, "")["token"]
    value(on_unix(pool, "h1", "task.destroy", value(on_unix(pool, "h1", "task.create", "short", ""))))
    assert told(pool, token, "task")["events"] == []


def test_it_waits_until_there_is_something_or_for_its_limit(pool: VirtualPool) -> None:
    token = told(pool, "")["token"]
    replies: list[PeerResult] = []
    began = pool.now
    pool.call("h1", "unix", "event.from", (pool.local_session("h1"), ["task"], token, 60.0), replies.append)
    pool.run_until(began + 20_000)
    assert not replies
    on_unix(pool, "h1", "task.create", "now", "")
    pool.run_until(began + 20_010)
    assert short(value(replies[0])["events"]) == [("task", "add")]
    began = pool.now
    assert told(pool, value(replies[0])["token"], "task", limit_s=7)["events"] == []
    assert 7_000 <= pool.now - began < 7_100


def test_an_injected_event_comes_with_its_token(pool: VirtualPool) -> None:
    the_pool = value(on_unix(pool, "h1", "pool.get_all"))[0]
    token = value(on_unix(pool, "h1", "event.inject", "pool", the_pool))
    assert short(told(pool, token, "pool")["events"]) == [("pool", "mod")]
    refused = on_unix(pool, "h1", "event.inject", "pool", "OpaqueRef:none")
    assert isinstance(refused, Fault) and refused.code == "HANDLE_INVALID"


@pytest.mark.parametrize("token", ["x", "1", "1,", "a,b", "1,2,3"])
def test_a_token_that_is_none_is_refused(pool: VirtualPool, token: str) -> None:
    refused = on_unix(pool, "h1", "event.from", ["*"], token, 0.0)
    assert refused == Fault("EVENT_FROM_TOKEN_PARSE_FAILURE", (token,))


# ------------------------------------------------------------------------------------ the older way


def test_events_are_lost_where_too_much_has_happened(pool: VirtualPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KEPT", 5)
    session = pool.local_session("h1")

    def ask(method: str, *params: object) -> PeerResult:
        return pool.call_now("h1", "unix", method, (session, *params))

    assert ask("event.next") == Fault("SESSION_NOT_REGISTERED", (session,))
    assert ask("event.register", ["task"]) == Answer("")
    task = value(ask("task.create", "a", ""))
    assert short(value(ask("event.next"))) == [("task", "add")]
    value(ask("task.destroy", task))
    for _ in range(7):
        value(ask("task.destroy", value(ask("task.create", "b", ""))))
    assert ask("event.next") == Fault("EVENTS_LOST")
    value(ask("task.create", "c", ""))
    assert short(value(ask("event.next"))) == [("task", "add")], "registered still"
    value(ask("event.unregister", ["task"]))
    assert ask("event.next") == Fault("SESSION_NOT_REGISTERED", (session,))


# ------------------------------------------------------------------------------------ Async and tasks


def test_an_async_call_answers_its_task_and_ends_there(pool: VirtualPool) -> None:
    spare = ref_of(pool, "h1", "VM", uuid_of("lab", "VM", "spare"))
    task = value(on_unix(pool, "h1", "Async.VM.start", spare, False, False))
    assert value(on_unix(pool, "h1", "task.get_status", task)) == "pending"
    pool.run_until(pool.now + 10_000)
    record = value(on_unix(pool, "h1", "task.get_record", task))
    assert (record["name_label"], record["status"], record["result"]) == ("Async.VM.start", "success", "")
    assert record["progress"] == 1.0 and isinstance(record["finished"], Timestamp) and record["error_info"] == []
    value(on_unix(pool, "h1", "task.destroy", task))
    assert value(on_unix(pool, "h1", "task.get_all")) == []


def test_an_async_call_that_fails_says_why_in_its_task(pool: VirtualPool) -> None:
    web = ref_of(pool, "h1", "VM", WEB)
    task = value(on_unix(pool, "h1", "Async.VM.start", web, False, False))
    pool.run_until(pool.now + 1_000)
    record = value(on_unix(pool, "h1", "task.get_record", task))
    assert record["status"] == "failure" and record["error_info"] == ["VM_BAD_POWER_STATE", web, "halted", "running"]


def test_the_value_of_an_async_call_is_xml_text(pool: VirtualPool) -> None:
    task = value(on_unix(pool, "h1", "Async.pool.recover_slaves"))
    pool.run_until(pool.now + 30_000)
    result = value(on_unix(pool, "h1", "task.get_result", task))
    assert result.startswith("<value><array><data><value>OpaqueRef:") and "\n" not in result


@pytest.mark.parametrize(
    "method", ["Async.pool.emergency_transition_to_master", "Async.VM.get_record", "Async.event.from", "Async.no.such"]
)
def test_what_is_sync_only_has_no_async_form(pool: VirtualPool, method: str) -> None:
    assert on_unix(pool, "h1", method) == Fault("MESSAGE_METHOD_UNKNOWN", (method,))


def test_a_new_master_begins_without_tasks_and_sessions(pool: VirtualPool) -> None:
    session = value(pool.call_now("h1", "tcp", "session.login_with_password", ("root", "xenroot")))
    lab_call(pool, "task.create", "long", "")
    pool.restart_xapi("h1")
    pool.run_while(lambda: "tcp" not in pool.hosts["h1"].doors, pool.now + 60_000)
    assert value(on_unix(pool, "h1", "task.get_all")) == []
    lost = pool.call_now("h1", "tcp", "event.from", (session, ["*"], "", 0.0))
    assert lost == Fault("SESSION_INVALID", (session,))


# ------------------------------------------------------------------------------------ records


def test_every_record_has_every_field_of_its_class_in_its_type(pool: VirtualPool) -> None:
    types = {"text": str, "bool": bool, "int": str, "real": float, "ref": str, "set": list, "map": dict}
    types["time"] = Timestamp
    on_unix(pool, "h1", "task.create", "a", "b")
    for name, fields in datamodel.CLASSES.items():
        records = value(on_unix(pool, "h1", f"{name}.get_all_records"))
        for record in records.values():
            assert record.keys() == fields.keys(), name
            for field, about in fields.items():
                assert isinstance(record[field], types[about.kind]), (name, field, record[field])
                assert about.kind != "int" or record[field].lstrip("-").isdigit(), (name, field)
    methods = value(on_unix(pool, "h1", "system.listMethods"))
    assert {"VM.get_all_records", "VM.get_memory_dynamic_max", "event.from", "message.get_all_records"} <= set(methods)
    assert len(value(on_unix(pool, "h1", "VM.get_all_records"))) == 4 + 3


def test_references_lead_both_ways(pool: VirtualPool) -> None:
    web = value(on_unix(pool, "h1", "VM.get_record", ref_of(pool, "h1", "VM", WEB)))
    (vif,) = web["VIFs"]
    network = value(on_unix(pool, "h1", "VIF.get_network", vif))
    assert vif in value(on_unix(pool, "h1", "network.get_VIFs", network))
    assert len(value(on_unix(pool, "h1", "network.get_PIFs", network))) == 3
    host = value(on_unix(pool, "h1", "host.get_record", web["resident_on"]))
    assert value(on_unix(pool, "h1", "PIF.get_IP", host["PIFs"][0])) == host["address"]
    assert value(on_unix(pool, "h1", "VM_metrics.get_memory_actual", web["metrics"])) == str(2048 << 20)


def test_names_and_other_config_can_be_written(pool: VirtualPool) -> None:
    web = ref_of(pool, "h1", "VM", WEB)
    before = value(on_unix(pool, "h1", "lab.touch"))
    assert on_unix(pool, "h1", "VM.set_name_label", web, "www") == Answer("")
    assert value(on_unix(pool, "h1", "VM.get_by_name_label", "www")) == [web]
    assert on_unix(pool, "h1", "VM.add_to_other_config", web, "k", "v") == Answer("")
    again = on_unix(pool, "h1", "VM.add_to_other_config", web, "k", "w")
    assert again == Fault("MAP_DUPLICATE_KEY", ("VM", "other_config", web, "k"))
    assert value(on_unix(pool, "h1", "VM.get_other_config", web)) == {"k": "v"}
    assert on_unix(pool, "h1", "VM.remove_from_other_config", web, "k") == Answer("")
    assert on_unix(pool, "h1", "VM.set_tags", web, ["a", "b c"]) == Answer("")
    assert value(on_unix(pool, "h1", "VM.get_tags", web)) == ["a", "b c"]
    assert int(value(on_unix(pool, "h1", "lab.touch"))) == int(before) + 5, "each write is a generation"
    assert isinstance(on_unix(pool, "h1", "VM.set_power_state", web, "Halted"), Fault)
    assert on_unix(pool, "h1", "VM.set_tags", web, "a") == Fault("FIELD_TYPE_ERROR", ("set",))


def test_a_pool_over_ipv6_says_so_in_its_interfaces() -> None:
    trees = make_pool_disks(2, "six", [VmSpec("a")], addresses=["fd00::1", "fd00::2"], devices=True)
    pool = VirtualPool(2, "six", trees=trees)
    pool.power_on_all()
    pool.run_until(60_000)
    pifs = value(on_unix(pool, "h1", "PIF.get_all_records")).values()
    assert sorted(pif["IPv6"][0] for pif in pifs) == ["fd00::1/64", "fd00::2/64"]
    assert {(pif["primary_address_type"], pif["IP"], pif["management"]) for pif in pifs} == {("IPv6", "", True)}
