"""One table of a TOML file, read with types: every mistake is named by file, key, what it is and what was expected.

A table remembers which of its keys were asked for; ``done`` refuses the others, because a misspelt safety setting
that is silently ignored is worse than none.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import uuid
from pathlib import Path
from typing import Any

from poolwarden_collector.shell.plain_text import printable

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SHIFTS = {"KiB": 10, "MiB": 20, "GiB": 30}
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB)")
SIZE_HINT = 'a size such as "64MiB" or "1GiB"'
_LONGEST = 600  # characters of a line's part
DURATION_HINT = 'a duration such as "100s", "10m", "1h" or "250ms"'


class ConfigError(Exception):
    """A mistake in the configuration; the text is one line that says where, what and what was expected.

    What was written into the file may hold anything: control characters are escaped here, once for all.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class Table:
    """A table of the file under its dotted name (empty for the file itself)."""

    def __init__(self, file: Path, name: str, values: dict[str, Any]) -> None:
        self.file = file
        self.name = name
        self._values = values
        self._known: list[str] = []

    def wrong(self, key: str, problem: str, expected: str) -> ConfigError:
        """The error for one key, to be raised by the caller."""
        where = f"[{self.name}] {key}" if self.name else key
        return ConfigError(f"{self.file}: {_line(where)}: {_line(problem)}; expected {_line(expected)}")

    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None = None, expected: str = "text in quotes") -> str:
        value = self._take(key, default, expected)
        if not isinstance(value, str):
            raise self.wrong(key, f"is {_show(value)}", expected)
        return value

    def path(self, key: str, default: Path | None = None) -> Path:
        """A path; relative ones are relative to the file."""
        value = self.text(key, None if default is None else str(default), "a path in quotes")
        if not value:
            raise self.wrong(key, "is empty", "a path in quotes")
        if "\0" in value:
            raise self.wrong(key, f"is {_show(value)}", "a path, which has no NUL")
        return self.file.parent.absolute() / Path(value)

    def pem(self, key: str) -> Path:
        """A path of a file that begins as a PEM does."""
        path = self.path(key)
        try:
            with path.open("rb") as stream:
                head = stream.read(11)
        except OSError as error:
            raise self.wrong(key, f"{path} cannot be read ({error.strerror})", "a PEM file") from error
        if head != b"-----BEGIN ":
            raise self.wrong(key, f"{path} is no PEM", "a file that begins with -----BEGIN")
        return path

    def uuid(self, key: str, text: str) -> str:
        """This text as a UUID; lower case, with hyphens, and nothing else."""
        try:
            canonical = str(uuid.UUID(text))
        except ValueError:
            canonical = ""
        if canonical != text:
            shown = f"{text!r} is no UUID in its usual form"
            raise self.wrong(key, shown, "a UUID such as 5c0b3b4e-0001-4f5e-9d1c-2f4f0a7f6a10")
        return text

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [], "a list of texts")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, f"is {_show(value)}", 'a list of texts, e.g. ["a", "b"]')
        return tuple(value)

    def integer(self, key: str, default: int | None = None, low: int = 0, high: int = 2**53) -> int:
        value = self._take(key, default, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"is {_show(value)}", "a whole number")
        if not low <= value <= high:
            raise self.wrong(key, f"is {value}", f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._take(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {_show(value)}", "true or false")
        return value

    def duration(self, key: str, default: int | None = None) -> int:
        """Milliseconds. A bare number is refused: nobody can see whether seconds were meant."""
        if key not in self._values and default is not None:
            self._known.append(key)
            return default
        value = self._take(key, None, DURATION_HINT)
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise self.wrong(key, f"is {_show(value)}", DURATION_HINT)
        return round(float(match[1]) * _UNITS[match[2]])

    def size(self, key: str) -> int:
        """Bytes, from a text with a unit. A bare number is refused here too."""
        value = self._take(key, None, SIZE_HINT)
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise self.wrong(key, f"is {_show(value)}", SIZE_HINT)
        return int(match[1]) << _SHIFTS[match[2]]

    def table(self, key: str) -> Table:
        """A sub-table; absent is empty."""
        value = self._take(key, {}, "a table")
        if not isinstance(value, dict):
            raise self.wrong(key, f"is {_show(value)}", f"a table [{self._dotted(key)}]")
        return Table(self.file, self._dotted(key), value)

    def tables(self, key: str) -> tuple[Table, ...]:
        """A list of tables; absent is empty."""
        value = self._take(key, [], "tables")
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"is {_show(value)}", f"tables [[{self._dotted(key)}]]")
        return tuple(Table(self.file, f"{self._dotted(key)} {n}", item) for n, item in enumerate(value, 1))

    def done(self) -> None:
        """Refuse every key that nothing asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                meant = f"{near[0]!r}, perhaps" if near else f"one of {', '.join(sorted(self._known)) or 'none'}"
                raise self.wrong(key, "is no setting that is known here", meant)

    def _take(self, key: str, default: object, expected: str) -> Any:
        self._known.append(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            raise self.wrong(key, "is missing", expected)
        return default

    def _dotted(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def read_toml(file: Path) -> Table:
    """The whole file as a table. Raises ConfigError if it cannot be read or is no TOML."""
    try:
        with file.open("rb") as stream:
            return Table(file, "", tomllib.load(stream))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); expected a configuration file") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: is nested deeper than any configuration; expected tables of values") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f'{file}: is no TOML: {error}; expected lines such as key = "value"') from error


def _line(text: str) -> str:
    """Part of a line: what was written into the file may be long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 40]} ... {text[-35:]}"


def _show(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    return (
        "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else f"a {type(value).__name__}"
    )
