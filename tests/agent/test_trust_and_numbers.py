"""`poolwarden-agent trust-key` and `reset-numbers`: whom a host obeys, and what it forgets, by root's word on it."""

import pytest

from poolwarden_agent.commands import numbers, trust
from poolwarden_agent.core import gate_state
from poolwarden_agent.core.gate_state import EMPTY, Hold, Placed, Tombstone
from poolwarden_agent.dom0.system import order_key
from poolwarden_agent.dom0.system.slots import Slots
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.process import gate_file
from poolwarden_agent.process.gate_file import Word
from poolwarden_agent.process.gate_watch import GateWatch

from .test_dom0 import dom0

KEY, OTHER_KEY = "ab" * 32, "cd" * 32


def pinned(tree):
    return " ".join(each.public.hex() for each in order_key.OrderKeys(tree.path("")).look().keys)


def trusting(tree, *words):
    return trust.main([*words, "--root", tree.path("")])


def test_a_first_key_is_pinned_and_another_one_wants_the_hosts_name(tree, capsys):
    assert trusting(tree, KEY) == 0 and pinned(tree) == KEY
    assert trusting(tree, KEY) == 0 and "already" in capsys.readouterr().out
    assert trusting(tree, OTHER_KEY, "--name", "h2") == 1 and pinned(tree) == KEY
    assert "is not this host's name" in capsys.readouterr().out
    assert trusting(tree, OTHER_KEY, "--name", "h1") == 0 and pinned(tree) == OTHER_KEY


def test_the_name_is_asked_for(tree, monkeypatch):
    trusting(tree, KEY)
    monkeypatch.setattr("builtins.input", lambda prompt: "h1")
    assert trusting(tree, OTHER_KEY) == 0 and pinned(tree) == OTHER_KEY


@pytest.mark.parametrize("key", ["", "ab" * 31, "ab" * 33, "xy" * 32])
def test_what_is_no_key_is_refused(tree, key):
    assert trusting(tree, key) == 1 and pinned(tree) == ""


THIRD_KEY = "ef" * 32


def test_keys_are_added_listed_and_removed(tree, capsys):
    assert trusting(tree, "--list") == 0 and "no order key is pinned" in capsys.readouterr().out
    assert trusting(tree, "--add", KEY) == 0 and pinned(tree) == KEY, "the first needs no name"
    assert trusting(tree, "--add", OTHER_KEY, "--name", "h2") == 1 and pinned(tree) == KEY
    assert trusting(tree, "--add", OTHER_KEY, "--name", "h1") == 0 and pinned(tree) == KEY + " " + OTHER_KEY
    assert trusting(tree, "--add", OTHER_KEY.upper()) == 0 and "already" in capsys.readouterr().out
    assert trusting(tree, "--list") == 0
    ids = [order_key.key_id(bytes.fromhex(each)) for each in (KEY, OTHER_KEY)]
    assert capsys.readouterr().out == "%s  %s\n%s  %s\n" % (ids[0], KEY, ids[1], OTHER_KEY)
    assert trusting(tree, "--remove", THIRD_KEY) == 1 and "is not pinned" in capsys.readouterr().out
    assert trusting(tree, "--remove", KEY, "--name", "h2") == 1 and pinned(tree) == KEY + " " + OTHER_KEY
    assert trusting(tree, "--remove", ids[0], "--name", "h1") == 0 and pinned(tree) == OTHER_KEY
    assert trusting(tree, "--remove", OTHER_KEY, "--name", "h1") == 1 and pinned(tree) == OTHER_KEY
    assert "unsigned orders would be obeyed" in capsys.readouterr().out


def test_one_key_alone_takes_the_place_of_all(tree):
    trusting(tree, KEY)
    trusting(tree, "--add", OTHER_KEY, "--name", "h1")
    assert trusting(tree, KEY, "--name", "h2") == 1 and pinned(tree) == KEY + " " + OTHER_KEY
    assert trusting(tree, KEY, "--name", "h1") == 0 and pinned(tree) == KEY
    assert trusting(tree, THIRD_KEY, "--name", "h1") == 0 and pinned(tree) == THIRD_KEY


def test_no_more_than_sixteen_are_pinned(tree, capsys):
    trusting(tree, KEY)
    added = [trusting(tree, "--add", "%064x" % number, "--name", "h1") for number in range(16)]
    assert added == [0] * 15 + [1] and len(pinned(tree).split()) == 16
    assert "16 keys are pinned" in capsys.readouterr().out


def test_where_the_files_cannot_be_used_nothing_is_added_to_them(tree, capsys):
    tree.put(order_key.FILE, "spoiled")
    assert trusting(tree, "--list") == 1 and "nothing is obeyed" in capsys.readouterr().out
    for words in (("--add", KEY), ("--remove", KEY)):
        assert trusting(tree, *words, "--name", "h1") == 1 and tree.text(order_key.FILE) == "spoiled"
    assert trusting(tree, KEY, "--name", "h1") == 0 and pinned(tree) == KEY


@pytest.mark.parametrize("words", [[], ["--add"], [KEY, "--add", KEY], ["--list", KEY], ["--add", "ab" * 8]])
def test_what_is_no_command_changes_nothing(tree, words):
    try:
        assert trusting(tree, *words) == 1
    except SystemExit as error:
        assert error.code == 2
    assert pinned(tree) == ""


def store(tree, **changes):
    slots = Slots(tree.path("var/lib/poolwarden"))
    slots.prepare()
    slots.load()
    slots.save(gate_state.encode(EMPTY._replace(**dict({"epoch": 1 << 60, "term": 1 << 40}, **changes))))


def resetting(tree, *words):
    return numbers.main([*words, "--root", tree.path("")])


def running(tree, allows=True):
    """A host side on the tree whose agent says that its gate is open."""
    side = HostSide(dom0(tree))
    word = Word("open" if allows else "shut", "so it is", allows, side.port.mono_ms())
    gate_file.say(tree.path(""), side.port.identity().boot_id, word)
    return side


def test_the_running_agent_forgets_them_at_roots_word(tree, capsys):
    store(tree)
    side = running(tree)
    assert resetting(tree, "--name", "h2") == 1 and side.executor.state.epoch
    assert resetting(tree, "--name", "h1") == 0 and "asked for" in capsys.readouterr().out
    GateWatch(side, tree.path("")).turn(False)
    assert (side.executor.state.epoch, side.executor.state.term) == (0, 0)
    assert (HostSide(dom0(tree)).executor.state.epoch, resetting(tree, "--name", "h2")) == (0, 1)


@pytest.mark.parametrize(
    "kept",
    [
        {"hold": Hold(3, "b", 1, "")},
        {"tombstone": Tombstone(3, "", "")},
        {"gc": 3},
        {"placed": Placed(3, 4, False)},
    ],
)
def test_what_an_old_number_protects_keeps_it(tree, capsys, kept):
    store(tree, **kept)
    side = running(tree)
    assert resetting(tree, "--name", "h1") == 1 and "the numbers stay" in capsys.readouterr().out
    gate_file.request(tree.path(""), gate_file.RESET, side.port.identity().boot_id, "root")
    GateWatch(side, tree.path("")).turn(False)
    assert side.executor.state.epoch == 1 << 60, "whoever left the request, the agent judges by itself"


def test_a_gate_that_is_not_open_and_an_agent_that_does_not_run_keep_it_too(tree, capsys):
    store(tree)
    assert resetting(tree, "--name", "h1") == 1 and "it does not run" in capsys.readouterr().out
    running(tree, allows=False)
    assert resetting(tree, "--name", "h1") == 1 and "gate is not open" in capsys.readouterr().out
