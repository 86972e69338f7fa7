"""Every stand-still has a command that ends it, its alert names it, and it is accepted when it is typed; or it ends by
itself, and its alert says so.

The table is held against the code: a new blocker or kind of question without an entry here fails. Most entries are
stories, beside this file or among the scenarios; what no story can bring about is brought about in the core itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.decision.test_silent_members import without_agent
from tests.core.failover.test_toolstack import hung
from tests.core.followups.test_gc_release import left_behind
from tests.core.pool import Guarded, Host, address, uuid
from tests.core.recovery.test_adopted_holds import held

from poolwarden_collector.core.followups import gc_release, overdue_work
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model.asks import Ask, Tell
from poolwarden_collector.core.model.blockers import NEXT_STEP, Blocker
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Liveness
from poolwarden_collector.core.model.order_results import OrderOutcome
from poolwarden_collector.core.model.orders import Order
from poolwarden_collector.core.model.policy import Policy
from poolwarden_collector.core.model.power import Power
from poolwarden_collector.core.model.values import Role, Tri
from poolwarden_collector.core.recovery.adopted_holds import Held
from poolwarden_collector.core.state.pool_record import OwedWork, apply
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
    Blocker.ASSUMPTION: SCENARIOS / "assumption-only-candidate-asked-about.txt",
}
QUESTIONS: dict[Ask, Path] = {
    Ask.SHOOT: SCENARIOS / "s11-approve.txt",
    Ask.KILL: SCENARIOS / "s68.txt",
    Ask.STALE: SCENARIOS / "s52.txt",
    Ask.FAILOVER: SCENARIOS / "s17-ask.txt",
    Ask.TOOLSTACK: here("ask-toolstack"),
    Ask.RESTART: here("ask-restart"),
    Ask.REPAIR: here("ask-repair"),
    Ask.RECOVER: here("ask-recover"),
    Ask.UNHEARD: SCENARIOS / "unheard-member-approved.txt",
    Ask.OTHER_COPY: SCENARIOS / "new-master-on-a-database-that-does-not-load.txt",
    Ask.ASSUMPTION: SCENARIOS / "assumption-only-candidate-asked-about.txt",
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


def no_copy_is_sound() -> Guarded:
    """UNSOUND_DATABASE: no member has a copy that xapi could load, as far as their agents see."""
    g = Guarded()
    for n in (2, 3):
        g.host(n).sound = Tri.NO
    g.run(4_000)
    g.cut_power()
    until(g, Blocker.UNSOUND_DATABASE)
    assert g.pool.record.question is not None
    reply = g.say("approve", id=g.pool.record.question.id)
    assert reply is not None and reply.accepted, reply
    g.run(30_000)
    return g


def a_new_master_that_loops() -> Guarded:
    """NEW_MASTER_LOOPS: its xapi ends and begins again, and stays from some moment on."""
    g = Guarded()
    g.run(4_000)
    g.cut_power()
    new = g.host(2)
    new.unasked_starts, new.ended_at = 3, 10**9
    until(g, Blocker.NEW_MASTER_LOOPS)
    assert not g.has(Kind.CLOSED)
    new.unasked_starts = 0
    g.run(30_000)
    return g


IN_THE_CORE: dict[Blocker, Callable[[], Guarded]] = {
    Blocker.NO_WITNESS: quiet_members,
    Blocker.EVIDENCE_CONFLICT: two_tongues,
    Blocker.TERM_PASSED: overtaken,
    Blocker.UNASKED_MEMBER: unasked,
    Blocker.GENERATION: far_ahead,
    Blocker.UNSOUND_DATABASE: no_copy_is_sound,
    Blocker.NEW_MASTER_LOOPS: a_new_master_that_loops,
}
ASKED_IN_THE_CORE: dict[Ask, Callable[[], Guarded]] = {Ask.GENERATION: far_ahead, Ask.UNSOUND: no_copy_is_sound}


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


# ------------------------------------------------------------------------------------------------ told, owed, held


def too_few() -> Guarded:
    """Tell.VANISHED: too few members are heard. It ends by itself when enough are."""
    g = Guarded(policy=Policy(quiet_time=3_000, min_survivors=2))
    g.run(4_000)
    g.cut_power(3)
    g.cut_power()
    g.run(60_000)
    assert told(g, Tell.VANISHED)
    g.host(3).agent = g.host(3).answers = True
    g.host(3).power = Power.ON
    g.connect(g.host(3))
    g.run(60_000)
    return g


def nobody() -> Guarded:
    """Tell.NO_MASTER: the master is a member after all, and another host is silent. A word about that one ends it."""
    g = Guarded(devices=False)
    g.run(4_000)
    silence(g, 3)
    host = g.host(1)
    host.pool_conf = host.running = Role.MEMBER
    host.master_address, host.serves = address(2), False
    g.run(120_000)
    assert told(g, Tell.NO_MASTER)
    assert confirm(g, 3)
    g.run(120_000)
    return g


def split() -> Guarded:
    """Tell.SPLIT: nobody could see that its port is closed. It ends by itself when its members reach it again."""
    g = Guarded(policy=Policy(quiet_time=3_000, relocate_split=True, collector_probe=False))
    g.run(4_000)
    g.host(1).answers = False
    g.run(300_000)
    assert told(g, Tell.SPLIT)
    g.host(1).answers = True
    g.run(60_000)
    return g


def xapi() -> Guarded:
    """Tell.XAPI: neither restart nor succession. It ends by itself when xapi answers again."""
    g = hung(min_survivors=3)
    g.run(300_000)
    assert told(g, Tell.XAPI)
    host = g.host(1)
    host.liveness = host.socket = Liveness.ANSWERS
    host.unwell_since, host.answers, host.serves = None, True, True
    g.run(120_000)
    return g


TOLD: dict[Tell, Callable[[], Guarded]] = {
    Tell.VANISHED: too_few,
    Tell.NO_MASTER: nobody,
    Tell.SPLIT: split,
    Tell.XAPI: xapi,
}


def told(g: Guarded, kind: Tell) -> bool:
    return any(entry.kind is Kind.ASKED and entry.data.get("told") == kind.value for entry in g.journal)


def silence(g: Guarded, n: int) -> None:
    host = g.host(n)
    host.agent = host.answers = False
    host.power = Power.UNKNOWN
    g.feed(ev.AgentGone(host.uuid, host.stream))


def owing(what: OwedWork, power: Power = Power.UNKNOWN) -> Guarded:
    """A pool that owes host 3 something, which is silent for long enough that it is told."""
    g = Guarded(devices=what is not OwedWork.WAKE)
    g.run(4_000)
    if what is OwedWork.WAKE:  # owed after a failover, and its device cannot do it
        g.cut_power()
        g.run(30_000)
        assert confirm(g, 1)
        g.run(60_000)
    silence(g, 3)
    g.host(3).power = power
    g.run(10_000)
    data = {"host": uuid(3), "what": what.value, "successor": uuid(1)}
    data |= {"boot_id": g.host(3).boot, "by": "poolwarden"}
    entry = Entry(Kind.OWED, f"host-3 is owed: {what.value}", data, "", g.pool.record.term)
    g.journal.append(entry)
    g.pool = replace(g.pool, record=apply(g.pool.record, entry))
    g.run(120_000)
    return g


def back(g: Guarded) -> None:
    """Its machine has power and has booted, and its agent is heard: what is owed is paid."""
    host = g.host(3)
    host.boot, host.agent, host.answers, host.power = "boot-3-2", True, True, Power.ON
    g.connect(host)


def back_held(g: Guarded) -> None:
    g.hold_toolstack(g.host(3), g.pool.record.term)
    back(g)


OWED: dict[OwedWork, tuple[Power, Callable[[Guarded], None]]] = {
    OwedWork.TOMBSTONE: (Power.UNKNOWN, back),
    OwedWork.REPOINT: (Power.UNKNOWN, back),
    OwedWork.RELEASE: (Power.UNKNOWN, back_held),
    OwedWork.REMOVE_DATABASE: (Power.UNKNOWN, back),
    OwedWork.WAKE: (Power.UNKNOWN, back),  # or ``poolwarden fence on host-3``, as its alert says
    OwedWork.DECLARE_DEAD: (Power.UNKNOWN, back),
}


def toolstack_held() -> tuple[Guarded, str]:
    g = held()
    g.run(90_000)
    g.say("release", 1, as_master="yes", typed_name="host-1")
    g.run(20_000)
    return g, "/hold-"


def collecting_held() -> tuple[Guarded, str]:
    g = left_behind()
    g.run(120_000)
    reply = g.say("release", 2, gc="yes", typed_name="host-2")
    assert reply is not None and reply.accepted, reply
    g.run(20_000)
    return g, "/gc-"


HELD: dict[Held, Callable[[], tuple[Guarded, str]]] = {
    Held.TOOLSTACK: toolstack_held,
    Held.COLLECTING: collecting_held,
}


def test_whatever_is_told_owed_or_held_is_in_the_table() -> None:
    assert set(TOLD) == set(Tell)
    assert set(OWED) == set(OwedWork)
    assert set(HELD) == set(Held)


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.name)
def test_what_is_told_is_over_one_day(kind: Tell) -> None:
    g = TOLD[kind]()
    told_of = {e.data["key"] for e in g.journal if e.kind is Kind.ALERT and "/refused/" in e.data["key"]}
    assert told_of and not told_of & set(g.pool.record.open_alerts)


@pytest.mark.parametrize("what", OWED, ids=lambda what: what.name)
def test_what_is_owed_is_told_with_its_end_and_ends(what: OwedWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue_work, "LONG_MS", 60_000)
    power, ends = OWED[what]
    g = owing(what, power)
    key = f"{g.pool.record.pool}/overdue-{uuid(3)}/{what.value}"
    body = next(e.data["body"] for e in g.journal if e.kind is Kind.ALERT and e.data["key"] == key)
    assert "poolwarden " in body or "it is done when it is" in body
    ends(g)
    g.run(60_000)
    assert not any(item.host == uuid(3) for item in g.pool.record.owed) and key not in g.pool.record.open_alerts


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.name)
def test_what_is_held_is_told_with_the_command_that_ends_it(kind: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_release, "LONG_MS", 60_000)
    g, key = HELD[kind]()
    alert = next(e.data for e in g.journal if e.kind is Kind.ALERT and key in e.data["key"])
    assert "poolwarden release " in alert["body"]
    assert not any(key in each for each in g.pool.record.open_alerts)
    assert not any(h.hold is not None or h.gc_term for h in g.hosts)


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
    assert not {"HOST", "POOL", "NAME", "ID"} & set(re.findall(r"[A-Z]+", step)), "a placeholder cannot be typed"
