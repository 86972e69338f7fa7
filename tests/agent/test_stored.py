"""What an older or a newer agent makes of durable state: nothing is lost, guessed, or kept down silently."""

import hashlib
import json
import struct

import pytest

from poolwarden_agent.commands import gate as gatecommand
from poolwarden_agent.core import gate_state, host_now, order_gate
from poolwarden_agent.dom0.system.latch import Latch
from poolwarden_agent.dom0.system.slots import SlotError, Slots
from poolwarden_agent.host.durable_state import Keeper
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.host_port import BootFacts
from poolwarden_agent.process import log

from .fake_port import obey, order
from .test_gate_command import Clock, boot_id, master, why_not  # noqa: F401  (fixtures)
from .tree import OTHER

FULL = gate_state.GateState(
    5,
    7,
    gate_state.Tombstone(7, OTHER, "10.0.0.2"),
    "pool",
    {"promote": gate_state.Started("o1", host_now.Process(12, 99))},
    {"claim": gate_state.Result("o0", "claim", "done", "", "term 7 is stored")},
    gate_state.Hold(6, "boot", 1234, OTHER),
    gate_state.Placed(7, 42, True),
    7,
)


def value(state=FULL):
    return json.loads(gate_state.encode(state).decode("utf-8"))


def decoded(changed):
    return gate_state.decode(json.dumps(changed).encode("utf-8"))


def newer(**more):
    """The state as a newer agent stores it: further keys, further items, a higher format."""
    found = dict(value(), format=9, lease={"until": [1, 2]}, **more)
    found["hold"] = found["hold"] + ["kind", 3]
    found["results"]["claim"] = found["results"]["claim"] + [{"x": 1}]
    found["results"]["from_the_future"] = ["o9", "from_the_future", "done", "", ""]
    return found


def test_it_comes_back_as_it_was():
    assert gate_state.decode(gate_state.encode(FULL)) == FULL and FULL.more == ""
    assert gate_state.decode(gate_state.encode(gate_state.EMPTY)) == gate_state.EMPTY


def test_what_an_earlier_version_wrote_is_read():
    earlier = {"epoch": 2, "term": 3, "tombstone": None, "pool": "p", "started": {}, "results": {}}
    state = decoded(earlier)
    assert state == gate_state.EMPTY._replace(epoch=2, term=3, pool="p")


def test_what_a_newer_agent_stored_survives_a_change_by_this_one():
    state = decoded(newer())
    assert state.hold == FULL.hold and state.tombstone == FULL.tombstone
    again = value(state._replace(term=8))
    assert again == dict(newer(), term=8, reads=1)
    assert gate_state.decode(gate_state.encode(state)) == state, "and again"
    assert [result.kind for result in order_gate.results_kept(state)] == ["claim"]


def test_a_further_item_goes_with_what_it_belonged_to():
    state = decoded(newer())
    assert value(gate_state.with_hold(state, None))["hold"] is None
    assert value(gate_state.with_hold(state, gate_state.Hold(9, "boot", 1, "")))["hold"] == [9, "boot", 1, ""]
    back = gate_state.decode(gate_state.encode(gate_state.with_hold(state, gate_state.Hold(9, "boot", 1, ""))))
    assert value(back)["lease"] == {"until": [1, 2]}


def test_a_newer_agent_says_who_may_not_go_on_from_it():
    with pytest.raises(gate_state.Newer, match="format 4.*install the newer one again"):
        decoded(newer(reads=4))
    assert decoded(newer(reads=1)).term == 7


@pytest.mark.parametrize("key", sorted(gate_state.SHAPES))
@pytest.mark.parametrize("wrong", [[], [1], "x", {"claim": 3}, {"claim": ["o"]}, 1.5, True, [7, 7, 7], [None] * 5])
def test_what_has_not_the_known_shape_names_the_place(key, wrong):
    shape = gate_state.SHAPES[key]
    if isinstance(shape, type) and type(wrong) is shape:
        return
    with pytest.raises(ValueError, match="not a gate state: (%s|claim)" % key) as error:
        decoded(dict(value(), **{key: wrong}))
    assert not isinstance(error.value, gate_state.Newer)


@pytest.mark.parametrize("key", sorted(gate_state.SHAPES))
def test_what_is_absent_is_named_or_has_a_meaning(key):
    bare = value()
    del bare[key]
    if key in gate_state.LATER:
        assert decoded(bare) == FULL._replace(**{key: gate_state.LATER[key]})
    else:
        with pytest.raises(ValueError, match="no %s" % key):
            decoded(bare)


@pytest.mark.parametrize("data", [b"", b"\xff", b"null", b"[]", b"{", b'{"format": "x"}', b'{"reads": true}'])
def test_what_is_no_state_is_a_value_error(data):
    with pytest.raises(ValueError):
        gate_state.decode(data)


# ------------------------------------------------------------------------------------------ the keeper


def test_a_change_that_failed_is_followed_by_what_a_restart_would_find(port, monkeypatch):
    keeper = Keeper(port)
    keeper.change(lambda state: state._replace(term=3))

    def half(payload):
        port.saved = payload
        raise SlotError("state.1 cannot be written")

    monkeypatch.setattr(port, "save_state", half)
    with pytest.raises(SlotError):
        keeper.change(lambda state: state._replace(term=4))
    assert keeper.state.term == 4 and not keeper.storage

    def fails(payload=b""):
        raise SlotError("state.0 cannot be read")

    monkeypatch.setattr(port, "save_state", fails)
    monkeypatch.setattr(port, "load_state", fails)
    with pytest.raises(SlotError):
        keeper.change(lambda state: state._replace(term=5))
    assert keeper.state.term == 4 and "cannot be read" in keeper.storage


def test_while_it_cannot_be_stored_every_order_is_refused_with_the_reason_and_what_is_known_stays_known(port):
    side = HostSide(port)
    assert obey(side, order(port, "c1", claim={})).term == 1
    port.no_room = True
    refused = obey(side, order(port, "c2", claim={}))
    assert refused.reason == "storage" and "no room" in refused.text and side.executor.state.term == 1
    port.no_room = False
    assert obey(side, order(port, "c2", claim={})).reason == ""


def test_what_was_mended_is_told_once(port, monkeypatch):
    monkeypatch.setattr(port, "state_remark", lambda: "state.0 was not readable")
    side = HostSide(port)
    assert side.executor.tidy() == "state.0 was not readable" and side.executor.tidy() == ""


# ------------------------------------------------------------------------------------------ xapi's start


@pytest.fixture
def clock():
    return Clock()


def put(tree, payload, word="none"):
    directory = tree.path("var/lib/poolwarden")
    slots = Slots(directory)
    slots.prepare()
    slots.load()
    slots.save(payload)
    latch = Latch(directory)
    latch.prepare()
    latch.write(word)


def downgraded(tree, word="none"):
    put(tree, json.dumps(newer(reads=4)).encode("utf-8"), word)


def said_by(call):
    """The lines that a call has logged."""
    lines = []
    real, log._write = log._write, lines.append
    try:
        call()
    finally:
        log._write = real
    return " ".join(lines)


def test_after_a_downgrade_a_master_that_nothing_holds_starts_by_the_rules_of_a_boot(master, clock):  # noqa: F811
    downgraded(master)
    found = []
    text = said_by(lambda: found.append(why_not(master, clock)))
    assert found == ["the agent has not said anything about this boot yet"]
    assert "orders are refused" in text and "install the newer one again" in text
    assert not gatecommand._must_wait(master.path(""))


@pytest.mark.parametrize("word", ["hold", "tombstone"])
def test_after_a_downgrade_a_held_one_waits_and_says_why_and_what_ends_it(master, clock, capsys, word):  # noqa: F811
    downgraded(master, word)
    why = why_not(master, clock)
    assert "the latch says %s" % word in why and "install the newer one" in why and "gate forget" in why
    assert gatecommand._must_wait(master.path(""))
    assert gatecommand.main(["status", "--root", master.path("")]) == 1
    said = capsys.readouterr().out
    assert (
        "newer agent" in said
        and "gate forget" in said
        and "xapi:       waits" in said
        and "latch:      " + word in said
    )
    master.put("etc/xensource/pool.conf", "slave:10.0.0.2")
    assert bool(why_not(master, clock)) == (word == "hold"), "a superseded one starts as a member"


def test_what_xapi_waits_for_is_said_again(master, clock, monkeypatch):  # noqa: F811
    downgraded(master, "hold")
    waiting = gatecommand.Waiting(master.path(""), boot_id(master), clock)
    turns = []

    def sleep(_seconds):
        turns.append(1)
        clock.ms += 60000
        if len(turns) == 25:
            raise InterruptedError

    monkeypatch.setattr(gatecommand.time, "sleep", sleep)

    def run():
        with pytest.raises(InterruptedError):
            waiting.run()

    assert said_by(run).count("xapi waits") == 3


def test_a_slot_alone_is_enough_for_a_tombstone(master, clock):  # noqa: F811
    put(master, gate_state.encode(FULL._replace(hold=None)))
    (master.root / "var/lib/poolwarden/state.0").unlink()
    assert "superseded by 10.0.0.2" in why_not(master, clock)


def test_unreadable_slots_hold_a_master_until_a_person_lets_them_be_forgotten(master, clock, capsys):  # noqa: F811
    put(master, gate_state.encode(FULL._replace(hold=None, tombstone=None)))
    for number in (0, 1):
        master.put("var/lib/poolwarden/state.%d" % number, b"rubbish")
    assert "neither slot" in why_not(master, clock) and "gate forget" in why_not(master, clock)
    assert gatecommand.main(["forget", "--root", master.path(""), "--name", "h2"]) == 1
    assert "neither slot" in why_not(master, clock)
    assert gatecommand.main(["forget", "--root", master.path(""), "--name", "h1"]) == 0
    assert why_not(master, clock) == "the agent has not said anything about this boot yet"
    assert (master.root / "var/lib/poolwarden/state.0.unreadable").read_bytes() == b"rubbish"
    assert gatecommand.main(["forget", "--root", master.path(""), "--name", "h1"]) == 1
    assert "nothing to forget" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["hold", "tombstone"])
def test_what_the_latch_remembers_is_forgotten_only_as_a_member(master, clock, capsys, word):  # noqa: F811
    downgraded(master, word)
    root = master.path("")
    assert gatecommand.main(["forget", "--root", root, "--name", "h1"]) == 1
    assert "--as-member ADDRESS" in capsys.readouterr().out
    assert gatecommand.main(["forget", "--root", root, "--name", "h1", "--as-member", "h2"]) == 1
    assert master.text("etc/xensource/pool.conf") == "master"
    assert gatecommand.main(["forget", "--root", root, "--name", "h1", "--as-member", "10.0.0.2"]) == 0
    assert master.text("etc/xensource/pool.conf") == "slave:10.0.0.2" and why_not(master, clock) == ""
    assert Latch(master.path("var/lib/poolwarden")).read() == "none"


def test_the_installation_says_what_it_finds(master, capsys):  # noqa: F811
    from poolwarden_agent.__main__ import _prepare

    assert _prepare(["--root", master.path("")]) == 0
    downgraded(master, "hold")
    assert _prepare(["--root", master.path("")]) == 2
    assert "newer agent" in capsys.readouterr().err
    assert Latch(master.path("var/lib/poolwarden")).read() == "hold"


def test_the_running_agents_gate_is_shut_on_a_master_whose_state_cannot_be_read(port, monkeypatch):
    def fails():
        raise SlotError("neither slot is readable; poolwarden-agent gate forget")

    facts = BootFacts(host_now.MASTER, "", False, ("10.0.0.2",), True, True, None, False)
    monkeypatch.setattr(port, "boot_facts", lambda: facts)
    monkeypatch.setattr(port, "load_state", fails)
    side = HostSide(port)
    decided = side.boot.settle(True)
    assert decided.state == "shut" and "gate forget" in decided.reason
    monkeypatch.setattr(port, "load_state", lambda: b"")
    assert "cannot be read" not in side.boot.settle(True).reason


# ------------------------------------------------------------------------------------------ the first release's agent


def first_release(data):
    """How the agent 0.1.0 reads a state (its core/gate.py, decode): further keys are passed over, lists are whole."""
    state = json.loads(data.decode("utf-8"))
    stone = gate_state.Tombstone(*state["tombstone"]) if state["tombstone"] is not None else None
    started = {k: gate_state.Started(v[0], host_now.Process(v[1], v[2])) for k, v in state["started"].items()}
    results = {k: gate_state.Result(*v) for k, v in state["results"].items()}
    hold = gate_state.Hold(*state["hold"]) if state.get("hold") is not None else None
    placed = gate_state.Placed(*state["placed"]) if state.get("placed") is not None else None
    known = int(state["epoch"]), int(state["term"])
    return gate_state.GateState(*known, stone, state["pool"], started, results, hold, placed, int(state.get("gc", 0)))


@pytest.mark.parametrize("stands", ["hold", "tombstone", "both", "neither"])
def test_the_first_releases_agent_reads_what_this_one_stores(port, stands):
    """So that a downgrade finds hold and tombstone, keeps xapi down for nothing else, and can say which it is."""
    state = FULL._replace(unsure_ms=77)
    if stands in ("tombstone", "neither"):
        state = state._replace(hold=None)
    if stands in ("hold", "neither"):
        state = state._replace(tombstone=None)
    assert first_release(gate_state.encode(state)) == state._replace(unsure_ms=0)
    # What it writes in its turn has neither our further keys nor a format, and is read again.
    its = {key: item for key, item in value(state).items() if key not in ("unsure_ms", "format", "reads")}
    assert decoded(its) == state._replace(unsure_ms=0)


def test_the_first_release_reads_the_slots_of_this_one(tmp_path):
    """Its layout: magic, sequence, length and checksum in 52 bytes; the higher sequence wins, either one at a tie."""
    slots = Slots(str(tmp_path))
    slots.prepare()
    slots.load()
    slots.save(gate_state.encode(FULL))
    for name in ("state.0", "state.1"):
        data = (tmp_path / name).read_bytes()
        magic, sequence, length, digest = struct.unpack("!8sQI32s", data[:52])
        assert (magic, len(data)) == (b"PWSLOT1\n", 65536) and sequence >= 1
        payload = data[52 : 52 + length]
        assert hashlib.sha256(struct.pack("!QI", sequence, length) + payload).digest() == digest
        assert first_release(payload) == FULL
