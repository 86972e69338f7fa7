"""The catalogue of messages: complete, unambiguous, short enough, in words that an administrator knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from string import Formatter

import pytest

from poolwarden_collector.core.catalogue import failovers, hosts, journal, ownership, questions, verdicts
from poolwarden_collector.core.catalogue.message import LINE_LIMIT, Message, clip
from poolwarden_collector.core.evidence.verdict import Permit, Verdict
from poolwarden_collector.core.model.asks import Ask, Tell
from poolwarden_collector.core.model.blockers import Blocker

ROOT = Path(__file__).parents[3]
ALL = (*verdicts.ALL, *failovers.ALL, *questions.ALL, *hosts.ALL, *journal.ALL, *ownership.ALL)
# Words of the engine that mean nothing to who has never read its documents.
JARGON = re.compile(r"\b(tombstones?|terms?|epochs?|owed?|standing|claimed|BLOCKED_\w+|fold|gate_term)\b")


def lines(message: Message) -> tuple[str, ...]:
    return (message.died, message.did, message.you, message.open)


def test_each_id_is_one_message_and_an_anchor() -> None:
    ids = [message.id for message in ALL]
    assert len(ids) == len(set(ids))
    assert [each for each in ids if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each)] == []


def test_each_question_and_each_refusal_has_its_message() -> None:
    assert set(questions.QUESTIONS) == set(Ask) and set(questions.REFUSALS) == set(Tell)


def test_each_blocker_and_each_verdict_that_has_an_alert_has_its_message() -> None:
    assert set(failovers.BLOCKERS) == set(Blocker)
    told = {verdict.word for verdict in Verdict if verdict.permits not in (Permit.NOTHING, Permit.OBSERVE)}
    assert told <= set(verdicts.BY_WORD)
    assert {word for word in verdicts.BY_WORD if " " not in word} <= {verdict.word for verdict in Verdict}


@pytest.mark.parametrize("message", ALL, ids=lambda message: message.id)
def test_a_message_is_whole_short_and_plain(message: Message) -> None:
    assert message.severity in ("info", "warning", "critical")
    assert all((message.title, *lines(message), message.means, message.ends))
    texts = (message.title, *lines(message), message.means, message.ends)
    assert [text for text in texts if JARGON.search(re.sub(r"\{\w+\}", "", text))] == []
    # A name or an address of 40 characters for each word, and a sentence where one stands for a whole line.
    for text in lines(message):
        fixed = "".join(literal for literal, *_ in Formatter().parse(text))
        assert len(fixed) <= LINE_LIMIT, text


def test_the_runbook_is_what_the_catalogue_says() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "packaging/develop/runbook"], stdout=subprocess.PIPE, text=True, check=True
    )
    assert (ROOT / "docs/runbook.md").read_text() == made.stdout, "make runbook"


def test_a_line_that_is_too_long_ends_at_a_word_and_says_so() -> None:
    text = "word " * 60
    assert len(clip(text)) <= LINE_LIMIT
    assert clip(text).endswith("word ...")
    assert clip("a\nb   c") == "a b c"
    assert clip("x" * LINE_LIMIT) == "x" * LINE_LIMIT


def test_half_a_command_is_never_told() -> None:
    words = {"pool": "lab", "master": "h1", "address": "a", "running": "1 VM runs on h2", "there": "", "old": "h1"}
    long = "make sure of it, " * 10 + "then: poolwarden release h1 --as-master"
    told = failovers.BLOCKERS[Blocker.NO_CLAIM].told({**words, "why": "so", "step": long})
    assert "release" not in told.lines[2] and "poolwarden explain lab" in told.lines[2]
    short = "poolwarden release h1 --as-master"
    assert failovers.BLOCKERS[Blocker.NO_CLAIM].told({**words, "why": "so", "step": short}).lines[2] == short


def test_what_an_announcement_covers_has_a_message_of_its_own() -> None:
    """A master is called lost where it may be, and nowhere else."""
    covered = {verdict for verdict in Verdict if verdict.entails.told_when_covered}
    assert {verdict.word for verdict in covered} == set(verdicts.COVERED)
    lost = {verdict for verdict in covered if verdicts.COVERED[verdict.word].id == "lost-while-held"}
    assert lost == {Verdict.VANISHED, Verdict.UNWITNESSED}
