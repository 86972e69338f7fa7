"""Signing in is rationed: by address and by name, so that neither one machine nor many guess a password.

Rules
-----
* ``IN_A_ROW`` tries, then one more every ``EVERY_MS``: of one address (of IPv6 its /64, which is one customer's), and
  of one name. Each try counts, also those that are running.
* Whoever has signed in from an address before has tries of his own there: others who try his name keep him out nowhere
  he has been.
* One hash at a time is computed, and ``WAITING`` more wait for their turn at most: sign-ins take one core and 32 MiB.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators.calls import Allowance
from poolwarden_collector.shell.page.users import User, UserFile

IN_A_ROW, EVERY_MS = 8, 30_000
WAITING = 8
_KNOWN_MOST = 1_000


class TooMany(Exception):
    """Not now; ``after_s``: when it is worth another try."""

    def __init__(self, text: str, after_s: int) -> None:
        super().__init__(text)
        self.after_s = after_s


class SignIns:
    """Of the users of ``users``."""

    def __init__(self, users: UserFile, now: Callable[[], int] = clock.mono_ms) -> None:
        self._users = users
        self._addresses = Allowance(IN_A_ROW, EVERY_MS, now)
        self._names = Allowance(IN_A_ROW, EVERY_MS, now)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # who has signed in from where
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def user(self, name: str, password: str, address: str) -> User | None:
        """The user, if that is his password. Raises TooMany."""
        source = _source(address)
        key = f"{name} at {source}" if (name, source) in self._known else name
        if not self._addresses.may(source) or not self._names.may(key[:200]):
            raise TooMany("too many tries to sign in came from this address, or for this name", EVERY_MS // 1000)
        if self._waiting >= WAITING:
            raise TooMany("too many people sign in at once", 5)
        self._waiting += 1
        try:
            async with self._turn:
                found = await asyncio.to_thread(self._users.right, name, password)
        finally:
            self._waiting -= 1
        if found is not None:
            self._known[(name, source)] = None
            if len(self._known) > _KNOWN_MOST:
                self._known.popitem(last=False)
        return found


def _source(address: str) -> str:
    """Whose address it is, as far as that can be told."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "nowhere"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{int(found) >> 64:x}::/64"
    return str(found)
