"""The commands that ask for an act: what reaches the collector, and how a refusal reads."""

import io
import json
from collections.abc import Callable

import pytest

from poolwarden.v1 import operator_pb2 as api
from poolwarden_collector.cli import act

from .conftest import Said
from .fake_collector import HOSTS, POOL, FakeCollector

Call = Callable[..., Said]


def sent(fake: FakeCollector) -> list[api.CommandRequest]:
    """The commands that reached the collector."""
    return [request for request in fake.asked if isinstance(request, api.CommandRequest)]


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anna, behind sudo."""
    monkeypatch.setenv("SUDO_USER", "anna")


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Standard input is a terminal at which these lines are typed."""
    keyboard = io.StringIO(typed)
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", keyboard)


def test_confirm_fenced_sends_the_operators_own_words(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(
        accepted=True, text="recorded; the failover goes on", next_step="poolwarden history demo"
    )
    said = poolwarden("confirm-fenced", "demo/host-1", "--name", "host-1", "--how", " both cords pulled ")
    assert said == (0, "recorded; the failover goes on\nnext step: poolwarden history demo\n", "")
    (request,) = sent(fake)
    assert request.actor == "anna"
    assert request.confirm_fenced == api.ConfirmFenced(host=HOSTS[0], typed_name="host-1", how="both cords pulled")


def test_confirm_fenced_asks_at_a_terminal(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch, "host-1\nPDU outlet 4 and 5 off\n")
    said = poolwarden("confirm-fenced", "host-1", "--despite-power-on")
    assert said.status == 0
    assert "If this one in fact lives, both write to the same disks" in " ".join(said.err.split())
    assert "3 VMs ran there" in " ".join(said.err.split())
    (request,) = sent(fake)
    assert (request.confirm_fenced.how, request.confirm_fenced.despite_power_on) == ("PDU outlet 4 and 5 off", True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--name", "host-2", "--how", "off"), "'host-2' is not the host's name; nothing was confirmed"),
        (("--name", "host-1", "--how", "  "), "how it was made safe must be said; nothing was confirmed"),
        (("--name", "host-1"), "confirm-fenced has to ask, and nobody is at a terminal"),
        ((), "confirm-fenced has to ask, and nobody is at a terminal"),
    ],
)
def test_confirm_fenced_does_not_guess(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = poolwarden("confirm-fenced", "host-1", *arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"poolwarden: {complaint}")
    assert sent(fake) == []


def test_giving_up_at_the_question_confirms_nothing(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch, "host-1\n")
    assert poolwarden("confirm-fenced", "host-1").status == 130
    assert sent(fake) == []


def test_a_refusal_is_an_answer_with_its_reason(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(
        text="host-1 is not confirmed: its agent was heard 0.4 s ago.",
        code="agent-alive",
        next_step="poolwarden explain demo",
    )
    arguments = ("confirm-fenced", "host-1", "--name", "host-1", "--how", "off")
    said = poolwarden(*arguments)
    assert said == (
        1,
        "",
        "poolwarden: host-1 is not confirmed: its agent was heard 0.4 s ago\n  poolwarden explain demo\n",
    )
    said = poolwarden(*arguments, "--json")
    assert (said.status, said.json["code"]) == (1, "agent-alive")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("pause", "demo", "--reason", "moving"), api.CommandRequest(pause=api.Pause(pool="demo", reason="moving"))),
        (("pause", "demo", "--for", "2h"), api.CommandRequest(pause=api.Pause(pool="demo", for_ms=7_200_000))),
        (("resume", "demo"), api.CommandRequest(resume=api.Resume(pool="demo"))),
        (("restart-xapi", "host-3"), api.CommandRequest(restart_xapi=api.RestartXapiCommand(host=HOSTS[2]))),
        (("failover", "demo", "--dry-run", "--json"), api.CommandRequest(dry_run=api.DryRun(pool="demo"))),
        (
            ("failover", "demo", "--to", "host-2"),
            api.CommandRequest(failover_to=api.FailoverTo(pool="demo", host="host-2")),
        ),
        (("designate", "host-2"), api.CommandRequest(designate=api.Designate(host=HOSTS[1]))),
        (
            ("designate", "host-2", "--dry-run"),
            api.CommandRequest(designate=api.Designate(host=HOSTS[1], dry_run=True)),
        ),
        (
            ("failover", "demo", "--to", "host-2", "--dry-run"),
            api.CommandRequest(designate=api.Designate(host=HOSTS[1], dry_run=True)),
        ),
        (
            ("declare-dead", "host-1", "--name", "host-1"),
            api.CommandRequest(declare_dead=api.DeclareDead(host=HOSTS[0], typed_name="host-1")),
        ),
        (("release", "host-1"), api.CommandRequest(release=api.Release(host=HOSTS[0]))),
        (
            ("release", "host-1", "--as-master", "--name", "host-1"),
            api.CommandRequest(release=api.Release(host=HOSTS[0], as_master=True, typed_name="host-1")),
        ),
        (
            ("release", "host-1", "--gc", "--name", "host-1"),
            api.CommandRequest(release=api.Release(host=HOSTS[0], gc=True, typed_name="host-1")),
        ),
        (("start-lost", "demo"), api.CommandRequest(start_lost=api.StartLost(pool="demo"))),
        (("host", "enable", "host-2"), api.CommandRequest(host_enable=api.HostEnable(host=HOSTS[1]))),
        (
            ("recover-members", "demo", "--host", "host-2", "--host", "host-3"),
            api.CommandRequest(recover_members=api.RecoverMembersCommand(pool="demo", hosts=["host-2", "host-3"])),
        ),
        (
            ("start-lost", "demo", "--dry-run"),
            api.CommandRequest(start_lost=api.StartLost(pool="demo", dry_run=True)),
        ),
        (("start-lost", "demo", "--forget"), api.CommandRequest(start_lost=api.StartLost(pool="demo", forget=True))),
    ],
)
def test_what_is_sent(
    fake: FakeCollector, poolwarden: Call, arguments: tuple[str, ...], expected: api.CommandRequest
) -> None:
    assert poolwarden(*arguments).status == 0
    expected.actor = "anna"
    assert sent(fake) == [expected]


def test_failover_by_itself_is_no_command(fake: FakeCollector, poolwarden: Call) -> None:
    said = poolwarden("failover", "demo")
    assert (said.status, said.out) == (2, "")
    assert "Poolwarden fails over by itself" in said.err
    assert "poolwarden failover demo --dry-run" in said.err
    assert fake.asked == []


def test_the_actor_without_sudo_or_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr("getpass.getuser", nobody)
    assert act.actor().startswith("uid ")


def test_declare_dead_wants_the_name_typed(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = poolwarden("declare-dead", "host-1")
    assert (said.status, said.out) == (2, "") and "nobody is at a terminal" in said.err
    said = poolwarden("declare-dead", "host-1", "--name", "host-2")
    assert said.status == 2 and "'host-2' is not the host's name" in said.err
    at_a_terminal(monkeypatch, "host-1\n")
    assert poolwarden("declare-dead", "host-1").status == 0
    assert len(sent(fake)) == 1


LOST = [
    api.LostVm(vm_uuid="v1", name="web", state="lost", can_start_on=["host-2", "host-3"], host_uuid=HOSTS[0]),
    api.LostVm(vm_uuid="v2", name="db", state="failed", why_not="VM_REQUIRES_SR local-1", host_uuid=HOSTS[0]),
    api.LostVm(vm_uuid="v3", name="mail", state="started", can_start_on=["host-2"], host_uuid=HOSTS[0]),
]


def test_start_lost_lists_each_vm_and_where_it_can_start(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(accepted=True, text="1 of 2 lost VMs could start now", lost_vms=LOST)
    out = poolwarden("start-lost", "demo", "--dry-run").out
    lines = [line.split() for line in out.splitlines()]
    assert ["web", "lost", "host-1", "host-2,", "host-3"] in lines
    assert ["db", "failed", "host-1", "VM_REQUIRES_SR", "local-1"] in lines
    assert poolwarden("start-lost", "demo", "--dry-run", "--json").json["lost_vms"][0]["name"] == "web"


def test_start_lost_either_shows_or_forgets(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("start-lost", "demo", "--dry-run", "--forget").status == 2
    assert sent(fake) == []


def test_status_shows_lost_vms_and_the_command(fake: FakeCollector, poolwarden: Call) -> None:
    fake.status.pools[0].lost_vms.extend(LOST)
    out = poolwarden("status").out
    assert "  lost: db: failed: VM_REQUIRES_SR local-1\n" in out
    assert "  lost: mail: started on host-2\n" in out and "web" not in out
    assert "  lost: web: lost; can start on host-2, host-3\n" in poolwarden("status", "--all").out
    fake.status.pools[0].lost_vms.extend(LOST * 3)
    assert "4 more: poolwarden start-lost demo --dry-run" in poolwarden("status", "--all").out


def test_fence_off_sends_the_name_as_typed_and_force_only_if_given(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(accepted=False, code="needs-force", text="host-1 lives", next_step="--force")
    said = poolwarden("fence", "off", "host-1", "--name", "host-1")
    assert (said.status, said.err) == (1, "poolwarden: host-1 lives\n  --force\n")
    fake.reply = api.CommandReply(accepted=True, text="powering host-1 off by bmc")
    assert poolwarden("fence", "off", "host-1", "--name", "host-1", "--force").out == "powering host-1 off by bmc\n"
    first, second = (request.fence for request in sent(fake))
    assert first == api.FenceCommand(host=HOSTS[0], action="off", typed_name="host-1")
    assert second == api.FenceCommand(host=HOSTS[0], action="off", typed_name="host-1", force=True)


@pytest.mark.parametrize("arguments", [(), ("--name", "host-2"), ("--force",)])
def test_fence_off_does_not_guess(
    fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = poolwarden("fence", "off", "host-1", *arguments)
    assert (said.status, said.out) == (2, "") and sent(fake) == []


def test_fence_off_asks_at_a_terminal(fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_terminal(monkeypatch, "host-1\n")
    said = poolwarden("fence", "off", "host-1")
    assert said.status == 0 and "3 VMs run there" in " ".join(said.err.split())
    assert sent(fake)[0].fence.typed_name == "host-1"


def test_fence_bind_sends_who_how_and_which(fake: FakeCollector, poolwarden: Call) -> None:
    fake.reply = api.CommandReply(
        accepted=True, text="recorded: pdu-a switches host-1; it is bound at its next reading"
    )
    how = "switched outlet 4 off, saw PSU A go dark"
    said = poolwarden("fence", "bind", "host-1", "--device", "pdu-a", "--name", "host-1", "--how", how)
    assert said == (0, "recorded: pdu-a switches host-1; it is bound at its next reading\n", "")
    (request,) = sent(fake)
    wanted = api.FenceCommand(host=HOSTS[0], action="bind", typed_name="host-1", device="pdu-a", how=how)
    assert (request.actor, request.fence) == ("anna", wanted)


def test_fence_bind_asks_at_a_terminal(fake: FakeCollector, poolwarden: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_terminal(monkeypatch, "host-1\nsaw it go dark\n")
    said = poolwarden("fence", "bind", "host-1")
    assert said.status == 0 and "will be taken for host-1" in said.err
    assert (sent(fake)[0].fence.how, sent(fake)[0].fence.typed_name) == ("saw it go dark", "host-1")


def test_fence_bind_does_not_take_another_name(fake: FakeCollector, poolwarden: Call) -> None:
    said = poolwarden("fence", "bind", "host-1", "--name", "host-2", "--how", "x")
    assert said.status != 0 and "'host-2' is not the host's name; nothing was done" in said.err
    assert sent(fake) == []


def test_fence_test_and_on_are_asked_of_the_collector_and_status_is_not(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("fence", "test", "host-1").status == poolwarden("fence", "on", "host-1").status == 0
    assert [request.fence.action for request in sent(fake)] == ["test", "on"]
    said = poolwarden("fence", "status", "host-1")
    assert said.status == 0 and said.out.startswith("host-1: power ") and len(sent(fake)) == 2


def test_fence_status_says_of_each_device_why_it_may_be_relied_on_or_not(fake: FakeCollector, poolwarden: Call) -> None:
    bmc = {"name": "bmc", "level": 1, "power": "on", "read": True, "age_ms": 90_000, "state": "bound"}
    devices = [
        api.FenceDeviceStatus(**bmc, grounds="both say UUID 4c4c4544", says="UUID 4c4c4544"),
        api.FenceDeviceStatus(
            name="pdu-a", level=2, power="on", read=True, age_ms=5_000, state="unbound", trouble="unbound",
            text="pdu-a does not tell which machine it switches", step="poolwarden fence bind host-1",
        ),
    ]  # fmt: skip
    fake.status.pools[0].hosts[0].fence_devices.extend(devices)
    out = poolwarden("fence", "status", "host-1").out
    assert out.startswith("host-1: power on\n") and "bound, both say UUID 4c4c4544" in out
    assert "pdu-a does not tell which machine it switches" in out and "next step: poolwarden fence bind host-1" in out


WITHOUT_A_POOL = [
    (("pause",), api.CommandRequest(pause=api.Pause(pool="demo"))),
    (("resume",), api.CommandRequest(resume=api.Resume(pool="demo"))),
    (("acknowledge",), api.CommandRequest(acknowledge=api.Acknowledge(pool="demo"))),
    (("failover", "--dry-run", "--json"), api.CommandRequest(dry_run=api.DryRun(pool="demo"))),
    (("failover", "--to", "host-2"), api.CommandRequest(failover_to=api.FailoverTo(pool="demo", host="host-2"))),
    (
        ("failover", "--to", "host-2", "--dry-run"),
        api.CommandRequest(designate=api.Designate(host=HOSTS[1], dry_run=True)),
    ),
    (("start-lost", "--dry-run"), api.CommandRequest(start_lost=api.StartLost(pool="demo", dry_run=True))),
]


@pytest.mark.parametrize(("arguments", "expected"), WITHOUT_A_POOL)
def test_the_only_pool_needs_no_name(
    fake: FakeCollector, poolwarden: Call, arguments: tuple[str, ...], expected: api.CommandRequest
) -> None:
    assert poolwarden(*arguments).status == 0
    expected.actor = "anna"
    assert sent(fake) == [expected]


def with_another_pool(fake: FakeCollector) -> None:
    other = fake.status.pools.add()
    other.CopyFrom(fake.status.pools[0])
    other.name, other.pool_uuid = "other", POOL[:-1] + "9"
    for host in other.hosts:
        host.host_uuid = host.host_uuid[:-2] + "9" + host.host_uuid[-1]


@pytest.mark.parametrize(
    "arguments", [each for each, _ in WITHOUT_A_POOL if "failover" not in each or "--dry-run" not in each]
)
def test_of_several_pools_none_is_guessed(fake: FakeCollector, poolwarden: Call, arguments: tuple[str, ...]) -> None:
    with_another_pool(fake)
    said = poolwarden(*arguments)
    assert (said.status, said.out, sent(fake)) == (2, "", [])
    first, second = said.err.splitlines()
    assert first == "poolwarden: which pool? There are 2: demo, other"
    assert second.startswith(f"  poolwarden {arguments[0]} POOL")


def test_pools_of_one_name_are_listed_by_uuid(fake: FakeCollector, poolwarden: Call) -> None:
    with_another_pool(fake)
    fake.status.pools[1].name = "demo"
    assert f"There are 2: {POOL}, {POOL[:-1]}9" in poolwarden("pause").err


def test_many_pools_are_not_all_listed(fake: FakeCollector, poolwarden: Call) -> None:
    for number in range(30):
        fake.status.pools.add(name=f"p{number:02}", pool_uuid=f"uuid-{number}")
    assert "There are 31: demo, p00, " in poolwarden("pause").err and " and 11 more" in poolwarden("pause").err


def test_without_any_pool_there_is_nothing_to_pause(fake: FakeCollector, poolwarden: Call) -> None:
    del fake.status.pools[:]
    said = poolwarden("pause")
    assert (said.status, said.err) == (
        2,
        "poolwarden: no pool is known yet\n  no agent has reported to this collector\n",
    )


def test_an_empty_name_is_no_missing_one(fake: FakeCollector, poolwarden: Call) -> None:
    """A script whose variable is empty has named no pool; the collector refuses the name."""
    poolwarden("pause", "")
    assert sent(fake) == [api.CommandRequest(actor="anna", pause=api.Pause(pool=""))]


@pytest.mark.parametrize(("typed", "said"), [("soon", "'soon' is no duration"), ("0h", "a pause of no time is none")])
def test_a_pause_takes_a_duration(fake: FakeCollector, poolwarden: Call, typed: str, said: str) -> None:
    answer = poolwarden("pause", "demo", "--for", typed)
    assert (answer.status, sent(fake)) == (2, []) and answer.err.startswith(f"poolwarden: {said}\n")


def test_an_alert_is_silenced_acknowledged_and_unsilenced(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("alerts", "silence", "disk", "--for", "2h", "--reason", "ordered").out == "done\n"
    assert poolwarden("alerts", "ack", "disk", "--reason", "on my way", "--json").json["accepted"]
    assert poolwarden("alerts", "unsilence", "disk").out == "done\n"
    said = [command.WhichOneof("command") for command in sent(fake)]
    assert said == ["silence_alert", "acknowledge_alert", "unsilence_alert"]
    silence = sent(fake)[0].silence_alert
    assert (silence.topic, silence.for_ms, silence.reason) == ("disk", 7_200_000, "ordered")
    assert sent(fake)[1].acknowledge_alert.reason == "on my way" and sent(fake)[0].actor == "anna"


def test_a_hook_is_run_again_and_a_single_pool_needs_no_name(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("hook", "run", "50-dns", "demo").out == "done\n"
    assert poolwarden("hook", "run", "50-dns").status == 0
    assert [command.run_hook.pool for command in sent(fake)] == ["demo", "demo"]
    assert {command.run_hook.hook for command in sent(fake)} == {"50-dns"}


def test_a_silence_needs_a_time(fake: FakeCollector, poolwarden: Call) -> None:
    assert poolwarden("alerts", "silence", "disk").status == 2
    assert poolwarden("alerts", "silence", "disk", "--for", "0s").status == 2 and not sent(fake)


def test_a_mistyped_command_of_alerts_is_no_pool(fake: FakeCollector, poolwarden: Call) -> None:
    said = poolwarden("alerts", "silense", "disk", "--for", "2h")
    assert said.status == 2 and "did you mean alerts silence?" in said.err
    assert not sent(fake)


def test_alerts_lists_whatever_is_no_command_of_its_own(fake: FakeCollector, poolwarden: Call) -> None:
    for arguments in ((), ("demo",), ("--all",), ("demo", "--all", "--limit", "5"), ("--plain", "demo")):
        assert poolwarden("alerts", *arguments).status == 0 and not sent(fake)
    said = poolwarden("alerts", "--help").out
    assert "--all" in said and "silence TOPIC --for 2h" in said
    assert "--for DURATION" in poolwarden("alerts", "silence", "--help").out


def test_a_switchover_is_watched_to_its_end(fake: FakeCollector, poolwarden: Call) -> None:
    told = [("designate-intent", "alice hands the role over", "{}"), ("power-reading", "h1 reads ON", "{}")]
    for outcome, status in (("done", 0), ("failed", 1)):
        ended = ("designate-result", f"the switchover is {outcome}", json.dumps({"outcome": outcome}))
        fake.entries = [
            api.HistoryEntry(seq=number, at="2026-01-01T20:00:00.000Z", kind=kind, text=text, data=data)
            for number, (kind, text, data) in enumerate([*told, ended], 1)
        ]
        said = poolwarden("designate", "host-2", "--wait")
        assert said.status == status and "alice hands the role over" in said.out
        assert f"the switchover is {outcome}" in said.out and "reads ON" not in said.out
        if status:
            assert "the role was not handed over" in said.err


def test_a_dry_run_goes_through_the_list(fake: FakeCollector, poolwarden: Call) -> None:
    line = api.AdviceLine(topic="HA", answer="bad", text="xapi's HA is armed on host-3", step="xe pool-ha-disable")
    fake.advice = api.AdviseReply(host_name="host-2", answer="no", sentence="no: xapi's HA is armed")
    fake.advice.lines.append(line)
    out = poolwarden("designate", "host-2", "--dry-run").out
    assert "host-2  NO" in out and "NO  HA: xapi's HA is armed on host-3" in out and "-> xe pool-ha-disable" in out
    assert out == poolwarden("designate", "host-2", "--dry-run", "--yes").out


def test_advice_is_a_plain_answer_with_its_lines(fake: FakeCollector, poolwarden: Call) -> None:
    fake.advice = api.AdviseReply(host_name="host-2", answer="yes", sentence="yes, host-2 may be rebuilt")
    fake.advice.lines.append(api.AdviceLine(topic="licence", answer="not known", text="not reported", step="xe x"))
    fake.advice.lines.append(api.AdviceLine(topic="adapters", answer="first", text="note them"))
    for arguments in (("advise", "rebuild", "host-2"), ("advise", "vms")):
        out = poolwarden(*arguments).out
        assert "YES" in out and "?   licence: not reported" in out and "-> xe x" in out
        assert "!   adapters: note them" in out
