"""The role and the database change hands: designation in two phases, synchronised and restored databases, staleness."""

import pytest
from xapi_pool import UP_MS, lab_call, on_unix, promote, ref_of, repoint, running_pool, wait_for

from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult
from poolwarden_lab.xapi.database import RESTORE_DB, STATE_DB, generation_on_disk
from poolwarden_lab.xapi.virtual import VirtualPool

YOUNG = "11111111-0000-0000-0000-000000000009"


def designate(pool: VirtualPool, to: str, master: str = "h1") -> PeerResult:
    return wait_for(pool, master, "pool.designate_new_master", ref_of(pool, master, "host", pool.hosts[to].uuid))


def code(result: PeerResult) -> str:
    return result.code if isinstance(result, Fault) else str(result)


def confs(pool: VirtualPool) -> dict[str, str]:
    names = {host.address: host.name for host in pool.hosts.values()}
    found = {name: pool.pool_conf(name) for name in pool.hosts}
    return {name: f"slave of {names[text[6:]]}" if text.startswith("slave:") else text for name, text in found.items()}


def domains(pool: VirtualPool) -> set[tuple[str, str]]:
    return {(host.name, vm) for host in pool.hosts.values() for vm in host.domains.domains().values()}


def generation(pool: VirtualPool, master: str = "h1") -> int:
    model = pool.hosts[master].model
    assert model is not None and model.database is not None
    return model.database.generation


def copy(pool: VirtualPool, name: str, path: str = STATE_DB) -> int:
    return generation_on_disk(pool.hosts[name].disk, path)


# ------------------------------------------------------------------------------------ designation


def test_everybody_follows_the_designated_master_and_no_vm_notices() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", YOUNG, "young", pool.hosts["h2"].uuid)
    before = domains(pool)
    assert designate(pool, "h3") == Answer("")
    assert confs(pool) == {"h1": "slave of h3", "h2": "slave of h3", "h3": "master"}
    assert pool.acting_masters() == ["h1"]  # the fuse burns
    pool.run_until(pool.now + 90_000)
    assert pool.acting_masters() == ["h3"]
    assert not pool.events("other-master")
    live = on_unix(pool, "h3", "host_metrics.get_all_records")
    assert isinstance(live, Answer) and all(row["live"] for row in live.value.values())  # type: ignore[attr-defined]
    hosts = on_unix(pool, "h3", "host.get_all_records")
    assert isinstance(hosts, Answer) and all(row["enabled"] for row in hosts.value.values())  # type: ignore[attr-defined]
    assert domains(pool) == before
    assert not any(host.domains.kills for host in pool.hosts.values())
    assert designate(pool, "h1", "h3") == Answer("")
    pool.run_until(pool.now + 90_000)
    assert pool.acting_masters() == ["h1"]


def test_to_designate_the_master_itself_changes_nothing() -> None:
    pool = running_pool()
    assert designate(pool, "h1") == Answer("")
    assert not pool.events("pool.conf", since_ms=UP_MS)


def test_one_host_that_is_away_makes_it_impossible_and_nobody_changes() -> None:
    pool = running_pool()
    before = confs(pool)
    pool.power_off("h2")
    assert code(designate(pool, "h3")) == "HOST_OFFLINE"  # for the database it is still live
    pool.run_until(UP_MS + 700_000)
    began = pool.now
    assert code(designate(pool, "h3")) == "HOST_OFFLINE"
    assert pool.now - began < 100
    assert confs(pool) == before
    pool.power_on("h2")
    pool.run_until(pool.now + 90_000)
    assert designate(pool, "h3") == Answer("")


def test_with_ha_it_is_refused() -> None:
    pool = running_pool()
    pool.hosts["h1"].disk.write("var/lib/xcp/local.db", b'<config><row key="ha.armed" value="true"/></config>')
    assert code(designate(pool, "h3")) == "HA_IS_ENABLED"


def test_a_second_designation_waits_for_no_first() -> None:
    pool = running_pool()
    replies: list[PeerResult] = []
    for to in ("h2", "h3"):
        target = ref_of(pool, "h1", "host", pool.hosts[to].uuid)
        params = (pool.local_session("h1"), target)
        pool.call("h1", "unix", "pool.designate_new_master", params, replies.append)
    pool.run_until(UP_MS + 90_000)
    assert [code(reply) for reply in replies] == ["DESIGNATE_NEW_MASTER_IN_PROGRESS", code(Answer(""))]
    assert pool.acting_masters() == ["h2"]


def test_whoever_has_agreed_to_one_agrees_to_no_other_for_ten_minutes() -> None:
    pool = running_pool()
    assert on_unix(pool, "h2", "host.propose_new_master", "10.0.0.9") == Answer("")
    assert code(designate(pool, "h3")) == "HA_ABORT_NEW_MASTER"
    pool.run_until(pool.now + 100)
    assert pool.acting_masters() == ["h1"]
    assert pool.hosts["h1"].model.proposal == ("", 0)  # type: ignore[union-attr]  # told to forget it
    pool.run_until(UP_MS + 700_000)
    assert designate(pool, "h3") == Answer("")


def test_a_commit_that_fails_leaves_the_chosen_host_broken() -> None:
    pool = running_pool()
    pool.refuse_commit("h2")
    pool.run_until(UP_MS + 5_000)
    assert code(designate(pool, "h3")) == "HOST_OFFLINE"  # it has restarted, broken, before it could answer
    assert [entry.host for entry in pool.events("exit", since_ms=UP_MS)] == ["h3"]
    assert confs(pool) == {"h1": "slave of h3", "h2": "slave of h1", "h3": "broken"}
    pool.run_until(pool.now + 60_000)
    assert pool.acting_masters() == []
    refused = pool.call_now("h3", "tcp", "session.login_with_password", ("root", "xenroot"))
    assert code(refused) == "HOST_BROKEN"
    promote(pool, "h3")
    repoint(pool, "h2", "h3")
    pool.run_until(pool.now + 200_000)
    assert pool.acting_masters() == ["h3"]
    assert confs(pool) == {"h1": "slave of h3", "h2": "slave of h3", "h3": "master"}


# ------------------------------------------------------------------------------------ copies


def test_a_synchronised_database_is_the_masters_own_on_every_disk() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", YOUNG, "young")
    assert copy(pool, "h2") < generation(pool)
    lab_call(pool, "pool.sync_database")
    assert {copy(pool, name) for name in pool.hosts} == {generation(pool)}
    assert len({pool.hosts[name].disk.read(STATE_DB) for name in pool.hosts}) == 1
    assert b"young" in pool.hosts["h3"].disk.read(STATE_DB)


@pytest.mark.parametrize("given_up", [False, True])
def test_with_a_member_down_it_fails(given_up: bool) -> None:
    pool = running_pool()
    pool.power_off("h3")
    pool.run_until(UP_MS + (700_000 if given_up else 0))
    assert code(wait_for(pool, "h1", "pool.sync_database")) == "HOST_OFFLINE"


def test_whatever_happens_to_vms_makes_the_members_copies_older() -> None:
    pool = running_pool()
    lab_call(pool, "pool.sync_database")
    seen = [generation(pool)]
    lab_call(pool, "lab.vm_start", YOUNG, "young")
    seen.append(generation(pool))
    lab_call(pool, "lab.vm_migrate", YOUNG, pool.hosts["h2"].uuid)
    seen.append(generation(pool))
    lab_call(pool, "VM.hard_shutdown", ref_of(pool, "h1", "VM", YOUNG))
    seen.append(generation(pool))
    assert seen == sorted(set(seen))
    assert copy(pool, "h2") == seen[0]


def test_a_database_in_use_drifts_and_its_copies_follow_within_minutes() -> None:
    pool = running_pool()
    lab_call(pool, "pool.sync_database")
    start = generation(pool)
    pool.drift(30_000)
    pool.run_until(pool.now + 1_200_000)
    assert generation(pool) - start == pytest.approx(40, abs=1)
    behind = [generation(pool) - copy(pool, name) for name in ("h2", "h3")]
    assert min(behind) > 0 and max(behind) <= 21  # each is refreshed every ten minutes
    pool.drift(0)
    pool.run_until(pool.now + 1_200_000)
    assert {copy(pool, name) for name in pool.hosts} == {generation(pool)}


# ------------------------------------------------------------------------------------ restore_db.db


def place(pool: VirtualPool, source: str, target: str) -> int:
    """Hand a host's database on disk to another's next start as master."""
    disk = pool.hosts[target].disk
    disk.write(RESTORE_DB + ".generation", pool.hosts[source].disk.read(STATE_DB + ".generation"))
    disk.write(RESTORE_DB, pool.hosts[source].disk.read(STATE_DB))
    return generation_on_disk(disk, RESTORE_DB)


@pytest.mark.parametrize("handed_over", [True, False])
def test_a_vm_started_after_the_copy_survives_by_a_handover_and_not_without(handed_over: bool) -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", YOUNG, "young")
    pool.hold("h1")
    pool.stop_toolstack("h1")
    stale = copy(pool, "h2")
    if handed_over:
        assert place(pool, "h1", "h2") > stale
    promote(pool, "h2")
    pool.run_while(lambda: "h2" not in pool.acting_masters(), pool.now + 60_000)
    assert pool.events("db-loaded", "h2")[0].event.facts["path"] == (RESTORE_DB if handed_over else STATE_DB)
    assert not pool.hosts["h2"].disk.exists(RESTORE_DB)
    assert not pool.hosts["h2"].disk.exists(RESTORE_DB + ".generation")
    repoint(pool, "h3", "h2")
    pool.hosts["h1"].disk.write("etc/xensource/pool.conf", f"slave:{pool.hosts['h2'].address}".encode())
    pool.release("h1")
    pool.restart_xapi("h1")
    pool.run_until(pool.now + 180_000)
    assert pool.events("init-complete", "h1", UP_MS)
    assert (("h1", "young") in domains(pool)) is handed_over
    assert ("h1", "web") in domains(pool)


def test_it_is_loaded_though_the_own_copy_is_newer() -> None:
    pool = running_pool()
    older = pool.hosts["h2"].disk.read(STATE_DB), pool.hosts["h2"].disk.read(STATE_DB + ".generation")
    lab_call(pool, "lab.vm_start", YOUNG, "young")
    lab_call(pool, "pool.sync_database")
    pool.hosts["h2"].disk.write(RESTORE_DB, older[0])
    pool.hosts["h2"].disk.write(RESTORE_DB + ".generation", older[1])
    pool.power_off("h1")
    promote(pool, "h2")
    pool.run_until(pool.now + 40_000)
    assert pool.events("db-loaded", "h2")[0].event.facts == {"generation": older[1].decode(), "path": RESTORE_DB}
    assert b"young" not in pool.hosts["h2"].disk.read(STATE_DB)


def test_a_member_ignores_it_and_a_later_start_as_master_does_not() -> None:
    pool = running_pool()
    lab_call(pool, "lab.vm_start", YOUNG, "young")
    lab_call(pool, "pool.sync_database")
    placed = place(pool, "h1", "h2")
    pool.restart_xapi("h2")
    pool.run_until(pool.now + 60_000)
    assert pool.hosts["h2"].disk.exists(RESTORE_DB)
    lab_call(pool, "lab.vm_migrate", YOUNG, pool.hosts["h2"].uuid)
    lab_call(pool, "pool.sync_database")
    assert copy(pool, "h2") > placed
    pool.power_off("h1")
    promote(pool, "h2")
    repoint(pool, "h3", "h2")
    pool.run_until(pool.now + 90_000)
    assert pool.events("db-loaded", "h2")[0].event.facts["path"] == RESTORE_DB  # left behind, it rolls the pool back
    assert ("h2", "young") not in domains(pool)
