"""The last alert of a failover: each of its lines, for each way in which a failover can have gone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.known import Change, after, both, facts, live, record, silent
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.decision.start_places import start_places
from poolwarden_collector.core.failover import final_alert
from poolwarden_collector.core.model.proof_kinds import ProofKind
from poolwarden_collector.core.state.failover_record import (
    Failover,
    HeldMaster,
    MemberReturn,
    Path,
    Promotion,
    RecordedProof,
    Step,
)
from poolwarden_collector.core.state.followup_record import LostVm
from poolwarden_collector.core.state.live_slices import Phases

ENDED = Failover("f-9", uuid(1), "boot-1-1", 5, Step.PROMOTED, uuid(2), members=MemberReturn(back=(uuid(3),)))
CURRENT = replace(ENDED, promotion=Promotion(copy_age_ms=0, copy_text="the copy of host-2 was as new"))


@pytest.fixture(scope="module")
def g() -> Guarded:
    pool = Guarded()
    pool.run(30_000)
    return pool


def told(g: Guarded, failover: Failover, *changes: Change) -> str:
    tx = after(g, both(record(failover=failover, term=5, master=uuid(2)), silent(1), *changes))
    final_alert.tell_end(tx, failover, [uuid(3)], [])
    alerts = [*(alert.body for alert in tx.alerts if hasattr(alert, "body"))]
    return [*alerts, *(alert.body for alert in tx.live.alerts.unsettled.values())][-1]


def test_the_age_of_the_data_is_told(g: Guarded) -> None:
    assert "its database current; back as members: host-3" in told(g, CURRENT)
    old = replace(ENDED, promotion=Promotion(copy_age_ms=150_000, copy_text="2 min behind"))
    assert "its database 3 min old" in told(g, old) and "\ndatabase: 2 min behind\n" in told(g, old)
    assert "its database of unknown age" in told(g, ENDED)


def test_a_database_that_was_handed_over_is_current(g: Guarded) -> None:
    tx = after(g, record())
    given = HeldMaster(handed_over={"target": uuid(2), "placed": True})
    handed = final_alert.loads(tx, replace(ENDED, hold=given))
    assert handed == {"copy_age_ms": 0, "copy_text": "that of host-1 itself, handed over: current"}
    for other in ({"target": uuid(3), "placed": True}, {"target": uuid(2), "placed": False}):
        copy = final_alert.loads(tx, replace(ENDED, hold=HeldMaster(handed_over=other)))
        assert copy["copy_text"].startswith("the copy of host-2 was ")


def test_what_died_and_what_becomes_of_it_follows_the_path(g: Guarded) -> None:
    assert "10.0.0.2. Repair host-1; it returns as a member\n" in told(g, CURRENT)
    held = replace(CURRENT, path=Path.TOOLSTACK)
    assert "10.0.0.2. host-1 returns as a member by itself\n" in told(g, held) and "VMs lost" not in told(g, held)
    nobody = replace(CURRENT, old_master="", path=Path.ROLES)
    assert "Died: no host was master; " in told(g, nobody) and "\nYou:  connect" in told(g, nobody)
    assert "Repair" not in told(g, nobody) and "\nXenCenter, XCP-ng Center: add server 10.0.0.2\n" in told(g, nobody)


def test_a_proof_is_told_in_words_that_everybody_knows(g: Guarded) -> None:
    def proven(kind: ProofKind, **facts_of_it: object) -> str:
        return told(g, replace(CURRENT, proof=RecordedProof(kind, uuid(1), "boot-1-1", dict(facts_of_it))))

    held = proven(ProofKind.TOOLSTACK, term=5, refused_to=["host-3"])
    assert "; its own agent keeps its xapi stopped, and its closed port refused host-3; its VMs run on\n" in held
    assert "; it has booted anew, and its boot gate keeps its xapi back\n" in proven(ProofKind.REBOOTED, gate_term=5)
    assert "; no proof on record\n" in told(g, CURRENT)


def test_lost_vms_are_named_with_where_they_can_start(g: Guarded) -> None:
    assert "VMs lost" not in told(g, CURRENT, facts(1, lambda f: replace(f, domains=())))
    ran = facts(1, lambda f: replace(f, domains=("vm-7", "vm-8")))
    body = told(g, CURRENT, ran, facts(3, lambda f: replace(f, domains=("vm-8",))))
    assert "Open: 1 VM down: vm-7; can start on host-2, host-3; " in body
    assert "\nVMs lost with host-1: vm-7\neach can start on: host-2, host-3 (first xapi has to be told " in body
    record_of = replace(after(g, record()).record.after, lost={"vm-9": LostVm("vm-9", "web", uuid(1))})
    listed = told(g, CURRENT, ran, record(after=record_of))
    assert "\nVMs lost with host-1: web\n" in listed and " --dry-run)\n" in listed
    word = RecordedProof(ProofKind.HUMAN, uuid(1), "boot-1-1", {"by": "alice", "how": "pulled the plug"})
    assert "rests on the word of whoever confirmed it" in told(g, replace(CURRENT, proof=word), ran)


def test_many_lost_vms_are_counted_in_the_line_and_named_below(g: Guarded) -> None:
    names = [f"vm-{n}" for n in range(9)]
    body = told(g, CURRENT, facts(1, lambda f: replace(f, domains=tuple(names))))
    assert "9 VMs down: vm-0, vm-1, vm-2, vm-3, vm-4, vm-5 and 3 more; " in body
    assert f"\nVMs lost with host-1: {', '.join(names)}\n" in body


def test_who_is_not_back_is_named(g: Guarded) -> None:
    waits = replace(CURRENT, members=MemberReturn())
    assert "members back: none\nmembers not back yet, brought back by themselves: host-3\n" in told(g, waits)
    assert "Open: host-3 not attached yet; " in told(g, waits) and "no member is back yet" in told(g, waits)


def test_the_time_of_each_phase_is_told(g: Guarded) -> None:
    marks = {"silent": 0, "decided": 8_100, "claimed": 9_600, "candidate": 9_600, "proof": 12_800, "closed": 40_000}
    line = "\ntime: 40 s: silence 8.1 s, members asked 1.5 s, proof 3.2 s, members back 27.2 s\n"
    assert line in told(g, CURRENT, live(Phases, marks=marks))
    assert "\ntime: not known\n" in told(g, CURRENT, live(Phases, marks={}))


def test_a_new_master_that_is_disabled_is_told_with_what_ends_it_and_one_that_is_not_live_is_not(g: Guarded) -> None:
    def said(**of_host_1: object) -> str:
        def change(f):  # type: ignore[no-untyped-def]
            hosts = tuple(replace(h, **of_host_1) if h.host == uuid(1) else h for h in f.pool_view.hosts)
            return replace(f, pool_view=replace(f.pool_view, hosts=hosts))

        failover = replace(ENDED, candidate=uuid(1), old_master=uuid(2))
        return " ".join(final_alert.of_new_master(after(g, facts(1, change)), failover, []))

    passes = "which passes once it has given up on host-2"
    assert said() == ""
    assert said(enabled=False) == f"host-1: the new master has it disabled, {passes}"
    assert said(live=False) == said(live=False, enabled=False) == "host-1: the new master does not have it live"


def test_a_host_that_takes_no_vm_is_no_place_to_start_one(g: Guarded) -> None:
    def seen(**of_host_3: object) -> str:
        def change(f):  # type: ignore[no-untyped-def]
            view = f.pool_view
            hosts = tuple(replace(h, **of_host_3) if h.host == uuid(3) else h for h in view.hosts)
            return replace(f, pool_view=replace(view, hosts=hosts))

        return start_places(after(g, facts(1, change)), uuid(1), uuid(1))

    assert seen() == "host-2, host-3"
    assert seen(enabled=False) == seen(live=False) == "host-2"
    assert seen(unplugged_srs=("nfs",)) == "host-2, host-3 (without nfs)"
    lone = after(g, both(silent(2), facts(1, lambda f: replace(f, pool_view=None))))
    assert start_places(lone, uuid(1), uuid(1)) == "host-3"
    assert start_places(after(g, both(silent(2), silent(3))), uuid(1), uuid(1)) == "no host that is up now"
    whole = facts(
        1,
        lambda f: replace(
            f, pool_view=replace(f.pool_view, hosts=tuple(replace(h, enabled=False) for h in f.pool_view.hosts))
        ),
    )
    assert start_places(after(g, whole), uuid(1), uuid(1)) == "host-2, host-3, once enabled"
