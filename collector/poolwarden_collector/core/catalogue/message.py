"""The type of a message, and how one is rendered for an alert.

Rules
-----
* An alert is a title and four labelled lines: what died (or is wrong), what Poolwarden did or will do, what the
  operator does now, and what stays open for VMs and management. Each line has at most ``LINE_LIMIT`` characters; the
  full sentences follow as details, for channels that can carry more.
* A template names its words in braces. ``pool``, ``master``, ``address`` (of the master) and ``running`` (how many VMs
  run on which heard hosts) are always there; the others are given by who raises it.
* The id never changes: it is the anchor in docs/runbook.md and stands in journals and webhooks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from poolwarden.typed_names import quoted

LINE_LIMIT = 200
LABELS = ("Died:", "Did: ", "You: ", "Open:")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its id, severity and templates, and for the runbook what it means and when it is over."""

    id: str
    severity: str  # info, warning, critical
    title: str  # follows the pool's name
    died: str
    did: str
    you: str
    open: str
    means: str  # for VMs and management
    ends: str

    def told(self, words: Mapping[str, str], names: Mapping[str, str] = MappingProxyType({})) -> Told:
        """Rendered with these words; ``names`` are quoted in commands (typed_names.py).

        Raises KeyError for a word that is missing.
        """
        title = f"{words['pool']}: {self.title.format_map(words)}"
        lines = (quoted(line.format_map(words), names) for line in (self.died, self.did, self.open))
        died, did, still = (clip(line) for line in lines)
        you = quoted(self.you.format_map(words), names)
        # safety: half a command may be another one, so a command is told whole or not at all.
        if len(you) > LINE_LIMIT:
            you = quoted(f"several steps, told below; poolwarden explain {words['pool']} tells them, too", names)
        return Told(self.id, self.severity, title, (died, did, you, still))


@dataclass(frozen=True, slots=True)
class Told:
    """A rendered message: a title, and four lines without their labels."""

    id: str
    severity: str
    title: str
    lines: tuple[str, ...]

    def body(self, details: str) -> str:
        """The labelled lines, and the details below them."""
        told = "\n".join(f"{label} {line}" for label, line in zip(LABELS, self.lines, strict=True))
        return f"{told}\n\n{details}" if details else told


def clip(text: str) -> str:
    """The text in one line, cut at a word where it is longer than ``LINE_LIMIT`` characters."""
    return textwrap.shorten(text, LINE_LIMIT, placeholder=" ...")
