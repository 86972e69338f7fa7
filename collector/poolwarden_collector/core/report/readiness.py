"""Readiness: would this pool survive losing its master right now? Every reason why not, the worst first, each with what
mends it; never a boolean.

Rules
-----
* *critical*: losing the master now would not heal by itself. *warning*: it would, and something that it rests on is
  weaker than it should be (weaknesses.py).
* What status, explain and the command of that name show is the same list.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_collector.core.decision import database_age, takeover, unheard_members
from poolwarden_collector.core.decision.candidate_ranking import rank
from poolwarden_collector.core.decision.database_soundness import unsound_reason
from poolwarden_collector.core.decision.permission import blind, deposed
from poolwarden_collector.core.devices.device_health import complaint
from poolwarden_collector.core.devices.power_view import is_bound, view, why_unbound
from poolwarden_collector.core.evidence import announcements, identity_conflict, unlisted_hosts
from poolwarden_collector.core.evidence.signs import suspected
from poolwarden_collector.core.model.durations import span
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.values import HostId, Tri
from poolwarden_collector.core.recovery import database_sync, unheard_at_boot
from poolwarden_collector.core.report import assumptions_shown
from poolwarden_collector.core.state.live import PowerState
from poolwarden_collector.core.state.snapshot import Snapshot

CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True, slots=True)
class Unready:
    """A reason: ``code`` is a stable word, ``fix`` what a person does about it."""

    code: str
    severity: str
    sentence: str
    fix: str


def not_ready(pool: Snapshot) -> tuple[str, ...]:
    """Every reason why losing the master now would not heal by itself; empty: it would."""
    return tuple(reason.sentence for reason in blocking(pool))


def blocking(pool: Snapshot) -> tuple[Unready, ...]:
    """The critical ones."""
    master, name = suspected(pool), pool.record.display_name
    if not master:
        wait = "wait until the master's agent reports; on that host: systemctl status poolwarden-agent"
        return (Unready("no-master", CRITICAL, "no verified master is known", wait),)
    found = [*_held(pool), *_ha(pool), *_fencing(pool, master), *_candidates(pool, master)]
    if (unsure := assumptions_shown.asked_for(pool)) is not None:
        where = [pool.name(host) for host in pool.record.hosts if assumptions_shown.is_of(pool, host, unsure)]
        show = "; ".join(f"poolwarden host show {each}" for each in sorted(where))
        found.append(Unready("assumption", CRITICAL, f"a failover would be asked about: {unsure}", show))
    if hosts := unheard_members.unheard_alive(pool):
        asked = f"a failover would be asked for: {unheard_members.said(pool, hosts)}"
        fix = f"have their agents heard again: {_start_agents(pool, hosts)}"
        found.append(Unready("unheard-members", CRITICAL, asked, fix))
    found.extend(_unsound(pool, master))
    found.extend(_gate(pool, master))
    pushed = f"poolwarden explain {name} shows who is not heard; xe pool-sync-database on the master does it by hand"
    found.extend(Unready("not-pushed", CRITICAL, why, pushed) for why in database_sync.not_pushed(pool))
    return tuple(found)


def _held(pool: Snapshot) -> list[Unready]:
    """What keeps this collector from acting at all."""
    name, found = pool.record.display_name, []
    if (why := deposed(pool)) is not None:
        stay = f"stop one of the two collectors; if this one is to stay: poolwarden acknowledge {name}"
        found.append(Unready("another-collector", CRITICAL, why.text, stay))
    if (right := takeover.no_right(pool)) is not None:
        back = "poolwarden doctor says what keeps it from etcd; poolwarden collectors, whether another one has the pool"
        found.append(Unready("no-right", CRITICAL, right.text, back))
    if pool.site.stalled:
        lost = f"nothing of the pool can be recorded: {pool.site.stalled}"
        found.append(Unready("not-recorded", CRITICAL, lost, "poolwarden doctor says what keeps it from that"))
    if other := unlisted_hosts.other_pools_database(pool):
        found.append(Unready("other-database", CRITICAL, other, f"poolwarden alerts {name} tells what to do"))
    if pool.record.identity:
        frozen = f"the pool is frozen: {identity_conflict.conflict_sentence(pool)}"
        found.append(Unready("identity", CRITICAL, frozen, "switch the second machine off; it ends after ten minutes"))
    if held := announcements.announcement_sentence(pool):
        ends = "it ends when that is over; poolwarden explain says how it is ended by hand"
        found.append(Unready("announced", CRITICAL, f"the pool is held: {held}", ends))
    if (unseen := blind(pool)) and pool.site.young:
        found.append(Unready("young-site", WARNING, unseen.text, "wait a minute: it ends by itself"))
    elif unseen:
        found.append(Unready("blind", CRITICAL, unseen.text, "mend the network of the collector's machine"))
    if pool.record.paused is not None:
        paused = f"the pool is paused: {pool.record.paused}"
        found.append(Unready("paused", CRITICAL, paused, f"poolwarden resume {name}"))
    if pool.policy.mode != "auto":
        mode = f"the pool's mode is {pool.policy.mode}"
        found.append(Unready("mode", CRITICAL, mode, 'mode = "auto" in the collector\'s configuration'))
    until = pool.live.backoff.cooldown_until
    if until is not None and pool.now < until:
        left = f"cool-down after the last failover, {span(until - pool.now)} left"
        found.append(Unready("cool-down", CRITICAL, left, f"poolwarden acknowledge {name} ends it"))
    return found


def _ha(pool: Snapshot) -> list[Unready]:
    armed = [h for h in pool.live.agents if (a := pool.heard(h)) and a.facts.database.ha_armed is Tri.YES]
    fix = "xapi's HA looks after this pool then; for Poolwarden to: xe pool-ha-disable"
    return [Unready("ha", CRITICAL, "xapi's own HA is armed", fix)] if armed else []


def _fencing(pool: Snapshot, master: HostId) -> list[Unready]:
    devices, name = pool.all_devices(master), pool.name(master)
    if not devices:
        none = f"master {name} has no fence device: a person would have to confirm its death"
        return [Unready("no-device", CRITICAL, none, f"poolwarden fence setup {name}")]
    found = ((device, _device(pool, master, device)) for device in devices)
    return [Unready("fence-device", CRITICAL, why, _device_step(pool, master, device)) for device, why in found if why]


def _device(pool: Snapshot, host: HostId, device: FenceDevice) -> str:
    """What is wrong with a device in one clause; empty: nothing that is known."""
    state, found = pool.live.power.get(device.name), complaint(pool, host, device)
    if found is not None and found.code == "quarantined":
        return f"fence device {device.name} is quarantined: {found.why}"
    if state is not None and state.newest is not None and state.newest.power is Power.UNKNOWN:
        return f"fence device {device.name} gives no reading: {state.newest.text}"
    if not is_bound(pool, device.name, host):
        return f"fence device {why_unbound(pool, device.name, host)}"
    return f"fence device {found.why}" if found is not None else ""


def _device_step(pool: Snapshot, host: HostId, device: FenceDevice) -> str:
    found = complaint(pool, host, device)
    return found.step if found is not None else f"poolwarden fence test {pool.name(host)}"


def device_complaint(pool: Snapshot, host: HostId, device: FenceDevice) -> tuple[str, str]:
    """What is wrong with a member's device and what mends it; empty sentences: nothing that is known."""
    why = _device(pool, host, device)
    return (why, _device_step(pool, host, device)) if why else ("", "")


def last_read(pool: Snapshot, device: FenceDevice) -> PowerState:
    """What this run knows of a device."""
    return pool.live.power.get(device.name, PowerState())


def _start_agents(pool: Snapshot, hosts: tuple[HostId, ...]) -> str:
    return f"systemctl restart poolwarden-agent on {', '.join(pool.name(host) for host in hosts)}"


def _gate(pool: Snapshot, master: HostId) -> list[Unready]:
    """Whom the master's boot gate would wait for, if it booted now: nobody hears them, and nothing proves them off."""
    waits = tuple(host for host in unheard_at_boot.missing(pool, master) if view(pool, host).power is not Power.OFF)
    if not waits:
        return []
    be, it = ("is", "it is") if len(waits) == 1 else ("are", "they are")
    would = f"were {pool.name(master)} to boot now, its gate would wait until {it} heard, read OFF, or confirmed fenced"
    fix = f"start their agents; of a host that is off: poolwarden confirm-fenced {pool.name(waits[0])}"
    sentence = f"{unheard_at_boot.named(pool, waits)} {be} not heard and not proven off: {would}"
    return [Unready("gate-would-wait", CRITICAL, sentence, fix)]


def _candidates(pool: Snapshot, master: HostId) -> list[Unready]:
    ranked, name = rank(pool, master, None), pool.record.display_name
    if not ranked:
        return [Unready("alone", CRITICAL, "the pool has no other host", "a pool of one has nobody to take over")]
    if all(r.limitation for r in ranked):
        nobody = "no member could be promoted: " + "; ".join(r.text for r in ranked)
        return [Unready("no-candidate", CRITICAL, nobody, "mend one of these reasons")]
    best = next(r for r in ranked if not r.limitation)
    if (old := database_age.too_old(pool, best.host)) is not None:
        stale = f"a failover would be asked for: the copy of {best.name} is {_old(old)}"
        fix = f"xe pool-sync-database on the master; poolwarden explain {name} shows every copy's age"
        return [Unready("old-copy", CRITICAL, stale, fix)]
    return []


def _unsound(pool: Snapshot, master: HostId) -> list[Unready]:
    """Databases on which no xapi would come up: the master's own at its next start, a copy at its promotion."""
    found = []
    for host in sorted(pool.record.hosts, key=pool.name):
        if (why := unsound_reason(pool, host)) is None:
            continue
        name, own = pool.name(host), host == master
        what = "its xapi would not come up again" if own else "its xapi would not come up as master"
        fix = f"xe pool-sync-database on the master gives {name} a new copy"
        if own:
            fix = "do not restart its xapi; xe pool-dump-database, and xe pool-sync-database, while it still runs"
        found.append(Unready("unsound-database", CRITICAL, f"{what}: {why}", fix))
    return found


def _old(copy: database_age.CopyAge) -> str:
    return "of unknown age" if copy.age_ms is None else f"{span(copy.age_ms)} old"
