"""Who has signed in by a password: a signed cookie, and the list of those that were ended before their time.

Rules
-----
* The cookie says whose it is, by which password, until when, and a number of its own; HMAC-SHA-256 over all of it, with
  a key of this collector's that lies in ``state_dir/page-sessions.json`` (mode 0600) and outlives a restart: a screen
  that nobody touches stays signed in.
* safety: it is good as long as its signature is right, its time is not over, its user is there, has the same password,
  and nobody has signed out with it. Each request asks anew.
* A form's token is signed with the same key for one browser (a cookie of its own) or one session; nothing of another
  site's can know it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.certificates import CaError, write_whole
from poolwarden_collector.shell.page.users import User, UserFile

FILE = "page-sessions.json"
ENDED_MOST = 10_000
_LONGEST = 1_024  # characters of a cookie that are looked at
_SKEW_MS = 300_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """``id``: its number; ``mark``: by which password it was begun; ``until_ms``: on the wall clock."""

    id: str
    name: str
    mark: str
    began_ms: int
    until_ms: int


class Sessions:
    """Those of the users of ``users``."""

    def __init__(self, state_dir: Path, users: UserFile, lasts_ms: int) -> None:
        self._path = state_dir / FILE
        self._users = users
        self._lasts_ms = lasts_ms
        self._ending = threading.Lock()
        self._key, self._ended = self._load()

    def begin(self, user: User) -> str:
        """The cookie's value for who has just shown his password."""
        now = clock.wall_ms()
        told = [secrets.token_hex(16), user.name, user.mark, now, now + self._lasts_ms]
        text = base64.urlsafe_b64encode(json.dumps(told, separators=(",", ":")).encode()).decode()
        return f"{text}.{self._sign('session', text)}"

    def of(self, cookie: str) -> tuple[Session, User] | None:
        """Whose session that is now; None: nobody's."""
        session = self._read(cookie)
        if session is None or session.id in self._ended:
            return None
        now = clock.wall_ms()
        if not session.began_ms - _SKEW_MS <= now < session.until_ms:
            return None
        user = self._users.find(session.name)
        return (session, user) if user is not None and hmac.compare_digest(user.mark, session.mark) else None

    def end(self, session: Session) -> None:
        """He has signed out: nobody uses that cookie any more, nor after a restart. To be called in a thread."""
        now = clock.wall_ms()
        # safety: one at a time, or of two that sign out at once one stays signed in.
        with self._ending:
            ended = {name: until for name, until in self._ended.items() if until > now}
            if len(ended) >= ENDED_MOST:
                self._key, ended = secrets.token_bytes(32), {}  # so many at once: everybody signs in again
            self._ended = {**ended, session.id: session.until_ms}
            self._save()

    def token(self, of: str) -> str:
        """What a form of this browser, or of this session, has to bring."""
        return self._sign("form", of)

    def is_token(self, of: str, token: str) -> bool:
        """Was it made for this one?"""
        return bool(of) and hmac.compare_digest(self.token(of).encode(), token[:_LONGEST].encode("utf-8", "replace"))

    def _read(self, cookie: str) -> Session | None:
        text, _, signature = cookie[:_LONGEST].partition(".")
        # safety: nothing of it is read before the signature is found right.
        if not hmac.compare_digest(self._sign("session", text).encode(), signature.encode("utf-8", "replace")):
            return None
        number, name, mark, began, until = json.loads(base64.urlsafe_b64decode(text))
        return Session(number, name, mark, began, until)

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}\0{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _load(self) -> tuple[bytes, dict[str, int]]:
        try:
            told = json.loads(self._path.read_bytes())
            key = bytes.fromhex(told["key"])
            if len(key) == 32:
                return key, {str(name): int(until) for name, until in told["ended"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read (%s): users of the page sign in again", self._path, type(error).__name__)
        self._key, self._ended = secrets.token_bytes(32), {}
        self._save()
        return self._key, self._ended

    def _save(self) -> None:
        told = {"key": self._key.hex(), "ended": self._ended}
        try:
            write_whole(self._path, json.dumps(told).encode() + b"\n")
        except CaError as error:
            _log.error("sessions of the page are not kept over a restart: %s", error)
