"""Tokens: what a host is given to show that somebody wants it in a pool.

Rules
-----
* 160 random bits, said once; the collector keeps their SHA-256. What is so random needs no slow hash.
* A token ends by the wall clock, for it must outlast a restart; and by the clock that nobody sets, as far as this run
  knows: one that was put back makes no token last longer. One that is from the future of the wall clock is not taken.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.store.enrolment_tables import Token

SHORTEST_S, LONGEST_S, USUAL_S = 60, 86_400, 7_200
MOST_USES = 64
LIMIT = 128  # characters that are looked at
_BITS = 160
_PREFIX = "pwt-"
_SKEW_MS = 300_000


def new_token() -> tuple[str, str, str]:
    """A token: its text, its id and its hash."""
    text = _PREFIX + base64.b32encode(secrets.token_bytes(_BITS // 8)).decode().lower()
    return text, secrets.token_hex(4), hash_of(text)


def hash_of(text: str) -> str:
    """As the journal has it."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Ends:
    """When tokens end on the clock that nobody sets; of those of an earlier run since this one began."""

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}

    def note(self, token: Token) -> None:
        """It is known from now on."""
        wall = clock.wall_ms()
        left = min(token.expires_ms - wall, token.expires_ms - token.created_ms)
        self._ends[token.id] = clock.awake_or_not_ms() + max(0, left)

    def state(self, token: Token) -> str:
        """``usable``, ``used``, ``expired`` or ``revoked``."""
        if token.revoked_ms:
            return "revoked"
        wall = clock.wall_ms()
        over = wall >= token.expires_ms or wall < token.created_ms - _SKEW_MS
        if over or clock.awake_or_not_ms() >= self._ends.get(token.id, 0):
            return "expired"
        return "used" if token.used >= token.uses else "usable"
