"""Text from elsewhere as it is kept and written: nothing in it begins a line, moves a cursor or reorders what is read.

What is not printable (Python's ``str.isprintable``: control characters, line and paragraph separators, overrides of the
reading direction, characters without width) is written as its escape, so that a reader sees that it was there.
"""

from __future__ import annotations

MARK = "…"  # ends what was cut
_MARK_BYTES = len(MARK.encode())
LINE_FEEDS = "\n\t\r"


def printable(text: str, keep: str = "") -> str:
    """The text with everything escaped that is not printable; ``keep``: characters that stay nevertheless."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escape(each) for each in text)


def cut(text: str, most: int) -> str:
    """At most so many bytes of UTF-8; what was longer ends with the mark, never within a character."""
    if len(text) * 4 <= most:
        return text
    held = text.encode("utf-8", "replace")
    return text if len(held) <= most else held[: most - _MARK_BYTES].decode("utf-8", "ignore") + MARK


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
