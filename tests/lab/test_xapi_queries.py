"""What clients ask besides records: expressions, tags, their own tasks, the classes that they list at their login."""

from collections.abc import Sequence

import pytest
from xapi_pool import on_unix, ref_of, running_pool

from poolwarden_lab.xapi import datamodel, filters
from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult, XapiFault
from poolwarden_lab.xapi.trees import VmSpec, uuid_of
from poolwarden_lab.xapi.virtual import VirtualPool

VMS = (VmSpec("web", 0), VmSpec("db", 1), VmSpec("spare", None))


def pool_with_vms() -> VirtualPool:
    return running_pool(3, vms=VMS)


def value(pool: VirtualPool, method: str, *params: object) -> object:
    answer = on_unix(pool, "h1", method, *params)
    assert isinstance(answer, Answer), answer
    return answer.value


def found(pool: VirtualPool, name: str, expression: str) -> list[str]:
    records = value(pool, f"{name}.get_all_records_where", expression)
    assert isinstance(records, dict)
    assert sorted(records) == sorted(_texts(value(pool, f"{name}.get_all_where", expression)))
    return sorted(str(record.get("name_label", record["uuid"])) for record in records.values())


def code(result: PeerResult) -> str:
    return result.code if isinstance(result, Fault) else str(result)


def _texts(items: object) -> Sequence[str]:
    assert isinstance(items, list)
    return items


# ------------------------------------------------------------------------------------ expressions


@pytest.mark.parametrize(
    "expression, holds",
    [
        ("true", True),
        ("not true", False),
        ('field "a" = "1"', True),
        ('"1" = field "a"', True),
        ('field "a" = field "b"', False),
        ('field "a"="1"and field "b"="2"', True),
        ("true or true and false", False),  # both from the left
        ("not false and false", True),  # not reaches to the end
        ("(not false) and false", False),
        ('\n( ( "x y" = "x y" ) )\t', True),
    ],
)
def test_expressions_are_read_as_xapi_reads_them(expression: str, holds: bool) -> None:
    """db_filter_parse.mly: %right LNOT, then %left LAND LOR."""
    assert filters.parse(expression)({"a": "1", "b": "2"}.__getitem__) is holds


@pytest.mark.parametrize(
    "expression", ["", "tru", 'field a = "1"', '"a"', 'true "a"', '("a" = "a"', "not", '"a', "()", "("]
)
def test_what_is_no_expression_is_an_invalid_value(expression: str) -> None:
    """exnHelper.ml: Db_filter.Expression_error."""
    with pytest.raises(XapiFault) as refused:
        filters.parse(expression)
    assert (refused.value.code, refused.value.params[0]) == ("INVALID_VALUE", expression)


def test_an_expression_without_end_is_refused_too() -> None:
    with pytest.raises(XapiFault):
        filters.parse("(" * 100_000)


def test_records_by_an_expression() -> None:
    """db_cache_impl.ml find_refs_with_filter_internal: names are those of columns."""
    pool = pool_with_vms()
    assert found(pool, "VM", 'field "name__label" = "web"') == ["web"]
    running = 'field "power_state" = "Running" and field "is_control_domain" = "false"'
    assert found(pool, "VM", running) == ["db", "web"]
    host = ref_of(pool, "h1", "host", pool.hosts["h2"].uuid)
    assert found(pool, "VM", f'{running} and field "resident_on" = "{host}"') == ["db"]
    assert found(pool, "host", f'field "_ref" = "{host}"') == ["lab-h2"]
    assert found(pool, "host", "false") == []
    srs = found(pool, "PBD", f'field "host" = "{host}"')
    assert len(srs) == len(_texts(value(pool, "host.get_PBDs", host)))
    assert found(pool, "subject", "true") == []


def test_columns_that_are_not_kept_and_columns_that_do_not_exist() -> None:
    pool = pool_with_vms()
    vm = ref_of(pool, "h1", "VM", uuid_of("lab", "VM", "web"))
    assert found(pool, "VM", 'field "snapshot_info" = "()" and field "name__label" = "web"') == ["web"], "a default"
    vbds = _texts(value(pool, "VM.get_VBDs", vm))
    assert found(pool, "VM", f"""field "VBDs" = "('{vbds[0]}')" """) == ["web"], "the other end of a relation"
    missing = on_unix(pool, "h1", "VM.get_all_records_where", 'field "name_label" = "web"')
    assert missing == Fault("INTERNAL_ERROR", ("missing field", "name_label", ""))
    assert code(on_unix(pool, "h1", "VM.get_all_where", "nonsense")) == "INVALID_VALUE"


def test_a_member_passes_expressions_on() -> None:
    """api_server.ml: from its Unix socket to the master, with a session of the pool."""
    pool = pool_with_vms()
    replies: list[PeerResult] = []
    session = pool.call_now("h1", "unix", "session.login_with_password", ("root", ""))
    assert isinstance(session, Answer)
    params = (session.value, 'field "name__label" = "web"')
    pool.call("h2", "unix", "VM.get_all_where", params, replies.append)
    pool.run_until(pool.now + 1_000)
    assert replies == [Answer([ref_of(pool, "h1", "VM", uuid_of("lab", "VM", "web"))])]


def test_messages_by_an_expression() -> None:
    """xapi_message.ml get_all_records_where: the fields of a message, by the names of the API."""
    pool = pool_with_vms()
    uuid = pool.hosts["h1"].uuid
    for name, priority in (("ONE", "1"), ("TWO", "3")):
        value(pool, "message.create", name, priority, "Host", uuid, "body")
    records = value(pool, "message.get_all_records_where", f'field "obj_uuid" = "{uuid}" and field "priority" = "3"')
    assert isinstance(records, dict) and [each["name"] for each in records.values()] == ["TWO"]
    missing = on_unix(pool, "h1", "message.get_all_records_where", 'field "known" = ""')
    assert missing == Fault("INTERNAL_ERROR", ("missing field", "known", ""))


# ------------------------------------------------------------------------------------ tags, tasks, events


@pytest.mark.parametrize("name", ["VM", "host", "SR", "pool", "VDI"])
def test_tags_are_added_once_and_removed(name: str) -> None:
    pool = pool_with_vms()
    ref = _texts(value(pool, f"{name}.get_all"))[0]
    for tag in ("tier-1", "tier-2", "tier-1"):
        value(pool, f"{name}.add_tags", ref, tag)
    assert sorted(_texts(value(pool, f"{name}.get_tags", ref))) == ["tier-1", "tier-2"]
    value(pool, f"{name}.remove_tags", ref, "tier-1")
    value(pool, f"{name}.remove_tags", ref, "never-there")
    assert value(pool, f"{name}.get_tags", ref) == ["tier-2"]


def test_a_map_is_written_key_by_key() -> None:
    pool = pool_with_vms()
    ref = _texts(value(pool, "VM.get_all"))[0]
    value(pool, "VM.add_to_other_config", ref, "poolwarden:tier", "1")
    again = on_unix(pool, "h1", "VM.add_to_other_config", ref, "poolwarden:tier", "2")
    assert code(again) == "MAP_DUPLICATE_KEY"
    value(pool, "VM.remove_from_other_config", ref, "poolwarden:tier")
    assert "poolwarden:tier" not in str(value(pool, "VM.get_other_config", ref))


def test_a_client_keeps_a_task_of_its_own() -> None:
    """xapi_task.ml: any of these may be written by who made it."""
    pool = pool_with_vms()
    task = value(pool, "task.create", "backup", "of web")
    value(pool, "task.set_progress", task, 0.5)
    value(pool, "task.set_result", task, "<value>done</value>")
    value(pool, "task.set_error_info", task, ["OPERATION_NOT_ALLOWED", "why"])
    value(pool, "task.add_to_other_config", task, "job", "7")
    value(pool, "task.set_status", task, "failure")
    record = value(pool, "task.get_record", task)
    assert isinstance(record, dict)
    kept = {key: record[key] for key in ("status", "progress", "result", "error_info", "other_config")}
    assert kept == {
        "status": "failure",
        "progress": 0.5,
        "result": "<value>done</value>",
        "error_info": ["OPERATION_NOT_ALLOWED", "why"],
        "other_config": {"job": "7"},
    }
    assert code(on_unix(pool, "h1", "task.set_status", task, "lost")) == "FIELD_TYPE_ERROR"
    assert code(on_unix(pool, "h1", "task.set_error_info", task, "text")) == "FIELD_TYPE_ERROR"
    assert code(on_unix(pool, "h1", "task.set_result", "OpaqueRef:x", "")) == "HANDLE_INVALID"


def test_the_number_of_the_last_event_rises() -> None:
    pool = pool_with_vms()
    before = value(pool, "event.get_current_id")
    value(pool, "VM.add_tags", _texts(value(pool, "VM.get_all"))[0], "x")
    after = value(pool, "event.get_current_id")
    assert isinstance(before, str) and isinstance(after, str), "integers are strings"
    assert int(after) > int(before)


# ------------------------------------------------------------------------------------ classes, and what there is not


def test_every_class_is_listed_and_the_event_of_none_is_forgotten() -> None:
    pool = pool_with_vms()
    counts = value(pool, "event.from", ["*"], "", "0")
    assert isinstance(counts, dict)
    for name, fields in datamodel.CLASSES.items():
        records = value(pool, f"{name}.get_all_records")
        assert isinstance(records, dict)
        assert all(set(record) == set(fields) for record in records.values()), name
        assert int(counts["valid_ref_counts"][name.lower()]) == len(records), name


@pytest.mark.parametrize(
    "method",
    [
        "VM.snapshot",
        "VM.clone",
        "VM.copy",
        "VM.suspend",
        "VM.migrate_send",
        "host.reboot",
        "host.shutdown",
        "host.power_on",
        "role.get_all_records",
        "SR.create",
        "Async.VM.snapshot",
        "VM.add_other_config",
        "VM.add_to_tags",
    ],
)
def test_what_the_model_has_no_notion_of_is_refused_and_not_made_up(method: str) -> None:
    pool = pool_with_vms()
    ref = _texts(value(pool, "VM.get_all"))[0]
    assert on_unix(pool, "h1", method, ref, "name") == Fault("MESSAGE_METHOD_UNKNOWN", (method,))
    assert method not in _texts(value(pool, "system.listMethods"))
