"""Playing a story: read it, do its commands one after the other, give the log and a verdict on it.

Exit codes: 0 as expected; 1 an expectation failed, something waited for did not come, or the golden log differs; 2 an
invariant broke, or the code under test raised an error; 3 the story cannot be read. A story is read to its end before
its first command is done.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from poolwarden_lab.story import faults, hosts, moments, people, settings, several, waits
from poolwarden_lab.story.grammar import Cast, Form, Lexicon, Misfit, Unreadable
from poolwarden_lab.story.signs import Query, read_query
from poolwarden_lab.story.stage import Stage, StoryFailed
from poolwarden_lab.story.text import GOLDEN, Line, Script, StoryError, duration, words
from poolwarden_lab.virtual.checks.invariants import InvariantBroken
from poolwarden_lab.virtual.world.ground import NoSuchThing

AS_EXPECTED, DIFFERS, BROKEN, UNREADABLE = 0, 1, 2, 3

CHAPTERS = (
    settings.SETTINGS,
    waits.WAITS,
    hosts.HOSTS,
    hosts.XAPI,
    hosts.FILES,
    hosts.GUESTS,
    hosts.AGENTS,
    hosts.ROOT,
    faults.NETWORK,
    faults.DEVICES,
    faults.COLLECTORS,
    several.SEVERAL,
    people.OPERATORS,
    people.XE,
)
COMMANDS = Lexicon("command", "Commands")
COMMANDS.forms = [form for chapter in CHAPTERS for form in chapter.forms]

_MOMENTS = {word for form in moments.MOMENTS.forms for word in form.openings()} - {"journal"}
_AT = re.compile(r"at (\+?)(\S+?):? (.+)")
_WHEN = re.compile(r'(after|before) ((?:"[^"]*"|[^":])+): (.+)')
_EVERY = re.compile(r"every (\S+) for (\S+?):? (.+)")
_NTH = re.compile(r"(\d+)(?:st|nd|rd|th) (.+)|(every) (.+)")


@dataclass(frozen=True)
class Step:
    """One command that has been read. ``when`` is None for a plain one."""

    line: int
    text: str
    form: Form
    args: list[Any]
    when: At | When | Every | None = None
    tried: bool = False  # done only if it can be done then

    @property
    def setup(self) -> bool:
        return self.form in settings.SETTINGS.forms


@dataclass(frozen=True)
class At:
    relative: bool
    ms: int


@dataclass(frozen=True)
class Every:
    ms: int
    during: int


@dataclass(frozen=True)
class When:
    """``nth`` None: each time. A query: the moment is that a sign becomes true."""

    word: str
    nth: int | None
    moment: tuple[Form, list[Any]] | Query
    delay: int


@dataclass
class Played:
    """What came of a story."""

    code: int
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # with file and line
    diff: list[str] = field(default_factory=list)
    events: int = 0
    virtual_ms: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # journal kinds


# ------------------------------------------------------------------------------------------------ reading


def read(script: Script) -> tuple[Cast, list[Step]]:
    """Every command of a story. Raises StoryError for the first that is wrong."""
    cast = Cast(several=_several(script))
    steps = [_step(script, line, cast) for line in script.lines]
    if not steps:
        raise StoryError(script.name, 1, "this story has no command; begin with `pool 3`, then `start`")
    if not cast.started:
        raise StoryError(script.name, script.lines[-1].number, "the story never says `start`")
    return cast, steps


def _several(script: Script) -> bool:
    """Does the story set up more than one pool? Then hosts carry their pool's name."""
    openings = [line.text.split() for line in script.lines]
    single = sum(words[0] == "pool" for words in openings)
    return single > 1 or any(words[0] == "pools" for words in openings)


def _step(script: Script, line: Line, cast: Cast) -> Step:
    try:
        when, text = _moment(line.text, cast)
        tried, text = text.startswith("try "), text.removeprefix("try ")
        form, args = COMMANDS.fit(words(text), cast)
        setup = form in settings.SETTINGS.forms
        if setup and cast.started:
            raise Unreadable(f"`{text}` belongs before `start`")
        if not setup and not cast.started:
            raise Unreadable(f"`{text}` belongs behind `start`")
        if when is not None and (setup or text.startswith("run ")):
            raise Unreadable(f"`{text}` cannot be done at a moment")
        if form.declare is not None:
            form.declare(cast, *args)
    except (Unreadable, Misfit, ValueError) as error:
        raise StoryError(script.name, line.number, str(error)) from None
    return Step(line.number, line.text, form, args, when, tried)


def _moment(text: str, cast: Cast) -> tuple[At | When | Every | None, str]:
    """What stands before the command, and the command."""
    if match := _AT.fullmatch(text):
        return At(bool(match.group(1)), duration(match.group(2))), match.group(3)
    if match := _EVERY.fullmatch(text):
        return Every(duration(match.group(1)), duration(match.group(2))), match.group(3)
    if match := _WHEN.fullmatch(text):
        return _when(match.group(1), match.group(2), cast), match.group(3)
    first = text.split()[0]
    if first in ("at", "every"):
        raise Unreadable(f"write `at 90s COMMAND`, `at +5s COMMAND` or `every 8s for 10m COMMAND`, not {text!r}")
    if first in ("after", "before"):
        raise Unreadable(
            f"write `{first} MOMENT: COMMAND`; a moment is `journal promote-intent`, `2nd order claim` ..."
        )
    return None, text


def _when(word: str, text: str, cast: Cast) -> When:
    delay = 0
    if match := re.fullmatch(r"(.+) \+(\S+)", text):
        text, delay = match.group(1), duration(match.group(2))
    nth: int | None = 1
    if match := _NTH.fullmatch(text):
        nth = int(match.group(1)) if match.group(1) else None
        text = match.group(2) or match.group(4)
    given = words(text)
    if given[0].text in _MOMENTS or (given[0].text == "journal" and len(given) == 2):
        return When(word, nth, moments.MOMENTS.fit(given, cast), delay)
    if word == "before":
        raise Unreadable("before: journal KIND, order WORD or effect WORD")
    return When(word, nth, read_query(cast, given), delay)


# ------------------------------------------------------------------------------------------------ doing


class Onlooker(Protocol):
    """Whoever looks on while a story is played."""

    def look(self) -> None:
        """After each event of the world."""


def play(script: Script, beside: Callable[[Stage], Onlooker] | None = None) -> Played:
    """Read and play a story, and compare its log with the golden one if it has one; ``beside`` makes an onlooker."""
    try:
        cast, steps = read(script)
    except StoryError as error:
        return Played(UNREADABLE, problems=[str(error)])
    stage = Stage(cast)
    stage.beside = beside(stage).look if beside is not None else None
    played = Played(AS_EXPECTED)
    try:
        for step in steps:
            stage.line = step.line
            do(stage, step)
        stage.world.finish()
    except InvariantBroken as error:
        broken = str(error).splitlines()[0]
        if stage.started:
            stage.take_notes()
            stage.book.note(stage.world.now, "breach", f"invariant {broken}")
        played.problems.append(f"{script.name}:{stage.line}: invariant {broken}")
        played.code = BROKEN
    except (StoryFailed, Unreadable, Misfit) as error:
        stage.problem(str(error))
    except Exception as error:  # whatever the code under test raises is a finding, and the next story is played
        where = traceback.extract_tb(error.__traceback__)[-1]
        crash = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno} {where.name})"
        played.problems.append(f"{script.name}:{stage.line}: invariant CRASH at {stage.now} ms: {crash}")
        played.code = BROKEN
    if stage.started:
        stage.world.close()
        played.lines = stage.book.lines()
        played.events, played.virtual_ms = stage.events, stage.world.now
        entries = [entry for station in stage.world.stations.values() for entry in station.ledger.entries()]
        played.kinds = Counter(entry.kind.value for entry in entries)
    if played.code != BROKEN:
        _judge(script, stage, played)
    return played


def _judge(script: Script, stage: Stage, played: Played) -> None:
    played.problems += [f"{script.name}:{line}: {why}" for line, why in stage.problems]
    if script.golden is not None:
        found = difflib.unified_diff(script.golden, played.lines, "golden", "played", lineterm="", n=2)
        played.diff = list(found)
    if played.problems or played.diff:
        played.code = DIFFERS


def do(stage: Stage, step: Step) -> None:
    """Do one step now, or arrange for its moment."""
    if step.setup:
        step.form.act(stage, *step.args)
        return

    def act() -> None:
        stage.take_notes()
        if step.form not in waits.WAITS.forms and not (isinstance(step.when, Every) and step.line in stage.told):
            stage.book.note(stage.world.now, ">", step.text if isinstance(step.when, Every) else _plain(step.text))
            stage.told.add(step.line)
        stage.line = step.line
        try:
            step.form.act(stage, *step.args)
        except (StoryFailed, NoSuchThing) as error:
            if not step.tried:
                raise StoryFailed(str(error)) from None
            stage.book.note(stage.world.now, ">", f"it cannot be done: {error}")

    if step.when is None:
        act()
    elif isinstance(step.when, At):
        delay = step.when.ms if step.when.relative else max(0, step.when.ms - stage.now)
        stage.later(delay, act)
    elif isinstance(step.when, Every):
        for at in range(0, step.when.during, step.when.ms):
            stage.later(at, act)
    else:
        _arm(stage, step, step.when, act)


def _arm(stage: Stage, step: Step, when: When, act: Any) -> None:
    delayed = act if not when.delay else lambda: stage.later(when.delay, act)
    if isinstance(when.moment, Query):
        moment: object = moments.AtSign(when.moment)
    else:
        form, args = when.moment
        moment = form.act(stage, *args)
    moments.arm(stage, moment, when.word, when.nth, delayed, step.form.exact or bool(when.delay))


def _plain(text: str) -> str:
    """The command itself, without its moment."""
    for pattern in (_AT, _WHEN, _EVERY):
        if match := pattern.fullmatch(text):
            return match.group(3)
    return text


def with_golden(script: Script, lines: list[str]) -> str:
    """The file's text with these lines as its golden log."""
    return f"{script.head.rstrip()}\n\n{GOLDEN}\n" + "".join(f"{line}\n" for line in lines)
