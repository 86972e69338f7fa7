"""What a mistyped name may have been meant to be. Only ever a suggestion: nothing is done to what was not named."""

import difflib
import re
from collections.abc import Iterable

LONGEST = 256  # no name is longer (docs/limits.md); to compare a text of 1 MB takes seconds
_OTHERS = re.compile(r"\D+")
NEAR = 0.7  # of difflib: `gild` is near `gold`, and `hots-2` is near `host-2`


def nearest(typed: str, known: Iterable[str]) -> list[str]:
    """At most two of the known names, the nearest first, whatever their case.

    Numbers tell machines apart, so they have to be the same: `host-7` is no slip of `host-3`.
    """
    if len(typed) > LONGEST:
        return []
    names = {name.lower(): name for name in sorted(known) if _digits(name) == _digits(typed)}
    return [names[name] for name in difflib.get_close_matches(typed.lower(), names, n=2, cutoff=NEAR)]


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """The same as the end of a sentence; empty where nothing is near."""
    near = nearest(typed, known)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _digits(name: str) -> str:
    return _OTHERS.sub("", name)
