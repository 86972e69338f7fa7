"""Orders for the serving master: whom the gate lets act, what xapi is asked, and that nothing waits for a slow one."""

import itertools
import threading

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, host_now, order_kinds, orders
from poolwarden_agent.dom0.xapi import session_calls
from poolwarden_agent.dom0.xapi.errors import XapiFault, XapiTimeout, XapiUnreachable
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host.order_acts import MOST_VMS, SERVE_LIMIT_MS
from poolwarden_agent.host_port import Act
from poolwarden_agent.process.workers import MOST_WAITING, Workers

from .fake_port import FakePort, obey, order
from .test_gate import BODIES, NOW, STATE, an, but, reason
from .tree import HOST, OTHER, until

KINDS = order_kinds.SERVING + ("locate_vms",)
SERVING_NOW = NOW._replace(pool_conf=host_now.MASTER, pool_conf_address="", settled=True)
MESSAGES = {
    "sync_database": pb.SyncDatabase(),
    "designate_master": pb.DesignateMaster(host_uuid=OTHER),
    "declare_host_dead": pb.DeclareHostDead(host_uuid=OTHER),
    "enable_host": pb.EnableHost(host_uuid=OTHER),
    "recover_members": pb.RecoverMembers(),
    "start_vm": pb.StartVm(vm_uuid="vm-7", host_uuid=OTHER),
}


def about(kind, **changes):
    named = {"host": "host-2", "vm": "vm-1"}
    return an(kind, **{name: named[name] for name in BODIES[kind]._fields if name in named})._replace(**changes)


def outcome(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


def serving():
    port = FakePort()
    port.conf = (host_now.MASTER, "")
    return port


# ---------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_host_that_serves_as_master_is_asked(kind):
    assert reason(about(kind), now=SERVING_NOW) == "Obey"
    for change in (
        {"settled": False},
        {"pool_conf": host_now.MEMBER},
        {"pool_conf": host_now.BROKEN},
        {"pool_conf": ""},
    ):
        assert reason(about(kind), now=SERVING_NOW._replace(**change)) == "precondition"
    held = STATE._replace(hold=gate_state.Hold(7, "boot-1", 1, ""))
    assert reason(about(kind), held, SERVING_NOW) == "held"
    stoned = STATE._replace(tombstone=gate_state.Tombstone(7, "host-2", ""))
    assert reason(about(kind), stoned, SERVING_NOW) == "tombstoned"


@pytest.mark.parametrize("kind, armed", list(itertools.product(KINDS, (True, None))))
def test_ha_forbids_what_xapi_would_refuse_or_punish(kind, armed):
    forbidden = kind in ("designate_master", "declare_host_dead", "recover_members", "start_vm")
    expected = "ha-armed" if forbidden else "Obey"
    assert reason(about(kind), now=SERVING_NOW._replace(ha_armed=armed)) == expected


@pytest.mark.parametrize("kind", ["designate_master", "declare_host_dead", "enable_host", "start_vm"])
def test_an_order_about_a_host_names_one(kind):
    assert reason(but(about(kind), host=""), now=SERVING_NOW) == "precondition"
    assert reason(but(about(kind), host="x" * 201), now=SERVING_NOW) == "precondition"
    itself = "precondition" if kind in ("designate_master", "declare_host_dead") else "Obey"
    assert reason(but(about(kind), host=NOW.host), now=SERVING_NOW) == itself


@pytest.mark.parametrize("vm", ["", "x" * 201])
def test_a_start_names_a_vm(vm):
    assert reason(but(about("start_vm"), vm=vm), now=SERVING_NOW) == "precondition"


@pytest.mark.parametrize("change, expected", [({"term": 6}, "stale-term"), ({"echo_mono_ms": 4999}, "expired")])
def test_they_expire_and_grow_stale_like_any_other(change, expected):
    for kind in KINDS:
        assert reason(about(kind)._replace(**change), now=SERVING_NOW) == expected


# ---------------------------------------------------------------------------------------------- the host side


@pytest.mark.parametrize("kind", MESSAGES)
def test_each_acts_once_within_its_own_limit(kind):
    port = serving()
    message = order(port, **{kind: MESSAGES[kind]})
    first, again = obey(HostSide(port), message), obey(HostSide(port), message)
    assert outcome(first) == outcome(again) == ("DONE", "") and again.replayed
    assert port.acts == [kind] and port.limits == [SERVE_LIMIT_MS[kind]]
    assert port.points[:3] == ["before save", "after save", "before " + kind]


def test_a_member_is_asked_nothing():
    port = FakePort()
    for kind, message in MESSAGES.items():
        assert outcome(obey(HostSide(port), order(port, **{kind: message}))) == ("REFUSED", "precondition")
    assert port.acts == []


def test_where_vms_could_start_is_told():
    port = serving()
    answer = obey(HostSide(port), order(port, locate_vms=pb.LocateVms(vm_uuids=["vm-1", "vm-2"])))
    assert [(p.vm_uuid, p.power_state, [h.refusal for h in p.hosts]) for p in answer.vm_places] == [
        ("vm-1", "Halted", ["", "HOST_DISABLED h2"]), ("vm-2", "Halted", ["", "HOST_DISABLED h2"])
    ]  # fmt: skip
    assert answer.vm_places[0].wish == pb.StartWish(wished=True, order=2, delay_s=30)
    many = pb.LocateVms(vm_uuids=["v"] * (MOST_VMS + 1))
    assert outcome(obey(HostSide(port), order(port, "o2", locate_vms=many))) == ("REFUSED", "precondition")


# ---------------------------------------------------------------------------------------------- what xapi is asked


class Asked(object):
    """A serving master's xapi: answers by method, or raises what is given."""

    def __init__(self, **answers):
        self.calls = []
        self.answers = {
            "host.get_by_uuid": lambda uuid: "ref-" + uuid,
            "VM.get_by_uuid": lambda uuid: "ref-" + uuid,
        }
        self.answers.update({name.replace("__", "."): answer for name, answer in answers.items()})

    def __call__(self, method, *params):
        self.calls.append((method,) + params)
        answer = self.answers.get(method, "")
        if isinstance(answer, Exception):
            raise answer
        return answer(*params) if callable(answer) else answer


def in_time():
    """No order is late."""
    return ""


@pytest.mark.parametrize(
    "kind, call",
    [
        ("sync_database", ("pool.sync_database",)),
        ("designate_master", ("pool.designate_new_master", "ref-host-2")),
        ("declare_host_dead", ("host.declare_dead", "ref-host-2")),
        ("enable_host", ("host.enable", "ref-host-2")),
        ("recover_members", ("pool.recover_slaves",)),
        ("start_vm", ("VM.start_on", "ref-vm-1", "ref-host-2", False, False)),
    ],
)
def test_xapi_is_told_and_its_answer_is_judged(kind, call):
    asked = Asked()
    assert session_calls.serve(asked, about(kind), in_time).outcome == orders.DONE and asked.calls[-1] == call
    for error, expected in (
        (XapiFault("HOST_OFFLINE", ["ref-host-3"]), orders.FAILED),
        (XapiTimeout("late"), orders.UNKNOWN),
        (XapiUnreachable("closed"), orders.UNKNOWN),
    ):
        act = session_calls.serve(Asked(**{call[0].replace(".", "__"): error}), about(kind), in_time)
        assert act.outcome == expected and act.text
        if expected == orders.FAILED:
            assert "HOST_OFFLINE" in act.text


@pytest.mark.parametrize(
    "power, resident, expected",
    [
        ("Running", "ref-host-2", orders.DONE),
        ("Running", "ref-host-3", orders.FAILED),
        ("Suspended", "ref-host-2", orders.FAILED),
    ],
)
def test_a_vm_that_runs_there_already_is_started(power, resident, expected):
    refused = XapiFault("VM_BAD_POWER_STATE", ["ref-vm-1", "halted", "running"])
    asked = Asked(VM__start_on=refused, VM__get_power_state=power, VM__get_resident_on=resident)
    assert session_calls.serve(asked, about("start_vm"), in_time).outcome == expected


def record(**values):
    """A VM's record, as VM.get_record gives it; integers are strings there."""
    known = {
        "name_label": "web", "power_state": "Halted", "tags": ["poolwarden:start"], "other_config": {}, "order": "2",
        "start_delay": "30", "current_operations": {}, "blocked_operations": {}, "is_a_template": False,
        "is_a_snapshot": False, "is_control_domain": False,
    }  # fmt: skip
    return dict(known, **values)


@pytest.mark.parametrize(
    "values, wish",
    [
        ({}, (True, "", 2, 30)),
        ({"tags": ["web"]}, (False, "", 2, 30)),
        ({"tags": [], "other_config": {"poolwarden_start": " True"}}, (True, "", 2, 30)),
        ({"other_config": {"poolwarden_start": "false"}}, (False, "other_config:poolwarden_start is 'false'", 2, 30)),
        ({"other_config": {"poolwarden_start": ""}}, (False, "other_config:poolwarden_start is ''", 2, 30)),
        ({"order": "-5", "start_delay": "86400"}, (True, "", 0, 3600)),
        ({"order": "x", "start_delay": None}, (True, "", 0, 0)),
        ({"power_state": "Suspended"}, (True, "it is Suspended", 2, 30)),
        ({"is_a_template": True}, (True, "it is a template", 2, 30)),
        ({"is_a_snapshot": True}, (True, "it is a snapshot", 2, 30)),
        ({"current_operations": {"r": "start_on"}}, (True, "an operation is under way: start_on", 2, 30)),
        ({"blocked_operations": {"start": "no"}}, (True, "its start is blocked", 2, 30)),
    ],
)
def test_an_owners_wish_is_read_off_the_vms_own_record(values, wish):
    (place,) = session_calls.locate(located(VM__get_record=record(**values)), ["v"])
    assert tuple(place.wish) == wish and place.power_state == values.get("power_state", "Halted")
    asked = Asked(VM__get_record=record(**values))
    act = session_calls.serve(asked, but(about("start_vm"), only_if_wished=True), in_time)
    started = [call for call in asked.calls if call[0] == "VM.start_on"]
    if wish[0] and not wish[1]:
        assert act.outcome == orders.DONE and len(started) == 1
    else:
        assert act.outcome == orders.FAILED and started == [] and act.text.startswith("not started: ")


def test_a_start_at_a_word_asks_for_no_wish():
    asked = Asked(VM__get_record=record(tags=[]))
    assert session_calls.serve(asked, about("start_vm"), in_time).outcome == orders.DONE
    assert "VM.get_record" not in [call[0] for call in asked.calls]


@pytest.mark.parametrize("kind", ["designate_master", "declare_host_dead", "enable_host", "start_vm"])
def test_what_is_late_once_xapi_has_told_what_it_is_about_does_not_begin(kind):
    asked = Asked(VM__get_record=record())
    seen = []
    order = but(about(kind), only_if_wished=True) if kind == "start_vm" else about(kind)

    def late():
        seen.append(asked.calls[-1][0])
        return "it is 3 ms too late"

    act = session_calls.serve(asked, order, late)
    assert act == (orders.REFUSED, "not begun: it is 3 ms too late")
    assert seen == [asked.calls[-1][0]] and seen[0].startswith(("host.get", "VM.get")), "it is asked last"


@pytest.mark.parametrize("broken", [{}, {"tags": None}, "", {"other_config": "x"}])
def test_a_vm_whose_record_has_another_shape_is_not_started(broken):
    shape = dict(record(), **broken) if broken else broken
    asked = Asked(VM__get_record=shape)
    act = session_calls.serve(asked, but(about("start_vm"), only_if_wished=True), in_time)
    assert act.outcome == orders.FAILED and "shape" in act.text
    assert "VM.start_on" not in [call[0] for call in asked.calls]


def test_a_vm_whose_wish_cannot_be_read_is_not_started():
    for broken in (XapiTimeout("late"), XapiUnreachable("gone")):
        asked = Asked(VM__get_record=broken)
        assert (
            session_calls.serve(asked, but(about("start_vm"), only_if_wished=True), in_time).outcome == orders.REFUSED
        )
        assert "VM.start_on" not in [call[0] for call in asked.calls]


@pytest.mark.parametrize(
    "target, wished, expected",
    [(OTHER, False, "FAILED"), (OTHER, True, "FAILED"), (HOST, False, "DONE"), (HOST, True, "FAILED")],
)
def test_a_vm_whose_domain_runs_on_the_master_itself_is_not_started_elsewhere(target, wished, expected):
    port = serving()
    port.domain_list = ["vm-7"]
    start = pb.StartVm(vm_uuid="vm-7", host_uuid=target, only_if_wished=wished)
    assert outcome(obey(HostSide(port), order(port, start_vm=start)))[0] == expected
    assert port.acts == (["start_vm"] if expected == "DONE" else [])


@pytest.mark.parametrize("target", [OTHER, HOST])
def test_by_policy_nothing_starts_beside_a_list_of_domains_that_cannot_be_read(target):
    port = serving()
    port.domain_list = None
    for wished, expected in ((True, "FAILED"), (False, "DONE")):
        start = pb.StartVm(vm_uuid="vm-7", host_uuid=target, only_if_wished=wished)
        assert outcome(obey(HostSide(port), order(port, "o-%s" % wished, start_vm=start)))[0] == expected
    assert port.acts == ["start_vm"]


@pytest.mark.parametrize("what", ["in time", "expired", "epoch", "term"])
@pytest.mark.parametrize("kind", ["start_vm", "declare_host_dead"])
def test_an_order_that_ages_while_xapi_is_asked_does_not_begin(kind, what):
    """xapi may take minutes over a question, and the host that read OFF may have been switched on meanwhile."""
    port = serving()
    side = HostSide(port)
    real = port.serve

    def slow(given, limit_ms, late):
        port.now += 5001 if what == "expired" else 4000
        if what in ("epoch", "term"):
            higher = {"epoch": 2} if what == "epoch" else {"term": 2}
            obey(side, order(port, "claim", claim=pb.Claim(), fields=higher))
        why = late()
        return Act(orders.REFUSED, why) if why else real(given, limit_ms, late)

    port.serve = slow
    body = pb.StartVm(vm_uuid="vm-7", host_uuid=OTHER) if kind == "start_vm" else pb.DeclareHostDead(host_uuid=OTHER)
    result = obey(side, order(port, "o1", **{kind: body}))
    words = {"expired": "too late", "epoch": "epoch 1 is lower", "term": "term 1 is lower"}
    if what == "in time":
        assert outcome(result) == ("DONE", "") and port.acts == [kind]
    else:
        assert outcome(result) == ("REFUSED", "not-asked") and words[what] in result.text
        assert kind not in port.acts


def located(**answers):
    hosts = {"r1": {"uuid": "u1", "name_label": "h1"}, "r2": {"uuid": "u2", "name_label": "h2"}}
    known = {"VM__get_record": record(), "VM__get_possible_hosts": ["r1"]}
    known.update(answers)
    return Asked(host__get_all_records=hosts, **known)


@pytest.mark.parametrize(
    "refused, words",
    [
        (XapiFault("HOST_DISABLED", ["r2"]), "HOST_DISABLED h2"),
        (XapiFault("VM_REQUIRES_SR", ["ref-v", "OpaqueRef:sr"]), "VM_REQUIRES_SR local-1"),
        (XapiFault("HOST_NOT_ENOUGH_FREE_MEMORY", ["1024", "512"]), "HOST_NOT_ENOUGH_FREE_MEMORY 1024 512"),
        (XapiFault("VM_HAS_VGPU", ["OpaqueRef:what"]), "VM_HAS_VGPU"),
        ("", "xapi does not count it among the possible hosts"),
    ],
)
def test_a_refusal_is_told_in_words(refused, words):
    asked = located(VM__assert_can_boot_here=refused, SR__get_name_label="local-1")
    (place,) = session_calls.locate(asked, ["v"])
    assert place[:3] == ("v", "web", "Halted") and place.hosts == (("u1", ""), ("u2", words)) and not place.text
    assert [call for call in asked.calls if call[0] == "VM.assert_can_boot_here"] == [
        ("VM.assert_can_boot_here", "ref-v", "r2")
    ]


def test_what_is_not_known_of_a_vm_is_said_and_the_others_go_on():
    def by_uuid(uuid):
        if uuid == "gone":
            raise XapiFault("UUID_INVALID", ["VM", uuid])
        if uuid == "late":
            raise XapiTimeout("late")
        return "ref-" + uuid

    asked = located(VM__get_by_uuid=by_uuid, VM__get_possible_hosts=["r1", "r2"])
    gone, late, good = session_calls.locate(asked, ["gone", "late", "v"])
    assert "UUID_INVALID" in gone.text and "in time" in late.text and not good.text and len(good.hosts) == 2
    for shape in ({}, record(tags=None), record(other_config=[]), "record"):
        (place,) = session_calls.locate(located(VM__get_record=shape), ["v"])
        assert place.wish is None and place.text and not place.hosts
    for broken in (XapiTimeout("late"), XapiUnreachable("gone"), {"r1": {}}, None):
        asked.answers["host.get_all_records"] = broken
        (place,) = session_calls.locate(asked, ["v"])
        assert place.text and not place.hosts


# ---------------------------------------------------------------------------------------------- workers


def test_slow_orders_of_one_kind_go_one_at_a_time_and_kinds_side_by_side():
    release, running, done = threading.Event(), [], []

    def carry_out(work):
        running.append(work)
        release.wait(10)
        done.append(work)

    workers = Workers(carry_out)
    before = threading.active_count()
    for work in ("s1", "s2", "d1"):
        assert workers.give(work[0], work)
    until(lambda: len(running) == 2)
    assert sorted(running) == ["d1", "s1"] and threading.active_count() == before + 2
    release.set()
    until(lambda: len(done) == 3)
    until(lambda: threading.active_count() == before, what="no thread is left")
    assert workers.give("s", "s3") and until(lambda: "s3" in done)


def test_too_many_of_one_kind_are_not_taken():
    release = threading.Event()
    workers = Workers(lambda work: release.wait(10))
    try:
        assert [workers.give("s", n) for n in range(MOST_WAITING + 3)].count(False) in (1, 2)
        assert workers.give("d", 0)
    finally:
        release.set()


def test_every_serving_order_is_slow_and_has_a_limit():
    assert set(SERVE_LIMIT_MS) == set(order_kinds.SERVING)
    assert set(order_kinds.SLOW) == set(order_kinds.SERVING) | {"locate_vms", "show_message"}
