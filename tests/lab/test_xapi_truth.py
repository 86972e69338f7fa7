"""What the modelled xapi does as the real one does, where it is easily believed to do otherwise. Each test names the
source in xapi that says so (26.1.3 and 26.17.0)."""

import pytest
from xapi_pool import UP_MS, on_unix, promote, running_pool, wait_for

from poolwarden_lab.statedb import dump_local, parse_generation, parse_local, parse_state
from poolwarden_lab.xapi import datamodel, paths
from poolwarden_lab.xapi.actions import Answer, Fault, Lost, PeerResult
from poolwarden_lab.xapi.database import RESTORE_DB, RIVALS, STATE_DB, choose
from poolwarden_lab.xapi.trees import MemoryDisk
from poolwarden_lab.xapi.virtual import VirtualPool

HA, GEN = RIVALS
FLUSH_MS = 300_000


def generation(pool: VirtualPool, host: str) -> int:
    model = pool.hosts[host].model
    assert model is not None and model.database is not None
    return model.database.generation


def on_disk(pool: VirtualPool, host: str, path: str = STATE_DB) -> int:
    disk = pool.hosts[host].disk
    return parse_generation(disk.read(path + ".generation")) if disk.exists(path + ".generation") else 0


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
