"""The commands that look: what they print at 80 columns, as JSON, and with which exit status."""

import json
from collections.abc import Callable

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.pages import pools
from poolwarden_collector.cli.pages.journal import BOOKKEEPING
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector, a_host

Call = Callable[..., Said]


def dead_master(fake: FakeCollector) -> api.PoolStatus:
    """The pool after its master vanished, blocked for want of a proof."""
    pool = fake.status.pools[0]
    pool.verdict, pool.sentence = "MasterVanished", "host-1 is silent for 14 s; host-2 and host-3 get no answer from it"
    pool.master_uuid = pool.master_name = pool.master_address = ""
    dead = a_host(1, "unknown", place="last master", agent_connected=False, heard=False, agent_age_ms=14_000)
    dead.xapi, dead.power = "unknown", "unknown"
    dead.fence_devices.append(api.FenceDeviceStatus(name="bmc-1", power="unknown", read=True, age_ms=6_000))
    pool.hosts[0].CopyFrom(dead)
    pool.situation.CopyFrom(
        api.Situation(
            headline="MASTER LOST: WAITING FOR YOU",
            level="critical",
            age_ms=14_000,
            lines=["host-1 is silent; host-2, host-3 get no answer from its xapi."],
            vms="6 run on host-2, host-3; 3 were on host-1",
            todo=["See that host-1 is off, keep it off, then:", "poolwarden confirm-fenced host-1"],
            then="then host-2 becomes master",
        )  # fmt: skip
    )
    pool.hosts[1].orphaned = True
    pool.failover.CopyFrom(
        api.FailoverStatus(
            id="fo-1",
            step="CANDIDATE",
            blocked="BLOCKED_NEEDS_HUMAN",
            candidate_uuid=HOSTS[1],
            term=4,
            age_ms=9_000,
            blocker="the power of host-1 reads unknown (Connection timed out), so nothing proves that it is off",
        )  # fmt: skip
    )
    return pool


def test_status_of_a_healthy_pool(fake: FakeCollector, poolwarden: Call) -> None:
    said = poolwarden("status")
    assert said.status == 0
    assert said.err == ""
    assert said.out.splitlines() == [
        "demo  healthy: host-1 is master                                             65 s",
        "  VMs: 9 run on host-1, host-2, host-3",
        "  HOST    ROLE    HEARD  XAPI     POWER  DISK  VMS",
        "  host-1  master  0.9 s  answers  on     50%   3",
        "  host-2  member  0.9 s  answers  on     50%   3",
        "  host-3  member  0.9 s  answers  on     50%   3",
        "",
        "collector: watch-1 0.1.0, up 61 min",
    ]


def test_status_of_a_pool_that_waits_for_a_person(fake: FakeCollector, poolwarden: Call) -> None:
    dead_master(fake).alerts.add(key="k", severity="critical", title="demo: master lost")
    assert poolwarden("status").out.splitlines()[:10] == [
        "demo  MASTER LOST: WAITING FOR YOU                                          14 s",
        "  host-1 is silent; host-2, host-3 get no answer from its xapi.",
        "  VMs: 6 run on host-2, host-3; 3 were on host-1",
        "  YOU: See that host-1 is off, keep it off, then:",
        "       poolwarden confirm-fenced host-1",
        "  then host-2 becomes master",
        "  HOST    ROLE         HEARD  XAPI      POWER             DISK        VMS",
        "  host-1  last master  14 s   ?         no answer, 6.0 s  50% (14 s)  3 (14 s)",
        "  host-2  member       0.9 s  orphaned  on                50%         3",
        "  host-3  member       0.9 s  answers   on                50%         3",
    ]
    assert "  open alerts: 1 critical (poolwarden alerts demo)" in poolwarden("status").out


def test_status_unfolds_everything(fake: FakeCollector, poolwarden: Call) -> None:
    pool = dead_master(fake)
    pool.paused, pool.pause_reason, pool.cooldown_ms = True, "moving racks", 600_000
    pool.owed.append("host-1: has to be pointed at host-2")
    pool.not_ready.extend(["host-3 has 40 MiB free on /", "one more", "two more"])
    fake.status.quiet_ms, fake.status.blind, fake.status.outbox_pending = 42_000, "no anchor answers", 2
    fake.status.warnings.append("this collector runs as a VM of a pool that it guards")
    said = poolwarden("status", "--all")
    flat = " ".join(said.out.split())
    for phrase in (
        "master: none is verified", "verdict MasterVanished for 65 s; term 3; mode auto; cool-down 10 min more",
        "paused: moving", "failover: fo-1 at step CANDIDATE for 9.0 s, term 4, candidate host-2",
        "stands still: the power of host-1 reads unknown", "pending: host-1: has to be pointed at host-2",
        "not ready: host-3 has 40 MiB free on /", "not ready: two more", "blind: no anchor answers",
        "start-up quiet time: 42 s left", "warning: this collector runs as a VM", "alerts: 2 not delivered yet",
    ):  # fmt: skip
        assert phrase in flat, phrase
    pool.ClearField("failover")
    out = poolwarden("status").out
    assert "two more" not in out and "  not ready: 2 more: poolwarden readiness demo" in out


def test_status_of_many_pools_is_one_screen(fake: FakeCollector, poolwarden: Call) -> None:
    for number in range(2, 21):
        pool = fake.status.pools.add(pool_uuid=f"p{number}", name=f"pool-{number:02}", verdict="Healthy", mode="auto")
        pool.situation.headline, pool.situation.level = "healthy: h is master", "good"
    worst = fake.status.pools[7]
    worst.situation.headline, worst.situation.level, worst.situation.age_ms = "2 VMs DOWN since h died", "critical", 5
    worst.alerts.add(key="k", severity="critical", title="2 VMs down")
    lines = poolwarden("status").out.splitlines()
    assert len(lines) <= 20
    assert " ".join(lines[1].split()) == "pool-08 2 VMs DOWN since h died 0.0 s 0/0 1 critical"
    assert any(line.startswith("19 healthy: demo, pool-02") for line in lines)
    assert "poolwarden status pool-08 shows one pool; --all shows all" in lines
    assert poolwarden("status", "--all").out.count("healthy: h is master") == 18


def test_status_without_any_pool(fake: FakeCollector, poolwarden: Call) -> None:
    del fake.status.pools[:]
    assert "no pool is known yet" in poolwarden("status").out
    assert poolwarden("status", "--check").status == 1


def test_status_check_is_for_monitoring(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("status", "--check").status == 0
    fake.status.pools[0].verdict = "Suspect"
    said = poolwarden("status", "--check")
    assert (said.status, said.err.splitlines()[0]) == (
        1,
        "poolwarden: demo: healthy: host-1 is master (verdict Suspect)",
    )
    assert poolwarden("status").status == 0


def test_status_check_fails_for_an_open_alert_of_its_severity(fake: FakeCollector, poolwarden: Call) -> None:
    """Also where the verdict is Healthy, and it says which."""
    alert = fake.status.pools[0].alerts.add(key="k", severity="info", title="demo: upgrade under way")
    assert poolwarden("status", "--check").status == 0
    assert poolwarden("status", "--check=info").status == 1
    alert.severity, alert.title = "warning", "demo: host-3 is off"
    said = poolwarden("status", "--check")
    assert (said.status, said.err.splitlines()[0]) == (1, "poolwarden: demo: alert (warning): demo: host-3 is off")
    assert poolwarden("status", "--check=critical").status == 0
    alert.severity = "critical"
    assert poolwarden("status", "--check=critical").status == 1
    assert poolwarden("status", "--check", "demo").status == 1
    assert poolwarden("status", "--check=loud", "demo").status == 2


@pytest.mark.parametrize("arguments", [("--json", "status"), ("status", "--json")])
def test_json_before_and_after_the_command(fake: FakeCollector, poolwarden: Call, arguments: tuple[str, ...]) -> None:
    pool = poolwarden(*arguments).json["pools"][0]
    assert pool["term"] == 3
    assert pool["failover"] is None
    assert pool["hosts"][0]["disks"][0]["used_percent"] == 50.0
    assert pool["hosts"][0]["generation"] == 4711
    assert pool["owed"] == []


def test_hosts(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.pools[0].hosts[2].enabled = "no"
    said = poolwarden("hosts", "demo")
    assert said.out.splitlines()[0].startswith("HOST ")
    assert "host-3: disabled: no VM starts there; poolwarden host enable host-3" in said.out
    assert [host["name"] for host in poolwarden("hosts", "--json").json["hosts"]] == ["host-1", "host-2", "host-3"]


def test_long_names_wrap_and_lose_nothing(fake: FakeCollector, poolwarden: Call) -> None:
    other = api.PoolStatus(pool_uuid="p2", name="a-second-pool-with-a-long-name", verdict="Healthy")
    long = "hypervisor-rack-17.datacentre-north.customers.example.com"
    other.hosts.append(a_host(1, name=long, pool_name=other.name, host_uuid="h9"))
    fake.status.pools.append(other)
    out = poolwarden("hosts").out
    header = out.splitlines()[0]
    start, end = header.index("HOST"), header.index("ROLE")
    assert long in "".join(line[start:end].strip() for line in out.splitlines())
    assert poolwarden("host", "show", long).status == 0


def test_host_show(fake: FakeCollector, poolwarden: Call) -> None:
    host = fake.status.pools[0].hosts[1]
    host.emergency, host.emergency_text = "yes", "this host is not known to its master (HOST_UNKNOWN_TO_MASTER)"
    host.probes.append(api.ProbeStatus(target_name="host-1", outcome="no answer", age_ms=1200, text="timed out"))
    out = poolwarden("host", "show", "demo/host-2").out
    for phrase in (
        "address:      10.0.0.2",
        "generation 4711",
        "5.0 GiB available of 8.0 GiB",
        "xapi says: this host is not known",
    ):
        assert phrase in out
    assert "host-1          no answer  1.2 s ago  timed out" in out
    assert poolwarden("host", "show", HOSTS[1], "--json").json["probes"][0]["age_ms"] == 1200


def test_host_show_names_what_failed_and_json_has_every_assumption(fake: FakeCollector, poolwarden: Call) -> None:
    assert "assumptions" not in poolwarden("host", "show", "demo/host-1").out  # its agent tells nothing of them
    fails = api.AssumptionStatus(id="promote-exit-123", finding="fails", evidence="status 1", rests=["promotion"])
    rows = [fails, api.AssumptionStatus(id="xapi-unit", finding="holds"), api.AssumptionStatus(finding="not seen")]
    fake.status.pools[0].hosts[0].assumptions.extend(rows)
    out = poolwarden("host", "show", "demo/host-1").out
    assert "1 hold, 1 fail, 1 not seen yet" in out and "xapi-unit" not in out
    assert "promote-exit-123  status 1  promotion" in out
    assert [each["finding"] for each in poolwarden("host", "show", "demo/host-1", "--json").json["assumptions"]] == [
        "fails",
        "holds",
        "not seen",
    ]


def test_ambiguous_host_lists_the_candidates(fake: FakeCollector, poolwarden: Call) -> None:
    other = api.PoolStatus(
        pool_uuid="p2", name="lab", hosts=[a_host(2, host_uuid="h9", pool_name="lab", pool_uuid="p2")]
    )
    fake.status.pools.append(other)
    said = poolwarden("host", "show", "host-2")
    assert said.status == 2
    assert said.err == (
        f"poolwarden: 'host-2' is ambiguous: demo/host-2 ({HOSTS[1]}) and lab/host-2 (h9)\n"
        "  use pool/host or the UUID\n"
    )
    assert poolwarden("host", "show", "lab/host-2", "--json").json["host_uuid"] == "h9"


def test_unknown_names(fake: FakeCollector, poolwarden: Call) -> None:
    said = poolwarden("host", "show", "host-7")
    assert (said.status, said.out) == (2, "")
    assert said.err == "poolwarden: no host is called 'host-7'\n  known hosts: host-1, host-2, host-3\n"
    said = poolwarden("status", "dmeo")
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines()[0] == "poolwarden: no pool is called 'dmeo'; known: demo"


def test_master_prints_only_the_address(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("master", "demo") == (0, "10.0.0.1\n", "")
    assert poolwarden("master", POOL, "--json").json["master"] == {
        "uuid": HOSTS[0], "name": "host-1", "address": "10.0.0.1",
    }  # fmt: skip


def test_master_prints_nothing_where_none_is_verified(fake: FakeCollector, poolwarden: Call) -> None:
    dead_master(fake)
    said = poolwarden("master", "demo")
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("poolwarden: demo has no verified master now: MasterVanished: host-1 is silent for 14 s")
    said = poolwarden("--json", "master", "demo")
    assert (said.status, said.json["master"]) == (1, None)


def test_master_refuses_two_masters(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.pools[0].hosts[1].role = "master"
    said = poolwarden("master", "demo")
    assert (said.status, said.out) == (1, "")
    assert "no single master: host-1 and host-2" in said.err


def test_master_without_an_address(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.pools[0].master_address = ""
    said = poolwarden("master", "demo")
    assert (said.status, said.out) == (1, "")


def test_explain(fake: FakeCollector, poolwarden: Call) -> None:
    fake.explanation = api.ExplainReply(
        pool_name="demo", verdict="MasterVanished", meaning="the master is silent and nobody reaches it",
        evidence=[
            api.EvidenceLine(
                subject="host-1 xapi", value="no", age_ms=2100, age_known=True, witness="host-2", text="timed out"
            ),
            api.EvidenceLine(subject="host-1 power", value="unknown", witness="fence device"),
        ],
        permitted=["reading the power of host-1"],
        refused=["promotion: no proof yet: the power of host-1 reads unknown"],
        next_step="poolwarden confirm-fenced host-1",
    )  # fmt: skip
    out = poolwarden("explain", "demo").out
    assert "  host-1 xapi   no       2.1 s  host-2        timed out" in out
    assert "  host-1 power  unknown  ?      fence device" in out
    assert "permitted:\n  - reading the power of host-1\n" in out
    assert "not permitted, and why:\n  - promotion: no proof yet" in out
    assert out.endswith("next step: poolwarden confirm-fenced host-1\n")
    assert poolwarden("explain", "demo", "--json").json["evidence"][0]["age_ms"] == 2100


def entries() -> list[api.HistoryEntry]:
    """Three journal entries over midnight, one by an operator."""
    common = {"pool_uuid": POOL, "pool_name": "demo", "failover": "fo-1", "actor": "poolwarden"}
    texts = ["host-1 is silent; " + "evidence " * 12, "power of host-1 reads off", "both cords pulled"]
    ats = ["2026-01-31T23:59:59.250Z", "2026-02-01T00:00:03.000+01:00", "2026-02-01T00:00:04.125Z"]
    made = [
        api.HistoryEntry(seq=number, at=at, kind=kind, text=text, data='{"reading": "off"}', **common)
        for number, (at, kind, text) in enumerate(
            zip(ats, ("decided", "power-reading", "confirmed"), texts, strict=True), 1
        )
    ]
    made[2].actor = "anna"
    return made


def test_history(fake: FakeCollector, poolwarden: Call) -> None:
    fake.entries = entries()
    out = poolwarden("history", "demo", "--failover", "fo-1", "--limit", "7").out
    assert fake.asked[-1] == api.HistoryRequest(pool="demo", failover="fo-1", limit=7)
    lines = out.splitlines()
    assert lines[0] == "2026-01-31"
    assert lines[1].startswith("23:59:59.250  decided           host-1 is silent; evidence")
    assert lines[2].startswith(" " * 32 + "evidence")
    assert "2026-02-01" in lines
    assert "00:00:03.000  power-reading     power of host-1 reads off" in lines
    assert lines[-1] == "00:00:04.125  confirmed         anna: both cords pulled"


def test_history_as_json_holds_the_facts_as_objects(fake: FakeCollector, poolwarden: Call) -> None:
    fake.entries = entries()
    fake.entries[1].data = "not json"
    said = poolwarden("history", "--json").json["entries"]
    assert said[0]["data"] == {"reading": "off"}
    assert said[1]["data"] == "not json"
    assert [entry["seq"] for entry in said] == [1, 2, 3]


def test_history_folds_bookkeeping_and_says_how_much(fake: FakeCollector, poolwarden: Call) -> None:
    fake.entries = entries()
    for number, kind in enumerate(("standing", "alert-delivered", "standing")):
        at = "2026-02-01T00:00:05.000Z"
        fake.entries.append(api.HistoryEntry(seq=10 + number, at=at, kind=kind, text=f"noted {number}"))
    out = poolwarden("history").out
    assert out.endswith("anna: both cords pulled\n3 lines of bookkeeping not shown; --all shows everything\n")
    assert "noted" not in out
    whole = poolwarden("history", "--all").out
    assert "noted 0" in whole and "noted 2" in whole and "bookkeeping" not in whole
    assert [entry["seq"] for entry in poolwarden("history", "--json").json["entries"]] == [1, 2, 3, 10, 11, 12]
    fake.entries = fake.entries[3:4]
    assert poolwarden("history").out == "1 line of bookkeeping not shown; --all shows everything\n"


def test_what_another_collector_has_recorded_before_is_told_so(fake: FakeCollector, poolwarden: Call) -> None:
    entry = api.HistoryEntry(
        seq=1, at="2026-01-31T12:03:04.512Z", kind="verdict", text="Healthy: as it was", copied=True
    )
    fake.entries = [entry]
    said = " ".join(poolwarden("history", "demo").out.split())
    assert said.endswith("Healthy: as it was (recorded before that, by the collector that owned the pool)")


def test_the_kinds_that_are_bookkeeping_are_kinds_of_the_journal() -> None:
    assert {kind.value for kind in Kind} >= BOOKKEEPING


def test_history_that_is_empty(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("history").out == "the journal has no such entries\n"


def test_follow_prints_each_entry(fake: FakeCollector, poolwarden: Call) -> None:
    fake.entries = entries()
    lines = poolwarden("history", "--follow", "--json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
    assert "demo: power of host-1 reads off" in poolwarden("history", "--follow").out


def test_alerts(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("alerts").out == "no open alerts\n"
    fake.alerts = [
        api.Alert(
            key="fo-1/closed", pool_name="demo", severity="critical", title="demo: host-2 is the new master",
            body="address 10.0.0.2\nproof: power", raised_at="2026-02-01T00:00:04.125Z",
            deliveries=[
                api.Delivery(sink="webhook", state="pending", attempts=2, last_error="HTTP 503"),
                api.Delivery(sink="log", state="sent", attempts=1, sent_at="2026-02-01T00:00:05.000Z"),
            ],
        ),
        api.Alert(key="k2", title="old", raised_at="2026-01-01T00:00:00Z", resolved_at="2026-01-02T00:00:00Z"),
    ]  # fmt: skip
    assert poolwarden("alerts", "demo").out.splitlines() == [
        "critical  demo: host-2 is the new master",
        "  demo; raised 2026-02-01 00:00:04.125; open",
        "  address 10.0.0.2",
        "  proof: power",
        "  webhook: pending, 2 attempts: HTTP 503",
        "  log: sent 2026-02-01 00:00:05.000, 1 attempt",
        "  key: fo-1/closed",
    ]
    assert len(poolwarden("alerts", "--all", "--json").json["alerts"]) == 2


def test_a_silenced_alert_says_until_when_and_by_whom(fake: FakeCollector, poolwarden: Call) -> None:
    silence = api.AlertSilence(by="anna", until="2026-02-01T02:00:00.125Z", left_ms=7_000, reason="disk ordered")
    taken = api.AlertTaken(by="ben", at="2026-02-01T00:01:00.125Z")
    states = {"log": "held", "ops": "withheld", "a": "folded", "b": "merged"}
    states |= {"c (resolved)": "unwanted", "d": "dropped"}
    held = [api.Delivery(sink=sink, state=state) for sink, state in states.items()]
    alert = api.Alert(key="k", severity="warning", title="demo: / is full", silence=silence, taken=taken)
    alert.deliveries.extend(held)
    fake.alerts = [alert]
    marks = [
        "silenced: until about 2026-02-01 02:00 UTC by anna: disk ordered",
        "acknowledged: by ben at 2026-02-01 00:01 UTC",
    ]
    said = poolwarden("alerts").out.splitlines()
    assert said[2:] == [
        *(f"  {mark}" for mark in marks),
        "  log: not told, it is silenced",
        "  ops: not told: it was over before its silence was",
        "  a: told in one message with others that began at that time",
        "  b: not told: it was over before the channel took anything; told as that",
        "  c (resolved): not told: this channel is told no ends",
        "  d: not told: it was over, or somebody saw to it, before the channel took it",
        "  key: k",
    ]
    fake.status.pools[0].alerts.add(key="k", severity="warning", title="/ is full", silence=silence, taken=taken)
    fake.status.pools[0].alerts.add(key="k2", severity="warning", title="another")
    shown = poolwarden("status", "demo").out
    at = shown.index("  open alerts: 2 warnings")
    assert shown[at:].splitlines()[1:4] == ["    warning: / is full", *(f"      {mark}" for mark in marks)]
    assert "warning: another" not in shown
    assert "warning: another" in poolwarden("status", "demo", "--all").out
    checked = poolwarden("status", "--check")
    assert checked.status == 1 and "/ is full" in checked.err, "silenced is not mended"


def test_a_name_cannot_command_the_terminal(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.pools[0].hosts[0].name = "host\x1b[2J\r1"
    fake.status.pools[0].sentence = "a\x9bb"
    out = poolwarden("status").out
    assert "host?[2J?1" in out
    assert not set(out) & {"\x1b", "\r", "\x9b"}


def test_a_pools_name_is_the_collectors_to_resolve(fake: FakeCollector, poolwarden: Call) -> None:
    """It may know a pool by an alias that no reply shows."""
    assert poolwarden("host", "show", f"{POOL}/host-2").status == 0
    assert fake.asked[-1] == api.StatusRequest(pool=POOL)
    said = poolwarden("host", "show", "elsewhere/host-2")
    assert (said.status, said.err.splitlines()[0]) == (2, "poolwarden: no pool is called 'elsewhere'; known: demo")


def test_verdicts_are_coloured_by_names_that_exist() -> None:
    """The command line does not import the core; the words must agree all the same."""
    assert {pools.HEALTHY, *pools.UNEASY} <= {verdict.word for verdict in Verdict}


def test_the_only_pool_needs_no_name(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("master").out == "10.0.0.1\n"
    assert poolwarden("explain").status == 0
    assert [request.pool for request in fake.asked if isinstance(request, api.ExplainRequest)] == ["demo"]
    fake.status.pools.add(name="other", pool_uuid="other")
    for command in ("master", "explain"):
        said = poolwarden(command)
        assert (said.status, said.out) == (2, "")
        assert said.err == f"poolwarden: which pool? There are 2: demo, other\n  poolwarden {command} POOL\n"


def test_status_tells_until_when_a_pool_is_paused(fake: FakeCollector, poolwarden: Call) -> None:
    pool = fake.status.pools[0]
    pool.paused, pool.pause_reason = True, "new switch"
    assert "  paused: new switch\n" in poolwarden("status").out
    pool.pause_left_ms, pool.pause_until = 2 * 3_600_000, "2026-01-31T20:05:00.000Z"
    assert "  paused: new switch; until 2026-01-31 20:05 UTC, 2 h more\n" in poolwarden("status").out
