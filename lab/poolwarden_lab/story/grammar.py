"""The forms of commands: ``power off HOSTS...``, ``run until SIGN...``. One table drives parsing, errors and README.

A form is made of literal words, of slots in capitals, of ``{one|of|these}`` and of ``[optional parts]``. A slot that
ends in ``...`` takes one or more words. What a slot accepts is in ``SLOTS``; it is checked while the story is read, so
that a story with an unknown host does not begin to run. A line that fits no form is refused with its line, what was
expected where it went wrong, and the nearest known word.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from poolwarden.assumptions import BY_ID
from poolwarden_collector.core.evidence.verdict import Verdict
from poolwarden_collector.core.model.entries import Kind
from poolwarden_lab.story.text import Word, duration


class Misfit(Exception):
    """A word that does not fit where it stands."""


class Unreadable(Exception):
    """A command that fits no form; the text is for its author."""


@dataclass
class Cast:
    """Who plays: what a story has named so far. ``hosts`` maps a host's name to its pool's."""

    hosts: dict[str, str] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    vms: list[str] = field(default_factory=list)
    collectors: list[str] = field(default_factory=lambda: ["collector"])
    stores: list[str] = field(default_factory=list)  # what several collectors have in common: etcd
    several: bool = False  # pools
    started: bool = False
    marked: bool = False  # the story has said `mark`


@dataclass(frozen=True)
class Form:
    """One command: how it is written, what it does in a sentence, and the function that does it.

    ``exact``: it may be done in the middle of a collector's step (see ``moments``). ``declare`` is called while the
    story is read: it adds to the cast, or raises Misfit.
    """

    form: str
    meaning: str
    act: Callable[..., Any]
    parts: tuple[Part, ...]
    exact: bool = False
    looks_back: bool = False  # a sign of what has happened: `since mark` may stand behind it
    declare: Callable[..., None] | None = None

    def openings(self) -> tuple[str, ...]:
        """The words with which it can begin."""
        first = self.parts[0]
        return (first.word,) if isinstance(first, Literal) else first.words if isinstance(first, Choice) else ()


@dataclass(frozen=True)
class Literal:
    word: str


@dataclass(frozen=True)
class Slot:
    kind: str
    many: bool = False


@dataclass(frozen=True)
class Choice:
    words: tuple[str, ...]


@dataclass(frozen=True)
class Maybe:
    parts: tuple[Part, ...]


Part = Literal | Slot | Choice | Maybe

_PIECE = re.compile(r"\{[^}]*\}|\[|\]|[^\s\[\]]+")


def parse_form(form: str) -> tuple[Part, ...]:
    """The parts of a form's text."""
    parts, rest = _parts(_PIECE.findall(form))
    assert not rest, form
    return parts


def _parts(pieces: list[str]) -> tuple[tuple[Part, ...], list[str]]:
    found: list[Part] = []
    while pieces:
        piece, pieces = pieces[0], pieces[1:]
        if piece == "]":
            break
        if piece == "[":
            inner, pieces = _parts(pieces)
            found.append(Maybe(inner))
        elif piece.startswith("{"):
            found.append(Choice(tuple(piece[1:-1].split("|"))))
        elif piece.rstrip(".").isupper():
            found.append(Slot(piece.rstrip("."), piece.endswith("...")))
        else:
            found.append(Literal(piece))
    return tuple(found), pieces


# ------------------------------------------------------------------------------------------------ slots


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _one_of(what: str, word: str, known: Iterable[str]) -> str:
    known = list(known)
    if word in known:
        return word
    listed = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
    raise Misfit(f"unknown {what} {word!r}{nearest(word, known)} ({what}s: {listed or 'none yet'})")


def _host(cast: Cast, word: Word) -> str:
    return _one_of("host", word.text, cast.hosts)


def _hosts(cast: Cast, word: Word) -> list[str]:
    """A host, or a pattern of hosts: ``h*``, ``p3/*``, ``all``."""
    if word.text == "all":
        return list(cast.hosts)
    if "*" in word.text or "?" in word.text:
        found = fnmatch.filter(cast.hosts, word.text)
        if not found:
            raise Misfit(f"no host is called like {word.text!r}")
        return found
    return [_host(cast, word)]


def _node(cast: Cast, word: Word) -> str:
    return _one_of("node", word.text, [*cast.collectors, *cast.stores, *cast.hosts, *cast.devices])


def _nodes(cast: Cast, word: Word) -> list[str]:
    return [word.text] if word.text in (*cast.collectors, *cast.stores, *cast.devices) else _hosts(cast, word)


def _duration(cast: Cast, word: Word) -> int:
    try:
        return duration(word.text)
    except ValueError as error:
        raise Misfit(str(error)) from None


def _later(cast: Cast, word: Word) -> int:
    """``+5s``: so long from here."""
    if not word.text.startswith("+"):
        raise Misfit(f"{word.text!r}: write +5s for five seconds from here")
    return _duration(cast, Word(word.text[1:]))


def _number(cast: Cast, word: Word) -> int:
    if not word.text.isdigit():
        raise Misfit(f"{word.text!r} is no number")
    return int(word.text)


def _ordinal(cast: Cast, word: Word) -> int:
    match = re.fullmatch(r"(\d+)(st|nd|rd|th)", word.text)
    if not match or match.group(1) == "0":
        raise Misfit(f"{word.text!r}: write 1st, 2nd, 3rd ...")
    return int(match.group(1))


def _kind(cast: Cast, word: Word) -> Kind:
    return Kind(_one_of("journal kind", word.text, [kind.value for kind in Kind]))


def _new(cast: Cast, word: Word) -> str:
    if not re.fullmatch(r"[A-Za-z][\w.-]*", word.text):
        raise Misfit(f"{word.text!r} cannot be a name")
    return word.text


def _text(cast: Cast, word: Word) -> str:
    return word.text


def _quoted(cast: Cast, word: Word) -> str:
    if not word.quoted:
        raise Misfit(f'{word.text!r}: a text stands in double quotes, "like this"')
    return word.text


SLOTS: dict[str, Callable[[Cast, Word], Any]] = {
    "HOST": _host,
    "HOSTS": _hosts,
    "NODE": _node,
    "NODES": _nodes,
    "POOL": lambda cast, word: _one_of("pool", word.text, cast.pools),
    "VM": lambda cast, word: _one_of("VM", word.text, cast.vms),
    "DEVICE": lambda cast, word: _one_of("device", word.text, cast.devices),
    "COLLECTOR": lambda cast, word: _one_of("collector", word.text, cast.collectors),
    "TIME": _duration,
    "LATER": _later,
    "NUMBER": _number,
    "ORDINAL": _ordinal,
    "KIND": _kind,
    "VERDICT": lambda cast, word: _one_of("verdict", word.text, [verdict.word for verdict in Verdict]),
    "NAME": _new,
    "WORD": _text,
    "ASSUMPTION": lambda cast, word: _one_of("assumption", word.text, BY_ID),
    "TEXT": _quoted,
    "SIGN": lambda cast, word: word,
}


# ------------------------------------------------------------------------------------------------ fitting


class _Fit:
    """One attempt to fit words into a form; remembers how far it came and what stood in the way."""

    def __init__(self, cast: Cast, given: list[Word]) -> None:
        self.cast = cast
        self.given = given
        self.reached = -1
        self.why = ""

    def fit(self, parts: tuple[Part, ...], at: int) -> list[Any] | None:
        """The arguments, or None."""
        if not parts:
            if at == len(self.given):
                return []
            return self._stop(at, f"{self.given[at].text!r} is too much")
        part, rest = parts[0], parts[1:]
        if isinstance(part, Maybe):
            found = self.fit((*part.parts, *rest), at)
            if found is not None:
                return found
            found = self.fit(rest, at)
            return None if found is None else [None] * _slots(part.parts) + found
        if at >= len(self.given):
            return self._stop(at, f"something is missing at the end: {_expected(part)}")
        if isinstance(part, Slot) and part.many:
            return self._many(part, rest, at)
        taken = self._take(part, self.given[at], at)
        if taken is None:
            return None
        found = self.fit(rest, at + 1)
        return None if found is None else taken + found

    def _take(self, part: Part, word: Word, at: int) -> list[Any] | None:
        """The arguments that one word gives: none for a literal; None if it does not fit."""
        if isinstance(part, Literal):
            return [] if word.text == part.word and not word.quoted else self._stop(at, f"expected {part.word!r}")
        if isinstance(part, Choice):
            if word.text in part.words and not word.quoted:
                return [word.text]
            return self._stop(at, f"{word.text!r} is none of {', '.join(part.words)}{nearest(word.text, part.words)}")
        assert isinstance(part, Slot)
        try:
            return [SLOTS[part.kind](self.cast, word)]
        except Misfit as misfit:
            return self._stop(at, str(misfit))

    def _many(self, slot: Slot, rest: tuple[Part, ...], at: int) -> list[Any] | None:
        taken: list[Any] = []
        ends: list[tuple[int, list[Any]]] = []
        while at < len(self.given):
            one = self._take(slot, self.given[at], at)
            if one is None:
                break
            taken += one[0] if isinstance(one[0], list) else one
            at += 1
            ends.append((at, list(taken)))
        for end, so_far in reversed(ends):
            found = self.fit(rest, end)
            if found is not None:
                return [so_far, *found]
        return None

    def _stop(self, at: int, why: str) -> list[Any] | None:
        if at > self.reached:
            self.reached, self.why = at, why
        return None


def _slots(parts: tuple[Part, ...]) -> int:
    return sum(_slots(part.parts) if isinstance(part, Maybe) else not isinstance(part, Literal) for part in parts)


def _expected(part: Part) -> str:
    return (
        repr(part.word)
        if isinstance(part, Literal)
        else "|".join(part.words)
        if isinstance(part, Choice)
        else str(getattr(part, "kind", ""))
    )


class Lexicon:
    """All forms of one kind of sentence: commands, or conditions, or moments."""

    def __init__(self, what: str, title: str) -> None:
        self.what = what
        self.title = title
        self.forms: list[Form] = []

    def form(self, form: str, meaning: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Enter a function under a form."""

        def enter(act: Callable[..., Any]) -> Callable[..., Any]:
            self.forms.append(Form(form, meaning, act, parse_form(form), **more))
            return act

        return enter

    def fit(self, given: list[Word], cast: Cast) -> tuple[Form, list[Any]]:
        """The form of a sentence and its arguments. Raises Unreadable."""
        best: _Fit | None = None
        for form in self.forms:
            attempt = _Fit(cast, given)
            found = attempt.fit(form.parts, 0)
            if found is not None:
                return form, found
            if best is None or attempt.reached > best.reached:
                best = attempt
        raise Unreadable(self._why(given, best))

    def _why(self, given: list[Word], best: _Fit | None) -> str:
        first = given[0].text if given else ""
        alike = [form.form for form in self.forms if first in form.openings()]
        if not alike or best is None or best.reached < 1:
            known = sorted({word for form in self.forms for word in form.openings()})
            return f"unknown {self.what} {first!r}{nearest(first, known)}; known: {', '.join(known)}"
        return "\n    ".join([best.why, f"what begins with {first!r}:", *alike])
