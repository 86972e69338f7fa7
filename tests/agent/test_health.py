"""xapi's health in one word, one sentence and what helps: the first that fits, from every single sign."""

import pytest

from poolwarden import xapi_health
from poolwarden_agent.core.health import Look, judge, plain_words, span
from poolwarden_agent.core.probe_rules import ANSWERS, DOWN, SILENT, STARTING, UNKNOWN

WELL = Look(
    tcp=ANSWERS, tcp_silent_ms=0, tcp_took_ms=3, socket=ANSWERS, socket_silent_ms=0, socket_took_ms=3, accepts=True,
    age_ms=90000, emergency=False, code="", orphaned=False, held=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "changes, word, text",
    [
        ({}, "answers", "xapi answers"),
        ({"tcp": UNKNOWN, "socket": UNKNOWN}, "unknown", "not been looked at"),
        ({"tcp": DOWN, "socket": DOWN, "age_ms": None}, "down", "does not run"),
        ({"tcp": DOWN, "socket": DOWN, "age_ms": None, "held": True}, "down", "held stopped by a toolstack fence"),
        ({"tcp": DOWN, "socket": DOWN}, "down", "lives and listens nowhere"),
        ({"tcp": STARTING, "socket": STARTING, "age_ms": 45000}, "starting", "for 45 s"),
        ({"tcp": STARTING, "socket": DOWN}, "starting", "for 90 s"),
        ({"tcp": SILENT, "tcp_silent_ms": 5000}, "slow", "has not answered on TCP 80 for 5 s"),
        ({"tcp": SILENT, "tcp_silent_ms": 15000}, "hung", "does not answer on TCP 80 for 15 s"),
        ({"socket": SILENT, "socket_silent_ms": 7200000}, "hung", "its local socket for 2 h"),
        ({"socket": DOWN, "socket_silent_ms": 200000}, "hung", "refuses connections on its local socket for 3 min"),
        ({"tcp": SILENT, "socket": SILENT, "accepts": False}, "wedged", "TCP 80 and its local socket"),
        ({"emergency": True, "code": "HOST_BROKEN"}, "emergency", "(HOST_BROKEN)"),
        ({"emergency": True, "code": "NEW_ONE"}, "emergency", "xapi says NEW_ONE"),
        ({"emergency": True}, "emergency", "it does not say why"),
        ({"orphaned": True}, "orphaned", "its VMs run on"),
        ({"emergency": True, "code": "HOST_BROKEN", "orphaned": True}, "emergency", "broken"),
        ({"socket_took_ms": 1500}, "slow", "took 1 s to answer"),
        ({"tcp": SILENT, "tcp_silent_ms": 60000, "orphaned": True}, "hung", "does not answer"),
        ({"accepts": False}, "answers", "xapi answers"),
    ],
)
def test_a_word(changes, word, text):
    found = judge(WELL._replace(**changes))
    assert found.word == word and text in found.text


def test_what_is_wrong_has_something_that_helps():
    for changes in (
        {"tcp": DOWN, "socket": DOWN, "age_ms": None},
        {"tcp": SILENT, "tcp_silent_ms": 20000},
        {"tcp": SILENT, "accepts": False},
        {"orphaned": True},
        {"emergency": True, "code": "?"},
    ):
        assert judge(WELL._replace(**changes)).help
    assert "systemctl stop" not in str(xapi_health.REASONS) and "xe-toolstack-restart" not in xapi_health.RESTART
    assert "restart" not in judge(WELL._replace(tcp=DOWN, socket=DOWN, age_ms=None, held=True)).help
    for accepts in (True, False):
        stopping = judge(WELL._replace(tcp=SILENT, tcp_silent_ms=60000, accepts=accepts, held=True))
        assert "being stopped" in stopping.text and "restart" not in stopping.help


@pytest.mark.parametrize("code", sorted(xapi_health.REASONS))
def test_every_code_has_words_and_a_way(code):
    words, helps = xapi_health.REASONS[code]
    assert code in plain_words(code) and words in plain_words(code) and helps
    assert judge(WELL._replace(emergency=True, code=code)).help == helps


def test_spans():
    assert [span(ms) for ms in (0, 119999, 120000, 7199999, 7200000)] == ["0 s", "119 s", "2 min", "119 min", "2 h"]
    assert plain_words("") == ""


def test_everything_that_it_says_helps_is_in_the_table_that_the_collector_shows() -> None:
    said = set()
    for tcp in (ANSWERS, DOWN, SILENT, STARTING, UNKNOWN):
        for sock in (ANSWERS, DOWN, SILENT, STARTING, UNKNOWN):
            for accepts in (True, False):
                for code in ("", "HOST_BROKEN", "NO_SUCH_CODE"):
                    for age, held in ((5000, False), (None, False), (5000, True)):
                        look = Look(tcp, 60000, 2000, sock, 60000, 2000, accepts, age, bool(code), code, True, held)
                        said.add(judge(look).help)
                        quiet = look._replace(tcp_silent_ms=0, socket_silent_ms=0, orphaned=False, emergency=False)
                        said.add(judge(quiet).help)
    assert len(said) > 5 and said - {""} <= xapi_health.HELPS
