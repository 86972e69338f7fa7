"""VMs and their storage: where they can start, what starts them, and what the dead leave behind."""

import pytest
from xapi_pool import UP_MS, lab_call, on_unix, promote, ref_of, repoint, running_pool, wait_for

from poolwarden_lab.xapi.actions import Answer, Fault, PeerResult
from poolwarden_lab.xapi.trees import VmSpec, uuid_of
from poolwarden_lab.xapi.virtual import VirtualPool

VMS = (VmSpec("web", 0), VmSpec("db", 1), VmSpec("files", 2, storage="local"), VmSpec("spare", None))


def pool_with(*vms: VmSpec, n: int = 3, **options: object) -> VirtualPool:
    return running_pool(n, vms=vms or VMS, **options)


def vm(pool: VirtualPool, name: str, master: str = "h1") -> str:
    return ref_of(pool, master, "VM", uuid_of("lab", "VM", name))


def host(pool: VirtualPool, name: str, master: str = "h1") -> str:
    return ref_of(pool, master, "host", pool.hosts[name].uuid)


def record(pool: VirtualPool, kind: str, ref: str, master: str = "h1") -> dict[str, object]:
    found = on_unix(pool, master, f"{kind}.get_record", ref)
    assert isinstance(found, Answer) and isinstance(found.value, dict)
    return found.value


def names(pool: VirtualPool, refs: object, master: str = "h1") -> set[str]:
    assert isinstance(refs, list)
    return {str(record(pool, "host", ref, master)["hostname"]).removeprefix("lab-") for ref in refs}


def code(result: PeerResult) -> str:
    return result.code if isinstance(result, Fault) else str(result)


def running(pool: VirtualPool) -> dict[str, list[str]]:
    """VM name -> hosts on which it really runs."""
    found: dict[str, list[str]] = {}
    for each in pool.hosts.values():
        for name in each.domains.domains().values():
            found.setdefault(name, []).append(each.name)
    return found


def lose(pool: VirtualPool, dead: str, new: str, *others: str) -> None:
    """The master loses its power, another is promoted, the rest follows, and all of them are enabled."""
    lab_call(pool, "pool.sync_database")
    pool.power_off(dead)
    promote(pool, new)
    pool.run_while(lambda: new not in pool.acting_masters(), pool.now + 60_000)
    for other in others:
        repoint(pool, other, new)
    pool.run_until(pool.now + 90_000)


# ------------------------------------------------------------------------------------ records


def test_a_vms_disk_leads_to_its_storage_and_to_the_hosts_that_reach_it() -> None:
    pool = pool_with()
    assert isinstance(pool.hosts["h1"].model, object)
    (vbd,) = record(pool, "VM", vm(pool, "files"))["VBDs"]  # type: ignore[misc]
    vdi = record(pool, "VDI", str(record(pool, "VBD", vbd)["VDI"]))
    sr = record(pool, "SR", str(vdi["SR"]))
    assert (sr["name_label"], sr["shared"]) == ("Local storage on lab-h3", False)
    pbds = [record(pool, "PBD", ref) for ref in sr["PBDs"]]  # type: ignore[attr-defined]
    assert [(names(pool, [pbd["host"]]), pbd["currently_attached"]) for pbd in pbds] == [({"h3"}, True)]
    assert vdi["sm_config"] == {f"host_{host(pool, 'h3')}": "RW"}


# ------------------------------------------------------------------------------------ placement


def test_possible_hosts_are_live_enabled_and_reach_the_storage() -> None:
    pool = pool_with()
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", vm(pool, "spare"))) == {"h1", "h2", "h3"}
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", vm(pool, "files"))) == {"h3"}
    lab_call(pool, "host.disable", host(pool, "h2"))
    pool.lose_storage("h3")
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", vm(pool, "spare"))) == {"h1"}
    spare = vm(pool, "spare")
    refusals = {name: on_unix(pool, "h1", "VM.assert_can_boot_here", spare, host(pool, name)) for name in ("h2", "h3")}
    shared = record(pool, "pool", str(lab_call(pool, "pool.get_all")[0]))["default_SR"]  # type: ignore[index]
    assert refusals["h2"] == Fault("HOST_DISABLED", (host(pool, "h2"),))
    assert refusals["h3"] == Fault("VM_REQUIRES_SR", (spare, str(shared)))


def test_a_host_that_was_given_up_is_not_live_and_a_full_one_has_no_memory() -> None:
    pool = pool_with(VmSpec("big", 1, memory_mib=40 << 10), VmSpec("other", None, memory_mib=30 << 10))
    result = on_unix(pool, "h1", "VM.assert_can_boot_here", vm(pool, "other"), host(pool, "h2"))
    assert result == Fault("HOST_NOT_ENOUGH_FREE_MEMORY", (str(30 << 30), str(20 << 30)))
    pool.power_off("h3")
    pool.run_until(UP_MS + 700_000)
    assert code(on_unix(pool, "h1", "VM.assert_can_boot_here", vm(pool, "other"), host(pool, "h3"))) == "HOST_NOT_LIVE"
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", vm(pool, "other"))) == {"h1"}


def test_lost_storage_stays_unplugged_over_a_restart_until_it_is_given_back() -> None:
    pool = pool_with()
    pool.lose_storage("h2")
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 60_000)
    spare = vm(pool, "spare")
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", spare)) == {"h1", "h3"}
    pbd = next(
        ref
        for ref, row in lab_call(pool, "PBD.get_all_records").items()  # type: ignore[attr-defined]
        if not row["currently_attached"]
    )
    assert code(wait_for(pool, "h1", "PBD.plug", pbd)) == "SR_BACKEND_FAILURE_47"
    pool.lose_storage("h2", lost=False)
    lab_call(pool, "PBD.plug", pbd)
    assert names(pool, lab_call(pool, "VM.get_possible_hosts", spare)) == {"h1", "h2", "h3"}


# ------------------------------------------------------------------------------------ start, stop, migrate


def test_start_on_runs_the_domain_on_that_host_and_takes_its_disks() -> None:
    pool = pool_with()
    spare = vm(pool, "spare")
    lab_call(pool, "VM.start_on", spare, host(pool, "h2"), False, False)
    assert running(pool)["spare"] == ["h2"]
    row = record(pool, "VM", spare)
    assert (row["power_state"], row["resident_on"]) == ("Running", host(pool, "h2"))
    again = on_unix(pool, "h1", "VM.start_on", spare, host(pool, "h3"), False, False)
    assert again == Fault("VM_BAD_POWER_STATE", (spare, "halted", "running"))
    lab_call(pool, "VM.clean_shutdown", spare)
    assert "spare" not in running(pool)
    lab_call(pool, "VM.start", spare, False, False)
    assert len(running(pool)["spare"]) == 1
    assert not any(each.domains.kills for each in pool.hosts.values())


def test_start_says_that_no_host_is_available() -> None:
    pool = pool_with(VmSpec("huge", None, memory_mib=100 << 10))
    assert code(on_unix(pool, "h1", "VM.start", vm(pool, "huge"), False, False)) == "NO_HOSTS_AVAILABLE"


def test_a_start_on_a_host_that_has_just_died_fails_and_leaves_the_disks_free() -> None:
    pool = pool_with()
    pool.power_off("h3")
    spare = vm(pool, "spare")
    assert code(wait_for(pool, "h1", "VM.start_on", spare, host(pool, "h3"), False, False)) == "CANNOT_CONTACT_HOST"
    lab_call(pool, "VM.start_on", spare, host(pool, "h2"), False, False)
    assert running(pool)["spare"] == ["h2"]


@pytest.mark.parametrize("method", ["VM.pool_migrate", "lab.vm_migrate"])
def test_a_vm_that_is_migrated_never_runs_twice_and_nothing_is_killed(method: str) -> None:
    pool = pool_with()
    web = uuid_of("lab", "VM", "web")
    params = (vm(pool, "web"), host(pool, "h2"), {}) if method == "VM.pool_migrate" else (web, pool.hosts["h2"].uuid)
    replies: list[object] = []
    pool.call("h1", "unix", method, (pool.local_session("h1"), *params), replies.append)
    twice = []
    while not replies:
        pool.run_until(pool.now + 1)
        twice += [pool.now] if len(running(pool).get("web", [])) > 1 else []
    assert (replies, twice) == ([Answer("")], [])
    assert running(pool)["web"] == ["h2"]
    assert not pool.hosts["h1"].domains.kills
    pool.restart_xapi("h2")
    pool.run_until(pool.now + 60_000)
    assert running(pool)["web"] == ["h2"]


def test_a_vm_that_begins_while_it_runs_elsewhere_is_written_down() -> None:
    pool = pool_with()
    web = uuid_of("lab", "VM", "web")
    lab_call(pool, "lab.vm_migrate", web, pool.hosts["h2"].uuid)
    assert pool.doubles == []
    lab_call(pool, "lab.vm_start", web, "web", pool.hosts["h3"].uuid)  # a start that asks nobody
    assert [each[1:] for each in pool.doubles] == [(web, "h2", "h3")]
    assert pool.events("runs-twice", "h3")


# ------------------------------------------------------------------------------------ the dead


def test_the_vms_of_a_dead_host_run_on_in_the_database_until_it_is_declared_dead() -> None:
    pool = pool_with(*VMS, VmSpec("mail", 0))
    lose(pool, "h1", "h2", "h3")
    web = vm(pool, "web", "h2")
    refused = on_unix(pool, "h2", "VM.start_on", web, host(pool, "h2", "h2"), False, False)
    assert refused == Fault("VM_BAD_POWER_STATE", (web, "halted", "running"))
    before = pool.now
    assert wait_for(pool, "h2", "host.declare_dead", host(pool, "h1", "h2")) == Answer("")
    assert pool.now - before == 3 * pool.dead_connect_ms  # two VMs and one: live is still true
    row = record(pool, "VM", web, "h2")
    assert (row["power_state"], row["resident_on"]) == ("Halted", "OpaqueRef:NULL")
    dead = record(pool, "host", host(pool, "h1", "h2"), "h2")
    assert dead["enabled"] is False
    assert record(pool, "host_metrics", str(dead["metrics"]), "h2")["live"] is True
    for name, target in (("web", "h2"), ("mail", "h3")):
        ref = vm(pool, name, "h2")
        assert wait_for(pool, "h2", "VM.start_on", ref, host(pool, target, "h2"), False, False) == Answer("")
        assert running(pool)[name] == [target]
    pool.power_on("h1")
    pool.run_until(pool.now + 120_000)
    assert running(pool)["web"] == ["h2"]


def test_declaring_dead_costs_nothing_once_the_host_was_given_up() -> None:
    pool = pool_with()
    pool.power_off("h2")
    pool.run_until(UP_MS + 700_000)
    before = pool.now
    assert on_unix(pool, "h1", "host.declare_dead", host(pool, "h2")) == Answer("")
    assert pool.now == before


@pytest.mark.parametrize("target", ["h1", "h3"])
def test_a_host_that_answers_is_not_declared_dead(target: str) -> None:
    pool = pool_with()
    result = wait_for(pool, "h1", "host.declare_dead", host(pool, target))
    assert result == Fault("HOST_IS_LIVE", (host(pool, target),))
    files = vm(pool, "files")
    assert record(pool, "VM", files)["power_state"] == "Running"
    assert code(wait_for(pool, "h1", "VM.power_state_reset", files)) == "HOST_IS_LIVE"


def test_a_mere_power_state_reset_leaves_the_dead_hosts_lock_on_the_disk() -> None:
    pool = pool_with()
    pool.power_off("h2")
    db = vm(pool, "db")
    assert wait_for(pool, "h1", "VM.power_state_reset", db) == Answer("")
    assert code(wait_for(pool, "h1", "VM.start_on", db, host(pool, "h3"), False, False)) == "SR_BACKEND_FAILURE_46"
    assert "db" not in running(pool)
    assert wait_for(pool, "h1", "host.declare_dead", host(pool, "h2")) == Answer("")
    assert wait_for(pool, "h1", "VM.start_on", db, host(pool, "h3"), False, False) == Answer("")


def test_a_vm_on_local_storage_of_a_dead_host_can_start_nowhere() -> None:
    pool = pool_with()
    pool.power_off("h3")
    lab_call(pool, "host.declare_dead", host(pool, "h3"))
    files = vm(pool, "files")
    assert lab_call(pool, "VM.get_possible_hosts", files) == []
    assert code(on_unix(pool, "h1", "VM.assert_can_boot_here", files, host(pool, "h2"))) == "VM_REQUIRES_SR"


def test_the_control_domain_is_not_reset() -> None:
    pool = pool_with()
    control = record(pool, "host", host(pool, "h2"))["control_domain"]
    assert code(on_unix(pool, "h1", "VM.power_state_reset", control)) == "CANNOT_RESET_CONTROL_DOMAIN"


# ------------------------------------------------------------------------------------ enabled


def test_a_member_is_disabled_and_enabled_by_its_master_and_remembers_it() -> None:
    pool = pool_with()
    lab_call(pool, "host.disable", host(pool, "h2"))
    assert record(pool, "host", host(pool, "h2"))["enabled"] is False
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 60_000)
    assert record(pool, "host", host(pool, "h2"))["enabled"] is False
    lab_call(pool, "host.enable", host(pool, "h2"))
    assert record(pool, "host", host(pool, "h2"))["enabled"] is True
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 120_000)
    assert record(pool, "host", host(pool, "h2"))["enabled"] is True


def test_a_member_that_starts_cannot_be_enabled_yet() -> None:
    pool = pool_with()
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 5_000)
    assert code(wait_for(pool, "h1", "host.enable", host(pool, "h2"))) == "HOST_STILL_BOOTING"


# ------------------------------------------------------------------------------------ tasks


def pending(pool: VirtualPool, master: str = "h1") -> list[str]:
    found = on_unix(pool, master, "task.get_all_records")
    assert isinstance(found, Answer) and isinstance(found.value, dict)
    return sorted(row["name_label"] for row in found.value.values() if row["status"] == "pending")


def test_what_xapi_is_busy_with_can_be_seen() -> None:
    pool = pool_with()
    export = str(lab_call(pool, "lab.task_create", "VM.export"))
    session, target = pool.local_session("h1"), (vm(pool, "web"), host(pool, "h2"), {})
    replies: list[object] = []
    pool.call("h1", "unix", "VM.pool_migrate", (session, *target), replies.append)
    assert pending(pool) == ["VM.export", "VM.pool_migrate"]
    pool.run_until(pool.now + 10_000)
    assert (replies, pending(pool)) == ([Answer("")], ["VM.export"])
    lab_call(pool, "task.cancel", export)
    assert pending(pool) == []
    assert code(on_unix(pool, "h1", "lab.task_finish", export)) == "OPERATION_NOT_ALLOWED"


def test_tasks_raise_no_generation_are_in_no_file_and_end_with_their_master() -> None:
    pool = pool_with()
    model = pool.hosts["h1"].model
    assert model is not None and model.database is not None
    before = model.database.generation
    lab_call(pool, "lab.task_create", "VM.import")
    assert model.database.generation == before
    lab_call(pool, "lab.touch")
    assert b"VM.import" not in model.database.content()
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert pending(pool) == []


def test_a_file_that_holds_tasks_is_loaded_without_them() -> None:
    pool = pool_with()
    pool.stop_xapi("h1")
    disk = pool.hosts["h1"].disk
    empty, one = b'<table name="task">', b'<table name="task"><row ref="OpaqueRef:x" uuid="x" status="pending"/>'
    assert empty in disk.read("var/lib/xcp/state.db")
    disk.write("var/lib/xcp/state.db", disk.read("var/lib/xcp/state.db").replace(empty, one))
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    assert pending(pool) == []


# ------------------------------------------------------------------------------------ a maintenance mode


def test_a_host_is_evacuated() -> None:
    """xapi_host.ml evacuate: every VM that is not pinned goes to another enabled host; the host stays as it is."""
    pool = pool_with(VmSpec("web", 0), VmSpec("db", 1), VmSpec("mail", 1))
    h2 = host(pool, "h2")
    lab_call(pool, "host.disable", h2)
    assert on_unix(pool, "h1", "host.get_vms_which_prevent_evacuation", h2) == Answer({})
    assert on_unix(pool, "h1", "host.assert_can_evacuate", h2) == Answer("")
    lab_call(pool, "host.evacuate", h2)
    assert all("h2" not in places for places in running(pool).values())
    assert sorted(running(pool)) == ["db", "mail", "web"]
    assert record(pool, "host", h2)["enabled"] is False


def test_one_vm_that_cannot_move_keeps_all_of_them_there() -> None:
    pool = pool_with(VmSpec("files", 1, storage="local"), VmSpec("db", 1))
    h2 = host(pool, "h2")
    refused = wait_for(pool, "h1", "host.evacuate", h2)
    assert code(refused) == "VM_REQUIRES_SR" and running(pool) == {"files": ["h2"], "db": ["h2"]}
    told = on_unix(pool, "h1", "host.get_vms_which_prevent_evacuation", h2)
    assert isinstance(told, Answer) and isinstance(told.value, dict) and list(told.value) == [vm(pool, "files")]
    summary = on_unix(pool, "h1", "host.assert_can_evacuate", h2)
    assert isinstance(summary, Fault) and summary.code == "CANNOT_EVACUATE_HOST"
    assert summary.params[0].startswith(f"VM_REQUIRES_SR,{vm(pool, 'files')},")


def test_a_vm_moves_only_if_every_other_enabled_host_could_take_it() -> None:
    """compute_evacuation_plan_no_wlb: assert_can_boot_here for each target; a disabled host is none."""
    pool = pool_with(VmSpec("db", 1))
    pool.lose_storage("h3")
    refused = wait_for(pool, "h1", "host.evacuate", host(pool, "h2"))
    assert code(refused) == "VM_REQUIRES_SR"
    lab_call(pool, "host.disable", host(pool, "h3"))
    lab_call(pool, "host.evacuate", host(pool, "h2"))
    assert running(pool) == {"db": ["h1"]}


def test_without_another_enabled_host_or_memory_nobody_is_moved() -> None:
    pool = pool_with(VmSpec("db", 1))
    free = on_unix(pool, "h1", "host.compute_free_memory", host(pool, "h1"))
    assert isinstance(free, Answer)
    for name in ("h1", "h3"):
        lab_call(pool, "host.disable", host(pool, name))
    refused = wait_for(pool, "h1", "host.evacuate", host(pool, "h2"))
    assert refused == Fault("NO_HOSTS_AVAILABLE", (vm(pool, "db"),))
    lab_call(pool, "host.enable", host(pool, "h1"))
    model = pool.hosts["h1"].model
    assert model is not None and model.database is not None
    model.database.set("VM", vm(pool, "db"), "memory__static_max", str(int(str(free.value)) + 1))
    refused = wait_for(pool, "h1", "host.evacuate", host(pool, "h2"))
    assert refused == Fault("HOST_NOT_ENOUGH_FREE_MEMORY", (vm(pool, "db"),))


def test_a_vm_that_is_shut_down_meanwhile_is_not_moved() -> None:
    pool = pool_with(VmSpec("db", 1), VmSpec("mail", 1))
    replies: list[PeerResult] = []
    params = (pool.local_session("h1"), host(pool, "h2"))
    pool.call("h1", "unix", "host.evacuate", params, replies.append)
    pool.run_until(pool.now + 100)
    assert replies == [], "db is on its way"
    lab_call(pool, "VM.hard_shutdown", vm(pool, "mail"))
    pool.run_while(lambda: not replies, pool.now + 600_000)
    assert replies == [Answer("")] and list(running(pool)) == ["db"] and running(pool)["db"] != ["h2"]
