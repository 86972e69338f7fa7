"""Powering a vanished master off, by policy or an operator's word: never a host that spoke within 15 s.

Rules
-----
* It is never done twice without reading back. An ``off`` that was cut off may land seconds later: nothing is concluded
  from it before its hard limit and 10 s more.
* The level that can tell what it did comes first; in it every feed is switched off before any is tried again, and what
  reads OFF already is not switched off once more.
* It stands on a member's look that is at most ``SHOT_VALID_MS`` old when it is begun, on whoever's clock: one that is
  late is not begun (the fencer, the gate at a member). A member that runs it probes that xapi once more before.
* A sign of life while it is under way ends the failover, and whatever ends one recalls it: what waits is dropped, what
  runs is killed, and the members hear of the higher term. What cannot be recalled is unknown: it is waited out, its
  host's gate waits, and if the host loses its power all the same a person is told.
* A device does one thing at a time: its reading is let end first, and no other is begun in front of the ``off``. One
  that was not begun all the same is no attempt, and is asked for again a few times.
"""

from __future__ import annotations

from poolwarden_collector.core.catalogue.failovers import LANDED
from poolwarden_collector.core.decision import fencing_stakes
from poolwarden_collector.core.decision.permission import boot_grace, patience
from poolwarden_collector.core.decision.standstill import block, unblock
from poolwarden_collector.core.devices.device_runner import as_data, landed_after, named, phrase, runner
from poolwarden_collector.core.devices.power_view import counting, deciding, is_bound, of_last_owner, view
from poolwarden_collector.core.evidence.signs import own_alive, silence_of, witness
from poolwarden_collector.core.evidence.verdict import Witness
from poolwarden_collector.core.failover import last_look
from poolwarden_collector.core.failover.ending import abort
from poolwarden_collector.core.failover.last_look import (
    SHOT_EVIDENCE_MS,
    SHOT_VALID_MS,
    begin_look,
    shot_valid_until,
    why_unwitnessed,
    witnessed_now,
)
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.blockers import Blocker
from poolwarden_collector.core.model.effects import PowerOff, Recall, Unable
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.orders import Claim, Target
from poolwarden_collector.core.model.power import FenceDevice, Power
from poolwarden_collector.core.model.values import Ms
from poolwarden_collector.core.state.alert_topic import AlertTopic, Matter
from poolwarden_collector.core.state.failover_record import REVERSIBLE, Failover
from poolwarden_collector.core.state.live_slices import PowerOffRun
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

LIVE_REPORT_MS: Ms = 15_000
RECALL_VALID_MS: Ms = 15_000
ATTEMPTS, UNBEGUN = 2, 3  # per device


def advance_power_off(tx: Transaction, failover: Failover) -> bool:
    """Power the old master off: intent first, then the effect, a device at a time. ``may_shoot`` was asked.

    True while a shot is under way or being prepared.
    """
    old = failover.old_master
    if boot_grace(tx):
        return True
    if silence_of(tx, old) < max(patience(tx, old), LIVE_REPORT_MS):
        return True
    if any(reading.started_at < tx.live.power_off.ended_at for reading in view(tx, old).readings):
        return True  # the last shot has not been read back yet
    device = _next_device(tx, failover)
    if device is None:
        return False
    if _is_read(tx, device):
        return True
    _aim(tx, device)
    if not witnessed_now(tx, failover):
        _say_unwitnessed(tx, failover)
        return True
    until = shot_valid_until(tx)
    if not until:
        # safety: what was seen longer ago than this is not what is so when the power goes.
        _say_unwitnessed(tx, failover)
        if tx.live.look.round is not None and tx.now - tx.live.look.round.at > tx.policy.look_wait:
            begin_look(tx, failover)
        return True
    tx.change(PowerOffRun, unwitnessed_since=None)
    by = runner(tx, device, ha_off=True)
    if isinstance(by, Unable):
        block(tx, failover, Blocker.NO_MEMBER, (old, device.name), f"{tx.name(old)} is not shot: {by.why}")
        return True
    if failover.standstill.blocker in (Blocker.NO_WITNESS, Blocker.NO_MEMBER):
        unblock(tx)
    attempt, run = _attempts(failover, device) + 1, tx.fresh_id("off")
    text = f"powering {tx.name(old)} off by {device.name}{phrase(tx, by)}, attempt {attempt}"
    tx.change(PowerOffRun, begun_at=tx.now, aimed=("", 0))
    last_look.forget_misses(tx)
    beside = {host: a.hello.boot_id for host in tx.record.hosts if host != old and (a := tx.heard(host)) is not None}
    tx.note(Kind.FENCE_INTENT, text, device=device.name, attempt=attempt, run=run, beside=beside, **as_data(by))
    # safety: the verdict was recomputed in this pass on a look at most 5 s old; `off` only, never `reboot`.
    tx.do(PowerOff(old, device.name, run, by, until, tx.record.address_of(old)))
    return True


def _attempts(failover: Failover, device: FenceDevice) -> int:
    return sum(1 for name, _ in failover.fencing.attempts if name == device.name)


def _next_device(pool: Snapshot, failover: Failover) -> FenceDevice | None:
    """The device to switch off next; None: all have had their attempts, read OFF, or are not bound."""
    told = deciding(pool, failover.old_master)

    def spent(device: FenceDevice) -> bool:
        unbegun = sum(1 for name, _ in failover.fencing.unbegun if name == device.name)
        return _attempts(failover, device) >= ATTEMPTS or unbegun >= UNBEGUN

    def off(device: FenceDevice) -> bool:
        readings = counting(pool, device.name)
        return bool(readings) and readings[-1].power is Power.OFF

    left = [
        device
        for device in pool.devices(failover.old_master)
        if is_bound(pool, device.name, failover.old_master) and not spent(device) and not off(device)
    ]
    return min(left, key=lambda device: (device not in told, device.level, _attempts(failover, device)), default=None)


def _is_read(pool: Snapshot, device: FenceDevice) -> bool:
    """Is this device being read? An ``off`` would only stand behind it, and then not be begun at all."""
    state = pool.live.power.get(device.name)
    return state is not None and bool(state.running) and pool.now - state.started_at < landed_after(device)


def _aim(tx: Transaction, device: FenceDevice) -> None:
    """Begin no reading of it for a moment; each reading that ends in between gives another such moment."""
    name, since = tx.live.power_off.aimed
    state = tx.live.power.get(device.name)
    newest = state.newest if state is not None else None
    if name != device.name or (newest is not None and newest.ended_at > since):
        tx.change(PowerOffRun, aimed=(device.name, tx.now))


def aimed_at(pool: Snapshot, device: FenceDevice) -> bool:
    """Is this device about to switch its host off?"""
    name, since = pool.live.power_off.aimed
    return name == device.name and pool.now - since < SHOT_EVIDENCE_MS


def _say_unwitnessed(tx: Transaction, failover: Failover) -> None:
    """A shot that waits for a member's testimony for long is a named blocker, not silence."""
    if tx.live.power_off.unwitnessed_since is None:
        tx.change(PowerOffRun, unwitnessed_since=tx.now)
        return
    if tx.now - tx.live.power_off.unwitnessed_since < 3 * tx.policy.look_wait + SHOT_EVIDENCE_MS:
        return
    look, seen = tx.live.look.round, why_unwitnessed(tx, failover)
    late = f"the members' answers come too late: it is switched off within {SHOT_VALID_MS / 1000:.0f} s of them, or not"
    answered = look is not None and bool(look.answered)
    why = seen or (late if answered else "no member answers a fresh look at it")
    subjects = (failover.old_master, "answered" if seen else "late" if answered else "unanswered")
    block(tx, failover, Blocker.NO_WITNESS, subjects, f"{tx.name(failover.old_master)} is not shot: {why}")


def failed_attempts(failover: Failover) -> str:
    """What was tried and did not switch the old master off; empty: nothing was."""
    found = []
    if count := len(failover.fencing.attempts):
        found.append(f"{count} power-off{'s' * (count > 1)} did not switch it off")
    if failover.fencing.unbegun:
        found.append(
            f"{len(failover.fencing.unbegun)} could not be begun (the last: {failover.fencing.unbegun[-1][1]})"
        )
    return "; ".join(found)


def pending(tx: Transaction, failover: Failover) -> bool:
    """Is a power-off under way? It may land late: nothing is concluded before its hard limit and 10 s have passed."""
    if failover.fencing.pending is None:
        return False
    name, run = failover.fencing.pending
    ours = order_ids.parse(run).made_for("off", tx.site.epoch) and tx.live.power_off.begun_at
    since = tx.live.power_off.begun_at if ours else tx.site.started_at
    if tx.now - since < landed_after(named(tx, failover.old_master, name)) or of_last_owner(tx, tx.now):
        return True
    text = f"the power-off by {name} has no certain result: the power is read again"
    run_ended(tx)
    data = {"device": name, "claim": False, "certain": False}
    tx.write(Entry(Kind.FENCE_RESULT, text, data, failover.id, tx.record.term))
    return False


def run_ended(tx: Transaction) -> None:
    """A power-off has ended, or its time is over: only what is read from now on says what came of it."""
    tx.change(PowerOffRun, ended_at=tx.now)


# ------------------------------------------------------------------------------------------------ recalling


def recall(tx: Transaction) -> None:
    """Each step, before anything else is done: is a power-off under way that must not land any more?"""
    failover = tx.record.failover
    if failover is None or failover.fencing.pending is None:
        return
    if failover.step in REVERSIBLE and (life := _life(tx, failover)):
        # safety: the host that would be switched off lives; nothing that was decided before stands any more.
        abort(tx, f"{life} while its power-off is under way")
        failover = tx.record.failover or failover
    if failover.open:
        return  # a pause lets a power-off come to its end: what it did is read, and nothing follows it
    _recall(tx, failover, "its failover has ended")
    pending(tx, failover)  # its time may be over: then that is its result


def _life(pool: Snapshot, failover: Failover) -> str:
    """What shows that the old master lives, in one clause; empty: nothing does."""
    old, name = failover.old_master, pool.name(failover.old_master)
    agent, look = pool.agent(old), pool.live.look.round
    if agent is not None and agent.last_heard > pool.live.power_off.begun_at and pool.heard(old) is not None:
        return f"the agent of {name} is heard"
    if look is not None and look.alive:
        return look.alive
    if witness(pool, old) is Witness.ANSWERED:
        return f"a member reaches the xapi of {name}"
    return f"the collector reaches the xapi of {name}" if own_alive(pool, old) else ""


def _recall(tx: Transaction, failover: Failover, why: str) -> None:
    """Once per run: the fencer drops or kills it, and members that may run it are told the pool's term."""
    assert failover.fencing.pending is not None
    device, run = failover.fencing.pending
    if tx.live.power_off.recalled == run:
        return
    name = tx.name(failover.old_master)
    tx.change(PowerOffRun, recalled=run)
    text = f"recalling the power-off of {name} by {device}: {why}"
    tx.write(Entry(Kind.FENCE_RECALLED, text, {"device": device, "run": run}, failover.id, tx.record.term))
    tx.do(Recall(failover.old_master, run))
    block = named(tx, failover.old_master, device)
    if block is None or not block.via_members or tx.record.term <= failover.term:
        return
    old = Target(failover.old_master, tx.record.address_of(failover.old_master))
    for host in sorted(tx.record.hosts):
        agent = tx.heard(host)
        if host != failover.old_master and agent is not None and block.agent in agent.hello.fence_agents:
            # safety: from here on that member's gate refuses the `off`, which is of a lower term.
            claim = Claim(old, want_placements=False)
            tx.send(f"{failover.id}/recall/{tx.site.epoch}.{tx.serial()}/{host}", host, claim, RECALL_VALID_MS)


def landed(tx: Transaction, failover: Failover) -> None:
    """A power-off was carried out after its failover had been given up: a person has to know, until it is back."""
    host, name = failover.old_master, tx.name(failover.old_master)
    lost = f"{fencing_stakes.running_vms(tx, host)}{fencing_stakes.named(tx, host)}"
    body = (
        f"Poolwarden switched {name} off: failover {failover.id} had been given up, and the power-off that it had "
        f"ordered before could not be recalled. Lost with it: {lost}. "
        f"Once no failover decides about it: poolwarden fence on {name}"
    )
    tx.raise_alert(AlertTopic(Matter.LANDED, host, failover.old_boot), LANDED, body, {"old": name, "lost": lost})


def settle_landed(tx: Transaction) -> None:
    """Whoever was switched off so is heard in another boot, or is no host of the pool any more."""
    for topic in tx.open_topics:
        if topic.matter is not Matter.LANDED:
            continue
        host, agent = topic.host, tx.heard(topic.host)
        if host not in tx.record.hosts or (agent is not None and agent.hello.boot_id != topic.detail):
            tx.resolve_alert(topic, f"{tx.name(host)} is back in another boot")
