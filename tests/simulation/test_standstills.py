"""Every stand-still has a command that ends it, its alert names it, and it is accepted when it is typed; or it ends by
itself, and its alert says so.

The table is held against the code: a new blocker or kind of question without an entry here fails. Most entries are
stories, beside this file or among the scenarios; what no story can bring about is brought about in the core itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.pool import Guarded, Host
from tests.core.test_silent_members import without_agent
from tests.core.test_toolstack import hung

from poolwarden_collector.core.asked import Ask
from poolwarden_collector.core.blockers import NEXT_STEP, Blocker
from poolwarden_collector.core.facts import OrderOutcome, Power
from poolwarden_collector.core.journal import Kind
from poolwarden_collector.core.orders import Order
from poolwarden_collector.core.policy import Policy
from poolwarden_lab.story import play
from poolwarden_lab.story.text import read_file

HERE = Path(__file__).parent
SCENARIOS = HERE.parent / "scenarios"


def here(name: str) -> Path:
    return HERE / "standstills" / f"{name}.txt"


STORIES: dict[Blocker, Path] = {
    Blocker.PAUSED: here("paused"),
    Blocker.UNAPPROVED: here("unapproved"),
    Blocker.NO_CLAIM: here("no-claim"),
    Blocker.NO_CANDIDATE: here("no-candidate"),
    Blocker.SUPERSEDED_COPY: SCENARIOS / "successor-dies-before-attachment.txt",
    Blocker.KILL_FORECAST: SCENARIOS / "s68.txt",
    Blocker.STALE_DATABASE: SCENARIOS / "s52.txt",
    Blocker.POWER_ON: here("power-on"),
    Blocker.NEEDS_HUMAN: here("needs-human"),
    Blocker.NO_MEMBER: here("no-member"),
    Blocker.SILENT_MEMBER: here("silent-member"),
    Blocker.ROLE_UNTOLD: SCENARIOS / "https-only-tells-before-it-is-off.txt",
    Blocker.LAST_LOOK: here("last-look"),
    Blocker.NOT_EVERYBODY: here("not-everybody"),
    Blocker.CANNOT_HOLD: here("cannot-hold"),
    Blocker.NO_WAY_BACK: SCENARIOS / "s81.txt",
    Blocker.PROMOTE_REFUSED: here("promote-refused"),
    Blocker.PROOF_NOT_RENEWED: here("proof-not-renewed"),
    Blocker.UNVERIFIED: here("unverified"),
    Blocker.UNHEARD_MEMBER: here("no-member"),
    Blocker.NOT_ASKED: here("not-asked"),
}
QUESTIONS: dict[Ask, Path] = {
    Ask.SHOOT: SCENARIOS / "s11-approve.txt",
    Ask.KILL: SCENARIOS / "s68.txt",
    Ask.STALE: SCENARIOS / "s52.txt",
    Ask.FAILOVER: SCENARIOS / "s17-ask.txt",
    Ask.TOOLSTACK: here("ask-toolstack"),
    Ask.RESTART: here("ask-restart"),
    Ask.REPAIR: here("ask-repair"),
    Ask.UNHEARD: SCENARIOS / "unheard-member-approved.txt",
}


# ------------------------------------------------------------------------------------------------ in the core itself


def quiet_members() -> Guarded:
    """NO_WITNESS: an operator lets a machine be powered off, and no member answers a fresh look."""
    g = Guarded(policy=Policy(quiet_time=3_000, auto_fence_running=True))
    g.cut_power()
    g.host(1).power = Power.ON

    def mute(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == "probe_now" else g.default(host, order)

    g.on_order = mute
    until(g, Blocker.NO_WITNESS)
    assert confirm(g, 1, despite_power_on="yes")
    g.on_order = None
    g.run(30_000)
    return g


def two_tongues() -> Guarded:
    """EVIDENCE_CONFLICT: the old master's agent says that its xapi is stopped, and it answers a member."""
    g = hung()

    def lies(host: Host, order: Order) -> OrderOutcome | None:
        answer = g.default(host, order)
        if order.kind_name == "toolstack_fence":
            g.host(1).answers, g.host(1).closed = True, False
        return answer

    g.on_order = lies
    until(g, Blocker.EVIDENCE_CONFLICT)
    g.run(200_000)  # it is undone by itself
    return g


def overtaken() -> Guarded:
    """TERM_PASSED: after the intent the pool's term is found to be higher than the failover's."""
    g = Guarded(devices=False)
    g.cut_power()
    g.run(30_000)

    def unheard(host: Host, order: Order) -> OrderOutcome | None:
        return None if order.kind_name == "promote" else g.default(host, order)

    g.on_order = unheard
    assert confirm(g, 1)
    while not g.has(Kind.PROMOTE_INTENT):
        g.run(250)
    for n in (2, 3):
        g.connect(g.host(n), highest_term=40)
    until(g, Blocker.TERM_PASSED)
    g.cut_power(2)
    g.run(60_000)
    assert confirm(g, 2)
    g.run(400_000)  # the quiet time after a journal was found short is over
    return g


def unasked() -> Guarded:
    """UNASKED_MEMBER: a member's agent is silent, and nobody's answer about it comes back."""
    g = without_agent()
    g.host(3).answers, g.host(3).power = False, Power.UNKNOWN
    g.run(5_000)
    g.cut_power()

    def untold(host: Host, order: Order) -> OrderOutcome | None:
        result = g.default(host, order)
        return replace(result, roles=()) if result is not None and order.kind_name == "probe_now" else result

    g.on_order = untold
    until(g, Blocker.UNASKED_MEMBER)
    assert confirm(g, 3)
    g.run(20_000)
    return g


def far_ahead() -> Guarded:
    """GENERATION: a member's copy is far ahead of everything that was seen of the master's."""
    g = Guarded()
    g.host(2).generation = 10**9
    g.run(4_000)
    g.cut_power()
    until(g, Blocker.GENERATION)
    assert g.pool.record.question is not None
    reply = g.say("approve", id=g.pool.record.question.id)
    assert reply is not None and reply.accepted, reply
    g.run(30_000)
    return g


IN_THE_CORE: dict[Blocker, Callable[[], Guarded]] = {
    Blocker.NO_WITNESS: quiet_members,
    Blocker.EVIDENCE_CONFLICT: two_tongues,
    Blocker.TERM_PASSED: overtaken,
    Blocker.UNASKED_MEMBER: unasked,
    Blocker.GENERATION: far_ahead,
}
ASKED_IN_THE_CORE: dict[Ask, Callable[[], Guarded]] = {Ask.GENERATION: far_ahead}


def until(g: Guarded, blocker: Blocker) -> None:
    for _ in range(4_000):
        if any(entry.kind is Kind.BLOCKED and entry.data["code"] == blocker.value for entry in g.journal):
            return
        g.run(250)
    raise AssertionError(f"{blocker.value} does not come: {[entry.text for entry in g.journal][-8:]}")


def confirm(g: Guarded, n: int, **more: str) -> bool:
    reply = g.say("confirm-fenced", n, typed_name=f"host-{n}", how="cord pulled", **more)
    assert reply is not None and reply.accepted, reply
    return True


# ------------------------------------------------------------------------------------------------ the walk

OVER = ("unblocked", "aborted", "superseded", "promoted", "promote-intent", "closed")


def test_every_blocker_and_every_question_is_in_the_table() -> None:
    assert set(STORIES) | set(IN_THE_CORE) == set(Blocker)
    assert set(QUESTIONS) | set(ASKED_IN_THE_CORE) == set(Ask)


@pytest.mark.parametrize("blocker", STORIES, ids=lambda blocker: blocker.name)
def test_a_blocker_ends(blocker: Blocker) -> None:
    played = play.play(read_file(STORIES[blocker]))
    assert not played.problems, "\n".join(played.problems)
    sources = [line.split(None, 2) for line in played.lines]
    at = next(n for n, line in enumerate(sources) if line[1] == "blocked" and line[2].startswith(f"{blocker.value}:"))
    assert any(line[1] in OVER for line in sources[at + 1 :]), "it stands still to the end of the story"


@pytest.mark.parametrize("blocker", IN_THE_CORE, ids=lambda blocker: blocker.name)
def test_a_blocker_ends_that_no_story_brings_about(blocker: Blocker) -> None:
    g = IN_THE_CORE[blocker]()
    at = next(n for n, e in enumerate(g.journal) if e.kind is Kind.BLOCKED and e.data["code"] == blocker.value)
    assert any(entry.kind.value in OVER for entry in g.journal[at + 1 :])


@pytest.mark.parametrize("kind", QUESTIONS, ids=lambda kind: kind.name)
def test_a_question_is_answered(kind: Ask) -> None:
    script = read_file(QUESTIONS[kind])
    played = play.play(script)
    assert not played.problems, "\n".join(played.problems)
    assert any(line.split(None, 2)[1] == "asked" for line in played.lines)
    assert any("operator approve" in line or "operator deny" in line for line in played.lines)


@pytest.mark.parametrize("kind", ASKED_IN_THE_CORE, ids=lambda kind: kind.name)
def test_a_question_is_answered_that_no_story_asks(kind: Ask) -> None:
    g = ASKED_IN_THE_CORE[kind]()
    assert any(entry.kind is Kind.ASKED and entry.data.get("kind") == kind.value for entry in g.journal)
    assert g.has(Kind.APPROVED) or g.has(Kind.DENIED)


@pytest.mark.parametrize("blocker", Blocker, ids=lambda blocker: blocker.name)
def test_its_alert_names_what_ends_it(blocker: Blocker) -> None:
    """In the table of next steps, or beside the block itself: a command, or that it goes on by itself."""
    step = NEXT_STEP.get(blocker, "")
    assert not step or "poolwarden " in step or "by itself" in step
