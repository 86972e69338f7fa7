"""Are the fence devices fit to be used? Each is read by day, and what is wrong with one is told before it is needed.

Rules
-----
* Every device of a host that is heard is read each ten minutes: its own identity, its agent's ``monitor`` and
  ``status``. After a failure, or while it is unbound, again after 15 s and then each minute.
* One failure may be chance; two in a row are told. An agent that is missing, and a device that names another machine,
  are told at once.
* A device without a good reading for half an hour is stale, whatever the reason, and that is told, too.
* Two readings in a row of over 5 s are slow: the budget of a whole failover is 20 s.
* Only devices of hosts that are heard are judged here: what is read of a vanished host is told by its failover.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwarden_collector.core.catalogue.hosts import FENCE_DEVICE, FENCE_DEVICE_QUARANTINED
from poolwarden_collector.core.devices import device_states
from poolwarden_collector.core.devices.device_binding import clear_changed
from poolwarden_collector.core.devices.power_view import is_bound
from poolwarden_collector.core.model.power import FenceDevice, Power, PowerReading, Trouble
from poolwarden_collector.core.model.values import HostId, Ms
from poolwarden_collector.core.state.alert_topic import DEVICE_STATES, QUARANTINED, AlertTopic, Matter
from poolwarden_collector.core.state.device_record import Devices
from poolwarden_collector.core.state.live import PoolLive, PowerState
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

READING_MS: Ms = 600_000
SOON_MS: Ms = 15_000
RETRY_MS: Ms = 60_000
IDENTITY_FRESH_MS: Ms = 60_000
STALE_MS: Ms = 1_800_000
SLOW_MS: Ms = 5_000
TOLD_AFTER = 2
_JUDGE_MS: Ms = 30_000
_AT_ONCE = (Trouble.AGENT,)

_IN_WORDS = {
    Trouble.PASSWORD: "refuses the user or the password",
    Trouble.UNREACHABLE: "cannot be reached",
    Trouble.AGENT: "has no fence agent",
    Trouble.HUNG: "takes the question and does not answer",
    Trouble.FAILED: "gives no reading",
    Trouble.NONE: "gives no reading",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a device: a stable word, one sentence, what to do."""

    code: str
    why: str
    step: str


def after(state: PowerState, reading: PowerReading) -> PowerState:
    """What is known of a device after another reading of it."""
    good, said = reading.power is not Power.UNKNOWN, reading.identity
    return replace(
        state,
        said=said if said else state.said,
        identified_at=reading.ended_at if said else state.identified_at,
        fails=0 if good else state.fails + 1,
        slow=state.slow + 1 if good and reading.status_ms > SLOW_MS else 0,
        good_at=reading.ended_at if good else state.good_at,
        monitor=state.monitor if reading.monitor is None else reading.monitor,
    )


def identify(pool: Snapshot, host: HostId, device: str, state: PowerState) -> bool:
    """Is the device to say in its next reading which machine it switches?"""
    if state.identified_at is None or not is_bound(pool, device, host):
        return True
    return pool.now - state.identified_at >= IDENTITY_FRESH_MS


def next_reading(pool: Snapshot, host: HostId, device: str, state: PowerState) -> Ms | None:
    """When a device of a host that nothing is wrong with is read next; None: not while the host is not heard."""
    agent, last = pool.heard(host), state.newest
    if agent is None:
        return None
    if last is None or last.started_at < agent.connected_at:
        return 0
    if state.fails:
        return last.ended_at + (SOON_MS if state.fails < TOLD_AFTER else RETRY_MS)
    if not is_bound(pool, device, host):
        newly_attested = device in pool.record.devices.attested and bool(state.unbound)
        return last.ended_at + (SOON_MS if newly_attested else RETRY_MS)
    return last.ended_at + READING_MS


def complaint(pool: Snapshot, host: HostId, device: FenceDevice) -> Complaint | None:
    """What is wrong with a device of a host that is heard; None: nothing that is known."""
    name, state = pool.name(host), pool.live.power.get(device.name, PowerState())
    test = f"poolwarden fence test {name}"
    if why := pool.record.devices.quarantined.get(device.name):
        # An attestation is of the machine that its own agent says it is.
        when = "" if pool.heard(host) is not None else f" once {name} is heard again,"
        return Complaint("quarantined", why, f"check address and wiring, then,{when} poolwarden fence bind {name}")
    last = state.newest
    if last is not None and state.fails and (state.fails >= TOLD_AFTER or last.trouble in _AT_ONCE):
        said = f": {last.text}" if last.text else ""
        return Complaint(last.trouble.value or "failed", f"{device.name} {_IN_WORDS[last.trouble]}{said}", test)
    if _stale(pool, host, state):
        return Complaint("stale", f"{device.name} has given no reading for {STALE_MS // 60_000} min", test)
    if state.unbound and not is_bound(pool, device.name, host):
        return Complaint("unbound", state.unbound, f"if it is {name}'s: poolwarden fence bind {name}")
    if state.monitor:
        return Complaint("monitor", f"{device.name} fails its monitor: {state.monitor}", test)
    if last is not None and state.slow >= TOLD_AFTER:
        return Complaint("slow", f"{device.name} answers slowly: {last.status_ms / 1000:.0f} s for a reading", test)
    return None


def _stale(pool: Snapshot, host: HostId, state: PowerState) -> bool:
    agent = pool.heard(host)
    since = max(agent.connected_at if agent is not None else pool.now, state.good_at or 0)
    return pool.now - since >= STALE_MS


def watch_devices(tx: Transaction) -> None:
    """Raise and end the alerts on devices; when a device was read, and now and then."""
    if tx.now < tx.live.devices_due:
        return
    tx.change(PoolLive, devices_due=tx.now + _JUDGE_MS)
    clear_changed(tx)
    _forget_removed(tx)
    for host in tx.record.hosts:
        devices = tx.all_devices(host)
        if devices and (tx.heard(host) is not None or _quarantined(tx.record.devices, devices)):
            for device in devices:
                _tell(tx, host, device)


def judge_soon(tx: Transaction) -> None:
    """Something was read, or is not believed any more: the devices are judged in this very step."""
    tx.change(PoolLive, devices_due=0)


def _forget_removed(tx: Transaction) -> None:
    """End the alerts on devices that are configured no more, or whose host has left the pool."""
    known = {device.name for host in tx.record.hosts for device in tx.all_devices(host)}
    standing = {AlertTopic(Matter.FENCE, name, code) for name in known for code in DEVICE_STATES}
    for topic in tx.open_topics:
        if topic.matter is Matter.FENCE and topic not in standing:
            tx.resolve_alert(topic, "this device is configured for no host of the pool any more")


def _quarantined(kept: Devices, devices: tuple[FenceDevice, ...]) -> bool:
    return any(device.name in kept.quarantined for device in devices)


def _tell(tx: Transaction, host: HostId, device: FenceDevice) -> None:
    found, name = complaint(tx, host, device), tx.name(host)
    for topic in tx.open_topics:
        told = topic.matter is Matter.FENCE and topic.host == device.name
        if told and (found is None or found.code != topic.detail):
            now = "it reads as it should again" if found is None else f"now: {found.why}"
            tx.resolve_alert(topic, f"{device.name}: {now}")
    if found is None:
        return
    body = f"{found.why}. While that is so, losing {name} may need a person. Next step: {found.step}"
    message = FENCE_DEVICE_QUARANTINED if found.code == QUARANTINED else FENCE_DEVICE
    words = {"device": device.name, "name": name, "why": found.why, "step": found.step}
    topic = AlertTopic(Matter.FENCE, device.name, found.code)
    tx.raise_alert(topic, message, body, words, host=name, device=device.name)


def forget(tx: Transaction, host: HostId) -> None:
    """The matter that this host's readings were for is over; later life of it must not be held against them."""
    device_states.void_readings(tx, {item.name for item in tx.all_devices(host)})
