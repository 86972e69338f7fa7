"""The verdict table, exhaustively: every combination of signs has one verdict, and action needs its facts."""

import itertools

from poolwarden_collector.core.facts import Tri
from poolwarden_collector.core.verdict import Agent, Member, OwnProbe, Permit, Signs, Verdict, Witness, Xapi, judge

BOOL = (False, True)
ALL = list(
    itertools.starmap(
        Signs, itertools.product(Tri, BOOL, BOOL, BOOL, BOOL, BOOL, Agent, Xapi, Witness, OwnProbe, BOOL, Member)
    )
)


def test_every_combination_has_exactly_one_verdict_and_all_verdicts_occur() -> None:
    seen = {judge(signs) for signs in ALL}
    assert seen == set(Verdict)


def test_succession_needs_a_silent_master_and_more_than_silence() -> None:
    for s in ALL:
        if judge(s).permits is Permit.SUCCEED:
            assert s.agent in (Agent.SILENT, Agent.MUTE)
            assert s.witness is Witness.UNANSWERED or s.off_twice
            assert s.witness is not Witness.ANSWERED
            assert s.own is not OwnProbe.ANSWERED
            assert s.ha is not Tri.YES and not s.several_serve and not s.disputed and not s.blind and s.anyone_heard


def test_a_restart_needs_a_living_agent_that_sees_its_xapi_down_or_hung() -> None:
    for s in ALL:
        if judge(s).permits is Permit.RESTART:
            assert s.agent is Agent.HEARD and s.xapi in (Xapi.DOWN, Xapi.HUNG)
            assert s.ha is not Tri.YES and not s.several_serve


def test_healthy_means_that_everybody_is_fine() -> None:
    for s in ALL:
        if judge(s) is Verdict.HEALTHY:
            assert (s.agent, s.xapi, s.member) == (Agent.HEARD, Xapi.ANSWERS, Member.FINE)
            assert s.witness is not Witness.UNANSWERED


def test_each_verdict_has_a_word_and_a_meaning() -> None:
    assert len({v.word for v in Verdict}) == len(Verdict)
    assert all(v.meaning and not v.meaning.endswith(".") for v in Verdict)
