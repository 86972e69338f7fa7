"""What the modelled xapi does as the real one does, where it is easily believed to do otherwise. Each test names the
source in xapi that says so (26.1.3 and 26.17.0)."""

import pytest
from xapi_pool import UP_MS, on_unix, promote, running_pool, wait_for

from poolwarden_lab.statedb import dump_local, parse_generation, parse_local, parse_state
from poolwarden_lab.xapi import datamodel, paths
from poolwarden_lab.xapi.actions import Answer, Fault, Lost, PeerResult
from poolwarden_lab.xapi.database import RESTORE_DB, RIVALS, STATE_DB, choose
from poolwarden_lab.xapi.trees import MemoryDisk
from poolwarden_lab.xapi.virtual import STOP_PATIENCE_MS, VirtualPool

HA, GEN = RIVALS
FLUSH_MS = 300_000
LOOK_MS = 2_000
MASTER_START_MS = 12_000


def generation(pool: VirtualPool, host: str) -> int:
    model = pool.hosts[host].model
    assert model is not None and model.database is not None
    return model.database.generation


def on_disk(pool: VirtualPool, host: str, path: str = STATE_DB) -> int:
    disk = pool.hosts[host].disk
    return parse_generation(disk.read(path + ".generation")) if disk.exists(path + ".generation") else 0


def facts(pool: VirtualPool, event: str, host: str, since_ms: int = 0) -> list[dict[str, str]]:
    return [entry.event.facts for entry in pool.events(event, host, since_ms)]


def local(pool: VirtualPool, host: str) -> dict[str, str]:
    return parse_local(pool.hosts[host].disk.read("var/lib/xcp/local.db"))


def code(result: PeerResult) -> str:
    return result.code if isinstance(result, Fault) else str(result)


@pytest.mark.parametrize(
    ("generations", "wins"),
    [
        ({HA: 7, GEN: 7, STATE_DB: 7}, HA),
        ({GEN: 7, STATE_DB: 7}, GEN),
        ({HA: 6, GEN: 7, STATE_DB: 7}, GEN),
        ({HA: 7, STATE_DB: 8}, STATE_DB),
        ({HA: 7, STATE_DB: 9, RESTORE_DB: 7}, HA),
        ({HA: 7, STATE_DB: 9, RESTORE_DB: 8}, RESTORE_DB),
        ({STATE_DB: 9, RESTORE_DB: 1}, RESTORE_DB),
        ({STATE_DB: 0}, STATE_DB),
    ],
)
def test_which_file_a_start_loads(generations: dict[str, int], wins: str) -> None:
    """Strictly greater, ha_metadata.db before gen_metadata.db before state.db (db_cache_impl.ml, db_connections.ml).

    restore_db.db stands in the place of state.db: xapi.ml populate_db.
    """
    disk = MemoryDisk()
    for path, number in generations.items():
        disk.write(path, b"")
        disk.write(path + ".generation", str(number).encode())
    assert choose(disk) == wins


@pytest.mark.parametrize("fails", [False, True])
def test_a_clean_stop_flushes_unless_a_pre_shutdown_hook_fails(fails: bool) -> None:
    """xapi_host.ml shutdown_agent before 26.17.0 (CA-428532): the exception of a hook skips the flush."""
    pool = running_pool()
    pool.run_until(UP_MS + FLUSH_MS)
    for _ in range(2):
        on_unix(pool, "h1", "lab.touch")
        pool.run_until(pool.now + 10_000)
    newest, older = generation(pool, "h1"), on_disk(pool, "h1")
    assert older < newest
    pool.fail_stop_hook("h1", fails)
    pool.stop_xapi("h1")
    assert on_disk(pool, "h1") == (older if fails else newest)


def test_every_change_of_role_is_written_to_local_db() -> None:
    """xapi_pool_transition.ml set_role: this_node_just_became_master, true or false, whoever changes the role."""
    pool = running_pool()
    promote(pool, "h2")
    assert local(pool, "h2")["this_node_just_became_master"] == "true"
    promote(pool, "h1")
    assert local(pool, "h1")["this_node_just_became_master"] == "false", "it was master already"
    on_unix(pool, "h3", "pool.emergency_reset_master", pool.hosts["h2"].address)
    assert local(pool, "h3")["this_node_just_became_master"] == "false"
    assert local(pool, "h3")["ha.armed"] == "false", "what else is there stays"


def test_a_returning_master_that_yields_writes_it_as_well() -> None:
    """xapi.ml check_no_other_masters: by set_role, too."""
    pool = running_pool()
    pool.power_off("h1")
    pool.hosts["h1"].disk.write("var/lib/xcp/local.db", dump_local({"this_node_just_became_master": "true"}))
    promote(pool, "h2")
    pool.run_until(pool.now + 60_000)
    pool.power_on("h1")
    pool.run_while(lambda: "slave" not in pool.pool_conf("h1"), pool.now + 200_000)
    assert local(pool, "h1")["this_node_just_became_master"] == "false"


def test_after_a_failed_commit_every_other_host_is_told_all_the_same() -> None:
    """xapi_pool_transition.ml phase 2: broken first, then everybody, then a restart, broken."""
    pool = running_pool()
    pool.refuse_commit("h1")
    refs = on_unix(pool, "h1", "host.get_by_uuid", pool.hosts["h3"].uuid)
    assert isinstance(refs, Answer)
    replies: list[PeerResult] = []
    pool.call("h1", "unix", "pool.designate_new_master", (pool.local_session("h1"), refs.value), replies.append)
    pool.run_until(pool.now + 100)
    assert [entry.event.facts["value"] for entry in pool.events("pool.conf", "h3")] == ["broken"]
    assert pool.pool_conf("h2") == f"slave:{pool.hosts['h3'].address}", "told after h1 had failed"
    assert pool.pool_conf("h1") == "master"
    assert len(replies) == 1 and isinstance(replies[0], Fault)
    pool.run_until(pool.now + 60_000)
    refused = pool.call_now("h3", "tcp", "session.login_with_password", ("root", "xenroot"))
    assert code(refused) == "HOST_BROKEN"


@pytest.mark.parametrize(
    ("method", "path", "handler"),
    [
        ("POST", "/", "xml"),
        ("POST", "/RPC2", "xml"),
        ("POST", "/RPC2?x=1", "xml"),
        ("POST", "/xmlrpc", "xml"),
        ("POST", "/nobody/knows/it", "xml"),
        ("POST", "/jsonrpc", "json"),
        ("POST", "/jsonrpc/and-more", "json"),
        ("POST", "/json", "xml"),
        ("POST", "/remote_db_access", 403),
        ("POST", "nowhere", "xml"),
        ("GET", "/", 404),
        ("PUT", "/", 501),
    ],
)
def test_the_longest_prefix_of_a_path_answers(method: str, path: str, handler: str | int) -> None:
    """http_svr.ml handle_one: "/" is a prefix of every path."""
    assert paths.handler(method, path) == handler


def test_https_only_is_the_firewalls_doing_and_looks_like_silence() -> None:
    """xapi_host.ml set_https_only: packets to port 80 are dropped; 443 tells the same."""
    pool = running_pool()
    pool.set_port("h1", "tcp", "filtered")
    replies: list[PeerResult] = []
    began = pool.now
    pool.call("h1", "tcp", "system.isAlive:x", ("x",), replies.append, source="h2")
    pool.run_while(lambda: not replies, pool.now + 200_000)
    assert replies == [Lost("unreachable")] and pool.now - began > 100_000
    assert pool.call_now("h1", "tls", "system.isAlive:x", ("x",), source="h2") == Answer("x")


def test_of_all_classes_the_pools_names_alone_have_no_namespace() -> None:
    """datamodel_pool.ml: a table pool with name__label is refused by the real reader."""
    (row,) = parse_state(running_pool().hosts["h1"].disk.read(STATE_DB)).tables["pool"].values()
    assert row["name_label"] == "lab" and "name__label" not in row
    for name in ("VM", "host", "SR", "VDI", "network", "task"):
        assert datamodel.column_of(name, "name_label") == "name__label", name
    assert datamodel.column_of("pool", "name_label") == "name_label"
    assert datamodel.column_of("VM", "memory_static_max") == "memory__static_max"
    assert datamodel.column_of("VM_guest_metrics", "PV_drivers_version") == "PV_drivers_version"


def test_no_column_is_of_a_field_that_the_datamodel_lacks() -> None:
    """An unknown column makes xapi refuse the file."""
    pool = running_pool()
    wait_for(pool, "h1", "lab.vm_start", "11111111-2222-3333-4444-555555555555", "young")
    model = pool.hosts["h1"].model
    assert model is not None and model.database is not None
    for name, fields in datamodel.CLASSES.items():
        columns = {"_ref", *(datamodel.column_of(name, field) for field in fields)}
        for row in model.database.table(name).values():
            assert set(row) <= columns, name


# ------------------------------------------------------------------------------------ flushes


def test_after_a_quiet_time_a_write_is_flushed_within_two_seconds() -> None:
    """db_cache_impl.ml spawn_db_flush_threads: it counts the time since the last flush, not since the write."""
    pool = running_pool()
    pool.run_until(UP_MS + 2 * FLUSH_MS)
    assert on_disk(pool, "h1") == generation(pool, "h1")
    pool.run_until(pool.now + FLUSH_MS)
    on_unix(pool, "h1", "lab.touch")
    assert on_disk(pool, "h1") < generation(pool, "h1")
    pool.run_until(pool.now + LOOK_MS)
    assert on_disk(pool, "h1") == generation(pool, "h1")
    flushed = pool.now
    on_unix(pool, "h1", "lab.touch")
    pool.run_until(flushed + FLUSH_MS - LOOK_MS)
    assert on_disk(pool, "h1") < generation(pool, "h1"), "the next one waits for five minutes since that flush"
    pool.run_until(flushed + FLUSH_MS + LOOK_MS)
    assert on_disk(pool, "h1") == generation(pool, "h1")


def test_a_flush_that_fails_is_tried_again_two_seconds_later() -> None:
    """db_cache_impl.ml: an exception ends neither the thread nor its period; it is told once here."""
    pool = running_pool()
    disk = pool.hosts["h1"].disk
    pool.run_until(UP_MS + 2 * FLUSH_MS)
    on_unix(pool, "h1", "lab.touch")
    disk.full = True
    pool.run_until(pool.now + FLUSH_MS)
    disk.full = False
    pool.run_until(pool.now + LOOK_MS)
    assert on_disk(pool, "h1") == generation(pool, "h1")
    assert len(pool.events("flush-failed", "h1")) == 1


@pytest.mark.parametrize("rival", [None, HA, GEN])
def test_every_start_of_a_master_flushes_what_it_has_loaded(rival: str | None) -> None:
    """xapi.ml populate_db: Db_cache_impl.sync, whichever file it was; a rival stays where it is."""
    pool = running_pool()
    disk = pool.hosts["h1"].disk
    pool.stop_xapi("h1")
    content, number = disk.read(STATE_DB), on_disk(pool, "h1")
    if rival is not None:
        number += 5
        disk.write(rival, content)
        disk.write(rival + ".generation", str(number).encode())
    disk.write(STATE_DB + ".generation", b"1" if rival is not None else str(number).encode())
    written = disk.changed[STATE_DB]
    pool.run_until(pool.now + 10_000)
    pool.start_xapi("h1")
    pool.run_until(pool.now + MASTER_START_MS // 2)
    assert on_disk(pool, "h1") == number
    assert disk.changed[STATE_DB] > written
    assert rival is None or disk.exists(rival)


def test_a_start_flushes_on_a_full_disk_only_what_state_db_does_not_hold_yet() -> None:
    """The real one ends on any flush that fails (xapi.ml populate_db, watchdog); tests/README.md says why."""
    pool = running_pool()
    disk = pool.hosts["h1"].disk
    pool.stop_xapi("h1")
    number, content = on_disk(pool, "h1"), disk.read(STATE_DB)
    disk.full = True
    pool.start_xapi("h1")
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    assert pool.acting_masters() == ["h1"]
    pool.stop_xapi("h1", flush=False)
    disk.full = False
    disk.write(RESTORE_DB, content)
    disk.write(RESTORE_DB + ".generation", str(number + 5).encode())
    disk.full = True
    began = pool.now
    pool.start_xapi("h1")
    pool.run_until(began + 3 * MASTER_START_MS)
    assert set(map(str, facts(pool, "exit", "h1", began + 1))) == {"{'code': '2'}"}
    assert len(facts(pool, "exit", "h1", began + 1)) > 2
    assert pool.acting_masters() == [] and on_disk(pool, "h1") == number and disk.exists(RESTORE_DB)
    disk.full = False
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    assert pool.acting_masters() == ["h1"] and on_disk(pool, "h1") >= number + 5


# ------------------------------------------------------------------------------------ stops


@pytest.mark.parametrize("full", [False, True])
def test_a_wedged_xapi_is_killed_by_systemd_and_nothing_of_it_is_flushed(full: bool) -> None:
    """systemd.service(5), TimeoutStopSec: once for ExecStop, once after SIGTERM, then SIGKILL. The next is as usual."""
    pool = running_pool(full_stops=full)
    patience = 2 * STOP_PATIENCE_MS if full else STOP_PATIENCE_MS
    pool.run_until(UP_MS + 2 * FLUSH_MS)
    older = on_disk(pool, "h1")
    on_unix(pool, "h1", "lab.touch")
    pool.wedge_xapi("h1")
    pool.run_until(pool.now + FLUSH_MS)
    assert on_disk(pool, "h1") == older, "its flushing thread stands still as well"
    assert pool.call_now("h1", "unix", "system.isAlive:x", ("x",)) == Lost("timeout")
    began = pool.now
    pool.restart_xapi("h1")
    pool.run_until(began + patience - 1)
    assert facts(pool, "xapi-start", "h1", began) == []
    pool.run_until(began + patience + 1_000)
    assert len(facts(pool, "xapi-start", "h1", began)) == 1 and on_disk(pool, "h1") == older
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    stopped = pool.now
    pool.stop_xapi("h1")
    assert facts(pool, "exit", "h1", stopped) == [{"code": "0"}]


def test_a_master_that_cannot_flush_does_not_start() -> None:
    """xapi.ml populate_db, watchdog: the exception ends the process with 2, and systemd starts another."""
    pool = running_pool(full_stops=True)
    disk = pool.hosts["h1"].disk
    pool.stop_xapi("h1")
    began, content = pool.now, disk.read(STATE_DB)
    disk.full = True
    pool.start_xapi("h1")
    pool.run_until(began + 3 * MASTER_START_MS)
    assert set(map(str, facts(pool, "exit", "h1", began + 1))) == {"{'code': '2'}"}
    assert len(facts(pool, "exit", "h1", began + 1)) > 2
    assert pool.acting_masters() == [] and disk.read(STATE_DB) == content
    disk.full = False
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    assert pool.acting_masters() == ["h1"]


def test_a_master_that_cannot_flush_obeys_no_clean_stop_until_it_is_killed() -> None:
    """xapi.ml cleanup_handler: the flushing thread exits after its next flush, and that never comes."""
    pool = running_pool(full_stops=True)
    on_unix(pool, "h1", "lab.touch")
    pool.hosts["h1"].disk.full = True
    began = pool.now
    pool.restart_xapi("h1")
    pool.run_until(began + 2 * STOP_PATIENCE_MS - 1)
    assert facts(pool, "xapi-start", "h1", began) == [], "the first process is there"
    pool.run_until(began + 2 * STOP_PATIENCE_MS + 1_000)
    assert len(facts(pool, "xapi-start", "h1", began)) == 1


def test_with_room_again_it_flushes_and_stops() -> None:
    pool = running_pool(full_stops=True)
    on_unix(pool, "h1", "lab.touch")
    newest = generation(pool, "h1")
    pool.hosts["h1"].disk.full = True
    pool.restart_xapi("h1")
    pool.run_until(pool.now + 30_000)
    pool.hosts["h1"].disk.full = False
    pool.run_until(pool.now + LOOK_MS)
    assert on_disk(pool, "h1") == newest
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    assert pool.acting_masters() == ["h1"], "systemctl restart has gone on to its start"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_xapi_that_answers_nothing_is_stopped_by_sigterm_after_systemds_patience_with_execstop(wanted: bool) -> None:
    """scripts/xapi-init stop: `xe host-shutdown-agent` hangs; systemd.service(5): TimeoutStopSec, then SIGTERM."""
    pool = running_pool(full_stops=True)
    on_unix(pool, "h1", "lab.touch")
    newest, began = generation(pool, "h1"), pool.now
    pool.hang_xapi("h1")
    (pool.restart_xapi if wanted else pool.stop_xapi)("h1")
    pool.run_until(began + STOP_PATIENCE_MS - 1)
    assert pool.hosts["h1"].model is not None and facts(pool, "exit", "h1", began) == []
    pool.run_until(began + STOP_PATIENCE_MS + 100)
    assert facts(pool, "exit", "h1", began) == [{"code": "0"}]
    assert on_disk(pool, "h1") == newest, "SIGTERM is obeyed, and a master flushes"
    pool.run_until(pool.now + 2 * MASTER_START_MS)
    assert pool.acting_masters() == (["h1"] if wanted else [])


# ------------------------------------------------------------------------------------ starts


def test_a_masters_unix_socket_answers_before_its_database_is_loaded() -> None:
    """xapi.ml server_init: "Listening unix socket" comes before "starting up database engine", TCP after it.

    What needs no database answers; all else meets one without tables (db_backend.ml, db_cache_types.ml, exnHelper.ml).
    """
    pool = running_pool()
    pool.stop_xapi("h1")
    pool.start_xapi("h1")
    pool.run_while(lambda: "unix" not in pool.hosts["h1"].doors, pool.now + MASTER_START_MS)
    model = pool.hosts["h1"].model
    assert model is not None and model.database is None and pool.hosts["h1"].doors == {"unix"}
    assert pool.call_now("h1", "tcp", "system.isAlive:x", ("x",)) == Lost("refused")
    assert pool.call_now("h1", "tls", "system.isAlive:x", ("x",)) == Lost("refused")
    assert pool.call_now("h1", "unix", "system.isAlive:x", ("x",)) == Answer("x")
    assert on_unix(pool, "h1", "host.is_in_emergency_mode") == Answer(False)
    assert on_unix(pool, "h1", "host.local_assert_healthy") == Answer("")
    missing = Fault("INTERNAL_ERROR", ("missing table", "host", ""))
    assert pool.call_now("h1", "unix", "session.login_with_password", ("root", "")) == missing
    assert on_unix(pool, "h1", "host.get_all") == missing
    assert on_unix(pool, "h1", "pool.get_all") == Fault("INTERNAL_ERROR", ("missing table", "pool", ""))
    assert code(on_unix(pool, "h1", "pool.sync_database")) == "INTERNAL_ERROR"
    assert code(on_unix(pool, "h1", "nobody.knows_it")) == "MESSAGE_METHOD_UNKNOWN"
    pool.run_while(lambda: "tcp" not in pool.hosts["h1"].doors, pool.now + MASTER_START_MS)
    assert isinstance(pool.call_now("h1", "tcp", "session.login_with_password", ("root", "xenroot")), Answer)


def test_a_process_whose_database_cannot_be_loaded_answers_on_its_unix_socket_for_a_moment() -> None:
    """The same order: so an answer there is no sign of a master that serves."""
    pool = running_pool()
    pool.stop_xapi("h1")
    pool.hosts["h1"].disk.write(STATE_DB, b"<database>")
    began = pool.now
    pool.start_xapi("h1")
    pool.run_until(began + 2 * MASTER_START_MS)
    assert {each["door"] for each in facts(pool, "listening", "h1", began)} == {"unix"}
    assert len(facts(pool, "db-refused", "h1", began)) > 2 and pool.acting_masters() == []


@pytest.mark.parametrize("silent", [False, True])
def test_a_member_whose_master_dies_in_its_dbsync_gives_up_and_starts_anew(silent: bool) -> None:
    """xapi.ml:1232-1253: 10 s of patience after the hello, then the flag is true and the process exits with 123."""
    pool = running_pool()
    pool.stop_xapi("h2")
    pool.start_xapi("h2")
    pool.run_while(lambda: not facts(pool, "emergency", "h2", UP_MS + 1)[1:], pool.now + 60_000)
    assert facts(pool, "emergency", "h2", UP_MS + 1)[-1]["flag"] == "false", "it has said hello"
    began = pool.now
    if silent:
        pool.power_off("h1")  # noticed by the watchdog of its link only, after 130 s
    else:
        pool.stop_xapi("h1")
    pool.run_until(began + 9_000)
    assert on_unix(pool, "h2", "host.is_in_emergency_mode") == Answer(False)
    pool.run_until(began + (150_000 if silent else 30_000))
    assert on_unix(pool, "h2", "host.is_in_emergency_mode") == Answer(True)
    assert code(on_unix(pool, "h2", "host.local_assert_healthy")) == "HOST_STILL_BOOTING"
    pool.run_until(began + (300_000 if silent else 180_000))
    assert facts(pool, "exit", "h2", began) == [{"code": "123"}]
    assert on_unix(pool, "h2", "host.is_in_emergency_mode") == Answer(False), "blocked, as every orphan that starts"


def test_a_master_that_is_back_within_that_patience_is_waited_for() -> None:
    """The last look at the clock is before the last pause of the link: 0, 2, 6 s."""
    pool = running_pool()
    pool.stop_xapi("h2")
    pool.start_xapi("h2")
    pool.run_while(lambda: not facts(pool, "emergency", "h2", UP_MS + 1)[1:], pool.now + 60_000)
    began = pool.now
    pool.kill_xapi("h1")
    pool.run_until(began + 120_000)
    assert facts(pool, "dbsync-given-up", "h2", began) == [] and len(facts(pool, "init-complete", "h2", began)) == 1


# ------------------------------------------------------------------------------------ a switchover


def designate(pool: VirtualPool, host: str) -> None:
    ref = on_unix(pool, "h1", "host.get_by_uuid", pool.hosts[host].uuid)
    assert isinstance(ref, Answer)
    pool.call("h1", "unix", "pool.designate_new_master", (pool.local_session("h1"), ref.value), lambda _: None)
    pool.run_until(pool.now + 100)
    assert pool.pool_conf(host) == "master" and pool.pool_conf("h1") == f"slave:{pool.hosts[host].address}"


def test_a_designated_host_restarts_when_its_link_to_the_old_master_dies() -> None:
    """xapi_pool_transition.ml phase 2.2: no fuse, but a look at the old master's database every 3 s."""
    pool = running_pool()
    began = pool.now
    designate(pool, "h3")
    pool.run_until(began + 60_000)
    (gone,) = pool.events("exit", "h1", began)
    (restarted,) = pool.events("exit", "h3", began)
    assert 0 <= restarted.ms - gone.ms <= 3_000 and restarted.event.facts == {"code": "123"}
    assert facts(pool, "fuse", "h3", began) == [] and pool.acting_masters() == ["h3"]


def test_an_old_master_that_does_not_restart_keeps_it_waiting() -> None:
    pool = running_pool()
    pool.wet_fuse("h1")
    began = pool.now
    designate(pool, "h3")
    pool.run_until(began + 120_000)
    assert facts(pool, "exit", "h3", began) == [] and pool.acting_masters() == ["h1"]
    pool.kill_xapi("h1")
    pool.run_until(pool.now + 60_000)
    assert pool.acting_masters() == ["h3"]


def test_an_old_master_without_power_is_noticed_by_the_links_watchdog_only() -> None:
    """master_connection.ml: 120 s and its 10 s tick."""
    pool = running_pool()
    designate(pool, "h3")
    began = pool.now
    pool.power_off("h1")
    pool.run_until(began + 120_000)
    assert facts(pool, "exit", "h3", began) == []
    pool.run_until(began + 140_000)
    assert facts(pool, "exit", "h3", began) == [{"code": "123"}]


def test_a_host_tells_its_clock_as_a_date() -> None:
    """xapi_host.ml get_servertime; client libraries ask for it to place their tokens and messages in time."""
    pool = running_pool()
    ref = on_unix(pool, "h1", "host.get_by_uuid", pool.hosts["h1"].uuid)
    assert isinstance(ref, Answer)
    for method in ("host.get_servertime", "host.get_server_localtime"):
        assert on_unix(pool, "h1", method, ref.value) == Answer("20260101T00:01:00Z")
