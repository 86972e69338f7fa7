"""What a boot's gate remembers over a restart of the agent, and how often it asks whoever acts as master."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import boot_gate, gate_state, host_now, orders
from poolwarden_agent.core.boot_gate import Told
from poolwarden_agent.dom0.system import boot_findings
from poolwarden_agent.host.boot_gate import (
    COLLECTOR_SILENT_MS,
    LONGEST_PAUSE_MS,
    LOOK_EVERY_MS,
    MEMBERS_FRESH_MS,
    BootGate,
)
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host_port import Act, BootFacts

WAIT, OPEN = pb.GateAnswer.WAIT, pb.GateAnswer.OPEN
PEER = "10.0.0.2"


@pytest.fixture
def booting_host(port, monkeypatch):
    """A master by pool.conf whose one peer is dark; the network is alive."""
    facts = BootFacts(host_now.MASTER, "", False, (PEER,), True, True, True, False)
    noted = []
    told = {PEER: Told(boot_gate.SILENT, "", "", "")}
    monkeypatch.setattr(port, "boot_facts", lambda: facts)
    monkeypatch.setattr(port, "ask_roles", lambda addresses, limit_ms: {a: told[a] for a in addresses})
    monkeypatch.setattr(port, "let_wait", lambda: noted[-1] if noted else "")
    monkeypatch.setattr(port, "note_let_wait", noted.append)
    port.told, port.noted = told, noted
    return port


def answered(boot, port, decision, epoch=3, term=3):
    now = port.mono_ms()
    boot.heard(
        pb.GateAnswer(
            boot_id=port.identity().boot_id,
            decision=decision,
            epoch=epoch,
            term=term,
            reason="h2 is not heard",
            echo_mono_ms=now,
            valid_for_ms=15000,
        )
    )


def alone_for(boot, port, ms):
    """Turns without a collector."""
    for _ in range(ms // LOOK_EVERY_MS):
        port.now += LOOK_EVERY_MS
        if boot.look_due():
            boot.look()
        boot.settle(False)
    return boot.decision


def test_without_any_word_it_opens_after_its_time(booting_host):
    assert alone_for(BootGate(booting_host, Keeper(booting_host)), booting_host, 400000).state == boot_gate.OPEN


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_a_wait_outlives_the_agent_that_heard_it(booting_host, restarts):
    boot = BootGate(booting_host, Keeper(booting_host))
    answered(boot, booting_host, WAIT)
    for _ in range(restarts):
        boot = BootGate(booting_host, Keeper(booting_host))
    found = alone_for(boot, booting_host, COLLECTOR_SILENT_MS + 900000)
    assert found.state == boot_gate.SHUT and "h2 is not heard" in found.reason


def test_another_word_ends_it_for_the_next_agent_too(booting_host):
    boot = BootGate(booting_host, Keeper(booting_host))
    answered(boot, booting_host, WAIT)
    answered(boot, booting_host, WAIT)
    answered(boot, booting_host, OPEN)
    assert booting_host.noted == ["h2 is not heard", ""], "noted when it changes"
    again = BootGate(booting_host, Keeper(booting_host))
    assert alone_for(again, booting_host, 400000).state == boot_gate.OPEN


def test_a_full_run_keeps_it_in_memory(booting_host, monkeypatch):
    def full(why):
        raise OSError("no space left on device")

    monkeypatch.setattr(booting_host, "note_let_wait", full)
    boot = BootGate(booting_host, Keeper(booting_host))
    answered(boot, booting_host, WAIT)
    assert alone_for(boot, booting_host, 900000).state == boot_gate.SHUT


def test_the_note_is_of_one_boot(tmp_path):
    boot_findings.put(str(tmp_path), boot_findings.LET_WAIT, "boot-1 h2 is not heard")
    assert boot_findings.let_wait(str(tmp_path), "boot-1") == "h2 is not heard"
    assert boot_findings.let_wait(str(tmp_path), "boot-2") == "" == boot_findings.let_wait(str(tmp_path), "")
    boot_findings.put(str(tmp_path), boot_findings.LET_WAIT, "boot-1 ")
    assert boot_findings.let_wait(str(tmp_path), "boot-1") == ""


@pytest.mark.parametrize("said, least, most", [(boot_gate.ACTS, 10, 16), (boot_gate.SILENT, 50, 61)])
def test_who_acts_as_master_is_asked_less_and_less(booting_host, said, least, most):
    """Each question costs it a login by PAM; silence and HOST_IS_SLAVE cost nothing."""
    asked = []
    ask = booting_host.ask_roles
    booting_host.ask_roles = lambda addresses, limit_ms: (asked.append(booting_host.mono_ms()), ask(addresses, 0))[1]
    booting_host.told[PEER] = Told(said, "", "", "")
    boot = BootGate(booting_host, Keeper(booting_host))
    assert alone_for(boot, booting_host, 120000).state == boot_gate.SHUT
    looks = len(asked) // 2 if said == boot_gate.SILENT else len(asked)
    assert least <= len(set(asked)) <= most, looks
    assert LONGEST_PAUSE_MS + 6000 < MEMBERS_FRESH_MS, "what it said stays fresh between two questions"
    booting_host.told[PEER] = Told(boot_gate.FOLLOWS, booting_host.management_address(), "", "")
    assert alone_for(boot, booting_host, 14000).state == boot_gate.OPEN


@pytest.mark.parametrize("epoch, term, taken", [(3, 3, True), (4, 4, True), (2, 3, False), (3, 2, False)])
def test_a_word_of_a_lower_epoch_or_term_is_none(booting_host, epoch, term, taken):
    keeper = Keeper(booting_host)
    keeper.change(lambda state: state._replace(epoch=3, term=3))
    boot = BootGate(booting_host, keeper)
    boot.look()
    answered(boot, booting_host, OPEN, epoch, term)
    assert (boot.settle(True).state == boot_gate.OPEN) is taken


def test_no_word_is_taken_while_what_is_durable_cannot_be_read(booting_host):
    keeper = Keeper(booting_host)
    boot = BootGate(booting_host, keeper)
    boot.look()
    keeper.storage = "neither slot is readable"
    answered(boot, booting_host, OPEN)
    keeper.storage = ""
    assert boot.settle(True).state == boot_gate.ASKING


def test_since_when_it_is_shut_is_told_from_its_first_turn_on(booting_host, monkeypatch):
    keeper = Keeper(booting_host)
    boot = BootGate(booting_host, keeper)
    booting_host.saved = b"\x00nothing that was ever written"
    keeper.load()
    assert keeper.storage
    booting_host.now += 5000
    shut_at = booting_host.now
    assert boot.settle(True).state == boot_gate.SHUT and boot.told()[1] == shut_at
    booting_host.now += 5000
    assert boot.settle(True).state == boot_gate.SHUT and boot.told()[1] == shut_at


def test_an_old_word_does_not_take_a_newer_ones_place(booting_host):
    boot = BootGate(booting_host, Keeper(booting_host))
    boot.look()
    answered(boot, booting_host, pb.GateAnswer.SHUT, term=4)
    answered(boot, booting_host, OPEN, term=3)
    assert boot.settle(True).state == boot_gate.SHUT


def test_where_xapi_was_started_meanwhile_no_old_word_makes_it_a_member(booting_host, monkeypatch):
    boot = BootGate(booting_host, Keeper(booting_host))
    answered(boot, booting_host, pb.GateAnswer.SHUT)
    started = booting_host.boot_facts()._replace(started=True)
    monkeypatch.setattr(booting_host, "boot_facts", lambda: started)
    found = boot.settle(True)
    assert found.state == boot_gate.OPEN and found.final


def told_that_another_serves(port, placed):
    """A gate of a master by pool.conf, with a database there, and a collector's word that it is superseded."""
    port.saved = gate_state.encode(gate_state.EMPTY._replace(term=3, placed=placed))
    port.conf, port.restore = (host_now.MASTER, ""), 50
    port.told[PEER] = Told(boot_gate.ACTS, "", "", "")
    boot = BootGate(port, Keeper(port))
    boot.look()
    now = port.mono_ms()
    boot.heard(
        pb.GateAnswer(
            boot_id=port.identity().boot_id,
            decision=pb.GateAnswer.SHUT,
            epoch=3,
            term=4,
            successor_uuid="x",
            successor_address=PEER,
            echo_mono_ms=now,
            valid_for_ms=15000,
        )
    )
    return boot


def test_what_was_placed_is_removed_before_the_host_is_made_a_member(booting_host):
    """It was let start with it and lost its power before; a member would keep it until it is master again."""
    port = booting_host
    boot = told_that_another_serves(port, gate_state.Placed(2, 50, True))
    port.act_result, port.act_works = Act(orders.FAILED, "read-only"), False
    boot.settle(True)
    assert port.conf == (host_now.MASTER, "") and not boot.allows(), "it waits while that cannot be removed"
    port.act_result, port.act_works = Act(orders.DONE, "gone"), True
    boot.settle(True)
    assert port.restore is None and port.conf == (host_now.MEMBER, PEER) and boot.allows()


def test_a_database_that_nobody_placed_is_somebody_elses_and_stays(booting_host):
    port = booting_host
    boot = told_that_another_serves(port, None)
    boot.settle(True)
    assert port.restore == 50 and port.conf == (host_now.MEMBER, PEER)
