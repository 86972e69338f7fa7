"""``readiness`` and ``plan``: pages, exit status for scripts, JSON."""

from collections.abc import Callable

from poolwarden.v1 import operator_pb2 as api

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector

Call = Callable[..., Said]


def a_pool(*severities: str) -> api.PoolReadiness:
    reasons = [
        api.Unready(code="fence-device", severity=severity, sentence=f"reason {number}", fix=f"do {number}")
        for number, severity in enumerate(severities)
    ]
    return api.PoolReadiness(pool_uuid=POOL, name="demo", ready="critical" not in severities, reasons=reasons)


def test_a_pool_that_is_ready(fake: FakeCollector, poolwarden: Call) -> None:
    fake.readiness.pools.append(a_pool())
    assert poolwarden("readiness") == (0, "demo  READY: losing its master now would heal by itself\n", "")
    assert poolwarden("readiness", "demo", "--json").json["pools"][0]["ready"] is True
    assert fake.asked[-1] == api.ReadinessRequest(pool="demo")


def test_each_reason_has_its_fix_and_scripts_their_status(fake: FakeCollector, poolwarden: Call) -> None:
    fake.readiness.pools.append(a_pool("critical", "warning"))
    said = poolwarden("readiness", "demo")
    assert (said.status, said.err) == (1, "poolwarden: not ready: demo\n")
    assert said.out.splitlines() == [
        "demo  NOT READY to lose its master now; 1 thing could be better",
        "  NOT READY: reason 0",
        "             fix: do 0",
        "  weak:      reason 1",
        "             fix: do 1",
    ]
    assert poolwarden("readiness", "--json").status == 1


def test_what_could_be_better_fails_only_where_asked_for(fake: FakeCollector, poolwarden: Call) -> None:
    fake.readiness.pools.append(a_pool("warning"))
    assert poolwarden("readiness").status == 0
    assert poolwarden("readiness", "--strict").status == 1


def test_nobody_is_ready_where_no_pool_is_known(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("readiness").status == 1


def a_plan(fake: FakeCollector) -> None:
    fake.plan = api.PlanReply(
        pool_uuid=POOL, pool_name="demo", headline="healthy: host-1 is master", master_uuid=HOSTS[0],
        master_name="host-1", outcome="asks", outcome_text="it would wait for you: no fence device",
        proof_text="no: no fence device", candidate_uuid=HOSTS[1], candidate_name="host-2",
        devices=[api.PlanDevice(name="bmc-1", state="unbound", power="unknown", read=True, age_ms=4_000)],
        hosts=[api.PlanHost(name="host-2", eligible=True, text="host-2: eligible, database generation 7")],
        data_loss_text="the copy of host-2 is 3.0 min old", kills_text="1: it would ask you first",
        kills=[api.PlanKill(name="db", host_name="host-3", why="the database places it on host-1")],
        vms=[api.PlanVm(vm_uuid="u1", name="web"), api.PlanVm(vm_uuid="u2", name="u2")],
        vms_text="2 VMs would be down", expected_ms=61_000, expected_from="by design",
        phases=[api.PlanPhase(name="claim", text="every member looks once more", expected_ms=1_500, at_most_ms=4_000)],
    )  # fmt: skip


def test_plan_says_what_would_happen(fake: FakeCollector, poolwarden: Call) -> None:
    a_plan(fake)
    said = poolwarden("plan", "demo")
    assert said.status == 0
    for line in (
        "demo  if host-1 died now: WAITS FOR YOU",
        "             it would wait for you: no fence device",
        "             bmc-1: unbound, gave no reading 4.0 s ago",
        "  successor: host-2",
        "  killed:    1: it would ask you first",
        "             db on host-3: the database places it on host-1",
        "             web",
        "  time:      about 61 s (by design)",
        "             every member looks once more  1.5 s     at most 4.0 s",
    ):
        assert line in said.out.splitlines(), line
    assert poolwarden("plan", "demo", "--json").json["candidate_name"] == "host-2"


def test_dry_run_is_another_spelling_and_its_json_stays(fake: FakeCollector, poolwarden: Call) -> None:
    a_plan(fake)
    assert poolwarden("failover", "demo", "--dry-run").out == poolwarden("plan", "demo").out
    fake.reply = api.CommandReply(accepted=True, plan=api.ExplainReply(candidate="host-2"))
    assert poolwarden("failover", "demo", "--dry-run", "--json").json["plan"]["candidate"] == "host-2"


def test_plan_of_a_pool_without_a_master(fake: FakeCollector, poolwarden: Call) -> None:
    fake.plan = api.PlanReply(pool_name="demo", headline="NO HOST IS MASTER", outcome="stands still")
    assert poolwarden("plan", "demo").out.startswith("demo  if its master died now: NOTHING IS DONE\n")
