"""The collector's log: one line a message, whatever is in it.

What a message holds that is not printable is escaped (plain_text.py), so nothing from elsewhere begins a line of its
own. The lines of a traceback, whose error may hold anything as well, are indented: none looks like a message.
"""

from __future__ import annotations

import logging
import sys

from poolwarden_collector.shell.plain_text import printable

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INDENT = "    "


class LogLines(logging.Formatter):
    """Messages in one line each; a traceback below its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the library's name)
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(stack_info)


def to_stderr() -> None:
    """Everything that is logged goes there, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLines(FORM))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(INDENT + printable(line) for line in text.splitlines())
