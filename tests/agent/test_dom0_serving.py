"""The real dom0's orders to the serving master, its own ports, and plain probes; servers hang and refuse."""

import os
import socket
import threading
import time

import pytest

from poolwarden_agent.core import order_kinds, orders
from poolwarden_agent.core.probe_rules import ANSWERED, NO_ANSWER, REFUSED

from .conftest import configure
from .fake_xapi import EMERGENCY, LOGIN, FakeXapi, answers, fault
from .test_dom0 import dom0, xapi
from .test_serving import about, in_time, record
from .tree import OTHER, until

assert xapi  # a fixture


def found(xapi, **values):
    """Let references be found by UUID."""
    xapi.asks_session("host.get_by_uuid", "OpaqueRef:h2")
    xapi.asks_session("VM.get_by_uuid", "OpaqueRef:v1")
    for name, value in values.items():
        xapi.asks_session(name.replace("__", "."), value)


def test_a_real_dom0_promises_all_but_what_it_cannot_do(tree):
    able = dom0(tree).capabilities()
    assert set(order_kinds.KNOWN) - set(able) == {"toolstack_fence", "toolstack_release", "fence_proxy"}


@pytest.mark.parametrize(
    "kind, method",
    [
        ("sync_database", "pool.sync_database"),
        ("designate_master", "pool.designate_new_master"),
        ("declare_host_dead", "host.declare_dead"),
        ("enable_host", "host.enable"),
        ("recover_members", "pool.recover_slaves"),
        ("start_vm", "VM.start_on"),
    ],
)
def test_each_order_is_a_call_in_the_one_session(tree, xapi, kind, method):
    port = dom0(tree)
    found(xapi)
    xapi.asks_session(method, "")
    for _ in range(2):
        assert port.serve(about(kind), 2000, in_time).outcome == orders.DONE
    assert xapi.calls[-1][0] == method and xapi.methods().count(LOGIN) == 1
    xapi.sessions = []  # xapi has lost its sessions
    assert port.serve(about(kind), 2000, in_time).outcome == orders.DONE and xapi.methods().count(LOGIN) == 2
    xapi.behaviours[method] = fault("HOST_OFFLINE", "OpaqueRef:h3")
    act = port.serve(about(kind), 2000, in_time)
    assert act.outcome == orders.FAILED and "HOST_OFFLINE" in act.text


def test_a_session_that_is_refused_for_ever_ends(tree, xapi):
    xapi.behaviours["pool.sync_database"] = fault("SESSION_INVALID", "x")
    assert dom0(tree).serve(about("sync_database"), 2000, in_time).outcome == orders.UNKNOWN
    assert xapi.methods().count(LOGIN) == 2


@pytest.mark.slow
def test_looks_and_orders_go_on_beside_a_slow_one_and_it_ends_at_its_limit(tree, xapi):
    port = dom0(tree)
    xapi.behaviours["pool.sync_database"] = xapi.hangs
    xapi.behaviours["pool.emergency_transition_to_master"] = answers("")
    ended = []
    started = time.monotonic()
    slow = threading.Thread(target=lambda: ended.append(port.serve(about("sync_database"), 1500, in_time)))
    slow.start()
    until(lambda: "pool.sync_database" in xapi.methods())
    assert port.emergency(500).flag is False and EMERGENCY in xapi.methods()
    assert port.promote(500).outcome == orders.DONE and not ended
    slow.join(5)
    assert ended[0].outcome == orders.UNKNOWN and 1.4 < time.monotonic() - started < 3


@pytest.mark.slow
def test_where_vms_could_start(tree, xapi):
    hosts = {"OpaqueRef:h1": {"uuid": "u1", "name_label": "h1"}, "OpaqueRef:h2": {"uuid": OTHER, "name_label": "h2"}}
    found(xapi, host__get_all_records=hosts, VM__get_record=record())
    found(xapi, VM__get_possible_hosts=["OpaqueRef:h1"], SR__get_name_label="local-1")
    xapi.behaviours["VM.assert_can_boot_here"] = fault("VM_REQUIRES_SR", "OpaqueRef:v1", "OpaqueRef:sr")
    (place,) = dom0(tree).locate_vms(["v1"], 3000)
    assert place[:5] == ("v1", "web", "Halted", ((OTHER, "VM_REQUIRES_SR local-1"), ("u1", "")), "")
    assert tuple(place.wish) == (True, "", 2, 30)
    xapi.behaviours["VM.get_possible_hosts"] = xapi.hangs
    slow = dom0(tree).locate_vms(["v1", "v2"], 400)
    assert [(p.vm, p.text) for p in slow] == [(vm, "xapi did not answer in time") for vm in ("v1", "v2")]


# ---------------------------------------------------------------------------------------------- ports


@pytest.fixture
def listener():
    """Somebody who accepts and never answers."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(8)
    yield made
    made.close()


def on_port(tree, port):
    configure(tree, 1, free_port=port)
    text = tree.text("etc/poolwarden/agent.conf").replace("127.0.9.1:%d" % port, "127.0.0.1:%d" % port)
    tree.put("etc/poolwarden/agent.conf", text)
    return dom0(tree)


def test_a_closed_http_port_is_refused_and_a_silent_one_is_not(tree, listener):
    port = on_port(tree, listener.getsockname()[1])
    assert port.alive_peer("127.0.0.1", 300, 80).outcome == NO_ANSWER
    listener.close()
    assert port.alive_peer("127.0.0.1", 300, 80).outcome == REFUSED


def test_a_plain_http_probe_is_answered_by_a_xapi(tree):
    server = FakeXapi()
    try:
        port = on_port(tree, server.port)
        assert port.alive_peer("127.0.0.1", 1000, 80).outcome == ANSWERED
        assert port.alive_peer("127.0.0.1", 1000).outcome == REFUSED, "TLS is another door"
    finally:
        server.close()


def test_a_toolstack_is_stopped_when_no_process_runs_and_nobody_listens(tree, listener):
    port = on_port(tree, listener.getsockname()[1])
    tree.xapi_runs(os.getpid())
    seen = port.toolstack()
    assert not seen.stopped and not seen.ports_closed and "xapi runs" in seen.text
    os.unlink(tree.path("var/run/xapi.pid"))
    seen = port.toolstack()
    assert seen.stopped and not seen.ports_closed and "is not closed" in seen.text
    listener.close()
    assert port.toolstack() == (True, True, "")


def test_an_order_that_found_no_xapi_to_ask_never_began(tree, xapi):
    port = dom0(tree)
    xapi.close()
    act = port.promote(500)
    assert act.outcome == orders.REFUSED and "could not be asked" in act.text
    assert port.repoint("10.0.0.2", 500).outcome == orders.REFUSED
    assert port.serve(about("declare_host_dead"), 500, in_time).outcome == orders.REFUSED


def test_an_order_that_was_cut_off_in_the_middle_is_unknown(tree, xapi):
    port = dom0(tree)
    xapi.behaviours["pool.emergency_transition_to_master"] = lambda connection, _params: connection.close()
    assert port.promote(500).outcome == orders.UNKNOWN


def test_an_order_whose_login_is_not_answered_never_began(tree, xapi):
    port = dom0(tree)
    xapi.behaviours["session.slave_local_login_with_password"] = xapi.hangs
    assert port.promote(300).outcome == orders.REFUSED
