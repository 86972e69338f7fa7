"""policy.conf: each rule by itself, what a broken file leaves, and how the host side obeys them."""

import os
from pathlib import Path

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core import host_now, local_policy, order_kinds
from poolwarden_agent.core.local_policy import HOUR_MS, Known, LocalPolicy, counts, recent, refusal, with_order
from poolwarden_agent.core.orders import LONGEST_VALID_MS
from poolwarden_agent.dom0.system import policy_file
from poolwarden_agent.dom0.system.policy_file import BROKEN, PolicyFile, parsed
from poolwarden_agent.messages.orders import from_message

from .fake_port import HOST, KINDS, OTHER, obey, order

SHIPPED = Path(__file__).resolve().parents[2] / "packaging/agent/policy.conf"
HOSTS = ((HOST, "10.0.0.5"), (OTHER, "10.0.0.1"))
DEFAULT = LocalPolicy()


def known(hosts=HOSTS, generation=42, counted=(), mono_ms=5000000, again=False):
    return Known(hosts, generation, counted, mono_ms, again)


def judged(port, policy=DEFAULT, at=None, fields=None, signed=True, **kind):
    """(reason, text) of the refusal; None where there is none."""
    message = order(port, **kind)
    if fields:
        message.approval.by = fields
    return refusal(policy, from_message(message, signed), at or known())


def target(address, host="", port=0):
    return pb.ProbeTarget(host_uuid=host, address=address, port=port)


# ---------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_denied_kind_is_refused_by_name(port, kind):
    [name] = KINDS[kind]
    found = judged(port, LocalPolicy(deny=(name,), addresses="any"), **KINDS[kind])
    assert found.reason == "local-policy" and name in found.text
    assert judged(port, LocalPolicy(addresses="any"), **KINDS[kind]) is None


def test_fence_proxy_is_denied_unless_the_policy_says_so(port):
    fence = pb.FenceProxy(agent="fence_x", action="off", host_uuid=OTHER, target_address="10.0.0.1")
    assert "fence_proxy = no" in judged(port, fence_proxy=fence).text
    assert judged(port, LocalPolicy(fence_proxy=True), fence_proxy=fence) is None


@pytest.mark.parametrize(
    "kind",
    [
        {"repoint": pb.Repoint(master_address="192.0.2.9")},
        {
            "toolstack_release": pb.ToolstackRelease(
                release_as=pb.ToolstackRelease.AS_MEMBER, master_address="192.0.2.9"
            )
        },
        {"probe_now": pb.ProbeNow(targets=[target("10.0.0.1"), target("192.0.2.9", "x")])},
        {"probe_now": pb.ProbeNow(ask_role=[target("192.0.2.9")])},
        {"claim": pb.Claim(old_master=target("192.0.2.9"))},
    ],
)
def test_an_address_of_no_host_of_the_pool_is_neither_followed_nor_probed(port, kind):
    assert "192.0.2.9 is of no host" in judged(port, **kind).text
    assert judged(port, LocalPolicy(addresses="any"), **kind) is None
    assert "cannot be read" in judged(port, at=known(None), **kind).text


@pytest.mark.parametrize(
    "kind",
    [
        {"repoint": pb.Repoint(master_address="10.0.0.1")},
        {"repoint": pb.Repoint(master_address="192.0.2.9", master_uuid=OTHER)},
        {"set_tombstone": pb.SetTombstone(successor_uuid=OTHER, successor_address="192.0.2.9")},
        {"set_tombstone": pb.SetTombstone(successor_address="192.0.2.9")},
        {"set_tombstone": pb.SetTombstone(clear=True)},
        {"set_tombstone": pb.SetTombstone(successor_uuid="not known yet")},
        {"toolstack_release": pb.ToolstackRelease(release_as=pb.ToolstackRelease.AS_MASTER)},
        {"probe_now": pb.ProbeNow(targets=[target("10.0.0.1", port=80), target("192.0.2.9", OTHER, 443)])},
        {"claim": pb.Claim()},
    ],
)
def test_an_address_of_the_database_or_of_a_host_of_it_is(port, kind):
    assert judged(port, **kind) is None


def test_only_what_is_signed_says_that_another_address_is_a_hosts(port, side):
    stranger = {"repoint": pb.Repoint(master_address="192.0.2.9", master_uuid=OTHER)}
    assert "192.0.2.9 is of no host" in judged(port, signed=False, **stranger).text
    assert judged(port, signed=False, repoint=pb.Repoint(master_address="10.0.0.1", master_uuid=OTHER)) is None
    assert judged(port, LocalPolicy(addresses="any"), signed=False, **stranger) is None
    assert judged(port, **stranger) is None and judged(port, LocalPolicy(addresses="database"), **stranger)
    port.policy, given, heard = LocalPolicy(), [target("192.0.2.9", OTHER)], []
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(probe_targets=given)))
    assert side.conversation.targets == {} and "1 of 1 targets" in side.conversation.take_remark()
    side.boot.heard = lambda answer, signed: heard.append(answer.successor_address)
    answer = pb.GateAnswer(decision=pb.GateAnswer.SHUT, successor_uuid=OTHER, successor_address="192.0.2.9")
    side.conversation.receive(pb.CollectorMessage(gate_answer=answer))
    assert heard == [""]


def test_other_ports_and_too_many_targets_are_refused(port):
    assert "port 22" in judged(port, probe_now=pb.ProbeNow(targets=[target("10.0.0.1", port=22)])).text
    many = pb.ProbeNow(targets=[target("10.0.0.1")] * 100, ask_role=[target("10.0.0.1")] * 29)
    assert "probe_targets = 128" in judged(port, probe_now=many).text
    assert judged(port, LocalPolicy(probe_targets=0), claim=pb.Claim(old_master=target("10.0.0.1"))) is None
    assert judged(port, LocalPolicy(probe_targets=0), probe_now=pb.ProbeNow(targets=[target("10.0.0.1")]))


def placing(generation=43, sha256="0" * 64, **more):
    return pb.PlaceDatabase(generation=generation, total_bytes=1, chunk=b"x", sha256=sha256, **more)


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        (placing(43), True),
        (placing(42 + 1000000), True),
        (placing(42), False),
        (placing(41), False),
        (placing(43 + 1000000), False),
        (placing(43, ""), False),
        (pb.PlaceDatabase(remove=True), True),
    ],
)
def test_a_database_is_placed_unattended_within_bounds_and_else_by_an_operators_word(port, given, passes):
    assert (judged(port, place_database=given) is None) is passes
    assert judged(port, fields="anna", place_database=given) is None
    assert (judged(port, fields="anna", signed=False, place_database=given) is None) is passes


def test_a_database_may_need_an_approval_always_or_never_come(port):
    approved, never = LocalPolicy(place_database="approved"), LocalPolicy(place_database="never")
    assert "no operator has approved" in judged(port, approved, place_database=placing()).text
    assert judged(port, approved, fields="anna", place_database=placing()) is None
    assert judged(port, never, fields="anna", place_database=placing()).text == "place_database = never"
    assert judged(port, never, place_database=pb.PlaceDatabase(remove=True)) is None


def test_ten_orders_an_hour_and_a_resend_is_none(port):
    counted = ()
    for number in range(10):
        counted = with_order(counted, from_message(order(port, "o%d" % number, promote=pb.Promote())), 1000)
        counted = with_order(counted, from_message(order(port, "o%d" % number, promote=pb.Promote())), 2000, True)
    assert len(counted) == 10
    late = known(counted=counted, mono_ms=1000 + HOUR_MS - 1)
    for kind in ("promote", "repoint", "restart", "stop"):
        found = judged(port, LocalPolicy(addresses="any"), late, order_id="new", **KINDS[kind])
        assert found.reason == "too-many" and "orders_per_hour = 10" in found.text
        again = known(counted=counted, mono_ms=1000 + HOUR_MS - 1, again=True)
        assert judged(port, LocalPolicy(addresses="any"), again, order_id="o3", **KINDS[kind]) is None
    for kind in ("claim", "tombstone"):
        assert judged(port, at=late, order_id="new", **dict(KINDS[kind])) is None
    free = known(counted=counted, mono_ms=1000 + HOUR_MS)
    assert judged(port, at=free, order_id="new", promote=pb.Promote()) is None
    assert recent(counted, 1000 + HOUR_MS) == ()


def test_what_is_limited_and_what_never_is(port):
    """Whatever makes a pool safe again is not."""
    limited = {name for name, kind in ((k.name, k.body) for k in order_kinds.KINDS) if kind in local_policy.COUNTED}
    assert limited == {
        "promote", "repoint", "restart_xapi", "toolstack_fence", "designate_master", "recover_members",
    }  # fmt: skip
    for action, counted in (("off", True), ("on", True), ("status", False), ("monitor", False)):
        assert counts(from_message(order(port, fence_proxy=pb.FenceProxy(action=action)))) is counted


# ---------------------------------------------------------------------------------------------- the file


def test_the_shipped_file_says_the_defaults():
    assert parsed(SHIPPED.read_text()) == LocalPolicy()
    named = {line.split(" =")[0] for line in SHIPPED.read_text().splitlines() if " =" in line and line[0] != "#"}
    assert named == set(LocalPolicy._fields)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected one section"),
        ("[policy]\n[more]\n", r"\[more\]"),
        ("[policy]\nallow = promote\n", "unknown key allow"),
        ("[policy]\ndeny = promot\n", "deny names promot"),
        ("[policy]\nfence_proxy = perhaps\n", "expected yes or no"),
        ("[policy]\naddresses = none\n", "expected known or database or any"),
        ("[policy]\norders_per_hour = 0\n", "expected 1..1000"),
        ("[policy]\norders_per_hour = ten\n", "expected 1..1000"),
        ("[policy]\nprobe_targets = 129\n", "expected 0..128"),
        ("[policy\n", "no section headers"),
        ("[policy]\ndeny = claim\ndeny = promote\n", "already exists"),
    ],
)
def test_what_is_wrong_in_it_is_said(text, why):
    with pytest.raises(ValueError, match=why):
        parsed(text)


def test_it_is_read_when_it_changes_and_a_broken_one_denies_what_changes_the_host(tree):
    rules = PolicyFile(str(tree.root))
    assert rules.look() == (LocalPolicy(), "")
    tree.put(policy_file.FILE, "[policy]\ndeny = promote, start_vm\nfence_proxy = yes\n", 0o600)
    assert rules.look() == (LocalPolicy(deny=("promote", "start_vm"), fence_proxy=True), "")
    tree.put(policy_file.FILE, "[policy]\ndeny = pro\n", 0o600)
    broken = rules.look()
    assert broken.policy == BROKEN and "deny names pro" in broken.trouble and "until it is mended" in broken.trouble
    assert {"promote", "repoint", "place_database", "fence_proxy", "restart_xapi"} <= set(BROKEN.deny)
    assert not {"claim", "set_tombstone", "toolstack_release", "release_gc", "probe_now"} & set(BROKEN.deny)
    tree.put(policy_file.FILE, b"\xff\xfe", 0o600)
    assert rules.look().policy == BROKEN
    tree.put(policy_file.FILE, "[policy]\n", 0o666)
    assert "root alone" in rules.look().trouble
    os.unlink(tree.path(policy_file.FILE))
    os.symlink(tree.path("etc/hostname"), tree.path(policy_file.FILE))
    assert rules.look().policy == BROKEN


def test_an_upgrade_keeps_fence_agents_that_are_in_use_once(tree):
    tree.put(policy_file.FILE, SHIPPED.read_text(), 0o600)
    policy_file.keep_fence_proxy(str(tree.root))
    assert not PolicyFile(str(tree.root)).look().policy.fence_proxy
    tree.put(policy_file.IN_USE, "")
    policy_file.keep_fence_proxy(str(tree.root))
    assert PolicyFile(str(tree.root)).look() == (LocalPolicy(fence_proxy=True), "")
    assert tree.text(policy_file.FILE) == SHIPPED.read_text().replace("fence_proxy = no", "fence_proxy = yes")
    assert not (tree.root / policy_file.IN_USE).exists()


# ---------------------------------------------------------------------------------------------- the host side


def test_the_host_side_refuses_by_its_own_rules_and_nothing_is_stored(port, side):
    port.policy = LocalPolicy(deny=("restart_xapi",))
    port.able = tuple(kind for kind in port.able if kind != "restart_xapi")
    before = port.saved
    for kind in ({"restart_xapi": pb.RestartXapi()}, {"repoint": pb.Repoint(master_address="192.0.2.9")}):
        result = obey(side, order(port, **kind))
        assert (result.outcome, result.reason) == (pb.OrderResult.REFUSED, "local-policy"), result
    assert port.saved == before and port.acts == []


def test_the_eleventh_change_of_an_hour_waits(port, side):
    port.policy = LocalPolicy(addresses="any")
    outcomes = []
    for number in range(300):
        outcomes.append(obey(side, order(port, "o%d" % number, repoint=pb.Repoint(master_address="10.0.0.2"))).reason)
        port.now += 20
    assert outcomes.count("too-many") == 290 and outcomes[10:] == ["too-many"] * 290
    done = len(port.acts)
    assert done == 10
    resent = obey(side, order(port, "o9", repoint=pb.Repoint(master_address="10.0.0.2")))
    assert resent.replayed and len(port.acts) == done
    assert obey(side, order(port, "c", claim=pb.Claim())).outcome == pb.OrderResult.DONE
    port.now += HOUR_MS
    assert obey(side, order(port, "later", repoint=pb.Repoint(master_address="10.0.0.2"))).reason != "too-many"


def test_two_ids_in_turn_are_acts_that_count(port, side):
    """An id that comes back when its answer is forgotten is another act."""
    port.policy, reasons = LocalPolicy(addresses="any"), []
    for number in range(11):
        given = pb.Repoint(master_address="10.0.0.%d" % (2 + number % 2))
        reasons.append(obey(side, order(port, "ab"[number % 2], repoint=given)).reason)
        port.now += LONGEST_VALID_MS + 1
    assert reasons == [""] * 10 + ["too-many"] and len(port.acts) == 10


def test_one_id_of_other_kinds_is_another_order(port, side):
    port.policy = LocalPolicy(addresses="any", orders_per_hour=2)
    kinds = (
        {"repoint": pb.Repoint(master_address="10.0.0.2")},
        {"restart_xapi": pb.RestartXapi()},
        {"toolstack_fence": pb.ToolstackFence()},
    )
    assert [obey(side, order(port, "a", **kind)).reason for kind in kinds] == ["", "", "too-many"]


def test_a_fence_run_that_comes_again_counts_once_and_another_one_does_not_pass_as_it(port, side):
    port.policy = LocalPolicy(fence_proxy=True, addresses="any", orders_per_hour=1)
    port.able = order_kinds.KNOWN
    first = order(port, "a", fence_proxy=pb.FenceProxy(agent="fence_x", action="off", host_uuid=OTHER))
    assert obey(side, first).reason == "precondition"  # there is no such agent here
    assert obey(side, first).reason == "precondition"
    port.now += LONGEST_VALID_MS
    again = order(port, "a", fence_proxy=pb.FenceProxy(agent="fence_x", action="on", host_uuid=OTHER))
    assert obey(side, again).reason == "too-many"


def test_settings_name_only_hosts_of_this_pool(port, side):
    port.policy = LocalPolicy()
    given = [target("10.0.0.1", OTHER), target("192.0.2.9", "stranger"), target("192.0.2.8", OTHER[:-1] + "0")]
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(probe_targets=given)))
    assert side.conversation.targets == {OTHER: "10.0.0.1"}
    assert "2 of 3 targets are not probed" in side.conversation.take_remark()


def test_what_was_read_of_the_database_counts_while_it_cannot_be_read(port, side):
    port.policy = LocalPolicy()
    given = [target("10.0.0.1", OTHER)]
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(probe_targets=given)))
    port.hosts = None
    side.conversation.receive(pb.CollectorMessage(settings=pb.Settings(probe_targets=given)))
    assert side.conversation.targets == {OTHER: "10.0.0.1"} and side.conversation.take_remark() == ""


def test_a_tombstone_is_set_whatever_its_address_and_a_stranger_is_not_followed(port, side):
    port.policy, port.conf = LocalPolicy(), (host_now.MASTER, "")
    stone = pb.SetTombstone(successor_uuid="stranger", successor_address="192.0.2.9")
    _, heard = side.conversation.receive(pb.CollectorMessage(order=order(port, "o1", set_tombstone=stone)))
    assert (heard.body.successor, heard.body.address) == ("stranger", "")
    assert "192.0.2.9 is of no host" in side.conversation.take_remark()
    assert side.executor.carry_out(heard, 1000).outcome == pb.OrderResult.DONE
    assert side.executor.state.tombstone.successor == "stranger" and port.conf == (host_now.MASTER, "")
    stone.successor_address = "10.0.0.1"
    _, heard = side.conversation.receive(pb.CollectorMessage(order=order(port, "o2", set_tombstone=stone)))
    assert heard.body.address == "10.0.0.1" and side.conversation.take_remark() == ""


def test_a_word_on_the_boot_gate_counts_and_a_stranger_is_not_followed(port, side):
    port.policy, heard = LocalPolicy(), []
    side.boot.heard = lambda answer, signed: heard.append((answer.decision, answer.successor_address))
    for address in ("192.0.2.9", "10.0.0.1", ""):
        answer = pb.GateAnswer(decision=pb.GateAnswer.SHUT, successor_uuid="x", successor_address=address)
        side.conversation.receive(pb.CollectorMessage(gate_answer=answer))
    assert heard == [(pb.GateAnswer.SHUT, address) for address in ("", "10.0.0.1", "")]
    assert "192.0.2.9 is of no host" in side.conversation.take_remark()
