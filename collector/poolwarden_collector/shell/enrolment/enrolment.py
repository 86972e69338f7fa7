"""Who is certified: hosts that enrol, hosts that renew, and which certificates a stream may come with.

Rules
-----
* A token says the pool; the host says its UUID. A host that nobody knows is certified by a token that is good. One that
  is known (it has or had a key, or is on record, here or in another pool) and asks with another key waits for a person:
  it may be a host that was installed anew, a clone of one, or a stranger. A host on record that never had a key needs
  none where the token names it, and is of the token's pool.
* A use of a token is counted with the certificate, in one commit; who is refused or waits uses none.
* The same key that asks again with its token is answered as before, so a lost answer costs nothing.
* Of a host that has enrolled only the keys in the ledger are taken. A new key is good as soon as it is certified, the
  one before until a stream has come with the new one. A certificate of this authority whose host the ledger knows
  nothing of (a journal that was lost) is taken in; one of another key of a known host waits for a person.
* safety: nothing here ends by a clock what is connected, and a known key has its full rights for ``GRACE`` beyond its
  certificate's promised end: neither an authority that cannot sign nor a clock makes a host silent.
* safety: a certificate without a pool is of nobody's pool by its own word. It is taken for a host on record there, or
  in a pool that has no enrolled host; and never for a host that has come with a key of the ledger, while hosts enrol
  here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from poolwarden import machine_identity
from poolwarden.machine_identity import names_no_machine
from poolwarden_collector.core.catalogue.hosts import CANNOT_SIGN
from poolwarden_collector.core.model.effects import AlertRaised, AlertResolved
from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.enrolment import second_keys
from poolwarden_collector.shell.enrolment.authority import (
    GRACE,
    RENEW_AFTER_S,
    Authority,
    CannotSign,
    Signed,
    fingerprints,
)
from poolwarden_collector.shell.enrolment.identity import BadRequest, Identity, is_uuid, key_of, read_request
from poolwarden_collector.shell.enrolment.registry import Registry, noted
from poolwarden_collector.shell.enrolment.tokens import LIMIT, hash_of
from poolwarden_collector.shell.store.enrolment_tables import (
    ACCEPTED,
    CERTIFIED,
    DENIED,
    REFUSED,
    REPLACED,
    WAITING,
    Certified,
    HostKey,
    Token,
)
from poolwarden_collector.shell.store.journal import JournalError

MACHINE = ("system_uuid", "system_serial", "board_serial", "chassis_serial", "vendor", "model")
ALERT = "collector/certificates"
RENEWALS, RENEWALS_MS = 6, 3_600_000  # of one host
LOOK_S = 30.0
_TEXT = 128  # characters of what a host says of itself
_WAITING_OF_HOST, _WAITING = 4, 256
_WAITING_MORE = 3  # of a token, beyond its uses
_UNUSED = 8  # keys of a host that were certified and not seen yet: the answers may have been lost
_KEPT_MS = 31 * 86_400_000  # rows of what has ended
_GRACE_MS = round(GRACE.total_seconds() * 1000)

_log = logging.getLogger(__name__)


class NotEnrolled(Exception):
    """A host is not certified: a word for programs, a sentence, and what helps; ``status`` is HTTP's."""

    def __init__(self, status: int, error: str, text: str, next_step: str = "") -> None:
        super().__init__(text)
        self.status, self.error, self.text, self.next_step = status, error, text, next_step


@dataclass(frozen=True, slots=True)
class Application:
    """What a host asks with."""

    token: str
    csr: str
    host: HostId
    pool: PoolId  # empty: it does not know
    name: str = ""
    machine: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Granted:
    """A certificate with its chain, and every root to trust; PEM. ``renew_after_s``: from now."""

    certificate: str
    roots: str
    renew_after_s: int = RENEW_AFTER_S


@dataclass(frozen=True, slots=True)
class Waits:
    """A person has to decide about this key."""

    text: str
    key: str


class Enrolment:
    """Certifies hosts with ``authority``; None: none is configured, and what was certified before goes on."""

    def __init__(self, registry: Registry, authority: Authority | None) -> None:
        self._registry = registry
        self._ledger = registry.ledger
        self._around = registry.around
        self._authority = authority
        self._renewals: dict[HostId, deque[int]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._trouble = ""

    async def begin(self) -> None:
        """Read the ledger, and watch the authority from now on. Raises JournalError."""
        await self._registry.begin((CANNOT_SIGN.id, second_keys.MESSAGE))
        self._watching = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._registry.end()

    # ------------------------------------------------------------------------------------------------ enrolling

    async def enrol(self, asked: Application) -> Granted | Waits:
        """Raises NotEnrolled, JournalError."""
        return await self._registry.whole(partial(self._enrol, asked))

    async def _enrol(self, asked: Application) -> Granted | Waits:
        if self._known_token(asked.token) is None:
            await self._registry.catch_up()  # another collector may have made it a moment ago
        self._token(asked.token)  # whoever has none costs no more than this
        public = await asyncio.to_thread(_read, asked.csr)
        key, host = key_of(public), asked.host
        if not is_uuid(host) or (asked.pool and not is_uuid(asked.pool)):
            raise NotEnrolled(400, "uuid", "host_uuid or pool_uuid is no UUID in its usual form")
        async with self._registry.turn:
            token = self._token(asked.token)
            known = self._ledger.keys.get(key)
            if known is None:
                self._hold_to(token, asked)
                known = HostKey(
                    key,
                    token.pool,
                    host,
                    plain(asked.name),
                    json.dumps({name: plain(asked.machine.get(name, "")) for name in MACHINE}),
                    asked.csr,
                    token.id,
                    CERTIFIED,
                    clock.wall_ms(),
                    token.actor,
                    f"enrolled with token {token.id}",
                )
                if why := self._in_doubt(known, bool(token.host)):
                    self._hold_back(token)
                    return await self._make_wait(known, why)
            elif (known.host, known.pool) != (host, token.pool):
                raise NotEnrolled(409, "key", "this key has asked before, for another host or another pool", _ANEW)
            elif known.token != token.id:  # it gets what is its own, and takes nothing from the token
                self._hold_to(token, asked)
            return await self._answer(known, token)

    async def _answer(self, known: HostKey, token: Token) -> Granted | Waits:
        """To a key that may be certified, or that was asked about before."""
        if known.state == WAITING:
            return _waits(known)
        if known.state not in (CERTIFIED, ACCEPTED):
            raise NotEnrolled(403, known.state, f"this key was {known.state}", _ANEW)
        made = self._ledger.newest(known.key)
        if made is not None and made.pem:
            return Granted(made.pem, await self._roots())
        if made is not None:
            raise NotEnrolled(409, "key", "this key has been certified and renewed since", _ANEW)
        signed, roots = await self._sign(known)
        used = replace(token, used=min(token.used + 1, token.uses))
        text = f"{_label(known)} has enrolled in pool {self._registry.pool(known.pool)} with token {token.id}"
        entry = noted("enrolled", text, token.actor, host=known.host, key=known.key, serial=signed.serial)
        await self._registry.commit(
            used, replace(known, state=CERTIFIED), _row(signed, known, roots), pool=known.pool, entry=entry
        )
        _log.info("%s", text)
        return Granted(signed.pem, roots)

    def _known_token(self, text: str) -> Token | None:
        wanted = hash_of(text[:LIMIT])
        return next((each for each in self._ledger.tokens.values() if each.hash == wanted), None)

    def _token(self, text: str) -> Token:
        token = self._known_token(text)
        if token is None or token.revoked_ms:
            raise NotEnrolled(403, "token", "this token is not known here, or was revoked", _NEW_TOKEN)
        return token

    def _hold_to(self, token: Token, asked: Application) -> None:
        """May this token let a host in that asks for the first time?"""
        state = self._registry.ends.state(token)
        if state != "usable":
            text = "this token has expired" if state == "expired" else f"this token has been used {token.used} times"
            raise NotEnrolled(403, f"token-{state}", f"{text}, and lets nobody in any more", _NEW_TOKEN)
        if token.host and token.host != asked.host:
            text = f"this token is for host {token.host}, and this one says that it is {asked.host}"
            raise NotEnrolled(403, "host", text, _NEW_TOKEN)
        if asked.pool and asked.pool != token.pool:
            text = f"this token is for pool {token.pool}, and this host says that it is of pool {asked.pool}"
            raise NotEnrolled(403, "pool", text, _NEW_TOKEN)

    def _in_doubt(self, asks: HostKey, named: bool) -> str:
        """Why a person has to look at this key; empty: nobody has. ``named``: an operator's token names this host."""
        held = [key for key in self._ledger.of_host(asks.host) if key.state not in (WAITING, REFUSED)]
        on_record = self._around.spoke_in(asks.host)
        if not held and (not on_record or (named and on_record == asks.pool)):
            return ""
        was = json.loads(held[-1].machine) if held else {}
        was = was if any(was.values()) else self._around.machine(asks.host)
        moves = {on_record, *(key.pool for key in held)} - {"", asks.pool}
        told = f", which is known in pool {' and '.join(map(self._registry.pool, sorted(moves)))}" if moves else ""
        return (
            f"{_label(asks)} asks with another key in pool {self._registry.pool(asks.pool)}{told}. "
            f"On record: {machine_line(was)}. It asks: {machine_of(asks)}. {_same(was, asks)}"
        )

    def _hold_back(self, token: Token) -> None:
        """One token makes no crowd of keys that wait."""
        waiting = sum(key.state == WAITING and key.token == token.id for key in self._ledger.keys.values())
        if waiting >= token.uses + _WAITING_MORE:
            raise NotEnrolled(429, "waiting", "too many keys wait for a person by this token already", _LIST)

    async def _make_wait(self, asks: HostKey, why: str) -> Waits:
        waiting = [key for key in self._ledger.keys.values() if key.state == WAITING]
        if len(waiting) >= _WAITING or sum(key.host == asks.host for key in waiting) >= _WAITING_OF_HOST:
            raise NotEnrolled(429, "waiting", "too many keys wait for a person already", _LIST)
        row = replace(asks, state=WAITING, text=why)
        alert = second_keys.raised(row, self._registry.pool(row.pool))
        entry = noted("waits", why, host=row.host, key=row.key)
        await self._registry.commit(row, pool=row.pool, entry=entry, alerts=(alert,))
        _log.warning("%s", why)
        return _waits(row)

    # ------------------------------------------------------------------------------------------------ renewing

    async def renew(self, who: Identity, csr: str, signature: bytes) -> Granted:
        """A certificate for another key of this host, which a stream asks for. Raises NotEnrolled, JournalError."""
        return await self._registry.whole(partial(self._renew, who, csr, signature))

    async def _renew(self, who: Identity, csr: str, signature: bytes) -> Granted:
        public = await asyncio.to_thread(_read, csr)
        if not await asyncio.to_thread(who.signed, csr.encode(), signature):
            raise NotEnrolled(403, "signature", "the request is not signed by the key of the certificate in use")
        async with self._registry.turn:
            present = self._ledger.keys.get(who.key)
            if present is None or present.state != CERTIFIED or not who.pool:
                text = "certificates that were made by hand are not renewed here" if not who.pool else "its key is not"
                raise NotEnrolled(403, "key", f"{text} certified here", _ANEW)
            key = key_of(public)
            known = self._ledger.keys.get(key)
            made = self._ledger.newest(key) if known is not None else None
            if known is not None and (known.host, known.pool, known.state) != (who.host, who.pool, CERTIFIED):
                raise NotEnrolled(409, "key", "this key has asked before, for another host, or was refused")
            if made is not None and made.pem and made.issued_ms > clock.wall_ms() - RENEWALS_MS:
                return Granted(made.pem, await self._roots())  # the answer was lost
            times = self._brake(who.host)
            asks = known or replace(
                present, key=key, csr=csr, since_ms=clock.wall_ms(), seen_ms=0, text=f"renewed from {who.serial}"
            )
            signed, roots = await self._sign(asks)
            times.append(clock.mono_ms())
            entry = noted("renewed", f"{_label(asks)} has a new certificate", host=asks.host, serial=signed.serial)
            kept, dropped = self._tidied(who, asks)
            row = _row(signed, asks, roots)
            await self._registry.commit(asks, row, *kept, pool=asks.pool, entry=entry, drop=dropped)
            return Granted(signed.pem, roots)

    def _brake(self, host: HostId) -> deque[int]:
        """When this host's last certificates were made. Raises NotEnrolled if it may have no more for a while."""
        times = self._renewals.setdefault(host, deque(maxlen=RENEWALS))
        if len(times) == RENEWALS and clock.mono_ms() - times[0] < RENEWALS_MS:
            raise NotEnrolled(429, "often", f"this host has had {RENEWALS} certificates within an hour")
        return times

    def _tidied(self, who: Identity, asks: HostKey) -> tuple[list[HostKey | Certified], list[HostKey | Certified]]:
        """What becomes of a host's older keys and certificates when it has another: changed, and removed."""
        changed: list[HostKey | Certified] = []
        removed: list[HostKey | Certified] = []
        over = clock.wall_ms() - _KEPT_MS
        unused = [key for key in self._ledger.certified(who.host) if not key.seen_ms and key.key != who.key]
        for key in unused[:-_UNUSED]:
            changed.append(replace(key, state=REPLACED, text="it was never used, and newer keys were certified"))
        for key in self._ledger.of_host(who.host):
            found = self._ledger.all_of(key.key)
            ended = [each for each in found if each.expires_ms < over and each.serial not in self._ledger.denied]
            removed += ended
            changed += [replace(each, pem="") for each in found if each.pem and each not in ended]
            if key.state == REPLACED and found and len(ended) == len(found):
                removed.append(key)
        return changed, removed

    # ------------------------------------------------------------------------------------------------ streams

    def refusal(self, who: Identity, claims: PoolId) -> str:
        """Why a stream may not go on with this certificate, in one sentence; empty: it may.

        ``claims``: the pool that it says it is of.
        """
        if (denied := self._ledger.denied.get(who.serial)) is not None:
            return f"certificate {who.serial} was denied by {denied.actor}: {denied.reason or 'no reason given'}"
        keys = self._ledger.of_host(who.host)
        if not who.pool:
            if any(key.state == DENIED for key in keys):
                return f"the certificates of host {who.host} were denied: it enrols anew, with a token"
            if self._authority is not None and any(key.seen_ms and key.state in (CERTIFIED, REPLACED) for key in keys):
                return f"host {who.host} has enrolled: its certificate without a pool is not taken any more"
            # safety: that another pool's master lists it lets it in nowhere.
            if self._ledger.has_members(claims) and not self._around.on_record(claims, who.host):
                return (
                    f"pool {claims} has enrolled hosts, and {who.host} is not on record in it: "
                    "a certificate without a pool lets it in nowhere; enrol it with a token"
                )
            return ""
        key = self._ledger.keys.get(who.key)
        if key is None:
            return "" if not keys else f"this key of host {who.host} is not known here"
        if key.state == WAITING:
            return f"this key of host {who.host} waits for a person, at the collector: poolwarden enrolment list"
        if (key.state, key.pool, key.host) != (CERTIFIED, who.pool, who.host):
            return f"this key of host {who.host} is not good any more: it was {key.state}"
        made = self._ledger.certificates.get(who.serial)
        if made is not None and clock.wall_ms() > made.expires_ms + _GRACE_MS:
            return f"certificate {who.serial} of host {who.host} has ended more than {GRACE.days} days ago"
        return ""

    def refused(self, who: Identity, name: str) -> None:
        """A stream was refused: a key of a known host that is not known, or was replaced, waits for a person now."""
        key = self._ledger.keys.get(who.key)
        if who.pool and (key is None or key.state == REPLACED) and self._ledger.of_host(who.host):
            self._registry.begun(_quietly(self._registry.again(partial(self._note_refused, who, plain(name)))))

    def seen(self, who: Identity, name: str) -> None:
        """A stream has been let in with this certificate."""
        key = self._ledger.keys.get(who.key)
        if who.pool and (key is None or not key.seen_ms):
            self._registry.begun(_quietly(self._registry.again(partial(self._note_seen, who, plain(name)))))

    async def _note_seen(self, who: Identity, name: str) -> None:
        async with self._registry.turn:
            now, key = clock.wall_ms(), self._ledger.keys.get(who.key)
            if key is None:
                text = "its certificate is of this authority, and nothing was known of its host"
                key = HostKey(
                    who.key, who.pool, who.host, name, "{}", "", "", CERTIFIED, now, "poolwarden", text, seen_ms=now
                )
                said = f"{_label(key)} is taken in by its certificate {who.serial}: {text}"
                entry = noted("taken-in", said, host=key.host, key=key.key, serial=who.serial)
                await self._registry.commit(key, pool=key.pool, entry=entry)
                return
            if key.seen_ms:
                return
            older = [
                replace(each, state=REPLACED, text="a newer key of this host is in use")
                for each in self._ledger.certified(who.host)
                if each.key != key.key and each.since_ms <= key.since_ms
            ]
            await self._registry.commit(replace(key, seen_ms=now), *older, pool=key.pool)

    async def _note_refused(self, who: Identity, name: str) -> None:
        async with self._registry.turn:
            key = self._ledger.keys.get(who.key)
            if key is not None and key.state != REPLACED:
                return
            row = key or HostKey(
                who.key, who.pool, who.host, name, "{}", "", "", WAITING, clock.wall_ms(), "poolwarden", ""
            )
            if key is None:
                what = (
                    "whose key is not in the journal: that was restored from a backup, or the authority's key is stolen"
                )
            else:
                what = (
                    "whose key was replaced: its host was put back to an earlier state, or two machines have its keys"
                )
            why = f"{_label(row)} comes with a certificate of this authority, {who.serial}, {what}"
            try:
                await self._make_wait(row, why)
            except NotEnrolled as full:
                _log.warning("%s: %s", why, full)

    def other_order_keys(self) -> dict[str, str] | None:
        """Of several collectors the public key (hex) that each of the others signs with, by its name; None: alone."""
        if not self._registry.shared:
            return None
        return {each.name: each.keys[0] for each in self._registry.others if each.keys}

    # ------------------------------------------------------------------------------------------------ the authority

    @property
    def trouble(self) -> str:
        """Why the authority can sign nothing, as was last seen; empty if it can, or if there is none."""
        return self._trouble

    async def _sign(self, key: HostKey) -> tuple[Signed, str]:
        """A certificate for it, and the roots. Raises NotEnrolled where the authority cannot."""
        if self._authority is None:
            raise NotEnrolled(503, "authority", "this collector has no authority that certifies hosts")
        public = await asyncio.to_thread(_read, key.csr)
        last = self._ledger.last_issued_ms()
        try:
            signed = await asyncio.to_thread(self._authority.sign, public, key.pool, key.host, last)
            return signed, await asyncio.to_thread(self._authority.roots)
        except CannotSign as error:
            step = "poolwarden doctor, at the collector; then ask again with the same token"
            raise NotEnrolled(503, "authority", f"the collector cannot certify hosts now: {error}", step) from None

    async def _roots(self) -> str:
        if self._authority is None:
            return ""
        try:
            return await asyncio.to_thread(self._authority.roots)
        except CannotSign as error:
            raise NotEnrolled(503, "authority", f"the collector cannot certify hosts now: {error}") from None

    async def _watch(self) -> None:
        """Tell of an authority that cannot sign; a pair of files that is just being replaced is none."""
        while True:
            try:
                await self._look()
            except JournalError as error:
                _log.error("the authority is not watched: %s", error)
            except Exception:
                _log.exception("the authority is not watched")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        before, key = self._trouble, self._registry.own_alert(ALERT)
        trouble = await asyncio.to_thread(self._authority.trouble) if self._authority is not None else ""
        self._trouble = trouble
        if trouble and before and not self._registry.is_open(key):
            step = "poolwarden-collector enrolment renew DIR, with the root's key at hand"
            told = CANNOT_SIGN.told({"pool": self._registry.collector, "why": trouble, "step": step})
            body = told.body(f"{trouble}. docs/enrolment.md says how an intermediate certificate is renewed.")
            alert = AlertRaised(key, told.severity, told.title, body, {"message": told.id})
            await self._registry.commit(alerts=(alert,))
        elif not trouble and self._registry.is_open(key):
            await self._registry.commit(alerts=(AlertResolved(key, "it can sign again"),))


_LIST = "at the collector: poolwarden enrolment list; accept or refuse those that wait"
_NEW_TOKEN = "at the collector: poolwarden token create --pool POOL"
_ANEW = f"make a new key, with a new token; {_NEW_TOKEN}"


async def _quietly(work: Coroutine[None, None, None]) -> None:
    """What is noted in the background ends nothing else; a stream that comes again has it noted again."""
    try:
        await work
    except JournalError as error:
        _log.error("%s", error)
    except Exception:
        _log.exception("enrolment")


def _read(csr: str) -> EllipticCurvePublicKey:
    try:
        return read_request(csr)
    except BadRequest as error:
        raise NotEnrolled(400, "csr", str(error)) from None


def _waits(key: HostKey) -> Waits:
    """What the host hears. What is on record of it is told to operators alone: who asks may be anybody."""
    return Waits(f"host {key.host} is known with another key: {_LIST}", key.key)


def _row(signed: Signed, key: HostKey, roots: str) -> Certified:
    told = " ".join(each[:16] for each in fingerprints(roots))
    return Certified(signed.serial, key.key, key.pool, key.host, signed.issued_ms, signed.expires_ms, told, signed.pem)


def _label(key: HostKey) -> str:
    return f"{key.host_name} ({key.host})" if key.host_name else f"host {key.host}"


def machine_line(machine: dict[str, str]) -> str:
    """A machine in a line, for people."""
    what = " ".join(filter(None, (machine.get("vendor", ""), machine.get("model", ""))))
    serials = [machine.get(f"{of}_serial", "") for of in ("system", "chassis", "board")]
    serial, uuid = next(filter(machine_identity.serial, serials), ""), machine.get("system_uuid", "")
    told = [what, f"serial {serial}" if serial else "", "" if names_no_machine(uuid) else uuid]
    return ", ".join(filter(None, told)) or "a machine that is not known"


def machine_of(key: HostKey) -> str:
    """The machine that asked with this key, in a line."""
    return machine_line(json.loads(key.machine))


def _same(was: dict[str, str], asks: HostKey) -> str:
    here = json.loads(asks.machine)
    both = [(was.get(name, "").lower(), here.get(name, "").lower()) for name in MACHINE[:4]]
    known = [(a, b) for a, b in both if not names_no_machine(a) and not names_no_machine(b)]
    if not known:
        return "Whether that is the same machine is not known"
    if all(a == b for a, b in known):
        return "By its own word it is the same machine: installed anew?"
    return "It is another machine: a clone?"


def plain(text: str) -> str:
    """One short line that no terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_TEXT])
