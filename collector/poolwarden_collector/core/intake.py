"""What an event changes in what is known, before anything is judged.

Rules
-----
* A sign of life of a host whose power was read OFF voids every reading so far; if it comes from the same boot, the
  device that said OFF is quarantined, durably, because it lied or belongs to another machine.
* An answered probe tells no boot: it is the same one only where it came so soon after the reading began that nobody can
  have switched the machine on, and its xapi have started, in between.
* Bytes that were on their way before a reading are not life after it: a report on an old stream only starts a
  challenge, whose answer is. A new stream is life by itself, its TLS handshake was made after the reading.
* A device is bound by an ON reading while the agent of that boot is heard, if it is this machine's (device_binding.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poolwarden_collector.core.decision import backoff
from poolwarden_collector.core.decision.database_contents import of_this_pool
from poolwarden_collector.core.devices import device_binding, device_health, device_runner, device_states, told_readings
from poolwarden_collector.core.devices.device_health import forget
from poolwarden_collector.core.devices.power_view import block_of, counting, of_last_owner
from poolwarden_collector.core.evidence import (
    announcements,
    fenced_hosts,
    identity_conflict,
    journal_gap,
    unlisted_hosts,
)
from poolwarden_collector.core.evidence.signs import answered, answered_by, foreign, own_certificate_fits, suspected
from poolwarden_collector.core.failover import claim_round, last_look, power_off, unheard_check
from poolwarden_collector.core.failover.claims import claim_base
from poolwarden_collector.core.failover.toolstack_fence import transferred
from poolwarden_collector.core.followups import power_switch
from poolwarden_collector.core.model import events as ev
from poolwarden_collector.core.model import order_id as order_ids
from poolwarden_collector.core.model.changed import changed
from poolwarden_collector.core.model.effects import SendChallenge
from poolwarden_collector.core.model.entries import Entry, Kind
from poolwarden_collector.core.model.host_facts import Liveness, Probe, ProbeOutcome
from poolwarden_collector.core.model.order_results import ClaimOutcome, Outcome
from poolwarden_collector.core.model.power import Power, PowerReading
from poolwarden_collector.core.model.values import HostId, Ms, Tri
from poolwarden_collector.core.recovery import boot_gate, restart_in_place, unheard_at_boot
from poolwarden_collector.core.state import agent_streams, sent_orders
from poolwarden_collector.core.state.alert_topic import Matter
from poolwarden_collector.core.state.live import AgentState, PoolLive, PowerState
from poolwarden_collector.core.state.live_slices import CollectorProbe, CollectorProbes
from poolwarden_collector.core.state.snapshot import Snapshot
from poolwarden_collector.core.state.transaction import Transaction

_READINGS_KEPT = 16
LEAST_BOOT_MS: Ms = 20_000  # firmware, kernel and xapi's own start take longer on any machine
LEFT_AFTER_MS: Ms = 60_000


def take_in(tx: Transaction, event: ev.Event) -> None:
    """Take one event in; ``OperatorSaid`` and ``Tick`` change no evidence."""
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        handler(tx, event)


def _connected(tx: Transaction, event: ev.AgentConnected) -> None:
    if unlisted_hosts.is_stranger(tx, event.hello.host):
        # safety: a host that is of this pool by its own word alone has no voice in it.
        unlisted_hosts.connected(tx, event)
    else:
        _take_in(tx, event)


def _take_in(tx: Transaction, event: ev.AgentConnected) -> None:
    hello, before = event.hello, tx.agent(event.hello.host)
    identity_conflict.watch_boots(tx, hello)
    known = tx.record.hosts.get(hello.host)
    if known is not None and not known.boot_id:
        forget(tx, hello.host)  # it was off before anybody had heard of it: no device has lied
    facts = before.facts if before is not None and before.hello.boot_id == hello.boot_id else None
    state = AgentState(hello, event.stream, True, _arrived(tx, event), connected_at=tx.now)
    if facts is not None and before is not None:
        # A scout that is back is heard as it was; any other new stream only from its first report on.
        reported = before.reported and hello.host in tx.site.scouts
        state = replace(state, facts=facts, connected_at=before.connected_at, reported=reported)
    agent_streams.put(tx, state)
    last_look.asked_anew(tx, hello.host)
    fenced_hosts.alive(tx, hello.host, tx.now, "its agent has opened a stream")
    _remember_host(tx, event)
    announcements.welcome_back(tx, hello.host)
    journal_gap.compare(tx, hello)
    if _off_readings(tx, hello.host):
        _life(tx, hello.host, hello.boot_id, f"{tx.name(hello.host)}'s agent opened a new stream")


def _remember_host(tx: Transaction, event: ev.AgentConnected) -> None:
    hello = event.hello
    known = tx.record.hosts.get(hello.host)
    address = hello.address or (known.address if known else "")
    data: dict[str, Any] = {
        "host": hello.host,
        "name": hello.name or hello.host,
        "address": address,
        "boot_id": hello.boot_id,
        "system_uuid": hello.machine.system_uuid,
    }
    if known is None:
        tx.note(Kind.HOST_SEEN, f"{data['name']} ({address}) is a host of this pool", **data)
    elif known.boot_id != hello.boot_id and known.boot_id:
        tx.note(Kind.HOST_BOOTED, f"{data['name']} has booted anew", **data)
    elif (known.name, known.address, known.boot_id) != (data["name"], address, hello.boot_id):
        tx.note(Kind.HOST_SEEN, f"{data['name']} is now at {address}", **data)


def _reported(tx: Transaction, event: ev.AgentReported) -> None:
    agent = tx.agent(event.host)
    if agent is None or agent.stream != event.stream:
        unlisted_hosts.reported(tx, event)
        _let_in(tx)
        return
    hello = agent.hello
    if (told := event.facts.machine) is not None:
        # What a machine is stands in its Hello; only what its BMC tells it comes later.
        machine = replace(hello.machine, bmc_address=told.bmc_address, bmc_guid=told.bmc_guid)
        hello = hello if machine == hello.machine else replace(hello, machine=machine)
    heard = changed(
        agent, hello=hello, facts=event.facts, reported=True, last_heard=_arrived(tx, event), connected=True
    )
    agent_streams.put(tx, heard)
    fenced_hosts.alive(tx, event.host, tx.now, "its agent reports")
    _suspicious_life(tx, event.host)
    for probe in event.facts.probes:
        _standing(tx, event.host, probe)
        _certificate(tx, probe)
        if _may_tell_life(tx, probe.target) and not foreign(tx, event.host, probe):
            _probe_life(tx, probe, f"{tx.name(event.host)}'s probe")
    _ha(tx, event)
    announcements.note_upgrade(tx, event.host)
    journal_gap.forgotten(tx, event.host)
    _pool_view(tx, event)
    _let_in(tx)
    address = event.facts.address
    known = tx.record.hosts.get(event.host)
    if known is not None and address and address != known.address:
        data = {"host": event.host, "name": known.name, "address": address, "boot_id": known.boot_id}
        tx.note(Kind.HOST_SEEN, f"{known.name} is now at {address}", **data, system_uuid=known.system_uuid)


def _arrived(pool: Snapshot, event: ev.AgentConnected | ev.AgentReported) -> Ms:
    """When this message arrived: it says nothing of the time since, however late it is read; nor was its host silent
    before, while others of its pool waited to be read or to be let in.
    """
    return pool.asof if event.at is None else min(event.at, pool.now)


def _let_in(tx: Transaction) -> None:
    """Take in who has been a stranger so far, with what it has said meanwhile."""
    if not tx.live.strangers:
        return
    for state in unlisted_hosts.let_in(tx):
        _take_in(tx, ev.AgentConnected(state.stream, state.hello))
        agent_streams.put(tx, replace(state, connected_at=tx.now))


def _standing(tx: Transaction, host: HostId, probe: Probe) -> None:
    """Who reaches the master's xapi while the master's own agent is heard may witness it, by that certificate."""
    master = tx.heard(tx.record.master)
    if master is None or probe.target != tx.record.master or host == tx.record.master or not answered(probe):
        return
    down = master.facts.xapi.liveness is Liveness.DOWN  # then it is not that xapi which has answered
    if down or probe.probed_at < max(tx.live.mastership.since, tx.site.started_at):
        return
    had = tx.record.standing.get(host)
    if had is None:
        text = f"{tx.name(host)} reaches the xapi of {tx.name(probe.target)}: it may witness from now on"
    elif probe.certificate and probe.certificate != had:
        target = tx.name(probe.target)
        text = f"{tx.name(host)} sees a new certificate of {target}, whose agent is heard: it is the one now"
    else:
        return
    tx.note(Kind.STANDING, text, host=host, certificate=probe.certificate)


def _certificate(tx: Transaction, probe: Probe) -> None:
    """What a host's xapi shows over TLS while its own agent is heard."""
    shown = probe.certificate
    if not answered(probe) or not shown or tx.live.certificates.get(probe.target) == shown:
        return
    if tx.heard(probe.target) is not None:
        tx.change(PoolLive, certificates={**tx.live.certificates, probe.target: shown})


def _ha(tx: Transaction, event: ev.AgentReported) -> None:
    """HA that was seen armed stays so, over restarts, until that host or the serving master's view says otherwise."""
    armed, said = set(tx.record.ha_armed), event.facts.database.ha_armed
    if said is Tri.YES:
        armed.add(event.host)
    elif said is Tri.NO:
        armed.discard(event.host)
    view = event.facts.pool_view
    if view is not None and event.facts.role.serves_as_master and event.facts.observed.pool_view is not None:
        if view.ha_enabled is Tri.YES:
            armed.add(event.host)
        elif view.ha_enabled is Tri.NO and said is Tri.NO:
            armed = set()
    if armed != tx.record.ha_armed:
        names = ", ".join(sorted(tx.name(host) for host in armed))
        text = f"xapi's HA is armed, as seen on {names}" if armed else "xapi's HA is armed nowhere any more"
        tx.note(Kind.HA_SEEN, text, hosts=sorted(armed))


def _end_alerts_of(tx: Transaction, host: HostId) -> None:
    """Nothing that is told of a host outlives its membership, but what was lost with it."""
    for topic in tx.open_topics:
        if topic.concerns(host) and topic.matter not in (Matter.LOST, Matter.NOT_STARTED):
            tx.resolve_alert(topic, f"{tx.name(host)} is no host of this pool any more", final=True)


def _hosts_left(tx: Transaction, listed: set[HostId]) -> None:
    """A host that the serving master does not list for a minute was ejected from the pool, or never was of it."""
    missing = frozenset(h for h in tx.record.hosts if h not in listed)
    if not missing:
        tx.change(PoolLive, left=None)
    elif tx.live.left is None or tx.live.left[0] != missing:
        tx.change(PoolLive, left=(missing, tx.now))
    elif tx.now - tx.live.left[1] >= LEFT_AFTER_MS and tx.failover is None:
        for host in sorted(missing, key=tx.name):
            tx.note(
                Kind.HOST_LEFT,
                f"{tx.name(host)} is no longer a host of this pool: the master does not list it",
                host=host,
            )
            _end_alerts_of(tx, host)
        tx.change(PoolLive, left=None)
        agent_streams.forget(tx, missing)


def _pool_view(tx: Transaction, event: ev.AgentReported) -> None:
    seen = event.facts.pool_view
    if seen is None or not event.facts.role.serves_as_master or seen.master != event.host:
        return
    # safety: of this pool speaks its own master alone; another one's list of these hosts changes nothing.
    if tx.record.master not in ("", event.host) or seen.pool not in ("", tx.record.pool):
        return
    if event.facts.observed.pool_view is not None and seen.hosts:
        _hosts_left(tx, {item.host for item in seen.hosts})
    if seen.name and seen.name != tx.record.name:
        tx.note(Kind.POOL_NAMED, f"this pool's name is {seen.name}", name=seen.name)
    for host in seen.hosts:
        known = tx.record.hosts.get(host.host)
        if known is None or not known.address:
            data = {"host": host.host, "name": host.name, "address": host.address}
            tx.note(Kind.HOST_SEEN, f"{host.name} ({host.address}) is a host of this pool", **data)


def _gone(tx: Transaction, event: ev.AgentGone) -> None:
    agent = tx.agent(event.host)
    if agent is None or agent.stream != event.stream:
        unlisted_hosts.gone(tx, event)
        return
    announcements.goodbye(tx, event)
    agent_streams.put(tx, replace(agent, connected=False, goodbye=event.goodbye or agent.goodbye))


def _order_answered(tx: Transaction, event: ev.OrderAnswered) -> None:
    result = of_this_pool(event.result, event.host)
    if event.host in tx.live.strangers:
        return
    _heard_now(tx, event.host, event.stream)
    journal_gap.refused(tx, event.host, result)
    identity_conflict.own_rules(tx, event.host, result)
    sent = tx.sent(result.order_id)
    if sent is not None and sent.host == event.host:
        sent_orders.answered(tx, sent, result)
    unheard_check.note_roles(tx, event.host, result.roles)
    unheard_at_boot.note(tx, event.host, result.order_id, result.roles)
    if result.claim is not None and sent is not None and result.outcome is Outcome.DONE:
        _claimed(tx, event.host, result.order_id, result.claim)
    for probe in result.probes:
        if not foreign(tx, event.host, probe):
            _probe_life(tx, probe, f"{tx.name(event.host)}'s fresh probe")
    fenced_hosts.told_roles(tx, event.host, result.roles)
    look, failover = tx.live.look.round, tx.failover
    if look is None or result.nonce != look.nonce or event.host in look.answered:
        return
    old = failover.old_master if failover is not None else ""
    # safety: a last look that is answered is a veto, whatever kind of proof is at hand.
    alive = any(answered_by(tx, event.host, probe) and probe.target == old for probe in result.probes)
    seen = f"{tx.name(event.host)}'s fresh probe of {tx.name(old)} was answered" if alive else look.alive
    by_candidate = failover is not None and event.host == failover.candidate
    misses = 0 if by_candidate else tx.live.look.misses
    ours = [probe for probe in result.probes if probe.target == old]
    # A port that is filtered tells nothing; one that refuses does, unless somebody answers at the other one.
    outcomes = {probe.outcome for probe in ours}
    closed = ProbeOutcome.REFUSED in outcomes and not outcomes & {ProbeOutcome.ANSWERED, ProbeOutcome.NOT_XAPI}
    refused = (*look.refused, event.host) if closed else look.refused
    answers = (*look.answered, event.host)
    silent = [probe.probed_at for probe in ours if not answered(probe) and not foreign(tx, event.host, probe)]
    seen_at = max([look.seen_at, *(min(at, tx.now) for at in silent)])
    look = replace(look, answered=answers, alive=seen, refused=refused, seen_at=seen_at)
    last_look.note_answer(tx, event.host, look, result.roles, misses)


def _claimed(tx: Transaction, host: HostId, order_id: str, claim: ClaimOutcome) -> None:
    """An answer to a claim counts only in its own round: an old look and old placements prove nothing now."""
    if claim.last_look is not None and not foreign(tx, host, claim.last_look):
        _probe_life(tx, claim.last_look, f"{tx.name(host)}'s last look")
    if not order_ids.is_attempt(order_id, f"{claim_base(tx)}.{host}"):
        return
    if claim.last_look is not None and answered_by(tx, host, claim.last_look) and not claim.veto:
        claim = replace(claim, veto="the old master's xapi answers it")
    claim_round.note(tx, host, claim)


def _heard_now(tx: Transaction, host: HostId, stream: int) -> None:
    agent = tx.agent(host)
    if agent is not None and agent.stream == stream:
        agent_streams.touch(tx, agent)
        fenced_hosts.alive(tx, host, tx.now, "its agent answers")


def _epoch_acknowledged(tx: Transaction, event: ev.EpochAcknowledged) -> None:
    agent = tx.agent(event.host)
    # safety: another epoch's says nothing of who is obeyed now, nor does a stream that another one has replaced.
    if agent is None or agent.stream != event.stream or event.epoch != tx.site.epoch:
        return
    _heard_now(tx, event.host, event.stream)
    if event.host not in tx.live.acknowledged:
        tx.change(PoolLive, acknowledged=tx.live.acknowledged | {event.host})


def _challenge_answered(tx: Transaction, event: ev.ChallengeAnswered) -> None:
    agent = tx.agent(event.host)
    if agent is not None:
        _heard_now(tx, event.host, agent.stream)
    asked_at = _challenge_time(event.nonce)
    if asked_at is not None and any(reading.ended_at <= asked_at for reading in _off_readings(tx, event.host)):
        _life(tx, event.host, event.boot_id, f"{tx.name(event.host)} answered a challenge made after the reading")


def _challenge_time(nonce: str) -> Ms | None:
    _, _, stamp = nonce.rpartition("@")
    return int(stamp) if len(stamp) <= 18 and stamp.isascii() and stamp.isdigit() else None


def challenge(tx: Transaction, host: HostId) -> None:
    """Ask this host for a sign of life that cannot be older than now; the nonce carries the instant of asking."""
    tx.do(SendChallenge(host, f"{tx.fresh_id('challenge')}@{tx.now}"))


def _power_read(tx: Transaction, event: ev.PowerRead) -> None:
    reading = event.reading
    state = tx.live.power.get(reading.device, PowerState())
    if state.running != event.run_id:
        return
    readings = (*state.readings, reading)[-_READINGS_KEPT:]
    was_off = state.newest is not None and state.newest.power is Power.OFF
    if reading.power is Power.ON and was_off and event.host == suspected(tx):
        backoff.begin_grace(tx)  # somebody has just switched it on: it may be booting
    state = device_health.after(replace(state, readings=readings, running=""), reading)
    state = device_runner.noted(tx, state, reading)
    agent = tx.heard(event.host)
    tell, same = False, 0
    if agent is None or reading.power is Power.OFF:
        failover = tx.failover.id if tx.failover is not None else ""
        state, tell, same = told_readings.told(state, reading, failover, tx.now)
    else:
        state = told_readings.not_told(state)
    device_states.put(tx, reading.device, state)
    device_health.judge_soon(tx)
    device_binding.hold_to_its_word(tx, event.host, reading)
    if tell:
        _tell_reading(tx, event, same)
    fenced_hosts.power_read(tx, event.host)
    if reading.power is Power.OFF:
        _known_life(tx, event.host, reading.ended_at)
    if agent is None:
        return
    known = tx.record.hosts.get(event.host)
    boot = known.boot_id if known else ""
    # safety: a run that began before this boot was heard may have read the machine of another time.
    ours = agent.hello.boot_id == boot and reading.started_at >= agent.connected_at
    ours = ours and not of_last_owner(tx, reading.started_at)
    if reading.power is Power.ON and boot and ours:
        device_binding.bind(tx, event.host, boot, reading)
    elif reading.power is Power.OFF and reading.device not in tx.record.devices.quarantined:
        challenge(tx, event.host)


def _tell_reading(tx: Transaction, event: ev.PowerRead, same: int) -> None:
    """Into the journal; ``same``: how many said so since the last one that it has."""
    reading = event.reading
    said = f" ({reading.text})" if reading.text and reading.power is Power.UNKNOWN else ""
    run_by = device_runner.phrase(tx, reading.through)
    text = f"power of {tx.name(event.host)} reads {reading.power.value.upper()} by {reading.device}{run_by}{said}"
    text += f", as {same} readings before it" if same else ""
    data: dict[str, str | int] = {"host": event.host, "device": reading.device, "power": reading.power.value}
    data |= {"run": event.run_id}
    data |= {"through": reading.through} if reading.through else {}
    data |= {"same": same} if same else {}
    tx.note(Kind.POWER_READING, text, **data, started_ms=reading.started_at, ended_ms=reading.ended_at)


def _known_life(tx: Transaction, host: HostId, ended_at: Ms) -> None:
    """Events may come out of order: life that is already known to be younger than this reading voids it too."""
    own = tx.live.own_probe.newest
    answers = [(own.answered_at, "the collector's own probe")] if own is not None and own.host == host else []
    for other, agent in tx.live.agents.items():
        probe = agent.facts.probe_of(host)
        if probe is not None and not foreign(tx, other, probe):
            answers.append((probe.answered_at, f"{tx.name(other)}'s probe"))
    known = tx.record.hosts.get(host)
    for at, who in answers:
        if at is not None and at > ended_at:
            boot = known.boot_id if known else ""
            _life(tx, host, boot, f"{who} was answered by the xapi of {tx.name(host)}")
            return


def _fence_ended(tx: Transaction, event: ev.FenceEnded) -> None:
    if power_switch.ended(tx, event):
        return
    failover = tx.record.failover  # ended or not: an automatic power-off has its result in the journal
    if failover is None or failover.fencing.pending is None or failover.fencing.pending[1] != event.run_id:
        return
    if not event.certain:
        return  # cut off: the power-off may still land; it stays pending for its limit and 10 s more (power_off.py)
    word = "claims success" if event.claim else "failed" if event.begun else "did not happen"
    text = f"the power-off by {failover.fencing.pending[0]} {word}: {event.text}"
    power_off.run_ended(tx)
    data = {"device": failover.fencing.pending[0], "claim": event.claim, "certain": event.certain, "begun": event.begun}
    tx.write(Entry(Kind.FENCE_RESULT, text, data, failover.id, tx.record.term))
    if event.claim and not failover.open:
        power_off.landed(tx, failover)


def forget_own_probe(tx: Transaction) -> None:
    """The collector probes for itself no more: what it found last must not stand for ever."""
    tx.change(CollectorProbes, newest=None, standing=None)


def _collector_probed(tx: Transaction, event: ev.CollectorProbed) -> None:
    if not tx.policy.collector_probe:
        return  # it was on its way when the policy took that away
    before = (
        tx.live.own_probe.newest
        if tx.live.own_probe.newest is not None and tx.live.own_probe.newest.host == event.host
        else None
    )
    ok = event.outcome is ProbeOutcome.ANSWERED
    fits = own_certificate_fits(tx, event.host, event.certificate)
    answered_at = event.at if ok and fits else (before.answered_at if before else None)
    since = None if ok else (before.unanswered_since if before and before.unanswered_since is not None else event.at)
    tx.change(
        CollectorProbes,
        newest=CollectorProbe(event.host, event.outcome, event.at, answered_at, since, event.certificate),
    )
    if ok and fits and tx.heard(event.host) is not None and event.host == tx.record.master:
        tx.change(CollectorProbes, standing=(event.host, event.certificate))
    if ok and fits:
        _probe_life(tx, Probe(event.host, "", event.outcome, event.at), "the collector's own probe")


def _may_tell_life(pool: Snapshot, host: HostId) -> bool:
    """Is there anything that a sign of life of this host would end? A report of a pool of 64 brings 63 probes."""
    return host in pool.record.confirmed or bool(_off_readings(pool, host))


def _off_readings(pool: Snapshot, host: HostId) -> list[PowerReading]:
    return [
        reading
        for device in pool.devices(host)
        for reading in counting(pool, device.name)
        if reading.power is Power.OFF
    ]


def _suspicious_life(tx: Transaction, host: HostId) -> None:
    """A report after an OFF reading: perhaps old bytes. Ask; a device's word is not thrown away for less."""
    if _off_readings(tx, host):
        challenge(tx, host)


def _probe_life(tx: Transaction, probe: Probe, who: str) -> None:
    # A newer probe may have failed: what counts is when the xapi last answered.
    at = max(probe.probed_at if answered(probe) else -1, probe.answered_at if probe.answered_at is not None else -1)
    fenced_hosts.alive(tx, probe.target, at, f"{who} was answered by its xapi")
    off = [reading for reading in _off_readings(tx, probe.target) if reading.ended_at < at]
    if off:
        known = tx.record.hosts.get(probe.target)
        # safety: a probe tells no boot. Only where nobody can have switched it on since is it the boot that read OFF,
        # and its device reads falsely; the readings are void either way.
        same = any(at - reading.started_at < LEAST_BOOT_MS for reading in off)
        boot = known.boot_id if known is not None and same else ""
        _life(tx, probe.target, boot, f"{who} was answered by the xapi of {tx.name(probe.target)}")


def _life(tx: Transaction, host: HostId, boot_id: str, how: str) -> None:
    """Life of a host that was read OFF: the readings are void; from the same boot, the device is not to be believed."""
    devices = sorted({reading.device for reading in _off_readings(tx, host)})
    known = tx.record.hosts.get(host)
    tx.note(Kind.CONTRARY, f"{how} after power was read OFF", host=host, boot_id=boot_id, devices=devices)
    # safety: voids every reading that began before this instant; a proof needs two new ones after it.
    device_states.void_readings(tx, devices)
    if known is None or boot_id != known.boot_id or _booted_in(tx, host):
        return
    tx.change(PoolLive, contrary=(tx.now, f"{how} after power was read OFF", host))
    device_health.judge_soon(tx)
    for device in devices:
        if device not in tx.record.devices.quarantined:
            why = f"it read OFF, and then {how}"
            text = f"fence device {device} is quarantined: {why}"
            tx.note(Kind.DEVICE_QUARANTINED, text, device=device, host=host, why=why, block=block_of(tx, device, host))


def _booted_in(tx: Transaction, host: HostId) -> bool:
    """Did this very step record a new boot of the host? Then it was really off and came back; nobody lied."""
    return any(entry.kind is Kind.HOST_BOOTED and entry.data.get("host") == host for entry in tx.entries)


def _gate_asked(tx: Transaction, event: ev.GateAsked) -> None:
    """Answered at the end of the step, when everything that follows from this host's return has been judged."""
    agent = tx.agent(event.host)
    if agent is not None and agent.stream == event.stream and agent.hello.boot_id == event.boot_id:
        _heard_now(tx, event.host, event.stream)
        boot_gate.note_asked(tx, event.host, event.boot_id, event.pool_conf)


def _refused(tx: Transaction, event: ev.HostRefused) -> None:
    identity_conflict.refused(tx, event)
    if _off_readings(tx, event.host):
        # safety: whoever makes a TLS handshake with that host's certificate lives; which boot it is was not taken.
        _life(tx, event.host, "", f"{tx.name(event.host)}'s agent opened a stream, whose message was refused")


def _transferred(tx: Transaction, event: ev.DatabaseTransferred) -> None:
    if not restart_in_place.transferred(tx, event.transfer_id, event.placed, event.generation, event.size, event.text):
        transferred(tx, event.transfer_id, event.target, event.placed, event.generation, event.size, event.text)


_HANDLERS: dict[type, Callable[[Transaction, Any], None]] = {
    ev.AgentConnected: _connected,
    ev.AgentReported: _reported,
    ev.AgentGone: _gone,
    ev.OrderAnswered: _order_answered,
    ev.ChallengeAnswered: _challenge_answered,
    ev.EpochAcknowledged: _epoch_acknowledged,
    ev.PowerRead: _power_read,
    ev.FenceEnded: _fence_ended,
    ev.CollectorProbed: _collector_probed,
    ev.DatabaseTransferred: _transferred,
    ev.HostElsewhere: identity_conflict.elsewhere,
    ev.HostRefused: _refused,
    ev.GateAsked: _gate_asked,
}
