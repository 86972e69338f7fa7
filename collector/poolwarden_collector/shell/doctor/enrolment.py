"""Certificates that end: the collector's own, its authority's, and those of hosts that are not renewed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.config import Config
from poolwarden_collector.shell.doctor import machine
from poolwarden_collector.shell.doctor.check import FAULT, OK, WARNING, Check, days
from poolwarden_collector.shell.enrolment.assembly import Enrolments
from poolwarden_collector.shell.enrolment.authority import RENEW_AFTER_S, Authority, CannotSign, fingerprints
from poolwarden_collector.shell.store.enrolment_tables import WAITING

_DAY_MS = 86_400_000
_LISTED = 5


async def own_certificates(config: Config, enrolments: Enrolments | None) -> list[Check]:
    """What no pool's hosts have a part in; files are read in a thread."""
    found = await asyncio.to_thread(lambda: list(machine.certificates(config.tls)))
    if enrolments is not None and enrolments.authority is not None:
        found.append(await asyncio.to_thread(intermediate, enrolments.authority))
    return found


async def enrolment_checks(enrolments: Enrolments | None) -> list[Check]:
    """The authority that certifies hosts, and what became of those."""
    if enrolments is None:
        return []
    authority = enrolments.authority
    if authority is None:
        return list(hosts(enrolments))
    found = [await asyncio.to_thread(intermediate, authority), *hosts(enrolments)]
    if await asyncio.to_thread(authority.root_key.exists):
        text = (
            f"{authority.root_key} lies on this machine: who takes it can make an authority of his own below that root"
        )
        step = "move it to where no network reaches it: only poolwarden-collector enrolment needs it"
        found.append(Check("root's key", WARNING, text, step))
    with contextlib.suppress(CannotSign):
        found += roots(enrolments, fingerprints(await asyncio.to_thread(authority.roots)))
    return found


def intermediate(authority: Authority) -> Check:
    """Can it sign, and for how long still?"""
    step = "poolwarden-collector enrolment renew DIR, with the root's key at hand"
    try:
        left = (authority.signs_until().timestamp() * 1000 - clock.wall_ms()) / _DAY_MS
    except CannotSign as error:
        return Check("enrolment", FAULT, f"no host can be certified: {error}", step)
    return days("enrolment", left, "the intermediate certificate", step)


def roots(enrolments: Enrolments, trusted: tuple[str, ...]) -> Iterator[Check]:
    """While a root is replaced: who has not heard of the new one."""
    ledger, wanted = enrolments.registry.ledger, {each[:16] for each in trusted}
    lacking = []
    for host in {key.host for key in ledger.keys.values()}:
        made = [each for key in ledger.certified(host) if (each := ledger.newest(key.key)) is not None]
        newest = max(made, key=lambda each: each.issued_ms, default=None)
        if newest is not None and not wanted <= set(newest.authority.split()):
            lacking.append(host)
    if lacking:
        names = ", ".join(sorted(lacking)[:_LISTED])
        text = f"{len(lacking)} hosts have not heard of every root yet: {names}"
        yield Check("roots", WARNING, text, "they do with their next certificates; only then: enrolment use-new-root")


def hosts(enrolments: Enrolments) -> Iterator[Check]:
    """Keys that wait for a person, and hosts whose certificates are late."""
    ledger, now = enrolments.registry.ledger, clock.wall_ms()
    waiting = sum(key.state == WAITING for key in ledger.keys.values())
    if waiting:
        yield Check("enrolment", WARNING, f"{waiting} keys of hosts wait for a person", "poolwarden enrolment list")
    late, good = [], 0
    for host in {key.host for key in ledger.keys.values()}:
        made = [each for key in ledger.certified(host) if (each := ledger.newest(key.key)) is not None]
        end = max((each.expires_ms for each in made), default=None)
        if end is None:
            continue
        if end - now < RENEW_AFTER_S * 1000:
            late.append((end, max(made, key=lambda each: each.expires_ms).host))
        else:
            good += 1
    for end, host in sorted(late)[:_LISTED]:
        known = ledger.certified(host)[-1]
        told = "has ended" if end <= now else "ends"
        at = f"{clock.text_of(end)[:16]} UTC"
        text = f"the certificate of {known.host_name or host} {told} ({at}) and was not renewed"
        step = f"if its agent is to run: systemctl status poolwarden-agent on {known.host_name or host}"
        yield Check("enrolled hosts", WARNING, text, step)
    if len(late) > _LISTED:
        yield Check("enrolled hosts", WARNING, f"so it is with {len(late) - _LISTED} more", "poolwarden enrolment list")
    if good and not late:
        yield Check("enrolled hosts", OK, f"{good} hosts renew their certificates")
