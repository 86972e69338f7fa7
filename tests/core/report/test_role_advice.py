"""The list before a planned switchover: each line that does not hold makes the answer a no."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.pool import Guarded, uuid

from poolwarden_collector.core.evidence.signs import signs
from poolwarden_collector.core.evidence.verdict import judge
from poolwarden_collector.core.model.host_facts import Certificate, Disk, DiskLevel, HostEnvironment, HostFacts
from poolwarden_collector.core.model.installation import HostRecords, Installation
from poolwarden_collector.core.model.values import Tri
from poolwarden_collector.core.recovery import switchover
from poolwarden_collector.core.report.advise import BAD, GOOD, OPEN, Advice
from poolwarden_collector.core.report.role_advice import UNREACHABLE, advise_role
from poolwarden_collector.core.state.live import AgentState
from poolwarden_collector.core.state.snapshot import Snapshot

Change = Callable[[HostFacts], HostFacts]


def begun() -> Guarded:
    guarded = Guarded(3)
    guarded.run(30_000)
    return guarded


def seen(guarded: Guarded, host: int = 0, change: Change = lambda facts: facts) -> Snapshot:
    """The pool, in which this host has told something else."""
    agents: dict[str, AgentState] = dict(guarded.pool.live.agents)
    if host:
        agents[uuid(host)] = replace(agents[uuid(host)], facts=change(agents[uuid(host)].facts))
    live = replace(guarded.pool.live, agents=agents)
    return Snapshot(replace(guarded.pool, live=live), guarded.now, guarded.site)


def bad(advice: Advice) -> set[str]:
    return {line.topic for line in advice.lines if line.answer == BAD}


def view(**values: object) -> Change:
    def change(facts: HostFacts) -> HostFacts:
        assert facts.pool_view is not None
        return replace(facts, pool_view=replace(facts.pool_view, **values))  # type: ignore[arg-type]

    return change


def unplugged(facts: HostFacts) -> HostFacts:
    assert facts.pool_view is not None
    hosts = tuple(replace(h, unplugged_srs=("shared",)) if h.host == uuid(2) else h for h in facts.pool_view.hosts)
    return replace(facts, pool_view=replace(facts.pool_view, hosts=hosts))


def disabled(facts: HostFacts) -> HostFacts:
    assert facts.pool_view is not None
    hosts = tuple(replace(h, enabled=h.host != uuid(3)) for h in facts.pool_view.hosts)
    return replace(facts, pool_view=replace(facts.pool_view, hosts=hosts))


def around(days: int) -> Change:
    return lambda facts: replace(facts, around=HostEnvironment(certificates=(Certificate("xapi", days),)))


def test_a_healthy_pool_may_hand_its_role_over_and_the_unreachable_time_is_announced() -> None:
    advice = advise_role(seen(begun(), 2, around(400)), uuid(2))
    assert advice.answer == "yes" and bad(advice) == set()
    assert UNREACHABLE in [line.text for line in advice.lines] and "20-30 s" in UNREACHABLE
    assert "redo log" in {line.topic for line in advice.lines if line.answer == OPEN}
    told = Installation(None, HostRecords(redo_log=Tri.YES))
    told_too = advise_role(seen(begun(), 1, lambda facts: replace(facts, installation=told)), uuid(2))
    assert "the pool's redo log is on: its new master takes it over" in [line.text for line in told_too.lines]
    assert {"pool", "role", "HA", "versions", "members", "tasks", "storage", "certificates"} <= {
        line.topic for line in advice.lines if line.answer == GOOD
    }


HARMS: list[tuple[str, int, Change]] = [
    ("HA", 3, lambda facts: replace(facts, database=replace(facts.database, ha_armed=Tri.YES))),
    ("upgrade", 1, view(rolling_upgrade=Tri.YES)),
    ("versions", 3, lambda facts: replace(facts, xapi_version="1.0.0")),
    ("members", 1, disabled),
    ("tasks", 1, view(busy_tasks=("VM.export",))),
    ("storage", 1, unplugged),
    (
        "disk",
        2,
        lambda facts: replace(facts, disks=(Disk("/", 100 << 30, 3 << 30, 100, 90, False, level=DiskLevel.CRITICAL),)),
    ),
    ("certificates", 2, around(-1)),
]


@pytest.mark.parametrize(("topic", "host", "change"), HARMS, ids=[topic for topic, _, _ in HARMS])
def test_each_thing_that_does_not_hold_is_a_no(topic: str, host: int, change: Change) -> None:
    advice = advise_role(seen(begun(), host, change), uuid(2))
    assert advice.answer == "no" and topic in bad(advice) and advice.lines[0].answer == BAD


def test_a_pause_the_master_itself_and_what_the_switchover_refuses_are_a_no() -> None:
    g = begun()
    assert bad(advise_role(seen(g), uuid(1))) == {"role"}
    g.say("pause", reason="work")
    assert "pool" in bad(advise_role(seen(g), uuid(2)))
    g.say("resume")
    g.host(3).agent = False
    g.run(10_000)
    snapshot = seen(g)
    assert switchover.refusal(snapshot, uuid(2), judge(signs(snapshot))) is not None
    assert advise_role(snapshot, uuid(2)).answer == "no"
