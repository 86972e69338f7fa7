"""A pool loses its master, in virtual time: promotion, repointing, and everything that makes it slow or dangerous."""

import pytest
from xapi_pool import UP_MS, lab_call, on_unix, promote, repoint, running_pool

from poolwarden_lab.xapi.actions import Answer, Fault, Lost
from poolwarden_lab.xapi.virtual import TIMEOUT, VirtualPool


def enabled_hosts(pool: VirtualPool, master: str) -> set[str]:
    session = pool.call_now(master, "unix", "session.login_with_password", ("root", ""))
    assert isinstance(session, Answer)
    records = pool.call_now(master, "unix", "host.get_all_records", (session.value,))
    assert isinstance(records, Answer) and isinstance(records.value, dict)
    return {record["hostname"].removeprefix("lab-") for record in records.value.values() if record["enabled"]}


def vm_uuid(pool: VirtualPool, host: str, name: str) -> str:
    return next(uuid for uuid, label in pool.hosts[host].domains.domains().items() if label == name)


def test_a_promotion_and_both_repoints_kill_nobody() -> None:
    pool = running_pool(4)
    assert enabled_hosts(pool, "h1") == {"h1", "h2", "h3", "h4"}
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_while(lambda: "h2" not in pool.acting_masters(), UP_MS + 60_000)
    repoint(pool, "h3", "h2")
    repoint(pool, "h4", "h2")
    pool.run_while(lambda: enabled_hosts(pool, "h2") != {"h2", "h3", "h4"}, UP_MS + 120_000)
    assert pool.acting_masters() == ["h2"]
    assert not any(host.domains.kills for host in pool.hosts.values())


def test_after_a_promotion_members_name_the_new_master_and_old_sessions_are_gone() -> None:
    pool = running_pool()
    login = ("root", "xenroot", "1.0", "test")
    old = pool.call_now("h1", "tcp", "session.login_with_password", login)
    assert isinstance(old, Answer)
    assert pool.call_now("h3", "tcp", "session.login_with_password", login) == Fault(
        "HOST_IS_SLAVE", (pool.hosts["h1"].address,)
    )
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 60_000)
    assert pool.call_now("h3", "tcp", "session.login_with_password", login) == Fault(
        "HOST_IS_SLAVE", (pool.hosts["h2"].address,)
    )
    invalid = pool.call_now("h2", "tcp", "pool.get_all", (old.value,))
    assert invalid == Fault("SESSION_INVALID", (str(old.value),))


def test_all_hosts_are_disabled_when_the_new_master_begins() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_while(lambda: "h2" not in pool.acting_masters(), UP_MS + 60_000)
    assert enabled_hosts(pool, "h2") == set()


def test_the_call_answers_before_the_process_changes_and_the_old_role_lasts_as_long_as_the_fuse() -> None:
    pool = running_pool()
    pool.power_off("h1")
    pid = pool.hosts["h2"].pid
    promote(pool, "h2")
    assert pool.pool_conf("h2") == "master"
    pool.run_until(UP_MS + 9_900)
    assert pool.hosts["h2"].pid == pid
    assert isinstance(pool.call_now("h2", "tcp", "session.login_with_password", ("x", "x")), Fault)
    pool.run_until(UP_MS + 10_500)
    assert pool.hosts["h2"].pid == pid + 1
    assert [str(entry.event) for entry in pool.events("exit")] == ["exit code=123"]


def test_the_fuse_is_lit_once_and_the_last_writer_of_pool_conf_wins() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 5_000)
    repoint(pool, "h2", "h3")
    assert pool.pool_conf("h2") == f"slave:{pool.hosts['h3'].address}"
    pool.run_until(UP_MS + 30_000)
    assert len(pool.events("fuse", "h2")) == len(pool.events("exit", "h2")) == 1
    assert pool.events("exit", "h2")[0].ms == UP_MS + 10_000


def test_with_a_wet_fuse_the_call_answers_ok_and_nothing_restarts() -> None:
    pool = running_pool()
    pool.power_off("h1")
    pool.wet_fuse("h2")
    pid = pool.hosts["h2"].pid
    promote(pool, "h2")
    pool.run_until(UP_MS + 300_000)
    assert pool.pool_conf("h2") == "master"
    assert pool.hosts["h2"].pid == pid
    pool.kill_xapi("h2")
    pool.run_until(UP_MS + 330_000)
    assert pool.acting_masters() == ["h2"]


def test_a_repoint_to_the_master_in_memory_does_nothing_even_if_the_file_differs() -> None:
    pool = running_pool()
    pool.hosts["h2"].disk.write("etc/xensource/pool.conf", b"slave:10.0.0.1")
    repoint(pool, "h2", "h1")
    assert pool.pool_conf("h2") == "slave:10.0.0.1"
    assert not pool.events("fuse")


def test_every_member_obeys_a_promotion_so_that_two_masters_are_possible() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    pool.cut_both("h2", "h3")
    promote(pool, "h3")
    pool.run_until(UP_MS + 60_000)
    assert pool.acting_masters() == ["h2", "h3"]


@pytest.mark.parametrize("method", ["pool.emergency_transition_to_master", "pool.emergency_reset_master"])
def test_ha_refuses_transitions(method: str) -> None:
    pool = running_pool()
    pool.hosts["h2"].disk.write("var/lib/xcp/local.db", b'<config><row key="ha.armed" value="true"/></config>')
    assert on_unix(pool, "h2", method, pool.hosts["h1"].address) == Fault("HA_IS_ENABLED")
    assert pool.pool_conf("h2").startswith("slave:")


def test_a_full_disk_fails_the_promotion_and_lights_no_fuse() -> None:
    pool = running_pool()
    pool.power_off("h1")
    pool.hosts["h2"].disk.full = True
    answer = on_unix(pool, "h2", "pool.emergency_transition_to_master")
    assert isinstance(answer, Fault) and answer.code == "INTERNAL_ERROR"
    pool.run_until(UP_MS + 30_000)
    assert not pool.events("exit", "h2")


def test_the_new_master_stalls_on_an_orphan_until_that_is_repointed_and_serves_meanwhile() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 300_000)
    assert not pool.events("no-other-masters", "h2")
    assert "var/run/xapi_init_complete.cookie" not in pool.hosts["h2"].disk.files
    assert "var/run/xapi_startup.cookie" in pool.hosts["h2"].disk.files
    assert isinstance(pool.call_now("h2", "unix", "session.login_with_password", ("root", "")), Answer)
    assert enabled_hosts(pool, "h2") == set()
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 340_000)
    freed = pool.events("no-other-masters", "h2")[0].ms
    assert freed == pytest.approx(UP_MS + 310_000, abs=100)
    assert enabled_hosts(pool, "h2") == {"h2", "h3"}


def test_a_dead_address_on_a_routed_network_costs_the_whole_connect_timeout() -> None:
    pool = running_pool(2, dead_connect_ms=127_000)
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 300_000)
    asked, answered = pool.events("asks-is-slave", "h2")[0].ms, pool.events("is-slave", "h2")[0].ms
    assert answered - asked == 127_000


def test_a_restarting_member_is_disabled_by_its_hello_until_it_enables_itself() -> None:
    pool = running_pool()
    pool.restart_xapi("h3")
    pool.run_while(lambda: not pool.events("hello", since_ms=UP_MS), UP_MS + 30_000)
    assert enabled_hosts(pool, "h1") == {"h1", "h2"}
    pool.run_until(UP_MS + 60_000)
    assert enabled_hosts(pool, "h1") == {"h1", "h2", "h3"}


def test_a_promoted_host_yields_when_the_old_master_turns_out_to_live() -> None:
    pool = running_pool()
    promote(pool, "h2")
    pool.run_until(UP_MS + 60_000)
    assert pool.events("other-master", "h2")
    assert pool.pool_conf("h2") == f"slave:{pool.hosts['h1'].address}"
    assert pool.acting_masters() == ["h1"]


def test_the_old_master_comes_back_and_joins_its_successor() -> None:
    pool = running_pool()
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 60_000)
    pool.power_on("h1")
    pool.run_until(UP_MS + 120_000)
    assert pool.events("other-master", "h1")
    assert pool.pool_conf("h1") == f"slave:{pool.hosts['h2'].address}"
    assert enabled_hosts(pool, "h2") == {"h1", "h2", "h3"}


def test_behind_a_partition_the_old_master_stays_master() -> None:
    pool = running_pool()
    for other in ("h2", "h3"):
        pool.cut_both("h1", other)
    promote(pool, "h2")
    pool.run_until(UP_MS + 200_000)
    assert pool.acting_masters() == ["h1", "h2"]


def test_recover_slaves_demotes_a_living_old_master_without_question() -> None:
    pool = running_pool()
    for other in ("h2", "h3"):
        pool.cut_both("h1", other)
    promote(pool, "h2")
    pool.run_until(UP_MS + 30_000)
    pool.heal_all()
    replies: list[object] = []
    pool.call("h2", "unix", "pool.recover_slaves", (pool.local_session("h2"),), replies.append)
    pool.run_until(UP_MS + 200_000)
    assert isinstance(replies[0], Answer) and len(replies[0].value) == 2  # type: ignore[arg-type]
    assert pool.pool_conf("h1") == f"slave:{pool.hosts['h2'].address}"
    assert pool.acting_masters() == ["h2"]


# ------------------------------------------------------------------------------------ the kill rule


def test_a_vm_started_elsewhere_after_the_copy_is_adopted_by_nobody_and_killed() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", "11111111-0000-0000-0000-000000000001", "new", pool.hosts["h3"].uuid)
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 90_000)
    assert [(kill.name, kill.why) for kill in pool.hosts["h3"].domains.kills] == [("new", "unknown-to-database")]
    assert sorted(pool.hosts["h3"].domains.domains().values()) == ["mail"]


def test_a_vm_migrated_after_the_copy_is_killed_where_it_runs() -> None:
    pool = running_pool()
    web = vm_uuid(pool, "h1", "web")
    lab_call(pool, "lab.vm_migrate", web, pool.hosts["h2"].uuid)
    assert web in pool.hosts["h2"].domains.domains()
    assert web not in pool.hosts["h1"].domains.domains()
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 90_000)
    kills = pool.hosts["h2"].domains.kills
    assert [(kill.name, kill.why) for kill in kills] == [("web", f"resident-on-{pool.hosts['h1'].uuid}")]
    assert [entry.event.facts["vm"] for entry in pool.events("killed", "h2")] == [web]


def test_a_vm_that_the_copy_places_nowhere_is_adopted() -> None:
    pool = running_pool()
    spare = next(
        row["uuid"] for row in pool.hosts["h1"].model.database.table("VM").values() if row["name__label"] == "spare"
    )  # type: ignore[union-attr]
    lab_call(pool, "lab.vm_start", spare, "spare", pool.hosts["h3"].uuid)
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 90_000)
    assert spare in pool.hosts["h3"].domains.domains()
    assert pool.hosts["h2"].model.database.placements()[spare] == pool.hosts["h3"].uuid  # type: ignore[union-attr]


def test_with_a_fresh_copy_nothing_is_killed() -> None:
    pool = running_pool()
    web = vm_uuid(pool, "h1", "web")
    lab_call(pool, "lab.vm_migrate", web, pool.hosts["h2"].uuid)
    lab_call(pool, "pool.sync_database")
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(UP_MS + 90_000)
    assert not pool.hosts["h2"].domains.kills
    assert web in pool.hosts["h2"].domains.domains()


def test_a_killed_master_comes_back_with_an_older_database_and_kills_what_that_does_not_know() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", "11111111-0000-0000-0000-000000000002", "young")
    pool.kill_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert [kill.name for kill in pool.hosts["h1"].domains.kills] == ["young"]


def test_a_clean_restart_of_a_master_loses_nothing() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", "11111111-0000-0000-0000-000000000002", "young")
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert not pool.hosts["h1"].domains.kills
    assert enabled_hosts(pool, "h1") == {"h1", "h2", "h3"}


# ------------------------------------------------------------------------------------ databases


def test_the_copy_with_the_highest_generation_is_loaded() -> None:
    pool = running_pool()
    disk = pool.hosts["h2"].disk
    disk.write("var/lib/xcp/gen_metadata.db", disk.read("var/lib/xcp/state.db"))
    disk.write("var/lib/xcp/gen_metadata.db.generation", b"999999")
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 20_000)
    assert str(pool.events("db-loaded", "h2")[0].event) == (
        "db-loaded generation=999999 path=var/lib/xcp/gen_metadata.db"
    )


def test_a_restore_file_stands_in_for_state_db_once() -> None:
    pool = running_pool()
    disk = pool.hosts["h2"].disk
    disk.write("var/lib/xcp/restore_db.db", disk.read("var/lib/xcp/state.db"))
    disk.write("var/lib/xcp/restore_db.db.generation", b"5000")
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(UP_MS + 20_000)
    assert pool.events("db-loaded", "h2")[0].event.facts == {"generation": "5000", "path": "var/lib/xcp/restore_db.db"}
    assert not disk.exists("var/lib/xcp/restore_db.db")
    assert disk.read("var/lib/xcp/state.db.generation") == b"5000"


def test_members_get_their_copies_one_after_the_other() -> None:
    pool = running_pool()
    for minute in range(1, 25):
        pool.at(UP_MS + minute * 60_000, lambda: lab_touch(pool))
    pool.run_until(UP_MS + 25 * 60_000)
    copies = {host: [entry.ms for entry in pool.events("copy", host, UP_MS)] for host in ("h2", "h3")}
    for times in copies.values():
        assert [later - sooner for sooner, later in zip(times, times[1:], strict=False)] == pytest.approx(
            [600_000] * (len(times) - 1), abs=1_000
        )
    assert copies["h3"][0] - copies["h2"][0] == pytest.approx(300_000, abs=1_000)


def lab_touch(pool: VirtualPool) -> None:
    assert isinstance(on_unix(pool, "h1", "lab.touch"), Answer)


def test_an_unchanged_database_is_not_copied_again() -> None:
    pool = running_pool()
    pool.run_until(UP_MS + 700_000)
    first = len(pool.events("copy"))
    pool.run_until(UP_MS + 3_000_000)
    assert len(pool.events("copy")) == first


def test_a_dead_host_stays_live_for_ten_minutes() -> None:
    pool = running_pool()
    pool.power_off("h3")
    pool.run_until(UP_MS + 590_000)
    assert not pool.events("live")
    pool.run_until(UP_MS + 640_000)
    assert pool.events("live")[0].event.facts == {"host": pool.hosts["h3"].uuid, "live": "false"}
    offline = on_unix(pool, "h1", "pool.sync_database")
    assert offline == TIMEOUT  # h2 is asked first
    pool.power_on("h3")
    pool.run_until(UP_MS + 700_000)
    assert enabled_hosts(pool, "h1") == {"h1", "h2", "h3"}


def test_two_runs_of_a_story_are_equal() -> None:
    def story() -> list[str]:
        pool = running_pool()
        pool.power_off("h1")
        promote(pool, "h2")
        repoint(pool, "h3", "h2")
        pool.run_until(UP_MS + 200_000)
        return [str(entry) for entry in pool.log]

    assert story() == story()


def test_the_time_factor_divides_all_of_the_models_own_times() -> None:
    slow, quick = VirtualPool(1), VirtualPool(1, time_factor=10)
    for pool in (slow, quick):
        pool.power_on_all()
        pool.run_until(30_000)
    assert slow.events("init-complete")[0].ms == 10 * quick.events("init-complete")[0].ms


def test_refusals_of_the_virtual_network() -> None:
    pool = running_pool()
    pool.power_off("h3")
    alive = ("x",)
    assert pool.call_now("h3", "tls", "system.isAlive:x", alive, 500, source="h2") == TIMEOUT
    assert pool.call_now("h3", "tls", "system.isAlive:x", alive, 5_000, source="h2") == Lost("unreachable")
    assert pool.call_now("h1", "tls", "system.isAlive:x", alive, 500, source="h2") == Answer("x")
    pool.stop_xapi("h1")
    assert pool.call_now("h1", "tls", "system.isAlive:x", alive, 500, source="h2") == Lost("refused")
