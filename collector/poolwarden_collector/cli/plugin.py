"""What monitoring reads: one line, an exit status of four, and performance data.

Rules
-----
* By the Monitoring Plugins' guidelines (monitoring-plugins.org/doc/guidelines.html): one line
  ``POOLWARDEN STATUS - text | data`` on standard output; 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; thresholds are
  their ranges; data are ``'label'=value[unit];[warning];[critical];[least];[most]``.
* Everything that cannot be known is UNKNOWN: no answer, a wrong name, a wrong option, a fault. A value that is old is
  not a value: it stands in the data as ``U``.
* A finding of CRITICAL comes before one of UNKNOWN, that before one of WARNING.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

from poolwarden_collector.cli.errors import OK as DONE
from poolwarden_collector.cli.errors import CommandError

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
NAME = "POOLWARDEN"
_GRAVE = (CRITICAL, UNKNOWN, WARNING, OK)  # the gravest first
_RANGE = re.compile(r"(@?)(?:(~|-?\d+(?:\.\d+)?):)?(-?\d+(?:\.\d+)?)?")
_WITH_VALUE = ("--collector", "--tls")


@dataclass(frozen=True, slots=True)
class Range:
    """Values that are well lie in it, ends included; with ``inverted`` those outside."""

    text: str
    low: float
    high: float
    inverted: bool = False

    @classmethod
    def of(cls, text: str) -> Range:
        """``10``: 0 to 10, ``5:``: 5 and more, ``~:10``: up to 10, ``@5:10``: not from 5 to 10. Raises ValueError."""
        found = _RANGE.fullmatch(text)
        if found is None or not text.strip("@"):
            raise ValueError(f"{text!r} is no range")
        inverted, low, high = found.groups()
        least = float("-inf") if low == "~" else float(low or 0)
        most = float("inf") if high is None else float(high)
        if least > most:
            raise ValueError(f"{text!r} begins above its end")
        return cls(text, least, most, bool(inverted))

    def alerts(self, value: float) -> bool:
        """Is this value outside of what is well?"""
        return (self.low <= value <= self.high) == self.inverted


class RangeType(click.types.StringParamType):
    """A threshold on the command line."""

    name = "RANGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Range):
            return value
        try:
            return Range.of(str(value))
        except ValueError as error:
            self.fail(f"{error}: give 10, 5:, ~:10 or @5:10", param, ctx)


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of one value."""

    warning: Range | None = None
    critical: Range | None = None

    def judge(self, value: float) -> int:
        """OK, WARNING or CRITICAL."""
        if self.critical is not None and self.critical.alerts(value):
            return CRITICAL
        return WARNING if self.warning is not None and self.warning.alerts(value) else OK


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, in a clause."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """Performance data; ``number`` None: it is not known now."""

    label: str
    number: float | None
    unit: str = ""
    limits: Limits = Limits()
    least: float | None = 0
    most: float | None = None

    def text(self) -> str:
        ends = [each.text if each is not None else "" for each in (self.limits.warning, self.limits.critical)]
        bounds = ["" if each is None else _number(each) for each in (self.least, self.most)]
        value = "U" if self.number is None else f"{_number(self.number)}{self.unit}"
        label = self.label.replace("'", "").replace("=", "_")
        return f"'{label}'={';'.join([value, *ends, *bounds]).rstrip(';')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. ``good``: what is said where nothing is wrong."""

    good: str
    findings: tuple[Finding, ...] = ()
    values: tuple[Value, ...] = ()

    @property
    def status(self) -> int:
        found = {finding.status for finding in self.findings}
        return next((status for status in _GRAVE if status in found), OK)

    @property
    def text(self) -> str:
        """Everything that was found, the gravest first."""
        wrong = [finding for finding in self.findings if finding.status != OK]
        ordered = sorted(wrong, key=lambda finding: _GRAVE.index(finding.status))
        return ", ".join(finding.text for finding in ordered) or self.good


def report(outcome: Outcome, as_json: bool) -> int:
    """Print it; the exit status."""
    if as_json:
        from poolwarden_collector.cli.as_json import print_json

        print_json(_as_object(outcome), one_line=True)
    else:
        data = " ".join(value.text() for value in outcome.values)
        said = f"{NAME} {WORDS[outcome.status]} - {_one_line(outcome.text)}"
        print(f"{said} | {data}" if data else said, flush=True)
    return outcome.status


def is_asked_for(arguments: Iterable[str]) -> bool:
    """Is this call a check? By its first word that is no option, and no option's value."""
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word == "check"
    return False


def guarded(call: Callable[[], int], as_json: bool) -> int:
    """The call's exit status; whatever goes wrong is one line that says UNKNOWN, on standard output."""
    try:
        return call()
    except CommandError as error:
        return _unknown(error.sentence, error.next_step, as_json)
    except click.exceptions.NoArgsIsHelpError:
        return _unknown("check what?", "poolwarden check --help", as_json)
    except click.ClickException as error:
        return _unknown(error.format_message(), "poolwarden check --help", as_json)
    except (click.Abort, KeyboardInterrupt):
        return _unknown("interrupted", "", as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if os.environ.get("POOLWARDEN_DEBUG"):
            raise
        return _unknown(f"internal error: {type(error).__name__}: {error}", "please report it", as_json)


def _unknown(sentence: str, next_step: str, as_json: bool) -> int:
    step = f" ({next_step})" if next_step else ""
    return report(Outcome("", (Finding(UNKNOWN, f"{sentence.rstrip('.')}{step}"),)), as_json)


def _as_object(outcome: Outcome) -> dict[str, object]:
    return {
        "status": WORDS[outcome.status],
        "code": outcome.status,
        "text": outcome.text,
        "findings": [{"status": WORDS[each.status], "text": each.text} for each in outcome.findings],
        "values": {each.label: each.number for each in outcome.values},
    }


def _one_line(text: str) -> str:
    """What may stand before the bar."""
    from poolwarden_collector.cli.layout import printable

    return printable(" ".join(text.replace("|", "/").split()))


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
