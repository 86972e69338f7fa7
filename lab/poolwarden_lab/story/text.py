"""A story file: why it exists, its commands line by line, and the golden log behind the line ``--- log``.

Rules
-----
* ``#`` at a line's start or behind a blank begins a comment; the comments before the first command say why the story
  exists. Within double quotes it is an ordinary character.
* `` ; `` separates commands on one line.
* Times are ``500ms``, ``12s``, ``3m``, ``2h``, ``2d``, or several together: ``1m30s``.
* Whatever is wrong is a StoryError that names file and line. Nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

GOLDEN = "--- log"
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WORD = re.compile(r'"([^"]*)"|(\S+)')


class StoryError(Exception):
    """A story that cannot be read; says file, line and what would be right."""

    def __init__(self, name: str, line: int, why: str) -> None:
        super().__init__(f"{name}:{line}: {why}")
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command; ``quoted`` if it stood in double quotes."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One command's text and the line it stands on."""

    number: int
    text: str


@dataclass(frozen=True)
class Script:
    """A story file as it was read. ``golden`` is None if the file has no log yet."""

    name: str
    why: str
    lines: tuple[Line, ...]
    head: str
    golden: tuple[str, ...] | None


def read_file(path: Path) -> Script:
    """Read a story. Raises StoryError if it is no text, OSError if it cannot be read."""
    try:
        return read_text(str(path), path.read_text())
    except UnicodeDecodeError as error:
        raise StoryError(str(path), 1, f"this is no text file ({error.reason})") from None


def read_text(name: str, content: str) -> Script:
    """A story from its text."""
    head, golden = content, None
    for match in re.finditer(rf"^{GOLDEN}[ \t]*$", content, re.MULTILINE):
        head = content[: match.start()]
        golden = tuple(content[match.end() :].strip("\n").splitlines())
        break
    lines: list[Line] = []
    why: list[str] = []
    for number, raw in enumerate(head.splitlines(), 1):
        if raw.lstrip().startswith("#") and not lines:
            why.append(raw.strip("# \t"))
        for text in _commands(name, number, raw):
            lines.append(Line(number, text))
    return Script(name, "\n".join(why).strip(), tuple(lines), head, golden)


def _commands(name: str, number: int, raw: str) -> list[str]:
    """The commands of one line, without its comment."""
    parts, quoted, current = [], False, ""
    for at, letter in enumerate(raw):
        if letter == '"':
            quoted = not quoted
        if not quoted and letter == "#" and (at == 0 or raw[at - 1].isspace()):
            break
        if not quoted and letter == ";":
            parts.append(current)
            current = ""
            continue
        current += letter
    if quoted:
        raise StoryError(name, number, 'a double quote is not closed (")')
    return [part.strip() for part in [*parts, current] if part.strip()]


def words(text: str) -> list[Word]:
    """The words of a command."""
    found = []
    for match in _WORD.finditer(text):
        quoted = match.group(1) is not None
        found.append(Word(match.group(1) if quoted else match.group(2), quoted))
    return found


def duration(text: str) -> int:
    """Milliseconds of ``1m30s``. Raises ValueError for anything else."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no time; write for example 500ms, 12s, 3m or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def say_duration(ms: int) -> str:
    """The shortest text that ``duration`` reads as these milliseconds."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"
