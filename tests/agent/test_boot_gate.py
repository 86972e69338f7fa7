"""The boot gate's rules, one by one and against each other."""

import itertools

import pytest

from poolwarden_agent.core import boot_gate, gate_state, host_now
from poolwarden_agent.core.boot_gate import (
    ACTS,
    ASKING,
    FOLLOWS,
    OPEN,
    SHUT,
    SILENT,
    UNGATED,
    UNTOLD,
    BootNow,
    Member,
    Word,
)

ME, OTHER, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NOW = BootNow("b2", ME, host_now.MASTER, 3, False, "b1", None, True, (), True, True, True, False, 0)
OURS = Member(OTHER, FOLLOWS, ME, False)
THEIRS = Member(THIRD, FOLLOWS, OTHER, True)
DEAD = Member(THIRD, FOLLOWS, OTHER, False)
ACTING = Member(OTHER, ACTS)
NOBODY = Member(OTHER, SILENT)
FILTERED = Member(THIRD, UNTOLD, text="port 80: no answer; answers ping")
ANOTHERS = Member(THIRD, FOLLOWS, "10.0.0.9", True, True)


def decide(state=gate_state.EMPTY, **changes):
    return boot_gate.decide(state, NOW._replace(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_conf": host_now.MEMBER},
        {"hosts": 1},
        {"ha_armed": True},
        {"promoted_in": "b2"},
        {"pool_conf": host_now.BROKEN},
    ],
)
def test_who_is_not_gated(changes):
    assert decide(**changes)[0] == UNGATED
    stone = gate_state.EMPTY._replace(tombstone=gate_state.Tombstone(4, "s", OTHER))
    assert decide(stone, **changes)[:2] == (SHUT, "it was superseded at term 4 by 10.0.0.2")  # a tombstone always is
    assert decide(stone, **changes).follow == OTHER


def test_a_held_toolstack_stays_so_over_a_boot():
    held = gate_state.EMPTY._replace(hold=gate_state.Hold(7, "b1", 0, "s"))
    assert decide(held, word=Word("open", "you are the master", 9)).state == SHUT


def test_the_collectors_word_comes_before_the_members():
    members = (OURS, OURS)
    shut = decide(word=Word("shut", "h2 succeeded it", 5, "s", OTHER), members=members)
    assert (shut.state, shut.final, shut.follow, shut.term) == (SHUT, True, OTHER, 5)
    assert decide(word=Word("open", "nobody else", 5), members=members).state == OPEN
    assert decide(word=Word("wait", "an off is unresolved", 5), members=members, waited_ms=10**7).state == ASKING
    assert decide(collector_silent=False, members=members).state == ASKING


@pytest.mark.parametrize("seen", [ACTING, ANOTHERS])
def test_no_word_lets_it_start_beside_a_master_that_it_sees_itself(seen):
    found = decide(word=Word("open", "nobody else serves", 5), members=(OURS, seen))
    assert (found.state, found.final, found.term) == (SHUT, False, 0), "no proof may rest on it, and it is asked again"
    assert "acts as master" in found.reason and "the collector says open: nobody else serves" in found.reason


def test_a_word_waits_for_the_members_first_answers_and_for_no_more():
    word = Word("open", "nobody else", 5)
    assert decide(word=word, members=(), members_asked=False).state == ASKING
    for seen in (FILTERED, NOBODY, DEAD, THEIRS):
        assert decide(word=word, members=(seen,), collector_silent=False).state == OPEN
    assert decide(word=Word("shut", "h2 succeeded it", 5, "s", OTHER), members_asked=False).state == SHUT


@pytest.mark.parametrize("others", [(), (OURS,), (NOBODY,), (DEAD,)])
def test_a_host_that_is_alive_and_tells_no_role_keeps_it_shut_for_ever(others):
    found = decide(members=(*others, FILTERED), waited_ms=10**8)
    assert found.state == SHUT and THIRD in found.reason and "answers ping" in found.reason


def test_what_a_collector_waited_for_is_waited_for_when_it_is_gone():
    gone = {"let_wait": "h2 is not heard", "waited_ms": 10**8}
    found = decide(members=(NOBODY,), **gone)
    assert found.state == SHUT and "h2 is not heard" in found.reason
    assert decide(members=(OURS,), **gone).state == OPEN, "its members have their say as before"
    assert decide(members=(OURS, NOBODY), **gone).state == SHUT, "unless one of them is dark"
    assert decide(members=(OURS, NOBODY), waited_ms=10**8).state == OPEN


def test_a_word_of_a_lower_term_is_no_word():
    known = gate_state.EMPTY._replace(term=6)
    assert decide(known, word=Word("open", "old", 5)).state == ASKING


@pytest.mark.parametrize(
    "members, state",
    [
        ((OURS,), OPEN),
        ((OURS, NOBODY), SHUT),
        ((OURS, DEAD), OPEN),
        ((OURS, THEIRS), SHUT),
        ((ACTING,), SHUT),
        ((OURS, ACTING), SHUT),
        ((THEIRS,), SHUT),
        ((NOBODY,), SHUT),
    ],
)
def test_without_a_collector_the_members_decide(members, state):
    found = decide(members=members)
    assert found.state == state and not found.final, "it is asked again until xapi has started"


def test_a_silent_member_may_be_a_master_whose_xapi_restarts():
    assert decide(members=(OURS, NOBODY), waited_ms=299999).state == SHUT
    assert decide(members=(OURS, NOBODY), waited_ms=300000).state == OPEN
    assert decide(members=(OURS, ACTING), waited_ms=300000).state == SHUT


def test_members_that_were_not_asked_yet_say_nothing():
    assert decide(members=(), members_asked=False).state == ASKING


def test_an_isolated_old_master_stays_shut_for_ever_and_one_on_a_live_network_for_five_minutes():
    for cut in ({"link_up": False}, {"gateway": False}):
        assert decide(members=(NOBODY,), waited_ms=10**8, **cut).state == SHUT
        assert decide(members=(DEAD,), waited_ms=10**8, **cut).state == SHUT
    assert decide(members=(NOBODY,), waited_ms=299999).state == SHUT
    opened = decide(members=(NOBODY,), waited_ms=300000)
    assert (opened.state, opened.final) == (OPEN, False)
    cut_off = decide(members=(NOBODY,), waited_ms=300000, gateway=None)
    assert cut_off.state == SHUT and "no gateway is known" in cut_off.reason, "a link alone proves no network"
    assert decide(members=(NOBODY,), waited_ms=300000, gateway=None, peer_heard=True).state == OPEN
    assert decide(members=(NOBODY,), waited_ms=300000, gateway=False, peer_heard=True).state == SHUT


def test_every_combination_has_one_answer_and_an_open_gate_has_a_witness_or_time():
    words = [None, Word("open", "w", 5), Word("shut", "w", 5), Word("wait", "w", 5)]
    members = [(), (OURS,), (THEIRS,), (DEAD,), (ACTING,), (NOBODY,), (OURS, THEIRS), (OURS, ACTING), (DEAD, NOBODY)]
    members += [(FILTERED,), (OURS, FILTERED), (ANOTHERS,)]
    states = [gate_state.EMPTY, gate_state.EMPTY._replace(tombstone=gate_state.Tombstone(4, "s", OTHER))]
    for word, silent, asked, link, gateway, waited, said, state in itertools.product(
        words, (False, True), (False, True), (False, True), (None, False, True), (0, 300000), members, states
    ):
        now = NOW._replace(
            word=word, collector_silent=silent, members_asked=asked, link_up=link, gateway=gateway, waited_ms=waited
        )
        found = boot_gate.decide(state, now._replace(members=said))
        assert found.state in (ASKING, SHUT, OPEN) and found.reason
        if found.state == OPEN:
            assert state.tombstone is None and asked and ACTING not in said and ANOTHERS not in said
            assert FILTERED not in said or word is not None
            alone = waited >= 300000 and (OURS in said or bool(link and gateway))
            assert (word is not None and word.decision == "open") or OURS in said or alone
            assert word is not None or (asked and silent)


@pytest.mark.parametrize("spelled", ["fd00::1", "FD00:0:0:0:0:0:0:1", "[fd00::1]", "fd00:0000::0001"])
def test_a_member_that_follows_this_host_may_spell_its_address_in_any_way(spelled):
    ours = Member("fd00::2", FOLLOWS, spelled, True, True)
    found = decide(address="fd00::1", members=(ours,), collector_silent=True, hosts=2)
    assert found.state == boot_gate.OPEN, found.reason
    theirs = Member("fd00::2", FOLLOWS, "[fd00::3]", True, True)
    assert decide(address="fd00::1", members=(theirs,), collector_silent=True, hosts=3).state == boot_gate.SHUT
