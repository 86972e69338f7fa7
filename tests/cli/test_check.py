"""`poolwarden check`: what monitoring reads. One line, four statuses, and nothing that is old is told as a value."""

import re
import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli.plugin import Range

from .conftest import Said
from .fake_collector import POOL, FakeCollector, a_host, socket_of

Call = Callable[..., Said]
# monitoring-plugins.org/doc/guidelines.html: 'label'=value[UOM];[warn];[crit];[min];[max]
DATUM = r"'[^'=]+'=(?:-?\d+(?:\.\d+)?(?:s|%|B|c)?|U)(?:;[^; ]*){0,4}"
LINE = re.compile(rf"POOLWARDEN (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+(?: \| {DATUM}(?: {DATUM})*)?\n")
STATUS = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


@pytest.fixture
def check(poolwarden: Call) -> Call:
    """The call; that its output keeps to the guidelines is seen each time."""

    def call(*words: str) -> Said:
        said = poolwarden("check", *words)
        found = LINE.fullmatch(said.out)
        assert found is not None, said.out
        assert (said.status, said.err) == (STATUS[found[1]], "")
        return said

    return call


def values(said: Said) -> dict[str, str]:
    return {label: value.split(";")[0] for label, value in re.findall(r"'([^']+)'=(\S+)", said.out.partition("|")[2])}


def text(said: Said) -> str:
    return said.out.partition(" - ")[2].partition(" | ")[0].strip()


# ------------------------------------------------------------------------------------------------ a pool


def test_a_healthy_pool(fake: FakeCollector, check: Call) -> None:
    fake.readiness.pools.add(pool_uuid=POOL, name="demo", ready=True)
    said = check("pool", "demo")
    assert text(said) == "demo: healthy: host-1 is master, 3 of 3 hosts are heard" and said.status == 0
    assert "'hosts_silent'=0;0;;0;3" in said.out and "'verdict_age'=65s" in said.out
    assert values(said)["running_vms"] == "9"
    assert check("pool").out == said.out  # the only one needs no name


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"situation": api.Situation(headline="MASTER LOST", level="critical")}, 2, "demo: MASTER LOST"),
        ({"master_uuid": ""}, 2, "demo: no verified master: healthy: host-1 is master"),
        ({"situation": api.Situation(headline="slow", level="warning")}, 1, "demo: slow"),
        ({"verdict": "HaManaged", "situation": api.Situation(headline="xapi's own HA is on", level="info")}, 1,
         "demo: xapi's own HA is on"),
        ({"paused": True, "pause_reason": "new | switch"}, 1, "demo: paused: new / switch"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pool(
    fake: FakeCollector, check: Call, change: dict[str, Any], status: int, said: str
) -> None:
    pool = fake.status.pools[0]
    for name, value in change.items():
        if name == "situation":
            pool.situation.CopyFrom(value)
        else:
            setattr(pool, name, value)
    found = check("pool", "demo")
    assert (found.status, text(found)) == (status, said)


def test_alerts_and_several_findings(fake: FakeCollector, check: Call) -> None:
    pool = fake.status.pools[0]
    pool.alerts.add(key="a", severity="warning", title="demo: /var/log fills up")
    pool.alerts.add(key="b", severity="critical", title="demo: 2 VMs down")
    pool.alerts.add(key="c", severity="info", title="demo: old master is back")
    found = check("pool", "demo")
    assert text(found) == "demo: alert: 2 VMs down, demo: alert: /var/log fills up" and found.status == 2
    assert (values(found)["alerts_critical"], values(found)["alerts_warning"]) == ("1", "1")


def test_readiness_counts_as_the_caller_says(fake: FakeCollector, check: Call) -> None:
    one = fake.readiness.pools.add(pool_uuid=POOL, name="demo", ready=False)
    one.reasons.add(code="no-device", severity="critical", sentence="master host-1 has no fence device")
    one.reasons.add(code="drill", severity="warning", sentence="never drilled")
    for counts_as in ("ok", "warning", "critical"):
        found = check("pool", "demo", "--readiness", counts_as)
        assert found.status == STATUS[counts_as.upper()] and values(found)["not_ready"] == "1"
    assert text(check("pool", "demo")) == "demo: not ready: master host-1 has no fence device"


def test_hosts_that_are_not_heard(fake: FakeCollector, check: Call) -> None:
    fake.status.pools[0].hosts[2].heard = False
    found = check("pool", "demo")
    assert (found.status, text(found)) == (1, "demo: not heard: host-3")
    assert values(found)["running_vms"] == "U" and values(found)["hosts_heard"] == "2"
    assert check("pool", "demo", "--warning", "1").status == 0
    assert check("pool", "demo", "-w", "1", "-c", "0").status == 2


def test_what_is_old_is_unknown(fake: FakeCollector, check: Call) -> None:
    fake.status.stalled, fake.status.shown_age_ms = "the journal's disk is full", 130_000
    fake.status.pools[0].alerts.add(key="b", severity="critical", title="demo: 2 VMs down")
    for words in (("pool", "demo"), ("host", "host-1")):
        found = check(*words)
        assert (found.status, text(found)) == (3, "what is known is 2 min old: the journal's disk is full")
        assert set(values(found).values()) <= {"U"}


def test_a_collector_that_has_just_begun_knows_nothing_yet(fake: FakeCollector, check: Call) -> None:
    fake.status.quiet_ms, fake.status.up_ms = 20_000, 3_000
    assert check("pool", "demo").status == 0
    fake.status.pools[0].verdict = "Learning"
    found = check("pool", "demo")
    assert (found.status, text(found)) == (3, "demo: the collector was started 3.0 s ago and is still listening")


# ------------------------------------------------------------------------------------------------ a host


def test_a_healthy_host(fake: FakeCollector, check: Call) -> None:
    found = check("host", "host-2")
    assert (found.status, text(found)) == (0, "host-2: member, xapi answers, 3 VMs")
    assert "'used /'=50%;;;0;100" in found.out and values(found)["memory_available"] == f"{5 << 30}B"
    assert check("host", "demo/host-2").out == found.out


def replace_host(fake: FakeCollector, **changes: Any) -> None:
    fake.status.pools[0].hosts[1].CopyFrom(a_host(2, **changes))


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"xapi_health": "slow", "xapi_text": "xapi took 9 s to answer"}, 1, "xapi took 9 s to answer"),
        ({"xapi_health": "orphaned", "xapi_text": "its master does not answer"}, 2, "its master does not answer"),
        ({"xapi": "hung"}, 2, "xapi: hung"),
        ({"xapi": "unknown"}, 3, "xapi: unknown"),
        ({"enabled": "no"}, 1, "it is disabled in its pool"),
        ({"facts": [api.FactStatus(name="clock", text="40 s off", level="warning")]}, 1, "clock: 40 s off"),
        ({"facts": [api.FactStatus(name="clock", text="right")]}, 0, ""),
        ({"fence_devices": [api.FenceDeviceStatus(name="bmc", state="bound", trouble="x", text="bmc is not reached")]},
         1, "fence device bmc is not reached"),
        ({"fence_devices": [api.FenceDeviceStatus(name="bmc", state="unbound")]}, 1, "fence device bmc is unbound"),
        ({"disks": [api.DiskStatus(mount="/", used_percent=91, level="warning", full_in_ms=7_200_000)]}, 1,
         "/ is 91 % full, full in 2 h"),
        ({"disks": [api.DiskStatus(mount="/", used_percent=1, inodes_used_percent=100, level="full")]}, 2,
         "/ is 100 % full"),
        ({"disks": [api.DiskStatus(mount="/", used_percent=1, level="ok", read_only=True)]}, 2, "/ is read-only"),
        ({"disks": [api.DiskStatus(mount="/cdrom", used_percent=100, read_only=True)]}, 0, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_host(
    fake: FakeCollector, check: Call, changes: dict[str, Any], status: int, said: str
) -> None:
    replace_host(fake, **changes)
    found = check("host", "host-2")
    assert found.status == status and text(found) == (
        f"host-2: {said}" if said else "host-2: member, xapi answers, 3 VMs"
    )


def test_thresholds_take_the_place_of_levels(fake: FakeCollector, check: Call) -> None:
    replace_host(fake, disks=[api.DiskStatus(mount="/", used_percent=85, level="warning")])
    assert check("host", "host-2").status == 1
    assert check("host", "host-2", "-w", "90", "-c", "95").status == 0
    found = check("host", "host-2", "--warning", "70", "--critical", "80")
    assert found.status == 2 and "'used /'=85%;70;80;0;100" in found.out


def test_a_silent_host_is_unknown_and_its_values_are_too(fake: FakeCollector, check: Call) -> None:
    replace_host(fake, heard=False, agent_connected=False, agent_age_ms=43_000)
    found = check("host", "host-2")
    assert (found.status, text(found)) == (
        3, "host-2: its agent is silent for 43 s; nothing is known of it now",
    )  # fmt: skip
    assert set(values(found).values()) == {"U"}
    replace_host(fake, heard=False, ever_heard=False)
    assert "was not heard since the collector's start" in text(check("host", "host-2"))


def test_a_host_that_was_read_off_is_critical(fake: FakeCollector, check: Call) -> None:
    off = api.FenceDeviceStatus(name="bmc-2", power="off", age_ms=6_000, state="bound")
    replace_host(fake, heard=False, fence_devices=[off])
    found = check("host", "host-2")
    assert (found.status, text(found)) == (2, "host-2: is off, as bmc-2 read 6.0 s ago")
    replace_host(fake, heard=False, fence_devices=[off, api.FenceDeviceStatus(name="psu-b", power="on", age_ms=1)])
    assert check("host", "host-2").status == 3
    off.age_ms = 7_200_000
    replace_host(fake, heard=False, fence_devices=[off])
    assert check("host", "host-2").status == 3  # that was two hours ago


# ------------------------------------------------------------------------------------------------ the collector


def test_a_collector_that_is_well(fake: FakeCollector, check: Call) -> None:
    found = check("collector")
    assert (found.status, text(found)) == (0, "watch-1 0.1.0 runs and decides, pools: 1")
    assert "'lag'=0s;2;10;0" in found.out and values(found)["uptime"] == "3700s"
    assert [type(each).__name__ for each in fake.asked] == ["StatusRequest"]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"stalled": "the disk is full"}, 2, "nothing is decided or done: the disk is full"),
        ({"blind": "no anchor answers"}, 2, "it considers itself blind: no anchor answers"),
        ({"stood_down": [POOL]}, 2, "another collector is in charge of demo"),
        ({"behind_ms": 3_000}, 1, "it is 3.0 s behind what it hears"),
        ({"behind_ms": 30_000}, 2, "it is 30.0 s behind what it hears"),
        ({"warnings": ["it runs as a VM of demo"]}, 1, "it runs as a VM of demo"),
        ({"quiet_ms": 9_000}, 0, "watch-1 0.1.0 runs and decides, pools: 1, quiet for another 9.0 s"),
    ],
)
def test_what_is_wrong_with_a_collector(
    fake: FakeCollector, check: Call, changes: dict[str, Any], status: int, said: str
) -> None:
    fake.status.MergeFrom(api.StatusReply(**changes))
    found = check("collector")
    assert (found.status, text(found)) == (status, said)


def test_a_channel_that_takes_nothing(fake: FakeCollector, check: Call) -> None:
    fake.status.outbox_pending = 2
    alert = api.Alert(key="k", title="t")
    alert.deliveries.add(sink="log", state="sent", attempts=30)
    waiting = alert.deliveries.add(sink="webhook:chat", state="pending", attempts=2, last_error="no answer")
    alert.deliveries.add(sink="webhook:chat (resolved)", state="pending", attempts=0)
    fake.alerts = [alert]
    assert check("collector").status == 0
    waiting.attempts = 5
    found = check("collector")
    assert (found.status, text(found)) == (1, "channel webhook:chat takes no alerts, 5 attempts: no answer")
    waiting.attempts = 12
    assert check("collector").status == 2 and values(found)["pending_deliveries"] == "2"


# ------------------------------------------------------------------------------------------------ what is not known


@pytest.mark.parametrize("words", [("pool", "demo"), ("pool",), ("host", "host-1"), ("collector",)])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.PERMISSION_DENIED]
)
def test_no_answer_is_unknown(fake: FakeCollector, check: Call, words: tuple[str, ...], code: grpc.StatusCode) -> None:
    fake.failure = (code, "a | b\n c")
    assert check(*words).status == 3


@pytest.mark.slow
def test_an_answer_that_does_not_come_in_time_is_unknown(check: Call, tmp_path: Any) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "h.sock"))
        hung.listen()
        address = f"unix:{tmp_path / 'h.sock'}"
        found = check("pool", "demo", "--timeout", "1s", "--collector", address)
    assert found.status == 3 and "did not answer within 1 s" in found.out


@pytest.mark.parametrize(
    "words",
    [
        ("pool", "nowhere"), ("pool", ""), ("host", "nowhere"), ("host",), (), ("pol",), ("pool", "demo", "too much"),
        ("pool", "-w", "ten"), ("pool", "-w", "9:1"), ("pool", "--readiness", "perhaps"), ("pool", "--no-such-option"),
        ("collector", "--timeout", "soon"), ("--no-such-option",),
    ],
)  # fmt: skip
def test_a_wrong_name_or_option_is_unknown(fake: FakeCollector, check: Call, words: tuple[str, ...]) -> None:
    assert check(*words).status == 3


def test_which_pool_is_not_guessed(fake: FakeCollector, check: Call) -> None:
    fake.status.pools.add(name="other", pool_uuid="o")
    assert "which pool? There are 2" in check("pool").out
    del fake.status.pools[:]
    assert "no pool is known yet" in check("pool").out


def test_options_before_the_command_count_as_well(fake: FakeCollector, poolwarden: Call, tmp_path: Any) -> None:
    for words in (("--bogus", "check", "pool"), ("--collector", f"unix:{tmp_path}/none", "check", "collector")):
        said = poolwarden(*words)
        assert (said.status, said.err) == (3, "") and said.out.startswith("POOLWARDEN UNKNOWN - ")
    assert poolwarden("--collector", socket_of(tmp_path), "status").status == 0
    fake.failure = (grpc.StatusCode.NOT_FOUND, "no")
    assert poolwarden("status", "check").status == 2  # a pool of that name is no check


def test_a_fault_of_ours_is_unknown(fake: FakeCollector, check: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("poolwarden_collector.cli.judging.of_pool", broken)
    assert "internal error: ZeroDivisionError: a fault" in check("pool", "demo").out


def test_as_json(fake: FakeCollector, poolwarden: Call) -> None:
    """For Zabbix, which reads no exit status; what cannot be known is JSON as well."""
    fake.status.pools[0].hosts[2].heard = False
    said = poolwarden("check", "pool", "demo", "--json")
    assert said.status == said.json["code"] == 1 and said.json["status"] == "WARNING"
    assert said.json["values"]["hosts_silent"] == 1 and said.json["values"]["running_vms"] is None
    unknown = poolwarden("--json", "check", "pool", "nowhere")
    assert (unknown.status, unknown.json["status"], unknown.json["values"]) == (3, "UNKNOWN", {})


def test_help_is_help(poolwarden: Call) -> None:
    said = poolwarden("check", "--help")
    assert said.status == 0 and "collector" in said.out


@pytest.mark.parametrize(
    ("given", "well", "not_well"),
    [
        ("10", (0, 10), (-1, 10.5)), ("5:", (5, 1e9), (4.9,)), ("~:10", (-1e9, 10), (11,)),
        ("5:10", (5, 7.5, 10), (4, 11)), ("@5:10", (4, 11), (5, 10)),
        ("-5:5", (-5, 0), (-6,)), ("0", (0,), (1,)), ("1.5", (1.5,), (1.6,)),
    ],
)  # fmt: skip
def test_ranges(given: str, well: tuple[float, ...], not_well: tuple[float, ...]) -> None:
    found = Range.of(given)
    assert not any(map(found.alerts, well)) and all(map(found.alerts, not_well))


@pytest.mark.parametrize("given", ["", "@", "ten", "1:2:3", "10:5", "1,5", "%"])
def test_what_is_no_range(given: str) -> None:
    with pytest.raises(ValueError, match="is no range|begins above"):
        Range.of(given)
