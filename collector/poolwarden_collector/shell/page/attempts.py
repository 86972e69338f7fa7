"""Signing in is rationed: by address and by name, so that neither one machine nor many guess a password.

Rules
-----
* ``IN_A_ROW`` tries, then one more every ``EVERY_MS``: of one address (of IPv6 its /64, which is one customer's), and
  of one name. Each try counts, also those that are running.
* safety: nothing is forgotten to make room for more names or addresses, or whoever has many of them would make it
  forget. Each has its place among ``PLACES``, by a hash that nobody outside can compute; two that share one share its
  tries. As fast as hashes are computed, whoever tries names at random empties no place of them.
* Whoever has signed in from an address before has tries, and a place in the queue, of his own there: others who try his
  name, try from his address, or keep the queue full, keep him out nowhere he has been.
* One hash at a time is computed, and ``WAITING`` more wait for their turn at most: sign-ins take one core and 32 MiB.
  What finds no place there is no try.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.operators.calls import Allowance
from poolwarden_collector.shell.page.users import User, UserFile

IN_A_ROW, EVERY_MS = 8, 30_000
PLACES = 4_096
WAITING, WAITING_KNOWN = 8, 4  # the latter: besides, who have signed in from there before
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
        self._addresses = Allowance(IN_A_ROW, EVERY_MS, now, PLACES)
        self._names = Allowance(IN_A_ROW, EVERY_MS, now, PLACES)
        self._of_known = Allowance(IN_A_ROW, EVERY_MS, now, _KNOWN_MOST)
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()  # who has signed in from where
        self._salt = secrets.token_bytes(16)
        self._turn = asyncio.Semaphore(1)
        self._waiting = {True: 0, False: 0}  # of those who are known where they are, and of all others

    async def user(self, name: str, password: str, address: str) -> User | None:
        """The user, if that is his password. Raises TooMany."""
        source = _source(address)
        known = (name, source) in self._known
        if self._waiting[known] >= (WAITING_KNOWN if known else WAITING):
            raise TooMany("too many people sign in at once", 5)
        tries = self._tries(name, source)
        # safety: what is refused uses up nothing, as it costs nothing: with tries at one name somebody who has many
        # addresses would else empty every place of them.
        if any(allowed.left(place) < 1 for allowed, place in tries):
            raise TooMany("too many tries to sign in came from this address, or for this name", EVERY_MS // 1000)
        for allowed, place in tries:
            allowed.may(place)
        self._waiting[known] += 1
        try:
            async with self._turn:
                found = await asyncio.to_thread(self._users.right, name, password)
        finally:
            self._waiting[known] -= 1
        if found is not None:
            self._known.setdefault((name, source), secrets.token_hex(8))
            self._known.move_to_end((name, source))
            if len(self._known) > _KNOWN_MOST:
                self._known.popitem(last=False)
        return found

    def _tries(self, name: str, source: str) -> list[tuple[Allowance, str]]:
        """By what one more try of this name is counted; where it has signed in before by that alone."""
        # safety: tables of their own, or a name could be made up that counts as somebody's at his own address.
        known = self._known.get((name, source))
        if known is not None:
            return [(self._of_known, known)]
        return [(self._addresses, self._place(source)), (self._names, self._place(name))]

    def _place(self, text: str) -> str:
        """Which one of PLACES it has."""
        found = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self._salt).digest()
        return str(int.from_bytes(found, "big") % PLACES)


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
