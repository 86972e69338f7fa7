"""Fence devices that a member of the pool runs for the collector, which does not reach the network of its BMCs.

Theory
------
A member that runs a fence agent stands between the BMC and the collector, and it may be mistaken or lie.
What is trusted: of one member no more than of a BMC. Its word counts only about *another* host, only in answer to an
order of this moment, and is as old as the order, never younger. Where two members can read a device, the two OFF
readings of a proof are of two members, so that no single one can prove its master dead; where only one is left (a pool
of two), its word is what the BMC's would be. A member that says ON, or nothing, only ever stops a proof.

Rules
-----
* Chosen is a member that is heard, whose agent.conf allows the fence agent, that is not the host itself; first those
  that have not failed at this device in the last ten minutes, then those with the fewest runs, then whoever did not
  run it last.
* An order to it is valid for ``VALID_MS`` on its own clock. So a run that was lost with its member can have begun that
  late: it is waited out for that long more, and only then is the power read, by another member.
* Members that could run a device and are not heard are a reason, not an error; members that are not allowed to are one,
  and the sentence names them.
"""

from __future__ import annotations

from dataclasses import replace

from poolwarden_collector.core.model.effects import By, Through, Unable
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot

LANDING_MS: Ms = 10_000  # what a run that was cut off asked for may still happen so long after its hard limit
VALID_MS: Ms = (
    6_000  # a member's last message is at most 4 s old (suspect_after); an `off` is decided on 5 s old evidence
)
MISSED_MS: Ms = 600_000


def landed_after(device: FenceDevice | None) -> Ms:
    """How long after its order nothing of a run of this device can happen any more."""
    if device is None:
        return 60_000 + LANDING_MS
    return device.hard_limit_ms + LANDING_MS + (VALID_MS if device.via_members else 0)


def named(pool: Snapshot, host: HostId, name: str) -> FenceDevice | None:
    """The host's device of this name, as configured now."""
    return next((each for each in pool.all_devices(host) if each.name == name), None)


def runner(pool: Snapshot, device: FenceDevice, *, ha_off: bool = False) -> By:
    """Who is to run this device now: a member, nobody (and why), or (None) the collector itself."""
    if not device.via_members:
        return None
    able = _able(pool, device)
    if not able:
        return _unable(pool, device)
    state = pool.live.power.get(device.name, PowerState())
    failed = _missed(pool, state)
    busy = [each.by for each in pool.live.power.values() if each.running]
    host = min(able, key=lambda each: (each in failed, busy.count(each), each == _last(state), pool.name(each), each))
    agent = pool.heard(host)
    assert agent is not None
    return Through(host, pool.name(host), agent.hello.boot_id, pool.record.term, ha_off)


def phrase(pool: Snapshot, by: By | HostId) -> str:
    """ ", run by h2" for the journal; empty where the collector runs it itself."""
    host = by.host if isinstance(by, Through) else by if isinstance(by, str) else ""
    return f", run by {pool.name(host)}" if host else ""


def as_data(by: By) -> dict[str, HostId]:
    """The same for an entry's facts."""
    return {"through": by.host} if isinstance(by, Through) else {}


def noted(pool: Snapshot, state: PowerState, reading: PowerReading) -> PowerState:
    """What is known of a device after a member has read it, or could not."""
    if not reading.through:
        return state
    others = tuple(item for item in state.missed if item[0] != reading.through)
    failed = reading.power is Power.UNKNOWN
    return replace(state, missed=(*others, (reading.through, pool.now)) if failed else others)


def untried(pool: Snapshot, device: FenceDevice) -> bool:
    """Is there a member that could run it, and has not just failed to?"""
    if not device.via_members:
        return False
    failed = _missed(pool, pool.live.power.get(device.name, PowerState()))
    return any(host not in failed for host in _able(pool, device))


def independent(pool: Snapshot, device: FenceDevice, one: PowerReading, other: PowerReading) -> bool:
    """Are these two readings as independent as this pool can give them now?"""
    if not device.via_members or one.through != other.through:
        return True
    failed = _missed(pool, pool.live.power.get(device.name, PowerState()))
    # safety: one member alone proves nothing while another one can be asked.
    return not any(host != one.through and host not in failed for host in _able(pool, device))


def _able(pool: Snapshot, device: FenceDevice) -> list[HostId]:
    found = []
    for host in pool.record.hosts:
        agent = pool.heard(host)
        # safety: nobody is asked about itself.
        if host != device.host and agent is not None and device.agent in agent.hello.fence_agents:
            found.append(host)
    return found


def _missed(pool: Snapshot, state: PowerState) -> frozenset[HostId]:
    return frozenset(host for host, at in state.missed if pool.now - at < MISSED_MS)


def _last(state: PowerState) -> HostId:
    return state.newest.through if state.newest is not None else ""


def _unable(pool: Snapshot, device: FenceDevice) -> Unable:
    """The one sentence, with who would have to change."""
    others = sorted((host for host in pool.record.hosts if host != device.host), key=pool.name)
    heard = [host for host in others if pool.heard(host) is not None]
    known = [host for host in others if (agent := pool.agent(host)) and device.agent in agent.hello.fence_agents]
    cannot = f"no member of {pool.record.display_name} can run {device.agent}"
    if known:
        names = ", ".join(pool.name(host) for host in known)
        return Unable(f"{cannot} now: {names} could and {'is' if len(known) == 1 else 'are'} not heard", allowed=True)
    if not heard:
        return Unable(f"{cannot} now: none but {pool.name(device.host)} is heard", allowed=True)
    names = ", ".join(pool.name(host) for host in heard)
    return Unable(f"{cannot}: allow it in agent.conf (fence_agents) of {names}", allowed=False)
