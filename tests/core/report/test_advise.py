"""Advice before a host is rebuilt, and about a pool's VMs: what is known decides, what is not is said as such."""

from dataclasses import replace

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.model.host_facts import HostFacts, StorageFacts, StorageLink, StorageRepository
from poolwarden_collector.core.model.installation import (
    Adapters,
    HostRecords,
    Installation,
    LocalRepository,
    Pif,
    Transport,
)
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.report.advise import BAD, FIRST, GOOD, OPEN, Advice, advise_vms
from poolwarden_collector.core.report.rebuild_advice import advise_rebuild
from poolwarden_collector.core.state.followup_record import DeadHost, LostVm
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
    assert topics(advice, OPEN) == {"boot device", "interfaces", "adapters"}
    assert "3 things no agent reports" in advice.sentence and topics(advice, FIRST) == set()
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


# ------------------------------------------------------------------------------------------ what its agent reads


def line_of(advice: Advice, topic: str) -> tuple[str, str, str]:
    (line,) = (line for line in advice.lines if line.topic == topic)
    return line.answer, line.text, line.step


def seen(g: Guarded, *known: StorageRepository, records: HostRecords | None = None, **adapters: object) -> Snapshot:
    """Host-3's agent reads these adapters and records."""
    reads = Installation(Adapters(**adapters), records)  # type: ignore[arg-type]
    return of(g, *known, installation=reads, product="XCP-ng 8.3.0")


NICS = (("eth0", "aa:00"), ("eth1", "aa:01"))
PIFS = (Pif("u-0", "eth0", "aa:00"), Pif("u-1", "eth1", "aa:01"))
SDA = (("sda", Transport.LOCAL),)


def test_a_host_of_which_all_is_known_has_a_plain_answer() -> None:
    pool = seen(begun(), repository("nfs"), records=HostRecords(PIFS, ()), root_disks=SDA, nics=NICS)
    advice = advise_rebuild(pool, uuid(3))
    assert advice.sentence == "yes, host-3 may be rebuilt: nothing known stands against it"
    assert {line.answer for line in advice.lines} == {GOOD}


def test_what_is_to_be_noted_first_is_counted_and_stands_before_the_rest() -> None:
    pool = seen(
        begun(),
        repository("lvmohba"),
        repository("lvmoiscsi"),
        records=HostRecords(PIFS, ()),
        root_disks=SDA,
        nics=NICS,
        fc_ports=(("0x21", "Online"),),
        iscsi_targets=("iqn.x",),
        initiator=Tri.YES,
    )
    advice = advise_rebuild(pool, uuid(3))
    assert "may be rebuilt once 3 things are done or noted:" in advice.sentence and advice.lines[0].answer == FIRST
    shared = {line.text for line in advice.lines if line.topic == "shared storage"}
    assert any("WWNs 0x21;" in text for text in shared) and any("1 target in session" in text for text in shared)
    assert line_of(advice, "adapters")[0] == FIRST and "0x21 (Online)" in line_of(advice, "adapters")[1]


@pytest.mark.parametrize(("type_", "initiator", "word"), [
    ("lvmohba", Tri.YES, "no port of Fibre Channel"),
    ("lvmoiscsi", Tri.NO, "no initiator's name"),
    ("lvmoiscsi", Tri.UNKNOWN, "another initiator IQN"),
])  # fmt: skip
def test_adapters_that_do_not_fit_the_storage_are_a_thing_to_look_at(type_: str, initiator: Tri, word: str) -> None:
    advice = advise_rebuild(seen(begun(), repository(type_), initiator=initiator), uuid(3))
    answer, text, _ = line_of(advice, "shared storage")
    assert answer == OPEN and word in text


@pytest.mark.parametrize(("disks", "answer", "word"), [
    (SDA, GOOD, "sda (local), and not from SAN"),
    ((*SDA, ("sdb", Transport.FIBRE_CHANNEL)), FIRST, "boots from SAN: sda (local), sdb (Fibre Channel)"),
    ((("sda", Transport.UNKNOWN), ("sdb", Transport.ISCSI)), FIRST, "boots from SAN"),
    ((("nvme0n1", Transport.NVME_FABRIC),), FIRST, "boots from SAN"),
    ((*SDA, ("drbd0", Transport.UNKNOWN)), OPEN, "sda (local), drbd0 (not known)"),
    ((), OPEN, "not reported"),
])  # fmt: skip
def test_what_a_host_boots_from(disks: tuple[tuple[str, Transport], ...], answer: str, word: str) -> None:
    found, text, _ = line_of(advise_rebuild(seen(begun(), root_disks=disks), uuid(3)), "boot device")
    assert found == answer and word in text


OLD = Pif("00000000-0000-4000-8000-000000000009", "eth2", "bb:09")


@pytest.mark.parametrize(("pifs", "nics", "answer", "word"), [
    (PIFS, NICS, GOOD, "after a new mainboard"),
    ((*PIFS, OLD), NICS, FIRST, "eth2 (bb:09)"),
    ((*PIFS, OLD), (*NICS, ("eth2", "")), OPEN, "eth2 (bb:09)"),
    (PIFS, (*NICS, ("eth2", "")), GOOD, "eth2 (MAC not known)"),
    ((), NICS, OPEN, "PIFs are not known"),
    (PIFS, (), OPEN, "their MACs are not known"),
])  # fmt: skip
def test_stale_pifs(pifs: tuple[Pif, ...], nics: tuple[tuple[str, str], ...], answer: str, word: str) -> None:
    pool = seen(begun(), records=HostRecords(pifs, ()), nics=nics)
    found, text, step = line_of(advise_rebuild(pool, uuid(3)), "interfaces")
    assert found == answer and word in text and (f"pif-forget uuid={OLD.uuid};" in step) is (answer == FIRST)


LOCAL = repository("ext", shared=False, links=(StorageLink(uuid(3), True),))


def told(g: Guarded, behind: int = 0, **disks: object) -> Snapshot:
    """Host-3 tells of its local repository; its copy of the database is so many generations older than the master's."""
    own = HostRecords((), (LocalRepository(LOCAL.uuid, LOCAL.name, "ext", **disks),))  # type: ignore[arg-type]
    pool = seen(g, LOCAL, records=own)
    agents = dict(pool.live.agents)
    generation = agents[uuid(1)].facts.database.generation - behind
    facts = agents[uuid(3)].facts
    facts = replace(facts, database=replace(facts.database, generation=generation))
    agents[uuid(3)] = replace(agents[uuid(3)], facts=facts)
    return Snapshot(replace(g.pool, live=replace(pool.live, agents=agents)), g.now, g.site)


def test_a_local_repository_with_its_disks_and_who_uses_them() -> None:
    pool = told(begun(), 1, disks=3, bytes=3 << 30, running=("web",), others=("db", "old"), vms=3)
    answer, text, _ = line_of(advise_rebuild(pool, uuid(3)), "local storage")
    assert answer == BAD and "3 virtual disks of 3.0 GiB (running web; not running db, old)" in text
    answer, text, _ = line_of(advise_vms(pool), "local storage")
    assert answer == BAD and "3 VMs have a disk on it: web, db, old;" in text
    many = told(begun(), disks=20, running=tuple(f"v{n}" for n in range(20)), vms=20)
    assert "v7 and 12 more" in line_of(advise_rebuild(many, uuid(3)), "local storage")[1]
    orphaned = told(begun(), disks=1)
    assert "1 virtual disk of 0.0 GiB (of no VM)" in line_of(advise_rebuild(orphaned, uuid(3)), "local storage")[1]


@pytest.mark.parametrize(("behind", "answer"), [(0, GOOD), (1, OPEN)])
def test_an_empty_local_repository_counts_by_a_copy_that_is_not_old(behind: int, answer: str) -> None:
    pool = told(begun(), behind)
    assert line_of(advise_rebuild(pool, uuid(3)), "local storage")[0] == answer
    assert line_of(advise_vms(pool), "local storage")[0] == answer


@pytest.mark.parametrize(
    ("boot", "count", "answer"), [("", 2, BAD), ("", 0, OPEN), ("the last", 2, GOOD), ("one before", 2, BAD)]
)
def test_a_silent_host_is_rebuilt_once_it_is_declared_dead_in_its_last_boot(boot: str, count: int, answer: str) -> None:
    """It came back since it was declared dead, and is silent again with other VMs."""
    g = begun()
    g.host(3).agent = False
    g.run(60_000)
    snapshot = of(g, domains=tuple(f"vm-{n}" for n in range(count)))
    last = snapshot.record.hosts[uuid(3)].boot_id
    dead = {uuid(3): DeadHost(uuid(3), last if boot == "the last" else "boot-0", "x", declared=True)} if boot else {}
    record = replace(snapshot.record, after=replace(snapshot.record.after, dead=dead))
    advice = advise_rebuild(Snapshot(replace(g.pool, record=record, live=snapshot.live), g.now, g.site), uuid(3))
    (line,) = (line for line in advice.lines if line.topic == "VMs")
    assert line.answer == answer and (answer == GOOD or line.step)


def test_a_silent_hosts_empty_repository_is_not_known_to_be_empty() -> None:
    g = begun()
    g.host(3).agent = False
    g.run(10_000)
    assert line_of(advise_rebuild(told(g), uuid(3)), "local storage")[0] == OPEN


def test_a_local_repository_that_the_master_has_not_told_stands_in_the_hosts_own_records() -> None:
    own = HostRecords((), (LocalRepository("u", "new", "ext", 1), LocalRepository("v", "dvd", "udev", 1)))
    answer, text, _ = line_of(advise_rebuild(seen(begun(), repository("nfs"), records=own), uuid(3)), "local storage")
    assert answer == BAD and "new (ext)" in text


@pytest.mark.parametrize(("product", "edition", "answer", "word"), [
    ("XCP-ng 8.3.0", "xcp-ng", GOOD, "no licence"),
    ("XenServer 8", "free", GOOD, "no licence"),
    ("XenServer 8", "premium", FIRST, "premium"),
    ("XenServer 8", "", OPEN, "not reported"),
])  # fmt: skip
def test_the_edition(product: str, edition: str, answer: str, word: str) -> None:
    pool = of(begun(), product=product, installation=Installation(None, HostRecords((), (), edition)))
    found, text, _ = line_of(advise_rebuild(pool, uuid(3)), "licence")
    assert found == answer and word in text


def test_hosts_of_a_pool_with_different_editions_are_named() -> None:
    g = begun()
    agents = dict(g.pool.live.agents)
    other = replace(agents[uuid(2)].facts, installation=Installation(None, HostRecords((), (), "premium")))
    agents[uuid(2)] = replace(agents[uuid(2)], facts=other)
    g.pool = replace(g.pool, live=replace(g.pool.live, agents=agents))
    pool = of(g, product="XenServer 8", installation=Installation(None, HostRecords((), (), "free")))
    answer, text, _ = line_of(advise_rebuild(pool, uuid(3)), "licence")
    assert answer == FIRST and "host-2 premium" in text
