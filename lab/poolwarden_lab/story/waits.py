"""Time, expectations, and what is allowed to go wrong."""

from __future__ import annotations

import contextlib
from typing import Any

from poolwarden_lab.story.grammar import Cast, Form, Lexicon, Misfit, Unreadable
from poolwarden_lab.story.signs import SIGNS, Seen, explained, recovered
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.story.text import Word, duration

WAITS = Lexicon("command", "Time and expectations")
LIMIT_MS = 600_000


@WAITS.form("run TIME", "Time passes.")
def run(stage: Stage, ms: int) -> None:
    stage.run(ms)


def _sign(cast: Cast, words: list[Word]) -> tuple[Form, list[Any]]:
    try:
        return SIGNS.fit(words, cast)
    except Unreadable as error:
        raise Misfit(str(error)) from None


def _with_limit(cast: Cast, words: list[Word]) -> tuple[list[Word], int]:
    """The sign's words, and the limit behind ``within``. ``promotion within 20s`` keeps its own."""
    if len(words) > 2 and words[-2].text == "within" and not words[-2].quoted:
        try:
            return words[:-2], duration(words[-1].text)
        except ValueError as error:
            raise Misfit(str(error)) from None
    return words, LIMIT_MS


def _check_until(cast: Cast, _: str | None, words: list[Word], __: object) -> None:
    _sign(cast, _with_limit(cast, words)[0])


@WAITS.form(
    "run until [{no|not}] SIGN... [within TIME]",
    "Time passes until it is so; after 10 minutes (or TIME) that is a failure, and the story ends.",
    declare=_check_until,
)
def run_until(stage: Stage, negated: str | None, words: list[Word], _: object) -> None:
    words, limit = _with_limit(stage.cast, words)
    form, args = _sign(stage.cast, words)
    said = " ".join(word.text for word in words)
    stage.run_until(lambda: form.act(stage, *args).so is (negated is None), limit, f"{negated or ''} {said}".strip())


@WAITS.form(
    "recover within TIME",
    "Time passes until the pool has recovered; where it has not by then, an alert must be open that says why.",
)
def recover(stage: Stage, ms: int) -> None:
    ends = stage.world.now + ms
    with contextlib.suppress(TimeoutError):
        stage.world.pool.run_while(lambda: not recovered(stage).so, ends)
    seen: Seen = explained(stage)
    if not seen.so:
        raise StoryFailed(f"not recovered, and nobody is told: {seen.found}")
    stage.take_notes()


def _check_expect(cast: Cast, _: str | None, words: list[Word]) -> None:
    _sign(cast, words)


@WAITS.form(
    "expect [{no|not}] SIGN...",
    "It is so (or not so) now; otherwise the story has failed, and goes on.",
    declare=_check_expect,
)
def expect(stage: Stage, negated: str | None, words: list[Word]) -> None:
    form, args = _sign(stage.cast, words)
    seen: Seen = form.act(stage, *args)
    if seen.so is (negated is not None):
        said = " ".join(f'"{word.text}"' if word.quoted else word.text for word in words)
        stage.problem(f"expected {negated + ' ' if negated else ''}{said}, but {seen.found}")


@WAITS.form(
    "allow kill VM...", "These VMs may be terminated by a xapi in this story: invariant I17 does not count them."
)
def allow_kill(stage: Stage, vms: list[str]) -> None:
    stage.world.invariants.expected_kills |= set(vms)


@WAITS.form("allow two masters TEXT", "Two masters may serve in this story, for this reason: I1 is not checked.")
def allow_two_masters(stage: Stage, why: str) -> None:
    stage.world.invariants.two_masters_allowed = why
