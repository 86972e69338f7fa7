"""Advice before a host is rebuilt, and about a pool's VMs: what is known decides, what is not is said as such."""

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.model.host_facts import HostFacts, StorageFacts, StorageLink, StorageRepository
from poolwarden_collector.core.report.advise import BAD, GOOD, OPEN, Advice, advise_rebuild, advise_vms
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.snapshot import Snapshot

EVERYWHERE = tuple(StorageLink(uuid(n), True, "10.0.0.9:/vms") for n in (1, 2, 3))


def repository(type_: str, shared: bool = True, links: tuple[StorageLink, ...] = EVERYWHERE) -> StorageRepository:
    return StorageRepository(f"sr-{type_}", f"{type_}-1", type_, shared, False, links)


def of(guarded: Guarded, *known: StorageRepository, **facts: object) -> Snapshot:
    """The pool with these repositories as its master told them, and these facts of host-3."""
    agents = dict(guarded.pool.live.agents)
    master = agents[uuid(1)]
    agents[uuid(1)] = replace(master, facts=replace(master.facts, storage=StorageFacts(known)))
    told: HostFacts = replace(agents[uuid(3)].facts, **facts)  # type: ignore[arg-type]
    agents[uuid(3)] = replace(agents[uuid(3)], facts=told)
    pool = replace(guarded.pool, live=replace(guarded.pool.live, agents=agents))
    return Snapshot(pool, guarded.now, guarded.site)


def begun() -> Guarded:
    guarded = Guarded(3)
    guarded.run(30_000)
    return guarded


def topics(advice: Advice, answer: str) -> set[str]:
    return {line.topic for line in advice.lines if line.answer == answer}


def test_an_empty_member_may_be_rebuilt_and_what_nobody_reports_is_said() -> None:
    advice = advise_rebuild(of(begun(), repository("nfs"), product="XCP-ng 8.3.0"), uuid(3))
    assert advice.answer == "yes" and advice.sentence.startswith("yes, host-3 may be rebuilt")
    assert topics(advice, OPEN) == {"boot device", "interfaces"} and "2 things no agent reports" in advice.sentence
    assert {"role", "VMs", "shared storage", "licence", "others"} <= topics(advice, GOOD)
    assert all(line.step for line in advice.lines if line.answer in (OPEN, BAD))


@pytest.mark.parametrize(("type_", "answer", "word"), [
    ("lvmohba", OPEN, "WWN"),
    ("lvmoiscsi", OPEN, "initiator IQN"),
    ("smb", GOOD, "plugged again"),
    ("linstor", OPEN, "not known"),
    ("", OPEN, "not told"),
])  # fmt: skip
def test_each_type_of_shared_storage_has_its_own_word(type_: str, answer: str, word: str) -> None:
    advice = advise_rebuild(of(begun(), repository(type_)), uuid(3))
    (line,) = (line for line in advice.lines if line.topic == "shared storage")
    assert line.answer == answer and word in line.text


def test_local_disks_running_vms_the_master_and_a_silent_host_are_each_a_no() -> None:
    g = begun()
    local = repository("lvm", shared=False, links=(StorageLink(uuid(3), True),))
    assert topics(advise_rebuild(of(g, local), uuid(3)), BAD) == {"local storage"}
    assert topics(advise_rebuild(of(g, local), uuid(2)), BAD) == set(), "another host's local storage"
    assert topics(advise_rebuild(of(g, domains=("vm-1",)), uuid(3)), BAD) == {"VMs"}
    master = advise_rebuild(of(g), uuid(1))
    assert master.answer == "no" and "role" in topics(master, BAD) and master.lines[0].answer == BAD
    g.host(2).agent = False
    g.run(10_000)
    assert "others" in topics(advise_rebuild(of(g), uuid(3)), BAD)
    assert "VMs" in topics(advise_rebuild(of(g), uuid(2)), OPEN), "a silent host's VMs are not known"


def test_iso_libraries_count_for_nothing_and_storage_nobody_told_is_not_known() -> None:
    g = begun()
    assert "local storage" not in topics(advise_rebuild(of(g, repository("iso", shared=False)), uuid(3)), BAD)
    assert "storage" in topics(advise_rebuild(of(g), uuid(3)), OPEN)
    assert "storage" in topics(advise_vms(of(g)), OPEN)


def test_a_pools_vms_need_shared_storage_plugged_everywhere() -> None:
    g = begun()
    good = advise_vms(of(g, repository("nfs")))
    assert good.answer == "yes" and topics(good, OPEN) == {"memory"}
    lacking = repository("nfs", links=(*EVERYWHERE[:2], replace(EVERYWHERE[2], attached=False)))
    bad = advise_vms(of(g, lacking))
    assert bad.answer == "no" and "not plugged on host-3" in bad.sentence
    local = repository("ext", shared=False, links=(StorageLink(uuid(2), True),))
    assert "local storage" in topics(advise_vms(of(g, local)), OPEN)


def test_a_vm_that_is_down_is_told_with_what_helps() -> None:
    g = begun()
    after = replace(g.pool.record.after, lost={"vm-7": LostVm("vm-7", "web", uuid(3))})
    g.pool = replace(g.pool, record=replace(g.pool.record, after=after))
    advice = advise_vms(of(g, repository("nfs")))
    (line,) = (line for line in advice.lines if line.topic == "down")
    assert advice.answer == "no" and "web is down since host-3 died" in line.text and "start-lost lab" in line.step
    assert "VMs" in topics(advise_rebuild(of(g), uuid(3)), BAD)
