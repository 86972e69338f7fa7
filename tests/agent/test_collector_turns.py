"""Which collector is dialled next: in turn, each with its own pause, where one sends to, and never round in circles."""

import pytest

from poolwarden_agent.core import collector_turns
from poolwarden_agent.core.collector_turns import Turns, first_of, joined, parsed

A, B, C, D = (("10.0.0.%d" % number, 7443) for number in (1, 2, 3, 4))


def due(turns, now):
    address, wait_s = turns.next(now)
    return address, round(wait_s, 3)


def dialled(turns, now=0.0):
    address, wait_s = turns.next(now)
    assert wait_s == 0.0
    return address


@pytest.mark.parametrize(
    "said, address",
    [
        ("a.example:7443", ("a.example", 7443)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[fd00::1]:65535", ("fd00::1", 65535)),
        ("[fe80::x]:1", None),
        ("fd00::1:7443", None),
        ("a:0", None),
        ("a:65536", None),
        ("a:99999999", None),
        ("a", None),
        (":1", None),
        ("", None),
        ("a b:1", None),
        ("a\n:1", None),
        ("a:1\n", None),
        ("-a:1", None),
        ("unix:/run/x:1", None),
        ("dns://1.2.3.4/a:1", None),
        ("a" * 254 + ":1", None),
        ("\u0661\u0660:1", None),
        ("a:\u0661", None),
    ],
)
def test_an_address_as_a_collector_says_it(said, address):
    assert parsed(said) == address
    if address is not None:
        assert joined(address) == said


def test_hosts_begin_all_over_the_list_and_each_always_at_the_same():
    begun = [first_of("host-%d" % number, 3) for number in range(300)]
    assert begun == [first_of("host-%d" % number, 3) for number in range(300)]
    assert all(70 < begun.count(number) < 130 for number in range(3))
    assert dialled(Turns([A, B, C], 2)) == C


def test_a_failure_makes_the_next_one_due_at_once_and_itself_wait():
    turns = Turns([A, B, C], 1)
    seen = []
    for _ in range(3):
        seen.append(dialled(turns))
        turns.failed(seen[-1], 0.0, 1.0)
    assert seen == [B, C, A]
    assert due(turns, 0.0) == (B, 0.6) and dialled(turns, 0.6) == B


def test_pauses_grow_to_five_seconds_and_a_welcome_ends_them():
    turns, now, waits = Turns([A]), 0.0, []
    for _ in range(6):
        turns.failed(A, now, 1.0)
        waits.append(round(turns.next(now).wait_s, 3))
        now += waits[-1]
    assert waits == [0.6, 1.2, 2.4, 4.8, 5.0, 5.0]
    turns.welcomed(A, now)
    turns.ended(A, now, 1.0)
    assert due(turns, now) == (A, 0.6)
    turns.failed(A, now + 0.6, 1.0)
    assert due(turns, now + 0.6) == (A, 0.6)


def test_the_one_that_welcomed_is_dialled_first_when_its_stream_ends():
    turns = Turns([A, B, C])
    turns.failed(A, 0.0, 1.0)
    assert dialled(turns) == B
    turns.welcomed(B, 0.0)
    turns.ended(B, 50.0, 1.0)
    assert due(turns, 50.0) == (B, 0.6), "not A, although its pause is over"
    turns.failed(B, 50.6, 1.0)
    assert dialled(turns, 50.6) == C


def test_where_it_is_sent_it_goes_whatever_the_others_are():
    turns = Turns([A, B, C])
    assert turns.sent(A, C, 0.0) == "" and dialled(turns) == C
    turns.failed(C, 0.0, 1.0)
    assert dialled(turns) == A, "A may know better by now"


def test_one_that_is_not_on_the_list_is_forgotten_with_its_first_failure():
    turns = Turns([A, B])
    turns.sent(A, D, 0.0)
    assert dialled(turns) == D
    turns.welcomed(D, 0.0)
    turns.ended(D, 100.0, 1.0)
    assert due(turns, 100.0) == (D, 0.6)
    turns.failed(D, 101.0, 1.0)
    assert dialled(turns, 101.0) == B
    turns.failed(B, 101.0, 1.0)
    assert dialled(turns, 101.0) == A


def test_an_owner_that_is_named_and_not_there_is_dialled_ever_more_rarely():
    """The one that names it is asked each time: so it must not be asked often."""
    turns, now, dials = Turns([A, B]), 0.0, 0
    while now < 12.0:
        turns.sent(A, D, now)
        now += turns.next(now).wait_s
        dials += 1
        turns.failed(D, now, 1.0)
    assert dials <= 6


@pytest.mark.parametrize("way", [[(A, B), (B, A)], [(A, A)], [(A, D), (D, B), (B, A)]])
def test_a_circle_waits_twice_as_long_each_time_up_to_a_minute(way):
    turns, now, rests = Turns([A, B, C]), 0.0, []
    for _ in range(8):
        for sender, to in way:
            said = turns.sent(sender, to, now)
            address, wait_s = turns.next(now)
            assert address == to
            if said:
                assert joined(sender) in said and joined(to) in said
                rests.append(wait_s)
                now += wait_s
    assert rests == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_long_chain_that_repeats_nobody_is_a_circle_too():
    turns = Turns([A])
    said = [turns.sent(("10.1.0.%d" % n, 1), ("10.1.0.%d" % (n + 1), 1), 0.0) for n in range(9)]
    assert said[:8] == [""] * 8 and "on and on" in said[8]


def test_a_welcome_ends_a_circle_only_if_it_lasts():
    turns = Turns([A, B])
    for stays_s, odd in ((1.0, True), (collector_turns.STAYED_S, False)):
        assert turns.sent(A, B, 0.0) == ""
        turns.welcomed(B, 0.0)
        assert bool(turns.sent(B, A, stays_s)) is odd
        turns.welcomed(A, 100.0)
        turns.ended(A, 200.0, 1.0)


def test_a_stream_that_is_not_welcomed_has_its_time_and_each_time_more():
    turns, limits = Turns([A, B]), []
    for _ in range(7):
        limits.append(turns.welcome_within_s(A))
        turns.not_welcomed(A)
    assert limits == [20, 40, 80, 160, 320, 600, 600] and turns.welcome_within_s(B) == 20
    turns.welcomed(A, 0.0)
    assert turns.welcome_within_s(A) == 20
    assert Turns([A]).welcome_within_s(A) is None, "there is nothing better"


def test_what_is_known_of_strangers_does_not_gather():
    turns = Turns([A])
    for number in range(10000):
        stranger = ("10.%d.%d.9" % (number // 250, number % 250), 1)
        turns.sent(A, stranger, number * 1.0)
        turns.failed(stranger, number * 1.0, 1.0)
    assert max(len(turns._not_before), len(turns._failures), len(turns._unwelcome)) < 100
