"""The host side's orders, through every crash and every failure of the disk."""

import contextlib

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import gate_state, host_now, orders, probe_rules
from poolwarden_agent.dom0.system.slots import SlotError
from poolwarden_agent.dom0.xapi import database
from poolwarden_agent.host.executor import LONGEST_TEXT
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import Act

from .fake_port import ANSWERED, KINDS, SILENT, FakePort, Killed, obey, order, serving_view
from .tree import HOST, OTHER, POOL


def outcome(result):
    return pb.OrderResult.Outcome.Name(result.outcome), result.reason


# ---------------------------------------------------------------------------------------------- crashes


def redelivered(kind, die_at, conf=(host_now.MEMBER, "10.0.0.1")):
    """An order whose host side dies at a step, and comes again to the next one; (ports, results)."""
    port = FakePort()
    port.conf = conf
    port.die_at = die_at
    message = order(port, fields={"term": 3}, **KINDS[kind])
    results = []
    with contextlib.suppress(Killed):
        results.append(obey(HostSide(port), message))
    port.die_at = None
    results.append(obey(HostSide(port), message))
    results.append(obey(HostSide(port), message))
    return port, results


def steps(kind, conf=(host_now.MEMBER, "10.0.0.1")):
    port = FakePort()
    port.conf = conf
    obey(HostSide(port), order(port, **KINDS[kind]))
    return port.points


@pytest.mark.parametrize("kind", ["promote", "restart", "claim"])
def test_killed_at_any_step_a_redelivered_order_acts_once_and_says_the_same(kind):
    reached = steps(kind)
    assert reached[:2] == ["before save", "after save"] and len(reached) >= 4
    for die_at in range(len(reached)):
        port, results = redelivered(kind, die_at)
        assert port.acts == ([kind] if kind != "claim" else []), reached[die_at]
        assert {outcome(r) for r in results} == {("DONE", "")}, (reached[die_at], results)
        assert {(r.order_id, r.epoch, r.term) for r in results} == {("o1", 1, 3)}
        assert results[-1].replayed is (kind != "claim")
        assert gate_state.decode(port.saved).term == 3


def test_a_repoint_killed_at_any_step_ends_in_the_same_role():
    """pool.conf alone does not show it; to ask xapi for the same again is harmless (its fuse is lit once)."""
    reached = steps("repoint")
    for die_at in range(len(reached)):
        port, results = redelivered("repoint", die_at)
        assert port.conf == (host_now.MEMBER, "10.0.0.2") and set(port.acts) == {"repoint"}
        assert {outcome(r) for r in results} == {("DONE", "")}
        assert results[-1].replayed


def test_a_tombstone_killed_at_any_step_is_stored_and_written():
    master = (host_now.MASTER, "")
    reached = steps("tombstone", master)
    assert "after conf" in reached
    for die_at in range(len(reached)):
        port, results = redelivered("tombstone", die_at, master)
        assert gate_state.decode(port.saved).tombstone == gate_state.Tombstone(3, OTHER, "10.0.0.2")
        assert port.conf == (host_now.MEMBER, "10.0.0.2")
        assert {outcome(r) for r in results} == {("DONE", "")}


def test_the_mark_is_durable_before_the_act_and_the_result_before_the_answer(port):
    obey(HostSide(port), order(port, **KINDS["promote"]))
    assert port.points == [
        "before save", "after save", "before promote", "after promote", "before save", "after save"
    ]  # fmt: skip


def test_a_restart_that_took_effect_elsewhere_is_not_repeated(port):
    """We died after the mark; before the order came again xapi was restarted by whomever: once is enough."""
    port.die_at = 2
    message = order(port, **KINDS["restart"])
    with pytest.raises(Killed):
        obey(HostSide(port), message)
    port.die_at = None
    port.new_process()
    assert outcome(obey(HostSide(port), message)) == ("DONE", "")
    assert port.acts == []


# ---------------------------------------------------------------------------------------------- storage


def test_no_room_for_the_mark_means_no_act(port, side):
    port.no_room = True
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "storage")
    assert port.acts == [] and side.executor.state == gate_state.EMPTY
    port.no_room = False
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("DONE", ""), "the id was not used up"


def test_an_act_whose_result_cannot_be_stored_is_neither_refused_nor_done(port, side, monkeypatch):
    saves = []

    def second_fails(payload):
        saves.append(payload)
        if len(saves) > 1:
            raise SlotError("disk gone")
        port.saved = payload

    monkeypatch.setattr(port, "save_state", second_fails)
    result = obey(side, order(port, **KINDS["restart"]))
    assert outcome(result) == ("UNKNOWN", "storage") and "disk gone" in result.text
    monkeypatch.undo()
    assert outcome(obey(side, order(port, **KINDS["restart"]))) == ("DONE", "")
    assert port.acts == ["restart"]


def test_a_tombstone_that_cannot_be_stored_does_not_touch_pool_conf(port, side, monkeypatch):
    port.conf = (host_now.MASTER, "")
    real, saves = port.save_state, []

    def second_fails(payload):
        saves.append(payload)
        if len(saves) == 2:
            raise SlotError("disk gone")
        real(payload)

    monkeypatch.setattr(port, "save_state", second_fails)
    assert outcome(obey(side, order(port, **KINDS["tombstone"]))) == ("REFUSED", "storage")
    assert port.conf == (host_now.MASTER, "")


@pytest.mark.parametrize("spoilt", [b"rubbish", b"{}"])
def test_unreadable_state_refuses_every_order_until_it_is_readable(port, spoilt):
    port.saved = spoilt
    side = HostSide(port)
    for kind in KINDS.values():
        assert outcome(obey(side, order(port, **kind))) == ("REFUSED", "storage")
    assert port.acts == [] and port.saved == spoilt
    assert side.conversation.link_up()[0].hello.pool_uuid == POOL, "reports go on"
    port.saved = gate_state.encode(gate_state.EMPTY._replace(term=9, epoch=1))
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "stale-term")


def test_slots_that_cannot_be_read_are_said(port, monkeypatch):
    def fails():
        raise SlotError("neither slot")

    monkeypatch.setattr(port, "load_state", fails)
    side = HostSide(port)
    assert side.executor.storage == "neither slot"
    result = obey(side, order(port, **KINDS["promote"]))
    assert outcome(result) == ("REFUSED", "storage") and "neither slot" in result.text
    side.executor.remember()
    assert port.saved == b""


# ---------------------------------------------------------------------------------------------- acts


@pytest.mark.parametrize(
    "works, said, expected",
    [
        (True, orders.DONE, ("DONE", "")),
        (False, orders.DONE, ("FAILED", "xapi-error")),
        (True, orders.UNKNOWN, ("UNKNOWN", "timeout")),
        (True, orders.FAILED, ("UNKNOWN", "timeout")),
        (False, orders.UNKNOWN, ("UNKNOWN", "timeout")),
        (False, orders.FAILED, ("FAILED", "xapi-error")),
    ],
)
@pytest.mark.parametrize("kind", ["promote", "repoint"])
def test_a_role_is_taken_only_if_xapi_and_pool_conf_say_so(port, side, works, said, expected, kind):
    port.act_works, port.act_result = works, Act(said, "words")
    result = obey(side, order(port, **KINDS[kind]))
    assert outcome(result) == expected and "words" in result.text
    assert outcome(obey(side, order(port, **KINDS[kind]))) == expected and port.acts == [kind], "and it is replayed"


def test_a_role_that_the_running_xapi_has_is_not_taken_again(port, side):
    assert outcome(obey(side, order(port, repoint=pb.Repoint(master_address="10.0.0.1")))) == ("DONE", "")
    port.conf = (host_now.MASTER, "")
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("DONE", "")
    assert port.acts == []
    port.settled = False
    obey(side, order(port, "o2", **KINDS["promote"]))
    port.settled, port.xapi = True, host_now.NO_PROCESS
    obey(side, order(port, "o3", **KINDS["promote"]))
    assert port.acts == ["promote", "promote"], "pool.conf says it, but no running xapi has it"


def test_what_changed_while_the_mark_was_written_is_seen_before_the_act(port, side, monkeypatch):
    """A stalled disk: HA was armed, or the order expired, between the first look and the act."""
    real = port.save_state

    def slow(payload):
        real(payload)
        port.now += 6000

    monkeypatch.setattr(port, "save_state", slow)
    assert outcome(obey(side, order(port, **KINDS["promote"]))) == ("REFUSED", "expired")
    monkeypatch.setattr(port, "save_state", lambda payload: (real(payload), setattr(port, "armed", True)))
    assert outcome(obey(side, order(port, "o2", fields={"term": 2}, **KINDS["promote"]))) == ("REFUSED", "ha-armed")
    assert port.acts == []


def test_a_long_text_of_xapi_is_cut(port, side):
    port.act_works, port.act_result = False, Act(orders.FAILED, "x" * 100000)
    assert len(obey(side, order(port, **KINDS["promote"])).text) == LONGEST_TEXT


def test_a_tombstone_on_a_member_leaves_pool_conf_alone(port, side):
    assert outcome(obey(side, order(port, **KINDS["tombstone"]))) == ("DONE", "")
    assert port.conf == (host_now.MEMBER, "10.0.0.1")
    clear = order(port, "o2", set_tombstone=pb.SetTombstone(clear=True))
    assert outcome(obey(side, clear)) == ("DONE", "") and side.executor.state.tombstone is None


def test_a_tombstone_without_a_successor_does_not_touch_pool_conf(port, side):
    port.conf = (host_now.MASTER, "")
    assert outcome(obey(side, order(port, set_tombstone=pb.SetTombstone()))) == ("DONE", "")
    assert port.conf == (host_now.MASTER, "") and side.conversation.report(True).report.tombstone.term == 1


def test_a_pool_conf_that_cannot_be_written_is_said_and_the_tombstone_stands(port, side):
    port.conf, port.conf_error = (host_now.MASTER, ""), "no space left"
    result = obey(side, order(port, **KINDS["tombstone"]))
    assert result.outcome == pb.OrderResult.FAILED and "no space left" in result.text
    assert gate_state.decode(port.saved).tombstone is not None


def test_a_superseded_host_is_promoted_at_a_higher_term_and_its_tombstone_goes(port, side):
    obey(side, order(port, **KINDS["tombstone"]))
    assert outcome(obey(side, order(port, "o2", **KINDS["promote"]))) == ("REFUSED", "tombstoned")
    assert outcome(obey(side, order(port, "o3", fields={"term": 2}, **KINDS["promote"]))) == ("DONE", "")
    assert side.executor.state.tombstone is None and gate_state.decode(port.saved).tombstone is None


# ---------------------------------------------------------------------------------------------- looking


@pytest.mark.parametrize(
    "probe, serves, veto",
    [(SILENT, False, False), (ANSWERED, False, True), (SILENT, True, True)],
)
def test_a_claim_looks_at_the_old_master_and_may_veto(port, side, probe, serves, veto):
    port.peers["10.0.0.1"] = probe
    if serves:
        port.conf, port.view = (host_now.MASTER, ""), serving_view()
        side.observer.look_at_xapi(True, 5000)
    message = order(port, claim=pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1")))
    result = obey(side, message)
    assert outcome(result) == ("DONE", "") and result.claim.veto is veto and bool(result.claim.veto_text) is veto
    assert result.claim.last_look.probed_mono_ms == port.now and not result.claim.HasField("placements")
    assert gate_state.decode(port.saved).term == 1


def test_one_that_is_to_become_master_vetoes_and_the_old_master_itself_does_not(port, side):
    port.conf = (host_now.MASTER, "")
    other = pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1")
    claim = obey(side, order(port, "o1", claim=pb.Claim(old_master=other))).claim
    assert claim.veto and "pool.conf says master" in claim.veto_text
    own = pb.ProbeTarget(host_uuid=HOST, address="10.0.0.1")
    assert not obey(side, order(port, "o2", claim=pb.Claim(old_master=own))).claim.veto


def test_a_claim_without_an_old_master_only_stores_the_term(port, side):
    result = obey(side, order(port, claim=pb.Claim(want_placements=True)))
    assert outcome(result) == ("DONE", "") and not result.claim.veto and not result.claim.HasField("last_look")
    assert [(p.vm_uuid, p.host_uuid) for p in result.claim.placements.placements] == [("vm-1", HOST)]


def test_a_redelivered_claim_looks_again(port, side):
    message = order(port, claim=pb.Claim(old_master=pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.1")))
    assert not obey(side, message).claim.veto
    port.peers["10.0.0.1"] = ANSWERED
    port.now += 100
    assert obey(side, message).claim.veto


def test_probe_now_asks_silent_hosts_for_their_role(port, side):
    port.roles = {
        "10.0.0.7": ("follows", "10.0.0.8"),
        "10.0.0.8": ("acts", "", "00ff"),
        "10.0.0.9": ("untold", "", "11ff", "port 443: refused; answers ping"),
        "10.0.0.6": ("follows", "10.0.0.5"),
    }
    asked = [pb.ProbeTarget(host_uuid="h%d" % n, address="10.0.0.%d" % n) for n in (7, 8, 9, 5, 6)]
    answer = obey(side, order(port, probe_now=pb.ProbeNow(ask_role=asked, nonce="n1")))
    follows, acts, untold, silent, stale = answer.roles
    assert (follows.said, follows.follows, follows.followed_answers) == (pb.RoleAnswer.FOLLOWS, "10.0.0.8", True)
    assert (acts.host_uuid, acts.said, acts.followed_answers) == ("h8", pb.RoleAnswer.ACTS, False)
    assert acts.certificate == "00ff"
    assert (untold.said, untold.certificate) == (pb.RoleAnswer.UNTOLD, "11ff") and "answers ping" in untold.text
    assert silent.said == pb.RoleAnswer.SILENT
    assert (stale.said, stale.follows, stale.followed_answers) == (pb.RoleAnswer.FOLLOWS, "10.0.0.5", False)


def test_probe_now_answers_with_its_nonce(port, side):
    port.peers["10.0.0.2"] = ANSWERED
    targets = [pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.2"), pb.ProbeTarget(host_uuid="x", address="10.0.0.3")]
    result = obey(side, order(port, probe_now=pb.ProbeNow(targets=targets, nonce="n1")))
    assert result.nonce == "n1"
    assert [p.outcome for p in result.probes.probes] == [pb.Probe.ANSWERED, pb.Probe.NO_ANSWER]
    assert not side.conversation.report(True).report.probes.probes, "what is looked at once is not watched from then on"


def test_a_look_at_the_plain_port_leaves_what_is_known_of_the_other_one(port, side):
    """A toolstack fence closes port 80; that says nothing of what a watched target answered over TLS."""
    targets = [pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.2")]
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(probe_targets=targets)))
    port.peers["10.0.0.2"] = ANSWERED
    side.observer.look_at_peer(OTHER, "10.0.0.2", 1000)
    port.peers["10.0.0.2"] = probe_rules.ProbeResult(probe_rules.REFUSED, "", "connect: refused")
    plain = [pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.2", port=80)]
    (probe,) = obey(side, order(port, probe_now=pb.ProbeNow(targets=plain))).probes.probes
    assert port.probed_ports == [443, 80]
    assert probe.outcome == pb.Probe.REFUSED and probe.answered_mono_ms == 0
    (watched,) = side.conversation.report(True).report.probes.probes
    assert watched.outcome == pb.Probe.ANSWERED and watched.answered_mono_ms == port.now


@pytest.mark.parametrize("number", [22, 8080])
def test_no_other_port_is_probed(port, side, number):
    targets = [pb.ProbeTarget(host_uuid=OTHER, address="10.0.0.2", port=number)]
    assert outcome(obey(side, order(port, probe_now=pb.ProbeNow(targets=targets)))) == ("REFUSED", "local-policy")
    assert port.probed_ports == []


def test_evidence_is_collected_as_wanted(port, side):
    wanted = obey(side, order(port, collect_evidence=pb.CollectEvidence(want_placements=True)))
    assert wanted.placements.readable and wanted.placements.generation == 42
    assert not obey(side, order(port, collect_evidence=pb.CollectEvidence())).HasField("placements")


def test_more_placements_than_a_message_holds_are_not_readable(port, side, monkeypatch):
    many = tuple(database.Placement("v%d" % n, HOST, "x" * 1000) for n in range(4000))
    monkeypatch.setattr(port, "database", lambda: database.View(True, 42, "s", many, POOL, False, ""))
    placed = obey(side, order(port, collect_evidence=pb.CollectEvidence(want_placements=True))).placements
    assert not placed.readable and not placed.placements and "4000" in placed.text and placed.generation == 42


def test_an_order_of_a_later_collector_is_refused(port, side):
    assert outcome(obey(side, order(port))) == ("REFUSED", "unknown-order")
    assert outcome(obey(side, order(port, fence_proxy=pb.FenceProxy()))) == ("REFUSED", "unknown-order")


@pytest.mark.parametrize("role", [pb.RoleFacts.KIND_UNSPECIFIED, 99])
def test_a_role_that_is_not_known_is_not_met_by_an_unreadable_pool_conf(port, side, role):
    port.conf = (host_now.UNREADABLE, "")
    message = order(port, **KINDS["promote"])
    message.preconditions.pool_conf_in.append(role)
    assert outcome(obey(side, message)) == ("REFUSED", "precondition")
