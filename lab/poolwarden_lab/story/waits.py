"""Time, expectations, and what is allowed to go wrong."""

from __future__ import annotations

from poolwarden_lab.story.grammar import Cast, Lexicon, Misfit
from poolwarden_lab.story.signs import Query, read_query
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.story.text import Word, duration, words

WAITS = Lexicon("command", "Time and expectations")
LIMIT_MS = 600_000


@WAITS.form("run TIME", "Time passes.")
def run(stage: Stage, ms: int) -> None:
    stage.run(ms)


def _with_limit(words: list[Word]) -> tuple[list[Word], int]:
    """The sign's words, and the limit behind ``within``. Raises Misfit."""
    if len(words) > 2 and words[-2].text == "within" and not words[-2].quoted:
        try:
            return words[:-2], duration(words[-1].text)
        except ValueError as error:
            raise Misfit(str(error)) from None
    return words, LIMIT_MS


def _check_until(cast: Cast, _: str | None, words: list[Word], __: object) -> None:
    read_query(cast, _with_limit(words)[0])


@WAITS.form(
    "run until [{no|not}] SIGN... [within TIME]",
    "Time passes until it is so; after 10 minutes (or TIME) that is a failure, and the story ends. Several signs with "
    "`or` between them: until one of them is so.",
    declare=_check_until,
)
def run_until(stage: Stage, negated: str | None, words: list[Word], _: object) -> None:
    words, limit = _with_limit(words)
    query = read_query(stage.cast, words)
    if not stage.run_until(lambda: query.ask(stage, negated is not None).so, limit):
        found = query.ask(stage, negated is not None).found
        raise StoryFailed(f"`{_said(negated, words)}` did not come within {limit / 1000:g} s: {found}")


@WAITS.form(
    "recover within TIME",
    "Time passes until every pool has recovered; where one has not by then, an alert must be open that says why.",
)
def recover(stage: Stage, ms: int) -> None:
    recovered, explained = (_query(stage, word) for word in ("recovered", "explained"))
    if not stage.run_until(lambda: recovered.ask(stage).so, ms):
        seen = explained.ask(stage)
        if not seen.so:
            raise StoryFailed(f"not recovered, and nobody is told: {seen.found}")
    stage.take_notes()


def _query(stage: Stage, text: str) -> Query:
    return read_query(stage.cast, words(text))


def _said(negated: str | None, words: list[Word]) -> str:
    said = " ".join(f'"{word.text}"' if word.quoted else word.text for word in words)
    return f"{negated} {said}" if negated else said


def _check_expect(cast: Cast, _: str | None, words: list[Word]) -> None:
    read_query(cast, words)


@WAITS.form(
    "expect [{no|not}] SIGN...",
    "It is so (or not so) now; otherwise the story has failed, and goes on. `SIGN or SIGN`: one of them (none) is so.",
    declare=_check_expect,
)
def expect(stage: Stage, negated: str | None, words: list[Word]) -> None:
    seen = read_query(stage.cast, words).ask(stage, negated is not None)
    if not seen.so:
        stage.problem(f"expected {_said(negated, words)}, but {seen.found}")


def _cast_mark(cast: Cast) -> None:
    cast.marked = True


@WAITS.form("mark", "From here on is what a sign with `since mark` behind it looks at.", declare=_cast_mark)
def set_mark(stage: Stage) -> None:
    stage.set_mark()


@WAITS.form("allow kill VM...", "A xapi may terminate these VMs in this story: invariant I17 does not count them.")
def allow_kill(stage: Stage, vms: list[str]) -> None:
    for pool in stage.world.pools.values():
        pool.invariants.expected_kills |= set(vms)


@WAITS.form("allow two masters TEXT", "Two masters may serve in this story, for this reason: I1 is not checked.")
def allow_two_masters(stage: Stage, why: str) -> None:
    for pool in stage.world.pools.values():
        pool.invariants.two_masters_allowed = why
