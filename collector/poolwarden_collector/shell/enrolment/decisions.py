"""The operator's part in enrolment: tokens, keys that wait, certificates that nobody may use any more.

Rules
-----
* Each is durable before it is answered, and in the journal with who asked and why.
* A token's text is told once, to who made it, and written nowhere.
* An accepted key does not end the one before: the first stream with the new one does. What is to end now is denied.
* A denied certificate's stream ends at once; so do those of every other certificate of its key.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from functools import partial

from poolwarden_collector.core.model.effects import AlertResolved
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.enrolment.registry import Registry, noted
from poolwarden_collector.shell.enrolment.second_keys import key_of_alert
from poolwarden_collector.shell.enrolment.tokens import LONGEST_S, MOST_USES, SHORTEST_S, USUAL_S, new_token
from poolwarden_collector.shell.store.enrolment_tables import (
    ACCEPTED,
    CERTIFIED,
    DENIED,
    REFUSED,
    WAITING,
    Denied,
    HostKey,
    Token,
)

LEAST_DIGITS = 8
_SERIAL = 40  # hex digits: 20 bytes (RFC 5280, 4.1.2.2)
_TOKENS_KEPT_MS = 30 * 86_400_000


class Mistake(Exception):
    """An operator has asked for what cannot be; a sentence, and the next step."""

    def __init__(self, text: str, next_step: str = "poolwarden enrolment list") -> None:
        super().__init__(text)
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class By:
    """Who decides, and why."""

    actor: str
    reason: str = ""

    @property
    def why(self) -> str:
        """The reason as it follows a sentence."""
        return f": {self.reason}" if self.reason else ""


class Decisions:
    """What operators decide about ``registry``. Every method raises Mistake or JournalError."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ledger = registry.ledger

    async def create_token(self, by: By, pool: PoolId, ttl_s: int, uses: int, host: HostId) -> tuple[Token, str]:
        """A token and its text; ``ttl_s`` and ``uses``: 0 for what is usual."""
        ttl_s, uses = ttl_s or USUAL_S, uses or 1
        if not SHORTEST_S <= ttl_s <= LONGEST_S:
            raise Mistake(f"a token lasts {SHORTEST_S} s to {LONGEST_S // 3600} h", "for example --ttl 2h")
        if not 1 <= uses <= MOST_USES or (host and uses != 1):
            raise Mistake(
                f"a token lets 1 to {MOST_USES} hosts in, and one for a host that host", "--uses N, or --host"
            )
        return await self._registry.whole(partial(self._create_token, by, pool, ttl_s, uses, host))

    async def _create_token(self, by: By, pool: PoolId, ttl_s: int, uses: int, host: HostId) -> tuple[Token, str]:
        async with self._registry.turn:
            now = clock.wall_ms()
            text, name, digest = new_token()
            token = Token(name, digest, pool, host, uses, 0, now, now + ttl_s * 1000, by.actor)
            whom = f"host {host}" if host else f"{uses} host{'s' * (uses > 1)}"
            said = f"{by.actor} made token {name} for {whom} of pool {self._registry.pool(pool)}{by.why}"
            old = [each for each in self._ledger.tokens.values() if each.expires_ms < now - _TOKENS_KEPT_MS]
            entry = noted("token", said, by.actor, token=name, reason=by.reason)
            await self._registry.commit(token, pool=pool, entry=entry, drop=old)
        return token, text

    async def revoke_token(self, by: By, name: str) -> str:
        """It lets nobody in any more; what was said."""
        return await self._registry.whole(partial(self._revoke_token, by, name))

    async def _revoke_token(self, by: By, name: str) -> str:
        async with self._registry.turn:
            token = self._ledger.tokens.get(name)
            if token is None:
                raise Mistake(f"there is no token {name!r}", "poolwarden token list")
            if token.revoked_ms:
                return f"token {name} was revoked before"
            text = f"token {name} of pool {self._registry.pool(token.pool)} lets nobody in any more{by.why}"
            entry = noted("token-revoked", f"{by.actor}: {text}", by.actor, token=name, reason=by.reason)
            await self._registry.commit(replace(token, revoked_ms=clock.wall_ms()), pool=token.pool, entry=entry)
        return text

    async def decide(self, by: By, key: str, accept: bool) -> str:
        """Accept or refuse a key that waits; what was said."""
        return await self._registry.whole(partial(self._decide, by, key, accept))

    async def _decide(self, by: By, wanted: str, accept: bool) -> str:
        async with self._registry.turn:
            key = self.waiting(wanted)
            # One that came with a certificate may use that; another one is certified when it asks again.
            has_one = not key.csr or self._ledger.newest(key.key) is not None
            state = REFUSED if not accept else CERTIFIED if has_one else ACCEPTED
            word = "accepted" if accept else "refused"
            row = replace(key, state=state, actor=by.actor, text=f"{word} by {by.actor}{by.why}")
            name = f"{key.host_name or key.host} in pool {self._registry.pool(key.pool)}"
            text = f"key {key.key[:16]} of {name} is {word}"
            said = f"{by.actor} has {word} key {key.key[:16]} of {name}{by.why}. It was told: {key.text}"
            entry = noted(word, said, by.actor, host=key.host, key=key.key, reason=by.reason)
            alert = AlertResolved(key_of_alert(key), f"{by.actor} has {word} it")
            await self._registry.commit(row, pool=key.pool, entry=entry, alerts=(alert,))
        return f"{text}: it is certified when it asks again, within a minute" if state == ACCEPTED else text

    def waiting(self, wanted: str) -> HostKey:
        """The one key that waits and begins so. Raises Mistake."""
        wanted = wanted.strip().lower()
        found = [key for key in self._ledger.keys.values() if key.state == WAITING and key.key.startswith(wanted)]
        if len(wanted) < LEAST_DIGITS:
            raise Mistake(f"{wanted!r} names no key: at least {LEAST_DIGITS} digits of it are needed")
        if len(found) != 1:
            raise Mistake(f"{len(found) or 'no'} keys that wait begin with {wanted!r}")
        return found[0]

    async def deny(self, by: By, serial: str, host: HostId) -> str:
        """Nobody may use this certificate any more, or (``host``) any of this host; what was said."""
        return await self._registry.whole(partial(self._deny, by, serial, host))

    async def _deny(self, by: By, serial: str, host: HostId) -> str:
        async with self._registry.turn:
            serials, keys = self._meant(serial, host)
            now, whose = clock.wall_ms(), host or (keys[0].host if keys else "")
            fresh = sorted(serials - set(self._ledger.denied))
            rows = [Denied(each, whose, now, by.actor, by.reason) for each in fresh]
            ended = [replace(key, state=DENIED, text=f"denied by {by.actor}{by.why}") for key in keys]
            pool = keys[-1].pool if keys else self._registry.around.pool_of(whose)
            count = f"{len(serials)} certificate{'s' * (len(serials) != 1)}"
            text = f"denied: {count} of host {whose}" if whose else f"denied: {count}, of no host that is known here"
            said = f"{by.actor}: {text} ({', '.join(sorted(serials)) or 'none'}){by.why}"
            over = [AlertResolved(key_of_alert(key), "it was denied") for key in keys]
            entry = noted("denied", said, by.actor, host=whose, reason=by.reason)
            await self._registry.commit(*rows, *ended, pool=pool, entry=entry, alerts=over)
        denied = f"this certificate was denied by {by.actor}{by.why}"
        self._registry.around.close(lambda each: each in self._ledger.denied, denied)
        return text

    def _meant(self, serial: str, host: HostId) -> tuple[set[str], tuple[HostKey, ...]]:
        """The certificates and keys that are to be denied: a certificate's with all of its key, or all of a host."""
        given = serial_from(serial)
        if serial and not given:
            raise Mistake(f"{serial!r} is no serial number of a certificate, and no host")
        made = self._ledger.certificates.get(given)
        keys = self._ledger.of_host(host) if host else ()
        if made is not None:
            keys = tuple(key for key in self._ledger.of_host(made.host) if key.key == made.key)
        serials = {each.serial for key in keys for each in self._ledger.all_of(key.key)}
        serials |= self._registry.around.serials(host) if host else {given}
        if not serials and not keys:
            raise Mistake(f"no certificate of host {host} is known here", "certificate deny SERIAL, as it was made")
        return serials, keys

    def tokens(self, pool: PoolId) -> list[tuple[Token, str]]:
        """Those of a pool (empty: all), each with its state; the newest first."""
        found = [token for token in self._ledger.tokens.values() if pool in ("", token.pool)]
        found.sort(key=lambda token: -token.created_ms)
        return [(token, self._registry.ends.state(token)) for token in found]

    def all_keys(self) -> list[HostKey]:
        """Every key: those that wait first, then by host."""
        return sorted(
            self._ledger.keys.values(), key=lambda key: (key.state != WAITING, key.pool, key.host, -key.since_ms)
        )


def serial_from(text: str) -> str:
    """A serial number as openssl or a person writes it, as the ledger has it; empty: it is none."""
    digits = text.strip().lower().removeprefix("serial=").removeprefix("0x").replace(":", "")
    good = 0 < len(digits) <= _SERIAL and all(each in string.hexdigits for each in digits)
    return digits.lstrip("0") or "0" if good else ""
