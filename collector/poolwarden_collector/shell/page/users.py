"""Users of the page: their names, roles, pools and the hashes of their passwords, in ``state_dir/page-users.json``.

Rules
-----
* A password is kept as scrypt (RFC 7914) of it with a salt of its own; N = 2^15, r = 8: 32 MiB and about 0.1 s a try.
* The file is read again once it has changed, so that a user who is removed is gone at his next request; a file that
  cannot be read is a file without users.
* Whatever is wrong with a sign-in, it takes the same work: for a name that nobody has, a hash is computed too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.shell.config.certificates import is_operator_name, write_whole
from poolwarden_collector.shell.config.operators import WORDS, Role

FILE = "page-users.json"
SHORTEST, LONGEST = 12, 256  # characters of a password
_N, _R, _P = 1 << 15, 8, 1
_MEMORY = 128 * _N * _R + (1 << 20)

_log = logging.getLogger(__name__)


class UsersError(Exception):
    """The users cannot be read or changed so; one sentence."""


@dataclass(frozen=True, slots=True)
class User:
    """``pools`` None: all of them; ``salt`` and ``hash``: of his password."""

    name: str
    role: Role
    pools: frozenset[PoolId] | None
    salt: bytes
    hash: bytes

    @property
    def mark(self) -> str:
        """Changes with his password: sessions of an earlier one are over."""
        return hashlib.sha256(self.salt + self.hash).hexdigest()[:16]


def hashed(password: str, salt: bytes) -> bytes:
    """Takes about 0.1 s and lets other threads run meanwhile."""
    return hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=32)


def made(name: str, password: str, role: Role, pools: frozenset[PoolId] | None) -> User:
    """A new user. Raises UsersError where name or password will not do."""
    if not is_operator_name(name):
        raise UsersError(f"{name!r} is no user's name: letters, digits and . _ - @ +, 64 at the most")
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsersError(f"a password has {SHORTEST} to {LONGEST} characters")
    salt = secrets.token_bytes(16)
    return User(name, role, pools, salt, hashed(password, salt))


class UserFile:
    """The users as the file has them now."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self._read: tuple[object, dict[str, User]] | None = None
        self._nobody = secrets.token_bytes(16)

    def find(self, name: str) -> User | None:
        """Nobody where there is none of that name, or the file cannot be read."""
        try:
            return self.all().get(name)
        except UsersError as error:
            _log.error("the page has no users: %s", error)
            return None

    def all(self) -> dict[str, User]:
        """By their names. Raises UsersError."""
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, _users(json.loads(self.path.read_bytes())))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsersError(f"{self.path} cannot be read ({type(error).__name__})") from error
        return self._read[1]

    def right(self, name: str, password: str) -> User | None:
        """The user, if that is his password; to be called in a thread: it takes as long whatever is wrong."""
        user = self.find(name)
        found = hashed(password[:LONGEST], user.salt if user is not None else self._nobody)
        # safety: nobody's hash is never right, whatever was typed.
        return user if user is not None and hmac.compare_digest(found, user.hash) else None

    def write(self, users: dict[str, User]) -> None:
        """These are all there are. The file belongs to whom its folder belongs to. Raises CaError or OSError."""
        told = {"version": 1, "users": {name: _plain(user) for name, user in sorted(users.items())}}
        write_whole(self.path, json.dumps(told, indent=1).encode() + b"\n")
        if os.geteuid() == 0:
            owner = self.path.parent.stat()
            os.chown(self.path, owner.st_uid, owner.st_gid)


def _plain(user: User) -> dict[str, Any]:
    pools = sorted(user.pools) if user.pools is not None else None
    return {"role": user.role.word, "pools": pools, "salt": user.salt.hex(), "scrypt": user.hash.hex()}


def _users(told: dict[str, Any]) -> dict[str, User]:
    return {
        str(name): User(
            str(name),
            WORDS[each["role"]],
            # safety: only what says so is all pools; a list that is missing is an error, not a wider view.
            None if each["pools"] is None else frozenset(str(pool) for pool in each["pools"]),
            bytes.fromhex(each["salt"]),
            bytes.fromhex(each["scrypt"]),
        )
        for name, each in told["users"].items()
    }
