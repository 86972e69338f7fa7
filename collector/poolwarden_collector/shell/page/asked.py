"""Which page is asked for, as a value: what two viewers ask alike, and may see alike, is made once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ROWS = 100  # pools, or entries, on one page
_MOST_TEXT, _MOST_NAME = 64, 256
_MOST_ROWS = 2_000
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_WHEN = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,3})?)?)?", re.ASCII)
LEVELS = ("waiting", "critical", "warning", "info", "good")


class NoPage(Exception):
    """There is no such page; one sentence."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One page with its filters; an empty field filters nothing. ``at``: a failover as it was after this entry."""

    page: str
    pool: str = ""
    failover: str = ""
    name: str = ""
    site: str = ""
    level: str = ""
    kind: str = ""
    since: str = ""
    until: str = ""
    skip: int = 0
    before: int = 0
    at: int = 0
    everything: bool = False

    def options(self, **changed: object) -> dict[str, str]:
        """What stands behind the question mark of its address."""
        found = {name: changed.get(name, getattr(self, name)) for name in _OPTIONS[self.page]}
        return {name: "1" if value is True else str(value) for name, value in found.items() if value}


_OPTIONS: dict[str, tuple[str, ...]] = {
    "pools": ("name", "site", "level", "skip"),
    "pool": (),
    "failover": ("at",),
    "history": ("pool", "kind", "since", "until", "before", "everything"),
    "alerts": ("pool", "everything"),
    "collectors": (),
}

_NAMED = {"pool": ("pool",), "failover": ("pool", "failover")}  # what its path names


def asked(page: str, named: Mapping[str, str], query: Mapping[str, str]) -> Asked:
    """The page of this name, ``named`` by its path and ``query``. Raises NoPage for what no page of ours links to."""
    given = {name: query[name] for name in _OPTIONS[page] if query.get(name)} | dict(named)
    if missing := [name for name in _NAMED.get(page, ()) if not given.get(name)]:
        raise NoPage(f"there is no such page without its {missing[0]}")
    found: dict[str, str | int | bool] = {}
    for name, text in given.items():
        # Of a list a pool is chosen as it is typed elsewhere: by its name as well.
        named_so = name == "pool" and page not in _NAMED
        found[name] = text.strip()[:_MOST_NAME] if named_so else _value(name, text.strip())
    return Asked(page, **found)  # type: ignore[arg-type]


def _value(name: str, text: str) -> str | int | bool:
    if name == "everything":
        return text == "1"
    if name in ("skip", "before", "at"):
        if not (text.isascii() and text.isdigit() and len(text) <= (9 if name == "skip" else 15)):
            raise NoPage(f"{name} is no number")
        return int(text)
    fits = {"pool": _UUID, "failover": _WORD, "kind": _WORD, "since": _WHEN, "until": _WHEN}.get(name)
    if fits is not None and not fits.fullmatch(text):
        raise NoPage(f"{name} is not what it should be{': YYYY-MM-DD HH:MM:SS' if fits is _WHEN else ''}")
    if name == "level" and text not in LEVELS:
        raise NoPage(f"there is no level of that name; there is: {', '.join(LEVELS)}")
    return text[:_MOST_TEXT]
