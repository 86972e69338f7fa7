"""Proofs: what makes a promotion permissible. Only the verifiers in this module can make one.

Theory: a proof is a value of a class whose constructor needs a token that this module keeps; ``failover.py`` cannot
promote without one. Each verifier returns a proof or a ``Refusal`` with the reason, never a boolean.

The *power* proof: every device of the host is bound to it, and each gave two OFF readings at least ``reading_gap``
apart (3 s), the newest at most ``reading_fresh`` old (10 s), with no sign of life after the first of them began.
The *human* proof: a named operator typed the host's name and how it was made safe, within ``human_proof_fresh``.
Never: silence, refused connections, an unreachable BMC, an ``off`` that was not read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwarden_collector.core.draft import Draft
from poolwarden_collector.core.facts import HostId, Ms, Power, PowerReading
from poolwarden_collector.core.power import counting, is_bound, view

_TOKEN = object()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no proof: a stable word and one sentence."""

    code: str
    why: str


class Proof:
    """That a host, in one boot, can act as master no more. Made by this module's verifiers alone."""

    __slots__ = ("boot_id", "facts", "host", "kind")

    def __init__(self, token: object, kind: str, host: HostId, boot_id: str, facts: dict[str, Any]) -> None:
        if token is not _TOKEN:
            raise TypeError("a Proof is made by a verifier of poolwarden_collector.core.proof")
        self.kind = kind
        self.host = host
        self.boot_id = boot_id
        self.facts = facts


def verify_power(d: Draft, host: HostId, boot_id: str) -> Proof | Refusal:
    """The power proof for this host and boot, or why there is none."""
    now_view = view(d, host)
    if now_view.power is Power.ON:
        return Refusal("POWER_ON", now_view.why)
    if now_view.power is Power.UNKNOWN:
        return Refusal("POWER_UNKNOWN", now_view.why)
    facts: list[dict[str, Any]] = []
    for device in d.devices(host):
        pair = _two_off(d, device.name)
        if isinstance(pair, Refusal):
            return pair
        # safety: bound to the very boot that is being proven dead, not merely to the machine's last known one.
        if not is_bound(d, device.name, host) or d.record.bound.get(device.name) != boot_id:
            return Refusal("UNBOUND", f"fence device {device.name} is not bound to this boot of {d.name(host)}")
        facts.append({"device": device.name, "first": _show(d, pair[0]), "second": _show(d, pair[1])})
    return Proof(_TOKEN, "power", host, boot_id, {"readings": facts})


def paired_since(d: Draft, host: HostId) -> Ms:
    """When the reading began that first completed a pair of OFF readings; a last look must not be older."""
    return max((_pair_start(d, device.name) for device in d.devices(host)), default=d.now)


def _pair_start(d: Draft, device: str) -> Ms:
    run = list(counting(d, device))
    while any(reading.power is not Power.OFF for reading in run):
        run.pop(0)
    for later in run:
        if later.started_at - run[0].ended_at >= d.policy.reading_gap:
            return later.started_at
    return d.now


def verify_human(d: Draft, host: HostId, boot_id: str, confirmed: dict[str, Any] | None) -> Proof | Refusal:
    """The human proof for this host, or why there is none."""
    if confirmed is None:
        return Refusal("NO_CONFIRMATION", f"nobody has confirmed that {d.name(host)} is safe")
    if d.live.human_at is None:
        # safety: a confirmation from before this collector's start has an unknown age; a person must say it again.
        return Refusal("CONFIRM_AGAIN", f"the confirmation for {d.name(host)} is from before the collector's restart")
    age = d.now - d.live.human_at
    if age > d.policy.human_proof_fresh:
        return Refusal("CONFIRM_AGAIN", f"the confirmation for {d.name(host)} is {age // 60_000} min old")
    power = view(d, host)
    if power.power is Power.ON and not confirmed.get("despite_power_on"):
        # safety: the machine's own power contradicts the word that it is off.
        return Refusal("POWER_ON", f"{power.why}, after it was confirmed safe")
    if d.live.contrary is not None and d.live.contrary[2] == host and d.live.contrary[0] > d.live.human_at:
        return Refusal("LIFE_SEEN", f"{d.live.contrary[1]}, after it was confirmed safe")
    return Proof(
        _TOKEN, "human", host, boot_id, {key: confirmed[key] for key in ("by", "how", "typed") if key in confirmed}
    )


def _two_off(d: Draft, device: str) -> tuple[PowerReading, PowerReading] | Refusal:
    """The newest OFF reading and the newest one at least ``reading_gap`` before it, with nothing but OFF between."""
    run: list[PowerReading] = []
    for reading in reversed(counting(d, device)):
        if reading.power is not Power.OFF:
            break
        run.append(reading)
    if not run:
        return Refusal("POWER_UNKNOWN", f"fence device {device} does not read OFF")
    newest = run[0]
    if d.now - newest.ended_at > d.policy.reading_fresh:
        return Refusal("STALE", f"the last OFF reading of {device} is {(d.now - newest.ended_at) / 1000:.0f} s old")
    for earlier in run[1:]:
        # safety: from the end of the earlier run to the start of the later one, so that they cannot be one answer.
        if newest.started_at - earlier.ended_at >= d.policy.reading_gap:
            return earlier, newest
    return Refusal("ONE_READING", f"fence device {device} has read OFF once; a second reading is due")


def _show(d: Draft, reading: PowerReading) -> dict[str, Any]:
    return {"power": reading.power.value, "ended_ms": reading.ended_at, "text": reading.text}
